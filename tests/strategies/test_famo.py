"""FAMO, against TorchJD's and against the algorithm with an Adam for each task."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd.scalarization import FAMO
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


@dataclass
class Logit:
    """One task's ξ with an Adam of its own (Kingma & Ba 2015, Algorithm 1)."""

    value: float = 0.0
    first: float = 0.0
    second: float = 0.0
    steps: int = 0

    def move(self, gradient: float, lr: float) -> None:
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        mean = self.first / (1 - 0.9**self.steps)
        self.value -= lr * mean / (math.sqrt(self.second / (1 - 0.999**self.steps)) + 1e-8)


def shares(logits: list[Logit], tasks: list[int]) -> dict[int, float]:
    total = sum(math.exp(logits[k].value) for k in tasks)
    return {k: math.exp(logits[k].value) / total for k in tasks}


@many_examples
@given(problems(steps=6), st.floats(1e-3, 0.5), st.floats(0, 0.1), st.floats(0, 0.05))
def test_famo_agrees_with_its_oracle(case: Problem, lr: float, decay: float, bound: float) -> None:
    network = case.network()
    strategy = case.strategy(
        "famo",
        network,
        famo__lr=lr,
        famo__weight_decay=decay,
        famo__min_losses={"t0": bound * network.scales[0]},
    )
    bounds = [bound * network.scales[0]] + [0.0] * (len(case.kinds) - 1)
    logits = [Logit() for _ in case.kinds]
    last: dict[int, float] = {}
    for batch in case.batches:
        losses = network.task_losses(batch)
        here = [k for k in range(len(losses)) if batch.present[:, k].any()]
        excess = {k: losses[k].item() - bounds[k] + 1e-8 for k in here}
        z = shares(logits, both := [k for k in here if k in last])
        fall = {k: math.log(last[k]) - math.log(excess[k]) for k in both}
        for k in both:
            gradient = sum(
                z[j] * ((j == k) - z[k]) * fall[j] for j in both
            )  # ∂z_j/∂ξ_k = z_j (1[j = k] − z_k)
            logits[k].move(gradient + decay * logits[k].value, lr)
        last = excess

        z = shares(logits, here)
        objective = 0 * losses[0]
        if here:
            c = 1 / sum(z[k] / excess[k] for k in here)
            objective = sum(c * z[k] * torch.log(losses[k] - bounds[k] + 1e-8) for k in here)
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter *= 0.95


def weighting(tasks: int = 3, **parameters: object) -> torch.nn.Module:
    case = problem(tasks=tasks)
    return case.strategy("famo", case.network(), **parameters).task


def everywhere(losses: Tensor) -> Tensor:
    return torch.ones_like(losses, dtype=torch.bool)


@pytest.mark.parametrize("decay", [1e-3, 0.1])
def test_weights_are_those_of_torchjd_where_it_is_shown_the_next_batch(decay: float) -> None:
    theirs = FAMO(3, weight_decay=decay).double()
    stage = weighting(famo__weight_decay=decay)
    chance = torch.Generator().manual_seed(0)
    batches = 5 * torch.rand(30, 3, generator=chance, dtype=torch.float64) + 0.1
    for number, losses in enumerate(batches):
        if number:
            theirs.update(losses)
        leaf = losses.clone().requires_grad_()
        theirs(leaf).backward()
        assert_agrees(stage.weights(losses, everywhere(losses)), leaf.grad)


@many_examples
@given(st.lists(st.integers(50, 99), min_size=3, max_size=3, unique=True))
def test_the_task_whose_loss_falls_fastest_loses_weight_to_the_slowest(percent: list[int]) -> None:
    stage = weighting(famo__weight_decay=0)
    rate = torch.tensor(percent, dtype=torch.float64) / 100
    for number in range(6):
        losses = rate**number
        weights = stage.weights(losses, everywhere(losses))
    assert stage.logits[rate.argmin()] < 0 < stage.logits[rate.argmax()]
    assert weights.sum().item() == pytest.approx(1, rel=1e-10)


def test_an_absent_task_keeps_its_logit_and_leaves_the_others_alone() -> None:
    stage, pair = weighting(), weighting(tasks=2)
    chance = torch.Generator().manual_seed(1)
    batches = torch.rand(12, 3, generator=chance, dtype=torch.float64) + 0.1
    without = torch.tensor([True, False, True])
    for losses in batches[:6]:
        weights = stage.weights(losses * without, without)
        expected = pair.weights(losses[[0, 2]], torch.tensor([True, True]))
        assert_agrees(weights[[0, 2]], expected)
        assert weights[1] == 0
    for losses in batches[6:9]:
        stage.weights(losses, everywhere(losses))
    kept = ("logits", "first_moment", "second_moment", "steps")
    before = {name: getattr(stage, name)[1].clone() for name in kept}
    assert before["steps"] == 2  # the first batch after an absence is compared with none
    for losses in batches[9:]:
        stage.weights(losses * without, without)
    for name, value in before.items():
        assert_same_bits(getattr(stage, name)[1], value)


def test_without_a_label_there_is_no_weight_and_losses_at_their_bound_do_no_harm() -> None:
    stage = weighting(famo__min_losses="t0:1,t1:1")
    losses = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    for _ in range(3):
        assert stage.weights(losses, everywhere(losses)).isfinite().all()
    assert stage.weights(0 * losses, ~everywhere(losses)).tolist() == [0, 0, 0]
    assert stage.logits.isfinite().all()


def test_all_that_it_learned_survives_saving() -> None:
    chance = torch.Generator().manual_seed(2)
    batches = torch.rand(8, 3, generator=chance, dtype=torch.float64) + 0.1
    stage, other = weighting(), weighting()
    for losses in batches[:4]:
        stage.weights(losses, everywhere(losses))
    other.load_state_dict(stage.state_dict())
    for losses in batches[4:]:
        ours = stage.weights(losses, everywhere(losses))
        assert_same_bits(other.weights(losses, everywhere(losses)), ours)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("famo__lr", 0, "lr must be above 0, but is 0.0"),
        ("famo__weight_decay", -1, "weight_decay must be at least 0, but is -1.0"),
        ("famo__min_losses", "t9:1", "min_loss names the unknown task 't9'; tasks: t0, t1, t2"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameter: str, value: object, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy("famo", case.network(), **{parameter: value})
