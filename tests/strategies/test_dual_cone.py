"""Projections onto the dual cone, against SciPy's non-negative least squares on the vectors."""

import numpy as np
import pytest
from gramians import Array, jacobians, stage, weigh
from hypothesis import given
from scipy.optimize import nnls
from toy import many_examples, problem

from mtlbench.errors import UserError

every_projection = pytest.mark.parametrize("name", ["upgrad", "dualproj"])


def regularized(rows: Array, reg_eps: float) -> Array:
    """Vectors whose Gramian is the scaled and regularised one."""
    return np.hstack([rows / np.linalg.norm(rows), np.sqrt(reg_eps) * np.eye(len(rows))])


def projection(rows: Array, combination: Array) -> Array:
    """Weights of the vector nearest to uᵀ J that has no negative product with a row of J.

    By Moreau's decomposition, it is the vector minus its projection onto the cone of −J's rows.
    """
    multipliers, _ = nnls(rows.T, -combination @ rows, maxiter=1000)
    return combination + multipliers


@many_examples
@given(jacobians(max_tasks=8, spread=1))
def test_upgrad_agrees_with_its_oracle(rows: Array) -> None:
    if not rows.any():
        return
    vectors = regularized(rows, 1e-4)
    expected = sum(projection(vectors, unit) for unit in np.eye(len(rows))) / len(rows)
    weights = weigh(stage("upgrad", len(rows), norm_eps=0.0), rows)
    # The condition number is 1e4 at most.
    np.testing.assert_allclose(weights, expected, rtol=1e-8, atol=1e-8)


@many_examples
@given(jacobians(max_tasks=8, spread=1))
def test_dualproj_agrees_with_its_oracle(rows: Array) -> None:
    if not rows.any():
        return
    expected = projection(regularized(rows, 1e-4), np.full(len(rows), 1 / len(rows)))
    weights = weigh(stage("dualproj", len(rows), norm_eps=0.0), rows)
    np.testing.assert_allclose(weights, expected, rtol=1e-8, atol=1e-8)


@every_projection
@pytest.mark.parametrize("reg_eps", [1e-4, 1e-8])
@many_examples
@given(jacobians(max_tasks=10, spread=1))
def test_the_update_conflicts_with_no_task(name: str, reg_eps: float, rows: Array) -> None:
    weights = weigh(stage(name, len(rows), norm_eps=0.0, reg_eps=reg_eps), rows)
    assert (weights >= 1 / len(rows) - 1e-12).all()
    # (G + reg_eps I) w ≥ 0 for the Gramian G of trace 1, up to rounding
    allowed = (reg_eps + 1e-12) * weights * (rows**2).sum()
    assert (rows @ (weights @ rows) >= -allowed - 1e-14 * np.abs(rows).max() ** 2).all()


@every_projection
def test_gradients_without_a_conflict_keep_their_mean(name: str) -> None:
    rows = np.abs(np.random.default_rng(0).standard_normal((4, 6)))
    np.testing.assert_allclose(weigh(stage(name, 4), rows), [0.25] * 4)


def test_upgrad_of_two_gradients_projects_each_off_the_other() -> None:
    rows = np.array([[1.0, 0.0], [-1.0, 2.0]])
    update = weigh(stage("upgrad", 2, reg_eps=1e-10), rows) @ rows
    # [1, 0] off [−1, 2] is [0.8, 0.4]; [−1, 2] off [1, 0] is [0, 2].
    np.testing.assert_allclose(update, [0.4, 1.2], atol=1e-8)


@every_projection
def test_gradients_below_norm_eps_count_as_zero(name: str) -> None:
    rows = 1e-3 * np.array([[1.0, 0.0], [-3.0, 2.0]])  # squares sum to 1.4e-5
    np.testing.assert_allclose(weigh(stage(name, 2), rows), [0.5, 0.5])
    assert weigh(stage(name, 2, norm_eps=1e-5), rows).max() > 0.51


@every_projection
@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("norm_eps", -1, r"norm_eps must be at least 0, but is -1\.0"),
        ("reg_eps", 0, r"reg_eps must be above 0, but is 0\.0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    name: str, parameter: str, value: float, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy(name, case.network(), **{f"{name}__{parameter}": value})
