"""Metrics by the share of corrupted labels, a panel each, all strategies together."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtlbench.analysis.aggregate import DETECTION, Comparison
from mtlbench.analysis.figures.style import (
    DOUBLE,
    GREY,
    SINGLE,
    Line,
    legend_columns,
    line_handles,
    lines,
    log_if_wide,
)
from mtlbench.analysis.levels import corrupted_labels, levels, metrics
from mtlbench.analysis.printing import heading


def levels_figure(comparison: Comparison, corruption: str) -> Figure:
    """Every metric by the share of corrupted labels: means, with the std over seeds as bars.

    One panel a metric, and one for the detection of each corrupted task, with chance, which is
    the share that is corrupted.

    Raises:
        UserError: as `levels`.
    """
    rows = levels(comparison, corruption)
    panels = metrics(rows)
    line_of = lines(list(comparison.labels))
    shown = [key for key in comparison.labels if key in set(rows["strategy"])]
    handles = line_handles((comparison.labels[key], line_of[key]) for key in shown)
    if rows["std"].notna().any():
        handles.append(_bar_handle())
    across = 2 if len(panels) == 4 else min(3, len(panels))
    down = math.ceil(len(panels) / across)
    width = SINGLE if across == 1 else DOUBLE
    legend = legend_columns(handles, width)
    figure = Figure(figsize=(width, 0.3 + 0.16 * math.ceil(len(handles) / legend) + 1.75 * down))
    for position, (metric, task) in enumerate(panels):
        axes = figure.add_subplot(down, across, position + 1)
        cells = rows[(rows["metric"] == metric) & (rows["task"] == task)]
        for key, points in cells.groupby("strategy", sort=False):
            _curve(axes, points.dropna(subset="mean"), line_of[str(key)])
        first = cells.iloc[0]
        label = comparison.metric_labels[metric, task]
        axes.set_title(task)
        axes.set_ylabel(heading(label, first["unit"], first["direction"]))
        _shares(axes, sorted(set(rows["level"])))
        if metric == DETECTION:
            _chance(axes, float(rows["level"].max()))
        else:
            log_if_wide(axes)
    figure.supxlabel(
        f"corrupted {corrupted_labels(corruption)} (%)", size=mpl.rcParams["font.size"]
    )
    figure.legend(
        handles=handles, loc="outside upper center", ncols=legend, handlelength=3, columnspacing=1.2
    )
    return figure


def _curve(axes: Axes, points: pd.DataFrame, line: Line) -> None:
    """One strategy's means by level, with their standard deviations as bars."""
    axes.plot(points["level"], points["mean"], **line)
    axes.errorbar(
        points["level"], points["mean"], yerr=points["std"].fillna(0), fmt="none",
        ecolor=line["color"], elinewidth=0.8, capsize=1.5,
    )  # fmt: skip


def _bar_handle() -> Artist:
    return Line2D(
        [], [], color=GREY, linestyle="none", marker="|", markersize=8, label="std over seeds"
    )


def _shares(axes: Axes, shares: Sequence[float]) -> None:
    margin = 0.04 * shares[-1]
    axes.set_xlim(-margin, shares[-1] + margin)
    axes.set_xticks(shares, [f"{share:g}" for share in shares])


def _chance(axes: Axes, most: float) -> None:
    axes.plot([0, most], [0, most], color=GREY, linestyle=":", linewidth=1, zorder=1)
    axes.annotate(
        "chance", (0.6 * most, 0.6 * most), (3, -2), textcoords="offset points", va="top",
        fontsize=7, color="#555555",
    )  # fmt: skip
    axes.set_ylim(0, 103)
