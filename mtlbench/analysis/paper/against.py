"""A comparison of our runs, put beside the paper."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.paper.agreement import measure_agreement, rank_methods
from mtlbench.analysis.paper.claims import Claim, judge_claims
from mtlbench.analysis.paper.rows import pair_rows
from mtlbench.analysis.paper.tables import LABELS, method_of, published, variant_key
from mtlbench.errors import UserError

DATASETS = {
    "surreal": "surreal",
    "bodies": "surreal",
    "cityscapes": "cityscapes",
    "streets": "cityscapes",
}
"""Suite to the dataset of the paper that it is, or stands in for."""


@dataclass(frozen=True)
class Against:
    """A comparison beside the published numbers.

    Attributes:
        suite: the suite's name.
        dataset: the dataset of the paper.
        rows: one row per (variant, metric, task, strategy) with the columns `ROW_COLUMNS` and
            `paper_text`, the published number as it is printed. `gap` and `paper_gap` are what a
            strategy is better (+) or worse (−) than equal weights (%), `same_sign` whether the
            two gaps have one sign. `difference` (ours − the paper's) and `z`, the difference over
            √(std² + std²), are given only where the data are the paper's.
        agreement: one row per (variant, metric, task), with the columns `AGREEMENT_COLUMNS`, over
            the methods that both have. Ranks are dense: means that print the same share one.
        claims: the paper's five claims.
        labels: what printed tables call each strategy of `rows`.
        metric_labels: what printed tables call each (metric, task).
        remarks: for each variant of `rows`, sentences about runs that are missing.
        left_out: sentences about variants that only one side has.
    """

    suite: str
    dataset: str
    rows: pd.DataFrame
    agreement: pd.DataFrame
    claims: list[Claim]
    labels: dict[str, str]
    metric_labels: dict[tuple[str, str], str]
    remarks: dict[str, list[str]]
    left_out: list[str]

    @property
    def stands_in(self) -> bool:
        return self.suite != self.dataset


def against_paper(comparison: Comparison) -> Against:
    """Puts the published numbers beside a comparison.

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
    if suite not in DATASETS:
        raise UserError(
            f"the paper has no numbers for suite {suite!r}; it has some for "
            + ", ".join(map(repr, DATASETS))
        )
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
    _require_one_setting(comparison, variants)

    rows = pair_rows(comparison, table, variants, comparable=suite == dataset)
    if rows.empty:
        raise UserError(
            f"no run of suite {suite!r} has a metric that the paper has: "
            + ", ".join(map(repr, table["metric"].unique()))
        )
    rankings = list(rank_methods(rows))
    left_out = []
    extra = [name for name in comparison.variants if name not in variants]
    missing = [name for name in names.values() if name not in variants.values()]
    if extra:
        left_out.append(f"not in the paper: {', '.join(extra)}")
    if missing:
        left_out.append(f"in the paper, but not compared here: {', '.join(missing)}")
    return Against(
        suite=suite,
        dataset=dataset,
        rows=rows,
        agreement=measure_agreement(rankings),
        claims=judge_claims(rankings, comparison, table, variants),
        labels={name: name for name in rows["strategy"]} | LABELS | comparison.labels,
        metric_labels=comparison.metric_labels,
        remarks={name: comparison.remarks[name] for name in variants},
        left_out=left_out,
    )


def _require_one_setting(comparison: Comparison, variants: Iterable[str]) -> None:
    for variant in variants:
        summary = comparison.summary[comparison.summary["variant"] == variant]
        configurations = pd.Series(summary["strategy"].unique())
        for method, same in configurations.groupby(configurations.map(method_of)):
            if len(same) > 1:
                raise UserError(
                    f"{variant}: there are several settings of strategy {method!r}; "
                    f"choose by --strategies from {', '.join(map(repr, same))}"
                )
