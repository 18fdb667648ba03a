"""Metrics of the tasks, computed by torchmetrics.

The trainer hands them labelled values only. torchmetrics takes seconds to import, so it is
imported when the first metric is made.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import Tensor

from mtlbench.errors import (
    MOST_LETTERS,
    NAMES,
    UserError,
    is_name,
    require_printable,
    shortened,
)

if TYPE_CHECKING:
    import torchmetrics

Direction = Literal["max", "min"]


def load_torchmetrics() -> Any:
    """torchmetrics, imported without SciPy's signal processing and statistics.

    It loads `scipy.signal`, which takes as long as all the rest, only to see whether that has a
    name which old packages for audio look for there.
    """
    if not {"torchmetrics", "scipy.signal"} & sys.modules.keys():
        stand_in = ModuleType("scipy.signal")
        stand_in.hamming = None  # type: ignore[attr-defined]
        sys.modules["scipy.signal"] = stand_in
        try:
            return import_module("torchmetrics")
        finally:
            del sys.modules["scipy.signal"]
    return import_module("torchmetrics")


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
        of_probabilities: whether `update` takes the probabilities of classes, as
            `Task.probabilities` has them, in place of predictions.

    Raises:
        UserError: a name, label or unit that cannot be printed, or another direction.
    """

    name: str
    label: str
    unit: str
    direction: Direction
    make: Callable[[], "torchmetrics.Metric"]
    scale: float = 1.0
    of_probabilities: bool = False

    def __post_init__(self) -> None:
        for text in (self.name, self.label, self.unit):
            require_printable("a name, label or unit of a metric", text)
        if not is_name(self.name.replace(".", "")):  # as in `within_11.25`
            raise UserError(
                f"a metric cannot be called {shortened(repr(self.name))}: it is {NAMES}, and full "
                f"stops, at most {MOST_LETTERS} of them"
            )
        if self.direction not in get_args(Direction):
            raise UserError(
                f"metric {self.name!r}: direction is 'max' or 'min', not {self.direction!r}"
            )


NEED_PROBABILITIES = (
    "AUROC", "AveragePrecision", "CalibrationError", "HingeLoss", "PrecisionRecallCurve", "ROC",
)  # fmt: skip
"""Ends of the names of torchmetrics' classes that predictions give a wrong number."""


def require_probabilities(metric: Metric, meter: "torchmetrics.Metric") -> None:
    """Makes sure that what ranks scores gets them.

    Raises:
        UserError: it would get predicted classes.
    """
    names = (kind.__name__ for kind in type(meter).__mro__)
    if not metric.of_probabilities and any(name.endswith(NEED_PROBABILITIES) for name in names):
        raise UserError(
            f"metric {metric.name!r} is of {type(meter).__name__}, which needs probabilities and "
            "not classes: Metric(…, of_probabilities=True)"
        )


def accuracy(classes: int) -> Metric:
    """Share of instances whose class is right (%)."""

    def make() -> "torchmetrics.Metric":
        return load_torchmetrics().classification.MulticlassAccuracy(
            classes, average="micro", validate_args=False
        )

    return Metric("accuracy", "Acc.", "%", "max", make, 100.0)


def binary_accuracy() -> Metric:
    """Share of labels of 0 or 1 that are right (%)."""

    def make() -> "torchmetrics.Metric":
        return load_torchmetrics().classification.BinaryAccuracy(validate_args=False)

    return Metric("accuracy", "Acc.", "%", "max", make, 100.0)


def f1() -> Metric:
    """Harmonic mean of precision and recall of class 1 (%), over all labels of 0 or 1.

    Not a number where no label is 1: then there is nothing to find.
    """

    def make() -> "torchmetrics.Metric":
        return _where_known(load_torchmetrics().classification.BinaryF1Score)

    return Metric("f1", "F1", "%", "max", make, 100.0)


def macro_f1(labels: int) -> Metric:
    """The F1 of each of L labels [n, L] of 0 or 1, averaged (%)."""

    def make() -> "torchmetrics.Metric":
        return load_torchmetrics().classification.MultilabelF1Score(
            labels, average="macro", validate_args=False
        )

    return Metric("macro_f1", "Macro F1", "%", "max", make, 100.0)


def auroc() -> Metric:
    """Area under the ROC curve (%): how probably a label of 1 has a larger score than one of 0.

    Not a number where all labels are the same.
    """

    def make() -> "torchmetrics.Metric":
        return _where_known(load_torchmetrics().classification.BinaryAUROC, zeros=True)

    return Metric("auroc", "AUROC", "%", "max", make, 100.0, of_probabilities=True)


def average_precision() -> Metric:
    """Precision at each label of 1 in the order of the scores, averaged (%).

    Not a number where no label is 1.
    """

    def make() -> "torchmetrics.Metric":
        return _where_known(load_torchmetrics().classification.BinaryAveragePrecision)

    return Metric("average_precision", "Avg. Prec.", "%", "max", make, 100.0, of_probabilities=True)


def _where_known(
    kind: Callable[..., "torchmetrics.Metric"], zeros: bool = False
) -> "torchmetrics.Metric":
    """A metric of labels of 0 and 1 that is not a number where none is 1, or with `zeros` none 0:
    torchmetrics has a 0 there, which reads as a bad result."""
    torch = import_module("torch")

    class WhereKnown(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__(validate_args=False)
            self.add_state("counts", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")

        def update(self, prediction: Tensor, target: Tensor) -> None:
            super().update(prediction, target)
            ones = target.sum()
            self.counts: Tensor = self.counts + torch.stack((target.numel() - ones, ones))

        def compute(self) -> Tensor:
            others, ones = self.counts.tolist()
            if not ones or (zeros and not others):
                return torch.full((), torch.nan)
            return super().compute()

    return WhereKnown()


def pixel_accuracy(classes: int) -> Metric:
    """Share of labelled pixels whose class is right (%)."""

    def make() -> "torchmetrics.Metric":
        return load_torchmetrics().classification.MulticlassAccuracy(
            classes, average="micro", validate_args=False
        )

    return Metric("pixel_accuracy", "Pix. Acc.", "%", "max", make, 100.0)


def mean_iou(classes: int) -> Metric:
    """Intersection over union of each class over all labelled pixels, averaged (%)."""

    def make() -> "torchmetrics.Metric":
        return load_torchmetrics().classification.MulticlassJaccardIndex(
            classes, validate_args=False
        )

    return Metric("miou", "mIoU", "%", "max", make, 100.0)


def absolute_error(unit: str) -> Metric:
    """Mean absolute error over all labelled values, in the unit of the label."""

    def make() -> "torchmetrics.Metric":
        return load_torchmetrics().MeanAbsoluteError()

    return Metric("abs_err", "Abs. Err.", unit, "min", make)


def root_mean_square_error(unit: str) -> Metric:
    """Root of the mean squared error over all labelled values, in the unit of the label."""

    def make() -> "torchmetrics.Metric":
        return load_torchmetrics().MeanSquaredError(squared=False)

    return Metric("rmse", "RMSE", unit, "min", make)


def median_error(unit: str) -> Metric:
    """Median absolute error over all labelled values, in the unit of the label."""

    def make() -> "torchmetrics.Metric":
        class MedianError(load_torchmetrics().CatMetric):  # type: ignore[misc]
            def update(self, prediction: Tensor, target: Tensor) -> None:
                super().update((prediction - target).abs().flatten())

            def compute(self) -> Tensor:
                return super().compute().quantile(0.5)

        return MedianError()

    return Metric("median_err", "Median Err.", unit, "min", make)


def r2() -> Metric:
    """Share of the labels' variance that the predictions explain: 1 − Σ(y − ŷ)² / Σ(y − ȳ)².

    Below 0 where they are worse than the mean of the labels.
    """

    def make() -> "torchmetrics.Metric":
        return load_torchmetrics().R2Score()

    return Metric("r2", "R²", "", "max", make)


def relative_error() -> Metric:
    """Mean of |prediction − label| / |label| over all labelled values (%).

    The code of MTAN and of LibMTL prints the ratio itself: 0.3 there is 30 % here.
    """

    def make() -> "torchmetrics.Metric":
        return load_torchmetrics().MeanAbsolutePercentageError()

    return Metric("rel_err", "Rel. Err.", "%", "min", make, 100.0)


def surface_error() -> Metric:
    """Mean distance between the vertices of two bodies (mm), given as [n, V, 3] in metres."""
    return Metric(
        "surface_error", "Surface Err.", "mm", "min", lambda: _mean_distance(lambda v: v), 1000.0
    )


def joint_error(regressor: Callable[[], Tensor]) -> Metric:
    """Mean per-joint position error (mm) of bodies given by their vertices [n, V, 3] in metres,
    their root joints on one place.

    Args:
        regressor: gives the joints as weighted means of the vertices, [J, V], the root first.
    """

    def make() -> "torchmetrics.Metric":
        weights = regressor()

        def joints(vertices: Tensor) -> Tensor:
            joints = weights.to(vertices) @ vertices
            return joints - joints[:, :1]

        return _mean_distance(joints)

    return Metric("mpjpe", "MPJPE", "mm", "min", make, 1000.0)


def _mean_distance(points: Callable[[Tensor], Tensor]) -> "torchmetrics.Metric":
    """Mean distance of the points [n, P, 3] that belong to predictions and to labels."""

    class MeanDistance(load_torchmetrics().MeanMetric):  # type: ignore[misc]
        def update(self, prediction: Tensor, target: Tensor) -> None:
            super().update((points(prediction) - points(target)).norm(dim=-1))

    return MeanDistance()
