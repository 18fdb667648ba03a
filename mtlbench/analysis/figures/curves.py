"""Curves over epochs, all strategies together: validation metrics, corrupted instances found."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mtlbench.analysis.figures.style import (
    DOUBLE,
    GREY,
    SINGLE,
    Configuration,
    Line,
    epoch_axis,
    legend_columns,
    line_handles,
    log_if_wide,
)


def validation_curves(configurations: Sequence[Configuration]) -> Figure | None:
    """Every validation metric by epoch: the mean over seeds, in a band from lowest to highest."""
    histories = [[run.history() for run in c.runs] for c in configurations]
    columns = dict.fromkeys(name for history in histories for name in history[0])
    names = [name for name in columns if name.startswith("validation/")]
    if not names or not len(histories[0][0][names[0]]):
        return None
    metrics = {
        f"validation/{metric['task']}/{metric['metric']}": metric
        for configuration in configurations
        for metric in configuration.info["metrics"]
    }
    across = 2 if len(names) == 4 else min(3, len(names))
    down = math.ceil(len(names) / across)
    width = SINGLE if across == 1 else DOUBLE
    handles = line_handles((c.label, c.line) for c in configurations) + band_handle(configurations)
    legend = legend_columns(handles, width)
    lines = math.ceil(len(handles) / legend)
    figure = Figure(figsize=(width, 0.3 + 0.16 * lines + 1.75 * down))
    for position, name in enumerate(names):
        axes = figure.add_subplot(down, across, position + 1)
        task, _, fallback = name.removeprefix("validation/").rpartition("/")
        metric = metrics.get(name, {"label": fallback, "unit": "", "direction": ""})
        for configuration, history in zip(configurations, histories, strict=True):
            if name in history[0]:
                _curve(axes, history, name, configuration.line)
        unit = f" ({metric['unit']})" if metric["unit"] else ""
        arrow = {"max": " ↑", "min": " ↓"}.get(metric["direction"], "")
        axes.set_title(task)
        axes.set_ylabel(f"{metric['label']}{unit}{arrow}")
        epoch_axis(axes)
        log_if_wide(axes)
    figure.legend(
        handles=handles, loc="outside upper center", ncols=legend, handlelength=3, columnspacing=1.2
    )
    return figure


def detection(configurations: Sequence[Configuration]) -> Figure | None:
    """Share of corrupted instances among those with the largest σ, by epoch, against chance.

    One line for each strategy and corrupted task, or tasks corrupted together: the mean over
    seeds, in a band from lowest to highest. Chance is the fraction of labels that are corrupted.
    """
    fractions: dict[str, float] = configurations[0].info["corrupted"]
    histories = [[run.history() for run in c.runs] for c in configurations]
    columns = dict.fromkeys(name for history in histories for name in history[0])
    names = [name for name in columns if name.startswith("detection_accuracy/")]
    dashes = dict(zip(names, cycle(["-", "--", ":", "-."]), strict=False))
    curves = []
    for configuration, history in zip(configurations, histories, strict=True):
        for name in names:
            if name in history[0] and len(history[0][name]):
                line = configuration.line | ({"linestyle": dashes[name]} if len(dashes) > 1 else {})
                task = name.removeprefix("detection_accuracy/")
                curves.append((f"{configuration.label}, {task}", line, history, name))
    if not curves:
        return None
    handles = line_handles((label, line) for label, line, _, _ in curves) + band_handle(
        configurations
    )
    legend = legend_columns(handles, SINGLE)
    figure = Figure(figsize=(SINGLE, 2.0 + 0.16 * math.ceil(len(handles) / legend)))
    axes = figure.add_subplot()
    for _, line, history, name in curves:
        _curve(axes, history, name, line)
    epoch_axis(axes)
    for fraction in sorted(set(fractions.values())):
        axes.axhline(100 * fraction, color=GREY, linestyle=":", linewidth=1, zorder=1)
        axes.annotate(
            "chance", (1, 100 * fraction), (0, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="bottom", fontsize=7, color="#555555",
        )  # fmt: skip
    axes.set_ylim(0, 103)
    axes.set_ylabel("corrupted instances found (%)")
    figure.legend(handles=handles, loc="outside upper center", ncols=legend, columnspacing=1.2)
    return figure


def _curve(
    axes: Axes, histories: Sequence[Mapping[str, np.ndarray]], name: str, line: Line
) -> None:
    """The mean over seeds of one column of the history, in a band from lowest to highest."""
    epoch = histories[0]["epoch"]
    values = np.stack([np.asarray(history[name], dtype=float) for history in histories])
    axes.plot(epoch, values.mean(axis=0), markevery=max(1, len(epoch) // 6), **line)
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(epoch, low, high, color=line["color"], alpha=0.2, linewidth=0)


def band_handle(configurations: Sequence[Configuration]) -> list[Artist]:
    seeds = max(len(configuration.runs) for configuration in configurations)
    label = "range over seeds"
    return [Patch(facecolor=GREY, alpha=0.4, label=label)] if seeds > 1 else []
