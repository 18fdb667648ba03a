"""SDMGrad, against PyTorch's SGD on the gradients themselves, and TorchJD."""

import numpy as np
import pytest
import torch
from gramians import Array, independent_jacobians, stage, weigh
from hypothesis import given
from hypothesis import strategies as st
from torchjd.aggregation import SDMGradWeighting
from toy import many_examples, problem

from mtlbench.errors import UserError
from mtlbench.strategies.sdmgrad import project_onto_simplex


def nearest_on_simplex(point: Array) -> Array:
    """max(x − t, 0) with the t at which it sums to 1, by bisection."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(point - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(point - low, 0)


def batch_of(rows: Array, w: Array, regularization: float, lr: float, momentum: float) -> Array:
    """The weights w after one batch: 20 steps of SGD on ½ ‖Jᵀ (w + λ/K)‖², gradients in units of
    their mean length."""
    jacobian = torch.from_numpy(rows / np.linalg.norm(rows, axis=1).mean())
    parameter = torch.tensor(w, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=lr, momentum=momentum)
    for _ in range(20):
        optimizer.zero_grad()
        direction = (parameter + regularization / len(rows)) @ jacobian
        (0.5 * direction @ direction).backward()
        optimizer.step()
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(nearest_on_simplex(parameter.detach().numpy())))
    return parameter.detach().numpy()


settings_of_sgd = st.tuples(st.sampled_from([0.0, 0.3, 2.0]), st.sampled_from([0.1, 1.0]))


@many_examples
@given(
    st.lists(independent_jacobians(min_tasks=3, max_tasks=3), min_size=1, max_size=3),
    settings_of_sgd,
)
def test_sdmgrad_agrees_with_its_oracle(batches: list[Array], given: tuple[float, float]) -> None:
    regularization, lr = given
    strategy = stage("sdmgrad", 3, regularization=regularization, lr=lr)
    w = np.full(3, 1 / 3)
    for rows in batches:
        w = batch_of(rows, w, regularization, lr, 0.5)
        expected = (w + regularization / 3) / (1 + regularization)
        np.testing.assert_allclose(weigh(strategy, rows), expected, atol=1e-9)


@many_examples
@given(
    st.lists(independent_jacobians(min_tasks=4, max_tasks=4, spread=0.2), min_size=1, max_size=3)
)
def test_sdmgrad_is_torchjds_of_a_gramian(batches: list[Array]) -> None:
    strategy, theirs = stage("sdmgrad", 4, lr=0.5), SDMGradWeighting(lr=0.5)
    for rows in batches:
        expected = theirs(torch.from_numpy(rows @ rows.T)).numpy()
        # TorchJD adds 1e-8 to the squared scale.
        np.testing.assert_allclose(weigh(strategy, rows), expected, atol=1e-5)


@many_examples
@given(independent_jacobians(), st.integers(0, 3))
def test_sdmgrad_weights_sum_to_one_and_each_has_its_part_of_the_mean(
    rows: Array, batches: int
) -> None:
    strategy = stage("sdmgrad", len(rows))
    for _ in range(batches + 1):
        weights = weigh(strategy, rows)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert (weights >= 0.3 / 1.3 / len(rows) - 1e-12).all()


@many_examples
@given(independent_jacobians(min_tasks=2, spread=0.2))
def test_sdmgrad_without_regularization_comes_to_the_direction_of_mgda(rows: Array) -> None:
    lengths = np.linalg.norm(rows, axis=1)
    steady = float(lengths.mean() ** 2 / np.linalg.eigvalsh(rows @ rows.T)[-1])
    strategy = stage("sdmgrad", len(rows), regularization=0.0, lr=steady, momentum=0.0, steps=5000)
    shortest = weigh(stage("mgda", len(rows)), rows) @ rows
    update = weigh(strategy, rows) @ rows
    np.testing.assert_allclose(update, shortest, atol=1e-3 * lengths.max())


def test_sdmgrad_leaves_an_absent_task_its_share_and_the_others_theirs_together() -> None:
    strategy = stage("sdmgrad", 3)
    rows = np.array([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    weigh(strategy, rows, [True, True, False])
    shares = strategy.get_buffer("shares")
    assert shares[2] == pytest.approx(1 / 3)
    assert shares[:2].sum() == pytest.approx(2 / 3)
    assert shares[0] > shares[1]


@many_examples
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=10))
def test_the_projection_onto_the_simplex_is_the_nearest_point(point: list[float]) -> None:
    projected = project_onto_simplex(np.array(point))
    # Bisection is exact to rounding of numbers of up to 100.
    np.testing.assert_allclose(projected, nearest_on_simplex(np.array(point)), atol=1e-12)


@many_examples
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10), st.integers(0, 60))
def test_the_projection_sums_to_one_whatever_the_size(point: list[float], exponent: int) -> None:
    projected = project_onto_simplex(2.0**exponent * (np.array(point) + 0.5))
    assert projected.min() >= 0
    # Beside 2⁵² a step of 1 is a rounding.
    assert projected.sum() == pytest.approx(1, abs=1e-9 if exponent < 20 else 1e-3)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("regularization", -1, r"regularization must be at least 0, but is -1\.0"),
        ("lr", 0, r"lr must be above 0, but is 0\.0"),
        ("momentum", 1, r"momentum must be at least 0 and below 1, but is 1\.0"),
        ("steps", 0, "steps must be at least 1, but is 0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameter: str, value: float, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy("sdmgrad", case.network(), **{f"sdmgrad__{parameter}": value})
