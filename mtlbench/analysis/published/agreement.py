"""The order of the methods, ours and the paper's."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mtlbench.analysis.printing import decimals, digits
from mtlbench.analysis.published.rows import method_of
from mtlbench.analysis.statistics import kendall_tau
from mtlbench.tasks.detection import DETECTION

AGREEMENT_COLUMNS = [
    "variant", "metric", "task", "methods", "tau", "order", "paper_order", "best", "paper_best",
    "same_best",
]  # fmt: skip


@dataclass(frozen=True)
class Ranking:
    """Some methods by one metric of one variant.

    Attributes:
        variant, metric, task, direction: which.
        places: decimals to which our means are rounded, as they print, like the paper's.
        table: columns `ours`, `std`, `paper`, `paper_std` by method; NaN where there is none.
    """

    variant: str
    metric: str
    task: str
    direction: str
    places: int
    table: pd.DataFrame

    def ranks(self, column: str, methods: Iterable[str] | None = None) -> pd.Series:
        """Dense ranks from 1, the best, among some methods or all."""
        values = self.table[column] if methods is None else self.table.loc[list(methods), column]
        return values.dropna().rank(method="dense", ascending=self.direction == "min").astype(int)

    @property
    def both(self) -> list[str]:
        """The methods with a mean on both sides."""
        return list(self.table.dropna(subset=["ours", "paper"]).index)


def rank_methods(rows: pd.DataFrame, methods: Sequence[str]) -> Iterator[Ranking]:
    """The ranking of some methods by each metric of each variant; detection has none.

    Args:
        rows: with the columns `rows.ROW_COLUMNS`.
        methods: without settings.
    """
    ordered = rows[rows["metric"] != DETECTION]
    for (variant, metric, task), cells in ordered.groupby(
        ["variant", "metric", "task"], sort=False
    ):
        places = decimals(cells["mean"], cells["std"])
        table = pd.DataFrame(
            {
                "ours": [float(digits(mean, places) or "nan") for mean in cells["mean"]],
                "std": cells["std"].to_numpy(),
                "paper": cells["paper_mean"].to_numpy(),
                "paper_std": cells["paper_std"].to_numpy(),
            },
            index=cells["strategy"].map(method_of),
        ).reindex(list(methods))
        direction = cells["direction"].iloc[0]
        yield Ranking(str(variant), str(metric), str(task), direction, places, table)


def agreement_of(ranking: Ranking) -> dict[str, Any] | None:
    """The columns `AGREEMENT_COLUMNS`, over the methods that both have; None where it is one."""
    methods = ranking.both
    if len(methods) < 2:
        return None
    ours, theirs = (ranking.ranks(column, methods) for column in ("ours", "paper"))
    best, paper_best = _best(ours), _best(theirs)
    return {
        "variant": ranking.variant,
        "metric": ranking.metric,
        "task": ranking.task,
        "methods": len(methods),
        "tau": float(kendall_tau(ours.to_numpy(), theirs.to_numpy())),
        "order": _order(ours),
        "paper_order": _order(theirs),
        "best": " = ".join(best),
        "paper_best": " = ".join(paper_best),
        "same_best": best == paper_best,
    }


def _best(ranks: pd.Series) -> list[str]:
    return [str(method) for method in ranks.index[ranks == 1]]


def _order(ranks: pd.Series) -> str:
    """Best first, as "ilt > equal = dwa > mtu"."""
    places = (ranks.index[ranks == rank] for rank in sorted(set(ranks)))
    return " > ".join(" = ".join(methods) for methods in places)
