"""Poses that people take, joint by joint within limits."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mtlbench.models.smpl import JOINTS

Array = npt.NDArray[np.float64]
Random = np.random.Generator
Range = tuple[float, float]


class Limits(NamedTuple):
    """The least and the greatest angle about each axis (°), x applied last: Rx(x) Ry(y) Rz(z).

    What is written for a joint on the left holds for its mirror image on the right.
    """

    x: Range
    y: Range
    z: Range


_NONE = (0.0, 0.0)

_LIMITS = {
    "pelvis": Limits((-20, 35), (-40, 40), (-15, 15)),
    "left_hip": Limits((-115, 35), (-25, 40), (-15, 50)),
    "spine1": Limits((-10, 30), (-15, 15), (-12, 12)),
    "left_knee": Limits((0, 140), _NONE, _NONE),
    "spine2": Limits((-10, 20), (-15, 15), (-12, 12)),
    "left_ankle": Limits((-30, 45), (-10, 15), (-10, 10)),
    "spine3": Limits((-10, 15), (-15, 15), (-10, 10)),
    "left_foot": Limits((-40, 5), _NONE, _NONE),
    "neck": Limits((-20, 25), (-30, 30), (-12, 12)),
    "left_collar": Limits(_NONE, (-15, 10), (-10, 25)),
    "head": Limits((-20, 25), (-35, 35), (-12, 12)),
    # From behind the back over the front to overhead and a little beyond.
    "left_shoulder": Limits((-205, 100), (-89, 75), (-115, 100)),
    "left_elbow": Limits(_NONE, (-145, 0), _NONE),
    "left_wrist": Limits((-60, 60), (-20, 20), (-45, 45)),
    "left_hand": Limits(_NONE, _NONE, (-60, 10)),
}


def _all_limits() -> Array:
    limits = np.array([_LIMITS[name.replace("right", "left")] for name in JOINTS], float)
    for joint, name in enumerate(JOINTS):
        if name.startswith("right"):
            limits[joint, 1:] = -limits[joint, 1:, ::-1]
    return limits


LIMITS = _all_limits()
"""Least and greatest angle (°) of every joint about x, y and z [24, 3, 2]."""


def rotations(angles: Array) -> Array:
    """Rotation matrices Rx(x) Ry(y) Rz(z) [..., 3, 3] of angles [..., 3] (°)."""
    cx, cy, cz = np.moveaxis(np.cos(np.deg2rad(angles)), -1, 0)
    sx, sy, sz = np.moveaxis(np.sin(np.deg2rad(angles)), -1, 0)
    rows = [
        [cy * cz, -cy * sz, sy],
        [cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy],
        [sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def euler_angles(rotation: Array) -> Array:
    """The angles [..., 3] (°) of rotation matrices [..., 3, 3]: x in (−225, 135], as arms need
    it, y in [−90, 90], z in (−180, 180]. The inverse of `rotations`."""
    x = np.rad2deg(np.arctan2(-rotation[..., 1, 2], rotation[..., 2, 2]))
    y = np.rad2deg(np.arcsin(np.clip(rotation[..., 0, 2], -1, 1)))
    z = np.rad2deg(np.arctan2(-rotation[..., 0, 1], rotation[..., 0, 0]))
    return np.stack([np.where(x > 135, x - 360, x), y, z], -1)


_PELVIS, _NECK, _HEAD = (JOINTS.index(name) for name in ("pelvis", "neck", "head"))
_SPINE = [JOINTS.index(f"spine{k}") for k in (1, 2, 3)]


class _Leg(NamedTuple):
    """The angles (°) of a left leg."""

    hip: tuple[float, float, float]
    knee: float
    ankle: float = 0.0


class _Arm(NamedTuple):
    """The place of a left wrist from the shoulder (m), and the direction of the elbow."""

    wrist: tuple[float, float, float]
    elbow: tuple[float, float, float]


_UPPER_ARM, _FOREARM = 0.272, 0.246  # m, of the template

_ARMS = {
    "hanging": _Arm((0.12, -0.50, 0.02), (0.3, 0.0, -1.0)),
    "on hip": _Arm((0.05, -0.35, 0.05), (1.0, 0.1, -0.4)),
    "before the belly": _Arm((-0.10, -0.25, 0.26), (0.7, -0.6, -0.3)),
    "crossed": _Arm((-0.20, -0.15, 0.22), (0.6, -0.7, 0.1)),
    "at the face": _Arm((-0.06, 0.10, 0.17), (0.5, -1.0, 0.2)),
    "on the head": _Arm((-0.08, 0.32, 0.02), (1.0, 0.1, 0.2)),
    "forwards": _Arm((-0.04, -0.04, 0.49), (0.4, -1.0, 0.0)),
    "sideways": _Arm((0.50, 0.02, 0.05), (0.0, -0.7, -0.6)),
    "down and out": _Arm((0.34, -0.36, 0.05), (0.2, -0.2, -1.0)),
    "up": _Arm((0.10, 0.48, 0.04), (0.8, 0.0, -0.3)),
    "up and out": _Arm((0.34, 0.36, 0.04), (0.2, -0.8, -0.4)),
    "waving": _Arm((0.20, 0.24, 0.14), (0.8, -0.8, -0.2)),
    "offering": _Arm((0.06, -0.24, 0.30), (0.3, -0.5, -1.0)),
    "pointing": _Arm((0.05, 0.22, 0.45), (0.6, -0.8, -0.1)),
    "behind the back": _Arm((-0.04, -0.36, -0.18), (0.8, 0.0, -0.7)),
}
# How often each is taken, hanging most of all.
_ARM_SHARES = (44, 9, 5, 3, 3, 2, 4, 5, 12, 3, 4, 3, 4, 2, 2)


def draw_pose(random: Random) -> Array:
    """The angles [24, 3] (°) of one person's joints, each within LIMITS."""
    angles = np.zeros((24, 3))
    normal = random.normal
    angles[_PELVIS] = normal(5, 6), random.uniform(-40, 40), normal(0, 3)
    angles[_SPINE] = normal((3, 0, 0), (3, 2, 2), (3, 3)) + normal(0, (3, 4, 2))
    angles[_NECK] = normal((2, 0, 0), (5, 8, 4))
    angles[_HEAD] = normal((0, 0, 0), (6, 12, 4))
    stance = _STANCES[random.choice(len(_STANCES), p=_SHARES)]
    stance(random, angles)
    return np.clip(angles, LIMITS[..., 0], LIMITS[..., 1])


def _set(angles: Array, left: bool, joint: str, values: tuple[float, float, float]) -> None:
    """Sets the angles of a joint on either side, given as those on the left."""
    x, y, z = values
    if left:
        angles[JOINTS.index(f"left_{joint}")] = x, y, z
    else:
        angles[JOINTS.index(f"right_{joint}")] = x, -y, -z


def _set_leg(angles: Array, left: bool, leg: _Leg) -> None:
    _set(angles, left, "hip", leg.hip)
    _set(angles, left, "knee", (leg.knee, 0, 0))
    _set(angles, left, "ankle", (leg.ankle, 0, 0))


def _set_arm(angles: Array, left: bool, arm: _Arm, random: Random) -> None:
    """The arm bent so that the wrist is where it should be, as far as the arm is long."""
    wrist = np.array(arm.wrist)
    reach = float(np.clip(np.linalg.norm(wrist), 0.14, 0.995 * (_UPPER_ARM + _FOREARM)))
    towards = wrist / np.linalg.norm(wrist)
    elbow = np.array(arm.elbow)
    elbow -= (elbow @ towards) * towards
    elbow /= np.linalg.norm(elbow)
    # The law of cosines, at the shoulder and at the elbow.
    cosine = (_UPPER_ARM**2 + reach**2 - _FOREARM**2) / (2 * _UPPER_ARM * reach)
    upper = cosine * towards + np.sqrt(1 - cosine**2) * elbow
    inner = (_UPPER_ARM**2 + _FOREARM**2 - reach**2) / (2 * _UPPER_ARM * _FOREARM)
    bend = 180 - np.rad2deg(np.arccos(inner))
    # The elbow bends about the y axis of the upper arm, whose x axis runs along it.
    inwards = -(elbow - (elbow @ upper) * upper)
    inwards /= np.linalg.norm(inwards)
    rotation = np.stack([upper, np.cross(inwards, upper), inwards], -1)
    x, y, z = euler_angles(rotation).tolist()
    _set(angles, left, "collar", (0, 0, 12 * max(upper[1], 0) + random.normal(0, 2)))
    _set(angles, left, "shoulder", (x, y, z))
    _set(angles, left, "elbow", (0, -bend, 0))
    pronation, sideways, lift = random.normal(0, (25, 6, 12)).tolist()
    _set(angles, left, "wrist", (pronation, sideways, lift))
    _set(angles, left, "hand", (0, 0, -abs(random.normal(10, 15))))


def _gesture(random: Random, angles: Array) -> None:
    """Both arms: the same on both sides more often than not."""
    names, shares = list(_ARMS), np.array(_ARM_SHARES) / sum(_ARM_SHARES)
    first, second = random.choice(names, 2, p=shares)
    if random.random() < 0.45:
        second = first
    for left, name in ((True, first), (False, second)):
        wrist, elbow = np.array(_ARMS[name])
        wrist, elbow = wrist + random.normal(0, 0.045, 3), elbow + random.normal(0, 0.15, 3)
        _set_arm(angles, left, _Arm(tuple(wrist), tuple(elbow)), random)


def _stand(random: Random, angles: Array) -> None:
    """Upright, often with the weight on one leg."""
    at_ease, rests_left = random.random(2) < 0.5
    for left in (True, False):
        out, turn = random.normal(4, 3), random.normal(8, 7)
        bend = abs(random.normal(*((18, 8) if at_ease and left == rests_left else (0, 4))))
        _set_leg(angles, left, _Leg((-0.6 * bend + random.normal(0, 3), turn, out), bend))
    _gesture(random, angles)


def _step_wide(random: Random, angles: Array) -> None:
    """Legs apart."""
    out = random.uniform(14, 32)
    for left in (True, False):
        bend = abs(random.normal(8, 14))
        hip = (-0.7 * bend, random.normal(12, 8), out + random.normal(0, 4))
        _set_leg(angles, left, _Leg(hip, bend))
    _gesture(random, angles)


def _walk(random: Random, angles: Array) -> None:
    """A moment of walking or running, the arms against the legs."""
    phase, running = random.uniform(0, 2 * np.pi), random.random() < 0.3
    stride = random.uniform(30, 45) if running else random.uniform(14, 30)
    lift = random.uniform(60, 100) if running else random.uniform(30, 55)
    bent = random.uniform(60, 110) if running else random.uniform(8, 35)
    angles[_PELVIS, 0] += 8 if running else 2
    for left in (True, False):
        forth, forwards = np.sin(phase + np.pi * left), np.cos(phase + np.pi * left)
        knee = 6 + lift * max(forwards, 0) ** 1.5 + 8 * (1 + forth) / 2
        hip = (-stride * forth - (12 if running else 4), random.normal(3, 3), random.normal(2, 2))
        ankle = 15 * max(-forth, 0)
        _set_leg(angles, left, _Leg(hip, knee, ankle))
        # y and z along the upper arm and square to it, whereto the elbow bends.
        swing = np.deg2rad(stride * forth * (1.0 if running else 0.8) + random.normal(0, 4))
        elbow = np.deg2rad(bent + random.normal(0, 5))
        along, ahead = _UPPER_ARM + _FOREARM * np.cos(elbow), _FOREARM * np.sin(elbow)
        down = np.array((-np.cos(swing), -np.sin(swing)))
        y, z = along * down + ahead * np.array((-np.sin(swing), np.cos(swing)))
        wrist = (0.08 - 0.12 * np.sin(elbow) + random.normal(0, 0.02), y, z)
        _set_arm(angles, left, _Arm(wrist, (0.35, -0.2, -1.0)), random)
    if random.random() < 0.25 and not running:
        _gesture(random, angles)


def _sit(random: Random, angles: Array) -> None:
    """As on a chair."""
    apart = random.uniform(2, 20)
    for left in (True, False):
        knee = random.normal(82, 14)
        hip = (random.normal(-84, 8), random.normal(0, 6), apart + random.normal(0, 3))
        _set_leg(angles, left, _Leg(hip, knee, random.normal(0, 8)))
    angles[_PELVIS, 0] += random.normal(0, 6)
    if random.random() < 0.5:
        # Hands on the knees or in the lap.
        for left in (True, False):
            wrist = np.array((-0.02, -0.38, 0.28)) + random.normal(0, 0.05, 3)
            _set_arm(angles, left, _Arm(tuple(wrist), (0.8, -0.2, -0.8)), random)
    else:
        _gesture(random, angles)


def _crouch(random: Random, angles: Array) -> None:
    """Knees bent deeply, leaning forwards to balance."""
    depth = random.uniform(0.35, 1.0)
    out = random.uniform(4, 25)
    for left in (True, False):
        knee = 125 * depth + random.normal(0, 5)
        hip = (-100 * depth + random.normal(0, 5), random.normal(8, 6), out)
        _set_leg(angles, left, _Leg(hip, knee, -28 * depth))
    angles[_PELVIS, 0] += 22 * depth
    angles[_SPINE, 0] += 6 * depth
    _gesture(random, angles)


def _lunge(random: Random, angles: Array) -> None:
    """One leg far ahead of the other."""
    ahead = random.random() < 0.5
    depth = random.uniform(0.4, 1.0)
    for left in (True, False):
        if left == ahead:
            leg = _Leg((-65 * depth, 5, 5), 70 * depth + random.normal(0, 5), -5)
        else:
            leg = _Leg((28 * depth, 5, 5), 30 * depth + abs(random.normal(0, 10)), 10)
        _set_leg(angles, left, leg)
    _gesture(random, angles)


def _balance(random: Random, angles: Array) -> None:
    """One leg lifted: a kick, a high step, or aside."""
    lifted = random.random() < 0.5
    aside = random.random() < 0.3
    for left in (True, False):
        if left != lifted:
            leg = _Leg((random.normal(0, 4), 6, random.normal(0, 3)), abs(random.normal(6, 6)))
        elif aside:
            hip = (random.normal(-10, 10), 10.0, random.uniform(20, 50))
            leg = _Leg(hip, abs(random.normal(0, 20)))
        else:
            hip = (random.uniform(-105, -25), random.normal(8, 10), random.normal(8, 6))
            leg = _Leg(hip, random.uniform(5, 110), 15)
        _set_leg(angles, left, leg)
    _gesture(random, angles)


def _bend(random: Random, angles: Array) -> None:
    """Bowing, leaning aside or twisting."""
    _stand(random, angles)
    angles[_SPINE] += random.normal(0, (9, 9, 7))
    angles[_PELVIS] += random.normal(0, (8, 0, 5))


_STANCES = (_stand, _step_wide, _walk, _sit, _crouch, _lunge, _balance, _bend)
# More often standing and walking than anything else, and now and then everything else.
_SHARES = (0.46, 0.16, 0.26, 0.03, 0.02, 0.03, 0.02, 0.02)
