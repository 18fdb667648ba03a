"""Functions of the losses: the network follows their gradient."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torchjd.scalarization import STCH
from toy import (
    Batch,
    Problem,
    Toy,
    assert_agrees,
    assert_same_bits,
    gradient_of,
    many_examples,
    problem,
    problems,
    step,
)

from mtlbench.errors import UserError

EPOCHS, STEPS = 4, 2


def losses_with_a_label(network: Toy, batch: Batch) -> dict[int, Tensor]:
    losses = network.task_losses(batch)
    return {k: losses[k] for k in range(len(losses)) if batch.present[:, k].any()}


def nothing(network: Toy) -> Tensor:
    return 0 * network.trunk.weight.sum()


@many_examples
@given(problems())
def test_log_agrees_with_its_oracle(case: Problem) -> None:
    network = case.network()
    strategy = case.strategy("log", network)
    for batch in case.batches:
        losses = losses_with_a_label(network, batch).values()
        objective = sum((loss.log() for loss in losses), start=nothing(network))
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))


@many_examples
@given(problems(steps=1), st.integers(-3, 3))
def test_log_does_not_ask_for_the_unit_of_a_loss(case: Problem, exponent: int) -> None:
    (batch,) = case.batches
    network = case.network()
    expected = step(case.strategy("log", network), network, batch)
    network.scales = [scale * 10.0**exponent for scale in network.scales]
    assert_agrees(step(case.strategy("log", network), network, batch), expected)


@many_examples
@given(problems(), st.lists(st.floats(0.1, 10), min_size=4, max_size=4))
def test_tch_agrees_with_its_oracle(case: Problem, preferences: list[float]) -> None:
    network = case.network()
    by_task = dict(zip(case.tasks, preferences, strict=False))
    strategy = case.strategy("tch", network, tch__preferences=by_task)
    for batch in case.batches:
        losses = losses_with_a_label(network, batch)
        objective = max(
            (preferences[k] * loss for k, loss in losses.items()),
            key=Tensor.item,
            default=nothing(network),
        )
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))


def test_tasks_that_are_worst_together_share_the_weight() -> None:
    case = problem(tasks=4)
    stage = case.strategy("tch", case.network(), tch__preferences="t2:2").task
    losses = torch.tensor([4.0, 9.0, 2.0, 1.0], dtype=torch.float64)
    weights = stage.weights(losses, torch.tensor([True, False, True, True]))
    assert weights.tolist() == [0.5, 0, 1, 0]


@many_examples
@given(
    problems(steps=EPOCHS * STEPS),
    st.floats(0.2, 5),
    st.integers(1, 3),
    st.lists(st.floats(0.1, 10), min_size=4, max_size=4),
)
def test_stch_agrees_with_its_oracle(
    case: Problem, mu: float, warm_up: int, preferences: list[float]
) -> None:
    tasks = len(case.kinds)
    network = case.network()
    strategy = case.strategy(
        "stch",
        network,
        stch__mu=mu,
        stch__warm_up=warm_up,
        stch__preferences=dict(zip(case.tasks, preferences, strict=False)),
    )
    references: dict[int, float] = {}
    for epoch in range(1, EPOCHS + 1):
        totals, counts = np.zeros(tasks), np.zeros(tasks)
        for batch in case.batches[(epoch - 1) * STEPS : epoch * STEPS]:
            losses = losses_with_a_label(network, batch)
            objective = nothing(network)
            if losses:
                x = [
                    (preferences[k] * loss / references.get(k, loss.item())).log()
                    for k, loss in losses.items()
                ]
                objective = len(x) * mu * (torch.stack(x) / mu).exp().sum().log()
            assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
            for k, loss in losses.items():
                count = batch.present[:, k].sum().item()
                totals[k] += count * loss.item()
                counts[k] += count
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter *= 0.9
        strategy.end_epoch()
        if epoch >= warm_up:
            for k in range(tasks):
                if counts[k]:
                    references.setdefault(k, totals[k] / counts[k])


def smooth(references: list[float], **parameters: object) -> torch.nn.Module:
    """The stage after a warm-up of one epoch with these mean losses."""
    case = problem(tasks=len(references))
    stage = case.strategy("stch", case.network(), stch__warm_up=1, **parameters).task
    stage.end_epoch(torch.tensor(references, dtype=torch.float64), {})
    return stage


@pytest.mark.parametrize("mu", [0.01, 0.1, 1.0])
def test_stch_is_that_of_torchjd_on_logarithms_times_the_number_of_tasks(mu: float) -> None:
    references = torch.tensor([0.5, 2.0, 30.0], dtype=torch.float64)
    losses = torch.tensor([0.4, 1.9, 11.0], dtype=torch.float64, requires_grad=True)
    theirs = STCH(mu, weights=torch.ones(3, dtype=torch.float64))
    (expected,) = torch.autograd.grad(3 * theirs((losses / references).log()), losses)
    stage = smooth(references.tolist(), stch__mu=mu)
    assert_agrees(stage.weights(losses.detach(), torch.tensor([True] * 3)), expected)


@many_examples
@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=3, unique=True))
def test_the_bound_of_stch_on_the_maximum_is_tight_for_a_small_mu(losses: list[float]) -> None:
    """max x ≤ μ log Σ exp(x / μ) ≤ max x + μ log n: the worst task takes all the weight."""
    *_, second, worst = sorted(losses)
    mu = math.log(worst / second) / 40
    assume(mu > 1e-9)  # else the two are one number
    weights = smooth([1.0, 1.0, 1.0], stch__mu=mu).weights(
        torch.tensor(losses, dtype=torch.float64), torch.tensor([True] * 3)
    )
    expected = [3 / worst if loss == worst else 0 for loss in losses]
    assert_agrees(weights, torch.tensor(expected, dtype=torch.float64))


def test_a_task_without_preference_is_left_out_by_stch() -> None:
    losses = torch.tensor([0.5, 3.0, 2.0], dtype=torch.float64)
    weights = smooth([1.0, 2.0, 4.0], stch__preferences="t1:0").weights(
        losses, torch.tensor([True, True, True])
    )
    expected = smooth([1.0, 4.0]).weights(losses[[0, 2]], torch.tensor([True, True]))
    assert_agrees(weights[[0, 2]], expected)
    assert weights[1] == 0


@pytest.mark.parametrize("name", ["log", "stch"])
def test_a_loss_of_zero_has_no_weight_and_harms_no_other(name: str) -> None:
    case = problem(tasks=2)
    stage = case.strategy(name, case.network()).task
    losses = torch.tensor([0.0, 4.0], dtype=torch.float64)
    assert stage.weights(losses, torch.tensor([True, True])).tolist() == [0, 0.25]


@pytest.mark.parametrize("name", ["log", "tch", "stch"])
def test_without_a_label_there_is_no_weight(name: str) -> None:
    case = problem(tasks=2)
    stage = case.strategy(name, case.network()).task
    weights = stage.weights(torch.zeros(2, dtype=torch.float64), torch.tensor([False, False]))
    assert weights.tolist() == [0, 0]


def test_the_epochs_and_references_of_stch_survive_saving() -> None:
    present = torch.tensor([True, True])
    losses = torch.tensor([0.5, 3.0], dtype=torch.float64)
    case = problem(tasks=2)
    stage, other = (case.strategy("stch", case.network(), stch__warm_up=2).task for _ in range(2))
    stage.end_epoch(7 * losses, {})
    other.load_state_dict(stage.state_dict())
    other.end_epoch(losses * torch.tensor([1, 2]), {})
    # L / r is 1 and ½, of which the shares are ⅔ and ⅓.
    expected = torch.tensor([2 * 2 / 3 / 0.5, 2 * 1 / 3 / 3.0], dtype=torch.float64)
    assert_agrees(other.weights(losses, present), expected)
    again = case.strategy("stch", case.network()).task
    again.load_state_dict(other.state_dict())
    assert_same_bits(again.weights(losses, present), other.weights(losses, present))


@pytest.mark.parametrize(
    ("name", "parameter", "value", "message"),
    [
        ("stch", "mu", 0, "mu must be above 0, but is 0.0"),
        ("stch", "warm_up", 0, "warm_up must be at least 1, but is 0"),
        ("stch", "preferences", "t0:-1", "preference of task 't0' must be at least 0, but is -1"),
        ("tch", "preferences", "t9:1", "preference names the unknown task 't9'"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    name: str, parameter: str, value: object, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy(name, case.network(), **{f"{name}__{parameter}": value})
