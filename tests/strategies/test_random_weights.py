"""Weights drawn at random, against draws made here."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd.scalarization import Random
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
from mtlbench.randomness import global_draws_from


def drawn(distribution: str, tasks: int, generator: torch.Generator) -> list[float]:
    """Numbers that weights are proportional to: e^z of normal z, or exponential numbers."""
    if distribution == "normal":
        normal = torch.randn(tasks, generator=generator, dtype=torch.float64)
        return [math.exp(z) for z in normal.tolist()]
    numbers = torch.empty(tasks, dtype=torch.float64).exponential_(generator=generator)
    return numbers.tolist()


@many_examples
@given(problems(), st.sampled_from(["normal", "dirichlet"]), st.integers(0, 2**31))
def test_rlw_agrees_with_its_oracle(case: Problem, distribution: str, seed: int) -> None:
    network = case.network()
    strategy = case.strategy("rlw", network, seed, rlw__distribution=distribution)
    generator = torch.Generator().manual_seed(seed)
    for batch in case.batches:
        numbers = drawn(distribution, len(case.kinds), generator)
        here = [k for k in range(len(case.kinds)) if batch.present[:, k].any()]
        total = sum(numbers[k] for k in here)
        losses = network.task_losses(batch)
        objective = sum(
            (len(here) * numbers[k] / total * losses[k] for k in here), start=0 * losses[0]
        )
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))


def test_normal_weights_are_those_of_torchjd_times_the_number_of_tasks() -> None:
    """There they sum to 1."""
    stage = weighting("normal", seed=3)
    losses = torch.tensor([0.2, 1.0, 7.0], dtype=torch.float64, requires_grad=True)
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        with global_draws_from(generator):
            (expected,) = torch.autograd.grad(Random()(losses), losses)
        assert_agrees(stage.weights(losses.detach(), ALL), 3 * expected)


def weighting(distribution: str, seed: int = 0) -> torch.nn.Module:
    case = problem(tasks=3)
    return case.strategy("rlw", case.network(), seed, rlw__distribution=distribution).task


ALL = torch.tensor([True, True, True])


def many_weights(distribution: str) -> Tensor:
    stage = weighting(distribution)
    ones = torch.ones(3, dtype=torch.float64)
    return torch.stack([stage.weights(ones, ALL) for _ in range(4000)])


@pytest.mark.parametrize("distribution", ["normal", "dirichlet"])
def test_weights_are_equal_on_average(distribution: str) -> None:
    weights = many_weights(distribution)
    assert_agrees(weights.sum(1), torch.full((4000,), 3.0, dtype=torch.float64))
    # A weight in [0, 3] with mean 1 has a variance of 2 at most: 5 standard errors.
    assert (weights.mean(0) - 1).abs().max() < 5 * math.sqrt(2 / 4000)


def test_dirichlet_weights_have_the_variance_of_the_flat_dirichlet_distribution() -> None:
    # (K − 1) / (K²(K + 1)) of a share, times K² for weights that sum to K = 3: ½. The estimate's
    # standard error is √(μ₄ − ¼) / √4000 < 0.02, as the fourth moment μ₄ of w − 1 is 0.9.
    variance = many_weights("dirichlet").var(0)
    assert (variance - 0.5).abs().max() < 0.1


def test_an_absent_task_changes_no_later_draw() -> None:
    stage, other = weighting("normal"), weighting("normal")
    ones = torch.ones(3, dtype=torch.float64)
    for present in (torch.tensor([True, False, True]), torch.zeros(3, dtype=torch.bool)):
        stage.weights(ones, present)
        other.weights(ones, ALL)
        assert_same_bits(stage.weights(ones, ALL), other.weights(ones, ALL))


def test_a_restored_strategy_draws_what_it_would_have_drawn() -> None:
    case = problem(steps=6)
    network = case.network()
    strategy, other = case.strategy("rlw", network), case.strategy("rlw", network, 1)
    for batch in case.batches[:3]:
        step(strategy, network, batch)
    other.load_state_dict(strategy.state_dict())
    for batch in case.batches[3:]:
        assert_same_bits(step(other, network, batch), step(strategy, network, batch))


def test_an_unknown_distribution_is_refused() -> None:
    case = problem()
    with pytest.raises(UserError, match="must be 'normal' or 'dirichlet', but is 'uniform'"):
        case.strategy("rlw", case.network(), rlw__distribution="uniform")
