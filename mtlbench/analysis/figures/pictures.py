"""Inputs, label maps and maps of numbers as pictures without axes, and the legend of classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch

from mtlbench.analysis.figures.style import legend_columns

MAX_CLASSES = 10
"""A legend of more classes takes more room than it is worth."""


def is_pictures(values: np.ndarray | None) -> bool:
    """Whether inputs are pictures [M, C, H, W]; those of several parts are not kept at all."""
    return values is not None and values.ndim == 4


def show(axes: Axes, picture: np.ndarray) -> None:
    """One input [C, H, W] as a colour or grey image; values outside [0, 1] are stretched."""
    image = picture.astype(float)
    image = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(axis=0)
    if np.issubdtype(picture.dtype, np.integer):
        image = image / 255
    elif image.min() < 0 or image.max() > 1:
        image = (image - image.min()) / (np.ptp(image) or 1)
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    _bare(axes)


def show_classes(axes: Axes, task: Mapping[str, Any], classes: np.ndarray) -> None:
    """One label map [H, W] in the palette's colours."""
    colors = _class_colors(task, int(classes.max()) + 1)
    axes.imshow(colors[classes + 1], interpolation="nearest")
    _bare(axes)


def show_values(axes: Axes, values: np.ndarray, low: float, high: float) -> AxesImage:
    """One map of numbers [H, W] on a scale, for a colour bar to tell."""
    image = axes.imshow(values, cmap="viridis", vmin=low, vmax=high)
    _bare(axes)
    return image


def quantity(task: Mapping[str, Any]) -> str:
    """ "depth (1/m)"."""
    return f"{task['name']} ({task['unit']})" if task["unit"] else str(task["name"])


def class_handles(task: Mapping[str, Any], *maps: np.ndarray) -> list[Artist]:
    """A legend entry for each class that is seen; none where they are too many."""
    seen = np.unique(np.concatenate([classes.ravel() for classes in maps]))
    if len(seen) > MAX_CLASSES:
        return []
    colors = _class_colors(task, int(seen.max()) + 1)
    names = task["classes"] or [str(c) for c in range(int(seen.max()) + 1)]
    return [
        Patch(
            facecolor=colors[c + 1],
            label="no label" if c < 0 else names[c],
            edgecolor="black",
            linewidth=0.3,
        )
        for c in seen
    ]


def class_legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Puts a legend below a figure, where there is anything to explain."""
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", handlelength=1, handleheight=1,
            ncols=legend_columns(handles, figure.get_figwidth()), columnspacing=1.2,
        )  # fmt: skip


def legend_height(handles: Sequence[Artist], width: float) -> float:
    """Height of the legend of classes in a figure of some width (in)."""
    return 0.16 * math.ceil(len(handles) / legend_columns(handles, width)) if handles else 0.0


def _class_colors(task: Mapping[str, Any], count: int) -> np.ndarray:
    """The colour of "no label" (-1) and of each class, [1 + classes, 3] in [0, 1]."""
    if task["palette"]:
        palette = np.asarray(task["palette"], dtype=float) / 255
    else:
        many = np.vstack([mpl.colormaps[name](np.arange(20)) for name in ("tab20", "tab20b")])
        palette = many[np.arange(count) % len(many), :3]
    return np.vstack([np.full(3, 0.9), palette])


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
