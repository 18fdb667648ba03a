"""The joints of the template, and how the vertices follow them."""

import numpy as np

from mtlbench.models.body.mesh import (
    ARM_LIMB,
    FLIP,
    FOOT_LIMB,
    HEAD_LIMB,
    NECK_LIMB,
    Array,
    Indices,
    Mesh,
    neighbour_mean,
)
from mtlbench.models.smpl import JOINTS

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
"""The part that follows each joint, in the order of `smpl.JOINTS`."""

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
"""Places of the joints of the template; those on the right mirror those on the left."""


def template_joints() -> Array:
    """The joints [24, 3] of the template."""
    left = np.array([_JOINTS[name.replace("right", "left")] for name in JOINTS])
    right = np.array([[name.startswith("right")] for name in JOINTS])
    return np.where(right, left * FLIP, left)


def _other_side() -> Indices:
    """The joint [24] on the other side, or the same joint."""
    swap = {"left": "right", "right": "left"}
    sides = (name.split("_") for name in JOINTS)
    return np.array([JOINTS.index("_".join([swap.get(s, s), *rest])) for s, *rest in sides])


def skinning_weights(mesh: Mesh) -> Array:
    """Weights [V, 24]: each vertex follows one joint, then the borders are blurred."""
    x, y, z = np.abs(mesh.vertices[:, 0]), mesh.vertices[:, 1], mesh.vertices[:, 2]
    conditions = {
        "head": mesh.limbs == HEAD_LIMB,
        "neck": mesh.limbs == NECK_LIMB,
        "left_hand": (mesh.limbs == ARM_LIMB) & (x > 0.77) & (z < 0.06),
        "left_wrist": (mesh.limbs == ARM_LIMB) & (x > 0.69),
        "left_elbow": (mesh.limbs == ARM_LIMB) & (x > 0.446),
        "left_shoulder": mesh.limbs == ARM_LIMB,
        "left_foot": (mesh.limbs == FOOT_LIMB) & (z > 0.095),
        "left_ankle": mesh.limbs == FOOT_LIMB,
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
        weights = (weights + neighbour_mean(mesh.faces, weights)) / 2
    weights = (weights + weights[mesh.mirrored][:, _other_side()]) / 2
    # Four joints a vertex; where the fourth and the fifth are equal, neither.
    weights[weights <= np.maximum(np.sort(weights, 1)[:, -5:-4], 0.02)] = 0.0
    return weights / weights.sum(1, keepdims=True)


_BLURS = 4  # after which a border is some 10 cm broad


def joint_regressor(mesh: Mesh, joints: Array) -> Array:
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
