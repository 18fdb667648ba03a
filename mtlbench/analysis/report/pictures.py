"""Pictures of labels and of predictions, as tiles small enough to lie inside the page."""

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image

from mtlbench.analysis.figures.pictures import is_pictures
from mtlbench.store.runs import LABELS_FILE, PREDICTIONS_FILE, StoredRun, read_run

MAX_EXAMPLES = 4
MAX_INSTANCES = 3
MAX_STRATEGIES = 5
MAX_CLASSES = 24
"""A key of more classes takes more room than it is worth."""

LARGEST = 192
"""Width and height of a tile (px); larger pictures are made smaller."""

SHOWN = 128
"""Least width at which a tile is shown (CSS px)."""

BUDGET = 2_500_000
"""Of all tiles together (bytes)."""

Arrays = Mapping[str, np.ndarray]
Task = Mapping[str, Any]


@dataclass(frozen=True)
class Tile:
    """A picture as a `data:` address with its size in CSS pixels, or, without one, a text."""

    address: str = ""
    width: int = 0
    height: int = 0
    text: str = ""


@dataclass(frozen=True)
class GridRow:
    name: str
    tiles: list[Tile]
    first: bool
    """Says whether an instance begins here."""


@dataclass(frozen=True)
class PictureGrid:
    """Tiles in rows and columns.

    Attributes:
        caption: what they show.
        columns: names.
        rows: with one tile a column.
        classes: colour and name of each class that is seen.
    """

    caption: str
    columns: list[str]
    rows: list[GridRow]
    classes: list[tuple[str, str]]

    @property
    def size(self) -> int:
        return sum(len(tile.address) for row in self.rows for tile in row.tiles)


class Painter:
    """Makes pictures until the page would be too large.

    Attributes:
        left_out: how many variants have pictures that were not made.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._bytes = 0

    def pictures(self, done: pd.DataFrame, labels: Mapping[str, str]) -> list[PictureGrid]:
        """The pictures of a variant.

        Args:
            done: one row a run of the variant that is done, the strategies to show first.
            labels: of the configurations.
        """
        first = done.drop_duplicates("configuration")[["configuration", "path"]]
        runs: list[tuple[str, StoredRun]] = []
        for key, path in first.itertuples(index=False):
            run = read_run(Path(path))
            if {LABELS_FILE, PREDICTIONS_FILE} & run.info["files"].keys():
                runs.append((labels[key], run))
            if len(runs) == MAX_STRATEGIES:
                break
        if not runs:
            return []
        if self._bytes > BUDGET:
            self.left_out += 1
            return []
        found = [*_labels(runs[0][1]), *_predictions(runs)]
        self._bytes += sum(pictures.size for pictures in found)
        return found


# --- labels and predictions ---------------------------------------------------------------------


def _labels(run: StoredRun) -> Iterator[PictureGrid]:
    """Inputs with their clean and their corrupted labels, for each corrupted task."""
    arrays = run.labels()
    if arrays is None or not is_pictures(arrays.get("example_input")):
        return
    for k, task in enumerate(run.info["tasks"]):
        name = task["name"]
        keys = [f"clean/{name}", f"given/{name}"]
        # Vectors, such as poses, are no pictures.
        if not all(key in arrays and arrays[key].ndim in (1, 3) for key in keys):
            continue
        # With several tasks corrupted, an example need not be corrupted in this one.
        chosen = np.flatnonzero(arrays["corrupted"][arrays["example_index"], k])[:MAX_EXAMPLES]
        if not len(chosen):
            continue
        clean, given = (arrays[key][chosen] for key in keys)
        paint, classes, note = _painter(task, clean, given)
        rows = [
            GridRow("input", [_image(arrays["example_input"][i]) for i in chosen], True),
            GridRow("clean", [paint(label) for label in clean], False),
            GridRow("given", [paint(label) for label in given], False),
        ]
        caption = f"Training inputs with their clean and their corrupted labels of {name}{note}"
        yield PictureGrid(caption, [""] * len(chosen), rows, classes)


def _predictions(runs: Sequence[tuple[str, StoredRun]]) -> Iterator[PictureGrid]:
    """Test inputs, the truth and what the first run of each strategy predicts."""
    kept = [(label, arrays) for label, run in runs if (arrays := run.predictions()) is not None]
    if not kept or not is_pictures(kept[0][1].get("input")):
        return
    truth, tasks = kept[0][1], {task["name"]: task for task in runs[0][1].info["tasks"]}
    shapes = {key.removeprefix("truth/"): truth[key].ndim for key in truth if "truth/" in key}
    kinds = [name for name in tasks if shapes.get(name) == 3]
    kinds += [name for name, dimensions in shapes.items() if dimensions == 4]
    same = [
        (label, arrays)
        for label, arrays in kept
        if arrays.keys() == truth.keys() and np.array_equal(arrays["input"], truth["input"])
    ]
    if not kinds:
        return
    rows: list[list[GridRow]] = [[] for _ in truth["input"][:MAX_INSTANCES]]
    key: list[tuple[str, str]] = []
    notes = ""
    for kind in kinds:
        columns = [truth[f"truth/{kind}"], *(a[f"prediction/{kind}"] for _, a in same)]
        paint, classes, note = (
            _painter(tasks[kind], *columns) if shapes[kind] == 3 else (_image, [], "")
        )
        key += classes
        notes += note
        for i, instance in enumerate(rows):
            first = not instance
            tiles = [_image(truth["input"][i]) if first else Tile()]
            instance.append(GridRow(kind, tiles + [paint(c[i]) for c in columns], first))
    names = ["input", "truth", *(label for label, _ in same)]
    caption = f"Test inputs, the truth, and what the first run of each strategy predicts{notes}"
    yield PictureGrid(caption, names, [row for instance in rows for row in instance], key)


# --- tiles --------------------------------------------------------------------------------------


def _painter(
    task: Task, *labels: np.ndarray
) -> tuple[Callable[[np.ndarray], Tile], list[tuple[str, str]], str]:
    """The way to show a label of a task, its key of colours and a note for the caption.

    Args:
        task: its `name`, `unit`, `classes` and `palette`.
        labels: all that will be shown; numbers are on the scale of the first.
    """
    unit = f" {task['unit']}".rstrip()
    if labels[0].ndim == 1:
        names = task["classes"]
        return lambda label: Tile(text=names[int(label)] if names else f"{label:.4g}{unit}"), [], ""
    if np.issubdtype(labels[0].dtype, np.integer):
        seen = np.unique(np.concatenate([label.ravel() for label in labels]))
        colors = _colors(task, int(max(seen.max(), 0)) + 1)
        names = task["classes"] or [str(i) for i in range(len(colors))]
        key = [
            ("#{:02x}{:02x}{:02x}".format(*colors[i + 1]), "no label" if i < 0 else names[i])
            for i in seen
        ]
        return (
            lambda label: _tile(colors[label + 1], exact=True),
            key if len(key) <= MAX_CLASSES else [],
            "",
        )
    finite = labels[0][np.isfinite(labels[0])].astype(float)
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)

    def paint(label: np.ndarray) -> Tile:
        share = (label.astype(float) - low) / ((high - low) or 1.0)
        return _tile((255 * mpl.colormaps["viridis"](share)[..., :3]).astype(np.uint8))

    return paint, [], f"; {task['name']} from {low:.3g} (dark) to {high:.3g}{unit} (bright)"


def _colors(task: Task, count: int) -> np.ndarray:
    """The colour of "no label" (-1) and of each class, uint8 [1 + classes, 3]."""
    if task["palette"]:
        palette = np.asarray(task["palette"])
    else:
        many = np.vstack([mpl.colormaps[name](np.arange(20)) for name in ("tab20", "tab20b")])
        palette = 255 * many[np.arange(count) % len(many), :3]
    return np.vstack([np.full(3, 230), palette]).astype(np.uint8)


def _image(picture: np.ndarray) -> Tile:
    """An input or a view [C, H, W]; values outside [0, 1] are stretched."""
    image = picture.astype(float)
    image = image.transpose(1, 2, 0) if len(image) == 3 else np.stack([image.mean(0)] * 3, -1)
    if np.issubdtype(picture.dtype, np.integer):
        image = image / 255
    elif image.min() < 0 or image.max() > 1:
        image = (image - image.min()) / (np.ptp(image) or 1)
    return _tile((255 * image).astype(np.uint8))


def _tile(pixels: np.ndarray, *, exact: bool = False) -> Tile:
    """Pixels uint8 [H, W, 3] as a tile; `exact` ones keep their colours."""
    image = Image.fromarray(pixels)
    if max(image.size) > LARGEST:
        how = Image.Resampling.NEAREST if exact else Image.Resampling.BOX
        image.thumbnail((LARGEST, LARGEST), how)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=exact, quality=85)
    scale = max(1, -(-SHOWN // image.width))
    address = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Tile(address, scale * image.width, scale * image.height)
