"""Curves over epochs, all strategies together: validation metrics, corrupted instances found."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mtlbench.analysis.figures.many import VALIDATION, curves
from mtlbench.analysis.figures.panels import (
    CHANCE,
    CHANCE_TEXT,
    CROWD,
    draw_lines,
    epoch_axis,
    line_handles,
    log_if_wide,
    panels,
)
from mtlbench.analysis.figures.style import DASH_DOT, DASHED, DOTTED, GREY, SOLID, Configuration
from mtlbench.analysis.printing import heading


def validation_curves(configurations: Sequence[Configuration]) -> Figure | None:
    """Every validation metric by epoch: the mean over seeds, in a band from lowest to highest.

    Of many tasks, means over them and the metrics of corrupted ones: `many.curves`.
    """
    history = _history(configurations)
    names = [name for name in map(str, history) if name.startswith(VALIDATION)]
    if not names or history.empty:
        return None
    metrics = {
        f"{VALIDATION}{metric['task']}/{metric['metric']}": metric
        for configuration in configurations
        for metric in configuration.info["metrics"]
    }
    kinds = {name: _kind(name, metrics.get(name)) for name in names}
    drawn = curves(kinds, configurations[0].info["corrupted"])
    lines = {c.key: c.line for c in configurations}
    handles = line_handles((c.label, c.line) for c in configurations)
    handles += _band_handles(configurations, len(lines))
    figure, grid = panels(len(drawn), handles)
    for axes, curve in zip(grid, drawn, strict=True):
        label = curve.column.rpartition("/")[2]
        if metric := metrics.get(curve.column):
            label = heading(metric["label"], metric["unit"], metric["direction"])
        # NaN where one of them is, as in tables.
        values = history[curve.columns].mean(axis=1, skipna=False)
        shown = history[["configuration", "epoch"]].assign(value=values)
        draw_lines(axes, shown, lines, x="epoch", y="value", by="configuration")
        axes.set_title(curve.task)
        axes.set_ylabel(label)
        epoch_axis(axes, history["epoch"].max())
        log_if_wide(axes)
    return figure


def detection(configurations: Sequence[Configuration]) -> Figure | None:
    """Share of corrupted instances among those with the largest σ, by epoch, against chance.

    One line for each strategy and corrupted task, or tasks corrupted together: the mean over
    seeds, in a band from lowest to highest. Chance is the fraction of labels that are corrupted.
    """
    found = _history(configurations).filter(regex="^(configuration|epoch|detection_accuracy/.*)$")
    found = found.melt(["configuration", "epoch"], var_name="task", value_name="share").dropna()
    if found.empty:
        return None
    found["task"] = found["task"].str.removeprefix("detection_accuracy/")
    tasks = list(found["task"].unique())
    dashes = dict(zip(tasks, cycle([SOLID, DASHED, DOTTED, DASH_DOT]), strict=False))
    shown = {c.key: c for c in configurations}
    lines, handles = {}, []
    found["line"] = found["configuration"] + ", " + found["task"]
    for key, task, name in found[["configuration", "task", "line"]].drop_duplicates().to_numpy():
        lines[name] = shown[key].line | ({"dashes": dashes[task]} if tasks[1:] else {})
        handles += line_handles([(f"{shown[key].label}, {task}", lines[name])])
    handles += _band_handles(configurations, len(lines))
    figure, (axes,) = panels(1, handles)
    draw_lines(axes, found, lines, x="epoch", y="share", by="line")
    epoch_axis(axes, found["epoch"].max())
    for fraction in sorted(set(configurations[0].info["corrupted"].values())):
        axes.axhline(100 * fraction, **CHANCE)
        axes.annotate(
            "chance", (1, 100 * fraction), (0, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="bottom", **CHANCE_TEXT,
        )  # fmt: skip
    axes.set_ylim(0, 103)
    axes.set_ylabel("corrupted instances found (%)")
    return figure


def _kind(name: str, metric: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What two columns have in common of which a mean can be taken."""
    return (metric["metric"], metric["unit"], metric["direction"]) if metric else (name,)


def _history(configurations: Sequence[Configuration]) -> pd.DataFrame:
    """The histories of all runs, one row an epoch."""
    histories = [
        pd.DataFrame(run.history()).assign(configuration=c.key)
        for c in configurations
        for run in c.runs
    ]
    return pd.concat(histories, ignore_index=True)


def _band_handles(configurations: Sequence[Configuration], lines: int) -> list[Artist]:
    """The entry of a legend for bands, where so many lines have any."""
    seeds = max(len(configuration.runs) for configuration in configurations)
    band = Patch(facecolor=GREY, alpha=0.4, label="range over seeds")
    return [band] if seeds > 1 and lines <= CROWD else []
