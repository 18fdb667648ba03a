"""People drawn from a seed."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from mtlbench.data.splits import Data, Split, drawn_data
from mtlbench.models.body import make_body
from mtlbench.models.smpl import SMPL, BodyModel
from mtlbench.models.unet import MultiTaskUNet
from mtlbench.suites.base import register_suite
from mtlbench.suites.people import draw_people
from mtlbench.suites.people.suite import PeopleSuite


@register_suite("bodies", label="Bodies")
@dataclass(frozen=True, kw_only=True)
class Bodies(PeopleSuite):
    """Generated people: body parts, pose, shape and surface, after SURREAL.

    Attributes:
        train_size, validation_size, test_size: people to draw for each split.
        size: height and width of an image (px), divisible by 12.
        channels: of the network, for a patch of 3×3 pixels.
        branch_lr: learning rate of the fully connected layers. At the convolutions' rate their
            steps are too large and the surface is 15 mm worse.
    """

    searchable: ClassVar[tuple[str, ...]] = (*PeopleSuite.searchable, "branch_lr", "channels")
    graphed: ClassVar[bool] = True
    gpu_share: ClassVar[float] = 1 / 4

    epochs: int = 12
    batch_size: int = 32
    lr: float = 4e-3
    train_size: int = 2000
    validation_size: int = 100
    test_size: int = 400
    size: int = 48
    channels: int = 16
    branch_lr: float = 8e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("train_size", "validation_size", "test_size", "channels")
        if self.size < 36 or self.size % 12:
            raise ValueError(f"size must be a multiple of 12 from 36 on, but is {self.size}")
        if self.branch_lr <= 0:
            raise ValueError(f"branch_lr must be above 0, but is {self.branch_lr}")

    def body(self) -> BodyModel:
        return make_body()

    def data(self) -> Data:
        def split(first: int, count: int) -> Split:
            people = draw_people(count, self.size, seed=0, first=first)
            return Split(
                torch.from_numpy(people.images),
                {
                    "segmentation": torch.from_numpy(people.parts).long(),
                    "pose": torch.from_numpy(people.pose),
                    "shape": torch.from_numpy(people.shape),
                },
            )

        return drawn_data(split, self.train_size, self.validation_size, self.test_size)

    def model(self) -> nn.Module:
        return MultiTaskUNet(
            SMPL(self.body()), patch=3, width=self.channels, depth=2, convolutions=1
        )

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        rest: list[nn.Parameter] = []
        branches: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            (branches if name.startswith(("shape.", "pose.")) else rest).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": rest},
            {"params": branches, "lr": self.branch_lr},
        ]
        return torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.weight_decay, fused=True)
