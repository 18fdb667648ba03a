"""Small trees in the format that NYUv2 is published in by the authors of MTAN."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SIZE = (32, 48)


def scene(
    seed: int | list[int], height: int = SIZE[0], width: int = SIZE[1]
) -> dict[str, npt.NDArray[Any]]:
    """Arrays of a scene drawn at random, as their authors store them; about a tenth of the pixels
    of each label are not labelled."""
    chance = np.random.default_rng(seed)
    size = (height, width)
    normal = chance.normal(size=(*size, 3))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return {
        "image": chance.random((*size, 3)),
        "label": np.where(chance.random(size) < 0.1, -1.0, chance.integers(0, 13, size)),
        "depth": chance.uniform(0.7, 10, (*size, 1)) * (chance.random((*size, 1)) >= 0.1),
        "normal": normal * (chance.random((*size, 1)) >= 0.1),
    }


def write_scene(
    root: Path, split: str, number: int, **arrays: npt.NDArray[Any]
) -> dict[str, npt.NDArray[Any]]:
    """Writes a drawn scene, some of its arrays replaced, and gives its arrays."""
    written = {**scene([number, split == "val"]), **arrays}
    for kind, values in written.items():
        path = root / split / kind / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values)
    return written


def write_tree(root: Path, *, train: int = 10, val: int = 3) -> Path:
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            write_scene(root, split, number)
    return root
