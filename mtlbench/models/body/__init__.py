"""A body of our own, in the layout of an SMPL file, whose own body may not be passed on.

The surface is one closed mesh swept along a trunk, a leg and an arm, the left half first and then
its mirror image. All lengths are in metres, in SMPL's rest pose: x to the person's left, y up, z
ahead, the pelvis joint at the origin, the arms stretched out sideways.
"""

from functools import cache

import numpy as np

from mtlbench.models.body.blend_shapes import SHAPES, pose_directions, shape_directions
from mtlbench.models.body.mesh import Indices
from mtlbench.models.body.skinning import (
    PARTS,
    joint_regressor,
    skinning_weights,
    template_joints,
)
from mtlbench.models.body.surface import sweep_surface
from mtlbench.models.smpl import PARENTS, BodyModel

__all__ = ["PARTS", "SHAPES", "make_body", "vertex_parts"]


def vertex_parts(body: BodyModel) -> Indices:
    """The part [V] that each vertex belongs to: the joint it follows most."""
    return body.weights.argmax(1)


@cache
def make_body() -> BodyModel:
    """The body, the same bits each time; its arrays are read-only, for all callers share them."""
    mesh = sweep_surface()
    joints = template_joints()
    weights = skinning_weights(mesh)
    body = BodyModel(
        template=mesh.vertices,
        shape_directions=shape_directions(mesh, weights),
        pose_directions=pose_directions(mesh.vertices, joints, weights),
        joint_regressor=joint_regressor(mesh, joints),
        weights=weights,
        parents=PARENTS,
        faces=mesh.faces,
    )
    for array in vars(body).values():
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return body
