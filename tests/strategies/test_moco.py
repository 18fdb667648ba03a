"""MoCo, against loops over the paper's Algorithm 1 with the authors' normalised gradients."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from task_gradients import (
    Step,
    all_steps,
    assert_absent_task_keeps_its_state,
    assert_goes_on,
    assert_step_without_labels_changes_nothing,
    directions,
    make_step,
    setting,
    started,
)
from toy import assert_agrees, many_examples, problem, step

from mtlbench.strategies.fewer_passes import FewerPasses
from mtlbench.strategies.moco import MultiObjectiveGradientCorrection, project_to_simplex


def project_by_hand(values: list[float], total: float) -> list[float]:
    """max(v − θ, 0) with the θ that gives the sum, by bisection."""
    low, high = min(values) - total - 1, max(values)
    for _ in range(200):
        middle = (low + high) / 2
        if sum(max(v - middle, 0) for v in values) > total:
            low = middle
        else:
            high = middle
    return [max(v - high, 0) for v in values]


def directions_by_hand(
    steps: list[Step], beta: float, beta_sigma: float, gamma: float, gamma_sigma: float, rho: float
) -> list[list[float]]:
    tasks, size = steps[0].jacobian.shape
    y = [[0.0] * size for _ in range(tasks)]
    lambdas, labelled, any_labelled = [1 / tasks] * tasks, [0] * tasks, 0
    results = []
    for each in steps:
        here = [k for k in range(tasks) if each.present[k]]
        any_labelled += bool(here)
        for k in here:
            labelled[k] += 1
            gradient = each.jacobian[k].tolist()
            length = math.sqrt(sum(g * g for g in gradient)) + 1e-8
            rate = beta / labelled[k] ** beta_sigma
            for p in range(size):
                y[k][p] -= rate * (y[k][p] - each.losses[k].item() * gradient[p] / length)
        if here:
            rate = gamma / any_labelled**gamma_sigma
            moved = []
            for k in here:
                slope = rho * lambdas[k]
                for j in here:
                    slope += sum(a * b for a, b in zip(y[k], y[j], strict=True)) * lambdas[j]
                moved.append(lambdas[k] - rate * slope)
            projected = project_by_hand(moved, sum(lambdas[k] for k in here))
            for k, value in zip(here, projected, strict=True):
                lambdas[k] = value
        results.append([sum(lambdas[k] * y[k][p] for k in here) for p in range(size)])
    return results


@many_examples
@given(
    all_steps(),
    st.floats(0.1, 1),
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_moco_agrees_with_its_oracle(
    steps: list[Step],
    beta: float,
    beta_sigma: float,
    gamma: float,
    gamma_sigma: float,
    rho: float,
) -> None:
    parameters = (beta, beta_sigma, gamma, gamma_sigma, rho)
    weighting = started(MultiObjectiveGradientCorrection(*parameters), len(steps[0].losses))
    expected = torch.tensor(directions_by_hand(steps, *parameters), dtype=torch.float64)
    assert_agrees(directions(weighting, steps), expected)


@many_examples
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=5), st.floats(0, 3))
def test_the_projection_is_the_nearest_point_of_the_simplex(
    values: list[float], total: float
) -> None:
    actual = project_to_simplex(
        torch.tensor(values, dtype=torch.float64),
        torch.ones(len(values), dtype=torch.bool),
        torch.tensor(total, dtype=torch.float64),
    )
    assert_agrees(actual, torch.tensor(project_by_hand(values, total), dtype=torch.float64))


@many_examples
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.integers(-40, 40), st.floats(-1, 1))
@example([0.0, 0.0], 30, 1.0)
def test_the_projection_keeps_the_sum_in_float32_whatever_the_size(
    values: list[float], exponent: int, shift: float
) -> None:
    points = 2.0**exponent * (torch.tensor(values) + shift)
    here = torch.ones(len(values), dtype=torch.bool)
    projected = project_to_simplex(points, here, torch.tensor(0.75))
    assert float(projected.min()) >= 0
    # K numbers of at most 0.75 are summed.
    assert float(projected.double().sum()) == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize("size", [1e5, 1e20, 1e30])
def test_one_spike_in_all_losses_is_forgotten(size: float) -> None:
    """In float32, where λ would move by more than 2²⁴ times itself."""
    weighting = MultiObjectiveGradientCorrection()
    weighting.start(replace(setting(3), dtype=torch.float32))
    here = torch.tensor([True] * 3)
    rows = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    losses = torch.ones(3)
    for number in range(300):
        spike = torch.full((3,), size) if number == 3 else losses
        assert weighting.direction(rows, spike, here).isfinite().all()
        assert float(weighting.get_buffer("lambdas").sum()) == pytest.approx(1, abs=1e-6)
    steady = MultiObjectiveGradientCorrection(beta_sigma=0.0, beta=1.0)
    steady.start(replace(setting(3), dtype=torch.float32))
    steady.direction(rows, torch.full((3,), size), here)
    for _ in range(300):
        update = steady.direction(rows, losses, here)
    torch.testing.assert_close(update, torch.tensor([0.5, 0.5]), rtol=0, atol=0.05)


def test_the_sum_of_lambda_stays_1_over_many_steps_in_float32() -> None:
    weighting = MultiObjectiveGradientCorrection(gamma_sigma=0.0)
    weighting.start(replace(setting(4), dtype=torch.float32))
    for number in range(3000):
        each = make_step(4, 3, number % 50, [True, number % 2 == 0, number % 3 > 0, number % 5 > 0])
        weighting.direction(each.jacobian.float(), each.losses.float(), each.present)
    assert float(weighting.get_buffer("lambdas").double().sum()) == pytest.approx(1, abs=1e-6)


def test_with_constant_gradients_it_finds_their_smallest_combination() -> None:
    each = make_step(2, 5, seed=3)
    units = each.jacobian / each.jacobian.norm(dim=1, keepdim=True)
    one, other = units * each.losses[:, None]
    share = ((other - one) @ other / (one - other).square().sum()).clamp(0, 1)
    weighting = started(
        MultiObjectiveGradientCorrection(beta_sigma=0.0, gamma=0.05, gamma_sigma=0.0), 2
    )
    actual = directions(weighting, [each] * 2000)[-1]
    # The weights' error falls geometrically; the lengths have 1e-8 beside them.
    torch.testing.assert_close(actual, share * one + (1 - share) * other, rtol=1e-6, atol=1e-6)


def test_a_task_without_a_label_keeps_its_state() -> None:
    assert_absent_task_keeps_its_state(lambda _: started(MultiObjectiveGradientCorrection(), 3))


def test_a_step_without_any_label_changes_nothing() -> None:
    assert_step_without_labels_changes_nothing(
        lambda _: started(MultiObjectiveGradientCorrection(), 3)
    )


def test_a_restored_state_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Also its shape, which a fresh stage does not know."""
    steps = [make_step(3, 4, n, [True, n % 2 == 0, n % 3 > 0]) for n in range(8)]
    assert_goes_on(
        lambda _: started(MultiObjectiveGradientCorrection(), 3),
        steps,
        tmp_path / "state.safetensors",
    )


def test_another_number_of_shared_parameters_is_refused() -> None:
    weighting = started(MultiObjectiveGradientCorrection(), 2)
    directions(weighting, [make_step(2, 4, 0)])
    with pytest.raises(ValueError, match="number of shared parameters must stay 4, but is 5"):
        directions(weighting, [make_step(2, 5, 0)])


def test_gradients_over_the_representation_are_refused() -> None:
    with pytest.raises(ValueError, match="on must be 'parameters', but is 'representation'"):
        FewerPasses(MultiObjectiveGradientCorrection(), on="representation")


def test_it_works_where_nothing_is_shared() -> None:
    case = problem()
    network = case.network()
    network.trunk.requires_grad_(False)
    strategy = case.strategy("moco", network)
    for batch in case.batches:
        strategy.backward(network.losses(batch), batch.index, batch.present)
    assert all(p.grad is not None for p in network.heads.parameters())


def test_it_trains_a_network() -> None:
    case = problem()
    network = case.network()
    strategy = case.strategy("moco", network)
    for batch in case.batches:
        assert step(strategy, network, batch).isfinite().all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"beta": 0.0}, "beta must be above 0 and at most 1, but is 0.0"),
        ({"beta": 1.5}, "beta must be above 0 and at most 1, but is 1.5"),
        ({"gamma": 0.0}, "gamma must be above 0, but is 0.0"),
        ({"beta_sigma": -1.0}, "beta_sigma must be at least 0, but is -1.0"),
        ({"gamma_sigma": -1.0}, "gamma_sigma must be at least 0, but is -1.0"),
        ({"rho": -1.0}, "rho must be at least 0, but is -1.0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameters: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MultiObjectiveGradientCorrection(**parameters)
