"""MW-Net, against autograd through a step that is taken by a function of its parameters."""

from typing import Any

import pytest
import torch
from torch import Tensor
from toy import (
    Batch,
    Toy,
    assert_agrees,
    gradient,
    gradient_of,
    held_losses,
    instance_losses,
    mean_losses,
    problem,
)

from mtlbench.errors import UserError

ALPHA, LR, DECAY, HIDDEN = 0.3, 0.01, 0.02, 5


class Weigher(torch.nn.Module):
    """The authors' network, as it is drawn up there: one layer, ReLU, another and a sigmoid."""

    def __init__(self, values: list[Tensor]) -> None:
        super().__init__()
        self.one, self.other = torch.nn.Linear(1, HIDDEN), torch.nn.Linear(HIDDEN, 1)
        self.double()
        parameters = (self.one.weight, self.one.bias, self.other.weight, self.other.bias)
        with torch.no_grad():
            for parameter, value in zip(parameters, values, strict=True):
                parameter.copy_(value.view(parameter.shape))

    def forward(self, losses: Tensor) -> Tensor:
        return torch.sigmoid(self.other(torch.relu(self.one(losses[:, None]))))[:, 0]


def weighed(losses: list[Tensor], present: Tensor, weighers: list[Weigher]) -> Tensor:
    """Σ_k 1/n_k Σ_i V_k(ℓ_ik) ℓ_ik; no gradient goes through what the weighers see."""
    columns = zip(losses, present.unbind(1), weighers, strict=True)
    return sum(
        (weigher(loss.detach()) * loss)[here].sum() / max(int(here.sum()), 1)
        for loss, here, weigher in columns
    )


def meta_objective(network: Toy, weighers: list[Weigher], batch: Batch, held: Batch) -> Tensor:
    """The held-out loss after a step of plain gradient descent, differentiable in the weighers."""
    theta = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
    total = weighed(instance_losses(network, theta, batch), batch.present, weighers)
    steps = torch.autograd.grad(total, list(theta.values()), create_graph=True)
    after = {name: p - ALPHA * s for (name, p), s in zip(theta.items(), steps, strict=True)}
    return sum(mean_losses(network, after, held))


def test_mw_net_agrees_with_its_oracle() -> None:
    case = problem(steps=12)
    network = case.network()
    case.batches[3].present[:, 2] = False  # of a held-out batch
    given = {"lr": LR, "virtual_lr": ALPHA, "weight_decay": DECAY, "hidden": HIDDEN}
    strategy = case.strategy("mw-net", network, **{f"mw-net__{k}": v for k, v in given.items()})
    begun = [p.detach().clone() for p in strategy.instance.parameters()]
    weighers = [Weigher([value[k] for value in begun]) for k in range(3)]
    everything = [p for weigher in weighers for p in weigher.parameters()]
    optimizer = torch.optim.Adam(everything, lr=LR, weight_decay=DECAY)
    for batch, held in zip(case.batches[::2], case.batches[1::2], strict=True):
        assert batch.present.any(0).all()
        slopes = torch.autograd.grad(meta_objective(network, weighers, batch, held), everything)
        for parameter, slope in zip(everything, slopes, strict=True):
            parameter.grad = slope
        optimizer.step()
        expected = gradient_of(weighed(network.losses(batch), batch.present, weighers), network)

        network.zero_grad()
        strategy.backward(
            network.losses(batch), batch.index, batch.present, held_out=held_losses(network, held)
        )
        assert_agrees(gradient(network), expected)
        for number, parameter in enumerate(strategy.instance.parameters()):
            theirs = [[*weigher.parameters()][number].flatten() for weigher in weighers]
            assert_agrees(parameter.detach(), torch.stack(theirs).detach())
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.05 * parameter.grad


def test_a_task_without_a_label_keeps_its_weighing() -> None:
    case = problem(steps=2)
    network, (batch, held) = case.network(), case.batches
    batch.present[:] = True
    strategy = case.strategy("mw-net", network)
    for _ in range(2):  # the second step has momentum of the first
        before = [p.detach().clone() for p in strategy.instance.parameters()]
        strategy.backward(
            network.losses(batch), batch.index, batch.present, held_out=held_losses(network, held)
        )
        batch.present[:, 1] = False
    for parameter, value in zip(strategy.instance.parameters(), before, strict=True):
        assert torch.equal(parameter[1], value[1])
        assert not torch.equal(parameter[0], value[0])


def test_large_losses_weigh_less_where_they_are_wrong() -> None:
    case = problem(tasks=1, steps=1, batch=8)
    network, batch = case.network(), case.batches[0]
    batch.present[:] = True
    wrong = Batch(batch.inputs, batch.targets.clone(), batch.index, batch.present)
    wrong.targets[:2] = -4 * batch.targets[:2].sign()
    given = {"mw-net__lr": 0.02, "mw-net__virtual_lr": 0.01}
    strategy = case.strategy("mw-net", network, **given)
    for _ in range(100):
        network.zero_grad()
        strategy.backward(network.losses(wrong), wrong.index, held_out=held_losses(network, batch))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.05 * parameter.grad
    losses = network.losses(wrong)[0].detach()[:, None]
    weights = strategy.instance.weight(losses)[:, 0]
    assert weights[:2].max() < 0.5 * weights[2:].min()


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("lr", 0.0, "lr must be above 0"),
        ("virtual_lr", -1.0, "virtual_lr must be above 0"),
        ("hidden", 0, "hidden must be at least 1"),
        ("weight_decay", -0.1, "weight_decay must be at least 0"),
    ],
)
def test_parameters_out_of_their_range_are_refused(
    parameter: str, value: Any, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy("mw-net", case.network(), **{f"mw-net__{parameter}": value})
