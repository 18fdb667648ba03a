"""Conflict-averse gradients, against SciPy's minimisers."""

import numpy as np
import pytest
from gramians import Array, independent_jacobians, jacobians, stage, weigh
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from toy import many_examples, problem

from mtlbench.errors import UserError

radii = st.sampled_from([0.1, 0.4, 0.9, 1.5])


def direction_by_search(rows: Array, c: float) -> Array:
    """The paper's dual problem in w, by SciPy from several starts, and d from its solution."""
    tasks = len(rows)
    mean = rows.mean(0)
    radius = c * np.linalg.norm(mean)

    def objective(w: Array) -> float:
        return w @ rows @ mean + radius * np.linalg.norm(w @ rows)

    def gradient(w: Array) -> Array:
        return rows @ mean + radius * rows @ (w @ rows) / np.linalg.norm(w @ rows)

    starts = [np.full(tasks, 1 / tasks), *(0.9 * np.eye(tasks) + 0.1 / tasks)]
    found = [
        minimize(
            objective,
            start,
            jac=gradient,
            method="SLSQP",
            bounds=[(0, 1)] * tasks,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-15, "maxiter": 1000},
        ).x
        for start in starts
    ]
    w = min(found, key=objective)
    return mean + radius * (w @ rows) / np.linalg.norm(w @ rows)


@many_examples
@given(independent_jacobians(min_tasks=2, max_tasks=4, spread=0.3), radii)
def test_cagrad_agrees_with_its_oracle(rows: Array, c: float) -> None:
    update = weigh(stage("cagrad", len(rows), c=c), rows) @ rows
    expected = direction_by_search(rows, c)
    # SciPy finds the minimum to about 1e-12, its place and so d to the root of that and less.
    np.testing.assert_allclose(update, expected, atol=2e-4 * np.linalg.norm(expected))
    assert (rows @ update).min() >= (rows @ expected).min() - 1e-9 * np.linalg.norm(expected)


@many_examples
@given(jacobians(max_tasks=10, spread=1), radii)
def test_cagrad_leaves_no_gap_between_its_problem_and_the_dual_one(rows: Array, c: float) -> None:
    assert_no_gap(rows, c)


@pytest.mark.parametrize("seed", [14, 17, 20, 38])
def test_cagrad_leaves_no_gap_for_many_dependent_gradients(seed: int) -> None:
    """Which are hard for exchanges: `test_quadratic`."""
    rng = np.random.default_rng(seed)
    assert_no_gap(rng.standard_normal((40, 12)) * 10.0 ** rng.uniform(-1, 1, (40, 1)), 0.4)


def assert_no_gap(rows: Array, c: float) -> None:
    """min_k ⟨g_k, d⟩ cannot be above ⟨g_w, g_0⟩ + c ‖g_0‖ ‖g_w‖ for any w: where they meet, both
    are solved. w is what d is made with, or makes g_w zero."""
    weights = weigh(stage("cagrad", len(rows), c=c), rows)
    mean = rows.mean(0)
    radius, largest = c * np.linalg.norm(mean), np.linalg.norm(rows, axis=1).max()
    update = weights @ rows
    worst = (rows @ update).min()
    multipliers = weights - 1 / len(rows)
    assert (multipliers >= -1e-12).all()
    assert np.linalg.norm(update - mean) <= radius * (1 + 1e-5) + 1e-12 * largest
    candidates = np.stack(
        [multipliers / (multipliers.sum() or 1), weigh(stage("mgda", len(rows)), rows)]
    )
    combined = candidates[candidates.sum(1) > 0.5] @ rows
    bound = (combined @ mean + radius * np.linalg.norm(combined, axis=1)).min()
    # The diagonal, raised by 1e-12 of its own, moves a gradient by 1e-6 of its length at most.
    assert worst >= bound - 1e-5 * radius * largest - 1e-12 * largest**2


def test_cagrad_with_c_of_zero_is_the_mean_gradient() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 6))
    np.testing.assert_allclose(weigh(stage("cagrad", 4, c=0.0), rows), [0.25] * 4)


def test_cagrad_of_one_task_and_of_equal_ones_is_longer_by_c() -> None:
    rows = np.array([[3.0, 4.0]] * 2)
    for count in (1, 2):
        weights = weigh(stage("cagrad", count), rows[:count])
        np.testing.assert_allclose(weights @ rows[:count], 1.4 * rows[0], rtol=1e-9)


def test_cagrad_with_a_gradient_of_zero_goes_where_no_other_task_suffers() -> None:
    """Nothing is better than 0 for that task; the nearest to the mean of what is as good."""
    rows = np.array([[1.0, 0.0], [-2.0, 1.0], [0.0, 0.0]])
    update = weigh(stage("cagrad", 3, c=0.9), rows) @ rows
    mean = rows.mean(0)
    off_conflict = mean - (mean @ rows[0]) * rows[0]
    np.testing.assert_allclose(update, off_conflict, atol=1e-9)


def test_cagrad_refuses_a_radius_below_zero() -> None:
    case = problem()
    with pytest.raises(UserError, match=r"c must be at least 0, but is -0\.1"):
        case.strategy("cagrad", case.network(), cagrad__c=-0.1)
