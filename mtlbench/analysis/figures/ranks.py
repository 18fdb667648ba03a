"""Leaderboards drawn: ranks and improvements with their intervals, and critical differences."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtlbench.analysis.figures.style import BLACK, BLUE, DOUBLE, GREY, save_figures
from mtlbench.analysis.leaderboard import Leaderboard
from mtlbench.analysis.leaderboard_tables import scope_title
from mtlbench.analysis.statistics import Friedman

ROW = 0.15
"""Height of a line of 7 pt (in)."""

MARGIN = 1.6
"""Of a diagram of critical differences, for the names on each side (in)."""


def draw_rank_figures(board: Leaderboard, out: str | Path) -> list[Path]:
    """Draws each scope of a leaderboard: rank intervals, and critical differences where tested.

    Args:
        board: the leaderboard; scopes with fewer than two complete strategies are left out.
        out: the directory for the figures; made where missing.

    Returns:
        The files written: each figure as PNG (200 dpi) and as SVG.
    """
    return save_figures(_figures(board), out)


def _figures(board: Leaderboard) -> Iterator[tuple[str, Figure]]:
    for scope in board.scopes:
        figure = interval_figure(board, scope)
        if figure is not None:
            yield f"leaderboard_{scope}_intervals", figure
        if scope in board.friedman:
            figure = critical_difference_figure(board.friedman[scope], board.labels, scope)
            yield f"leaderboard_{scope}_critical_difference", figure


# --- intervals ------------------------------------------------------------------------------------


def interval_figure(board: Leaderboard, scope: str) -> Figure | None:
    """Mean ranks and Δm with their 95 % intervals, the best on top; None of a single strategy."""
    rows = board.table[(board.table["scope"] == scope) & board.table["complete"]]
    if len(rows) < 2:
        return None
    compared = rows["delta_m"].notna().any()
    width = DOUBLE if compared else DOUBLE / 2
    figure = Figure(figsize=(width, 0.75 + ROW * len(rows)))
    panels = figure.subplots(1, 2 if compared else 1, sharey=True, squeeze=False)[0]
    is_baseline = (rows["strategy"] == board.baseline).to_numpy()
    _intervals(panels[0], rows, "mean_rank", "rank", is_baseline)
    panels[0].set_xlabel("mean rank ↓")
    panels[0].set_yticks(range(len(rows)), list(rows["label"]))
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    if compared:
        _intervals(panels[1], rows, "delta_m", "delta_m", is_baseline)
        panels[1].axvline(0, color=GREY, linewidth=0.8, zorder=0)
        panels[1].set_xlabel("Δm (%) ↑")
    figure.suptitle(scope_title(scope))
    return figure


def _intervals(
    axes: Axes, rows: pd.DataFrame, value: str, ends: str, is_baseline: np.ndarray
) -> None:
    places = np.arange(len(rows))
    for here, color, marker in ((~is_baseline, BLUE, "o"), (is_baseline, BLACK, "s")):
        some = rows[here]
        axes.hlines(
            places[here], some[f"{ends}_low"], some[f"{ends}_high"], color=color, linewidth=1.2
        )
        axes.plot(some[value], places[here], color=color, marker=marker, linestyle="none")
    axes.grid(axis="x", linewidth=0.3)
    axes.tick_params(axis="y", length=0)


# --- critical differences -------------------------------------------------------------------------


def critical_difference_figure(test: Friedman, labels: Mapping[str, str], scope: str) -> Figure:
    """Average ranks on a line, the best on the left; a bar joins those that are not told apart.

    Demšar: Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006, Figure 1.

    Args:
        test: Friedman's test of the strategies.
        labels: their names in the figure.
        scope: of the leaderboard.
    """
    count = len(test.strategies)
    rank = dict(zip(test.strategies, test.average_ranks, strict=True))
    order = sorted(rank, key=rank.__getitem__)
    left = order[: math.ceil(count / 2)]
    groups = test.groups()
    names_from = 1.2 + 0.5 * len(groups)  # in rows below the line
    bottom = names_from + len(left)
    inch = (count - 1) / (DOUBLE - 2 * MARGIN)
    figure = Figure(figsize=(DOUBLE, ROW * (bottom + 5)))
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(1 - MARGIN * inch, count + MARGIN * inch)
    axes.set_ylim(bottom, -5)
    _scale(axes, count)
    _names(axes, left, rank, labels, names_from, 1 - 0.15 * inch, "right")
    _names(axes, order[len(left) :][::-1], rank, labels, names_from, count + 0.15 * inch, "left")
    for level, group in enumerate(groups):
        ends = [rank[group[0]] - 0.04 * inch, rank[group[-1]] + 0.04 * inch]
        axes.plot(ends, [0.8 + 0.5 * level] * 2, color=BLACK, linewidth=2.5)
    told = f"p = {test.p_value:.2g}"
    if test.rejected:
        told += f"; critical difference {test.critical_difference:.2f}"
        if test.critical_difference <= count - 1:
            ends = [1, 1 + test.critical_difference]
            axes.plot(ends, [-2.6] * 2, color=BLACK, linewidth=1, marker="|", markersize=5)
    else:
        told += ": no difference shown"
    title = f"{scope_title(scope)}: average rank over {test.units} seeds of suites; Friedman {told}"
    axes.text((1 + count) / 2, -4.2, title, ha="center", va="center", size=8)
    return figure


def _scale(axes: Axes, count: int) -> None:
    axes.plot([1, count], [0, 0], color=BLACK, linewidth=0.8)
    for tick in MaxNLocator(9, integer=True).tick_values(1, count):
        if 1 <= tick <= count:
            axes.plot([tick, tick], [0, -0.4], color=BLACK, linewidth=0.6)
            axes.text(tick, -0.6, f"{tick:g}", ha="center", va="bottom", size=7)


def _names(
    axes: Axes,
    names: Sequence[str],
    rank: Mapping[str, float],
    labels: Mapping[str, str],
    first: float,
    edge: float,
    alignment: str,
) -> None:
    """Names below one another at an edge, each with a line to its rank."""
    for row, name in enumerate(names):
        y = first + row + 0.5
        axes.plot([rank[name], rank[name], edge], [0, y, y], color=GREY, linewidth=0.6)
        shown = [labels[name], f"{rank[name]:.2f}"]
        text = "  ".join(shown if alignment == "right" else shown[::-1])
        axes.text(edge, y, f" {text} ", ha=alignment, va="center", size=7)
