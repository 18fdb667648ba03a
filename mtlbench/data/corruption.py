"""Corruption of training labels.

Which instances are hit depends on the corruption seed and on the tasks of the clause, not on the
fraction: the instances corrupted at 20 % are among those corrupted at 40 %.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlbench.data.rows import CHUNK, Overlay, Rows
from mtlbench.data.variants import Variant
from mtlbench.errors import UserError, unknown
from mtlbench.randomness import named_generator
from mtlbench.tasks.task import Kind, Task

Range = tuple[float, float]
"""Smallest and largest label of a task in the training set, or what its suite sets instead."""


@dataclass(frozen=True)
class Corruption:
    """A way to spoil labels.

    Attributes:
        summary: one line for people.
        apply: labels [n, …], the task, the labels' range and a generator to wrong labels [n, …].
        of: the kind of task whose labels it can spoil; None for both.
    """

    summary: str
    apply: Callable[[Tensor, Task, Range, torch.Generator], Tensor]
    of: Kind | None = None


def other_class(labels: Tensor, task: Task, span: Range, generator: torch.Generator) -> Tensor:
    """Every label becomes another class, each equally likely."""
    shift = torch.randint(1, _classes(task), labels.shape, generator=generator)
    return _shifted(labels, shift, task)


def next_class(labels: Tensor, task: Task, span: Range, generator: torch.Generator) -> Tensor:
    """Every label becomes the class after it, and the last the first."""
    return _shifted(labels, torch.ones_like(labels), task)


def _ignored_class(task: Task) -> int | None:
    """The class that stands for no label, where it is one of the classes."""
    return next((k for k in range(len(task.classes)) if k == task.ignore), None)


def _classes(task: Task) -> int:
    """How many classes a label may have."""
    return len(task.classes) - (_ignored_class(task) is not None)


def _shifted(labels: Tensor, shift: Tensor, task: Task) -> Tensor:
    """The classes so many after others, in a ring without the one that is ignored."""
    ignored = _ignored_class(task)
    if ignored is None:
        return (labels + shift).remainder(_classes(task)).to(labels.dtype)
    places = labels - (labels > ignored).to(labels.dtype)
    shifted = (places + shift).remainder(_classes(task))
    return (shifted + (shifted >= ignored)).to(labels.dtype)


def permute(labels: Tensor, task: Task, span: Range, generator: torch.Generator) -> Tensor:
    """The classes in each label map change places by a random permutation of their own.

    A map with one class only gets another class throughout.
    """
    corrupted = labels.clone()
    for before, after in zip(labels, corrupted, strict=True):
        classes = before[task.labelled(before)].unique()
        if len(classes) == 1:
            after[before == classes[0]] = other_class(classes, task, span, generator)[0]
            continue
        order = torch.randperm(len(classes), generator=generator)
        while len(classes) and bool((order == torch.arange(len(order))).all()):
            order = torch.randperm(len(classes), generator=generator)
        for old, new in zip(classes, classes[order], strict=True):
            after[before == old] = new
    return corrupted


def uniform(labels: Tensor, task: Task, span: Range, generator: torch.Generator) -> Tensor:
    """Uniform noise over the label range is added to every value."""
    low, high = span
    noise = torch.rand(labels.shape, generator=generator, dtype=labels.dtype)
    return labels + low + (high - low) * noise


def offset(labels: Tensor, task: Task, span: Range, generator: torch.Generator) -> Tensor:
    """One uniform draw over the label range is added to the whole label."""
    low, high = span
    shape = (len(labels),) + (1,) * (labels.ndim - 1)
    return labels + low + (high - low) * torch.rand(shape, generator=generator, dtype=labels.dtype)


def shuffle(labels: Tensor, task: Task, span: Range, generator: torch.Generator) -> Tensor:
    """The corrupted instances exchange their labels in a ring: each gets another's."""
    order = torch.randperm(len(labels), generator=generator)
    shuffled = torch.empty_like(labels)
    shuffled[order] = labels[order.roll(1)]
    return shuffled


SHUFFLE = shuffle.__name__

KINDS: dict[Callable[..., Tensor], Kind | None] = {
    other_class: "classification",
    next_class: "classification",
    permute: "classification",
    uniform: "regression",
    offset: "regression",
    shuffle: None,
}

CORRUPTIONS = {
    function.__name__.replace("_", "-"): Corruption(
        (function.__doc__ or "").partition("\n")[0], function, kind
    )
    for function, kind in KINDS.items()
}


def require_known(tasks: Sequence[Task]) -> None:
    """Makes sure that the labels of tasks can be corrupted as these say.

    Raises:
        UserError: there is no such kind, or it is one for other labels.
    """
    for task in tasks:
        for kind in task.corruptions:
            if kind not in CORRUPTIONS:
                raise unknown(f"corruption kind of task {task.name!r}:", kind, CORRUPTIONS)
            corruption = CORRUPTIONS[kind]
            if corruption.of not in (None, task.kind):
                raise UserError(
                    f"task {task.name!r} is a {task.kind}, but its corruption {kind!r} is for a "
                    f"{corruption.of}"
                )
            if corruption.of == "classification" and _classes(task) < 2:
                raise UserError(
                    f"task {task.name!r} needs two classes or more, named by classes=, for its "
                    f"corruption {kind!r}"
                )


def corrupt(
    variant: Variant,
    tasks: Sequence[Task],
    targets: Mapping[str, Rows],
    *,
    names: tuple[object, ...],
    present: Tensor | None = None,
) -> tuple[dict[str, Rows], Tensor]:
    """The training labels of a variant.

    Args:
        variant: what to corrupt.
        tasks: the suite's K tasks.
        targets: clean training labels [N, …] of each task, on the CPU.
        names: what the draws depend on: the suite and the corruption seed.
        present: which labels are present, bool [N, K] on the CPU, or None for all of them. Those
            that are absent are neither corrupted nor given to others.

    Returns:
        The labels, and which are corrupted as bool [N, K]. Places of a label map that are not
        labelled stay so.

    Raises:
        UserError: a share of the instances is none of them.
    """
    given = dict(targets)
    count = len(next(iter(targets.values())))
    mask = torch.zeros(count, len(tasks), dtype=torch.bool)
    column = {task.name: k for k, task in enumerate(tasks)}
    for clause in variant.clauses:
        subset = named_generator("corrupted instances", *names, *clause.tasks)
        order = torch.randperm(count, generator=subset)
        hit = order[: round(clause.fraction * count)].sort().values
        if not len(hit):
            raise UserError(
                f"variant {variant.name!r} corrupts none of {count} training instances: "
                f"{clause.fraction:g} of them is less than half of one"
            )
        for name, kind in zip(clause.tasks, clause.kinds, strict=True):
            task = tasks[column[name]]
            clean = targets[name]
            here = None if present is None else present[:, column[name]]
            rows = hit if here is None else hit[here[hit]]
            span = task.noise or label_range(clean, task, here)
            noise = named_generator("corrupted labels", *names, name, kind, clause.fraction)
            spoil = _spoiler(task, CORRUPTIONS[kind], span, noise)
            if isinstance(clean, Tensor):
                replaced = clean.clone()
                replaced[rows] = spoil(clean[rows])
                given[name], changes = replaced, not torch.equal(replaced, clean)
            else:
                given[name], changes = Overlay(clean, rows, spoil), True
            # A single label has no other to be exchanged with, and equal ones are no others.
            mask[rows, column[name]] = changes and (kind != SHUFFLE or len(rows) > 1)
        if not mask[:, [column[name] for name in clause.tasks]].any():
            shuffles = SHUFFLE in clause.kinds
            other = "of another to exchange with" if shuffles else "that becomes another"
            raise UserError(
                f"variant {variant.name!r} corrupts no label: of {count} training instances it "
                f"chooses {len(hit)}, with no label {other}"
            )
    return given, mask


def label_range(labels: Rows, task: Task, present: Tensor | None = None) -> Range:
    """Smallest and largest label of a task, without the places that are not labelled.

    Args:
        labels: [N, …].
        task: of which.
        present: which labels are present, bool [N], or None for all of them.
    """
    low, high = float("inf"), float("-inf")
    rows = torch.arange(len(labels)) if present is None else present.nonzero()[:, 0]
    for some in rows.split(CHUNK):
        values = labels[some]
        values = values[task.labelled(values)]
        if len(values):
            low, high = min(low, values.min().item()), max(high, values.max().item())
    return low, high


def _spoiler(
    task: Task, corruption: Corruption, span: Range, generator: torch.Generator
) -> Callable[[Tensor], Tensor]:
    """Labels [n, …] to the same with those that are labelled spoilt."""

    def spoil(labels: Tensor) -> Tensor:
        wrong = corruption.apply(labels, task, span, generator)
        return torch.where(task.labelled(labels), wrong, labels)

    return spoil
