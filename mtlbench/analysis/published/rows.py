"""Our numbers beside the published ones, one row a strategy."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mtlbench.analysis.aggregate import SUMMARY_COLUMNS, Comparison
from mtlbench.errors import UserError

ROW_COLUMNS = [
    *SUMMARY_COLUMNS, "paper_mean", "paper_std", "paper_runs", "paper_table",
    "gap", "paper_gap", "same_sign", "difference", "z",
]  # fmt: skip
"""`gap` and `paper_gap` are what a strategy is better (+) or worse (−) than a baseline (%),
`same_sign` whether the two have one sign. `difference` is ours − the paper's, and `z` the
difference over √(std² + std²). Missing is what a paper does not tell."""


def pair_cells(
    ours: pd.DataFrame,
    theirs: pd.DataFrame,
    *,
    baseline: str,
    comparable: bool,
    order: Callable[[str], Any],
) -> Iterator[dict[str, Any]]:
    """Each strategy of one metric of one task and variant, ours and the paper's.

    Args:
        ours: rows of `Comparison.summary`.
        theirs: rows of a published table: `method`, which is the key of a strategy where we have
            it, `metric`, `unit`, `direction`, `mean` and `text`, the number as it is printed; where
            the paper tells them, `std`, `runs` and `table`, too.
        baseline: the strategy that gaps are relative to.
        comparable: whether the data are the paper's, so that numbers can be compared in size.
        order: the sort key of a strategy, with its settings, or of a method.

    Yields:
        `ROW_COLUMNS` without suite, variant and task, and `paper_text`.
    """
    here = {str(row["strategy"]): row for row in ours.to_dict("records")}
    there = {str(row["method"]): row for row in theirs.to_dict("records")}
    direction = theirs["direction"].iloc[0]
    unit = ours["unit"].iloc[0] if len(ours) else theirs["unit"].iloc[0]
    base = next((row["mean"] for key, row in here.items() if method_of(key) == baseline), math.nan)
    paper_base = there[baseline]["mean"] if baseline in there else math.nan
    known = {method_of(key) for key in here}
    strategies = [*here, *(method for method in there if method not in known)]
    for strategy in sorted(strategies, key=order):
        our = here.get(strategy, {"mean": math.nan, "std": math.nan, "n": 0})
        paper = there.get(method_of(strategy), {})
        mean, paper_mean = float(our["mean"]), float(paper.get("mean", math.nan))
        std, paper_std = float(our["std"]), float(paper.get("std", math.nan))
        gap, paper_gap = _gap(mean, base, direction), _gap(paper_mean, paper_base, direction)
        no_sign = method_of(strategy) == baseline or math.isnan(gap) or math.isnan(paper_gap)
        difference = mean - paper_mean if comparable else math.nan
        spread = math.hypot(std, paper_std)
        yield {
            "strategy": strategy,
            "metric": theirs["metric"].iloc[0],
            "unit": unit,
            "direction": direction,
            "mean": mean,
            "std": std,
            "n": our["n"],
            "paper_mean": paper_mean,
            "paper_std": paper_std,
            "paper_runs": paper.get("runs", pd.NA),
            "paper_table": paper.get("table", pd.NA),
            "gap": gap,
            "paper_gap": paper_gap,
            "same_sign": pd.NA if no_sign else np.sign(gap) == np.sign(paper_gap),
            "difference": difference,
            "z": difference / spread if spread else math.nan,
            "paper_text": paper.get("text", ""),
        }


def _gap(value: float, base: float, direction: str) -> float:
    """How much better (+) than the baseline a value is (%)."""
    better = value - base if direction == "max" else base - value
    return 100 * better / abs(base) if base else math.nan


def as_rows(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A frame with the columns `ROW_COLUMNS` and `paper_text`."""
    frame = pd.DataFrame(list(records), columns=[*ROW_COLUMNS, "paper_text"])
    kinds: Any = {"n": int, "paper_runs": "Int64", "paper_table": "Int64", "same_sign": "boolean"}
    return frame.astype(kinds)


def method_of(strategy: str) -> str:
    """The strategy without its settings: `ilt` of `ilt[ilt.lr=4.0]`."""
    return strategy.partition("[")[0]


def with_one_setting(
    comparison: Comparison, variants: Iterable[str]
) -> tuple[Comparison, list[str]]:
    """The comparison with those runs of each method that stand beside the paper's numbers: of
    several settings the one with default parameters. And the settings that are left out.

    Raises:
        UserError: a strategy has several settings in one of these variants, and none is that one.
    """
    others: dict[str, None] = {}
    for variant in variants:
        summary = comparison.summary[comparison.summary["variant"] == variant]
        configurations = pd.Series(summary["strategy"].unique())
        for method, same in configurations.groupby(configurations.map(method_of)):
            if len(same) > 1 and method not in set(same):
                raise UserError(
                    f"{variant}: there are several settings of strategy {method!r}; "
                    f"choose by --strategies from {', '.join(map(repr, same))}"
                )
            if len(same) > 1:
                others |= dict.fromkeys(same[same != method])
    if not others:
        return comparison, []
    kept = replace(
        comparison,
        summary=comparison.summary[~comparison.summary["strategy"].isin(list(others))],
        runs=comparison.runs[~comparison.runs["configuration"].isin(list(others))],
        labels={name: text for name, text in comparison.labels.items() if name not in others},
    )
    return kept, [f"other settings, to be chosen by --strategies: {', '.join(others)}"]
