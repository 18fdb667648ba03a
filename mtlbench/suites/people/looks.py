"""The clothes of a person, the light, and the room behind: drawn as numbers, painted later.

Colours are RGB, 1 for white; places on the body are those of the template in its rest pose (m);
places in a picture are shares of its side, from the upper left corner.
"""

import colorsys
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from mtlbench.suites.people.poses import Array, Random

Colour = tuple[float, float, float]
T = TypeVar("T")

MATERIALS = ("skin", "hair", "shirt", "pattern", "trousers", "shoes", "belt", "eyes", "lips")
BLOCKS = 3
CLOUDS = 7


class Outfit(NamedTuple, Generic[T]):
    """The ends of the clothes and of the hair, of one person or of many."""

    hem: T  # y, of the shirt, which is a coat or a dress where it is long
    sleeve: T  # |x|
    collar: T  # how far below the neck the collar is in front (m)
    opening: T  # half the width of an open front, through which the pattern shows (m)
    waist: T  # y, of the belt's lower edge
    belt: T  # its width (m)
    leg: T  # y, where trousers end
    shoe: T  # y, where shoes end
    hairline: T  # y, on the forehead
    sideburn: T  # z, where hair begins beside the face
    nape: T  # y, where hair ends behind
    beard: T  # y, below which hair covers the face
    stripes: T  # of the pattern (rad/m); 0 for none
    upright: T  # 1 where the stripes run along the body, 0 around it
    share: T  # the least sine where the pattern is


class Looks(NamedTuple):
    """All that makes a picture besides the body and the camera; a batch adds an axis before.

    Grooves are darker lines: how many radians a picture across, and down, the phase (rad), and how
    much darker they are.
    """

    palette: Tensor  # [9, 3], of MATERIALS
    outfit: Tensor  # [15], an Outfit
    tints: Tensor  # [24], a factor for each part of the body
    sun: Tensor  # [3], towards the light, of unit length
    sunlight: Tensor  # [3], what a white surface that faces the light gets from it
    skylight: Tensor  # [3], what it gets from all around
    wall: Tensor  # [2, 3], at the top and at the foot
    floor: Tensor  # [2, 3], at the wall and near the camera
    depth: Tensor  # [2], how far above the person's feet the floor ends, left and right
    grooves: Tensor  # [2, 4], of wall and floor
    blocks: Tensor  # [BLOCKS, 4], left, top, right and bottom of what hangs and stands there
    block_colours: Tensor  # [BLOCKS, 2, 3], at their tops and bottoms
    block_grooves: Tensor  # [BLOCKS, 4]
    clouds: Tensor  # [3, CLOUDS, CLOUDS], unevenness, added to the room
    shadow: Tensor  # [], how much darker the floor is below the person


_SKINS = (
    (0.88, 0.68, 0.54), (0.84, 0.62, 0.46), (0.78, 0.56, 0.40), (0.70, 0.48, 0.33),
    (0.62, 0.42, 0.28), (0.47, 0.31, 0.20), (0.34, 0.22, 0.15),
)  # fmt: skip
_HAIRS = (
    (0.08, 0.06, 0.05), (0.16, 0.10, 0.06), (0.30, 0.18, 0.09), (0.45, 0.30, 0.15),
    (0.72, 0.56, 0.30), (0.50, 0.24, 0.10), (0.62, 0.60, 0.58),
)  # fmt: skip
_CLOTHS = (
    (0.13, 0.17, 0.30), (0.25, 0.35, 0.52), (0.10, 0.10, 0.11), (0.34, 0.34, 0.36),
    (0.50, 0.42, 0.30), (0.36, 0.26, 0.18), (0.45, 0.16, 0.14), (0.25, 0.30, 0.20),
)  # fmt: skip
_FLOORS = (
    (0.55, 0.38, 0.22), (0.42, 0.28, 0.18), (0.70, 0.55, 0.38), (0.50, 0.50, 0.50),
    (0.35, 0.36, 0.38), (0.62, 0.58, 0.52), (0.36, 0.42, 0.28),
)  # fmt: skip


def draw_looks(random: Random) -> Looks:
    """The looks of one picture."""
    looks = [
        _draw_palette(random),
        _draw_outfit(random),
        random.normal(1, 0.03, 24),
        *_draw_light(random),
        *_draw_room(random),
        *_draw_blocks(random),
        _draw_clouds(random),
        random.uniform(0.25, 0.65),
    ]
    return Looks(*(torch.tensor(np.asarray(value), dtype=torch.float32) for value in looks))


def _colour(random: Random, least: float, most: float, muted: float = 2.0) -> Array:
    """Any hue, its brightness in a range, and the greyer the more `muted`."""
    hue, saturation = random.random(), float(random.beta(1.5, muted))
    return np.array(colorsys.hsv_to_rgb(hue, saturation, random.uniform(least, most)))


def _shade_of(random: Random, colours: tuple[Colour, ...], spread: float = 0.12) -> Array:
    """One of these colours, a little lighter or darker and a little off."""
    colour = np.array(colours[random.integers(len(colours))])
    return np.clip(colour * random.normal(1, spread) + random.normal(0, 0.015, 3), 0.02, 1)


def _draw_palette(random: Random) -> Array:
    skin, hair = _shade_of(random, _SKINS, 0.06), _shade_of(random, _HAIRS)
    shirt = _shade_of(random, _CLOTHS) if random.random() < 0.25 else _colour(random, 0.1, 0.6, 1.0)
    trousers = _shade_of(random, _CLOTHS) if random.random() < 0.75 else _colour(random, 0.1, 0.5)
    if random.random() < 0.06:
        trousers = shirt  # overalls
    shoes = _shade_of(random, _CLOTHS) if random.random() < 0.75 else _colour(random, 0.2, 0.6)
    pattern, belt = _colour(random, 0.15, 0.8), _shade_of(random, _CLOTHS)
    eyes, lips = np.array((0.10, 0.08, 0.08)), skin * (0.85, 0.6, 0.6)
    return np.array([skin, hair, shirt, pattern, trousers, shoes, belt, eyes, lips])


def _draw_outfit(random: Random) -> Outfit[float]:
    def between(*ranges: tuple[float, float, float]) -> float:
        """A value from one of several ranges, each given after its share; the shares sum to 1."""
        bounds = np.cumsum([share for share, _, _ in ranges[:-1]])
        _, least, most = ranges[int(np.searchsorted(bounds, random.random(), side="right"))]
        return float(random.uniform(least, most))

    waist = random.uniform(0.02, 0.10)
    long_hair, bald, bearded = random.random() < 0.35, random.random() < 0.07, random.random() < 0.3
    return Outfit(
        hem=between((0.65, waist, waist), (0.2, -0.16, -0.04), (0.15, -0.45, -0.25)),
        sleeve=between((0.12, 0.15, 0.16), (0.43, 0.25, 0.37), (0.45, 0.61, 0.69)),
        collar=between((0.5, 0.0, 0.02), (0.5, 0.03, 0.12)),
        opening=between((0.8, 0.0, 0.0), (0.2, 0.02, 0.06)),
        waist=waist,
        belt=between((0.6, 0.0, 0.0), (0.4, 0.02, 0.035)),
        leg=between((0.25, -0.42, -0.25), (0.08, -0.70, -0.50), (0.67, -0.87, -0.83)),
        shoe=between((0.06, -1.0, -1.0), (0.80, -0.885, -0.86), (0.14, -0.80, -0.60)),
        hairline=0.9 if bald else random.uniform(0.685, 0.715),
        sideburn=-0.2 if bald else random.uniform(-0.005, 0.04),
        nape=random.uniform(0.38, 0.52) if long_hair else random.uniform(0.56, 0.62),
        beard=random.uniform(0.565, 0.60) if bearded and not long_hair else 0.0,
        stripes=between((0.7, 0.0, 0.0), (0.3, 40, 140)),
        upright=float(random.random() < 0.3),
        share=random.uniform(-0.4, 0.6),
    )


def _draw_light(random: Random) -> tuple[Array, Array, Array]:
    """A lamp or a window in front of the person, and what the room gives back."""
    elevation, azimuth = np.deg2rad(random.uniform((10, -85), (70, 85)))
    level = np.cos(elevation)
    sun = np.array([level * np.sin(azimuth), np.sin(elevation), level * np.cos(azimuth)])
    warmth, exposure = random.normal(0, 0.06), random.uniform(1.05, 1.45)
    share = random.uniform(0.3, 0.6)
    warm = np.array([1 + warmth, 1.0, 1 - warmth])
    return sun, exposure * (1 - share) * warm, exposure * share / warm


def _draw_room(random: Random) -> tuple[Array, Array, Array, Array]:
    """Wall, floor, the floor's depth, and the grooves of both.

    Rooms are light and clothes are not: in dark and cluttered rooms a small network needs many
    times the training to see limbs at 64×64 pixels.
    """
    wall = _colour(random, 0.75, 0.98, muted=8.0)
    floor = 0.5 + 0.5 * _shade_of(random, _FLOORS)
    depth = random.uniform(0.03, 0.35) + np.array((-1, 1)) * random.normal(0, 0.02)
    grooves = [_draw_grooves(random, 0.4, 0.1), _draw_grooves(random, 0.6, 0.15)]
    return (
        wall * random.uniform(0.85, 1.05, (2, 1)),
        floor * random.uniform(0.85, 1.05, (2, 1)),
        depth,
        np.array(grooves),
    )


def _draw_grooves(random: Random, chance: float, deepest: float) -> Array:
    """Boards, tiles or shelves, mostly upright or level; none of them has no depth."""
    frequency, skew = random.uniform(20, 110), random.uniform(0, 10)
    across, down = (frequency, skew) if random.random() < 0.6 else (skew, frequency)
    depth = random.uniform(0.03, deepest) if random.random() < chance else 0.0
    return np.array([across, down, random.uniform(0, 6), depth])


def _draw_blocks(random: Random) -> tuple[Array, Array, Array]:
    """Windows, pictures, doors, furniture: as rectangles, those not needed without area."""
    blocks, colours = np.zeros((BLOCKS, 4)), np.zeros((BLOCKS, 2, 3))
    grooves = np.zeros((BLOCKS, 4))
    for k in range(random.integers(BLOCKS + 1)):
        middle, width, height, bottom = random.uniform(
            (0.0, 0.06, 0.08, 0.2), (1.0, 0.45, 0.60, 1.0)
        )
        blocks[k] = middle - width / 2, bottom - height, middle + width / 2, bottom
        colour = _colour(random, 0.6, 0.95, muted=5.0)
        colours[k] = colour * random.uniform(0.85, 1.05, (2, 1))
        grooves[k] = _draw_grooves(random, 0.4, 0.15)
    return blocks, colours, grooves


def _draw_clouds(random: Random) -> Array:
    colourful, grey = 0.03 * random.random() ** 2, 0.08 * random.random()
    return random.normal(0, colourful, (3, CLOUDS, CLOUDS)) + random.normal(
        0, grey, (CLOUDS, CLOUDS)
    )
