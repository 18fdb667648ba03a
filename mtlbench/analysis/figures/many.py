"""Which curves are drawn of many tasks: means over them, and those of corrupted tasks."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from itertools import chain

from mtlbench.analysis.many_tasks import FEWEST_TASKS, MOST_COLUMNS

VALIDATION = "validation/"


@dataclass(frozen=True)
class Curve:
    """What one panel shows.

    Attributes:
        task: its name, or of how many tasks it is the mean.
        column: of the history, as `validation/TASK/METRIC`; the first of those it is the mean of.
        columns: all of those.
    """

    task: str
    column: str
    columns: list[str]


def curves(kinds: Mapping[str, Hashable], corrupted: Collection[str]) -> list[Curve]:
    """Those of all columns, or at most `MOST_COLUMNS` of them, as in printed tables.

    What many tasks are measured by in the same unit becomes its mean over them. Tasks whose labels
    are corrupted come next, then the first metric of each task that is in no mean.

    Args:
        kinds: columns of a history with their metric, unit and direction.
        corrupted: names of tasks.
    """
    if len(kinds) <= MOST_COLUMNS:
        return [alone(column) for column in kinds]
    groups = defaultdict(list)
    for column, kind in kinds.items():
        groups[kind].append(column)
    many = [columns for columns in groups.values() if len(columns) >= FEWEST_TASKS]
    means = [Curve(f"mean of {len(columns)} tasks", columns[0], columns) for columns in many]
    in_means = set(chain.from_iterable(many))
    first = {_task(column): column for column in reversed(list(kinds))}
    kept = [column for column in kinds if _task(column) in corrupted]
    rest = [c for c in first.values() if c not in in_means and _task(c) not in corrupted]
    return [*means, *map(alone, [*kept, *reversed(rest)])][:MOST_COLUMNS]


def alone(column: str) -> Curve:
    """One column by itself."""
    return Curve(_task(column), column, [column])


def _task(column: str) -> str:
    return column.removeprefix(VALIDATION).rpartition("/")[0]
