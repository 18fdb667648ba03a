"""The charts of a suite: means by metric, metrics by level of corruption, curves over epochs."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.budget import SPREAD, budgets
from mtlbench.analysis.figures.many import VALIDATION, Curve, alone, curves
from mtlbench.analysis.levels import corrupted_labels, corruptions, levels, metrics
from mtlbench.analysis.many_tasks import MOST_COLUMNS
from mtlbench.analysis.printing import heading, rounded_cells
from mtlbench.analysis.report.charts import (
    CurveChart,
    Dot,
    DotChart,
    Series,
    curve_chart,
    dot_chart,
)
from mtlbench.analysis.selection import is_apart
from mtlbench.errors import UserError
from mtlbench.store.runs import HISTORY_FILE, INSTANCE_FILE, read_run
from mtlbench.tasks.detection import DETECTION

GREY = "sx"
"""The style of strategies without a colour of their own."""

CORRUPTED, CLEAN = "s4", "s6"
"""Styles of labels, as in the figures of the paper: vermilion and blue."""

MAX_RUNS = 5
"""Of a strategy that go into its curves over epochs: reading one takes most of a millisecond."""

MAX_SIGMA = 3
"""Strategies whose σ is shown, a variant."""

Columns = dict[str, np.ndarray]
Histories = dict[str, list[Columns]]
"""Configuration to the history of each of its runs."""


# --- means --------------------------------------------------------------------------------------


def dot_charts(comparison: Comparison, variant: str, css: Mapping[str, str]) -> list[DotChart]:
    """One chart a metric of a variant."""
    summary = comparison.summary[comparison.summary["variant"] == variant]
    charts = []
    for (metric, task), rows in summary.groupby(["metric", "task"], sort=False):
        unit, direction = str(rows["unit"].iloc[0]), str(rows["direction"].iloc[0])
        compared = [not is_apart(strategy) for strategy in rows["strategy"]]
        cells = rounded_cells(rows["mean"], rows["std"], direction, compared=compared)
        dots = []
        for row, cell in zip(rows.to_dict("records"), cells, strict=True):
            label = comparison.labels[row["strategy"]]
            runs = "1 run" if row["n"] == 1 else f"{row['n']} runs"
            tip = f"{label}: {f'{cell.text} {unit}'.strip()} ({runs})"
            dots.append(Dot(label, css[row["strategy"]], row["mean"], row["std"], tip))
        title = _title(comparison, str(metric), str(task), unit, direction)
        charts.append(dot_chart(title, direction, dots))
    return [chart for chart in charts if chart is not None]


def _title(comparison: Comparison, metric: str, task: str, unit: str, direction: str) -> str:
    return f"{task} {heading(comparison.metric_labels[metric, task], unit, direction)}"


# --- levels of corruption -----------------------------------------------------------------------


def level_charts(comparison: Comparison, css: Mapping[str, str]) -> list[CurveChart]:
    """One chart a corruption and metric, where there are levels of it."""
    charts = []
    for corruption in corruptions(comparison):
        rows = levels(comparison, corruption)
        shares = sorted(set(rows["level"]))
        for metric, task in metrics(rows):
            cells = rows[(rows["metric"] == metric) & (rows["task"] == task)]
            unit, direction = str(cells["unit"].iloc[0]), str(cells["direction"].iloc[0])
            series = []
            for key, values in cells.groupby("strategy", sort=False):
                values = values.set_index("level").reindex(shares)
                mean, std = values["mean"].to_numpy(), values["std"].to_numpy()
                if np.isfinite(mean).sum() > 1:
                    label, style = comparison.labels[str(key)], css[str(key)]
                    series.append(_series(label, style, mean, mean - std, mean + std))
            chart = curve_chart(
                _title(comparison, metric, task, unit, direction),
                f"corrupted {corrupted_labels(corruption)} (%)",
                np.array(shares),
                _grey_first(series),
                band="mean ± std over runs",
                gaps=False,
            )
            charts += [chart] if chart else []
    return charts


def _series(label: str, css: str, mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> Series:
    """Bands of many strategies would hide one another: only coloured ones have them."""
    banded = css != GREY and bool((high > low).any())
    return Series(label, css, mean, low if banded else None, high if banded else None)


def _grey_first(series: Iterable[Series]) -> list[Series]:
    """So that coloured curves lie above the others."""
    return sorted(series, key=lambda one: one.css != GREY)


# --- budgets of trials --------------------------------------------------------------------------


def budget_charts(comparison: Comparison, variant: str, css: Mapping[str, str]) -> list[CurveChart]:
    """The expected best of n trials of the strategies of a variant that were tuned."""
    rows = budgets(comparison)
    rows = rows[rows["variant"] == variant]
    if rows.empty:
        return []
    trials = np.arange(1, rows["trials"].max() + 1)
    series = []
    for key, curve in rows.groupby("strategy", sort=False):
        columns = curve.set_index("trials")[["expected", "low", "high"]].reindex(trials)
        series.append(_series(comparison.labels[str(key)], css[str(key)], *columns.to_numpy().T))
    low, high = (f"{100 * share:g}" for share in SPREAD)
    chart = curve_chart(
        "best of n trials: Δm (%) ↑, validation",
        "trials",
        trials,
        _grey_first(series),
        band=f"{low} to {high} % of the ways to draw the trials",
        log=False,
    )
    return [chart] if chart else []


# --- epochs -------------------------------------------------------------------------------------


def epoch_charts(
    comparison: Comparison,
    done: pd.DataFrame,
    corrupted: Mapping[str, float],
    css: Mapping[str, str],
) -> tuple[list[CurveChart], list[CurveChart]]:
    """The curves of a variant: validation metrics, corrupted labels found, weights of tasks, σ.

    Args:
        comparison: of the variant's suite.
        done: one row a run of the variant that is done.
        corrupted: task to the share of its training labels that is corrupted.
        css: the style of each configuration.

    Returns:
        Those to be seen, and those of every single task where they are too many for that.
    """
    histories = _histories(done)
    names = dict.fromkeys(name for several in histories.values() for name in several[0])
    about = comparison.summary.drop_duplicates(["metric", "task"])
    units = {
        f"{VALIDATION}{row['task']}/{row['metric']}": (
            row["metric"], row["task"], row["unit"], row["direction"],
        )
        for row in about.to_dict("records")
    }  # fmt: skip
    kinds = {}
    for name in names:
        if name.startswith(VALIDATION):
            metric, _, *unit = units.get(name, (name, ""))
            kinds[name] = (metric, *unit)

    def validation(curve: Curve) -> CurveChart | None:
        known = curve.column.partition("/")[2]
        if curve.column in units:
            metric, task, unit, direction = units[curve.column]
            label = heading(comparison.metric_labels[metric, task], unit, direction)
            known = f"{curve.task} {label}"
        return _curves(f"{known}, validation", curve.columns, histories, comparison, css)

    chosen = curves(kinds, corrupted)
    charts = [validation(curve) for curve in chosen]
    each = [] if len(chosen) == len(kinds) else [validation(alone(name)) for name in kinds]
    for name in (n for n in names if n.startswith(f"{DETECTION}/")):
        task = name.partition("/")[2]
        # Tasks that are corrupted together have one share.
        shares = {corrupted[part] for part in task.split("+") if part in corrupted}
        lines = [(100 * share, "chance") for share in shares]
        title = f"{task}: corrupted labels found (%) ↑"
        charts.append(_curves(title, [name], histories, comparison, css, lines))
    weights = []
    for name in (n for n in names if n.startswith("weight/")):
        varying = {
            key: several
            for key, several in histories.items()
            if any(name in one and np.ptp(one[name]) > 0 for one in several)
        }
        if varying:
            title = f"{name.partition('/')[2]}: weight of the task"
            weights.append(_curves(title, [name], varying, comparison, css))
    (each if len(weights) > MOST_COLUMNS else charts).extend(weights)
    shown, of_each = ([chart for chart in some if chart] for some in (charts, each))
    return shown + sigma_charts(comparison, done), of_each


def _histories(done: pd.DataFrame) -> Histories:
    """The histories of the first runs, by configuration; those without an epoch are left out."""
    done = done[done.groupby("configuration", sort=False).cumcount() < MAX_RUNS]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        read = list(pool.map(_history, done["path"]))
    histories: Histories = {}
    for key, history in zip(done["configuration"], read, strict=True):
        if len(history.get("epoch", ())):
            histories.setdefault(str(key), []).append(history)
    return histories


def _history(path: str) -> Columns:
    file = Path(path) / HISTORY_FILE
    try:  # for files this small, `read_table` takes twice as long
        table = pq.ParquetFile(file).read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{str(file)!r} is damaged, or not a file of a run") from error
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _curves(
    title: str,
    names: Sequence[str],
    histories: Histories,
    comparison: Comparison,
    css: Mapping[str, str],
    lines: Iterable[tuple[float, str]] = (),
) -> CurveChart | None:
    """One column of the histories, or the mean of several: the mean over seeds, in a band from
    lowest to highest."""
    length = max(len(several[0]["epoch"]) for several in histories.values())
    most = max(map(len, histories.values()))
    epoch = np.arange(1, length + 1)
    series = []
    for key, several in histories.items():
        columns = [
            np.mean([one[name] for name in names], 0)
            for one in several
            if all(name in one for name in names)
        ]
        if columns:
            shortest = min(map(len, columns))
            values = np.full((len(columns), length), np.nan)
            values[:, :shortest] = [column[:shortest] for column in columns]
            values[~np.isfinite(values)] = np.nan
            label = comparison.labels[key]
            series.append(_series(label, css[key], values.mean(0), values.min(0), values.max(0)))
    runs = "runs" if most < MAX_RUNS else f"the first {MAX_RUNS} runs"
    band = f"range over {runs}"
    return curve_chart(title, "epoch", epoch, _grey_first(series), band=band, lines=list(lines))


# --- σ ------------------------------------------------------------------------------------------


def sigma_charts(comparison: Comparison, done: pd.DataFrame) -> list[CurveChart]:
    """σ of the first run of some strategies by epoch, one chart a corrupted task."""
    charts: list[CurveChart] = []
    shown = 0
    for key, rows in done.groupby("configuration", sort=False):
        run = read_run(Path(rows["path"].iloc[0]))
        if shown == MAX_SIGMA:
            break
        if INSTANCE_FILE not in run.info["files"]:
            continue
        shown += 1
        arrays = run.instance_parameters() or {}
        values, corrupted = arrays["log_variance"], arrays["corrupted"]
        for k, task in enumerate(run.info["tasks"]):
            # Tasks without instance parameters are NaN.
            if len(values) and corrupted[:, k].any() and np.isfinite(values[:, :, k]).any():
                sigma = np.exp(values[:, :, k].astype(np.float32) / 2)
                label = comparison.labels[str(key)]
                chart = sigma_chart(f"{task['name']}: σ of {label}", sigma, corrupted[:, k])
                charts += [chart] if chart else []
    return charts


def sigma_chart(title: str, sigma: np.ndarray, corrupted: np.ndarray) -> CurveChart | None:
    """Median and quartiles of the σ of corrupted and of clean instances.

    Args:
        title: of the chart.
        sigma: after each epoch [E, N]; NaN where a label is absent.
        corrupted: which labels are [N].
    """
    labelled = np.isfinite(sigma[-1])
    series = []
    for label, css, group in (
        ("corrupted labels", CORRUPTED, corrupted & labelled),
        ("clean labels", CLEAN, ~corrupted & labelled),
    ):
        if group.any():
            low, middle, high = np.quantile(sigma[:, group], (0.25, 0.5, 0.75), axis=1)
            series.append(Series(label, css, middle, low, high))
    epoch = np.arange(1, len(sigma) + 1)
    return curve_chart(title, "epoch", epoch, series, band="quartiles of instances", log=True)
