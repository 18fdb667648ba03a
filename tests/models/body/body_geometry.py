"""Measures of bodies."""

import numpy as np

from mtlbench.models.body import SHAPES
from mtlbench.models.smpl import JOINTS, BodyModel


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """By the divergence theorem: the tetrahedra between the faces and the origin (m³)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def winding_number(point: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> float:
    """The turns of the surface around a point: 1 inside, 0 outside (van Oosterom & Strackee)."""
    a, b, c = (vertices[faces[:, k]] - point for k in range(3))
    la, lb, lc = (np.linalg.norm(v, axis=1) for v in (a, b, c))
    triple = (a * np.cross(b, c)).sum(1)
    rest = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
    return float(2 * np.arctan2(triple, rest).sum() / (4 * np.pi))


def mirror_image(body: BodyModel) -> np.ndarray:
    """For each vertex the one at the mirrored place, to the last bit."""
    places = {tuple(place): k for k, place in enumerate(body.template.tolist())}
    assert len(places) == len(body.template)
    return np.array([places[-x if x else 0.0, y, z] for x, y, z in body.template.tolist()])


def other_side() -> np.ndarray:
    def swapped(name: str) -> str:
        if name.startswith("left"):
            return name.replace("left", "right")
        return name.replace("right", "left")

    return np.array([JOINTS.index(swapped(name)) for name in JOINTS])


def shaped(body: BodyModel, **amounts: float) -> np.ndarray:
    """The vertices in the rest pose for shapes given by name, with _ for a space."""
    vertices = body.template.copy()
    for name, amount in amounts.items():
        vertices += amount * body.shape_directions[..., SHAPES.index(name.replace("_", " "))]
    return vertices


def joint(body: BodyModel, vertices: np.ndarray, name: str) -> np.ndarray:
    return (body.joint_regressor @ vertices)[JOINTS.index(name)]
