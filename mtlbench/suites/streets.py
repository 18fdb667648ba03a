"""Street scenes drawn from a seed."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtlbench.corruption import Variant
from mtlbench.metrics import absolute_error, mean_iou, pixel_accuracy, relative_error
from mtlbench.models.unet import SmallUNet
from mtlbench.registry import register_suite
from mtlbench.suites.base import Data, Split, Suite, Targets
from mtlbench.suites.scenes import CLASSES, PALETTE, draw_scenes
from mtlbench.tasks import Task, cross_entropy, squared_l2

IGNORED_CLASS = -1
NO_DEPTH = 0.0
"""Inverse depth of the sky, which is not measured, as in CityScapes."""

DEPTH_SCALE = 0.1
"""Mean inverse depth (1/m), which the network predicts in units of."""


@register_suite("streets", label="Streets")
@dataclass(frozen=True, kw_only=True)
class Streets(Suite):
    """Generated street scenes: semantic segmentation and inverse depth, after CityScapes.

    Tasks: `segmentation` (CityScapes' 7 categories, mean cross entropy over the pixels) and
    `depth` (inverse depth in 1/m up to 0.2; mean squared error, in units of 0.1 1/m, over the
    pixels that have one, which the sky has not).

    The paper gives no loss for depth but Eq. 2, a squared error, which is taken here.

    Attributes:
        train_size, validation_size, test_size: scenes to draw for each split.
        height, width: of an image (px), each divisible by 16.
        channels: of the network, for a patch of 4×4 pixels.
    """

    epochs: int = 50
    batch_size: int = 32
    lr: float = 4e-3
    train_size: int = 480
    validation_size: int = 100
    test_size: int = 200
    height: int = 32
    width: int = 64
    channels: int = 32

    default_variants: ClassVar[tuple[str, ...]] = ("clean", "depth@0.4", "segmentation@0.4")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("train_size", "validation_size", "test_size", "channels")
        for name in ("height", "width"):
            if getattr(self, name) < 16 or getattr(self, name) % 16:
                raise ValueError(f"{name} must be a multiple of 16, but is {getattr(self, name)}")

    def tasks(self) -> tuple[Task, ...]:
        segmentation = Task(
            "segmentation",
            "classification",
            loss=cross_entropy(IGNORED_CLASS),
            metrics=(mean_iou(len(CLASSES)), pixel_accuracy(len(CLASSES))),
            corruptions=("permute", "shuffle"),
            classes=CLASSES,
            palette=PALETTE,
            ignore=IGNORED_CLASS,
        )
        depth = Task(
            "depth",
            "regression",
            loss=squared_l2(NO_DEPTH),
            metrics=(absolute_error("1/m"), relative_error()),
            corruptions=("uniform", "offset", "shuffle"),
            unit="1/m",
            ignore=NO_DEPTH,
            scale=DEPTH_SCALE,
        )
        return segmentation, depth

    def data(self) -> Data:
        def split(first: int, count: int) -> Split:
            scenes = draw_scenes(count, self.height, self.width, seed=0, first=first)
            return Split(
                torch.from_numpy(scenes.images),
                {
                    "segmentation": torch.from_numpy(scenes.segmentation).long(),
                    "depth": torch.from_numpy(scenes.inverse_depth),
                },
            )

        # Far apart, so that a larger split never reaches into the next.
        return Data(
            split(0, self.train_size),
            split(1_000_000, self.validation_size),
            split(2_000_000, self.test_size),
        )

    def model(self) -> nn.Module:
        return SmallUNet({"segmentation": len(CLASSES), "depth": 1}, width=self.channels)

    def augment(
        self, inputs: Tensor, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, Targets]:
        """Each scene is mirrored with probability one half."""
        mirrored = (torch.rand(len(inputs), generator=generator) < 0.5).to(inputs.device)

        def mirror(images: Tensor) -> Tensor:
            where = mirrored.view(-1, *[1] * (images.ndim - 1))
            return torch.where(where, images.flip(-1), images)

        return mirror(inputs), {name: mirror(target) for name, target in targets.items()}

    def strategy_parameters(self, variant: Variant) -> dict[str, Any]:
        """ILT's learning rate, by the mean relative gain over equal weights on validation data: the
        best of 0.5, 1, 2 and 8 on clean labels, and of 8 and 16 on corrupted ones."""
        return {"ilt.lr": 8.0 if variant.clauses else 1.0}
