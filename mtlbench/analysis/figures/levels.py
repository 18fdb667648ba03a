"""Metrics by the share of corrupted labels, a panel each, all strategies together."""

from matplotlib.figure import Figure

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.figures.panels import (
    CHANCE,
    CHANCE_TEXT,
    STD_BARS,
    draw_lines,
    line_handles,
    log_if_wide,
    panels,
)
from mtlbench.analysis.figures.style import GREY, lines
from mtlbench.analysis.levels import corrupted_labels, levels, metrics
from mtlbench.analysis.printing import heading
from mtlbench.store.schema import DONE
from mtlbench.tasks.detection import DETECTION


def levels_figure(comparison: Comparison, corruption: str) -> Figure:
    """Every metric by the share of corrupted labels: means, with the std over seeds as bars.

    One panel a metric, and one for the detection of each corrupted task, with chance, which is
    the share that is corrupted.

    Raises:
        UserError: as `levels`.
    """
    rows = levels(comparison, corruption)
    level = dict(zip(rows["variant"], rows["level"], strict=True))
    runs = comparison.runs[comparison.runs["status"] == DONE]
    runs = runs[runs["configuration"].isin(rows["strategy"])].assign(
        level=runs["variant"].map(level)
    )
    line_of = lines(list(comparison.labels))
    shown = [key for key in comparison.labels if key in set(rows["strategy"])]
    handles = line_handles((comparison.labels[key], line_of[key]) for key in shown)
    if rows["std"].notna().any():
        bar = {"color": GREY, "linestyle": "none", "marker": "|", "markersize": 8}
        handles += line_handles([("std over seeds", bar)])
    found, shares = metrics(rows), sorted(set(rows["level"]))
    figure, grid = panels(len(found), handles)
    for axes, (metric, task) in zip(grid, found, strict=True):
        cells = runs[(runs["metric"] == metric) & (runs["task"] == task)]
        draw_lines(axes, cells, line_of, x="level", y="value", by="configuration", **STD_BARS)
        of = rows[(rows["metric"] == metric) & (rows["task"] == task)].iloc[0]
        label = heading(comparison.metric_labels[metric, task], of["unit"], of["direction"])
        axes.set(title=task, xlabel="", ylabel=label)
        margin = 0.04 * shares[-1]
        axes.set_xlim(-margin, shares[-1] + margin)
        axes.set_xticks(shares, [f"{share:g}" for share in shares])
        if metric == DETECTION:
            axes.plot([0, shares[-1]], [0, shares[-1]], **CHANCE)
            axes.text(0.62 * shares[-1], 0.58 * shares[-1], "chance", va="top", **CHANCE_TEXT)
            axes.set_ylim(0, 103)
        else:
            log_if_wide(axes)
    figure.supxlabel(f"corrupted {corrupted_labels(corruption)} (%)")
    return figure
