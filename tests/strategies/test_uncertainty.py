"""Homoscedastic task uncertainty: the network and log σ² follow one objective."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import (
    Problem,
    assert_agrees,
    assert_same_bits,
    gradient_of,
    many_examples,
    problem,
    problems,
    step,
)

from mtlbench.errors import UserError


@many_examples
@given(problems(steps=4), st.floats(1e-3, 0.1), st.sampled_from([0.0, 0.5, 0.9]))
def test_mtu_agrees_with_its_oracle(case: Problem, lr: float, momentum: float) -> None:
    network = case.network()
    strategy = case.strategy("mtu", network, mtu__lr=lr, mtu__momentum=momentum)
    s = torch.zeros(len(case.kinds), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([s], lr=lr, momentum=momentum, nesterov=momentum > 0)
    for batch in case.batches:
        objective = 0 * s.sum()
        for k, (c, loss) in enumerate(zip(case.constants, network.task_losses(batch), strict=True)):
            if batch.present[:, k].any():
                objective = objective + c * torch.exp(-s[k]) * loss + s[k] / 2
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
        optimizer.zero_grad()
        objective.backward(inputs=[s])
        optimizer.step()
        assert_agrees(strategy.task.log_variance.detach(), s.detach())


def test_the_log_variances_settle_where_the_objective_is_smallest() -> None:
    losses = torch.tensor([0.5, 2.0], dtype=torch.float64)
    case = problem(tasks=2)
    stage = case.strategy("mtu", case.network(), mtu__lr=0.05).task
    for _ in range(2000):
        stage.weights(losses, torch.tensor([True, True]))
    # 0 = −c L e^(−s) + ½, hence e^s = 2 c L: for classification 2 · 0.5, for regression 2.
    expected = torch.tensor([1.0, 2.0], dtype=torch.float64).log()
    assert_agrees(stage.log_variance.detach(), expected)


@many_examples
@given(problems(steps=4), st.floats(1e-3, 0.1))
def test_ruw_agrees_with_its_oracle(case: Problem, lr: float) -> None:
    network = case.network()
    strategy = case.strategy("ruw", network, ruw__lr=lr)
    variances = [1.0] * len(case.kinds)
    for batch in case.batches:
        losses = network.task_losses(batch)
        objective = sum(loss / (2 * v) for loss, v in zip(losses, variances, strict=True))
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
        for k, (loss, v) in enumerate(zip(losses, variances, strict=True)):
            if batch.present[:, k].any():
                slope = -loss.item() / (2 * v * v) + 1 / (1 + v)  # of F in σ²
                variances[k] = v * math.exp(-lr * slope * v)  # dσ² / d log σ² is σ²
        expected = torch.tensor(variances, dtype=torch.float64).log()
        assert_agrees(strategy.task.log_variance.detach(), expected)


def test_the_variances_of_ruw_settle_where_its_objective_is_smallest() -> None:
    losses = torch.tensor([0.01, 2.0, 50.0], dtype=torch.float64)
    case = problem(tasks=3)
    stage = case.strategy("ruw", case.network(), ruw__lr=0.3).task
    for _ in range(2000):
        stage.weights(losses, torch.tensor([True, True, True]))
    # 0 = −L/(2v) + v/(1 + v), hence 2v² − L v − L = 0.
    expected = (losses + (losses.square() + 8 * losses).sqrt()) / 4
    assert_agrees(stage.log_variance.detach().exp(), expected)


def test_the_variance_of_an_absent_task_stays_as_it_is_in_ruw() -> None:
    case = problem(tasks=2)
    stage = case.strategy("ruw", case.network()).task
    losses = torch.tensor([3.0, 5.0], dtype=torch.float64)
    stage.weights(losses, torch.tensor([True, True]))
    before = stage.log_variance.detach().clone()
    assert stage.weights(losses, torch.tensor([True, False]))[1] == 0
    assert (stage.log_variance.detach() == before).tolist() == [False, True]


def test_the_variances_of_ruw_survive_saving() -> None:
    case = problem(tasks=2)
    stage, other = (case.strategy("ruw", case.network()).task for _ in range(2))
    losses, present = torch.tensor([3.0, 5.0], dtype=torch.float64), torch.tensor([True, True])
    stage.weights(losses, present)
    other.load_state_dict(stage.state_dict())
    for _ in range(2):
        assert_same_bits(other.weights(losses, present), stage.weights(losses, present))


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("mtu__lr", 0, "lr must be above 0, but is 0.0"),
        ("ruw__lr", 0, "lr must be above 0, but is 0.0"),
        ("mtu__momentum", 1, "momentum must be at least 0 and below 1, but is 1.0"),
        ("mtu__momentum", -0.1, "momentum must be at least 0 and below 1, but is -0.1"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameter: str, value: float, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy(parameter.partition("__")[0], case.network(), **{parameter: value})
