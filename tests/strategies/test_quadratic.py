"""Quadratic programmes of few variables, against SciPy's non-negative least squares."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls
from toy import many_examples

from mtlbench.strategies.quadratic import minimize_nonnegative


@many_examples
@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**31), st.floats(0.1, 10))
def test_the_minimum_is_that_of_non_negative_least_squares(
    size: int, rows: int, seed: int, shift: float
) -> None:
    """½ xᵀ AᵀA x − (Aᵀ y)ᵀ x is ½ ‖A x − y‖² up to a constant."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((size + 3, size)) - shift * rng.standard_normal((size + 3, 1))
    targets = rng.standard_normal((rows, size + 3))
    expected = np.stack([nnls(factor, target)[0] for target in targets])
    found = minimize_nonnegative(factor.T @ factor, targets @ factor)
    # Both solve systems whose condition number is below 1e8 in these examples.
    np.testing.assert_allclose(found, expected, atol=1e-7 * max(1, np.abs(expected).max()))


@many_examples
@given(st.integers(2, 12), st.integers(0, 2**31))
def test_nearly_singular_problems_end_at_their_minimum(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((2, size))
    hessian = factor.T @ factor + 1e-9 * np.eye(size)
    linear = rng.standard_normal((1, 2)) @ factor
    (x,) = minimize_nonnegative(hessian, linear)
    slack = hessian @ x - linear[0]
    assert (x >= 0).all()
    assert (slack >= -1e-6).all()
    assert abs(x @ slack) <= 1e-6


def test_where_exchanging_all_at_once_goes_in_circles_it_still_ends() -> None:
    """Many random problems with strong couplings, of which some make full exchanges cycle."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        factor = rng.standard_normal((6, 6)) + 3 * rng.standard_normal((6, 1))
        hessian = factor.T @ factor + 1e-3 * np.eye(6)
        linear = rng.standard_normal((3, 6)) * 10.0 ** rng.uniform(-3, 3, 6)
        x = minimize_nonnegative(hessian, linear)
        slack = x @ hessian - linear
        # The largest number in a row is up to 1e6 times that which is to be told from 0.
        tolerance = 1e-7 * np.abs(linear).max()
        assert (x >= 0).all()
        assert (slack >= -tolerance).all()
        assert (np.minimum(x, slack) <= tolerance).all()


def test_many_dependent_variables_end_at_their_minimum() -> None:
    """In 3 of these problems no number of exchanges that can be waited for comes to an end."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((40, 12)) * 10.0 ** rng.uniform(-1, 1, (40, 1))
        lengths = np.linalg.norm(rows, axis=1)
        mean, units = rows.mean(0), rows / lengths[:, None]
        hessian = units @ units.T + 1e-12 * np.eye(40)
        reached = (rows @ mean + 0.4 * np.linalg.norm(mean) * lengths).min()
        linear = (reached / lengths - units @ mean)[None]
        (x,) = minimize_nonnegative(hessian, linear)
        slack = hessian @ x - linear[0]
        # Where x is large, so is what rounding leaves of H x; a wrong x is off by 1 and more.
        tolerance = 1e-9 + 1e-13 * x.max()
        assert (slack >= -tolerance).all()
        assert (np.minimum(x, slack) <= tolerance).all()


@many_examples
@given(st.integers(2, 20), st.integers(0, 2**31))
def test_a_guess_of_the_places_above_zero_makes_no_difference(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((size + 3, size))
    hessian, linear = factor.T @ factor, rng.standard_normal((3, size))
    x = minimize_nonnegative(hessian, linear)
    guess = rng.random((3, size)) < 0.5
    # The condition number is below 1e8 in these examples.
    np.testing.assert_allclose(minimize_nonnegative(hessian, linear, guess), x, atol=1e-7)
