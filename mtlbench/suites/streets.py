"""Street scenes drawn from a seed."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mtlbench.data.splits import Data, Split, drawn_data
from mtlbench.models.unet import SmallUNet
from mtlbench.suites.base import register_suite
from mtlbench.suites.scenes import CLASSES, draw_scenes
from mtlbench.suites.scenes.suite import StreetSuite


@register_suite("streets", label="Streets")
@dataclass(frozen=True, kw_only=True)
class Streets(StreetSuite):
    """Generated street scenes: semantic segmentation and inverse depth (1/m, up to 0.2), after
    CityScapes.

    Attributes:
        train_size, validation_size, test_size: scenes to draw for each split.
        height, width: of an image (px), each divisible by 16.
        channels: of the network, for a patch of 4×4 pixels.
    """

    searchable: ClassVar[tuple[str, ...]] = (*StreetSuite.searchable, "channels")
    graphed: ClassVar[bool] = True
    gpu_share: ClassVar[float] = 1 / 8

    epochs: int = 50
    batch_size: int = 32
    lr: float = 4e-3
    train_size: int = 480
    validation_size: int = 100
    test_size: int = 200
    height: int = 32
    width: int = 64
    channels: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("train_size", "validation_size", "test_size", "channels")
        for name in ("height", "width"):
            if getattr(self, name) < 16 or getattr(self, name) % 16:
                raise ValueError(f"{name} must be a multiple of 16, but is {getattr(self, name)}")

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

        return drawn_data(split, self.train_size, self.validation_size, self.test_size)

    def model(self) -> nn.Module:
        return SmallUNet({"segmentation": len(CLASSES), "depth": 1}, width=self.channels)
