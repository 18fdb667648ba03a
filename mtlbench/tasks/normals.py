"""Maps of directions, such as surface normals [B, 3, H, W]: their loss and their metrics.

A pixel without a label is the zero vector. `Task.ignore` could not say so, since it speaks of
single numbers and a direction may well have a component of 0. So a task of directions has no
`ignore`: loss and metrics leave these pixels out by themselves.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mtlbench.tasks.metrics import Metric, load_torchmetrics
from mtlbench.tasks.task import Loss

if TYPE_CHECKING:
    import torchmetrics

BIN = 0.01
"""Width of the bins that angles are counted in (°)."""

BINS = round(180 / BIN)


def has_direction(labels: Tensor) -> Tensor:
    """A mask of the labelled pixels of labels [B, 3, H, W]: bool [B, H, W]."""
    return labels.any(dim=1)


def cosine_distance() -> Loss:
    """1 − cos of the angle between output and label [B], averaged over an instance's labelled
    pixels.

    Both are vectors of length 1 [B, 3, H, W], so that the cosine is their dot product, as in the
    code of MTAN.
    """

    def loss(output: Tensor, target: Tensor) -> Tensor:
        labelled = has_direction(target)
        each = torch.where(labelled, 1 - (output.float() * target).sum(1), 0)
        return each.flatten(1).sum(1) / labelled.flatten(1).sum(1).clamp(min=1)

    return loss


def angles(prediction: Tensor, label: Tensor) -> Tensor:
    """Angles between directions [B, 3, H, W] at the labelled pixels: [n] (°).

    From sine and cosine, whatever the lengths: the arc cosine alone is off by up to 0.03° for
    directions that are the same. A prediction of length 0 is at 90°, as for its cosine.
    """
    labelled = has_direction(label)
    seen, true = (each.movedim(1, -1)[labelled].float() for each in (prediction, label))
    sine, cosine = torch.linalg.cross(seen, true).norm(dim=-1), (seen * true).sum(-1)
    return torch.where(seen.any(dim=-1), torch.atan2(sine, cosine).rad2deg(), 90.0)


def mean_angle() -> Metric:
    """Mean angle between predicted and labelled directions (°) over all labelled pixels."""
    return Metric("mean_angle", "Mean Angle", "°", "min", lambda: _mean(lambda angle: angle))


def median_angle() -> Metric:
    """Median angle between predicted and labelled directions (°) over all labelled pixels.

    Off by up to 0.005°: angles are counted in bins of 0.01° and taken to be in the middle of
    their bin. All of those of NYUv2's test images, 72 million, would take 290 MB.
    """
    return Metric("median_angle", "Median Angle", "°", "min", _median)


def within_angle(limit: float) -> Metric:
    """Share of the labelled pixels whose angle is below a limit in degrees (%)."""
    return Metric(
        f"within_{limit:g}",
        f"Within {limit:g}°",
        "%",
        "max",
        lambda: _mean(lambda angle: angle < limit),
        100.0,
    )


def _mean(of: Callable[[Tensor], Tensor]) -> "torchmetrics.Metric":
    """Mean of a function of all angles; not a number where there is none."""

    class MeanOfAngles(load_torchmetrics().Metric):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

        def update(self, prediction: Tensor, target: Tensor) -> None:
            values = of(angles(prediction, target))
            self.total: Tensor = self.total + values.sum(dtype=torch.float64)
            self.count: Tensor = self.count + values.numel()

        def compute(self) -> Tensor:
            return self.total / self.count

    return MeanOfAngles()


def _median() -> "torchmetrics.Metric":
    """Median of all angles, from a histogram; not a number where there is none."""

    class MedianOfAngles(load_torchmetrics().Metric):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.add_state("counts", torch.zeros(BINS, dtype=torch.long), dist_reduce_fx="sum")

        def update(self, prediction: Tensor, target: Tensor) -> None:
            # What is not a number, in a run that diverges, counts as the largest.
            angle = angles(prediction, target).nan_to_num(180.0)
            bins = (angle / BIN).long().clamp(max=BINS - 1)
            self.counts: Tensor = self.counts + bins.bincount(minlength=BINS)

        def compute(self) -> Tensor:
            upto = self.counts.cumsum(0)
            if not upto[-1]:
                return torch.full((), torch.nan)
            middle = torch.stack(((upto[-1] - 1) // 2, upto[-1] // 2))  # the same where n is odd
            return BIN * (torch.searchsorted(upto, middle, right=True) + 0.5).mean()

    return MedianOfAngles()
