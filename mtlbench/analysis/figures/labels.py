"""Inputs with their clean and their corrupted labels side by side (the paper's Figs. 4 and 5)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

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
from mtlbench.analysis.figures.style import CLEAN, CORRUPTED, DOUBLE, SINGLE, Configuration

MAX_EXAMPLES = 4


def label_figures(configurations: Sequence[Configuration]) -> Iterator[tuple[str, Figure]]:
    """One figure a corrupted task, as (name, figure), where the inputs are pictures.

    The examples are the same for all strategies and seeds.
    """
    run = configurations[0].runs[0]
    arrays = run.labels()
    if arrays is None:
        return
    for k, task in enumerate(run.info["tasks"]):
        keys = ["example_input", f"clean/{task['name']}", f"given/{task['name']}"]
        if all(key in arrays for key in keys) and is_pictures(arrays["example_input"]):
            # With several tasks corrupted, an example need not be corrupted in this one.
            chosen = np.flatnonzero(arrays["corrupted"][arrays["example_index"], k])[:MAX_EXAMPLES]
            if len(chosen):
                figure = labels_figure(task, *(arrays[key][chosen] for key in keys))
                yield f"labels_{task['name']}", figure


def labels_figure(
    task: Mapping[str, Any], inputs: np.ndarray, clean: np.ndarray, given: np.ndarray
) -> Figure:
    """Inputs with their clean and their given (corrupted) labels, one column an example.

    Args:
        task: its `name`, `unit`, `classes` and `palette`.
        inputs: images, [M, C, H, W].
        clean: labels before the corruption: maps [M, H, W], of directions [M, 3, H, W], vectors
            [M, D] or numbers [M].
        given: labels as trained on, of the same shape.
    """
    if clean.ndim == 1:
        return _number_labels(task, inputs, clean, given)
    if clean.ndim == 2:
        return _vector_labels(task, inputs, clean, given)
    rows, aspect = ("input", "clean", "given"), clean.shape[-2] / clean.shape[-1]
    if clean.ndim == 4:
        figure, grid = _grid(inputs, rows, aspect, extra=0.05)
        for row, pictures in zip(grid[1:], (clean, given), strict=True):
            for axes, picture in zip(row, pictures, strict=True):
                show(axes, picture)
    elif np.issubdtype(clean.dtype, np.integer):
        handles = class_handles(task, clean, given)
        legend = legend_height(handles, _grid_width(len(inputs)))
        figure, grid = _grid(inputs, rows, aspect, extra=legend + 0.1)
        for row, maps in zip(grid[1:], (clean, given), strict=True):
            for axes, classes in zip(row, maps, strict=True):
                show_classes(axes, task, classes)
        class_legend(figure, handles)
    else:
        figure, grid = _grid(inputs, rows, aspect, extra=0.05, side=0.95)
        _value_maps(figure, grid, task, clean, given)
    return figure


def _grid(
    inputs: np.ndarray, row_names: Sequence[str], aspect: float, extra: float, side: float = 0.25
) -> tuple[Figure, np.ndarray]:
    """A figure with one column an example, whose first row shows the inputs.

    Args:
        inputs: images, [M, C, H, W].
        row_names: text beside each row.
        aspect: height of a cell over its width.
        extra: height left for titles, axes or a legend (in).
        side: width left for the names of the rows and a colour bar (in).
    """
    count, width = len(inputs), _grid_width(len(inputs))
    height = len(row_names) * ((width - side) / count * aspect + 0.06) + extra
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(len(row_names), count, squeeze=False)
    for axes, picture in zip(grid[0], inputs, strict=True):
        show(axes, picture)
    for axes, name in zip(grid[:, 0], row_names, strict=True):
        axes.set_ylabel(name)
    return figure, grid


def _grid_width(count: int) -> float:
    """Two columns for three examples or more, one for fewer (in)."""
    return DOUBLE if count >= 3 else SINGLE


def _value_maps(
    figure: Figure, grid: np.ndarray, task: Mapping[str, Any], clean: np.ndarray, given: np.ndarray
) -> None:
    """Maps of numbers on one scale, with a colour bar."""
    low = min(np.nanmin(clean), np.nanmin(given))
    high = max(np.nanmax(clean), np.nanmax(given))
    for row, maps in zip(grid[1:], (clean, given), strict=True):
        for axes, values in zip(row, maps, strict=True):
            image = show_values(axes, values, low, high)
    # Beside all rows, so that the columns stay in line, but only as high as the two it is for.
    figure.colorbar(
        image, ax=grid.ravel().tolist(), label=quantity(task), shrink=0.62, anchor=(0, 0), pad=0.01
    )


def _vector_labels(
    task: Mapping[str, Any], inputs: np.ndarray, clean: np.ndarray, given: np.ndarray
) -> Figure:
    """Labels of several numbers, as two lines over their components."""
    figure, grid = _grid(inputs, ("input", quantity(task)), 0.75, extra=0.6, side=0.5)
    component = np.arange(1, clean.shape[1] + 1)
    low, high = min(clean.min(), given.min()), max(clean.max(), given.max())
    margin = 0.05 * (high - low)
    for axes, before, after in zip(grid[1], clean, given, strict=True):
        axes.plot(component, after, color=CORRUPTED, linewidth=0.9, label="given")
        axes.plot(component, before, color=CLEAN, linewidth=0.9, linestyle="--", label="clean")
        axes.set_xlabel("component")
        axes.set_ylim(low - margin, high + margin)
    handles, names = grid[1, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2)
    return figure


def _number_labels(
    task: Mapping[str, Any], inputs: np.ndarray, clean: np.ndarray, given: np.ndarray
) -> Figure:
    """Labels of one number or class, as text above each input."""
    figure, grid = _grid(inputs, ("",), inputs.shape[-2] / inputs.shape[-1], extra=0.32)
    unit = f" {task['unit']}" if task["unit"] else ""

    def text(value: Any) -> str:
        if np.issubdtype(clean.dtype, np.integer):
            return str(task["classes"][value]) if task["classes"] else str(value)
        return f"{value:.3g}{unit}"

    for axes, before, after in zip(grid[0], clean, given, strict=True):
        axes.set_title(f"clean: {text(before)}\n→ given: {text(after)}")
    figure.draw_without_rendering()  # only from the second time on, titles of two lines fit
    return figure
