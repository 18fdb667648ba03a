"""Which strategies of a comparison are marked as best, and by what rule."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mtlbench.analysis import statistics
from mtlbench.analysis.printing import BEST, Cell, legend
from mtlbench.analysis.selection import APART
from mtlbench.analysis.settings import is_tuned
from mtlbench.store.schema import DONE


@dataclass(frozen=True)
class Marks:
    """The marks of one variant's table.

    Attributes:
        alike: for each (metric, task), the strategies that cannot be told from the best; None
            where there are too few seeds to tell any apart.
        rule: a sentence for the caption, "" where there is nothing to compare.
        strategies: how many were compared.
    """

    alike: dict[tuple[str, str], set[str]] | None
    rule: str
    strategies: int

    def mark(
        self, column: tuple[str, str], strategies: Sequence[str], cells: list[Cell]
    ) -> list[Cell]:
        """The cells of a column, marked by test instead of by mean where tests were possible."""
        if self.alike is None:
            return cells
        best = self.alike.get(column, set())
        return [
            replace(cell, rank=BEST if strategy in best else 0)
            for strategy, cell in zip(strategies, cells, strict=True)
        ]

    def legend(self, *, plain: bool) -> str:
        """What the marks mean; `plain` text has no bold."""
        if self.alike is None:
            return "; ".join(filter(None, [legend(plain=plain), self.rule]))
        return f"{'¹' if plain else 'in bold:'} {self.rule}"


def joint_legend(several: Iterable[Marks], *, plain: bool) -> str:
    """What the marks of several columns of variants mean, said once.

    Of those by test, and of those by mean, the legend of the one with most strategies speaks.
    """
    by_kind = {each.alike is None: each for each in sorted(several, key=lambda m: m.strategies)}
    return "; ".join(each.legend(plain=plain) for each in by_kind.values())


def marks(runs: pd.DataFrame) -> Marks:
    """The marks of one variant.

    Strategies that have all the seeds that any has, but for those that stand apart, are tested: in
    each column all pairs of them over seeds; see `statistics.like_the_best`. Not those that were
    tuned: their seeds share the one choice that was made, and another might have done better.

    Args:
        runs: rows of one variant, as from `aggregate.select`.
    """
    done = runs[(runs["status"] == DONE) & np.isfinite(runs["value"])]
    done = done[~done["strategy"].isin(APART)]
    tuned = done["settings"].map(is_tuned).astype(bool)
    done = done[~tuned]
    seeds = done["seed"].nunique()
    columns = {}
    for (metric, task), rows in done.groupby(["metric", "task"]):
        table = rows.pivot(index="configuration", columns="seed", values="value").dropna()
        if table.shape[1] == seeds and len(table) > 1:
            sign = 1.0 if rows["direction"].iloc[0] == "max" else -1.0
            columns[str(metric), str(task)] = sign * table
    strategies = done["configuration"].nunique()
    if strategies < 2:
        return Marks(None, "", strategies)
    most = max(map(len, columns.values()), default=strategies)
    pairs = most * (most - 1) // 2
    level = f"{100 * statistics.ALPHA:g} %"
    if not columns or not statistics.can_reject(seeds, pairs):
        needed = statistics.pairs_needed(strategies * (strategies - 1) // 2)
        return Marks(
            None,
            f"too few seeds for any test to tell {strategies} strategies apart at {level}: "
            f"{needed} are needed",
            strategies,
        )
    rule = (
        "not told from the best (signed-rank tests of all pairs over seeds, Holm in each column, "
        f"{level})"
    )
    if most < strategies:
        rule += "; strategies with fewer runs are not compared"
    if tuned.any():
        rule += "; tuned strategies are not tested: each was tuned once"
    return Marks(
        {
            column: set(table.index[statistics.like_the_best(table.to_numpy())])
            for column, table in columns.items()
        },
        rule,
        most,
    )
