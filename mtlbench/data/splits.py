"""Splits: instances with their labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlbench.data.reading import Items
from mtlbench.data.rows import Rows
from mtlbench.errors import UserError
from mtlbench.tasks.task import Task

Targets = dict[str, Tensor]
"""Task name to labels [N, …]."""

Inputs = Tensor | dict[str, Tensor]
"""Of a batch: [B, …], or several by name. Those of a dataset may be nested otherwise."""


def each_input(values: Any, change: Callable[[Any], Any]) -> Any:
    """The inputs with each part changed: the only one, or each in its place."""
    if hasattr(values, "to"):  # a tensor, or something that goes to a device whole
        return change(values)
    if isinstance(values, Mapping):
        return {name: each_input(value, change) for name, value in values.items()}
    if isinstance(values, tuple | list):
        parts = [each_input(value, change) for value in values]
        return type(values)(*parts) if hasattr(values, "_fields") else type(values)(parts)
    return change(values)


def input_parts(values: Any) -> list[Any]:
    """The parts of the inputs: the only one, or all."""
    parts: list[Any] = []
    each_input(values, parts.append)
    return parts


@dataclass(frozen=True)
class Split:
    """Instances with their labels.

    Attributes:
        inputs: [N, …]; images as uint8 [N, C, H, W]. Several by name where an input is not one
            tensor, as the atoms of a molecule, their places and which of them are padding; or what
            a dataset gives item by item.
        targets: labels [N, …] of each task, except those that `Suite.complete` derives; NaN, or any
            valid label, where one is absent.
        present: which labels are present, bool [N, K], or None for all that are not NaN.
        names: what people call each instance [N]; None where they have no names.
    """

    inputs: Rows | Mapping[str, Rows] | Items
    targets: Mapping[str, Rows]
    present: Tensor | None = None
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(input_parts(self.inputs)[0])

    def checked(self, tasks: Sequence[Task]) -> "Split":
        """The same with labels as they can be trained on: those that are NaN absent, with a valid
        label in their place, and whole numbers of a regression as float32.

        Args:
            tasks: the K tasks.

        Raises:
            UserError: labels or names are not as many as the inputs; `present` is no mask of them;
                inputs or labels are of NumPy; a class is none of the task's; a number is infinite,
                or has no logarithm where the task takes it; or a part of a label is NaN, which only
                an `ignore` value can stand for.
        """
        self._require_lengths(len(tasks))
        targets = dict(self.targets)
        present = self.present
        for k, task in enumerate(tasks):
            labels = targets.get(task.name)
            if labels is None:  # what `Suite.complete` derives
                continue
            if len(labels) != len(self):
                raise UserError(
                    f"task {task.name!r} has {len(labels)} labels for {len(self)} instances"
                )
            if not isinstance(labels, Tensor):  # checked when the files were prepared
                continue
            if task.kind == "regression" and not labels.is_floating_point():
                labels = labels.float()
            if labels.is_floating_point():
                labels, gone = _without_nan(task, labels)
                present = _absent(present, k, gone, self, tasks)
            if task.ignore is not None:
                labels, gone = _without_ignored(task, labels)
                present = _absent(present, k, gone, self, tasks)
            if task.kind == "classification":
                self._check_classes(task, labels, None if present is None else present[:, k])
            else:
                _check_numbers(task, labels[task.labelled(labels)])
            targets[task.name] = labels
        return replace(self, targets=targets, present=present)

    def _check_classes(self, task: Task, labels: Tensor, present: Tensor | None) -> None:
        if not task.classes:
            return
        bad = task.labelled(labels) & ((labels < 0) | (labels >= len(task.classes)))
        if present is not None:
            bad = bad & present.to(labels.device).reshape(-1, *[1] * (labels.ndim - 1))
        if not bad.any():
            return
        row, wrong = int(bad.nonzero()[0, 0]), labels[bad][0].item()
        of = f"instance {row}" if self.names is None else self.names[row]
        hint = f"; if {wrong:g} stands for 'not labelled', give the task ignore={wrong:g}"
        raise UserError(
            f"task {task.name!r} has {len(task.classes)} classes, from 0 on, but {of} has label "
            f"{wrong:g}{hint if wrong < 0 or wrong == 255 else ''}"
        )

    def _require_lengths(self, tasks: int) -> None:
        for part in (*input_parts(self.inputs), *self.targets.values()):
            if isinstance(part, np.ndarray):
                raise UserError(
                    "inputs and labels are tensors: torch.from_numpy makes one of an array"
                )
        for part in input_parts(self.inputs):
            if len(part) != len(self):
                raise UserError(f"parts of the inputs have {len(self)} and {len(part)} instances")
        if self.names is not None and len(self.names) != len(self):
            raise UserError(f"there are {len(self.names)} names for {len(self)} instances")
        given = self.present
        if given is not None and not (
            isinstance(given, Tensor)
            and given.dtype == torch.bool
            and given.shape == (len(self), tasks)
        ):
            kind = type(given).__name__
            if isinstance(given, Tensor):
                kind = f"{given.dtype} {list(given.shape)}"
            raise UserError(
                f"present is a boolean mask of {len(self)} instances and {tasks} tasks, and not "
                f"{kind}"
            )


def _absent(
    present: Tensor | None, k: int, gone: Tensor | None, split: Split, tasks: Sequence[Task]
) -> Tensor | None:
    """Which labels are present, without those of a task that are gone, bool [N]."""
    if gone is None:
        return present
    if present is None:
        present = torch.ones(len(split), len(tasks), dtype=torch.bool)
    present = present.clone()
    present[:, k] &= ~gone.to(present.device)
    return present


def _check_numbers(task: Task, labels: Tensor) -> None:
    if labels.isinf().any():
        raise UserError(f"task {task.name!r} has an infinite label; NaN stands for none")
    if task.log and (labels <= 0).any():
        raise UserError(
            f"task {task.name!r} is learned by its logarithm (log=True), but a label is "
            f"{labels.min().item():g}"
        )


def _without_nan(task: Task, labels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Labels with others in place of NaN, and which instances have none, None where all have."""
    absent = labels.isnan()
    if not absent.any():
        return labels, None
    gone = absent.flatten(1).all(1) if labels.ndim > 1 else absent
    rest = absent & ~gone.reshape(-1, *[1] * (labels.ndim - 1))
    if rest.any() and task.ignore is None:
        raise UserError(
            f"labels of task {task.name!r} are NaN in a part: the task needs an 'ignore' value"
        )
    here = (~gone).nonzero()
    valid = labels[here[0, 0]].nan_to_num() if len(here) else torch.zeros_like(labels[0])
    filled = torch.where(absent, valid, labels)
    if task.ignore is not None:
        filled = torch.where(rest, task.ignore, filled)
    return filled, gone


def _without_ignored(task: Task, labels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Labels with another in the place of those that are to be ignored whole, and which these are,
    None where there is none."""
    gone = ~task.any_labelled(labels)
    if not gone.any():
        return labels, None
    here = (~gone).nonzero()
    filled = labels.clone()
    filled[gone] = labels[here[0, 0]] if len(here) else torch.zeros_like(labels[0])
    return filled, gone


@dataclass(frozen=True)
class Data:
    """The three splits. Training labels are clean here; the trainer corrupts them."""

    train: Split
    validation: Split
    test: Split

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """All three."""
        return self.train, self.validation, self.test

    def checked(self, tasks: Sequence[Task]) -> "Data":
        """The same with labels as they can be trained on; see `Split.checked`.

        Raises:
            UserError: as there; or a task has no label in one of them.
        """
        checked = Data(*(split.checked(tasks) for split in self.splits))
        parts = ("training", "validation", "test")
        for what, split in zip(parts, checked.splits, strict=True):
            for k, task in enumerate(tasks):
                if split.present is not None and not split.present[:, k].any():
                    raise UserError(f"task {task.name!r} has no label in the {what} data")
        return checked


def drawn_data(draw: Callable[[int, int], Split], *sizes: int) -> Data:
    """Splits of these sizes, drawn from one seed.

    Args:
        draw: number of the first instance, and how many, to a split.
        sizes: of training, validation and test. Their numbers are far apart, so that a larger
            split never reaches into the next.
    """
    return Data(*(draw(1_000_000 * place, size) for place, size in enumerate(sizes)))
