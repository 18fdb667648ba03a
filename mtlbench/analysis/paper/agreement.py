"""The order of the methods, ours and the paper's."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mtlbench.analysis.aggregate import DETECTION
from mtlbench.analysis.paper.tables import LABELS, method_of
from mtlbench.analysis.printing import decimals, digits

AGREEMENT_COLUMNS = [
    "variant", "metric", "task", "methods", "tau", "order", "paper_order", "best", "paper_best",
    "same_best", "ilt_rank", "paper_ilt_rank", "ilt_lowest_std", "paper_ilt_lowest_std",
]  # fmt: skip


@dataclass(frozen=True)
class Ranking:
    """One metric of one variant, over the five methods that the paper ran.

    Attributes:
        variant, metric, task, direction: which.
        table: columns `ours`, `std`, `paper`, `paper_std` by method; NaN where there is none. Our
            means are rounded as they print, like the paper's.
    """

    variant: str
    metric: str
    task: str
    direction: str
    table: pd.DataFrame

    def ranks(self, column: str, methods: Iterable[str] | None = None) -> pd.Series:
        """Dense ranks from 1, the best, among some methods or all."""
        values = self.table[column] if methods is None else self.table.loc[list(methods), column]
        return values.dropna().rank(method="dense", ascending=self.direction == "min").astype(int)

    @property
    def both(self) -> list[str]:
        """The methods with a mean on both sides."""
        return list(self.table.dropna(subset=["ours", "paper"]).index)


def rank_methods(rows: pd.DataFrame) -> Iterator[Ranking]:
    """The ranking by each metric of each variant; detection has none."""
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
        )
        direction = cells["direction"].iloc[0]
        yield Ranking(str(variant), str(metric), str(task), direction, table.reindex(list(LABELS)))


def measure_agreement(rankings: Iterable[Ranking]) -> pd.DataFrame:
    """One row per ranking of two methods or more, with the columns `AGREEMENT_COLUMNS`."""
    records = []
    for ranking in rankings:
        methods = ranking.both
        if len(methods) < 2:
            continue
        ours, theirs = (ranking.ranks(column, methods) for column in ("ours", "paper"))
        best, paper_best = _best(ours), _best(theirs)
        records.append(
            {
                "variant": ranking.variant,
                "metric": ranking.metric,
                "task": ranking.task,
                "methods": len(methods),
                "tau": kendall_tau(ours, theirs),
                "order": _order(ours),
                "paper_order": _order(theirs),
                "best": " = ".join(best),
                "paper_best": " = ".join(paper_best),
                "same_best": best == paper_best,
                "ilt_rank": ours.get("ilt"),
                "paper_ilt_rank": theirs.get("ilt"),
                "ilt_lowest_std": _lowest(ranking.table.loc[methods, "std"]),
                "paper_ilt_lowest_std": _lowest(ranking.table.loc[methods, "paper_std"]),
            }
        )
    kinds: Any = dict.fromkeys(("ilt_rank", "paper_ilt_rank"), "Int64")
    kinds |= dict.fromkeys(("ilt_lowest_std", "paper_ilt_lowest_std"), "boolean")
    return pd.DataFrame(records, columns=AGREEMENT_COLUMNS).astype(kinds)


def kendall_tau(ours: pd.Series, theirs: pd.Series) -> float:
    """Kendall's τ-b; NaN where one side has nothing but ties."""
    from scipy.stats import kendalltau  # takes a second

    return float(kendalltau(ours, theirs).statistic)


def _best(ranks: pd.Series) -> list[str]:
    return [str(method) for method in ranks.index[ranks == 1]]


def _order(ranks: pd.Series) -> str:
    """Best first, as "ilt > equal = dwa > mtu"."""
    places = (ranks.index[ranks == rank] for rank in sorted(set(ranks)))
    return " > ".join(" = ".join(methods) for methods in places)


def _lowest(stds: pd.Series) -> Any:
    """Whether ILT's standard deviation is the lowest; missing where it, or all others, are."""
    stds = stds.dropna()
    return pd.NA if "ilt" not in stds or len(stds) < 2 else bool(stds["ilt"] == stds.min())
