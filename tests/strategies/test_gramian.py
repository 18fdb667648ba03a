"""MGDA and PCGrad: TorchJD's own aggregators are the oracle."""

import pytest
import torch
from hypothesis import given
from torch import Tensor
from torchjd.aggregation import MGDA, Aggregator, PCGrad
from toy import Batch, Problem, Toy, assert_agrees, many_examples, problem, problems, step

from mtlbench.errors import UserError


def jacobian(network: Toy, batch: Batch) -> Tensor:
    """The gradients [K, P] of the task losses over the trunk."""
    shared = list(network.trunk.parameters())
    return torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)])
            for loss in network.task_losses(batch)
        ]
    )


def aggregated(aggregator: Aggregator, network: Toy, batch: Batch) -> Tensor:
    """The direction [P] that TorchJD takes with the tasks that have a label."""
    rows = jacobian(network, batch)
    present = batch.present.any(0)
    return aggregator(rows[present]) if present.any() else 0 * rows[0]


def trunk_gradient(network: Toy) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.trunk.parameters()])


@many_examples
@given(problems(steps=2, min_tasks=2, spread=1))
def test_mgda_moves_the_trunk_as_torchjd_does(case: Problem) -> None:
    network = case.network()
    strategy = case.strategy("mgda", network)
    for batch in case.batches:
        expected = aggregated(MGDA(), network, batch)
        step(strategy, network, batch)
        assert_agrees(trunk_gradient(network), expected)


@many_examples
@given(problems(steps=2, min_tasks=2, max_tasks=2))
def test_pcgrad_moves_the_trunk_as_torchjd_does_for_two_tasks_in_any_order(case: Problem) -> None:
    network = case.network()
    strategy = case.strategy("pcgrad", network)
    for batch in case.batches:
        expected = aggregated(PCGrad(), network, batch)
        step(strategy, network, batch)
        assert_agrees(trunk_gradient(network), expected)


@many_examples
@given(problems(steps=3, min_tasks=3))
def test_pcgrad_draws_from_its_generator_what_torchjd_draws_from_the_global_one(
    case: Problem,
) -> None:
    """For three tasks the order of the projections matters: both generators start from 11."""
    network = case.network()
    strategy = case.strategy("pcgrad", network, generator_seed=11)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        for batch in case.batches:
            expected = aggregated(PCGrad(), network, batch)
            step(strategy, network, batch)
            assert_agrees(trunk_gradient(network), expected)


@pytest.mark.parametrize("name", ["mgda", "pcgrad"])
def test_every_head_gets_the_gradient_of_its_own_task_unweighted(name: str) -> None:
    case = problem()
    network = case.network()
    strategy = case.strategy(name, network)
    for batch in case.batches:
        expected = [
            torch.autograd.grad(loss, list(head.parameters()), retain_graph=True)
            for loss, head in zip(network.task_losses(batch), network.heads, strict=True)
        ]
        step(strategy, network, batch)
        for head, grads in zip(network.heads, expected, strict=True):
            for parameter, grad in zip(head.parameters(), grads, strict=True):
                assert_agrees(parameter.grad, grad)


def test_mgda_gives_no_weight_to_a_task_without_a_label() -> None:
    """Its gradient of zero would otherwise be the shortest of all, and get all the weight."""
    case = problem(tasks=2, steps=1)
    network, batch = case.network(), case.batches[0]
    batch.present[:, 0], batch.present[:, 1] = True, False
    step(case.strategy("mgda", network), network, batch)
    expected = jacobian(network, batch)[0]
    assert expected.norm() > 0
    assert_agrees(trunk_gradient(network), expected)


@pytest.mark.parametrize("name", ["mgda", "pcgrad"])
def test_the_global_generator_is_left_alone(name: str) -> None:
    case = problem()
    network = case.network()
    strategy = case.strategy(name, network)
    before = torch.get_rng_state()
    step(strategy, network, case.batches[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("parameter", "value"), [("mgda__epsilon", 0.0), ("mgda__max_iters", 0)])
def test_a_parameter_out_of_its_range_is_refused(parameter: str, value: float) -> None:
    case = problem()
    with pytest.raises(UserError, match=r"strategy 'mgda': .* must be"):
        case.strategy("mgda", case.network(), **{parameter: value})
