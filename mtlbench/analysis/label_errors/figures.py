"""Detectors of wrong labels by epoch, and by the share of corrupted labels."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from mtlbench.analysis.figures.panels import (
    CHANCE,
    STD_BARS,
    draw_lines,
    epoch_axis,
    line_handles,
    panels,
)
from mtlbench.analysis.figures.style import (
    BLACK,
    BLUE,
    DASH_DOT,
    DASHED,
    DOTTED,
    GREEN,
    ORANGE,
    PURPLE,
    SOLID,
    VERMILION,
    Line,
    save_figures,
)
from mtlbench.analysis.label_errors.comparison import MEASURES
from mtlbench.analysis.label_errors.scores import (
    CLEANLAB,
    DETECTOR_LABELS,
    FOLD_LOSS,
    FOLDED,
    ILT_LOSS,
    LOSS,
    MARGIN,
    SIGMA,
)
from mtlbench.analysis.levels import corrupted_labels, corruption_level

LINES: dict[str, Line] = {
    SIGMA: {"color": VERMILION, "dashes": SOLID, "marker": "o"},
    ILT_LOSS: {"color": ORANGE, "dashes": (5, 1), "marker": "v"},
    LOSS: {"color": BLACK, "dashes": DASHED, "marker": "s"},
    MARGIN: {"color": BLUE, "dashes": DASH_DOT, "marker": "^"},
    FOLD_LOSS: {"color": PURPLE, "dashes": (3, 1, 1, 1, 1, 1), "marker": "P"},
    CLEANLAB: {"color": GREEN, "dashes": DOTTED, "marker": "D"},
}
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
    return save_figures(_figures(detected), out)


def _figures(detected: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    suite = detected["suite"].iloc[0]
    for variant, rows in detected.groupby("variant", sort=False):
        figure = epochs_figure(rows)
        if figure is not None:
            yield f"{suite}_{variant}_detectors", figure
    for corruption, rows in _by_corruption(detected):
        yield f"{suite}_detectors_{corruption}", levels_figure(rows, corruption)


def epochs_figure(detected: pd.DataFrame) -> Figure | None:
    """AUROC by epoch, had training been looked at then: a panel for each corrupted task.

    The mean over seeds, in a band from lowest to highest. Detectors that read folds have one
    value, from networks trained to the end.

    Returns:
        None where nothing is corrupted.
    """
    detected = detected.dropna(subset="roc_auc")
    tasks = list(detected["task"].unique())
    if not tasks:
        return None
    figure, grid = panels(len(tasks), _handles(detected), height=2.0, most=2)
    for axes, task in zip(grid, tasks, strict=True):
        inside = detected[detected["task"] == task]
        once = inside["detector"].isin(FOLDED)
        if not once.all():
            draw_lines(axes, inside[~once], LINES, x="epoch", y="roc_auc", by="detector")
        for detector, rows in inside[once].groupby("detector"):
            axes.axhline(rows["roc_auc"].mean(), **{**LINES[str(detector)], "marker": ""})
        axes.set_title(f"{task} ({inside['corrupted'].iloc[0]:.3g} % corrupted)")
        axes.set_ylabel("AUROC (%) ↑")
        epoch_axis(axes, inside["epoch"].max())
        axes.set_ylim(top=min(axes.get_ylim()[1], TOP))
    return figure


def levels_figure(detected: pd.DataFrame, corruption: str) -> Figure:
    """Every measure by the share of corrupted labels, at the last epoch: a panel each, and a row
    for each task; means with the std over seeds as bars.

    Args:
        detected: rows of `compare_detectors` of the variants of one corruption.
        corruption: its name, such as `depth`.
    """
    last = detected[detected["last"]].dropna(subset="roc_auc")
    tasks = list(last["task"].unique())
    measures = {**MEASURES, "estimate": "Est. wrong labels"}
    figure, grid = panels(4 * len(tasks), _handles(last), most=4)
    for axes, (task, name) in zip(grid, product(tasks, measures), strict=True):
        inside = last[last["task"] == task]
        draw_lines(axes, inside, LINES, x="corrupted", y=name, by="detector", **STD_BARS)
        if name != "roc_auc":  # chance, or the true share
            most = inside["corrupted"].max()
            axes.plot([0, most], [0, most], **CHANCE)
        title = f"{measures[name]} (%)"
        axes.set_title(title if len(tasks) == 1 else f"{task}: {title}")
        axes.set(xlabel="", ylabel="")
    figure.supxlabel(f"corrupted {corrupted_labels(corruption)} (%)")
    return figure


def _by_corruption(detected: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each corruption with two levels or more."""

    def corruption(variant: str) -> str:
        found = corruption_level(variant)
        return found[0] if found else ""

    names = detected["variant"].map(corruption)
    for name in dict.fromkeys(names):
        rows = detected[names == name]
        if name and rows["variant"].nunique() > 1:
            yield str(name), rows


def _handles(rows: pd.DataFrame) -> list[Artist]:
    shown = set(rows["detector"])
    return line_handles((DETECTOR_LABELS[name], LINES[name]) for name in LINES if name in shown)
