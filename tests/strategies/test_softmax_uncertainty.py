"""Uncertainty weighting with the optimal uncertainties, against the formula in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import Problem, assert_agrees, gradient_of, many_examples, problem, problems, step

from mtlbench.errors import UserError


@many_examples
@given(problems())
def test_uw_o_agrees_with_its_oracle(case: Problem) -> None:
    network = case.network()
    strategy = case.strategy("uw-o", network)
    for batch in case.batches:
        objective = 0 * network.trunk.weight.sum()
        for k, loss in enumerate(network.task_losses(batch)):
            if batch.present[:, k].any():
                sigma = loss.item()  # where 1/σ L + log σ is smallest
                objective = objective + loss / sigma
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))


@many_examples
@given(st.floats(1e-3, 1e3))
def test_the_sigma_of_uw_o_is_the_best_for_an_l1_loss(loss: float) -> None:
    case = problem(tasks=1)
    stage = case.strategy("uw-o", case.network()).task
    weight = stage.weights(torch.tensor([loss], dtype=torch.float64), torch.tensor([True])).item()

    def negative_log_likelihood(sigma: float) -> float:
        return loss / sigma + float(np.log(sigma))

    best = negative_log_likelihood(1 / weight)
    assert best < negative_log_likelihood(1.01 / weight)
    assert best < negative_log_likelihood(0.99 / weight)


@many_examples
@given(problems(), st.floats(0.1, 1e3))
def test_uw_so_agrees_with_its_oracle(case: Problem, temperature: float) -> None:
    network = case.network()
    strategy = case.strategy("uw-so", network, **{"uw-so__temperature": temperature})
    for batch in case.batches:
        losses = network.task_losses(batch)
        here = [k for k in range(len(losses)) if batch.present[:, k].any()]
        objective = 0 * losses[0]
        if here:
            logits = np.array([1 / losses[k].item() / temperature for k in here])
            powers = np.exp(logits - logits.max())
            for k, weight in zip(here, len(here) * powers / powers.sum(), strict=True):
                objective = objective + weight * losses[k]
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))


@many_examples
@given(st.lists(st.floats(0.05, 20), min_size=3, max_size=3), st.floats(0.1, 10))
def test_losses_a_tenth_as_large_need_a_temperature_ten_times_as_high(
    values: list[float], temperature: float
) -> None:
    losses, present = torch.tensor(values, dtype=torch.float64), torch.tensor([True] * 3)
    weights = soft(temperature).weights(losses, present)
    assert_agrees(soft(10 * temperature).weights(losses / 10, present), weights)


def soft(temperature: float) -> torch.nn.Module:
    case = problem(tasks=3)
    return case.strategy("uw-so", case.network(), **{"uw-so__temperature": temperature}).task


def test_the_smaller_the_loss_the_larger_the_weight() -> None:
    losses = torch.tensor([3.0, 0.5, 1.0], dtype=torch.float64)
    weights = soft(1.0).weights(losses, torch.tensor([True] * 3))
    assert weights.argsort().tolist() == losses.argsort(descending=True).tolist()


@pytest.mark.parametrize("name", ["uw-o", "uw-so"])
def test_a_loss_of_zero_has_no_weight_and_one_near_it_a_finite_weight(name: str) -> None:
    case = problem(tasks=3)
    stage = case.strategy(name, case.network()).task
    losses = torch.tensor([0.0, 1e-320, 4.0], dtype=torch.float64)
    weights = stage.weights(losses, torch.tensor([True] * 3))
    assert weights.isfinite().all()
    assert weights[0] == 0
    assert weights[1] > weights[2]


@pytest.mark.parametrize("name", ["uw-o", "uw-so"])
def test_without_a_label_there_is_no_weight(name: str) -> None:
    case = problem(tasks=2)
    stage = case.strategy(name, case.network()).task
    weights = stage.weights(torch.zeros(2, dtype=torch.float64), torch.tensor([False, False]))
    assert weights.tolist() == [0, 0]


@pytest.mark.parametrize("value", [0, -2])
def test_a_temperature_that_is_not_positive_is_refused(value: float) -> None:
    case = problem()
    with pytest.raises(UserError, match=f"temperature must be above 0, but is {float(value)}"):
        case.strategy("uw-so", case.network(), **{"uw-so__temperature": value})
