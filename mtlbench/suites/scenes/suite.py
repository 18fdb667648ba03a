"""Base of suites of street scenes: CityScapes' two tasks of the paper."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.data.splits import Targets
from mtlbench.data.variants import CLEAN
from mtlbench.suites.augmentation import choose, draw_half
from mtlbench.suites.base import Suite
from mtlbench.suites.scenes import CLASSES, PALETTE
from mtlbench.tasks.metrics import absolute_error, mean_iou, pixel_accuracy, relative_error
from mtlbench.tasks.task import Task, cross_entropy, squared_l2

IGNORED_CLASS = -1
NO_DEPTH = 0.0
"""Inverse depth where none was measured, as in the sky."""

DEPTH_SCALE = 0.1
"""Inverse depth that the network predicts in units of: about the mean of generated scenes."""


@dataclass(frozen=True, kw_only=True)
class StreetSuite(Suite):
    """Street scenes, after CityScapes as the paper uses it.

    Tasks: `segmentation` (CityScapes' 7 categories, mean cross entropy over the pixels) and
    `depth` (inverse depth; mean squared error, in units of 0.1, over the pixels that have one,
    which the sky has not).

    The paper gives no loss for depth but Eq. 2, a squared error, which is taken here.
    """

    depth_unit: ClassVar[str] = "1/m"
    depth_noise: ClassVar[tuple[float, float] | None] = None
    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "depth@0.4", "segmentation@0.4")

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
            metrics=(absolute_error(self.depth_unit), relative_error()),
            corruptions=("uniform", "offset", "shuffle"),
            unit=self.depth_unit,
            noise=self.depth_noise,
            ignore=NO_DEPTH,
            scale=DEPTH_SCALE,
        )
        return segmentation, depth

    def augment(
        self, inputs: Tensor, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, Targets]:
        """Each scene is mirrored with probability one half."""
        mirrored = draw_half(len(inputs), generator, inputs.device)

        def mirror(images: Tensor) -> Tensor:
            return choose(mirrored, images.flip(-1), images)

        return mirror(inputs), {name: mirror(target) for name, target in targets.items()}
