"""Predictions of the strategies beside the truth, for a few test instances (the paper's Fig. 2)."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from mtlbench.analysis.figures.pictures import (
    class_handles,
    class_legend,
    is_pictures,
    legend_height,
    quantity,
    show,
    show_classes,
    show_values,
)
from mtlbench.analysis.figures.style import DOUBLE, PAPER_LINES, SINGLE, Configuration

MAX_STRATEGIES = 5
MAX_INSTANCES = 3
MAX_HEIGHT = 8.0
"""Of all pictures together (in): with titles and a legend they are to fit a page."""

SIDE, NAME = 0.75, 12
"""Width left for the names of the rows (in), and how many characters of 7 pt it holds."""

GAP = 0.12
"""Between two instances, as a share of a picture's width."""

CHARACTER = 0.07
"""Width of a character of 8 pt, rather too much than too little (in)."""

Arrays = Mapping[str, np.ndarray]
Column = tuple[str, dict[str, np.ndarray]]
"""A title, and for each kind of output its pictures [M, H, W] or [M, 3, H, W]."""


def predictions_figure(configurations: Sequence[Configuration]) -> Figure | None:
    """Inputs, truth and what each strategy predicts; a row for each instance and kind of output.

    Kinds are the tasks with maps, then the suite's own views. Numbers are on the scale of the
    truth. Each strategy is shown by its first seed. Those with other data or tasks than the first
    one are left out, as are runs that kept no predictions; where there are still more than fit,
    those of the paper go before others.

    Returns:
        None where no run kept predictions, or nothing that they hold can be drawn.
    """
    kept = [(c, arrays) for c in configurations if (arrays := c.runs[0].predictions())]
    if not kept:
        return None
    first, truth = kept[0]
    kinds = _kinds(first.info["tasks"], truth)
    if not kinds:
        return None
    comparable = {
        c.key: arrays
        for c, arrays in kept
        if c.info["tasks"] == first.info["tasks"]
        and arrays.keys() == truth.keys()
        and np.array_equal(arrays["input"], truth["input"])
    }
    columns: list[Column] = [("truth", {kind: truth[f"truth/{kind}"] for kind in kinds})]
    for c in _those_that_fit([c for c in configurations if c.key in comparable]):
        arrays = comparable[c.key]
        columns.append((c.label, {kind: arrays[f"prediction/{kind}"] for kind in kinds}))
    return _draw({task["name"]: task for task in first.info["tasks"]}, truth["input"], columns)


def _kinds(tasks: Sequence[Mapping[str, Any]], arrays: Arrays) -> list[str]:
    """Kinds of output that can be drawn: tasks with maps [M, H, W], then views [M, 3, H, W]."""
    if not is_pictures(arrays.get("input")):
        return []
    dimensions = {
        key.removeprefix("truth/"): value.ndim
        for key, value in arrays.items()
        if key.startswith("truth/")
    }
    maps = [task["name"] for task in tasks if dimensions.get(task["name"]) == 3]
    return maps + [name for name, count in dimensions.items() if count == 4]


def _those_that_fit(configurations: Sequence[Configuration]) -> list[Configuration]:
    """As many as fit, in their order: one of each of the paper's strategies before all others."""
    first = {c.info["spec"]["strategy"]: c.key for c in reversed(configurations)}
    preferred = {key for strategy, key in first.items() if strategy in PAPER_LINES}
    ranked = sorted(configurations, key=lambda c: c.key not in preferred)
    fitting = {c.key for c in ranked[:MAX_STRATEGIES]}
    return [c for c in configurations if c.key in fitting]


def _draw(tasks: Mapping[str, Any], inputs: np.ndarray, columns: Sequence[Column]) -> Figure:
    """The figure; the first of the columns is the truth."""
    across = 1 + len(columns)
    width = SINGLE if across <= 3 else DOUBLE
    cell = (width - SIDE) / across
    heights = {kind: _aspect(values) for kind, values in columns[0][1].items()}
    top = next(iter(heights))  # the row in which the input stands
    heights[top] = max(heights[top], _aspect(inputs))
    each = cell * (sum(heights.values()) + GAP)
    count = min(MAX_INSTANCES, len(inputs), max(1, int(MAX_HEIGHT / each)))
    columns = [
        (title, {kind: values[:count] for kind, values in pictures.items()})
        for title, pictures in columns
    ]
    room = int(cell / CHARACTER)
    titles = [_wrapped(title, room) for title in ("input", *(title for title, _ in columns))]
    lines = 1 + max(title.count("\n") for title in titles)
    handles = _legend(tasks, columns)
    scales = {kind: _scale(truth) for kind, truth in columns[0][1].items() if _holds_numbers(truth)}
    around = 0.16 * lines + legend_height(handles, width) + 0.45 * len(scales) + 0.1

    figure = Figure(figsize=(width, count * each + around))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    ratios = [*heights.values(), GAP] * count
    grid = figure.add_gridspec(len(ratios) - 1, across, height_ratios=ratios[:-1])
    images: dict[str, AxesImage] = {}
    for instance in range(count):
        for i, kind in enumerate(heights):
            row = instance * (len(heights) + 1) + i
            if kind == top:
                show(figure.add_subplot(grid[row, 0]), inputs[instance])
            for j, (_, pictures) in enumerate(columns):
                axes, picture = figure.add_subplot(grid[row, 1 + j]), pictures[kind][instance]
                if picture.ndim == 3:
                    show(axes, picture)
                elif kind in scales:
                    images[kind] = show_values(axes, picture.astype(float), *scales[kind])
                else:
                    show_classes(axes, tasks[kind], picture)
                if j == 0:
                    name = _wrapped(kind, NAME)
                    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
    shown = list(figure.axes)
    for axes, title in zip(shown[:across], titles, strict=True):
        axes.set_title(title)
    for kind in reversed(images):  # the last is the outermost
        figure.colorbar(
            images[kind], ax=shown, location="bottom", label=quantity(tasks[kind]),
            shrink=0.4, aspect=50, pad=0.02, ticks=MaxNLocator(5),
        )  # fmt: skip
    class_legend(figure, handles)
    figure.draw_without_rendering()  # only from the second time on, titles of many lines fit
    return figure


def _legend(tasks: Mapping[str, Any], columns: Sequence[Column]) -> list[Artist]:
    """The classes seen in the label maps of truth and predictions."""
    handles = []
    for kind, truth in columns[0][1].items():
        if truth.ndim == 3 and not _holds_numbers(truth):
            handles += class_handles(tasks[kind], *(pictures[kind] for _, pictures in columns))
    return handles


def _wrapped(text: str, characters: int) -> str:
    """Lines of at most so many characters, broken inside settings rather than inside words."""
    wrapper = textwrap.TextWrapper(characters)
    wrapper.wordsep_re = re.compile(r"(\s+|(?<==)|(?<=[._])(?=[a-z]))")
    return wrapper.fill(text)


def _holds_numbers(pictures: np.ndarray) -> bool:
    """True of maps of numbers, false of maps of classes and of views."""
    return pictures.ndim == 3 and not np.issubdtype(pictures.dtype, np.integer)


def _scale(truth: np.ndarray) -> tuple[float, float]:
    """The range of the numbers that are finite."""
    finite = truth[np.isfinite(truth)].astype(float)
    return (finite.min(), finite.max()) if finite.size else (0.0, 1.0)


def _aspect(pictures: np.ndarray) -> float:
    """Height over width."""
    return pictures.shape[-2] / pictures.shape[-1]
