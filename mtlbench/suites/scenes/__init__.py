"""Street scenes drawn from a seed, with the class and the inverse depth of every pixel.

A scene is composed in world units before anything is drawn: a camera, a street, a light and a list
of flat panels (house fronts, car doors, tree crowns, ...). The world has x to the right, y up and z
ahead, in metres, with the origin on the ground below the camera. Panels are then drawn into a depth
buffer, so that colour, class and depth come from the same geometry at whatever size is asked for.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtlbench.suites.scenes.composition import compose
from mtlbench.suites.scenes.rendering import NEAREST, render
from mtlbench.suites.scenes.world import CLASSES, PALETTE

__all__ = ["CLASSES", "NEAREST", "PALETTE", "Scenes", "draw_scenes"]


@dataclass(frozen=True)
class Scenes:
    """Pictures with their labels, all of one size."""

    images: npt.NDArray[np.uint8]  # [N, 3, H, W], RGB
    segmentation: npt.NDArray[np.uint8]  # [N, H, W], an index into CLASSES
    inverse_depth: npt.NDArray[np.float32]  # [N, H, W], 1/m, in [0, 0.2]; 0 for the sky


def draw_scenes(
    count: int, height: int = 32, width: int = 64, *, seed: int, first: int = 0
) -> Scenes:
    """Draw the scenes `first` to `first + count - 1` of a seed.

    What a scene contains depends on the seed and its index only, neither on `count` nor on the
    size; only the grain of its surfaces is drawn anew for each size.
    """
    images = np.empty((count, 3, height, width), np.uint8)
    segmentation = np.empty((count, height, width), np.uint8)
    inverse_depth = np.empty((count, height, width), np.float32)
    for position in range(count):
        contents, grain = np.random.SeedSequence([seed, first + position]).spawn(2)
        world = compose(np.random.default_rng(contents))
        images[position], segmentation[position], inverse_depth[position] = render(
            world, height, width, np.random.default_rng(grain)
        )
    return Scenes(images, segmentation, inverse_depth)
