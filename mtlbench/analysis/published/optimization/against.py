"""A comparison of our runs, put beside the tables of a paper."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mtlbench.analysis import statistics
from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.printing import digits
from mtlbench.analysis.published.against import Against
from mtlbench.analysis.published.agreement import (
    AGREEMENT_COLUMNS,
    agreement_of,
    rank_methods,
)
from mtlbench.analysis.published.optimization.protocol import Point, protocol
from mtlbench.analysis.published.optimization.tables import (
    DELTA_M,
    EQUAL,
    RUNS,
    SINGLE,
    published,
    table_of,
)
from mtlbench.analysis.published.papers import Paper
from mtlbench.analysis.published.rows import as_rows, method_of, pair_cells, with_one_setting
from mtlbench.analysis.selection import is_apart, paper_order
from mtlbench.data.variants import CLEAN
from mtlbench.errors import UserError
from mtlbench.store.runs import read_run
from mtlbench.store.schema import DONE

AGAINST_COLUMNS = [*AGREEMENT_COLUMNS, "tau_low", "tau_high", "p_value"]

WITHOUT_TASKS = {"celeba": ("famo", "fairgrad")}
"""Suite to the papers that print of it only what comes of all tasks: MR and Δm."""


@dataclass(frozen=True, kw_only=True)
class AgainstTables(Against):
    """A comparison beside the tables of a paper.

    `rows` are of clean labels. Its last ones have the metric `DELTA_M` and no task: the mean drop
    relative to the baseline over the other metrics of `rows` (%), negative is better, and 0 of the
    baseline itself. `agreement` has the columns `AGAINST_COLUMNS` and is without strategies that
    stand apart: `tau_low` and `tau_high` are from `statistics.tau_interval`, NaN unless all of its
    methods have the same seeds, two or more; `p_value` is `statistics.order_probability`.

    Attributes:
        paper: which.
        baseline: the strategy that gaps and Δm are relative to: single-task networks where we have
            all their metrics, else equal weights; "" where we have neither.
        printed: whether the paper's Δm are those that it prints, and not worked out from the
            metrics that it prints.
        protocol: how both trained.
    """

    paper: Paper
    baseline: str
    printed: bool
    protocol: list[Point]


def require_suite(paper: Paper, suite: str, variants: Sequence[str] | None = None) -> None:
    """Makes sure that a paper has a table of a suite, and of variants where these are named.

    Raises:
        UserError: it has none.
    """
    there = ", ".join(map(repr, dict.fromkeys(published()["dataset"])))
    if paper.name in WITHOUT_TASKS.get(suite, ()):
        raise UserError(
            f"{paper.label} prints no number of a task of {suite!r}, only MR and Δm; it has "
            f"tables of {there}"
        )
    if suite not in set(published()["dataset"]):
        raise UserError(f"{paper.label} has no table of {suite!r}; it has some of {there}")
    corrupted = [variant for variant in variants or () if variant != CLEAN]
    if corrupted:
        raise UserError(
            f"{paper.label} has numbers of {CLEAN!r} labels alone, and none of "
            + ", ".join(map(repr, corrupted))
        )


def against_tables(comparison: Comparison, paper: Paper) -> AgainstTables:
    """Puts the numbers of a paper beside those of a comparison on clean labels.

    Args:
        comparison: our numbers.
        paper: which.

    Raises:
        UserError: the paper has no table of the suite; the comparison has no clean labels, or no
            metric of the paper; or a strategy has runs with several settings there, so that it
            would be unclear which are meant.
    """
    suite = comparison.suite
    require_suite(paper, suite)
    if CLEAN not in comparison.variants:
        require_suite(paper, suite, comparison.variants)
    comparison, left_out = with_one_setting(comparison, [CLEAN])
    table = table_of(paper, suite)
    ours = comparison.summary[comparison.summary["variant"] == CLEAN]
    cells = {
        (str(task), str(metric)): theirs
        for (task, metric), theirs in table[table["metric"] != DELTA_M].groupby(
            ["task", "metric"], sort=False
        )
    }
    shown = {
        cell: theirs for cell, theirs in cells.items() if cell[::-1] in comparison.metric_labels
    }
    if not shown:
        raise UserError(
            f"no run of suite {suite!r} has a metric that the paper has: "
            + ", ".join(map(repr, dict.fromkeys(metric for _, metric in cells)))
        )
    baseline = _baseline(ours, list(shown))
    rows = as_rows(
        {"suite": suite, "variant": CLEAN, **record}
        for record in _pair(ours, shown, table, baseline)
    )
    printed = baseline == SINGLE and shown.keys() == cells.keys()
    if baseline:
        in_print = table[table["metric"] == DELTA_M] if printed else table.iloc[:0]
        deltas = as_rows(_delta_rows(rows, in_print))
        rows = pd.concat([rows, deltas], ignore_index=True)
    names = dict(zip(table["method"], table["name"], strict=True))
    done = comparison.runs[
        (comparison.runs["variant"] == CLEAN) & (comparison.runs["status"] == DONE)
    ]
    others = [variant for variant in comparison.variants if variant != CLEAN]
    return AgainstTables(
        suite=suite,
        dataset=suite,
        rows=rows,
        agreement=_measure_agreement(rows, done, baseline),
        labels={key: _label(key, comparison.labels, names) for key in rows["strategy"]},
        metric_labels=comparison.metric_labels | {(DELTA_M, ""): "Δm"},
        remarks={CLEAN: comparison.remarks[CLEAN]},
        left_out=left_out + ([f"not in the paper: {', '.join(others)}"] if others else []),
        paper=paper,
        baseline=baseline,
        printed=printed,
        protocol=protocol(suite, _parameters(done)),
    )


def _baseline(ours: pd.DataFrame, cells: Sequence[tuple[str, str]]) -> str:
    """The first that has a mean of every metric; "" where neither has."""
    known = ours.dropna(subset="mean")
    for name in (SINGLE, EQUAL):
        own = known[known["strategy"].map(method_of) == name]
        if set(cells) <= set(zip(own["task"], own["metric"], strict=True)):
            return name
    return ""


def _label(strategy: str, labels: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Ours, and that of the paper where it is another."""
    name = names.get(method_of(strategy), "")
    own = labels.get(strategy, name)
    return own if not name or own == name or own.startswith(f"{name} ") else f"{own} ({name})"


def _parameters(runs: pd.DataFrame) -> Iterator[Mapping[str, Any]]:
    """The suite's parameters in each run that has a record."""
    for path in dict.fromkeys(runs["path"]):
        if path:
            yield read_run(Path(path)).info["spec"]["suite_parameters"]


# --- rows ---------------------------------------------------------------------------------------


def _pair(
    ours: pd.DataFrame,
    shown: Mapping[tuple[str, str], pd.DataFrame],
    table: pd.DataFrame,
    baseline: str,
) -> Iterator[dict[str, Any]]:
    """Each strategy of each metric, the paper's in its order, those that only we have last."""
    places = {method: place for place, method in enumerate(dict.fromkeys(table["method"]))}

    def order(strategy: str) -> tuple[int, tuple[int, str]]:
        method = method_of(strategy)
        return places.get(method, len(places)), paper_order(method)

    for (task, metric), theirs in shown.items():
        cells = ours[(ours["task"] == task) & (ours["metric"] == metric)]
        for record in pair_cells(cells, theirs, baseline=baseline, comparable=True, order=order):
            yield {"task": task, **record}


def _delta_rows(rows: pd.DataFrame, in_print: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The Δm of each strategy that has all metrics, by its gaps."""
    known = {row["method"]: row for row in in_print.to_dict("records")}
    for strategy, cells in rows.groupby("strategy", sort=False):
        mean = -cells["gap"].mean(skipna=False)
        paper_mean = -cells["paper_gap"].mean(skipna=False)
        paper_text = digits(paper_mean, 2)
        if printed := known.get(method_of(str(strategy))):
            paper_mean, paper_text = printed["mean"], printed["text"]
        yield {
            "suite": cells["suite"].iloc[0],
            "variant": CLEAN,
            "strategy": strategy,
            "metric": DELTA_M,
            "task": "",
            "unit": "%",
            "direction": "min",
            "mean": mean,
            "n": cells["n"].min(),
            "paper_mean": paper_mean,
            "paper_runs": pd.NA if math.isnan(paper_mean) else RUNS,
            "difference": mean - paper_mean,
            "paper_text": paper_text,
        }


# --- agreement ----------------------------------------------------------------------------------


def _measure_agreement(rows: pd.DataFrame, done: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """One row per ranking of two methods or more, with the columns `AGAINST_COLUMNS`."""
    own = {method_of(key): key for key in rows.loc[rows["n"] > 0, "strategy"]}
    methods = dict.fromkeys(map(method_of, rows["strategy"]))
    values = _scores(rows, done, own.get(baseline, ""))
    found = []
    for ranking in rank_methods(rows, [method for method in methods if not is_apart(method)]):
        agreement = agreement_of(ranking)
        if agreement is None:
            continue
        here, there = (
            ranking.table.loc[ranking.both, side].to_numpy() for side in ("ours", "paper")
        )
        by_seed = values[ranking.task, ranking.metric].loc[[own[method] for method in ranking.both]]
        by_seed = by_seed.dropna(axis=1, how="all")
        low, high = math.nan, math.nan
        if by_seed.shape[1] > 1 and by_seed.notna().all(axis=None):
            low, high = statistics.tau_interval(by_seed.to_numpy(), there, ranking.places)
        p_value = statistics.order_probability(here, there)
        found.append(agreement | {"tau_low": low, "tau_high": high, "p_value": p_value})
    return pd.DataFrame(found, columns=AGAINST_COLUMNS)


def _scores(
    rows: pd.DataFrame, done: pd.DataFrame, base: str
) -> dict[tuple[str, str], pd.DataFrame]:
    """What each run has in each metric of `rows`, and its Δm.

    Args:
        rows: of which only the metrics count.
        done: runs that are done.
        base: the configuration that Δm is relative to, to its means over seeds; "" for no Δm.

    Returns:
        By task and metric a frame with a row a configuration and a column a seed; NaN where there
        is no run.
    """
    measured = done.dropna(subset="metric")
    found, drops = {}, []
    metrics = rows[rows["metric"] != DELTA_M].drop_duplicates(["task", "metric"])
    for task, metric, direction in zip(
        metrics["task"], metrics["metric"], metrics["direction"], strict=True
    ):
        cells = measured[(measured["task"] == task) & (measured["metric"] == metric)]
        scores = cells.groupby(["configuration", "seed"])["value"].mean().unstack("seed")
        found[str(task), str(metric)] = scores
        if base:
            held = float(scores.loc[base].mean())
            drops.append((1 if direction == "min" else -1) * (scores - held) / abs(held))
    if drops:
        total = drops[0]
        for drop in drops[1:]:
            total = total + drop
        found["", DELTA_M] = 100 * total / len(drops)
    return found
