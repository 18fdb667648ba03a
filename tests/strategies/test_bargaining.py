"""Nash-MTL and FairGrad, against SciPy's search for the direction of greatest utility."""

import numpy as np
import pytest
import torch
from gramians import Array, independent_jacobians, jacobians, stage, weigh
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torchjd.aggregation import FairGradWeighting
from toy import many_examples, problem

from mtlbench.errors import UserError

alphas = st.sampled_from([0.2, 0.5, 1.0, 2.0, 10.0])


def fairest_direction(rows: Array, alpha: float) -> Array:
    """The d [P] of greatest Σ_k ⟨g_k, d⟩^(1−α) / (1−α) − ½ ‖d‖², in the space of the gradients.

    Its gradient is zero where d = Σ_k ⟨g_k, d⟩^(−α) g_k, so w_k = ⟨g_k, d⟩^(−α) are the weights.
    """

    def loss(d: Array) -> float:
        gains = rows @ d
        if (gains <= 0).any():
            return np.inf
        utility = np.log(gains) if alpha == 1 else gains ** (1 - alpha) / (1 - alpha)
        return 0.5 * d @ d - utility.sum()

    def gradient(d: Array) -> Array:
        return d - (rows @ d) ** -alpha @ rows

    def hessian(d: Array) -> Array:
        return np.eye(len(d)) + alpha * (rows.T * (rows @ d) ** (-alpha - 1)) @ rows

    start = np.linalg.lstsq(rows, np.linalg.norm(rows, axis=1) ** (2 / (1 + alpha)), rcond=None)[0]
    for _ in range(500):  # Newton's method with steps halved until they descend
        step = -np.linalg.solve(hessian(start), gradient(start))
        size = 1.0
        while loss(start + size * step) > loss(start) + 1e-12 * abs(loss(start)):
            size /= 2
        start = start + size * step
    found = minimize(loss, start, jac=gradient, hess=hessian, method="trust-exact")
    return found.x


@many_examples
@given(independent_jacobians(max_tasks=5, spread=0.5))
def test_nash_mtl_agrees_with_its_oracle(rows: Array) -> None:
    update = weigh(stage("nash-mtl", len(rows), max_norm=0.0), rows) @ rows
    expected = fairest_direction(rows, 1.0)
    # The diagonal, raised by 1e-12, is multiplied by a condition number of 1000 at most.
    np.testing.assert_allclose(update, expected, atol=1e-7 * np.linalg.norm(expected))


@many_examples
@given(independent_jacobians(max_tasks=5, spread=0.5), alphas)
def test_fairgrad_agrees_with_its_oracle(rows: Array, alpha: float) -> None:
    update = weigh(stage("fairgrad", len(rows), alpha=alpha), rows) @ rows
    expected = fairest_direction(rows, alpha)
    np.testing.assert_allclose(update, expected, atol=1e-7 * np.linalg.norm(expected))


@many_examples
@given(independent_jacobians(max_tasks=4, spread=0.2), st.sampled_from([1.0, 2.0]))
def test_fairgrad_solves_its_equation_no_worse_than_torchjd_does(rows: Array, alpha: float) -> None:
    gramian = torch.from_numpy(rows @ rows.T)
    theirs = FairGradWeighting(alpha)(gramian).numpy()
    ours = weigh(stage("fairgrad", len(rows), alpha=alpha), rows)
    # SciPy's least squares stop when the sum of squares changes by less than 1e-8 of itself.
    np.testing.assert_allclose(ours, theirs, rtol=1e-2)
    residual = {
        name: np.abs(gramian.numpy() @ w - w ** (-1 / alpha)).max()
        for name, w in (("ours", ours), ("theirs", theirs))
    }
    assert residual["ours"] <= residual["theirs"] + 1e-9 * (1 + ours.max())


@many_examples
@given(independent_jacobians(max_tasks=10, spread=4), alphas)
def test_fairgrad_gains_are_a_power_of_the_weights(rows: Array, alpha: float) -> None:
    weights = weigh(stage("fairgrad", len(rows), alpha=alpha), rows)
    assert (weights > 0).all()
    gramian = rows @ rows.T
    # A gain may be a small difference of large numbers, where α is small and scales differ.
    rounding = 1e-7 * np.abs(gramian) @ weights
    assert (np.abs(gramian @ weights - weights ** (-1 / alpha)) <= rounding).all()


@many_examples
@given(independent_jacobians(max_tasks=10, spread=4))
def test_nash_mtl_gains_are_the_inverse_of_the_weights(rows: Array) -> None:
    weights = weigh(stage("nash-mtl", len(rows), max_norm=0.0), rows)
    assert (weights > 0).all()
    np.testing.assert_allclose(rows @ (weights @ rows), 1 / weights, rtol=1e-6)


@many_examples
@given(
    independent_jacobians(max_tasks=6),
    st.lists(st.floats(-6, 6), min_size=6, max_size=6),
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),
)
def test_nash_mtl_does_not_depend_on_the_scale_of_any_task(
    rows: Array, exponents: list[float], max_norm: float
) -> None:
    scales = 10.0 ** np.array(exponents[: len(rows)])
    update = weigh(stage("nash-mtl", len(rows), max_norm=max_norm), rows) @ rows
    scaled = scales[:, None] * rows
    of_scaled = weigh(stage("nash-mtl", len(rows), max_norm=max_norm), scaled) @ scaled
    np.testing.assert_allclose(of_scaled, update, atol=1e-7)
    length = np.sqrt(len(rows))
    expected = min(length, max_norm) if max_norm else length
    assert np.linalg.norm(update) == pytest.approx(expected, rel=1e-7)


def test_nash_mtl_of_two_tasks_has_a_closed_form() -> None:
    """For unit gradients of cosine c: α (1 + c) = 1 / α."""
    rows = np.array([[1.0, 0.0], [-0.6, 0.8]])
    weights = weigh(stage("nash-mtl", 2, max_norm=0.0), rows)
    np.testing.assert_allclose(weights, [0.4**-0.5] * 2, rtol=1e-9)


@many_examples
@given(independent_jacobians())
def test_fairgrad_with_alpha_of_one_is_nash_mtl_without_a_limit(rows: Array) -> None:
    fair = weigh(stage("fairgrad", len(rows), alpha=1.0), rows)
    nash = weigh(stage("nash-mtl", len(rows), max_norm=0.0), rows)
    np.testing.assert_allclose(fair, nash, rtol=1e-12)


@pytest.mark.parametrize("name", ["nash-mtl", "fairgrad"])
@many_examples
@given(jacobians(max_tasks=10))
def test_weights_are_positive_but_for_gradients_of_zero(name: str, rows: Array) -> None:
    weights = weigh(stage(name, len(rows)), rows)
    assert ((weights > 0) == rows.any(1)).all()


@pytest.mark.parametrize("name", ["nash-mtl", "fairgrad"])
def test_a_third_task_is_served_where_two_others_are_opposed(name: str) -> None:
    rows = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])
    update = weigh(stage(name, 3), rows) @ rows
    # What the opposed gain is 0 but for the diagonal's 1e-12, of which they gain the root.
    np.testing.assert_allclose(update, [0, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameter", "value", "message"),
    [
        ("nash-mtl", "max_norm", -1, r"max_norm must be at least 0, but is -1\.0"),
        ("fairgrad", "alpha", 0, r"alpha must be above 0, but is 0\.0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    name: str, parameter: str, value: float, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy(name, case.network(), **{f"{name}__{parameter}": value})
