"""A task, and the per-instance losses that tasks are made of."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from mtlbench.errors import MOST_LETTERS, UserError, require_printable, shortened
from mtlbench.tasks.metrics import Metric

Loss = Callable[[Tensor, Tensor], Tensor]

Kind = Literal["classification", "regression"]

RESERVED = ("/", "\\", "@", "+", ",", ":")
"""What has a meaning in the name of a variant or of a file."""


@dataclass(frozen=True)
class Task:
    """One thing to predict from an input.

    Attributes:
        name: key in losses, variants and tables.
        kind: `classification` (integer labels) or `regression`.
        loss: network output [B, …] and scaled labels [B, …] to per-instance losses [B].
        metrics: what is measured on validation and test data, the most telling first.
        corruptions: kinds of label corruption that make sense, the default first; none where the
            labels follow from those of other tasks.
        classes: class names of a classification task.
        palette: RGB colour of each class, 0 to 255, for figures of label maps.
        unit: unit of a regression label, or "".
        ignore: label value that stands for "not labelled" inside a label map.
        noise: range of the noise that corruptions add; that of the training labels where None.
        binary: whether outputs are the logits of class 1 against class 0, in the shape of the
            labels: one for each label of 0 or 1.
        log: whether the network predicts, and the loss compares, the logarithm of a regression
            label.
        center, scale: of regression labels: the network predicts, and the loss compares,
            (label − center) / scale, or (log label − center) / scale.

    Raises:
        UserError: one of these cannot be.
        ValueError: these cannot go together.
    """

    name: str
    kind: Kind
    loss: Loss
    metrics: tuple[Metric, ...]
    corruptions: tuple[str, ...]
    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    unit: str = ""
    ignore: float | None = None
    noise: tuple[float, float] | None = None
    binary: bool = False
    log: bool = False
    center: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        self._require_types()
        if self.binary and (self.kind != "classification" or len(self.classes) != 2):
            raise ValueError(
                f"task {self.name!r}: a binary task is a classification of two classes"
            )
        if self.ignore is not None and (self.log or self.center):
            raise ValueError(f"task {self.name!r}: ignore is a label as given, not a scaled one")
        if self.kind == "classification" and (self.log or self.center or self.scale != 1):
            raise ValueError(
                f"task {self.name!r}: log, center and scale are of numbers, and it has classes"
            )
        named = self.name == self.name.strip() and self.name not in ("", ".", "..")
        if (
            not named
            or set(self.name) & set(RESERVED)
            or self.name[0] == "-"
            or len(self.name) > MOST_LETTERS
        ):
            raise UserError(
                f"a task cannot be called {shortened(repr(self.name))}: names of variants and "
                f"files are made of it, so it has at most {MOST_LETTERS} letters, no - in front, "
                f"and none of {' '.join(RESERVED)}"
            )
        metrics = [metric.name for metric in self.metrics]
        if len(set(metrics)) < len(metrics):
            raise UserError(f"task {self.name!r} has two metrics of one name: {', '.join(metrics)}")

    def _require_types(self) -> None:
        for text in (self.name, self.unit):
            require_printable("a name or unit of a task", text)
        if self.kind not in get_args(Kind):
            raise UserError(
                f"task {self.name!r}: kind is {' or '.join(map(repr, get_args(Kind)))}, not "
                f"{self.kind!r}"
            )
        for name in ("metrics", "corruptions", "classes", "palette"):
            given: Any = getattr(self, name)
            if isinstance(given, str) or not isinstance(given, Iterable):
                raise UserError(f"task {self.name!r}: {name}= is a tuple of them, not {given!r}")
            object.__setattr__(self, name, tuple(given))
        for text in (*self.classes, *self.corruptions):
            require_printable(f"a class or corruption of task {self.name!r}", text)
        if not all(isinstance(metric, Metric) for metric in self.metrics):
            raise UserError(f"task {self.name!r}: metrics= is a tuple of Metric(…)")
        object.__setattr__(self, "palette", tuple(map(tuple, self.palette)))
        if self.palette and len(self.palette) < len(self.classes):
            raise UserError(
                f"task {self.name!r} has {len(self.palette)} colours for {len(self.classes)} "
                "classes"
            )
        numbers = {"center": self.center, "scale": self.scale, "ignore": self.ignore or 0}
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise UserError(f"task {self.name!r}: {name} must be a number, but is {number}")
        if self.scale <= 0:
            raise UserError(f"task {self.name!r}: scale must be above 0, but is {self.scale}")
        if self.noise is not None and not _is_range(self.noise):
            raise UserError(
                f"task {self.name!r}: noise is a range of two numbers, the lower first, not "
                f"{self.noise!r}"
            )

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Network output [B, …] and labels [B, …] to per-instance losses [B]."""
        if self.log:
            target = target.log()
        if self.center:
            target = target - self.center
        return self.loss(output, target if self.scale == 1 else target / self.scale)

    def require_fit(self, output: Tensor, target: Tensor) -> None:
        """Makes sure that an output of the network is one for such a label.

        Args:
            output: of the network [B, …].
            target: labels [B, …].

        Raises:
            UserError: it is not.
        """
        classifies, one_logit = self.kind == "classification", output.ndim == target.ndim + 1
        if not output.ndim or len(output) != len(target):
            wrong = ":"
        elif classifies and self.binary and output.shape != target.shape:
            wrong = " is binary, with a logit for each label, but"
        elif classifies and not self.binary and one_logit and output.shape[1] == 1:
            wrong = (
                ": one logit is always class 0; a binary task has binary=True and logits of the "
                "shape of its labels, but"
            )
        elif (
            classifies
            and not self.binary
            and (not one_logit or output.shape[2:] != target.shape[1:])
        ):
            wrong = ": logits of each class are [B, C] for labels [B], but"
        elif classifies and not self.binary and len(self.classes) not in (0, output.shape[1]):
            wrong = f" has {len(self.classes)} classes, but"
        elif (
            not classifies
            and output.shape != target.shape
            and _squeezed(output) == _squeezed(target)
        ):  # one would be held against all others
            wrong = ": numbers have the shape of their labels (squeeze them), but"
        else:
            return
        raise UserError(
            f"task {self.name!r}{wrong} the network gives {list(output.shape)} for labels "
            f"{list(target.shape)}"
        )

    def predict(self, output: Tensor) -> Tensor:
        """Network output to prediction: the likeliest class, or the value in the label's unit."""
        if self.kind == "classification":
            return (output > 0).long() if self.binary else output.argmax(1)
        value = output * self.scale
        if self.center:
            value = value + self.center
        return value.exp() if self.log else value

    def logits(self, output: Tensor) -> Tensor:
        """Output of a classification to the logits of its classes [B, C, …]."""
        return torch.stack((torch.zeros_like(output), output), 1) if self.binary else output

    def probabilities(self, output: Tensor) -> Tensor:
        """Output of a classification to the probabilities of its classes [B, C, …]; of class 1
        alone [B, …] where there are two classes."""
        output = output.float()
        if self.binary:
            return output.sigmoid()
        probabilities = output.softmax(1)
        return probabilities[:, 1] if output.shape[1] == 2 else probabilities

    def labelled(self, target: Tensor) -> Tensor:
        """A mask of the labelled values of a label, as a boolean tensor of its shape."""
        if self.ignore is None:
            return torch.ones_like(target, dtype=torch.bool)
        return target != self.ignore

    def any_labelled(self, target: Tensor, present: Tensor | None = None) -> Tensor:
        """A mask of the instances with a label, and any labelled value in it, bool [B].

        Args:
            target: labels [B, …].
            present: which labels are there, bool [B]; all where None.
        """
        labelled = self.labelled(target)
        some = labelled if labelled.ndim == 1 else labelled.flatten(1).any(1)
        return some if present is None else some & present


def cross_entropy(ignore: int = -1) -> Loss:
    """Cross entropy [B] of logits [B, C, …], averaged over an instance's labelled pixels."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        each = functional.cross_entropy(
            output.float(), target.long(), ignore_index=ignore, reduction="none"
        )
        return _mean_where(each, target != ignore)

    return loss


def binary_cross_entropy(positive_weight: float | None = None, ignore: float | None = None) -> Loss:
    """Binary cross entropy [B] of logits [B, …], averaged over an instance's labels.

    Args:
        positive_weight: of the labels that are 1, where they are rare; 1 where None.
        ignore: label that stands for none.
    """

    def loss(output: Tensor, target: Tensor) -> Tensor:
        weight = None if positive_weight is None else output.new_tensor(positive_weight).float()
        each = functional.binary_cross_entropy_with_logits(
            output.float(), target.float(), pos_weight=weight, reduction="none"
        )
        return _mean_where(each, None if ignore is None else target != ignore)

    return loss


def l1(ignore: float | None = None) -> Loss:
    """Absolute error [B], averaged over an instance's labelled values."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        each = _difference(output, target).abs()
        return _mean_where(each, None if ignore is None else target != ignore)

    return loss


def squared_l2(ignore: float | None = None, *, unit: float = 1.0) -> Loss:
    """Squared error [B] in units of `unit`, averaged over an instance's labelled values."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        each = (_difference(output, target) / unit).square()
        return _mean_where(each, None if ignore is None else target != ignore)

    return loss


def _difference(output: Tensor, target: Tensor) -> Tensor:
    if output.shape != target.shape:  # it would be broadcast
        raise UserError(
            f"numbers and their labels have one shape, but are {list(output.shape)} and "
            f"{list(target.shape)}"
        )
    return output.float() - target


def _squeezed(values: Tensor) -> list[int]:
    """The shape of an instance without the axes of length 1."""
    return [length for length in values.shape[1:] if length != 1]


def _is_range(given: Any) -> bool:
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        return False
    return -math.inf < low < high < math.inf


def _mean_where(values: Tensor, where: Tensor | None) -> Tensor:
    """Means [B] of values [B, …] over the places where a mask holds; 0 where it never does."""
    if values.ndim == 1:
        return values if where is None else torch.where(where, values, 0)
    values = values.flatten(1)
    if where is None:
        return values.mean(1)
    where = where.flatten(1)
    return torch.where(where, values, 0).sum(1) / where.sum(1).clamp(min=1)
