"""Weights by held-out gradients, against one backward pass for each instance."""

import pytest
import torch
from torch import Tensor
from toy import Batch, Toy, assert_agrees, gradient, held_losses, problem

from mtlbench.errors import UserError
from mtlbench.strategies import Strategy


def flat_gradient(loss: Tensor, network: Toy) -> Tensor:
    parameters = list(network.parameters())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def products(network: Toy, batch: Batch, directions: list[Tensor]) -> list[list[float]]:
    """max(0, ⟨∇ℓ_ik, d_k⟩) of each task and present instance, by autograd; 0 of absent ones."""
    return [
        [
            max(0.0, float(flat_gradient(loss, network) @ direction)) if here else 0.0
            for loss, here in zip(vector, batch.present[:, k], strict=True)
        ]
        for k, (vector, direction) in enumerate(zip(network.losses(batch), directions, strict=True))
    ]


def weighted(network: Toy, batch: Batch, by_instance: list[list[float]]) -> Tensor:
    """Σ w ∇ℓ over tasks and instances."""
    total = sum(
        w * loss
        for vector, weights in zip(network.losses(batch), by_instance, strict=True)
        for loss, w in zip(vector, weights, strict=True)
    )
    return flat_gradient(total, network)


def step(strategy: Strategy, network: Toy, batch: Batch, held: Batch) -> Tensor:
    network.zero_grad()
    strategy.backward(
        network.losses(batch), batch.index, batch.present, held_out=held_losses(network, held)
    )
    return gradient(network)


def test_l2rw_agrees_with_its_oracle() -> None:
    case = problem(steps=12)
    network = case.network()
    strategy = case.strategy("l2rw", network)
    case.batches[5].present[:, 1] = False
    cut = 0
    for batch, held in zip(case.batches[::2], case.batches[1::2], strict=True):
        directions = [flat_gradient(loss, network) for loss in network.task_losses(held)]
        u = products(network, batch, directions)
        weights = []
        for k, column in enumerate(u):
            count = int(batch.present[:, k].sum())
            if not held.present[:, k].any():  # of which nothing is known
                weights.append([float(here) / max(count, 1) for here in batch.present[:, k]])
            else:
                weights.append([each / (sum(column) or 1) for each in column])
                cut += column.count(0.0) - (len(column) - count)
        assert_agrees(step(strategy, network, batch, held), weighted(network, batch, weights))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.05 * parameter.grad
    assert cut > 5


@pytest.mark.parametrize("primary", [{}, {"t1": 0.0, "t2": 0.0}])
def test_slgrad_agrees_with_its_oracle(primary: dict[str, float]) -> None:
    case = problem(steps=8)
    network = case.network()
    strategy = case.strategy("slgrad", network, slgrad__primary=primary)
    for batch, held in zip(case.batches[::2], case.batches[1::2], strict=True):
        assert held.present.any(0).all()
        importance = [primary.get(task, 1.0) for task in case.tasks]
        losses = zip(importance, network.task_losses(held), strict=True)
        direction = flat_gradient(sum(p * loss for p, loss in losses), network)
        u = products(network, batch, [direction] * 3)
        total = sum(map(sum, u))
        weights = [[3 * each / total for each in column] for column in u]
        assert_agrees(step(strategy, network, batch, held), weighted(network, batch, weights))


def test_of_an_auxiliary_task_the_head_says_nothing() -> None:
    """Its instances are weighed by the shared layer alone, which the main task has, too."""
    case = problem(steps=2)
    network, (batch, held) = case.network(), case.batches
    network.trunk.requires_grad_(False)
    strategy = case.strategy("slgrad", network, slgrad__primary={"t1": 0.0, "t2": 0.0})
    strategy.backward(
        network.losses(batch), batch.index, batch.present, held_out=held_losses(network, held)
    )
    assert network.heads[0].weight.grad.any()
    assert not network.heads[1].weight.grad.any()


def test_l2rw_leaves_out_labels_that_pull_the_wrong_way() -> None:
    case = problem(tasks=1, steps=1, batch=8)
    network, batch = case.network(), case.batches[0]
    batch.present[:] = True
    wrong = Batch(batch.inputs, batch.targets.clone(), batch.index, batch.present)
    wrong.targets[:2] = -20 * batch.targets[:2].sign()
    strategy = case.strategy("l2rw", network)
    for _ in range(100):
        step(strategy, network, wrong, batch)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.05 * parameter.grad
    errors = ((network.losses(batch)[0] - 0.1).detach()).sqrt()
    assert errors.mean() < 1  # the wrong labels are 20 away


def test_the_main_task_must_be_one() -> None:
    case = problem()
    with pytest.raises(UserError, match="primary names the unknown task 't9'"):
        case.strategy("slgrad", case.network(), slgrad__primary={"t9": 1.0})
