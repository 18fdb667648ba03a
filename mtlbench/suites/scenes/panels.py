"""Panels of simple shapes: boxes, upright panels and shadows on the ground."""

from collections.abc import Iterator

from mtlbench.suites.scenes.textures import Texture, Vector, plain, scaled
from mtlbench.suites.scenes.world import FLAT, Panel


def box(
    corner: Vector,
    size: Vector,
    slope: float,
    label: int,
    textures: tuple[Texture, Texture, Texture],
    lean: tuple[float, float] = (0.0, 0.0),
) -> Iterator[Panel]:
    """The faces of a box seen from the origin, with textures of (near, left and right, top).

    The box is (width, height, length) large, and moves to the right by `slope` for each metre
    ahead. Its walls lean inwards by `lean` m at either end of its width and of its length.
    """
    (width, height, length), (across, ahead), (near, beside, top) = size, lean, textures
    heading = (slope * length, 0.0, length)
    inset = (slope * ahead, height, ahead)
    taper = ahead / length
    yield Panel(corner, (width, 0.0, 0.0), inset, label, near, across / width)
    back = scaled(heading, -1)
    yield Panel(add(corner, heading), back, (across, height, 0.0), label, beside, taper)
    right = add(corner, (width, 0.0, 0.0))
    yield Panel(right, heading, (-across, height, 0.0), label, beside, taper)
    if width > 2 * across:
        lid, breadth = add(corner, add(inset, (across, 0.0, 0.0))), width - 2 * across
        yield Panel(lid, (breadth, 0.0, 0.0), scaled(heading, 1 - 2 * taper), label, top)


def upright(
    x: float, z: float, bottom: float, width: float, height: float, label: int, texture: Texture
) -> Panel:
    """A panel across the line of sight, with its middle at x."""
    return Panel((x - width / 2, bottom, z), (width, 0.0, 0.0), (0.0, height, 0.0), label, texture)


def shadow(x: float, z: float, width: float, heading: Vector) -> Panel:
    """A dark patch on the ground, just high enough to cover it."""
    return Panel((x, 1e-3, z), (width, 0.0, 0.0), heading, FLAT, plain((0.1, 0.1, 0.11)))


def add(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]
