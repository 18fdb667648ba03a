"""The logarithm of the losses in front of a gradient weighting: `log+mgda`."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchjd.aggregation import MGDA, UPGrad
from torchjd.autojac import jac_to_grad, mtl_backward
from toy import Problem, Toy, assert_agrees, gradient, gradient_of, many_examples, problem, step

from mtlbench import build_strategy
from mtlbench.strategies.base import GRADIENT, strategies
from mtlbench.strategies.compose import stage_of

LOOK_AT_LOSSES = ("gradnorm", "moco")
WEIGHTINGS = [
    entry.name
    for entry in strategies.entries()
    if stage_of(entry) == GRADIENT
    and entry.cls.least_loss is None
    and not entry.cls.recomputes
    and entry.name not in LOOK_AT_LOSSES
]
FORMS: list[dict[str, Any]] = [{}, {"mgda.on": "representation"}, {"mgda.every": 2}]


def complete(case: Problem) -> Problem:
    for batch in case.batches:
        batch.present[:] = True
    return case


def with_losses(case: Problem, factors: list[float]) -> Problem:
    """The same problem in other units of the losses."""
    scales = [scale * factor for scale, factor in zip(case.scales, factors, strict=True)]
    return Problem(case.kinds, scales, case.seed, case.batches)


def trunk(network: Toy) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.trunk.parameters()])


@pytest.mark.parametrize("name", ["mgda", "upgrad"])
def test_gradients_are_those_of_the_logarithms_in_torchjd(name: str) -> None:
    """For heads, too; TorchJD is handed the logarithms by itself."""
    aggregator: Any = {"mgda": MGDA(epsilon=1e-12, max_iters=10_000), "upgrad": UPGrad()}[name]
    case = complete(problem(tasks=3, steps=3))
    network, theirs = case.network(), case.network()
    strategy = case.strategy(f"log+{name}", network)
    for batch in case.batches:
        step(strategy, network, batch)
        theirs.zero_grad()
        features = theirs.trunk(batch.inputs).tanh()
        losses = [
            (s * (0.1 + (head(features)[:, 0] - batch.targets[:, k]).square())).mean().log()
            for k, (s, head) in enumerate(zip(theirs.scales, theirs.heads, strict=True))
        ]
        mtl_backward(losses, features=features)
        jac_to_grad(list(theirs.trunk.parameters()), aggregator)
        # Frank-Wolfe comes near the minimum.
        torch.testing.assert_close(gradient(network), gradient(theirs), rtol=1e-4, atol=1e-6)


def test_behind_an_instance_stage_it_takes_the_logarithm_of_the_weighted_mean() -> None:
    case = problem(tasks=2, steps=1)
    network, batch = case.network(), case.batches[0]
    batch.present[:] = True
    step(case.strategy("trim+log+mgda", network, trim__share=0.5, trim__warmup=0), network, batch)
    heads = gradient(network)[len(trunk(network)) :]
    easiest = [loss.sort().values[:3].mean() for loss in network.losses(batch)]
    assert_agrees(
        heads, gradient_of(sum(loss.log() for loss in easiest), network)[len(trunk(network)) :]
    )


@pytest.mark.parametrize("name", WEIGHTINGS)
@many_examples
@given(st.lists(st.sampled_from([0.125, 1.0, 64.0]), min_size=3, max_size=3))
def test_the_unit_of_a_loss_makes_no_difference(name: str, factors: list[float]) -> None:
    case = problem(tasks=3, steps=2)
    one, other = case.network(), with_losses(case, factors).network()
    plain, scaled = case.strategy(f"log+{name}", one), case.strategy(f"log+{name}", other)
    for batch in case.batches:
        torch.testing.assert_close(
            step(scaled, other, batch), step(plain, one, batch), rtol=1e-6, atol=1e-8
        )


def test_the_weights_of_an_epoch_are_those_of_the_logarithms() -> None:
    case = complete(problem(tasks=3, steps=1))
    network = case.network()
    strategy = case.strategy("log+mgda", network)
    step(strategy, network, case.batches[0])
    summary = strategy.end_epoch()
    assert summary.weights.sum().item() == pytest.approx(1)
    expected = torch.stack(network.task_losses(case.batches[0])).detach()
    assert_agrees(summary.losses, expected)


@pytest.mark.parametrize("parameters", FORMS, ids=str)
def test_with_one_task_it_is_the_sum_of_logarithms(parameters: dict[str, Any]) -> None:
    case = problem(tasks=1, steps=3)
    one, other = case.network(), case.network()
    plain = case.strategy("log", one)
    weighed = build_strategy(
        "log+mgda",
        tasks=case.tasks,
        model=other,
        representation=other.trunk,
        dtype=torch.float64,
        parameters=parameters,
    )
    for batch in case.batches:
        assert_agrees(step(weighed, other, batch), step(plain, one, batch))


def test_a_loss_of_zero_has_no_gradient_and_a_negative_one_is_refused() -> None:
    weight = nn.Parameter(torch.ones(4))
    strategy = build_strategy(
        "log+pcgrad",
        tasks={"a": "regression", "b": "regression"},
        model=nn.ParameterList([weight]),
    )
    loss = 1 * weight
    strategy.backward({"a": 2 * loss, "b": loss - 1})
    assert weight.grad.tolist() == [0.25] * 4  # ∇ log of a mean of 2
    loss = 1 * weight
    with pytest.raises(ValueError, match=r"task 'b' has a loss of -0\.5, and .* of at least 0"):
        strategy.backward({"a": loss, "b": loss - 1.5})
