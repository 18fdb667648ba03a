"""Nash-MTL and FairGrad, against SciPy's search for the direction of greatest utility."""

import numpy as np
import pytest
import torch
from gramians import Array, independent_jacobians, jacobians, stage, weigh
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares, minimize
from torchjd.aggregation import FairGradWeighting
from toy import many_examples, problem

from mtlbench.errors import UserError
from mtlbench.strategies.bargaining import PerformanceInformedWeighting

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


# --- PIVRG ---

MORE = {"t0/accuracy": 80.0, "t0/miou": 50.0}
LESS = {"t1/error": 0.5, "t2/error": 2.0}
EPOCH = {"t0/accuracy": 72.0, "t0/miou": 45.0, "t1/error": 0.6, "t2/error": 1.9, "t2/other": 7.0}
BEHIND = np.array([10.0, 20.0, -5.0])  # percent: the means of 10 and 10, 20, and −5


def informed(**parameters: float) -> PerformanceInformedWeighting:
    built = stage("pivrg", 3, more=MORE, less=LESS, **parameters)
    built.end_epoch(torch.ones(3), EPOCH)
    return built


def shares(bound: float, temperature: float) -> Array:
    """p as in the authors' code."""
    temperature = max((BEHIND.max() - BEHIND.min()) / np.log(bound), temperature)
    exponentials = np.exp((BEHIND - BEHIND.max()) / temperature)
    return 3 * exponentials / exponentials.sum()


@many_examples
@given(
    independent_jacobians(min_tasks=3, max_tasks=3, spread=0.3),
    st.sampled_from([1.8, 2.0]),
    st.sampled_from([10.0, 100.0]),
)
def test_pivrg_agrees_with_its_oracle(rows: Array, bound: float, temperature: float) -> None:
    """The search for least squares of the authors' code, which stops at 1e-8 of them."""
    gramian, p = rows @ rows.T, shares(bound, temperature)
    found = least_squares(
        lambda x: gramian @ x - np.sqrt(p / x), np.ones(3) / 3, bounds=(0, np.inf)
    )
    ours = weigh(informed(bound=bound, temperature=temperature, max_norm=0.0), rows) / 3
    np.testing.assert_allclose(gramian @ ours, np.sqrt(p / ours), rtol=1e-6)
    np.testing.assert_allclose(ours, found.x, rtol=2e-2)
    update = weigh(informed(bound=bound, temperature=temperature), rows) @ rows
    length = np.linalg.norm(3 * ours @ rows)
    np.testing.assert_allclose(update, 3 * ours @ rows / max(1, length), atol=1e-7)


def test_no_task_gets_more_than_bound_times_another() -> None:
    assert shares(1.8, 1e-3).max() / shares(1.8, 1e-3).min() == pytest.approx(1.8)
    rows = np.eye(3)  # where w is p^⅓
    weights = weigh(informed(bound=1.8, temperature=1e-3, max_norm=0.0), rows)
    np.testing.assert_allclose(weights, 3 * np.cbrt(shares(1.8, 1e-3)), rtol=1e-9)


def test_without_single_task_results_pivrg_is_fairgrad() -> None:
    rows = np.array([[1.0, 0.2, 0.0], [0.1, 3.0, 0.5], [0.0, -0.4, 0.3]])
    plain = stage("pivrg", 3, max_norm=0.0)
    plain.end_epoch(torch.ones(3), EPOCH)
    expected = 3 * weigh(stage("fairgrad", 3, alpha=2.0), rows)
    np.testing.assert_allclose(weigh(plain, rows), expected, rtol=1e-9)


def test_a_metric_that_is_nan_is_left_out_and_a_task_without_another_stays_as_it_was() -> None:
    built = informed()
    nan = {"t0/accuracy": np.nan, "t0/miou": 40.0, "t1/error": np.nan, "t2/error": 2.0}
    built.end_epoch(torch.ones(3), nan)
    np.testing.assert_allclose(built.get_buffer("behind").numpy(), [20.0, 20.0, 0.0])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bound": 1.0}, "bound must be above 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"max_norm": -1.0}, "max_norm must be at least 0"),
        ({"more": {"t0/accuracy": 1.0}}, "must name a metric of task 't1', too"),
        ({"more": {"t9/accuracy": 1.0}}, "'t9/accuracy', which is no TASK/METRIC; tasks: t0, t1"),
        ({"less": {"t0/error": 0.0, "t1/error": 1.0, "t2/error": 1.0}}, "'t0/error' is 0"),
    ],
)
def test_what_pivrg_cannot_be_given_is_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage("pivrg", 3, **parameters)


def test_metrics_of_an_epoch_in_which_one_is_missing_are_refused() -> None:
    with pytest.raises(ValueError, match="validation must have 't0/accuracy', as more or less has"):
        informed().end_epoch(torch.ones(3), {})
