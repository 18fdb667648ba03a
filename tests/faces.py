"""Small trees in the format that CelebA is published in."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mtlbench.data.celeba import ATTRIBUTES


def write_face(path: Path, pixels: np.ndarray | None = None, **options: object) -> None:
    """An image of 178 × 218, as JPEG of the best quality; grey where nothing is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((218, 178, 3), 128, np.uint8) if pixels is None else pixels
    Image.fromarray(pixels).save(path, "JPEG", **{"quality": 100, "subsampling": 0, **options})


def write_lists(
    root: Path,
    labels: Mapping[str, Sequence[int]],
    parts: Mapping[str, int],
    *,
    count: int | None = None,
    names: Sequence[str] = ATTRIBUTES,
    end: str = "\n",
) -> None:
    """The lists of attributes, 0 or 1 here and −1 or 1 there, and of splits.

    Args:
        root: the directory of both.
        labels: name of an image to its 40 labels.
        parts: name of an image to the number of its split.
        count: what the first line says; the number of images where None.
        names: of the attributes.
        end: of lines.
    """
    root.mkdir(parents=True, exist_ok=True)
    rows = [f"{name} " + " ".join(f"{2 * v - 1:2d}" for v in row) for name, row in labels.items()]
    head = [str(len(labels) if count is None else count), " ".join(names) + " "]
    text = end.join([*head, *rows, ""])
    (root / "list_attr_celeba.txt").write_bytes(text.encode())
    text = end.join([*(f"{name} {part}" for name, part in parts.items()), ""])
    (root / "list_eval_partition.txt").write_bytes(text.encode())


def write_faces(root: Path, *, train: int = 8, val: int = 4, test: int = 4, seed: int = 0) -> None:
    """Images whose first attribute is how bright they are, the others drawn. Of two neighbours one
    has each attribute and the other lacks it, so that none is missing in a split of two or more."""
    chance = np.random.default_rng(seed)
    labels, parts = {}, {}
    for number in range(train + val + test):
        name = f"{number + 1:06d}.jpg"
        label = chance.integers(0, 2, len(ATTRIBUTES))
        if number % 2:
            label = 1 - labels[f"{number:06d}.jpg"]
        labels[name] = label
        parts[name] = 0 if number < train else 1 if number < train + val else 2
        pixels = chance.integers(0, 80, (218, 178, 3), np.uint8) + np.uint8(150 * label[0])
        write_face(root / "img_align_celeba" / name, pixels)
    write_lists(root, labels, parts)
