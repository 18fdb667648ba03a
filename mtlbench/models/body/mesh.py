"""The surface as a mesh: vertices, faces, and means and normals over them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

TRUNK_LIMB, NECK_LIMB, HEAD_LIMB, LEG_LIMB, FOOT_LIMB, ARM_LIMB = range(6)

FLIP = np.array([-1.0, 1.0, 1.0])


class Mesh(NamedTuple):
    """Vertices [V, 3] and faces [F, 3], counter-clockwise seen from outside.

    Attributes:
        limbs: [V], the limb that a vertex was swept along, from TRUNK_LIMB to ARM_LIMB.
        mirrored: [V], the vertex at the same place on the other side.
    """

    vertices: Array
    faces: Indices
    limbs: Indices
    mirrored: Indices


def neighbour_mean(faces: Indices, values: Array) -> Array:
    """The mean [V, C] of values [V, C] at each vertex' neighbours on a closed surface.

    Summed in one order, whatever the number of threads.
    """
    total, count = np.zeros_like(values), np.zeros((len(values), 1))
    for a, b in ((0, 1), (1, 2), (2, 0)):  # each edge once in either direction
        np.add.at(total, faces[:, a], values[faces[:, b]])
        np.add.at(count, faces[:, a], 1.0)
    return total / count


def vertex_normals(mesh: Mesh) -> Array:
    """Outward normals [V, 3] of unit length."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)  # twice the area long
    normals = np.zeros_like(mesh.vertices)
    for k in range(3):
        np.add.at(normals, mesh.faces[:, k], across)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
