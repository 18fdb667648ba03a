"""Items of a dataset: taken apart into an input and the labels of each task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.tasks.task import Task

Unpack = Callable[[Any], tuple[Any, Any]]
"""An item to its input and its targets."""

TARGET_KEYS = ("target", "targets", "label", "labels", "y")
"""Where an item that is a mapping may have its targets, if not under the names of the tasks."""


def take_apart(item: Any, tasks: Sequence[str], *, keep_names: bool = False) -> tuple[Any, Any]:
    """The input of an item, and its targets as they are.

    An item is (input, targets); (input, target, target, …) with one for each of several tasks; or a
    mapping that has the targets under the names of the tasks, or all of them under one of
    `TARGET_KEYS`, and whose other parts are the input: the part itself where there is one. A tuple
    whose parts have the names of the tasks is such a mapping.

    Args:
        item: as the dataset gives it.
        tasks: names of the K tasks.
        keep_names: whether one other part of a mapping keeps its name.

    Raises:
        UserError: it is none of these.
    """
    item = _named(item, tasks)
    if isinstance(item, Mapping):
        names = [name for name in tasks if name in item]
        key = next((key for key in TARGET_KEYS if key in item), None)
        if names and (len(names) == len(tasks) or key is None):
            targets: Any = {name: item[name] for name in names}
            rest = {key: part for key, part in item.items() if key not in targets}
        elif key is not None:
            targets = item[key]
            rest = {other: part for other, part in item.items() if other != key}
        else:
            rest = {}
        if rest:
            return rest if keep_names or len(rest) > 1 else next(iter(rest.values())), targets
    elif isinstance(item, tuple | list):
        if len(item) == 2:
            return item[0], item[1]
        if len(item) == len(tasks) + 1:
            return item[0], tuple(item[1:])
    raise UserError(
        f"it is {_described(item)}, and not (input, targets) of {_quoted(tasks)}: give unpack=, "
        "which makes that of an item"
    )


def by_task(targets: Any, tasks: Sequence[str]) -> dict[str, Any]:
    """Targets by task: those of a mapping by name, those of a sequence in order.

    Args:
        targets: a mapping, a tuple with or without names, a list, or a tensor whose first axis has
            a place for each task; of one task also what its label is.
        tasks: names of the K tasks.

    Raises:
        UserError: a task has none.
    """
    targets = _named(targets, tasks)
    if isinstance(targets, Mapping):
        for name in tasks:
            if name not in targets:
                raise UserError(
                    f"it has no target {name!r}, but {_quoted(targets)}: the names of tasks are "
                    "those of their targets"
                )
        return {name: targets[name] for name in tasks}
    if isinstance(targets, tuple | list) and len(targets) == len(tasks):
        return dict(zip(tasks, targets, strict=True))
    if len(tasks) == 1:
        return {tasks[0]: targets}
    if isinstance(targets, Tensor | np.ndarray) and targets.shape[:1] == (len(tasks),):
        return dict(zip(tasks, targets, strict=True))
    raise UserError(f"its targets are {_described(targets)}, and not those of {_quoted(tasks)}")


def _named(value: Any, tasks: Sequence[str]) -> Any:
    """A tuple whose parts have the names of the tasks as a mapping; all else as it is."""
    if isinstance(value, tuple) and set(tasks) <= set(getattr(value, "_fields", ())):
        return value._asdict()  # type: ignore[attr-defined]
    return value


def as_label(value: Any, task: Task) -> Tensor | None:
    """A label as a tensor, a number as one without a dimension; None where there is none.

    Raises:
        UserError: it is neither a finite number nor an array of such.
    """
    if value is None:
        return None
    try:
        label = value.detach() if isinstance(value, Tensor) else torch.from_numpy(_array(value))
    except (TypeError, ValueError):
        raise UserError(
            f"the label of task {task.name!r} is {_described(value)}, and not a number or an array "
            "of numbers"
        ) from None
    if label.dtype == torch.bool:
        return label.long()
    if label.is_complex():
        raise UserError(f"the label of task {task.name!r} is a complex number")
    counts = task.kind == "classification"
    if not counts:
        label = label.float()
    elif not label.is_floating_point():
        return label
    here = label.isfinite()
    if counts and ((label[here] != label[here].round()).any() or label.isinf().any()):
        raise UserError(
            f"task {task.name!r} is a classification, but a label is {_first_fraction(label):g}"
        )
    if label.isinf().any():
        raise UserError(
            f"the label of task {task.name!r} is infinite as a float32; NaN stands for none"
        )
    if here.all():
        return label.long() if counts else label
    if not here.any():
        return None
    if task.ignore is None:
        raise UserError(
            f"the label of task {task.name!r} is NaN in a part: the task needs an 'ignore' value"
        )
    filled = torch.where(here, label, task.ignore)
    return filled.long() if counts else filled


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if type(value).__module__.startswith("PIL.") or array.dtype.kind not in "biufc":
        raise TypeError(value)
    # PyTorch has no whole numbers without a sign, but of 8 bits.
    return array.astype(np.int64) if array.dtype.kind == "u" and array.itemsize > 1 else array


def _first_fraction(label: Tensor) -> float:
    values = label.flatten()
    return float(values[(values != values.round()) & ~values.isnan() | values.isinf()][0])


class Labels:
    """The labels of N instances, gathered one by one.

    Args:
        tasks: the K tasks.
        count: N.
    """

    def __init__(self, tasks: Sequence[Task], count: int) -> None:
        self.tasks, self._count = tasks, count
        self._values: dict[str, Tensor] = {}
        self._first: dict[str, int] = {}
        self._present = torch.ones(count, len(tasks), dtype=torch.bool)

    def add(self, row: int, labels: Mapping[str, Tensor | None]) -> None:
        """Takes the labels of one instance.

        Raises:
            UserError: one has another shape than those before it.
        """
        for k, task in enumerate(self.tasks):
            label = labels[task.name]
            if label is None:
                self._present[row, k] = False
                continue
            values = self._values.get(task.name)
            if values is None:
                values = label.new_zeros(self._count, *label.shape)
                self._first[task.name] = row
            elif label.shape != values.shape[1:]:
                raise UserError(
                    f"its label of task {task.name!r} has shape {list(label.shape)}, and that of "
                    f"the item before has {list(values.shape[1:])}: labels of a task need one shape"
                )
            elif label.dtype != values.dtype:  # such as 3 among 8-bit classes
                values = values.to(torch.promote_types(values.dtype, label.dtype))
            values[row] = label
            self._values[task.name] = values

    def gathered(self) -> tuple[dict[str, Tensor], Tensor | None]:
        """The labels by task [N, …], and which are present, bool [N, K], None where all are.

        In the place of one that is absent stands the first of its task.
        """
        for k, task in enumerate(self.tasks):
            if task.name not in self._values:
                whole = task.kind == "classification"
                self._values[task.name] = torch.zeros(
                    self._count, dtype=torch.long if whole else torch.float32
                )
            elif not self._present[:, k].all():
                values = self._values[task.name]
                values[~self._present[:, k]] = values[self._first[task.name]].clone()
        return self._values, None if self._present.all() else self._present


def copied(value: Any) -> Any:
    """Inputs or targets with tensors and arrays of their own."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Mapping):
        return {name: copied(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        parts = [copied(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def same(one: Any, other: Any) -> bool:
    """Whether two inputs or targets are the same, NaN included; of what cannot be compared, yes."""
    if one is None or other is None:
        return one is other
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.shape == other.shape and _same_tensor(one, other)
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.shape == other.shape
            and bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
        )
    if isinstance(one, Mapping):
        return set(one) == set(other) and all(same(part, other[name]) for name, part in one.items())
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float | int | str | bytes):
        return bool(one == other or (one != one and other != other))
    return True


def _same_tensor(one: Tensor, other: Tensor) -> bool:
    one, other = (each.detach().to_dense() for each in (one, other))
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _quoted(names: Any) -> str:
    return ", ".join(map(repr, names)) or "nothing"


def _described(value: Any) -> str:
    """What a part of an item is, in words."""
    if isinstance(value, Mapping):
        return f"a mapping of {_quoted(value)}"
    if isinstance(value, tuple | list):
        parts = ", ".join(_kind(part) for part in value[:6])
        return f"a {type(value).__name__} of {len(value)} ({parts}{', …' * (len(value) > 6)})"
    return f"{_kind(value)}"


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    name = type(value).__name__
    return f"{name} {list(shape)}" if isinstance(shape, tuple) else name
