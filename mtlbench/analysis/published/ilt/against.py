"""A comparison of our runs, put beside the paper."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.published.against import Against
from mtlbench.analysis.published.agreement import (
    AGREEMENT_COLUMNS,
    Ranking,
    agreement_of,
    rank_methods,
)
from mtlbench.analysis.published.ilt.claims import Claim, judge_claims
from mtlbench.analysis.published.ilt.tables import (
    LABELS,
    corrupted_tasks,
    published,
    variant_key,
)
from mtlbench.analysis.published.rows import as_rows, method_of, pair_cells, with_one_setting
from mtlbench.analysis.selection import paper_order
from mtlbench.errors import UserError
from mtlbench.tasks.detection import DETECTION

DATASETS = {
    "surreal": "surreal",
    "bodies": "surreal",
    "cityscapes": "cityscapes",
    "streets": "cityscapes",
}
"""Suite to the dataset of the paper that it is, or stands in for."""

TASK_OF = {
    "surface_error": "vertices",
    "mpjpe": "vertices",
    "pixel_accuracy": "segmentation",
    "miou": "segmentation",
    "abs_err": "depth",
}
"""Published metric to our task; detection belongs to the task that is corrupted."""

BASELINE = "equal"

ILT_COLUMNS = [
    *AGREEMENT_COLUMNS, "ilt_rank", "paper_ilt_rank", "ilt_lowest_std", "paper_ilt_lowest_std",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AgainstILT(Against):
    """A comparison beside the paper.

    Gaps are relative to equal weights; `difference` and `z` are given only where the data are the
    paper's. `agreement` has the columns `ILT_COLUMNS`.

    Attributes:
        claims: the paper's five claims.
    """

    claims: list[Claim]

    @property
    def stands_in(self) -> bool:
        return self.suite != self.dataset


def require_suite(suite: str) -> None:
    """Makes sure that the paper has a table of a suite.

    Raises:
        UserError: it has none.
    """
    if suite not in DATASETS:
        raise UserError(
            f"the paper has no numbers for suite {suite!r}; it has some for "
            + ", ".join(map(repr, DATASETS))
        )


def against_ilt(comparison: Comparison) -> AgainstILT:
    """Puts the paper's numbers beside a comparison.

    A variant is compared with the published one that corrupts the same tasks, whatever their
    order, at the same fraction by the default kind. Published detection of tasks that are
    corrupted together is one number, and stands beside that of each of them.

    Args:
        comparison: our numbers; histories and timings are read from its runs.

    Raises:
        UserError: nothing is published about the suite or any of the variants, or a strategy has
            runs with several settings, so that it would be unclear which are meant.
    """
    suite = comparison.suite
    require_suite(suite)
    dataset = DATASETS[suite]
    table = published()
    table = table[table["dataset"] == dataset]
    names = {variant_key(name): name for name in table["variant"].unique()}
    variants = {
        variant: names[variant_key(variant)]
        for variant in comparison.variants
        if variant_key(variant) in names
    }
    if not variants:
        raise UserError(
            f"the paper has no numbers for {', '.join(map(repr, comparison.variants))}; it has "
            f"some for {', '.join(map(repr, names.values()))}"
        )
    comparison, left_out = with_one_setting(comparison, variants)

    rows = as_rows(_pair(comparison, table, variants, comparable=suite == dataset))
    if rows.empty:
        raise UserError(
            f"no run of suite {suite!r} has a metric that the paper has: "
            + ", ".join(map(repr, table["metric"].unique()))
        )
    rankings = list(rank_methods(rows, list(LABELS)))
    extra = [name for name in comparison.variants if name not in variants]
    missing = [name for name in names.values() if name not in variants.values()]
    if extra:
        left_out.append(f"not in the paper: {', '.join(extra)}")
    if missing:
        left_out.append(f"in the paper, but not compared here: {', '.join(missing)}")
    return AgainstILT(
        suite=suite,
        dataset=dataset,
        rows=rows,
        agreement=_measure_agreement(rankings),
        claims=judge_claims(rankings, comparison, table, variants),
        labels={name: name for name in rows["strategy"]} | LABELS | comparison.labels,
        metric_labels=comparison.metric_labels,
        remarks={name: comparison.remarks[name] for name in variants},
        left_out=left_out,
    )


def _pair(
    comparison: Comparison, table: pd.DataFrame, variants: Mapping[str, str], *, comparable: bool
) -> Iterator[dict[str, Any]]:
    """Each strategy of each metric of each variant, ours and the paper's."""
    for variant, name in variants.items():
        ours = comparison.summary[comparison.summary["variant"] == variant]
        for metric, theirs in table[table["variant"] == name].groupby("metric", sort=False):
            tasks = corrupted_tasks(variant) if metric == DETECTION else [TASK_OF[str(metric)]]
            for task in tasks:
                if (str(metric), task) in comparison.metric_labels:
                    cells = ours[(ours["metric"] == metric) & (ours["task"] == task)]
                    for record in pair_cells(
                        cells, theirs, baseline=BASELINE, comparable=comparable, order=_cited_last
                    ):
                        yield {
                            "suite": comparison.suite,
                            "variant": variant,
                            "task": task,
                            **record,
                        }


def _cited_last(strategy: str) -> tuple[bool, tuple[int, str]]:
    return strategy.endswith("*"), paper_order(method_of(strategy))


def _measure_agreement(rankings: Iterable[Ranking]) -> pd.DataFrame:
    """One row per ranking of two methods or more, with the columns `ILT_COLUMNS`."""
    records = []
    for ranking in rankings:
        found = agreement_of(ranking)
        if found is not None:
            methods = ranking.both
            ours, theirs = (ranking.ranks(column, methods) for column in ("ours", "paper"))
            found |= {
                "ilt_rank": ours.get("ilt"),
                "paper_ilt_rank": theirs.get("ilt"),
                "ilt_lowest_std": _lowest(ranking.table.loc[methods, "std"]),
                "paper_ilt_lowest_std": _lowest(ranking.table.loc[methods, "paper_std"]),
            }
            records.append(found)
    kinds: Any = dict.fromkeys(("ilt_rank", "paper_ilt_rank"), "Int64")
    kinds |= dict.fromkeys(("ilt_lowest_std", "paper_ilt_lowest_std"), "boolean")
    return pd.DataFrame(records, columns=ILT_COLUMNS).astype(kinds)


def _lowest(stds: pd.Series) -> Any:
    """Whether ILT's standard deviation is the lowest; missing where it, or all others, are."""
    stds = stds.dropna()
    return pd.NA if "ilt" not in stds or len(stds) < 2 else bool(stds["ilt"] == stds.min())
