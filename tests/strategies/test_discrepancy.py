"""LDC-MTL: network and weights follow one objective."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import Problem, assert_agrees, many_examples, problem, problems, step

from mtlbench.errors import UserError
from mtlbench.strategies.discrepancy import LossDiscrepancyControl

NORMALIZATIONS = ["none", "rescaled", "log"]


def started(tasks: int = 3, **parameters: object) -> LossDiscrepancyControl:
    case = problem(tasks=tasks)
    names = {f"ldc-mtl__{name}": value for name, value in parameters.items()}
    return case.strategy("ldc-mtl", case.network(), **names).task


def by_hand(
    losses: list[float],
    present: list[bool],
    s: list[float],
    first: dict[int, float],
    penalty: float,
    normalization: str,
) -> tuple[list[float], list[float]]:
    """∂F/∂L and ∂F/∂s of each task, by the sums and signs of the equation."""
    here = [k for k, flag in enumerate(present) if flag]
    for k in here:
        first.setdefault(k, losses[k])
    x, slope = {}, {}  # and dx/dL
    for k in here:
        if normalization == "none":
            x[k], slope[k] = losses[k], 1.0
        elif normalization == "rescaled":
            slope[k] = min(first.values()) / first[k]
            x[k] = losses[k] / first[k] * min(first.values())
        else:
            x[k], slope[k] = math.log(losses[k] / first[k]), 1 / losses[k]
    if not here:
        return [0.0] * len(s), [0.0] * len(s)
    share = {k: 1 / (1 + math.exp(-s[k])) for k in here}
    total = sum(share.values())
    of_product = dict.fromkeys(here, 1 / total)  # ∂F/∂(σ_k x_k)
    for a, b in pairwise(here):
        difference = share[a] * x[a] - share[b] * x[b]
        sign = (difference > 0) - (difference < 0)
        of_product[a] += penalty * sign
        of_product[b] -= penalty * sign
    weights, moves = [0.0] * len(s), [0.0] * len(s)
    for k in here:
        weights[k] = of_product[k] * share[k] * slope[k]
        moves[k] = of_product[k] * x[k] * share[k] * (1 - share[k])
    return weights, moves


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@many_examples
@given(problems(steps=5), st.floats(0, 0.5), st.floats(1e-3, 1))
def test_ldc_mtl_agrees_with_its_oracle(
    normalization: str, case: Problem, penalty: float, lr: float
) -> None:
    parameters = {"penalty": penalty, "normalization": normalization, "lr": lr}
    network = case.network()
    strategy = case.strategy(
        "ldc-mtl", network, **{f"ldc-mtl__{name}": value for name, value in parameters.items()}
    )
    s, first = [1.0] * len(case.kinds), {}
    for batch in case.batches:
        losses = [loss.item() for loss in network.task_losses(batch)]
        present = batch.present.any(0).tolist()
        weights, moves = by_hand(losses, present, s, first, penalty, normalization)
        step(strategy, network, batch)
        assert_agrees(strategy.end_epoch().weights, torch.tensor(weights, dtype=torch.float64))
        s = [value - lr * move for value, move in zip(s, moves, strict=True)]
        assert_agrees(strategy.task.logits.detach(), torch.tensor(s, dtype=torch.float64))


def test_it_is_the_loss_of_the_authors_for_celeba() -> None:
    """weights @ losses / weights.sum().detach() + λ Σ |diff(weights · losses)|, by autograd."""
    stage = started(tasks=4, penalty=0.01, normalization="none")
    losses = torch.tensor([0.7, 0.2, 0.9, 0.4], dtype=torch.float64, requires_grad=True)
    free = torch.ones(4, dtype=torch.float64, requires_grad=True)
    sigma = torch.sigmoid(free)
    loss = sigma @ losses / sigma.sum().detach() + 0.01 * (sigma * losses).diff().abs().sum()
    weights, gradient = torch.autograd.grad(loss, [losses, free])
    assert_agrees(stage.weights(losses.detach(), torch.tensor([True] * 4)), weights)
    assert_agrees(stage.logits.detach(), (free - 0.025 * gradient).detach())


def test_the_weighted_losses_come_together() -> None:
    losses, present = torch.tensor([0.3, 0.5, 0.4]).double(), torch.tensor([True] * 3)
    stage = started(penalty=10.0, normalization="none", lr=0.01)
    for _ in range(2000):
        stage.weights(losses, present)
    weighted = torch.sigmoid(stage.logits.detach()) * losses
    assert (weighted.max() - weighted.min()) / weighted.mean() < 0.1


def test_losses_of_zero_are_no_trouble() -> None:
    for normalization in NORMALIZATIONS:
        stage = started(normalization=normalization)
        for losses in ([0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [0.5, 0.0, 1.0]):
            weights = stage.weights(torch.tensor(losses).double(), torch.tensor([True] * 3))
            assert weights.isfinite().all()
            if normalization == "log":
                assert ((weights == 0) == (torch.tensor(losses) == 0)).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"penalty": -0.1}, "penalty must be at least 0, but is -0.1"),
        ({"lr": 0.0}, "lr must be above 0, but is 0.0"),
        ({"normalization": "mean"}, "normalization must be 'none', 'rescaled' or 'log'"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameters: dict[str, object], message: str
) -> None:
    with pytest.raises((ValueError, UserError), match=message):
        LossDiscrepancyControl(**parameters)
