"""NYUv2 as the authors of MTAN publish it.

Silberman, Hoiem, Kohli, Fergus: Indoor Segmentation and Support Inference from RGBD Images, ECCV
2012. Liu, Johns, Davison: End-to-End Multi-Task Learning with Attention, CVPR 2019 (MTAN).

    <split>/image/<i>.npy    [H, W, 3], RGB in [0, 1]
    <split>/label/<i>.npy    [H, W], one of the 13 classes, or −1 where there is none
    <split>/depth/<i>.npy    [H, W, 1] (m), 0 where it was not measured
    <split>/normal/<i>.npy   [H, W, 3], directions, 0 where there is none

are published with H = 288 and W = 384, 795 of them in `train` and 654 in `val`. They give

    image          uint8 [3, H, W], RGB
    segmentation   int8 [H, W], as published
    depth          float32 [H, W], as published
    normal         float32 [3, H, W], of length 1, or 0 where there is none
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mtlbench.data.prepare.arrays import load_array, open_array
from mtlbench.data.prepare.reader import ProblemError, Reader
from mtlbench.data.shards import Arrays, ArraySpec, Part
from mtlbench.errors import UserError

CLASSES = 13
IGNORED = -1
HEIGHT, WIDTH = 288, 384

FARTHEST = 100.0
"""Largest depth there can be in a room (m): beyond, a file has another unit."""

SHORTEST = 0.01
"""Least length of a direction; the zero vector, kept in 8 bits, would have 0.007."""


@dataclass(frozen=True)
class NYUv2(Reader):
    """The `.npy` arrays of the MTAN authors.

    Attributes:
        root: the raw directory.
        height, width: of its images (px).
    """

    root: Path
    height: int
    width: int

    dataset: ClassVar[str] = "nyuv2"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    unit: ClassVar[str] = "images"
    items_per_shard: ClassVar[int] = 32

    @property
    def settings(self) -> dict[str, Any]:
        return {"height": self.height, "width": self.width}

    @property
    def specs(self) -> dict[str, ArraySpec]:
        size = (self.height, self.width)
        return {
            "image": ArraySpec("uint8", (3, *size)),
            "segmentation": ArraySpec("int8", size),
            "depth": ArraySpec("float32", size),
            "normal": ArraySpec("float32", (3, *size)),
        }

    def items(self, split: str) -> dict[str, int]:
        files = _images(self.root, split)
        return {file.stem: file.stat().st_size for file in sorted(files, key=lambda f: int(f.stem))}

    def read(self, split: str, item: str) -> Part:
        size = (self.height, self.width)

        def load(kind: str, shape: tuple[int, ...], least: float, most: float) -> npt.NDArray[Any]:
            return load_array(self.root, f"{split}/{kind}/{item}.npy", shape, least, most)

        # Resizing may have left colours and components that are a little beyond.
        image = load("image", (*size, 3), -0.01, 1.01).clip(0, 1)
        label = load("label", size, IGNORED, CLASSES - 1)
        depth = load("depth", (*size, 1), 0, FARTHEST)
        normal = load("normal", (*size, 3), -1.1, 1.1)
        classes = label.astype(np.int8)
        if (classes != label).any():
            raise ProblemError("labels out of range", f"{split}/label/{item}.npy has fractions")
        arrays: Arrays = {
            "image": np.round(image * 255).astype(np.uint8).transpose(2, 0, 1)[None],
            "segmentation": classes[None],
            "depth": depth[..., 0].astype(np.float32)[None],
            "normal": directions(normal).transpose(2, 0, 1)[None],
        }
        return Part(arrays, [f"{split}/{item}"])


def directions(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Vectors [H, W, 3] brought to length 1; 0 where there is no direction."""
    vectors = vectors.astype(np.float32)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    known = length > SHORTEST
    return np.where(known, vectors / np.where(known, length, 1), np.float32(0))


def detect(root: Path) -> NYUv2:
    """The reader for a directory. Images have the size of most of them: one that is broken does
    not decide.

    Raises:
        UserError: it has no such arrays.
    """
    kinds = ("image", "label", "depth", "normal")
    found = [split for split in NYUv2.splits if (root / split / "image").is_dir()]
    if not found:
        expected = ", ".join(f"train/{kind}" for kind in kinds)
        raise UserError(
            f"no NYUv2 in {str(root)!r}: expected {expected} and the same below val, as the "
            "authors of MTAN publish them"
        )
    for split in found:
        for kind in kinds:
            if not (root / split / kind).is_dir():
                raise UserError(f"{str(root)!r} has {split}/image, but no {split}/{kind}")
    sizes: Counter[tuple[int, int]] = Counter()
    for split in found:
        for file in _images(root, split):
            try:
                shape = open_array(file).shape
            except (OSError, ValueError, EOFError):
                continue
            if len(shape) == 3 and shape[2] == 3:
                sizes[shape[0], shape[1]] += 1
    height, width = sizes.most_common(1)[0][0] if sizes else (HEIGHT, WIDTH)
    return NYUv2(root, height, width)


def _images(root: Path, split: str) -> list[Path]:
    """The images of a split, in no order."""
    return [f for f in (root / split / "image").glob("*.npy") if f.stem.isdecimal()]
