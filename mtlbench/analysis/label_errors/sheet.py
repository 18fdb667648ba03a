"""A contact sheet: the most suspicious instances with their given labels, on one picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlbench.analysis.figures.pictures import (
    class_handles,
    is_pictures,
    legend_height,
    quantity,
    show,
    show_classes,
    show_values,
)
from mtlbench.analysis.figures.style import (
    CLEAN,
    CORRUPTED,
    DOUBLE,
    STYLE,
    legend_columns,
)
from mtlbench.files import replacing

MOST_TILES = 60
GAP, TEXT, LINE = 0.06, 6.0, 0.11
"""Between tiles (in), size of their text (pt), and height of a line of it (in)."""

LONGEST_NAME = 25
"""Of an instance, in letters; the table has all of it."""

CURVE_ASPECT = 0.6


@dataclass(frozen=True)
class Suspects:
    """Instances with their given labels, the most suspicious first.

    Attributes:
        task: its `name`, `kind`, `unit`, `classes` and `palette`.
        index: number of each instance in the training data [M].
        inputs: as stored [M, …]; images [M, C, H, W] are shown.
        labels: as given: maps [M, H, W], numbers or classes [M], or other [M, …].
        corrupted: whether the label is corrupted, bool [M], where that is known.
        views: further pictures of the labels by name, uint8 [M, 3, H, W].
        names: what people call the instances [M]; None where they have no names.
        predictions: class or number that the networks see [M], -1 or NaN where there is none; None
            where nothing is known.
    """

    task: Mapping[str, Any]
    index: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray
    corrupted: np.ndarray | None
    views: Mapping[str, np.ndarray]
    names: Sequence[str] | None = None
    predictions: np.ndarray | None = None

    @property
    def classify(self) -> bool:
        """Whether labels are classes."""
        return bool(self.task["kind"] == "classification")

    def predicted(self, i: int) -> Any:
        """The class or the number that the networks see in an instance; None where unknown."""
        if self.predictions is None:
            return None
        seen = self.predictions[i].item()
        return None if (seen < 0 if self.classify else math.isnan(seen)) else seen

    def first(self, count: int) -> "Suspects":
        """The first so many of them."""

        def of(values: Any) -> Any:
            return None if values is None else values[:count]

        return replace(
            self,
            index=self.index[:count],
            inputs=self.inputs[:count],
            labels=self.labels[:count],
            predictions=of(self.predictions),
            corrupted=of(self.corrupted),
            views={name: view[:count] for name, view in self.views.items()},
            names=of(self.names),
        )


def draw_sheet(suspects: Suspects, title: str, path: Path) -> None:
    """Draws a tile for each instance, row by row, and writes the picture as PNG.

    A tile shows the input, below it the label where it is a map (or what the suite's views make of
    it, or a line over its components), and above it the instance's number and a label that is a
    class or a number. Text is red where the label is known to be corrupted, blue where it is known
    not to be.
    """
    with (
        mpl.rc_context({**STYLE, "figure.constrained_layout.use": False}),
        replacing(path) as aside,
    ):
        sheet_figure(suspects, title).savefig(aside, format="png", metadata={"Software": None})


def sheet_figure(suspects: Suspects, title: str) -> Figure:
    """The contact sheet as a figure, with one tile or two axes an instance."""
    count = len(suspects.index)
    rows = _rows(suspects)
    wide = any(aspect < 0.75 for _, aspect in rows)
    across = max(1, min(count, 6 if wide else 8 if len(rows) > 1 else 10))
    fewest = 6
    if suspects.names is not None:  # names are wider than pictures
        fewest = across = 5
    across = max(across, min(fewest, count))
    cell = (DOUBLE - GAP) / max(across, fewest)
    heights = [cell_height * (cell - GAP) for _, cell_height in rows]
    lines = 1 + (suspects.labels.ndim == 1) + (suspects.names is not None)
    tile = lines * LINE + sum(heights) + (len(rows) - 1) * 0.02 + GAP
    handles = _legend(suspects)
    foot = (legend_height(handles, DOUBLE) + 0.1) if handles else 0.0
    values = suspects.labels.ndim == 3 and not suspects.classify
    foot += 0.5 if values else 0.0
    head = 0.3
    height = head + math.ceil(count / across) * tile + foot
    figure = Figure(figsize=(DOUBLE, height))
    figure.text(GAP / DOUBLE, 1 - 0.08 / height, title, va="top", fontsize=8)
    scale = _scale(suspects.labels) if values else (0.0, 1.0)
    image = None
    for i in range(count):
        left = GAP + (i % across) * cell
        top = height - head - (i // across) * tile
        figure.text(
            left / DOUBLE, top / height, _text(suspects, i), va="top", fontsize=TEXT,
            color=_color(suspects, i), linespacing=1.1,
        )  # fmt: skip
        y = top - lines * LINE
        for (kind, _), extent in zip(rows, heights, strict=True):
            y -= extent
            axes = figure.add_axes(
                (left / DOUBLE, y / height, (cell - GAP) / DOUBLE, extent / height)
            )
            drawn = _draw(axes, suspects, kind, i, scale)
            image = drawn if drawn is not None else image
            y -= 0.02
    if image is not None:
        bar = figure.add_axes((0.3, 0.4 / height, 0.4, 0.07 / height))
        figure.colorbar(image, cax=bar, orientation="horizontal", label=quantity(suspects.task))
    if handles:
        figure.legend(
            handles=handles, loc="lower center", handlelength=1, handleheight=1,
            ncols=legend_columns(handles, DOUBLE), columnspacing=1.2,
        )  # fmt: skip
    return figure


def _rows(suspects: Suspects) -> list[tuple[str, float]]:
    """The parts of a tile from top to bottom, as (kind, height over width)."""
    rows = []
    if is_pictures(suspects.inputs):
        rows.append(("input", suspects.inputs.shape[-2] / suspects.inputs.shape[-1]))
    elif suspects.inputs.size:
        rows.append(("input curve", CURVE_ASPECT))
    if suspects.labels.ndim == 3:
        rows.append(("label", suspects.labels.shape[-2] / suspects.labels.shape[-1]))
    elif suspects.labels.ndim > 1 and suspects.views:
        rows += [
            (f"view {name}", picture.shape[-2] / picture.shape[-1])
            for name, picture in suspects.views.items()
        ]
    elif suspects.labels.ndim > 1:
        rows.append(("label curve", CURVE_ASPECT))
    return rows


def _draw(
    axes: Axes, suspects: Suspects, kind: str, i: int, scale: tuple[float, float]
) -> Any | None:
    """Draws one part of a tile; gives the image where a colour bar is to explain it."""
    if kind == "input":
        show(axes, suspects.inputs[i])
    elif kind.startswith("view "):
        show(axes, suspects.views[kind.removeprefix("view ")][i])
    elif kind == "label" and suspects.classify:
        show_classes(axes, suspects.task, suspects.labels[i])
    elif kind == "label":
        return show_values(axes, suspects.labels[i], *scale)
    else:
        values = suspects.inputs if kind == "input curve" else suspects.labels
        axes.plot(values[i].ravel(), linewidth=0.6, color="black")
        axes.set_ylim(*_scale(values, margin=0.05))
        axes.set_xticks([])
        axes.set_yticks([])
    return None


def _text(suspects: Suspects, i: int) -> str:
    """ "#4821", below it its name, and below that "3 (8?)" or "2.1 px (5.2?)"."""
    number = f"#{suspects.index[i]}"
    if suspects.names is not None:
        number += f"\n{short_name(suspects.names[i])}"
    if suspects.labels.ndim != 1:
        return number
    label, seen = suspects.labels[i], suspects.predicted(i)
    if not suspects.classify:
        given = f"{label:.4g} {suspects.task['unit']}".rstrip()
        return f"{number}\n{given}" + ("" if seen is None else f" ({seen:.4g}?)")
    hint = "" if seen in (None, label) else f" ({class_name(suspects.task, seen)}?)"
    return f"{number}\n{class_name(suspects.task, int(label))}{hint}"


def short_name(name: str) -> str:
    """The beginning of an instance's name."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def class_name(task: Mapping[str, Any], number: int) -> str:
    """A class as people call it."""
    classes = task["classes"]
    return str(classes[number]) if 0 <= number < len(classes) else str(number)


def _color(suspects: Suspects, i: int) -> str:
    if suspects.corrupted is None:
        return "black"
    return CORRUPTED if suspects.corrupted[i] else CLEAN


def _legend(suspects: Suspects) -> list[Any]:
    if suspects.labels.ndim == 3 and suspects.classify:
        return class_handles(suspects.task, suspects.labels)
    return []


def _scale(values: np.ndarray, margin: float = 0.0) -> tuple[float, float]:
    """The range of the finite values, without the outermost hundredth, which would hide all."""
    finite = values[np.isfinite(values)].astype(float)
    if not finite.size:
        return 0.0, 1.0
    low, high = np.quantile(finite, [0.01, 0.99])
    room = margin * (high - low)
    return (low - room, high + room) if high > low else (low - 0.5, high + 0.5)
