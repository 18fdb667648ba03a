"""People drawn from a seed, with the part of the body at every pixel, and shape and pose.

Everybody is the body of `mtlbench.models.body` in a shape and a pose of their own, seen by a camera
in whose axes the pose is given: x to the right in the picture, y up, z towards the camera. With
its root unturned a body faces the camera, its left on the right of the picture. What an SMPL layer
makes of a shape and a pose is thus the very surface in the picture, without any further turn, and
`Camera` tells how it is projected.
"""

import colorsys
import operator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mtlbench.data.cache import cached_arrays
from mtlbench.models.body import PARTS
from mtlbench.suites.people.drawing import BATCH, draw_batch
from mtlbench.suites.people.meshes import project, render_mesh

__all__ = ["CLASSES", "PALETTE", "People", "draw_people", "project", "render_mesh"]

CLASSES = ("background", *PARTS)
PALETTE = (
    (0, 0, 0),
    # Neighbours in the list, and so on the body, are far apart in hue.
    *(
        (round(255 * red), round(255 * green), round(255 * blue))
        for part in range(len(PARTS))
        for red, green, blue in [colorsys.hsv_to_rgb(0.381 * part % 1, 0.55, 0.95)]
    ),
)

_VERSION = 5
"""Of the pictures; to be raised with every change to them, lest old ones be found in a cache."""


@dataclass(frozen=True)
class People:
    """Pictures of one person each, with their labels."""

    images: npt.NDArray[np.uint8]  # [N, 3, H, W], RGB
    parts: npt.NDArray[np.uint8]  # [N, H, W], an index into CLASSES
    shape: npt.NDArray[np.float32]  # [N, 10], body.SHAPES, in [−2.5, 2.5]
    pose: npt.NDArray[np.float32]  # [N, 144], the 6D rotations of the 24 joints
    cameras: npt.NDArray[np.float32]  # [N, 4], the fields of a Camera


def draw_people(count: int, size: int = 64, *, seed: int, first: int = 0) -> People:
    """Draw the people `first` to `first + count - 1` of a seed, in size × size pixels.

    Who is drawn depends on the seed and the index only, neither on `count` nor on the size; only
    the grain of the picture is drawn anew for each size. Pictures are kept in the cache.
    """
    count, size, seed, first = map(operator.index, (count, size, seed, first))
    key = {"people": _VERSION, "count": count, "size": size, "seed": seed, "first": first}
    return People(**cached_arrays(key, lambda: _draw(count, size, seed, first)))


def _draw(count: int, size: int, seed: int, first: int) -> dict[str, npt.NDArray]:
    arrays: dict[str, npt.NDArray] = {
        "images": np.empty((count, 3, size, size), np.uint8),
        "parts": np.empty((count, size, size), np.uint8),
        "shape": np.empty((count, 10), np.float32),
        "pose": np.empty((count, 144), np.float32),
        "cameras": np.empty((count, 4), np.float32),
    }
    for start in range(first - first % BATCH, first + count, BATCH):
        batch = draw_batch(seed, start, size)
        begin, end = max(start, first), min(start + BATCH, first + count)
        for name, array in arrays.items():
            rows: torch.Tensor = getattr(batch, name)[begin - start : end - start]
            array[begin - first : end - first] = rows.numpy()
    return arrays
