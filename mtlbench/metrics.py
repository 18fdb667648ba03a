"""Metrics of the tasks, computed by torchmetrics.

The trainer hands them labelled values only. torchmetrics takes seconds to import, so it is
imported when the first metric is made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torchmetrics

Direction = Literal["max", "min"]


@dataclass(frozen=True)
class Metric:
    """A number that says how good the predictions of a task are.

    Attributes:
        name: key in tables and files, such as `miou`.
        label: how printed tables call it, such as `mIoU`.
        unit: its unit, or "".
        direction: whether a larger (`max`) or a smaller (`min`) value is better.
        make: a new torchmetrics object whose `update` takes predictions and targets.
        scale: factor from what torchmetrics computes to the unit.
    """

    name: str
    label: str
    unit: str
    direction: Direction
    make: Callable[[], "torchmetrics.Metric"]
    scale: float = 1.0


def accuracy(classes: int) -> Metric:
    """Share of instances whose class is right (%)."""

    def make() -> "torchmetrics.Metric":
        from torchmetrics.classification import MulticlassAccuracy

        return MulticlassAccuracy(classes, average="micro", validate_args=False)

    return Metric("accuracy", "Acc.", "%", "max", make, 100.0)


def pixel_accuracy(classes: int) -> Metric:
    """Share of labelled pixels whose class is right (%)."""

    def make() -> "torchmetrics.Metric":
        from torchmetrics.classification import MulticlassAccuracy

        return MulticlassAccuracy(classes, average="micro", validate_args=False)

    return Metric("pixel_accuracy", "Pix. Acc.", "%", "max", make, 100.0)


def mean_iou(classes: int) -> Metric:
    """Intersection over union of each class over all labelled pixels, averaged (%)."""

    def make() -> "torchmetrics.Metric":
        from torchmetrics.classification import MulticlassJaccardIndex

        return MulticlassJaccardIndex(classes, validate_args=False)

    return Metric("miou", "mIoU", "%", "max", make, 100.0)


def absolute_error(unit: str) -> Metric:
    """Mean absolute error over all labelled values, in the unit of the label."""

    def make() -> "torchmetrics.Metric":
        from torchmetrics import MeanAbsoluteError

        return MeanAbsoluteError()

    return Metric("abs_err", "Abs. Err.", unit, "min", make)


def relative_error() -> Metric:
    """Mean of |prediction − label| / |label| over all labelled values (%)."""

    def make() -> "torchmetrics.Metric":
        from torchmetrics import MeanAbsolutePercentageError

        return MeanAbsolutePercentageError()

    return Metric("rel_err", "Rel. Err.", "%", "min", make, 100.0)
