"""The SMPL layer against its definition, vertex by vertex and joint by joint."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.models.smpl import JOINTS, PARENTS, SMPL, BodyModel, Surface

seeds = st.integers(0, 2**32 - 1)

# Coordinates are of order 1 m: float64 rounds them by 1e-16 and float32 by 6e-8, a few times on a
# vertex's way through up to eight joints. The largest error in float32 of 4,800 bodies was 6e-7.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14}


@functools.cache
def make_body(*, vertices: int = 40, shapes: int = 10) -> BodyModel:
    """A body of no shape in particular, as large as a human one."""
    rng = np.random.default_rng(0)
    return BodyModel(
        template=rng.uniform(-1, 1, (vertices, 3)) * [0.8, 0.9, 0.15],
        shape_directions=rng.normal(size=(vertices, 3, shapes)) * 0.02,
        pose_directions=rng.normal(size=(vertices, 3, 207)) * 0.005,
        joint_regressor=rng.dirichlet(np.full(vertices, 0.1), 24),
        weights=rng.dirichlet(np.full(24, 0.1), vertices),
        parents=PARENTS,
        faces=rng.integers(0, vertices, (60, 3)),
    )


def draw_inputs(seed: int, batch: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Shapes [B, 10] and rotations [B, 24, 3, 3], drawn evenly."""
    rng = np.random.default_rng(seed)
    rotations = Rotation.random(24 * batch, rng=rng).as_matrix()
    return rng.normal(size=(batch, 10)), rotations.reshape(batch, 24, 3, 3)


def pose_by_hand(
    body: BodyModel, shape: np.ndarray, rotations: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] and joints [24, 3] of one body, with Eq. 2–10 of Loper et al. (2015)."""
    shaped = np.zeros_like(body.template)
    for i in range(len(shaped)):
        shaped[i] = body.template[i]
        for s in range(len(shape)):
            shaped[i] += shape[s] * body.shape_directions[i, :, s]
    rest = np.zeros((24, 3))
    for k in range(24):
        for i in range(len(shaped)):
            rest[k] += body.joint_regressor[k, i] * shaped[i]

    world = []
    for k in range(24):
        local = np.eye(4)
        local[:3, :3] = rotations[k]
        local[:3, 3] = rest[k] if k == 0 else rest[k] - rest[body.parents[k]]
        world.append(local if k == 0 else world[body.parents[k]] @ local)

    vertices = np.zeros_like(shaped)
    for i in range(len(shaped)):
        vertex = shaped[i].copy()
        for k in range(1, 24):
            for row in range(3):
                for column in range(3):
                    element = rotations[k, row, column] - float(row == column)
                    number = 9 * (k - 1) + 3 * row + column
                    vertex += element * body.pose_directions[i, :, number]
        for k in range(24):
            unposed = np.eye(4)
            unposed[:3, 3] = -rest[k]
            moved = world[k] @ unposed @ np.append(vertex, 1)
            vertices[i] += body.weights[i, k] * moved[:3]
    return vertices, np.array([transform[:3, 3] for transform in world])


def pose(
    body: BodyModel, shape: np.ndarray, rotations: np.ndarray, dtype: torch.dtype = torch.float64
) -> Surface:
    """The same of a batch, with the layer."""
    layer = SMPL(body, shapes=shape.shape[-1], dtype=dtype)
    return layer(torch.tensor(shape, dtype=dtype), torch.tensor(rotations, dtype=dtype))


def assert_near(actual: Tensor, expected: np.ndarray, tolerance: float = 1e-14) -> None:
    """Every coordinate is within a tolerance (m)."""
    torch.testing.assert_close(actual.double(), torch.tensor(expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@given(seed=seeds)
@settings(max_examples=10)
def test_surface_is_that_of_the_definition(seed: int, dtype: torch.dtype) -> None:
    body = make_body()
    shape, rotations = draw_inputs(seed)
    surface = pose(body, shape, rotations, dtype)
    by_hand = [pose_by_hand(body, *inputs) for inputs in zip(shape, rotations, strict=True)]
    vertices, joints = map(np.array, zip(*by_hand, strict=True))
    assert surface.vertices.dtype == surface.joints.dtype == dtype
    assert_near(surface.vertices, vertices, TOLERANCE[dtype])
    assert_near(surface.joints, joints, TOLERANCE[dtype])


def test_zero_shape_in_the_rest_pose_is_the_template() -> None:
    body = make_body()
    surface = pose(body, np.zeros((1, 10)), np.eye(3) * np.ones((1, 24, 1, 1)))
    assert_near(surface.vertices[0], body.template)
    assert_near(surface.joints[0], body.joint_regressor @ body.template)


@given(seeds)
@settings(max_examples=20)
def test_turning_the_root_turns_the_body_about_the_root_joint(seed: int) -> None:
    shape, rotations = draw_inputs(seed)
    before = pose(make_body(), shape, rotations)
    turn = Rotation.random(rng=seed).as_matrix()
    rotations[:, 0] = turn @ rotations[:, 0]
    after = pose(make_body(), shape, rotations)
    root = before.joints[:, :1].numpy()
    assert_near(after.vertices, root + (before.vertices.numpy() - root) @ turn.T)
    assert_near(after.joints, root + (before.joints.numpy() - root) @ turn.T)


@given(seeds, st.integers(1, 23))
@settings(max_examples=20)
def test_turning_a_joint_moves_only_the_joints_that_hang_on_it(seed: int, joint: int) -> None:
    shape, rotations = draw_inputs(seed)
    before = pose(make_body(), shape, rotations).joints
    rotations[:, joint] = rotations[:, joint] @ Rotation.random(rng=seed).as_matrix()
    after = pose(make_body(), shape, rotations).joints
    moved = {k for k in range(24) if (after[:, k] != before[:, k]).any()}
    hanging: set[int] = set()
    for k in range(joint + 1, 24):
        if PARENTS[k] in {joint, *hanging}:
            hanging.add(k)
    assert moved == hanging


def test_gradients_are_those_of_finite_differences() -> None:
    layer = SMPL(make_body(vertices=5, shapes=3), shapes=3, dtype=torch.float64)
    shape, rotations = draw_inputs(0)
    inputs = [torch.tensor(x, requires_grad=True) for x in (shape[:, :3], rotations)]
    assert torch.autograd.gradcheck(layer, inputs)


def test_a_body_in_a_batch_is_the_body_alone() -> None:
    shape, rotations = draw_inputs(0, batch=5)
    together = pose(make_body(), shape, rotations).vertices
    assert_near(pose(make_body(), shape[3:4], rotations[3:4]).vertices[0], together[3].numpy())


def test_of_many_shape_directions_the_first_are_used() -> None:
    body = make_body(shapes=300)
    shape, rotations = draw_inputs(0)
    first = replace(body, shape_directions=body.shape_directions[..., :10])
    assert_near(
        pose(body, shape, rotations).vertices, pose(first, shape, rotations).vertices.numpy(), 0
    )


def test_more_shapes_than_the_body_has_are_refused() -> None:
    with pytest.raises(UserError, match="12 shape directions asked for, but the body has 10"):
        SMPL(make_body(), shapes=12)


def test_joints_must_stand_in_order_of_their_depth() -> None:
    with pytest.raises(ValueError, match="order of their depth"):
        SMPL(replace(make_body(), parents=(-1, *range(22), 0)))


def test_body_is_no_part_of_the_weights_of_a_network() -> None:
    layer = SMPL(make_body())
    assert not layer.state_dict()
    assert not list(layer.parameters())
    assert layer.to(torch.float64).template.dtype == torch.float64


def test_autocast_leaves_the_precision_alone() -> None:
    layer = SMPL(make_body())
    shape, rotations = (torch.tensor(x, dtype=torch.float32) for x in draw_inputs(0))
    expected = layer(shape, rotations).vertices
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vertices = layer(shape, rotations).vertices
    assert torch.equal(vertices, expected)


def test_joints_are_named_after_their_side() -> None:
    mirrored = [name.replace("left", "right") for name in JOINTS]
    for joint, parent in enumerate(PARENTS):
        if JOINTS[joint].startswith("left"):
            twin = JOINTS.index(mirrored[joint])
            assert JOINTS[PARENTS[twin]] == mirrored[parent]


def test_saved_body_loads_the_same(tmp_path: Path) -> None:
    body = make_body()
    body.save(tmp_path / "body.npz")
    loaded = BodyModel.load(tmp_path / "body.npz")
    assert loaded.parents == PARENTS
    for name, array in vars(body).items():
        if name != "parents":
            assert np.array_equal(getattr(loaded, name), array)
            assert getattr(loaded, name).dtype == array.dtype


def test_body_is_saved_as_npz_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"written as \.npz"):
        make_body().save(tmp_path / "body.pkl")
