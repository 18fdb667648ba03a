"""The backdrop, and the houses, hedges, walls and trees along a street."""

from collections.abc import Iterator

import numpy as np

from mtlbench.suites.scenes.panels import box, upright
from mtlbench.suites.scenes.textures import (
    Grid,
    Random,
    Texture,
    Tones,
    Vector,
    any_colour,
    facade,
    foliage,
    noise,
    pick,
    plain,
    scaled,
)
from mtlbench.suites.scenes.vegetation import leaf_colour, tree
from mtlbench.suites.scenes.world import CONSTRUCTION, FARTHEST, NATURE, Panel, Street


def compose_backdrop(random: Random) -> Iterator[Panel]:
    """Roofs or tree tops in front of which the street ends."""
    wooded, height, phase = random.random() < 0.5, random.uniform(6, 24), random.uniform(0, 50)
    breadth = 0.5 if wooded else 12.0  # m; of a tree top or a house
    colour = (0.2, 0.28, 0.14) if wooded else scaled((0.5, 0.45, 0.42), random.uniform(0.6, 1.2))

    def paint(along: Grid, up: Grid) -> Tones:
        outline = 0.4 + 0.6 * noise(along // breadth * breadth + phase, 0 * up, 2.0)
        return (up < height * outline).astype(np.uint8)

    label = NATURE if wooded else CONSTRUCTION
    yield upright(0.0, FARTHEST, 0.0, 1000.0, height, label, Texture((colour,), paint))


def compose_plots(random: Random, street: Street, side: int, dusk: bool) -> Iterator[Panel]:
    """Houses, hedges, walls and trees along one side of the street, from near to far."""
    shares = random.dirichlet([2.2, 0.6, 0.5, 0.7, 0.4]).tolist()
    storeys, closed = random.uniform(1.5, 6), random.random() < 0.5
    begin, end = street.crossing
    z = random.uniform(-10, 1)
    while z < FARTHEST - 10:
        length = random.uniform(7, 20) * (1 + max(z, 0) / 60)
        if z < end and z + length > begin:
            length = begin - z
        if length < 3:
            z = end
            continue
        slope = street.heading(z + length / 2)
        front = street.middle(z) + street.wall(side)
        kind = pick(random, ("house", "hedge", "wall", "trees", "open"), shares)
        if kind == "house":
            height = 3.2 * max(storeys + random.normal(0, 1), 1)
            left = front if side > 0 else front - _HOUSE_DEPTH
            yield from _house(random, (left, 0.0, z), length, height, slope, dusk)
        elif kind in ("hedge", "wall"):
            label = NATURE if kind == "hedge" else CONSTRUCTION
            texture = foliage(random, leaf_colour(random))
            if kind == "wall":
                texture = plain(any_colour(random, 0.3, 0.7))
            size = (1.2, random.uniform(0.8, 3.2), length)
            left = front if side > 0 else front - size[0]
            yield from box((left, 0.0, z), size, slope, label, (texture, texture, texture))
        if kind in ("hedge", "trees"):
            for _ in range(random.integers(1, 4)):
                along = max(z + random.uniform(0, length), 5.0)
                x = street.middle(along) + street.wall(side) + side * random.uniform(1.5, 7)
                yield from tree(random, x, along, random.uniform(5, 13))
        z += length + (0.0 if closed else random.exponential(4))


_HOUSE_DEPTH = 14.0  # m; away from the street
_WALLS = ((0.64, 0.3, 0.22), (0.85, 0.75, 0.56), (0.85, 0.85, 0.82), (0.55, 0.55, 0.56))


def _house(
    random: Random, corner: Vector, length: float, height: float, slope: float, dusk: bool
) -> Iterator[Panel]:
    wall = scaled(pick(random, _WALLS), random.uniform(0.7, 1.15))
    if random.random() < 0.3:
        wall = any_colour(random, 0.4, 0.85)
    front_wall = facade(random, height, wall, dusk)
    size, textures = (_HOUSE_DEPTH, height, length), (front_wall, front_wall, plain(wall))
    yield from box(corner, size, slope, CONSTRUCTION, textures)
    if random.random() < 0.6:
        tile = pick(random, ((0.55, 0.26, 0.18), (0.3, 0.3, 0.34)))
        roof = plain(scaled(tile, random.uniform(0.6, 1.3)))
        # A pitched roof is a box whose two sides lean inwards until they meet.
        lean = (_HOUSE_DEPTH / 2, 0.0)
        base, size = (corner[0], height, corner[2]), (*size[:1], random.uniform(2.5, 5.5), length)
        yield from box(base, size, slope, CONSTRUCTION, (plain(wall), roof, roof), lean)
