"""Trees, and the colour of leaves."""

from collections.abc import Iterator

from mtlbench.suites.scenes.panels import upright
from mtlbench.suites.scenes.textures import Random, Vector, foliage, plain, scaled
from mtlbench.suites.scenes.world import NATURE, Panel


def leaf_colour(random: Random) -> Vector:
    """Green, at times with the yellow of autumn."""
    return scaled((0.3 + 0.25 * random.random() ** 4, 0.5, 0.13), random.uniform(0.6, 1.1))


def tree(random: Random, x: float, z: float, height: float) -> Iterator[Panel]:
    trunk, width = height * random.uniform(0.2, 0.35), height * random.uniform(0.4, 0.75)
    bark = plain(scaled((0.34, 0.25, 0.18), random.uniform(0.6, 1.2)))
    yield upright(x, z, 0.0, 0.035 * height + 0.1, trunk + 0.3 * height, NATURE, bark)
    crown = foliage(random, leaf_colour(random), (width, height - trunk))
    yield upright(x, z - 0.05, trunk, width, height - trunk, NATURE, crown)
