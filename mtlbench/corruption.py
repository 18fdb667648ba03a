"""Variants of the training labels: which labels are corrupted, and how.

    clean
    depth@0.4                      40 % of the depth labels, by the task's default kind
    pose+shape@0.4                 two tasks on the same instances
    segmentation@0.2,depth@0.4     two tasks independently
    depth@0.4:offset               another kind

Which instances are hit depends on the corruption seed and on the tasks of the clause, not on the
fraction: the instances corrupted at 20 % are among those corrupted at 40 %.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlbench.errors import UserError, unknown
from mtlbench.randomness import named_generator
from mtlbench.rows import CHUNK, Replaced, Rows
from mtlbench.tasks import Task

CLEAN = "clean"

Range = tuple[float, float]
"""Smallest and largest label of a task in the training set, or what its suite sets instead."""


@dataclass(frozen=True)
class Corruption:
    """A way to spoil labels.

    Attributes:
        summary: one line for people.
        apply: labels [n, …], the task, the labels' range and a generator to wrong labels [n, …].
    """

    summary: str
    apply: Callable[[Tensor, Task, Range, torch.Generator], Tensor]


def other_class(labels: Tensor, task: Task, span: Range, generator: torch.Generator) -> Tensor:
    """Every label becomes another class, each equally likely."""
    shift = torch.randint(1, len(task.classes), labels.shape, generator=generator)
    return (labels + shift).remainder(len(task.classes)).to(labels.dtype)


def next_class(labels: Tensor, task: Task, span: Range, generator: torch.Generator) -> Tensor:
    """Every label becomes the class after it, and the last the first."""
    return (labels + 1).remainder(len(task.classes)).to(labels.dtype)


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


CORRUPTIONS = {
    function.__name__.replace("_", "-"): Corruption(
        (function.__doc__ or "").partition("\n")[0], function
    )
    for function in (other_class, next_class, permute, uniform, offset, shuffle)
}


@dataclass(frozen=True)
class Clause:
    """Tasks whose labels are corrupted on the same instances.

    Attributes:
        tasks: the tasks' names, in the suite's order.
        fraction: share of the training instances, above 0 and at most 1.
        kinds: corruption kind of each task.
    """

    tasks: tuple[str, ...]
    fraction: float
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """A way the training labels are; `name` is the one spelling of it."""

    name: str
    clauses: tuple[Clause, ...]

    @classmethod
    def parse(cls, text: str, tasks: Sequence[Task]) -> "Variant":
        """Reads a variant of a suite with these tasks.

        Raises:
            UserError: a form, task, fraction or kind that does not exist.
        """
        if text.strip() == CLEAN:
            return cls(CLEAN, ())
        order = {task.name: task for task in tasks}
        clauses = [_parse_clause(part.strip(), text, order) for part in text.split(",")]
        clauses.sort(key=lambda clause: list(order).index(clause.tasks[0]))
        named = [task for clause in clauses for task in clause.tasks]
        for task in named:
            if named.count(task) > 1:
                raise UserError(f"variant {text!r} corrupts task {task!r} twice")
        return cls(",".join(_spell(clause, order) for clause in clauses), tuple(clauses))

    def fractions(self) -> dict[str, float]:
        """Corrupted task to the share of its training labels that is corrupted."""
        return {task: clause.fraction for clause in self.clauses for task in clause.tasks}


def corrupt(
    variant: Variant,
    tasks: Sequence[Task],
    targets: Mapping[str, Rows],
    *,
    names: tuple[object, ...],
) -> tuple[dict[str, Rows], Tensor]:
    """The training labels of a variant.

    Args:
        variant: what to corrupt.
        tasks: the suite's K tasks.
        targets: clean training labels [N, …] of each task, on the CPU.
        names: what the draws depend on: the suite and the corruption seed.

    Returns:
        The labels, and which are corrupted as bool [N, K]. Places of a label map that are not
        labelled stay so.
    """
    given = dict(targets)
    count = len(next(iter(targets.values())))
    mask = torch.zeros(count, len(tasks), dtype=torch.bool)
    column = {task.name: k for k, task in enumerate(tasks)}
    for clause in variant.clauses:
        subset = named_generator("corrupted instances", *names, *clause.tasks)
        order = torch.randperm(count, generator=subset)
        rows = order[: round(clause.fraction * count)].sort().values
        for name, kind in zip(clause.tasks, clause.kinds, strict=True):
            task = tasks[column[name]]
            clean = targets[name]
            span = task.noise or label_range(clean, task)
            noise = named_generator("corrupted labels", *names, name, kind, clause.fraction)
            spoil = _spoiler(task, CORRUPTIONS[kind], span, noise)
            if isinstance(clean, Tensor):
                replaced = clean.clone()
                replaced[rows] = spoil(clean[rows])
                given[name] = replaced
            else:
                given[name] = Replaced(clean, rows, spoil)
            mask[rows, column[name]] = True
    return given, mask


def label_range(labels: Rows, task: Task) -> Range:
    """Smallest and largest label of a task, without the places that are not labelled."""
    low, high = float("inf"), float("-inf")
    for some in torch.arange(len(labels)).split(CHUNK):
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


def _parse_clause(text: str, variant: str, tasks: Mapping[str, Task]) -> Clause:
    head, separator, tail = text.partition("@")
    if not separator:
        raise UserError(
            f"variant {variant!r} is neither {CLEAN!r} nor of the form TASK@FRACTION[:KIND], "
            "such as " + f"'{next(iter(tasks))}@0.4'"
        )
    named = head.split("+")
    for name in named:
        if name not in tasks:
            raise unknown(f"task in variant {variant!r}:", name, tasks)
        if not tasks[name].corruptions:
            others = ", ".join(repr(task.name) for task in tasks.values() if task.corruptions)
            raise UserError(
                f"variant {variant!r}: the labels of task {name!r} follow from others and cannot "
                f"be corrupted by themselves; tasks: {others}"
            )
    number, _, kind = tail.partition(":")
    try:
        fraction = float(number)
    except ValueError:
        raise UserError(f"variant {variant!r}: fraction {number!r} is not a number") from None
    if not 0 < fraction <= 1:
        raise UserError(
            f"variant {variant!r}: fraction must be above 0 and at most 1, but is {number}"
        )
    named.sort(key=list(tasks).index)
    for name in named:
        if kind and kind not in tasks[name].corruptions:
            raise unknown(
                f"corruption kind of task {name!r} in variant {variant!r}:",
                kind,
                tasks[name].corruptions,
            )
    kinds = tuple(kind or tasks[name].corruptions[0] for name in named)
    return Clause(tuple(named), fraction, kinds)


def _spell(clause: Clause, tasks: Mapping[str, Task]) -> str:
    default = all(
        kind == tasks[name].corruptions[0]
        for name, kind in zip(clause.tasks, clause.kinds, strict=True)
    )
    suffix = "" if default else f":{clause.kinds[0]}"
    return f"{'+'.join(clause.tasks)}@{clause.fraction:.10g}{suffix}"
