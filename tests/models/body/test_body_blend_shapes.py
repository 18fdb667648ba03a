"""The blend shapes of the body do what their names say."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from body_geometry import joint, shaped, volume, winding_number
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtlbench.models.body import PARTS, make_body, vertex_parts
from mtlbench.models.rotations import from_axis_angle
from mtlbench.models.smpl import JOINTS, SMPL, BodyModel

betas = arrays(np.float64, 10, elements=st.floats(-2.5, 2.5))


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
