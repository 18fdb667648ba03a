"""Auto-Lambda, against autograd through a step that is taken by a function of the weights."""

import pytest
import torch
from torch import Tensor
from toy import (
    Batch,
    Problem,
    Toy,
    assert_agrees,
    gradient,
    gradient_of,
    held_losses,
    mean_losses,
    problem,
)

from mtlbench.errors import UserError

ALPHA, LR, INITIAL = 0.3, 0.01, 0.1


def slope(
    network: Toy, lambdas: Tensor, batch: Batch, held: Batch, importance: list[float]
) -> Tensor:
    """∂ Σ_j p_j H_j(θ − α Σ_k λ_k ∇L_k(θ)) / ∂λ, by autograd."""
    lambdas = lambdas.clone().requires_grad_()
    theta = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
    total = sum(w * loss for w, loss in zip(lambdas, mean_losses(network, theta, batch)))  # noqa: B905
    steps = torch.autograd.grad(total, list(theta.values()), create_graph=True)
    after = {name: p - ALPHA * s for (name, p), s in zip(theta.items(), steps, strict=True)}
    held_losses = mean_losses(network, after, held)
    objective = sum(p * loss for p, loss in zip(importance, held_losses, strict=True))
    (found,) = torch.autograd.grad(objective, lambdas)
    return found


def build(case: Problem, network: Toy, **parameters: object):
    given = {"lr": LR, "virtual_lr": ALPHA, "initial": INITIAL} | parameters
    return case.strategy(
        "auto-lambda", network, **{f"auto-lambda__{name}": v for name, v in given.items()}
    )


@pytest.mark.parametrize("primary", [{}, {"t1": 0.0, "t2": 2.5}])
def test_auto_lambda_agrees_with_its_oracle(primary: dict[str, float]) -> None:
    case = problem(steps=12)
    network = case.network()
    strategy = build(case, network, primary=primary)
    case.batches[4].present[:, 1] = False
    importance = [primary.get(task, 1.0) for task in case.tasks]
    lambdas = torch.full((3,), INITIAL, dtype=torch.float64)
    optimizer = torch.optim.Adam([lambdas], lr=LR)
    for batch, held in zip(case.batches[::2], case.batches[1::2], strict=True):
        before = lambdas.clone()
        lambdas.grad = slope(network, lambdas, batch, held, importance)
        optimizer.step()
        lambdas = torch.where(batch.present.any(0), lambdas, before)
        optimizer.param_groups[0]["params"] = [lambdas]
        optimizer.state = {lambdas: next(iter(optimizer.state.values()))}

        network.zero_grad()
        strategy.backward(
            network.losses(batch), batch.index, batch.present, held_out=held_losses(network, held)
        )
        assert_agrees(strategy.task.lambdas.detach(), lambdas)
        objective = sum(w * loss for w, loss in zip(lambdas, network.task_losses(batch)))  # noqa: B905
        assert_agrees(gradient(network), gradient_of(objective, network))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.05 * parameter.grad
    assert (lambdas - INITIAL).abs().max() > 2 * LR


def test_the_slope_is_what_the_authors_two_points_approximate() -> None:
    """In float64 central differences err by ε² times the third derivative: here below 1e-5."""
    case = problem(steps=2)
    network, (batch, held) = case.network(), case.batches
    batch.present[:], held.present[:] = True, True
    strategy = build(case, network)
    seen: list[Tensor] = []
    kept = strategy.task.optimizer.step
    strategy.task.optimizer.step = lambda: (seen.append(strategy.task.lambdas.grad), kept())
    strategy.backward(
        network.losses(batch), batch.index, batch.present, held_out=held_losses(network, held)
    )
    parameters = list(network.parameters())
    theta = [p.detach().clone() for p in parameters]

    def move(values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(parameters, values, strict=True):
                parameter.copy_(value)

    objective = sum(INITIAL * loss for loss in network.task_losses(batch))
    step = torch.autograd.grad(objective, parameters)
    move([p - ALPHA * s for p, s in zip(theta, step, strict=True)])
    direction = torch.autograd.grad(sum(network.task_losses(held)), parameters)
    eps = 0.01 / torch.cat([d.flatten() for d in direction]).norm()
    ends = []
    for sign in (1, -1):
        move([p + sign * eps * d for p, d in zip(theta, direction, strict=True)])
        ends.append(torch.stack(network.task_losses(batch)).detach())
    expected = -ALPHA * (ends[0] - ends[1]) / (2 * eps)
    torch.testing.assert_close(seen[0], expected, rtol=1e-3, atol=1e-5)


def test_a_task_whose_steps_spoil_held_out_losses_loses_weight() -> None:
    case = problem(tasks=2, steps=1)
    network, batch = case.network(), case.batches[0]
    batch.present[:] = True
    wrong = Batch(batch.inputs, batch.targets.clone(), batch.index, batch.present)
    wrong.targets[:, 1] *= -3  # of one task all training labels are wrong
    strategy = build(case, network)
    for _ in range(200):
        network.zero_grad()
        strategy.backward(network.losses(wrong), wrong.index, held_out=held_losses(network, batch))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.02 * parameter.grad
    right, spoiled = strategy.task.lambdas.tolist()
    assert spoiled < INITIAL
    assert spoiled < right


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("lr", 0.0, "lr must be above 0"),
        ("initial", -1.0, "initial must be above 0"),
        ("virtual_lr", 0.0, "virtual_lr must be above 0"),
        ("primary", {"t9": 1.0}, "primary names the unknown task 't9'"),
        ("primary", {"t0": -1.0}, "primary of task 't0' must be at least 0"),
    ],
)
def test_parameters_out_of_their_range_are_refused(
    parameter: str, value: object, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        build(case, case.network(), **{parameter: value})
