"""A body of our own, in the layout of an SMPL file, whose own body may not be passed on.

The surface is one closed mesh swept along a trunk, a leg and an arm, the left half first and then
its mirror image. All lengths are in metres, in SMPL's rest pose: x to the person's left, y up, z
ahead, the pelvis joint at the origin, the arms stretched out sideways.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mtlbench.models.smpl import JOINTS, PARENTS, BodyModel

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

PARTS = (
    "pelvis",
    "left thigh",
    "right thigh",
    "waist",
    "left shin",
    "right shin",
    "midriff",
    "left foot",
    "right foot",
    "chest",
    "left toes",
    "right toes",
    "neck",
    "left shoulder",
    "right shoulder",
    "head",
    "left upper arm",
    "right upper arm",
    "left forearm",
    "right forearm",
    "left hand",
    "right hand",
    "left fingers",
    "right fingers",
)
"""What follows each joint, in the order of `smpl.JOINTS`."""

SHAPES = (
    "height",
    "girth",
    "leg length",
    "arm length",
    "shoulder width",
    "hip width",
    "torso length",
    "head size",
    "limb thickness",
    "belly",
)
"""What the shape parameters change; a unit is about one standard deviation among people."""


def vertex_parts(body: BodyModel) -> Indices:
    """The part [V] that each vertex belongs to: the joint it follows most."""
    return body.weights.argmax(1)


@cache
def make_body() -> BodyModel:
    """The body, the same bits each time; its arrays are read-only, for all callers share them."""
    half = _sweep()
    mesh = _mirror(half)
    joints = _joints()
    weights = _skinning_weights(mesh)
    body = BodyModel(
        template=mesh.vertices,
        shape_directions=_shape_directions(mesh, weights),
        pose_directions=_pose_directions(mesh.vertices, joints, weights),
        joint_regressor=_joint_regressor(mesh, joints),
        weights=weights,
        parents=PARENTS,
        faces=mesh.faces,
    )
    for array in vars(body).values():
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return body


# ------------------------------------------------------------------------------------- the surface


class _Row(NamedTuple):
    """A row of the trunk: half an ellipse from the front to the back, on the left."""

    front: tuple[float, float]  # y and z of its foremost point
    back: tuple[float, float]  # y and z of its rearmost point
    width: float  # x of the outermost point


_TRUNK = (
    _Row((-0.098, 0.066), (-0.100, -0.080), 0.166),
    _Row((-0.050, 0.092), (-0.062, -0.122), 0.170),
    _Row((-0.005, 0.101), (-0.015, -0.130), 0.165),
    _Row((0.045, 0.100), (0.035, -0.108), 0.152),
    _Row((0.095, 0.097), (0.090, -0.090), 0.140),
    _Row((0.145, 0.097), (0.145, -0.084), 0.135),
    _Row((0.195, 0.103), (0.200, -0.092), 0.142),
    _Row((0.248, 0.112), (0.255, -0.108), 0.155),
    _Row((0.298, 0.119), (0.305, -0.121), 0.168),
    _Row((0.345, 0.115), (0.350, -0.127), 0.178),
    _Row((0.388, 0.102), (0.392, -0.126), 0.182),
    _Row((0.428, 0.081), (0.432, -0.117), 0.176),
    _Row((0.462, 0.058), (0.472, -0.102), 0.156),
    _Row((0.482, 0.042), (0.502, -0.084), 0.098),
    _Row((0.500, 0.036), (0.526, -0.072), 0.062),
    _Row((0.524, 0.038), (0.552, -0.065), 0.055),
    _Row((0.541, 0.056), (0.578, -0.066), 0.055),
    _Row((0.546, 0.090), (0.602, -0.080), 0.058),
    _Row((0.573, 0.099), (0.628, -0.092), 0.066),
    _Row((0.604, 0.102), (0.654, -0.099), 0.072),
    _Row((0.638, 0.098), (0.680, -0.101), 0.076),
    _Row((0.672, 0.099), (0.704, -0.098), 0.077),
    _Row((0.707, 0.090), (0.727, -0.088), 0.073),
    _Row((0.736, 0.067), (0.746, -0.067), 0.060),
    _Row((0.754, 0.036), (0.756, -0.036), 0.036),
)
_CROWN = (0.0, 0.760, 0.0)
_CROTCH = (0.0, -0.122, -0.008)
_COLUMNS = 11  # vertices of a row, from the front over the left side to the back
_NECK_ROW, _HEAD_ROW = 14, 16
# The arm leaves the trunk through a hole two faces wide and three rows high.
_ARMPIT_ROW, _SHOULDER_ROW = 9, 12
_ARM_COLUMNS = (4, 5, 6)


class _Ring(NamedTuple):
    """A ring around a leg or an arm: its place along the limb, its middle and its radii."""

    along: float
    middle: tuple[float, float]
    radii: tuple[float, float]


# Along y, from the thigh to the ankle; (x, z).
_LEG = (
    _Ring(-0.150, (0.091, -0.008), (0.085, 0.087)),
    _Ring(-0.205, (0.091, -0.004), (0.082, 0.085)),
    _Ring(-0.265, (0.091, 0.000), (0.075, 0.079)),
    _Ring(-0.330, (0.091, 0.004), (0.067, 0.070)),
    _Ring(-0.390, (0.091, 0.006), (0.059, 0.062)),
    _Ring(-0.440, (0.091, 0.007), (0.054, 0.058)),
    _Ring(-0.485, (0.091, 0.005), (0.052, 0.055)),
    _Ring(-0.535, (0.092, -0.005), (0.052, 0.055)),
    _Ring(-0.595, (0.093, -0.013), (0.053, 0.056)),
    _Ring(-0.670, (0.093, -0.015), (0.046, 0.049)),
    _Ring(-0.755, (0.092, -0.016), (0.035, 0.038)),
    _Ring(-0.832, (0.092, -0.018), (0.031, 0.036)),
)


class _FootRing(NamedTuple):
    """A ring around a foot, tilted: y and z of its top and of its bottom, x and half width."""

    top: tuple[float, float]
    bottom: tuple[float, float]
    middle: float
    width: float


_SOLE = -0.940  # m; y of the ground
_FOOT = (
    _FootRing((-0.866, 0.034), (-0.890, -0.066), 0.092, 0.036),
    _FootRing((-0.880, 0.062), (-0.936, -0.068), 0.093, 0.036),
    _FootRing((-0.890, 0.088), (-0.946, -0.012), 0.096, 0.036),
    _FootRing((-0.901, 0.112), (-0.946, 0.052), 0.099, 0.041),
    _FootRing((-0.911, 0.138), (-0.946, 0.110), 0.102, 0.043),
    _FootRing((-0.920, 0.158), (-0.944, 0.150), 0.103, 0.036),
)
_TOE = (0.103, -0.931, 0.172)

# Along x, from the shoulder to the finger tips; (y, z).
_ARM = (
    _Ring(0.200, (0.421, -0.018), (0.066, 0.063)),
    _Ring(0.235, (0.427, -0.018), (0.059, 0.058)),
    _Ring(0.285, (0.430, -0.018), (0.052, 0.053)),
    _Ring(0.340, (0.430, -0.018), (0.048, 0.050)),
    _Ring(0.395, (0.430, -0.019), (0.043, 0.045)),
    _Ring(0.440, (0.430, -0.020), (0.039, 0.042)),
    _Ring(0.485, (0.430, -0.017), (0.041, 0.044)),
    _Ring(0.540, (0.430, -0.013), (0.039, 0.042)),
    _Ring(0.610, (0.430, -0.009), (0.031, 0.035)),
    _Ring(0.674, (0.430, -0.006), (0.023, 0.030)),
    _Ring(0.702, (0.429, -0.002), (0.023, 0.037)),
    _Ring(0.732, (0.428, 0.001), (0.022, 0.044)),
    _Ring(0.764, (0.427, 0.002), (0.019, 0.046)),
    _Ring(0.797, (0.426, 0.001), (0.016, 0.043)),
    _Ring(0.830, (0.425, 0.000), (0.014, 0.037)),
    _Ring(0.855, (0.424, -0.001), (0.011, 0.027)),
)
_FINGER_TIP = (0.870, 0.423, -0.001)
# The thumb leaves the hand through a hole one face wide and two rings long, ahead.
_THUMB_RING, _THUMB_COLUMN = 10, 2
_THUMB = (
    ((0.732, 0.424, 0.062), 0.016),
    ((0.749, 0.422, 0.078), 0.014),
    ((0.762, 0.420, 0.090), 0.010),
)
_THUMB_TIP = (0.769, 0.419, 0.097)
_THUMB_AXIS = (0.66, -0.08, 0.75)

_TRUNK_LIMB, _NECK_LIMB, _HEAD_LIMB, _LEG_LIMB, _FOOT_LIMB, _ARM_LIMB = range(6)


class _Mesh(NamedTuple):
    """Vertices [V, 3] and faces [F, 3], counter-clockwise seen from outside.

    Attributes:
        limbs: [V], the limb that a vertex was swept along, from _TRUNK_LIMB to _ARM_LIMB.
        mirrored: [V], the vertex at the same place on the other side.
    """

    vertices: Array
    faces: Indices
    limbs: Indices
    mirrored: Indices


@dataclass
class _Builder:
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


def _sweep() -> _Builder:
    """The left half of the surface, from x = 0 outwards."""
    half = _Builder()
    rows = [half.add(_trunk_row(row), _trunk_limb(k)) for k, row in enumerate(_TRUNK)]
    for k, (below, above) in enumerate(pairwise(rows)):
        inside = _ARMPIT_ROW <= k < _SHOULDER_ROW
        half.bridge(below, above, skip=_ARM_COLUMNS[:2] if inside else ())
    half.close(rows[-1], _CROWN, _HEAD_LIMB)
    _sweep_leg(half, rows[0])
    front, middle, back = _ARM_COLUMNS
    shoulder, armpit = rows[_SHOULDER_ROW], rows[_ARMPIT_ROW]
    between = rows[_ARMPIT_ROW + 1 : _SHOULDER_ROW]
    rim = [shoulder[middle], shoulder[front], *(row[front] for row in reversed(between))]
    rim += [armpit[front], armpit[middle], armpit[back], *(row[back] for row in between)]
    rim += [shoulder[back]]
    _sweep_arm(half, rim)
    return half


def _trunk_limb(row: int) -> int:
    return _TRUNK_LIMB if row < _NECK_ROW else _NECK_LIMB if row < _HEAD_ROW else _HEAD_LIMB


def _trunk_row(row: _Row) -> Array:
    """Vertices [_COLUMNS, 3], somewhat more angular than an ellipse."""
    angle = np.linspace(0, np.pi, _COLUMNS)
    across, ahead = np.sin(angle), np.cos(angle)
    across[[0, -1]] = 0.0  # in the plane of symmetry
    ahead = np.sign(ahead) * np.abs(ahead) ** 0.9
    front, back = np.array(row.front), np.array(row.back)
    y, z = ((front + back)[:, None] + (front - back)[:, None] * ahead) / 2
    return np.stack([row.width * across**0.8, y, z], 1)


def _sweep_leg(half: _Builder, hip: list[int]) -> None:
    """A leg and its foot, below the lowest row of the trunk."""
    above = [*hip, *half.add([_CROTCH], _TRUNK_LIMB), hip[0]]
    # As the row of the trunk: from the front over the left to the back and on to the inside.
    angle = np.deg2rad(150 - 30.0 * np.arange(12))
    outwards, ahead = np.cos(angle), np.sin(angle)
    rings = []
    for y, (x, z), (radius_x, radius_z) in _LEG:
        points = np.stack([x + radius_x * outwards, np.full(12, y), z + radius_z * ahead], 1)
        rings.append((points, _LEG_LIMB))
    for top, bottom, x, width in _FOOT:
        middle = (np.array(top) + bottom)[:, None] / 2
        y, z = middle + (np.array(top) - bottom)[:, None] / 2 * ahead
        points = np.stack([x + width * outwards, np.maximum(y, _SOLE), z], 1)
        rings.append((points, _FOOT_LIMB))
    for points, limb in rings:
        ring = half.add(points, limb)
        below = [*ring, ring[0]]
        half.bridge(below, above)
        above = below
    (toe,) = half.add([_TOE], _FOOT_LIMB)
    half.faces += [(b, a, toe) for a, b in pairwise(above)]


def _sweep_arm(half: _Builder, rim: list[int]) -> None:
    """An arm and its hand, from the rim of its hole on, which runs from the top to the front."""
    angle = np.deg2rad(36.0 * np.arange(10))
    up, ahead = np.cos(angle), np.sin(angle)
    inner = [*rim, rim[0]]
    rings = []
    for k, (x, (y, z), (radius_y, radius_z)) in enumerate(_ARM):
        points = np.stack([np.full(10, x), y + radius_y * up, z + radius_z * ahead], 1)
        rings.append(half.add(points, _ARM_LIMB))
        outer = [*rings[-1], rings[-1][0]]
        thumb = _THUMB_RING < k <= _THUMB_RING + 2
        half.bridge(inner, outer, skip=(_THUMB_COLUMN,) if thumb else ())
        inner = outer
    half.close(inner, _FINGER_TIP, _ARM_LIMB)

    first, second, third = rings[_THUMB_RING : _THUMB_RING + 3]
    k = _THUMB_COLUMN
    rim = [first[k], first[k + 1], second[k + 1], third[k + 1], third[k], second[k]]
    inner = [*rim, rim[0]]
    axis = np.array(_THUMB_AXIS) / np.linalg.norm(_THUMB_AXIS)
    along = np.cross((0.0, 1.0, 0.0), axis)
    along /= np.linalg.norm(along)
    above = np.cross(axis, along)
    # From above the wrist to below it, and on to the finger tips.
    angle = np.deg2rad(150 + 60.0 * np.arange(6))[:, None]
    for place, radius in _THUMB:
        points = np.array(place) + radius * (np.cos(angle) * along + np.sin(angle) * above)
        ring = half.add(points, _ARM_LIMB)
        outer = [*ring, ring[0]]
        half.bridge(inner, outer)
        inner = outer
    half.close(inner, _THUMB_TIP, _ARM_LIMB)


def _mirror(half: _Builder) -> _Mesh:
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
    vertices = np.concatenate([left, left[others] * _FLIP])
    # Taubin 1995: a step that shrinks and one that swells smooth without loss of volume.
    for step in (0.5, -0.52) * 4:
        vertices = vertices + step * (_neighbour_mean(faces, vertices) - vertices)
        # Symmetric to the last bit.
        vertices = (vertices + vertices[mirrored] * _FLIP) / 2
    limbs = np.concatenate([limbs, limbs[others]])
    return _Mesh(vertices + _features(vertices), faces, limbs, mirrored)


_FLIP = np.array([-1.0, 1.0, 1.0])


def _neighbour_mean(faces: Indices, values: Array) -> Array:
    """The mean [V, C] of values [V, C] at each vertex' neighbours on a closed surface.

    Summed in one order, whatever the number of threads.
    """
    total, count = np.zeros_like(values), np.zeros((len(values), 1))
    for a, b in ((0, 1), (1, 2), (2, 0)):  # each edge once in either direction
        np.add.at(total, faces[:, a], values[faces[:, b]])
        np.add.at(count, faces[:, a], 1.0)
    return total / count


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
    """How the features move the vertices of the smoothed surface [V, 3]."""
    side = np.where(vertices[:, :1] < 0, _FLIP, 1.0)
    moves = np.zeros_like(vertices)
    for middle, breadth, shift in _FEATURES:
        distance = (vertices * side - middle) / breadth
        moves += np.exp(-(distance**2).sum(1, keepdims=True)) * side * shift
    moves[vertices[:, 0] == 0, 0] = 0.0
    return moves


def _normals(mesh: _Mesh) -> Array:
    """Outward normals [V, 3] of unit length."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)  # twice the area long
    normals = np.zeros_like(mesh.vertices)
    for k in range(3):
        np.add.at(normals, mesh.faces[:, k], across)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


# ------------------------------------------------------------------------------ joints and weights

_JOINTS = {
    "pelvis": (0.0, 0.0, 0.0),
    "left_hip": (0.085, -0.075, 0.000),
    "spine1": (0.0, 0.105, -0.015),
    "left_knee": (0.091, -0.475, 0.004),
    "spine2": (0.0, 0.225, -0.015),
    "left_ankle": (0.092, -0.865, -0.018),
    "spine3": (0.0, 0.300, -0.012),
    "left_foot": (0.099, -0.915, 0.098),
    "neck": (0.0, 0.500, -0.018),
    "left_collar": (0.070, 0.420, -0.014),
    "head": (0.0, 0.572, 0.004),
    "left_shoulder": (0.176, 0.430, -0.018),
    "left_elbow": (0.446, 0.430, -0.020),
    "left_wrist": (0.690, 0.430, -0.004),
    "left_hand": (0.770, 0.427, 0.001),
}
"""Where the joints of the template lie; those on the right mirror those on the left."""


def _joints() -> Array:
    """The joints [24, 3] of the template."""
    left = np.array([_JOINTS[name.replace("right", "left")] for name in JOINTS])
    right = np.array([[name.startswith("right")] for name in JOINTS])
    return np.where(right, left * _FLIP, left)


def _other_side() -> Indices:
    """The joint [24] on the other side, or the same joint."""
    swap = {"left": "right", "right": "left"}
    sides = (name.split("_") for name in JOINTS)
    return np.array([JOINTS.index("_".join([swap.get(s, s), *rest])) for s, *rest in sides])


def _skinning_weights(mesh: _Mesh) -> Array:
    """Weights [V, 24]: each vertex follows one joint, then the borders are blurred."""
    x, y, z = np.abs(mesh.vertices[:, 0]), mesh.vertices[:, 1], mesh.vertices[:, 2]
    conditions = {
        "head": mesh.limbs == _HEAD_LIMB,
        "neck": mesh.limbs == _NECK_LIMB,
        "left_hand": (mesh.limbs == _ARM_LIMB) & (x > 0.77) & (z < 0.06),
        "left_wrist": (mesh.limbs == _ARM_LIMB) & (x > 0.69),
        "left_elbow": (mesh.limbs == _ARM_LIMB) & (x > 0.446),
        "left_shoulder": mesh.limbs == _ARM_LIMB,
        "left_foot": (mesh.limbs == _FOOT_LIMB) & (z > 0.095),
        "left_ankle": mesh.limbs == _FOOT_LIMB,
        "left_knee": y < -0.475,
        "left_hip": (x > 0) & (y < -0.125 + 0.45 * x),
        "left_collar": (x > 0.06) & (y > 0.36),
        "spine3": y > 0.300,
        "spine2": y > 0.225,
        "spine1": y > 0.105,
    }
    joint = np.select(list(conditions.values()), [JOINTS.index(name) for name in conditions], 0)
    right = mesh.vertices[:, 0] < 0
    joint[right] = _other_side()[joint[right]]
    weights = np.eye(24)[joint]
    for _ in range(_BLURS):
        weights = (weights + _neighbour_mean(mesh.faces, weights)) / 2
    weights = (weights + weights[mesh.mirrored][:, _other_side()]) / 2
    # Four joints a vertex; where the fourth and the fifth are equal, neither.
    weights[weights <= np.maximum(np.sort(weights, 1)[:, -5:-4], 0.02)] = 0.0
    return weights / weights.sum(1, keepdims=True)


_BLURS = 4  # after which a border is some 10 cm broad


def _joint_regressor(mesh: _Mesh, joints: Array) -> Array:
    """Means [24, V] of the vertices near each joint, which meet it exactly.

    Of all positive weights that do, the nearest in relative entropy to a Gaussian around the
    joint: w_i ∝ g_i exp(λ · (v_i − j)), with λ where the log-partition function is least.
    """
    regressor = np.zeros((24, len(mesh.vertices)))
    for k, joint in enumerate(joints):
        offset = mesh.vertices - joint
        distance = np.linalg.norm(offset, axis=1)
        width = 0.6 * distance.min() + 0.01
        gaussian = np.exp((distance.min() ** 2 - distance**2) / (2 * width**2))
        near = gaussian > 0.005
        offset, prior = offset[near] / width, gaussian[near]
        multiplier = np.zeros(3)
        for _ in range(50):
            weights = prior * np.exp(offset @ multiplier)
            weights /= weights.sum()
            mean = weights @ offset
            spread = (offset.T * weights) @ offset - np.outer(mean, mean)
            multiplier -= np.linalg.solve(spread, mean)
        regressor[k, near] = weights
    return (regressor + regressor[_other_side()][:, mesh.mirrored]) / 2


# ------------------------------------------------------------------------------------ blend shapes


def _pose_directions(vertices: Array, joints: Array, weights: Array) -> Array:
    """What keeps a bent joint from collapsing [V, 3, 207].

    Linear skinning moves a vertex that follows a turn R = exp(K) with weight w to
    (I + w (R − I)) r, r from the joint, where half a turn would be R^w r. To second order they
    differ by −½ w (1 − w) K² r, and K² is M + Mᵀ with M = R − I, which the blend shapes see:

        B_P = −½ w (1 − w) (M + Mᵀ) r.
    """
    follows = weights.copy()  # [V, 24], how much of a joint's turn reaches a vertex
    for joint in range(23, 0, -1):
        follows[:, PARENTS[joint]] += follows[:, joint]
    eye = np.eye(3)
    blocks = []
    for joint in range(1, 24):
        w = follows[:, joint]
        r = -0.5 * (w * (1 - w))[:, None] * (vertices - joints[joint])
        block = np.einsum("ab,vc->vabc", eye, r) + np.einsum("ac,vb->vabc", eye, r)
        blocks.append(block.reshape(len(vertices), 3, 9))
    return np.concatenate(blocks, axis=2)


def _ramp(value: Array, start: float, end: float) -> Array:
    """0 up to `start`, 1 from `end` on, and linear in between; `end` may be the smaller one."""
    return np.clip((value - start) / (end - start), 0.0, 1.0)


def _shape_directions(mesh: _Mesh, weights: Array) -> Array:
    """What a unit of each of SHAPES does to the vertices [V, 3, 10]."""
    x, y, z = mesh.vertices.T
    side, outwards = np.sign(x), np.abs(x)
    normals = _normals(mesh)
    zero = np.zeros_like(x)

    legs, trunk, skull = _ramp(y, -0.09, -0.86), _ramp(y, 0.0, 0.47), _ramp(y, 0.55, 0.75)
    arms, hands = _ramp(outwards, 0.18, 0.69), _ramp(outwards, 0.69, 0.86)
    feet = mesh.limbs == _FOOT_LIMB
    trunk_width = np.minimum(outwards, 0.17) * (0.5 + 0.5 * _ramp(y, -0.2, 0.0))
    height = np.stack(
        [
            side * (0.022 * arms + 0.005 * hands + 0.02 * trunk_width),
            0.024 * trunk + 0.007 * skull - 0.029 * legs,
            0.02 * z + 0.03 * np.where(feet, z, 0.0),
        ],
        1,
    )

    # How far (mm) the surface of each part moves out.
    thickening = {
        "pelvis": 11, "thigh": 10, "waist": 14, "shin": 4, "midriff": 12, "foot": 1, "chest": 9,
        "toes": 1, "neck": 5, "shoulder": 7, "head": 2, "arm": 6, "forearm": 4, "hand": 1,
        "fingers": 1,
    }  # fmt: skip
    amounts = np.array([thickening[part.split()[-1]] for part in PARTS])
    girth = normals * (weights * amounts).sum(1, keepdims=True) / 1000

    leg_length = np.stack([zero, -0.03 * legs, zero], 1)
    arm_length = np.stack([side * 0.022 * arms, zero, zero], 1)
    shoulder_width = np.stack(
        [side * 0.016 * _ramp(outwards, 0.04, 0.17) * _ramp(y, 0.15, 0.42), zero, zero], 1
    )
    below_waist = _ramp(y, 0.14, -0.02)
    widening = 0.016 * _ramp(outwards, 0.0, 0.16) * _ramp(y, -0.45, -0.1)
    hip_width = np.stack(
        [side * below_waist * np.maximum(widening, 0.007 * _ramp(outwards, 0.0, 0.06)), zero, zero],
        1,
    )
    torso_length = np.stack([zero, 0.024 * trunk, zero], 1)

    head = weights[:, [JOINTS.index("head")]]
    head_size = 0.055 * head * (mesh.vertices - [0.0, 0.54, 0.0])

    leg, arm = (np.array([[r.along, *r.middle] for r in rings]) for rings in (_LEG, _ARM))
    leg_x, leg_z = (np.interp(-y, -leg[:, 0], leg[:, k]) for k in (1, 2))
    arm_y, arm_z = (np.interp(outwards, arm[:, 0], arm[:, k]) for k in (1, 2))

    def follows(*names: str) -> Array:
        return weights[:, [k for k, name in enumerate(PARTS) if name.endswith(names)]].sum(1)

    on_leg = 0.10 * follows("thigh", "shin") * _ramp(y, -0.06, -0.2)
    on_arm = 0.10 * follows("arm", "forearm")
    limb_thickness = np.stack(
        [
            on_leg * (x - side * leg_x),
            on_arm * (y - arm_y),
            on_leg * (z - leg_z) + on_arm * (z - arm_z),
        ],
        1,
    )

    around = np.exp(-(((y - 0.075) / 0.095) ** 2)) * (mesh.limbs == _TRUNK_LIMB)
    belly = np.stack(
        [
            side * 0.010 * around * _ramp(outwards, 0.02, 0.12),
            zero,
            0.03 * around * _ramp(z, -0.04, 0.09),
        ],
        1,
    )
    return np.stack(
        [
            height, girth, leg_length, arm_length, shoulder_width, hip_width, torso_length,
            head_size, limb_thickness, belly,
        ],
        axis=2,
    )  # fmt: skip
