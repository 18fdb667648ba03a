"""Panels below a legend, and lines in them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mtlbench.analysis.figures.style import DOUBLE, GREY, SINGLE, Line, legend_columns

CROWD = 12
"""More lines than these have no bands, and more entries of a legend make each panel a large one."""

COLOURED = 8
"""Strategies that have a line of their own where there are too many of them."""

OTHERS: Line = {"color": "#CCCCCC", "dashes": (), "marker": ""}
"""The line of all others."""

CHANCE: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1, "zorder": 1}
CHANCE_TEXT: dict[str, Any] = {"fontsize": 7, "color": "#555555"}

STD_BARS: dict[str, Any] = {
    "errorbar": "sd",
    "err_style": "bars",
    "err_kws": {"elinewidth": 0.8, "capsize": 1.5},
    "markevery": 1,
}
"""Options of `draw_lines` for means with their standard deviations, instead of a band."""


def line_handles(lines: Iterable[tuple[str, Line]]) -> list[Artist]:
    return [Line2D([], [], label=label, **line) for label, line in lines]


def panels(
    count: int, handles: Sequence[Artist], *, height: float = 1.75, most: int = 3, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of panels in rows, below a legend.

    Args:
        count: of panels; a single one has the width of a column.
        handles: entries of the legend.
        height: of a panel (in).
        most: panels in a row; one, and a large one, below a crowded legend.
        options: of `Figure.subplots`, such as `sharey`.
    """
    crowded = len(handles) > CROWD
    across = 1 if crowded else 2 if count == 4 and most == 3 else min(most, count)
    down = math.ceil(count / across)
    width = DOUBLE if across > 1 or crowded else SINGLE
    height = 3.2 if crowded else height
    columns = legend_columns(handles, width)
    figure = Figure(figsize=(width, 0.3 + 0.16 * math.ceil(len(handles) / columns) + height * down))
    grid = figure.subplots(down, across, squeeze=False, **options).ravel()
    for axes in grid[count:]:
        axes.remove()
    figure.legend(
        handles=handles, loc="outside upper center", ncols=columns, handlelength=3,
        columnspacing=1.2,
    )  # fmt: skip
    return figure, list(grid[:count])


def draw_lines(
    axes: Axes,
    data: pd.DataFrame,
    lines: Mapping[str, Line],
    x: str,
    y: str,
    by: str,
    **options: Any,
) -> None:
    """A line for each value of a column, by default the mean in a band from lowest to highest.

    Args:
        axes: linear ones: on others, means would be those of logarithms.
        data: observations, at least one; those without a finite number are left out.
        lines: properties of the line of each value of `by`.
        x: the column along the horizontal axis.
        y: the column along the vertical axis, over whose equals in `x` the mean is taken.
        by: the column that tells lines apart.
        options: of `seaborn.lineplot`.
    """
    of_seaborn = {"palette": "color", "dashes": "dashes", "markers": "marker"}
    defaults: dict[str, Any] = {
        **{name: {key: lines[key][of] for key in lines} for name, of in of_seaborn.items()},
        "errorbar": ("pi", 100) if len(lines) <= CROWD else None,
        "err_kws": {"linewidth": 0},
        "markevery": max(1, data[x].nunique() // 6),
    }
    sns.lineplot(
        data.reset_index(drop=True), x=x, y=y, hue=by, style=by, markeredgecolor="auto",
        markeredgewidth=1, legend=False, ax=axes, **{**defaults, **options},
    )  # fmt: skip


def epoch_axis(axes: Axes, last: float) -> None:
    margin = 0.03 * last
    axes.set_xlim(1 - margin, last + margin)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))


def log_if_wide(axes: Axes) -> None:
    """A logarithmic axis where a curve spans so much that the others would lie flat."""
    values = np.concatenate([[], *(np.asarray(line.get_ydata(), float) for line in axes.lines)])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() / values.min() > 30:
        axes.set_yscale("log")
