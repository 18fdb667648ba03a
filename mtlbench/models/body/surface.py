"""The closed surface: its left half swept along the outline, and the mirror image."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mtlbench.models.body.mesh import (
    ARM_LIMB,
    FLIP,
    FOOT_LIMB,
    HEAD_LIMB,
    LEG_LIMB,
    NECK_LIMB,
    TRUNK_LIMB,
    Array,
    Mesh,
    neighbour_mean,
)
from mtlbench.models.body.outline import (
    ARM,
    ARM_COLUMNS,
    ARMPIT_ROW,
    COLUMNS,
    CROTCH,
    CROWN,
    FINGER_TIP,
    FOOT,
    HEAD_ROW,
    LEG,
    NECK_ROW,
    SHOULDER_ROW,
    SOLE,
    THUMB,
    THUMB_AXIS,
    THUMB_COLUMN,
    THUMB_RING,
    THUMB_TIP,
    TOE,
    TRUNK,
    TrunkRow,
)


@dataclass
class SurfaceBuilder:
    """The left half of the surface, while it grows."""

    vertices: list[Sequence[float]] = field(default_factory=list)
    limbs: list[int] = field(default_factory=list)
    faces: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, points: Sequence[Sequence[float]] | Array, limb: int) -> list[int]:
        """New vertices [N, 3]; their indices."""
        first = len(self.vertices)
        self.vertices += [tuple(map(float, point)) for point in points]
        self.limbs += [limb] * len(points)
        return list(range(first, len(self.vertices)))

    def bridge(self, base: Sequence[int], beyond: Sequence[int], skip: Sequence[int] = ()) -> None:
        """Faces between two rows, which run counter-clockwise seen from beyond the second."""
        for k, ((a, b), (c, d)) in enumerate(zip(pairwise(base), pairwise(beyond), strict=True)):
            if k not in skip:
                # The diagonals alternate, which no light betrays.
                quad = ((a, b, d), (a, d, c)) if k % 2 else ((a, b, c), (b, d, c))
                self.faces += quad

    def close(self, row: Sequence[int], tip: Sequence[float], limb: int) -> None:
        """Faces between a row and the one vertex at the end."""
        (end,) = self.add([tip], limb)
        self.faces += [(a, b, end) for a, b in pairwise(row)]


def sweep_surface() -> Mesh:
    """The surface of the template."""
    return _mirror(_sweep_half())


def _sweep_half() -> SurfaceBuilder:
    """The left half of the surface, from x = 0 outwards."""
    half = SurfaceBuilder()
    rows = [half.add(_trunk_row(row), _trunk_limb(k)) for k, row in enumerate(TRUNK)]
    for k, (below, above) in enumerate(pairwise(rows)):
        inside = ARMPIT_ROW <= k < SHOULDER_ROW
        half.bridge(below, above, skip=ARM_COLUMNS[:2] if inside else ())
    half.close(rows[-1], CROWN, HEAD_LIMB)
    _sweep_leg(half, rows[0])
    front, middle, back = ARM_COLUMNS
    shoulder, armpit = rows[SHOULDER_ROW], rows[ARMPIT_ROW]
    between = rows[ARMPIT_ROW + 1 : SHOULDER_ROW]
    rim = [shoulder[middle], shoulder[front], *(row[front] for row in reversed(between))]
    rim += [armpit[front], armpit[middle], armpit[back], *(row[back] for row in between)]
    rim += [shoulder[back]]
    _sweep_arm(half, rim)
    return half


def _trunk_limb(row: int) -> int:
    return TRUNK_LIMB if row < NECK_ROW else NECK_LIMB if row < HEAD_ROW else HEAD_LIMB


def _trunk_row(row: TrunkRow) -> Array:
    """Vertices [COLUMNS, 3], somewhat more angular than an ellipse."""
    angle = np.linspace(0, np.pi, COLUMNS)
    across, ahead = np.sin(angle), np.cos(angle)
    across[[0, -1]] = 0.0  # in the plane of symmetry
    ahead = np.sign(ahead) * np.abs(ahead) ** 0.9
    front, back = np.array(row.front), np.array(row.back)
    y, z = ((front + back)[:, None] + (front - back)[:, None] * ahead) / 2
    return np.stack([row.width * across**0.8, y, z], 1)


def _sweep_leg(half: SurfaceBuilder, hip: list[int]) -> None:
    """A leg and its foot, below the lowest row of the trunk."""
    above = [*hip, *half.add([CROTCH], TRUNK_LIMB), hip[0]]
    # As the row of the trunk: from the front over the left to the back and on to the inside.
    angle = np.deg2rad(150 - 30.0 * np.arange(12))
    outwards, ahead = np.cos(angle), np.sin(angle)
    rings = []
    for y, (x, z), (radius_x, radius_z) in LEG:
        points = np.stack([x + radius_x * outwards, np.full(12, y), z + radius_z * ahead], 1)
        rings.append((points, LEG_LIMB))
    for top, bottom, x, width in FOOT:
        middle = (np.array(top) + bottom)[:, None] / 2
        y, z = middle + (np.array(top) - bottom)[:, None] / 2 * ahead
        points = np.stack([x + width * outwards, np.maximum(y, SOLE), z], 1)
        rings.append((points, FOOT_LIMB))
    for points, limb in rings:
        ring = half.add(points, limb)
        below = [*ring, ring[0]]
        half.bridge(below, above)
        above = below
    (toe,) = half.add([TOE], FOOT_LIMB)
    half.faces += [(b, a, toe) for a, b in pairwise(above)]


def _sweep_arm(half: SurfaceBuilder, rim: list[int]) -> None:
    """An arm and its hand, from the rim of its hole on, which runs from the top to the front."""
    angle = np.deg2rad(36.0 * np.arange(10))
    up, ahead = np.cos(angle), np.sin(angle)
    inner = [*rim, rim[0]]
    rings = []
    for k, (x, (y, z), (radius_y, radius_z)) in enumerate(ARM):
        points = np.stack([np.full(10, x), y + radius_y * up, z + radius_z * ahead], 1)
        rings.append(half.add(points, ARM_LIMB))
        outer = [*rings[-1], rings[-1][0]]
        thumb = THUMB_RING < k <= THUMB_RING + 2
        half.bridge(inner, outer, skip=(THUMB_COLUMN,) if thumb else ())
        inner = outer
    half.close(inner, FINGER_TIP, ARM_LIMB)

    first, second, third = rings[THUMB_RING : THUMB_RING + 3]
    k = THUMB_COLUMN
    rim = [first[k], first[k + 1], second[k + 1], third[k + 1], third[k], second[k]]
    inner = [*rim, rim[0]]
    axis = np.array(THUMB_AXIS) / np.linalg.norm(THUMB_AXIS)
    along = np.cross((0.0, 1.0, 0.0), axis)
    along /= np.linalg.norm(along)
    above = np.cross(axis, along)
    # From above the wrist to below it, and on to the finger tips.
    angle = np.deg2rad(150 + 60.0 * np.arange(6))[:, None]
    for place, radius in THUMB:
        points = np.array(place) + radius * (np.cos(angle) * along + np.sin(angle) * above)
        ring = half.add(points, ARM_LIMB)
        outer = [*ring, ring[0]]
        half.bridge(inner, outer)
        inner = outer
    half.close(inner, THUMB_TIP, ARM_LIMB)


def _mirror(half: SurfaceBuilder) -> Mesh:
    """The whole surface: the left half, smoothed, and its mirror image."""
    faces = np.array(half.faces)
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    left = np.array(half.vertices)[used]
    limbs = np.array(half.limbs)[used]
    central = left[:, 0] == 0
    others = np.flatnonzero(~central)
    partner = np.arange(len(left))
    partner[others] = len(left) + np.arange(len(others))
    mirrored = np.concatenate([partner, others])
    faces = np.concatenate([faces, partner[faces[:, ::-1]]])
    vertices = np.concatenate([left, left[others] * FLIP])
    # Taubin 1995: a step that shrinks and one that swells smooth without loss of volume.
    for step in (0.5, -0.52) * 4:
        vertices = vertices + step * (neighbour_mean(faces, vertices) - vertices)
        # Symmetric to the last bit.
        vertices = (vertices + vertices[mirrored] * FLIP) / 2
    limbs = np.concatenate([limbs, limbs[others]])
    return Mesh(vertices + _features(vertices), faces, limbs, mirrored)


class _Feature(NamedTuple):
    """A rise or a dent: its middle, its breadth along each axis, and how far it moves."""

    middle: tuple[float, float, float]
    breadth: tuple[float, float, float]
    shift: tuple[float, float, float]


# On the left half; those at x = 0 are their own mirror images.
_FEATURES = (
    _Feature((0.000, 0.606, 0.100), (0.012, 0.020, 0.040), (0.0, -0.004, 0.018)),  # nose
    _Feature((0.000, 0.548, 0.090), (0.020, 0.012, 0.030), (0.0, 0.0, 0.006)),  # chin
    _Feature((0.030, 0.640, 0.090), (0.016, 0.016, 0.030), (0.0, 0.0, -0.006)),  # eye
    _Feature((0.075, 0.640, -0.010), (0.020, 0.026, 0.018), (0.009, 0.0, -0.004)),  # ear
    _Feature((0.075, 0.300, 0.100), (0.050, 0.050, 0.060), (0.0, 0.0, 0.014)),  # breast
    _Feature((0.080, -0.060, -0.110), (0.050, 0.055, 0.060), (0.0, 0.0, -0.014)),  # buttock
    _Feature((0.091, -0.440, 0.060), (0.030, 0.030, 0.040), (0.0, 0.0, 0.005)),  # kneecap
)


def _features(vertices: Array) -> Array:
    """Moves of the vertices of the smoothed surface by the features [V, 3]."""
    side = np.where(vertices[:, :1] < 0, FLIP, 1.0)
    moves = np.zeros_like(vertices)
    for middle, breadth, shift in _FEATURES:
        distance = (vertices * side - middle) / breadth
        moves += np.exp(-(distance**2).sum(1, keepdims=True)) * side * shift
    moves[vertices[:, 0] == 0, 0] = 0.0
    return moves
