"""Detectors of wrong labels by epoch, and by the share of corrupted labels."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlbench.analysis.figures.style import (
    BLACK,
    BLUE,
    DOUBLE,
    GREEN,
    GREY,
    ORANGE,
    SINGLE,
    STYLE,
    VERMILION,
    Line,
    epoch_axis,
    file_name,
    legend_columns,
    line_handles,
    save,
)
from mtlbench.analysis.label_errors.comparison import MEASURES, summarise
from mtlbench.analysis.label_errors.scores import (
    CLEANLAB,
    DETECTOR_LABELS,
    ILT_LOSS,
    LOSS,
    MARGIN,
    SIGMA,
)
from mtlbench.analysis.levels import ONE_CLAUSE, corrupted_labels

LINES: dict[str, Line] = {
    SIGMA: {"color": VERMILION, "linestyle": "-", "marker": "o"},
    ILT_LOSS: {"color": ORANGE, "linestyle": (0, (5, 1)), "marker": "v"},
    LOSS: {"color": BLACK, "linestyle": "--", "marker": "s"},
    MARGIN: {"color": BLUE, "linestyle": "-.", "marker": "^"},
    CLEANLAB: {"color": GREEN, "linestyle": ":", "marker": "D"},
}
PANEL = 1.75
"""Height of a panel (in)."""

TOP = 100.5
"""Of an axis of AUROC (%), which ends at 100."""


def draw_detectors(detected: pd.DataFrame, out: str | Path) -> list[Path]:
    """Draws every figure that a comparison of detectors allows, as PNG and SVG.

    Args:
        detected: as from `compare_detectors`.
        out: the directory; made where missing.

    Returns:
        The files written.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    suite = detected["suite"].iloc[0]
    written = []
    with mpl.rc_context(STYLE):
        for variant, rows in detected.groupby("variant", sort=False):
            figure = epochs_figure(rows)
            if figure is not None:
                written += save(figure, out / file_name(f"{suite}_{variant}_detectors"))
        for corruption, rows in _by_corruption(detected):
            figure = levels_figure(rows, corruption)
            written += save(figure, out / file_name(f"{suite}_detectors_{corruption}"))
    return written


def epochs_figure(detected: pd.DataFrame) -> Figure | None:
    """AUROC by epoch, had training been looked at then: a panel for each corrupted task.

    The mean over seeds, in a band from lowest to highest. cleanlab has one value, from networks
    trained to the end.

    Returns:
        None where nothing is corrupted.
    """
    detected = detected.dropna(subset="roc_auc")
    tasks = list(detected["task"].unique())
    if not tasks:
        return None
    figure = Figure(figsize=(SINGLE if len(tasks) == 1 else DOUBLE, 0.4 + 1.15 * PANEL))
    for position, task in enumerate(tasks):
        axes = figure.add_subplot(1, len(tasks), position + 1)
        inside = detected[detected["task"] == task]
        for detector, rows in inside.groupby("detector", sort=False):
            line = LINES[str(detector)]
            by_epoch = rows.groupby("epoch")["roc_auc"]
            mean, low, high = by_epoch.mean(), by_epoch.min(), by_epoch.max()
            if detector == CLEANLAB:
                axes.axhline(float(mean.iloc[-1]), **{**line, "marker": ""})
                continue
            axes.plot(mean.index, mean, markevery=max(1, len(mean) // 6), **line)
            if rows["seed"].nunique() > 1:
                axes.fill_between(
                    mean.index, low, high, color=line["color"], alpha=0.2, linewidth=0
                )
        axes.set_title(f"{task} ({inside['corrupted'].iloc[0]:.3g} % corrupted)")
        axes.set_ylabel("AUROC (%) ↑")
        epoch_axis(axes)
        axes.set_ylim(top=min(axes.get_ylim()[1], TOP))
    _legend(figure, detected)
    return figure


def levels_figure(detected: pd.DataFrame, corruption: str) -> Figure:
    """Every measure by the share of corrupted labels, at the last epoch: a panel each, and a row
    for each task; means with the std over seeds as bars.

    Args:
        detected: rows of `compare_detectors` of the variants of one corruption.
        corruption: which, such as `depth`.
    """
    summary = summarise(detected.dropna(subset="roc_auc"))
    tasks = list(summary["task"].unique())
    measures = {**MEASURES, "estimate": "Est. wrong labels"}
    figure = Figure(figsize=(DOUBLE, 0.5 + PANEL * len(tasks)))
    for row, task in enumerate(tasks):
        inside = summary[summary["task"] == task]
        for column, (name, label) in enumerate(measures.items()):
            axes = figure.add_subplot(len(tasks), 4, row * 4 + column + 1)
            for detector, points in inside.groupby("detector", sort=False):
                points = points.sort_values("corrupted")
                line = LINES[str(detector)]
                axes.errorbar(
                    points["corrupted"], points[name], yerr=points[f"{name}_std"].fillna(0),
                    elinewidth=0.8, capsize=1.5, **line,
                )  # fmt: skip
            if name in ("accuracy", "average_precision", "estimate"):
                _diagonal(axes, float(inside["corrupted"].max()))
            axes.set_title(f"{label} (%)" if len(tasks) == 1 else f"{task}: {label} (%)")
    figure.supxlabel(
        f"corrupted {corrupted_labels(corruption)} (%)", size=mpl.rcParams["font.size"]
    )
    _legend(figure, summary)
    return figure


def _by_corruption(detected: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each corruption with two levels or more."""

    def corruption(variant: str) -> str:
        match = re.fullmatch(ONE_CLAUSE, variant)
        return match["tasks"] + (match["kind"] or "") if match else ""

    names = detected["variant"].map(corruption)
    for name in dict.fromkeys(names):
        rows = detected[names == name]
        if name and rows["variant"].nunique() > 1:
            yield str(name), rows


def _diagonal(axes: Axes, most: float) -> None:
    """Chance, or the true share."""
    axes.plot([0, most], [0, most], color=GREY, linestyle=":", linewidth=1, zorder=1)


def _legend(figure: Figure, rows: pd.DataFrame) -> None:
    names = [name for name in LINES if name in set(rows["detector"])]
    handles = line_handles((DETECTOR_LABELS[name], LINES[name]) for name in names)
    columns = legend_columns(handles, figure.get_figwidth())
    figure.legend(
        handles=handles, loc="outside upper center", handlelength=3, columnspacing=1.2,
        ncols=math.ceil(len(handles) / math.ceil(len(handles) / columns)),
    )  # fmt: skip
