"""Our numbers beside the published ones, one row a strategy."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mtlbench.analysis.aggregate import DETECTION, SUMMARY_COLUMNS, Comparison
from mtlbench.analysis.paper.tables import corrupted_tasks, method_of
from mtlbench.analysis.selection import paper_order

TASK_OF = {
    "surface_error": "vertices",
    "mpjpe": "vertices",
    "pixel_accuracy": "segmentation",
    "miou": "segmentation",
    "abs_err": "depth",
}
"""Published metric to our task; detection belongs to the task that is corrupted."""

ROW_COLUMNS = [
    *SUMMARY_COLUMNS, "paper_mean", "paper_std", "paper_runs", "paper_table",
    "gap", "paper_gap", "same_sign", "difference", "z",
]  # fmt: skip


def pair_rows(
    comparison: Comparison, table: pd.DataFrame, variants: Mapping[str, str], *, comparable: bool
) -> pd.DataFrame:
    """Each strategy of each metric of each variant, ours and the paper's.

    Args:
        comparison: our numbers.
        table: the published ones of one dataset.
        variants: our variants to the published ones.
        comparable: whether the data are the paper's.

    Returns:
        A frame with the columns `ROW_COLUMNS` and `paper_text`.
    """
    records: list[dict[str, Any]] = []
    for variant, name in variants.items():
        ours = comparison.summary[comparison.summary["variant"] == variant]
        for metric, theirs in table[table["variant"] == name].groupby("metric", sort=False):
            tasks = corrupted_tasks(variant) if metric == DETECTION else [TASK_OF[str(metric)]]
            for task in tasks:
                if (str(metric), task) in comparison.metric_labels:
                    cells = ours[(ours["metric"] == metric) & (ours["task"] == task)]
                    records += [
                        {"suite": comparison.suite, "variant": variant, "task": task, **record}
                        for record in _cell_rows(cells, theirs, comparable=comparable)
                    ]
    frame = pd.DataFrame(records, columns=[*ROW_COLUMNS, "paper_text"])
    return frame.astype({"n": int, "paper_runs": "Int64", "paper_table": "Int64"}).astype(
        {"same_sign": "boolean"}
    )


def _cell_rows(
    ours: pd.DataFrame, theirs: pd.DataFrame, *, comparable: bool
) -> Iterator[dict[str, Any]]:
    """One row a strategy, of one metric of one variant."""
    here = {str(row["strategy"]): row for row in ours.to_dict("records")}
    there = {str(row["method"]): row for row in theirs.to_dict("records")}
    direction = theirs["direction"].iloc[0]
    unit = ours["unit"].iloc[0] if len(ours) else theirs["unit"].iloc[0]
    base = next((row["mean"] for key, row in here.items() if method_of(key) == "equal"), math.nan)
    paper_base = there["equal"]["mean"] if "equal" in there else math.nan
    known = {method_of(key) for key in here}
    strategies = [*here, *(method for method in there if method not in known)]
    for strategy in sorted(strategies, key=_cited_last):
        our = here.get(strategy, {"mean": math.nan, "std": math.nan, "n": 0})
        paper = there.get(method_of(strategy), {})
        mean, paper_mean = float(our["mean"]), float(paper.get("mean", math.nan))
        std, paper_std = float(our["std"]), float(paper.get("std", math.nan))
        gap, paper_gap = _gap(mean, base, direction), _gap(paper_mean, paper_base, direction)
        no_sign = method_of(strategy) == "equal" or math.isnan(gap) or math.isnan(paper_gap)
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


def _cited_last(strategy: str) -> tuple[bool, tuple[int, str]]:
    return strategy.endswith("*"), paper_order(method_of(strategy))


def _gap(value: float, equal: float, direction: str) -> float:
    """How much better (+) than equal weights a value is (%)."""
    better = value - equal if direction == "max" else equal - value
    return 100 * better / abs(equal) if equal else math.nan
