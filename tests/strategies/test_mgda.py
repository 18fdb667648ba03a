"""The shortest convex combination, against an enumeration of its faces."""

from itertools import combinations

import numpy as np
import pytest
import torch
from gramians import Array, independent_jacobians, jacobians, stage, weigh
from hypothesis import given
from torchjd.aggregation import MGDA
from toy import many_examples

from mtlbench.strategies.mgda import MultipleGradientDescent


def shortest_by_enumeration(rows: Array) -> Array:
    """The shortest of the points of all faces that are nearest to 0 in their face's plane."""
    best = rows[0]
    for size in range(1, len(rows) + 1):
        for face in combinations(rows, size):
            origin, edges = face[0], np.array([other - face[0] for other in face[1:]])
            if size == 1:
                share, point = np.zeros(0), origin
            else:
                share = -np.linalg.lstsq(edges.T, origin, rcond=None)[0]
                point = origin + share @ edges
            inside = (share >= 0).all() and share.sum() <= 1
            if inside and np.linalg.norm(point) < np.linalg.norm(best):
                best = point
    return best


@many_examples
@given(independent_jacobians(max_tasks=5))
def test_mgda_agrees_with_its_oracle(rows: Array) -> None:
    weights = weigh(stage("mgda", len(rows)), rows)
    expected = shortest_by_enumeration(rows)
    # The diagonal is raised by 1e-12, which condition numbers up to 1000 multiply.
    np.testing.assert_allclose(weights @ rows, expected, atol=1e-8 * np.linalg.norm(expected))


@many_examples
@given(jacobians(max_tasks=10))
def test_mgda_weights_lie_on_the_simplex_and_no_gradient_falls_short_of_the_update(
    rows: Array,
) -> None:
    """The update d is the shortest combination if and only if ⟨g_k, d⟩ ≥ ‖d‖² for all k."""
    weights = weigh(stage("mgda", len(rows)), rows)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    update = weights @ rows
    lengths = np.linalg.norm(rows, axis=1)
    # The diagonal, raised by 1e-12 of its own, moves d by 1e-6 of a gradient at most.
    shortest = lengths.min()
    assert (rows @ update >= update @ update - 2e-6 * shortest * lengths).all()


@many_examples
@given(independent_jacobians(min_tasks=2))
def test_mgda_finds_nothing_longer_than_torchjd_does(rows: Array) -> None:
    """TorchJD's steps of Frank-Wolfe stop early."""
    theirs = MGDA()(torch.from_numpy(rows)).numpy()
    ours = weigh(stage("mgda", len(rows)), rows) @ rows
    assert np.linalg.norm(ours) <= np.linalg.norm(theirs) * (1 + 1e-9)


def test_mgda_of_opposite_gradients_is_zero() -> None:
    rows = np.array([[1.0, 2.0], [-3.0, -6.0]])
    np.testing.assert_allclose(weigh(stage("mgda", 2), rows), [0.75, 0.25], rtol=1e-9)


def test_mgda_gives_equal_gradients_equal_weights() -> None:
    rows = np.array([[1.0, 2.0]] * 3)
    np.testing.assert_allclose(weigh(stage("mgda", 3), rows), [1 / 3] * 3, rtol=1e-9)


def test_mgda_gives_all_weight_to_tasks_that_nothing_improves() -> None:
    rows = np.array([[1.0, 2.0], [0.0, 0.0], [5.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(weigh(stage("mgda", 4), rows), [0, 0.5, 0, 0.5])


def test_mgda_gives_no_weight_to_a_task_without_a_label() -> None:
    """Its gradient of zero would otherwise be the shortest of all, and get all the weight."""
    rows = np.array([[1.0, 2.0], [4.0, 4.0]])
    np.testing.assert_allclose(weigh(stage("mgda", 2), rows, [False, True]), [0, 1])


def test_mgda_has_no_parameters() -> None:
    with pytest.raises(TypeError):
        MultipleGradientDescent(epsilon=1e-3)  # type: ignore[call-arg]
