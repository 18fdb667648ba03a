"""The package's own body: a closed, symmetric human surface whose shapes do what they say."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtlbench.models.body import PARTS, SHAPES, make_body, vertex_parts
from mtlbench.models.rotations import from_axis_angle
from mtlbench.models.smpl import JOINTS, PARENTS, SMPL, BodyModel

FLIP = np.array([-1.0, 1.0, 1.0])

betas = arrays(np.float64, 10, elements=st.floats(-2.5, 2.5))


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return make_body()


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """By the divergence theorem: the tetrahedra between the faces and the origin (m³)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def winding_number(point: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> float:
    """How often the surface goes around a point: 1 inside, 0 outside (van Oosterom & Strackee)."""
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


def test_the_surface_is_closed_and_its_faces_agree_on_what_is_outside(body: BodyModel) -> None:
    edges = Counter((int(face[k]), int(face[(k + 1) % 3])) for face in body.faces for k in range(3))
    assert set(edges.values()) == {1}
    assert all((b, a) in edges for a, b in edges)
    # Euler's formula for a sphere: one piece, without a handle.
    assert len(body.template) - len(edges) // 2 + len(body.faces) == 2
    assert set(body.faces.ravel()) == set(range(len(body.template)))


def test_it_has_about_a_thousand_vertices_and_the_layout_of_a_body_file(
    body: BodyModel, tmp_path: Path
) -> None:
    count = len(body.template)
    assert 900 <= count <= 1300
    assert body.shape_directions.shape == (count, 3, len(SHAPES)) == (count, 3, 10)
    assert body.pose_directions.shape == (count, 3, 207)
    assert body.parents == PARENTS
    body.save(tmp_path / "body.npz")
    read = BodyModel.load(tmp_path / "body.npz")
    for name, array in vars(body).items():
        np.testing.assert_array_equal(getattr(read, name), array)


def test_it_is_as_tall_as_broad_and_as_heavy_as_a_human(body: BodyModel) -> None:
    extent = body.template.max(0) - body.template.min(0)
    assert extent[1] == pytest.approx(1.70, abs=0.01)
    # The span of the arms is about the height.
    assert extent[0] == pytest.approx(extent[1], rel=0.05)
    # Water weighs 1000 kg/m³ and a human little less: 50 to 90 kg, positive as faces look out.
    assert 0.05 < volume(body.template, body.faces) < 0.09
    head = body.template[vertex_parts(body) == PARTS.index("head")]
    assert 6.5 < extent[1] / np.ptp(head[:, 1]) < 8.5  # "seven and a half heads"


def test_it_is_its_own_mirror_image(body: BodyModel) -> None:
    mirrored, swapped = mirror_image(body), other_side()
    faces = {tuple(np.roll(face, -face.argmin())) for face in body.faces}
    turned = mirrored[body.faces[:, ::-1]]
    assert {tuple(np.roll(face, -face.argmin())) for face in turned} == faces
    parts = vertex_parts(body)
    np.testing.assert_array_equal(swapped[parts[mirrored]], parts)
    np.testing.assert_array_equal(body.joint_regressor[:, mirrored][swapped], body.joint_regressor)
    # Sums in another order, of numbers up to 1 and of some below 0.1 m.
    np.testing.assert_allclose(body.weights[mirrored][:, swapped], body.weights, atol=1e-15)
    np.testing.assert_allclose(
        body.shape_directions[mirrored] * FLIP[:, None], body.shape_directions, atol=1e-15
    )


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


def girth_at(vertices: np.ndarray, which: np.ndarray, axes: list[int]) -> float:
    """Half the mean extent of some vertices along two axes."""
    return float(np.ptp(vertices[which][:, axes], axis=0).mean() / 2)


def _height(body: BodyModel, v: np.ndarray) -> float:
    return float(np.ptp(v[:, 1]))


def _between(first: str, second: str) -> Callable[[BodyModel, np.ndarray], float]:
    def distance(body: BodyModel, v: np.ndarray) -> float:
        return float(np.linalg.norm(joint(body, v, first) - joint(body, v, second)))

    return distance


def _hips(body: BodyModel, v: np.ndarray) -> float:
    return float(np.ptp(v[vertex_parts(body) == PARTS.index("pelvis"), 0]))


def _head(body: BodyModel, v: np.ndarray) -> float:
    return float(np.ptp(v[vertex_parts(body) == PARTS.index("head"), 1]))


def _thigh(body: BodyModel, v: np.ndarray) -> float:
    middle = (np.abs(body.template[:, 1] + 0.3) < 0.06) & (body.template[:, 0] > 0)
    return girth_at(v, middle, [0, 2])


def _upper_arm(body: BodyModel, v: np.ndarray) -> float:
    middle = np.abs(body.template[:, 0] - 0.32) < 0.06
    return girth_at(v, middle, [1, 2])


def _belly(body: BodyModel, v: np.ndarray) -> float:
    return float(v[np.abs(body.template[:, 1] - 0.08) < 0.05, 2].max())


def _waist(body: BodyModel, v: np.ndarray) -> float:
    return girth_at(v, np.abs(body.template[:, 1] - 0.12) < 0.04, [0, 2])


@pytest.mark.parametrize(
    ("shape", "measure", "change"),
    [
        ("height", _height, 0.060),
        ("girth", _waist, 0.013),
        ("leg_length", _between("left_hip", "left_ankle"), 0.030),
        ("leg_length", _between("right_hip", "right_knee"), 0.015),
        ("arm_length", _between("left_shoulder", "left_wrist"), 0.022),
        ("shoulder_width", _between("left_shoulder", "right_shoulder"), 0.032),
        ("hip_width", _hips, 0.032),
        ("hip_width", _between("left_hip", "right_hip"), 0.016),
        ("torso_length", _between("pelvis", "neck"), 0.024),
        ("torso_length", _height, 0.024),
        ("head_size", _head, 0.012),
        ("limb_thickness", _thigh, 0.0075),
        ("limb_thickness", _upper_arm, 0.005),
        ("belly", _belly, 0.030),
    ],
)
def test_a_unit_of_a_shape_changes_what_it_names_by_centimetres(
    body: BodyModel, shape: str, measure: Callable[[BodyModel, np.ndarray], float], change: float
) -> None:
    """A third more or less, for where exactly a tape measure lies is open."""
    before = measure(body, body.template)
    more, less = (
        measure(body, shaped(body, **{shape: 1})),
        measure(body, shaped(body, **{shape: -1})),
    )
    assert more - before == pytest.approx(change, rel=0.33)
    assert before - less == pytest.approx(change, rel=0.33)


@pytest.mark.parametrize(
    ("shape", "measure"),
    [
        ("girth", _height),
        ("belly", _height),
        ("arm_length", _height),
        ("shoulder_width", _height),
        ("leg_length", _between("pelvis", "neck")),
        ("torso_length", _between("left_hip", "left_ankle")),
        ("arm_length", _between("left_shoulder", "right_shoulder")),
        ("limb_thickness", _waist),
    ],
)
def test_a_shape_leaves_alone_what_others_are_for(
    body: BodyModel, shape: str, measure: Callable[[BodyModel, np.ndarray], float]
) -> None:
    change = measure(body, shaped(body, **{shape: 1})) - measure(body, body.template)
    assert abs(change) < 0.004  # m, where the shapes themselves change centimetres


@settings(max_examples=25)
@given(betas)
def test_whatever_the_shape_it_is_a_body_with_its_joints_inside(beta: np.ndarray) -> None:
    body = make_body()
    vertices = body.template + body.shape_directions @ beta
    # m³: at the corners, where all ten shapes are at their ends, from a small child to a giant.
    assert 0.014 < volume(vertices, body.faces) < 0.17
    assert 1.2 < np.ptp(vertices[:, 1]) < 2.2
    for place in body.joint_regressor @ vertices:
        assert winding_number(place, vertices, body.faces) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("bend", [45, 90, 120])
@pytest.mark.parametrize(("name", "axis"), [("elbow", 1), ("knee", 0)])
def test_pose_blend_shapes_keep_the_volume_of_a_bent_limb(
    body: BodyModel, name: str, axis: int, bend: float
) -> None:
    turn = torch.zeros(1, 24, 3, dtype=torch.float64)
    for side, sign in (("left", 1), ("right", -1)):
        turn[0, JOINTS.index(f"{side}_{name}"), axis] = np.deg2rad(bend) * (
            -sign if name == "elbow" else 1
        )
    plain = BodyModel(**{**vars(body), "pose_directions": 0 * body.pose_directions})
    rest = volume(body.template, body.faces)
    lost = []
    for model in (body, plain):
        surface = SMPL(model, dtype=torch.float64)(
            torch.zeros(1, 10, dtype=torch.float64), from_axis_angle(turn)
        )
        lost.append(abs(rest - volume(surface.vertices[0].numpy(), body.faces)))
    assert lost[0] < 0.7 * lost[1]


def test_pose_blend_shapes_are_the_second_order_of_half_a_turn(body: BodyModel) -> None:
    """A vertex that follows a turn by half moves as if turned by half the angle."""
    elbow = JOINTS.index("left_elbow")
    children = [elbow, JOINTS.index("left_wrist"), JOINTS.index("left_hand")]
    follows = body.weights[:, children].sum(1)
    vertex = int(np.abs(follows - 0.5).argmin())
    w, r = follows[vertex], body.template[vertex] - joint(body, body.template, "left_elbow")

    def error(angle: float) -> float:
        def turned(part: float) -> np.ndarray:
            vector = torch.tensor([0.0, -angle * part, 0.0], dtype=torch.float64)
            return from_axis_angle(vector).numpy()

        m = turned(1) - np.eye(3)
        start = 9 * (elbow - 1)
        added = body.pose_directions[vertex, :, start : start + 9] @ m.ravel()
        return float(np.linalg.norm(r + w * m @ r + added - turned(w) @ r))

    # What is left is of third order: half the angle, an eighth of the error.
    assert error(0.1) < error(0.2) / 6
    assert error(0.2) < 1e-3 * np.linalg.norm(r)


def test_it_is_made_anew_to_the_same_bits_and_cannot_be_changed(body: BodyModel) -> None:
    again = make_body.__wrapped__()
    for name, array in vars(body).items():
        np.testing.assert_array_equal(getattr(again, name), array)
    assert make_body() is body
    with pytest.raises(ValueError, match="read-only"):
        body.template[0] = 0
