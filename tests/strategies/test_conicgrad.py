"""Directions in a cone about the mean gradient, against the paper's problem solved by SciPy."""

import math

import numpy as np
import pytest
from gramians import Array, independent_jacobians, jacobians, stage, weigh
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from toy import many_examples, problem

from mtlbench.errors import UserError

cosines = st.sampled_from([0.1, 0.5, 0.9, 0.99])


def update_of(rows: Array, c: float) -> Array:
    direction: Array = weigh(stage("conicgrad", len(rows), c=c), rows) @ rows
    return direction


def direction_by_search(rows: Array, c: float) -> tuple[float, Array]:
    """max t with ⟨g_k, d⟩ ≥ t, ⟨g_0, d⟩ ≥ c ‖g_0‖ and ‖d‖ ≤ 1, times ‖g_0‖: t and d.

    The d of the paper, of length 1, where t is above 0; the least t that they reach elsewhere.
    """
    basis, _ = np.linalg.qr(rows.T)
    points = rows @ basis
    length = np.linalg.norm(points.mean(0))
    axis, points = points.mean(0) / length, points / length
    ones = np.ones((len(rows), 1))

    def found(start: Array) -> Array:
        constraints = [
            (lambda x: points @ x[:-1] - x[-1], lambda x: np.hstack([points, -ones])),
            (lambda x: axis @ x[:-1] - c, lambda x: np.append(axis, 0)),
            (lambda x: 1 - x[:-1] @ x[:-1], lambda x: np.append(-2 * x[:-1], 0)),
        ]
        x: Array = minimize(
            lambda x: -x[-1],
            np.append(start, (points @ start).min()),
            jac=lambda x: np.append(0 * x[:-1], -1),
            method="SLSQP",
            constraints=[{"type": "ineq", "fun": f, "jac": jac} for f, jac in constraints],
            options={"ftol": 1e-15, "maxiter": 500},
        ).x
        return x

    best = max((found(start) for start in (axis, *points)), key=lambda x: float(x[-1]))
    return best[-1] * length**2, length * basis @ best[:-1]


@pytest.mark.parametrize("tasks", [2, 3, 5])
@pytest.mark.parametrize("c", [0.1, 0.5, 0.9])
def test_conicgrad_agrees_with_its_oracle(tasks: int, c: float) -> None:
    rng = np.random.default_rng(tasks)
    for shift in (0.0, 0.0, 0.5):
        rows = rng.standard_normal((tasks, tasks + 3)) + shift
        rows *= 10.0 ** rng.uniform(-1, 1, (tasks, 1))
        value, expected = direction_by_search(rows, c)
        update, length = update_of(rows, c), np.linalg.norm(expected)
        # SciPy finds t to about 1e-8; what the update is short of it, the raised diagonal takes.
        size = np.linalg.norm(rows, axis=1).max() * length
        assert (rows @ update).min() == pytest.approx(value, abs=1e-6 * size)
        if value > 1e-3 * size:
            np.testing.assert_allclose(update, expected, atol=1e-4 * length)


@pytest.mark.parametrize(
    ("gradients", "c", "expected"),
    [
        # g_0 = (2, 0). The shortest combination, (1.6, 0.8), makes an angle of cosine 2/√5.
        ([[1, 2], [3, -2]], 0.5, [4 / 5**0.5, 2 / 5**0.5]),
        ([[1, 2], [3, -2]], 0.96, [1.92, 0.56]),  # on the rim, where the first task is the worse
        ([[3, -2], [1, 2]], 0.96, [1.92, 0.56]),
        ([[-1, 1], [5, -1]], 0.96, [1.92, 0.56]),  # nothing in the cone is good for the first
        ([[-1, 0], [5, 0]], 0.5, [1, 0]),  # and nothing orthogonal to g_0 makes a difference
        ([[3, 4], [3, 4]], 0.5, [3, 4]),
        ([[3, 4]], 0.9, [3, 4]),
    ],
)
def test_values_by_hand(gradients: list[list[float]], c: float, expected: list[float]) -> None:
    # The raised diagonal makes directions differ by 1e-6.
    np.testing.assert_allclose(update_of(np.array(gradients, float), c), expected, atol=1e-5)


@many_examples
@given(jacobians(max_tasks=10, spread=1), cosines)
def test_there_is_no_gap_between_the_problem_and_its_dual(rows: Array, c: float) -> None:
    assert_no_gap(rows, c)


@pytest.mark.parametrize("seed", range(4))
def test_there_is_no_gap_for_many_dependent_gradients(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert_no_gap(rng.standard_normal((40, 12)) * 10.0 ** rng.uniform(-1, 1, (40, 1)), 0.5)


def assert_no_gap(rows: Array, c: float) -> None:
    """For no d in the cone, of length ‖g_0‖ at most, min_k ⟨g_k, d⟩ is above ‖g_0‖ h(g_w), where w
    are any weights and h(x) is the largest ⟨x, u⟩ of a u in the cone of length 1. The weights of
    the update, some of the mean taken off them, are such w."""
    tasks, mean = len(rows), rows.mean(0)
    weights = weigh(stage("conicgrad", tasks, c=c), rows)
    update = weights @ rows
    length, largest = np.linalg.norm(mean), np.linalg.norm(rows, axis=1).max()
    assert (weights >= -1e-12 * np.abs(weights).max()).all()
    assert np.linalg.norm(update) <= length * (1 + 1e-5) + 1e-12 * largest
    if length <= 1e-7 * largest:  # there may be no axis but for rounding
        return
    axis = mean / length
    assert axis @ update >= c * np.linalg.norm(update) - 1e-5 * length
    assert axis @ update >= (c - 1e-5) * length

    def bound(w: Array) -> float:
        combined = w @ rows
        along, norm = axis @ combined, np.linalg.norm(combined)
        across = np.linalg.norm(combined - along * axis)
        return float(norm if along >= c * norm else c * along + math.sqrt(1 - c**2) * across)

    def without(share: float) -> Array:
        rest = weights - share * weights.min()
        return rest / rest.sum()

    candidates = [weights / weights.sum(), weigh(stage("mgda", tasks), rows)]
    if tasks > 1 and np.ptp(weights) > 1e-9 * weights.max():
        share = minimize_scalar(lambda s: bound(without(s)), bounds=(0, 1), method="bounded").x
        candidates += [without(share), without(1)]
    worst = (rows @ update).min()
    # The diagonal, raised by 1e-12 of its own, moves a gradient by 1e-6 of its length at most.
    assert worst >= min(map(bound, candidates)) * length - 1e-5 * length * largest


@many_examples
@given(independent_jacobians(min_tasks=2), cosines, st.sampled_from([1e-6, 1e3]))
def test_the_update_is_as_long_as_gradients_are(rows: Array, c: float, scale: float) -> None:
    # Rounding of 1e-16 is multiplied by the condition number, 1000 at most.
    expected = scale * update_of(rows, c)
    tolerance = 1e-7 * np.linalg.norm(expected)
    np.testing.assert_allclose(update_of(scale * rows, c), expected, atol=tolerance)


@given(jacobians())
def test_a_cosine_of_one_gives_the_mean_gradient(rows: Array) -> None:
    assert (weigh(stage("conicgrad", len(rows), c=1.0), rows) == 1 / len(rows)).all()


@many_examples
@given(independent_jacobians(min_tasks=2))
def test_a_wide_cone_gives_the_direction_of_mgda(rows: Array) -> None:
    mgda = weigh(stage("mgda", len(rows)), rows) @ rows
    mgda /= np.linalg.norm(mgda)
    mean = rows.mean(0)
    if mgda @ mean > 1e-3 * np.linalg.norm(mean):
        expected = np.linalg.norm(mean) * mgda
        tolerance = 1e-7 * np.linalg.norm(mean)
        np.testing.assert_allclose(update_of(rows, 1e-3), expected, atol=tolerance)


def test_gradients_whose_sum_is_zero_get_equal_weights() -> None:
    rows = np.array([[1.0, 0.0], [-2.0, 1.0], [1.0, -1.0]])
    assert (weigh(stage("conicgrad", 3), rows) == 1 / 3).all()


def test_with_a_gradient_of_zero_no_other_task_suffers() -> None:
    """Nothing is better than 0 for that task; the nearest to c g_0 of what is as good."""
    rows = np.array([[1.0, 0.0], [-2.0, 1.0], [0.0, 0.0]])
    # Along (0, 1), so far that its product with the unit of g_0 = (−1, 1) / 3 is c ‖g_0‖.
    np.testing.assert_allclose(update_of(rows, 0.5), [0, 1 / 3], atol=1e-5)


@pytest.mark.parametrize("c", [0.0, -0.5, 1.5])
def test_a_cosine_that_makes_no_cone_is_refused(c: float) -> None:
    case = problem()
    with pytest.raises(UserError, match=rf"c must be above 0 and at most 1, but is {c}"):
        case.strategy("conicgrad", case.network(), conicgrad__c=c)
