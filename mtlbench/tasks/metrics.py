"""Metrics of the tasks, computed by torchmetrics.

The trainer hands them labelled values only. torchmetrics takes seconds to import, so it is
imported when the first metric is made.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import Tensor

from mtlbench.errors import (
    MOST_LETTERS,
    NAMES,
    UserError,
    describe,
    is_name,
    require_printable,
    shortened,
)
from mtlbench.tasks.detection import DETECTION

if TYPE_CHECKING:
    import torchmetrics

    from mtlbench.tasks.task import Task

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
        UserError: a name, label or unit that cannot be printed, another direction, a scale that is
            not above 0, or what makes nothing.
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
        if self.name == DETECTION:
            raise UserError(f"metric name {self.name!r} has a meaning of its own")
        if not 0 < self.scale < math.inf:
            raise UserError(f"metric {self.name!r}: scale must be above 0, but is {self.scale}")
        if not callable(self.make):
            raise UserError(
                f"metric {self.name!r}: make= gives a new metric of torchmetrics each time it is "
                f"called; it is {type(self.make).__name__}"
            )
        if self.direction not in get_args(Direction):
            raise UserError(
                f"metric {self.name!r}: direction is 'max' or 'min', not {self.direction!r}"
            )


NEED_PROBABILITIES = (
    "AUROC", "AveragePrecision", "CalibrationError", "HingeLoss", "PrecisionRecallCurve", "ROC",
)  # fmt: skip
"""Ends of the names of torchmetrics' classes that predictions give a wrong number."""


OF_CLASSES = "torchmetrics.classification"
"""Where torchmetrics has the metrics of classes."""


def new_meter(metric: Metric, task: "Task") -> "torchmetrics.Metric":
    """What a metric makes, for a task that it is one for.

    Raises:
        UserError: it makes nothing that can be used, or would give a wrong number there.
    """
    try:
        meter = metric.make()
    except Exception as error:
        raise UserError(f"metric {metric.name!r} cannot be made: {describe(error)}") from error
    if not isinstance(meter, load_torchmetrics().Metric):
        raise UserError(
            f"make= of metric {metric.name!r} gives {_a(meter)}, and no torchmetrics.Metric"
        )
    if meter.update_called:
        raise UserError(
            f"make= of metric {metric.name!r} gives the same object each time, which has seen "
            "other data: it must make a new one"
        )
    if wrong := _misfit(metric, meter, task):
        raise UserError(f"metric {metric.name!r} of task {task.name!r} {wrong}")
    return meter


def _misfit(metric: Metric, meter: "torchmetrics.Metric", task: "Task") -> str:
    """Why a meter gives a wrong number for a task, or ""."""
    kinds = [kind for kind in type(meter).__mro__ if kind.__module__.startswith("torchmetrics")]
    made_of, known = type(meter).__name__, len(task.classes)
    counted = getattr(meter, "num_classes", None)
    of_classes = any(kind.__module__.startswith(OF_CLASSES) for kind in kinds)
    if task.kind == "regression":
        if of_classes or metric.of_probabilities:
            return f"is one of classes ({made_of}), and the task has numbers"
        return ""
    if not metric.of_probabilities and any(k.__name__.endswith(NEED_PROBABILITIES) for k in kinds):
        return f"is of {made_of}, which needs probabilities and not classes: Metric(…, " + (
            "of_probabilities=True)"
        )
    if not of_classes or not known:
        return ""
    if known != 2 and any(kind.__name__.startswith("Binary") for kind in kinds):
        return f"is of two classes ({made_of}), and the task has {known}"
    if isinstance(counted, int) and counted != known:
        return f"is of {counted} classes, and the task has {known}"
    if task.ignore is not None and any(k.__name__.startswith("Multilabel") for k in kinds):
        return f"({made_of}) takes whole labels, of which those that are ignored would be left out"
    return ""


def update(
    meters: Mapping[str, "torchmetrics.Metric"],
    task: "Task",
    output: Tensor,
    target: Tensor,
    present: Tensor | None = None,
) -> None:
    """Shows outputs of the network [B, …] and labels [B, …], those that are there, to the meters of
    a task by the names of its metrics.

    Args:
        present: which labels are there, bool [B]; all where None.

    Raises:
        UserError: a meter takes none such.
    """
    output = output.float()
    if task.kind == "classification":
        target = target.long()  # suites may store them in 8 bits
    if present is not None:
        output, target = output[present], target[present]
    where = ... if task.ignore is None else task.labelled(target)
    target = target[where]
    if not len(target):
        return
    seen = {
        kind: (task.probabilities if kind else task.predict)(output)[where]
        for kind in {metric.of_probabilities for metric in task.metrics}
    }
    for metric in task.metrics:
        predicted = seen[metric.of_probabilities]
        try:
            meters[metric.name].update(predicted, target)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"metric {metric.name!r} of task {task.name!r} fails on predictions "
                f"{list(predicted.shape)} and labels {list(target.shape)}: {describe(error)}"
            ) from error


def value_of(metric: Metric, meter: "torchmetrics.Metric") -> float:
    """The value of a metric over all that its meter has seen, in its unit.

    Raises:
        UserError: it is not one number.
    """
    value = meter.compute()
    try:
        return float(value) * metric.scale
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"metric {metric.name!r} gives {_a(value)}, and not one number") from None


def _a(value: Any) -> str:
    shape = f" of shape {list(value.shape)}" if isinstance(value, Tensor) else ""
    return f"a {type(value).__name__}{shape}"


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
