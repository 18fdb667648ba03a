"""The joints of the body, and the vertices that follow them."""

import numpy as np
import pytest
from body_geometry import winding_number

from mtlbench.models.body import PARTS, vertex_parts
from mtlbench.models.smpl import JOINTS, BodyModel


def test_the_joints_lie_inside_the_body_in_their_order(body: BodyModel) -> None:
    joints = body.joint_regressor @ body.template
    for place in joints:
        assert winding_number(place, body.template, body.faces) == pytest.approx(1, abs=1e-9)
    place = dict(zip(JOINTS, joints, strict=True))
    np.testing.assert_allclose(place["pelvis"], 0, atol=1e-9)
    for side, sign in (("left", 1), ("right", -1)):
        upwards = [f"{side}_foot", f"{side}_ankle", f"{side}_knee", f"{side}_hip", "pelvis"]
        upwards += ["spine1", "spine2", "spine3", f"{side}_collar", "neck", "head"]
        heights = [place[name][1] for name in upwards]
        assert heights == sorted(heights)
        outwards = ["neck", f"{side}_collar", f"{side}_shoulder", f"{side}_elbow"]
        outwards += [f"{side}_wrist", f"{side}_hand"]
        distances = [sign * place[name][0] for name in outwards]
        assert distances == sorted(distances)
        assert place[f"{side}_foot"][2] > place[f"{side}_ankle"][2] + 0.05  # toes ahead


def test_joints_are_weighted_means_of_the_vertices_around_them(body: BodyModel) -> None:
    assert (body.joint_regressor >= 0).all()
    np.testing.assert_allclose(body.joint_regressor.sum(1), 1, atol=1e-12)
    distance = np.linalg.norm(
        (body.joint_regressor @ body.template)[:, None] - body.template, axis=-1
    )
    assert (distance[body.joint_regressor > 0] < 0.3).all()


def test_a_vertex_follows_at_most_four_joints_that_hang_together(body: BodyModel) -> None:
    assert (body.weights >= 0).all()
    np.testing.assert_allclose(body.weights.sum(1), 1, atol=1e-12)
    assert (body.weights > 0).sum(1).max() <= 4
    left, right = (
        [k for k, part in enumerate(PARTS) if part.startswith(side) and "shoulder" not in part]
        for side in ("left", "right")
    )
    # Only what is at the crotch moves with both legs.
    both = (body.weights[:, left] > 0).any(1) & (body.weights[:, right] > 0).any(1)
    assert (np.abs(body.template[both, 0]) < 0.08).all()


def test_weights_change_smoothly_over_the_surface(body: BodyModel) -> None:
    a, b = body.faces[:, 0], body.faces[:, 1]
    # From one joint to another at once would be 2.
    assert np.abs(body.weights[a] - body.weights[b]).sum(1).max() < 1.2


def test_every_part_is_one_patch_of_the_surface(body: BodyModel) -> None:
    parts = vertex_parts(body)
    assert len(PARTS) == 24
    assert set(parts) == set(range(24))
    for part in range(24):
        members = set(np.flatnonzero(parts == part).tolist())
        reached, border = set[int](), {min(members)}
        faces = [set(face) for face in body.faces.tolist()]
        while border:
            reached |= border
            near = set().union(*(face for face in faces if face & border))
            border = (near & members) - reached
        assert reached == members, PARTS[part]
