"""MoDo: weights from the gradients of two halves of a batch."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_gradients import (
    Step,
    all_steps,
    assert_absent_task_keeps_its_state,
    assert_goes_on,
    make_step,
    started,
)
from torch import Tensor
from torchjd.aggregation import MoDoWeighting
from toy import Problem, Toy, assert_agrees, assert_same_bits, many_examples, problem, step

from mtlbench import build_strategy
from mtlbench.errors import UserError
from mtlbench.strategies.fewer_passes import FewerPasses
from mtlbench.strategies.modo import DoubleSampling


def complete(case: Problem) -> Problem:
    for batch in case.batches:
        batch.present[:] = True
    return case


def trunk_rows(network: Toy, losses: list[Tensor]) -> Tensor:
    """Each loss's gradient over the trunk [K, P]."""
    trunk = list(network.trunk.parameters())
    return torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk, retain_graph=True)])
            for loss in losses
        ]
    )


def trunk_gradient(network: Toy) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.trunk.parameters()])


@many_examples
@given(all_steps(complete=True), st.floats(1e-3, 1), st.floats(0, 1))
def test_modo_agrees_with_its_oracle(steps: list[Step], gamma: float, rho: float) -> None:
    """The λ of TorchJD for the same J_1 J_2ᵀ: J_1 is one step's and J_2 the next one's."""
    stage = started(DoubleSampling(gamma, rho), len(steps[0].losses))
    theirs = MoDoWeighting(gamma=gamma, rho=rho)
    with torch.no_grad():
        for first, second in pairwise(steps):
            products = first.jacobian @ second.jacobian.T
            ours = stage.weights(products, first.losses, first.present)
            assert_agrees(ours, theirs(products))


def test_a_batch_of_two_has_an_instance_in_each_half() -> None:
    case = complete(problem(tasks=3, steps=6, batch=2))
    network = case.network()
    strategy = case.strategy("modo", network, modo__gamma=0.5)
    lambdas, orders = torch.full((3,), 1 / 3, dtype=torch.float64), set()
    for batch in case.batches:
        losses = network.losses(batch)
        one, other = (trunk_rows(network, [loss[i] for loss in losses]) for i in (0, 1))
        expected = []
        for first, second in ((one, other), (other, one)):
            theirs = MoDoWeighting(gamma=0.5, rho=0.1)
            theirs(torch.zeros(3, 3, dtype=torch.float64))
            theirs._lambda = lambdas
            expected.append(theirs(first @ second.T))
        step(strategy, network, batch)
        found = strategy.end_epoch().weights
        order = int((found - expected[1]).abs().max() < (found - expected[0]).abs().max())
        assert_agrees(found, expected[order])
        assert_agrees(trunk_gradient(network), found @ (one + other) / 2)
        orders.add(order)
        lambdas = expected[order]
    assert orders == {0, 1}


def test_heads_and_parameters_learn_from_the_whole_batch() -> None:
    case = problem(tasks=3, steps=4, batch=6)
    network, plain = case.network(), case.network()
    strategy, equal = case.strategy("modo", network), case.strategy("equal", plain)
    for batch in case.batches:
        step(strategy, network, batch)
        step(equal, plain, batch)
        for mine, theirs in zip(network.heads.parameters(), plain.heads.parameters(), strict=True):
            assert_agrees(mine.grad, theirs.grad)
        weights = strategy.end_epoch().weights
        rows = trunk_rows(network, network.task_losses(batch))
        assert_agrees(trunk_gradient(network), weights @ rows)


def test_a_task_with_a_label_in_one_half_only_keeps_its_weight() -> None:
    case = complete(problem(tasks=3, steps=1, batch=6))
    batch = case.batches[0]
    batch.present[1:, 2] = False
    network = case.network()
    strategy = case.strategy("modo", network)
    step(strategy, network, batch)
    weights = strategy.end_epoch().weights
    assert weights[2].item() == pytest.approx(1 / 3, abs=1e-15)
    assert weights[0] != weights[1]
    assert weights.sum().item() == pytest.approx(1)


def test_halves_of_other_sizes_and_weights_count_by_their_means() -> None:
    """With instances that are all the same, halves make no difference."""
    case = complete(problem(tasks=2, steps=1, batch=5))
    batch = case.batches[0]
    batch.inputs[:], batch.targets[:] = batch.inputs[:1].clone(), batch.targets[:1].clone()
    network = case.network()
    rows = trunk_rows(network, network.task_losses(batch))
    for name in ("modo", "ilt+modo", "log+modo"):
        strategy = case.strategy(name, network)
        scaled = torch.ones(2, dtype=torch.float64)
        if name.startswith("ilt"):
            scaled = torch.tensor(case.constants, dtype=torch.float64)
        elif name.startswith("log"):
            scaled = 1 / torch.stack(network.task_losses(batch)).detach()
        step(strategy, network, batch)
        gradients = scaled[:, None] * rows
        expected = MoDoWeighting(gamma=0.1, rho=0.1)(gradients @ gradients.T)
        assert_agrees(strategy.end_epoch().weights, expected)


def test_draws_depend_on_the_generator_alone() -> None:
    def weights(seed: int) -> Tensor:
        case = problem(tasks=3, steps=4)
        network = case.network()
        strategy = case.strategy("modo", network, generator_seed=seed)
        return torch.stack([step(strategy, network, batch) for batch in case.batches])

    assert_same_bits(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_task_without_a_label_keeps_its_state() -> None:
    assert_absent_task_keeps_its_state(lambda _: started(DoubleSampling(), 3))


def test_a_step_without_any_label_changes_nothing() -> None:
    stage = started(DoubleSampling(), 3)
    nothing = make_step(3, 4, 1, [False] * 3)
    with torch.no_grad():
        weights = stage.weights(nothing.gramian, nothing.losses, nothing.present)
    assert_same_bits(weights, torch.full_like(weights, 1 / 3))


def test_a_restored_state_goes_on_bit_for_bit(tmp_path: Path) -> None:
    steps = [make_step(3, 4, n, [True, n % 2 == 0, n % 3 > 0]) for n in range(8)]
    assert_goes_on(lambda _: started(DoubleSampling(), 3), steps, tmp_path / "state.safetensors")


def test_means_of_a_batch_are_refused() -> None:
    case = complete(problem(tasks=2, steps=1))
    network = case.network()
    strategy = case.strategy("modo", network)
    with pytest.raises(ValueError, match="two losses a task are needed, of two instances"):
        strategy.backward([loss.mean() for loss in network.losses(case.batches[0])])


@pytest.mark.parametrize("option", [{"on": "representation"}, {"every": 2}])
def test_options_of_other_weightings_of_gradients_are_refused(option: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="on and every must stay as they are"):
        FewerPasses(DoubleSampling(), **option)
    with pytest.raises(UserError, match="'modo': on and every must stay as they are"):
        build_strategy(
            "modo",
            tasks={"a": "regression"},
            parameters={f"modo.{name}": value for name, value in option.items()},
        )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gamma": 0.0}, "gamma must be above 0, but is 0.0"),
        ({"rho": -0.1}, "rho must be at least 0, but is -0.1"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameters: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DoubleSampling(**parameters)
