"""The grammar of variants: which training labels are corrupted, and how.

clean
depth@0.4                      40 % of the depth labels, by the task's default kind
pose+shape@0.4                 two tasks on the same instances
segmentation@0.2,depth@0.4     two tasks independently
depth@0.4:offset               another kind
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mtlbench.errors import UserError, unknown

if TYPE_CHECKING:
    from mtlbench.tasks.task import Task

CLEAN = "clean"

LONGEST_NAME = 200
"""Bytes of a variant's name: runs are kept in a directory of that name, which has at most 255."""


class Form(NamedTuple):
    """A clause as it is written: `TASK+TASK@FRACTION:KIND`, the kind "" for the default."""

    tasks: tuple[str, ...]
    fraction: str
    kind: str


def forms(variant: str) -> list[Form]:
    """The clauses of a variant as they are written, without those of another form.

    So none of the clean variant.
    """
    found = []
    for clause in variant.split(","):
        tasks, separator, rest = clause.strip().partition("@")
        fraction, _, kind = rest.partition(":")
        if separator:
            found.append(Form(tuple(tasks.split("+")), fraction, kind))
    return found


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
    def parse(cls, text: str, tasks: "Sequence[Task]") -> "Variant":
        """Reads a variant of a suite with these tasks.

        Raises:
            UserError: a form, task, fraction or kind that does not exist, or a name too long.
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
        name = ",".join(_spell(clause, order) for clause in clauses)
        if len(name.encode()) > LONGEST_NAME:
            raise UserError(
                f"variant {name[:40]!r}… has {len(named)} tasks: its name is too long for that of "
                f"a directory, which has at most {LONGEST_NAME} bytes"
            )
        return cls(name, tuple(clauses))

    def fractions(self) -> dict[str, float]:
        """Corrupted task to the share of its training labels that is corrupted."""
        return {task: clause.fraction for clause in self.clauses for task in clause.tasks}


def _parse_clause(text: str, variant: str, tasks: "Mapping[str, Task]") -> Clause:
    found = forms(text)
    if not found:
        raise UserError(
            f"variant {variant!r} is neither {CLEAN!r} nor of the form TASK@FRACTION[:KIND], "
            "such as " + f"'{next(iter(tasks))}@0.4'"
        )
    ((written, number, kind),) = found
    named = list(written)
    for name in named:
        if name not in tasks:
            raise unknown(f"task in variant {variant!r}:", name, tasks)
        if not tasks[name].corruptions:
            others = ", ".join(repr(task.name) for task in tasks.values() if task.corruptions)
            raise UserError(
                f"variant {variant!r}: the labels of task {name!r} follow from others and cannot "
                f"be corrupted by themselves; tasks: {others}"
            )
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


def _spell(clause: Clause, tasks: "Mapping[str, Task]") -> str:
    default = all(
        kind == tasks[name].corruptions[0]
        for name, kind in zip(clause.tasks, clause.kinds, strict=True)
    )
    suffix = "" if default else f":{clause.kinds[0]}"
    return f"{'+'.join(clause.tasks)}@{clause.fraction:.10g}{suffix}"
