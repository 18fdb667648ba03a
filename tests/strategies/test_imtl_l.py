"""Learned scales: the network and the scales follow one objective."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchjd.scalarization import IMTLL
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
@given(problems(steps=4), st.floats(1e-3, 0.1))
def test_imtl_l_agrees_with_its_oracle(case: Problem, lr: float) -> None:
    network = case.network()
    strategy = case.strategy("imtl-l", network, **{"imtl-l__lr": lr})
    s = [0.0] * len(case.kinds)
    for batch in case.batches:
        losses = network.task_losses(batch)
        scales = torch.tensor(s, dtype=torch.float64).exp()
        objective = sum(scale * loss for scale, loss in zip(scales, losses, strict=True))
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
        for k, loss in enumerate(losses):
            if batch.present[:, k].any():
                s[k] -= lr * (scales[k].item() * loss.item() - 1)
        assert_agrees(strategy.task.log_scale.detach(), torch.tensor(s, dtype=torch.float64))


def test_weights_and_scales_are_those_of_torchjd_with_sgd() -> None:
    theirs = IMTLL(3).double()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.025)
    stage = weighting()
    chance = torch.Generator().manual_seed(0)
    for _ in range(20):
        losses = 3 * torch.rand(3, generator=chance, dtype=torch.float64)
        leaf = losses.clone().requires_grad_()
        optimizer.zero_grad()
        theirs(leaf).backward()
        optimizer.step()
        assert_agrees(stage.weights(losses, torch.tensor([True] * 3)), leaf.grad)
        assert_agrees(stage.log_scale.detach(), theirs.log_scale.detach())


def weighting(**parameters: object) -> torch.nn.Module:
    case = problem(tasks=3)
    return case.strategy("imtl-l", case.network(), **parameters).task


def test_the_scaled_losses_become_one() -> None:
    losses = torch.tensor([0.1, 1.0, 20.0], dtype=torch.float64)
    stage = weighting()
    for _ in range(3000):
        weights = stage.weights(losses, torch.tensor([True] * 3))
    assert_agrees(weights * losses, torch.ones(3, dtype=torch.float64))


def test_the_scale_of_an_absent_task_stays_as_it_is() -> None:
    stage = weighting()
    losses = torch.tensor([0.1, 0.0, 20.0], dtype=torch.float64)
    stage.weights(losses + 2, torch.tensor([True] * 3))
    before = stage.log_scale.detach().clone()
    assert stage.weights(losses, torch.tensor([True, False, True]))[1] == 0
    assert (stage.log_scale.detach() == before).tolist() == [False, True, False]
    assert stage.weights(0 * losses, torch.tensor([False] * 3)).tolist() == [0, 0, 0]


def test_the_scales_survive_saving() -> None:
    losses, present = torch.tensor([0.1, 1.0, 20.0], dtype=torch.float64), torch.tensor([True] * 3)
    stage, other = weighting(), weighting()
    stage.weights(losses, present)
    other.load_state_dict(stage.state_dict())
    for _ in range(2):
        assert_same_bits(other.weights(losses, present), stage.weights(losses, present))


def test_a_learning_rate_that_is_not_positive_is_refused() -> None:
    case = problem()
    with pytest.raises(UserError, match="lr must be above 0, but is -1"):
        case.strategy("imtl-l", case.network(), **{"imtl-l__lr": -1})
