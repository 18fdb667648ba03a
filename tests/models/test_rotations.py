"""Rotations against SciPy's, and against what defines them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from mtlbench.models.rotations import from_6d, from_axis_angle, to_6d

seeds = st.integers(0, 2**32 - 1)

# A few roundings of numbers of order 1, in float64.
TOLERANCE = {"rtol": 0, "atol": 1e-14}


def draw_rotations(seed: int, count: int) -> Tensor:
    """Rotations drawn evenly, [N, 3, 3]."""
    return torch.tensor(Rotation.random(count, rng=seed).as_matrix())


@given(seeds)
def test_rotations_survive_the_way_to_6d_and_back(seed: int) -> None:
    rotations = draw_rotations(seed, 24)
    torch.testing.assert_close(from_6d(to_6d(rotations)), rotations, **TOLERANCE)


def test_the_6d_of_a_rotation_are_its_first_two_columns_first_column_first() -> None:
    rotation = torch.arange(9.0).view(3, 3)
    assert to_6d(rotation).tolist() == [0, 3, 6, 1, 4, 7]


def test_6d_are_made_orthonormal_from_the_first_column_on() -> None:
    # By hand: (3, 0, 4) / 5 is the first column; (0, 2, 5) less its share of 4 along that is
    # (-2.4, 2, 1.8), of length √13; the third column is their cross product.
    length = 13**0.5
    expected = [[0.6, -2.4 / length, -1.6 / length], [0, 2 / length, -3 / length]]
    expected += [[0.8, 1.8 / length, 1.2 / length]]
    rotation = from_6d(torch.tensor([3.0, 0, 4, 0, 2, 5], dtype=torch.float64))
    torch.testing.assert_close(rotation, torch.tensor(expected, dtype=torch.float64), **TOLERANCE)


@given(seeds)
def test_any_6d_give_a_rotation(seed: int) -> None:
    x = torch.tensor(np.random.default_rng(seed).normal(size=(2, 24, 6)))
    rotations = from_6d(x)
    assert rotations.shape == (2, 24, 3, 3)
    # Columns that are nearly parallel lose digits, as many as their sine has zeros.
    unit = torch.nn.functional.normalize(x.unflatten(-1, (2, 3)), dim=-1)
    sine = torch.linalg.cross(unit[..., 0, :], unit[..., 1, :]).norm(dim=-1).min().item()
    identity = torch.eye(3, dtype=x.dtype).expand_as(rotations)
    torch.testing.assert_close(rotations.mT @ rotations, identity, rtol=0, atol=1e-14 / sine)
    assert (torch.linalg.det(rotations) > 0).all()


@given(seeds, st.floats(0, 4 * np.pi))
def test_axes_and_angles_give_the_rotations_that_scipy_gives(seed: int, angle: float) -> None:
    axes = np.random.default_rng(seed).normal(size=(24, 3))
    v = angle * axes / np.linalg.norm(axes, axis=-1, keepdims=True)
    expected = torch.tensor(Rotation.from_rotvec(v).as_matrix())
    torch.testing.assert_close(from_axis_angle(torch.tensor(v)), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0, 1e-45, 1e-30, 1e-20, 1e-8, 1e-4])
def test_small_angles_turn_as_their_cross_product_does(size: float, dtype: torch.dtype) -> None:
    v = size * torch.tensor([0.6, 0, -0.8], dtype=dtype)
    rotation, derivative = (
        from_axis_angle(v),
        torch.autograd.functional.jacobian(from_axis_angle, v),
    )
    # R = I + K + O(θ²), and the derivative of K has six entries: ∂R_zy/∂x = 1, ∂R_yz/∂x = −1, …
    cross = torch.zeros(3, 3, 3, dtype=dtype)
    for row, column, axis in ((2, 1, 0), (0, 2, 1), (1, 0, 2)):
        cross[row, column, axis], cross[column, row, axis] = 1, -1
    close = {"rtol": 0, "atol": 2 * torch.finfo(dtype).eps + size**2}
    torch.testing.assert_close(rotation, torch.eye(3, dtype=dtype) + cross @ v, **close)
    torch.testing.assert_close(derivative, cross, rtol=0, atol=2 * size + close["atol"])


@pytest.mark.parametrize(("function", "size"), [(from_6d, 6), (from_axis_angle, 3)])
def test_gradients_are_those_of_finite_differences(function, size: int) -> None:
    x = torch.tensor(np.random.default_rng(0).normal(size=(4, size)), requires_grad=True)
    assert torch.autograd.gradcheck(function, x)
