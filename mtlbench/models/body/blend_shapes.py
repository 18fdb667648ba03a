"""Blend shapes: how a pose and the shape parameters move the vertices."""

import numpy as np

from mtlbench.models.body.mesh import FOOT_LIMB, TRUNK_LIMB, Array, Mesh, vertex_normals
from mtlbench.models.body.outline import ARM, LEG
from mtlbench.models.body.skinning import PARTS
from mtlbench.models.smpl import JOINTS, PARENTS

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
"""Names of the shape parameters; a unit is about one standard deviation among people."""


def pose_directions(vertices: Array, joints: Array, weights: Array) -> Array:
    """Pose blend shapes, which keep a bent joint from collapsing [V, 3, 207].

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


def shape_directions(mesh: Mesh, weights: Array) -> Array:
    """Moves of the vertices by a unit of each of SHAPES [V, 3, 10]."""
    x, y, z = mesh.vertices.T
    side, outwards = np.sign(x), np.abs(x)
    normals = vertex_normals(mesh)
    zero = np.zeros_like(x)

    legs, trunk, skull = _ramp(y, -0.09, -0.86), _ramp(y, 0.0, 0.47), _ramp(y, 0.55, 0.75)
    arms, hands = _ramp(outwards, 0.18, 0.69), _ramp(outwards, 0.69, 0.86)
    feet = mesh.limbs == FOOT_LIMB
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

    leg, arm = (np.array([[r.along, *r.middle] for r in rings]) for rings in (LEG, ARM))
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

    around = np.exp(-(((y - 0.075) / 0.095) ** 2)) * (mesh.limbs == TRUNK_LIMB)
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
