"""Predictions of the strategies beside the truth, for a few test instances (the paper's Fig. 2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlbench.analysis.figures import (
    DOUBLE,
    Configuration,
    _bare,
    _class_colors,
    _class_handles,
    _legend_columns,
    _show,
)

MAX_STRATEGIES = 5
MAX_INSTANCES = 3

Arrays = Mapping[str, np.ndarray]


def predictions(configurations: Sequence[Configuration]) -> Figure | None:
    """Inputs, truth and what each strategy predicts; a row for each instance and kind of output.

    The first seed of each strategy; where there are more strategies than fit, the first and the
    last ones. Runs without kept predictions are left out; None where there are no others, or
    where nothing of what is predicted can be drawn.
    """
    kept = [(c, c.runs[0].predictions()) for c in configurations]
    columns = [(c.label, arrays) for c, arrays in kept if arrays]
    if not columns:
        return None
    if len(columns) > MAX_STRATEGIES:
        columns = columns[: MAX_STRATEGIES - 1] + columns[-1:]
    tasks = {task["name"]: task for task in configurations[0].info["tasks"]}
    return _draw(tasks, columns)


def _draw(tasks: Mapping[str, Any], columns: Sequence[tuple[str, Arrays]]) -> Figure | None:
    first = columns[0][1]
    names = [
        key.removeprefix("truth/")
        for key, value in first.items()
        if key.startswith("truth/") and value.ndim > 1
    ]
    if not names:
        return None
    inputs = first["input"]
    count = min(MAX_INSTANCES, len(inputs))
    across = 2 + len(columns)
    aspect = inputs.shape[-2] / inputs.shape[-1]
    cell = DOUBLE / (across + 0.3)
    figure = Figure()
    handles, lines = [], 0
    for name in names:
        if name in tasks and tasks[name]["classes"]:
            seen = np.stack([arrays[f"prediction/{name}"][:count] for _, arrays in columns])
            truth = np.broadcast_to(first[f"truth/{name}"][:count], seen.shape)
            handles = _class_handles(tasks[name], truth, seen)
    if handles:
        per_line = _legend_columns(handles, DOUBLE)
        lines = -(-len(handles) // per_line)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=per_line, handlelength=1,
            handleheight=1, columnspacing=1.2,
        )  # fmt: skip
    rows = count * len(names)
    figure.set_size_inches(DOUBLE, rows * (cell * aspect + 0.04) + 0.25 + 0.16 * lines)
    grid = figure.subplots(rows, across, squeeze=False)
    for axes, title in zip(grid[0], ("input", "truth", *(c for c, _ in columns)), strict=True):
        axes.set_title(title)
    for row in range(rows):
        instance, name = divmod(row, len(names))
        name = names[name]
        if row % len(names):
            grid[row, 0].set_axis_off()
        else:
            _show(grid[row, 0], inputs[instance])
        truth = first[f"truth/{name}"]
        grid[row, 1].set_ylabel(name, fontsize=6)
        _panel(grid[row, 1], tasks.get(name), truth[instance], truth[instance])
        for axes, (_, arrays) in zip(grid[row, 2:], columns, strict=True):
            _panel(axes, tasks.get(name), arrays[f"prediction/{name}"][instance], truth[instance])
    return figure


def _panel(
    axes: Axes, task: Mapping[str, Any] | None, value: np.ndarray, truth: np.ndarray
) -> None:
    """A picture, a label map, or a map of numbers on the truth's scale."""
    if task is None:
        _show(axes, value)
    elif task["classes"]:
        colors = _class_colors(task, max(int(value.max()), int(truth.max())) + 1)
        axes.imshow(colors[value + 1], interpolation="nearest")
    else:
        axes.imshow(value.astype(float), cmap=mpl.colormaps["viridis"], vmin=truth.min(),
                    vmax=truth.max())  # fmt: skip
    _bare(axes)
