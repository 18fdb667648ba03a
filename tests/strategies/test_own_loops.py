"""Training loops of one's own: bad batches, scaled gradients, strategies inside modules."""

import copy
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from three_tasks import TASKS, Net, losses_of
from torch import Tensor, nn

from mtlbench import build_strategy
from mtlbench.strategies import base, strategy
from mtlbench.strategies.base import GRADIENT, LossWeighting, strategies
from mtlbench.strategies.compose import stage_of
from mtlbench.strategies.strategy import EpochSummary

NAMES = [entry.name for entry in strategies.entries()]
COMPOSED = [*NAMES, "ilt+pcgrad", "ilt+mtu", "data-parameters+mgda", "log+cagrad"]
OF_GRADIENTS = [entry.name for entry in strategies.entries() if stage_of(entry) == GRADIENT]
FORMS = [
    *((name, {}) for name in COMPOSED),
    ("mgda", {"mgda.on": "representation"}),
    ("cagrad", {"cagrad.every": 2}),
    ("log+mgda", {"mgda.on": "representation"}),
]
BATCH = 8


class Loop:
    """A network and its strategy, trained batch by batch in float64."""

    def __init__(self, name: str, parameters: dict[str, Any] | None = None) -> None:
        self.net = Net()
        self.strategy = build_strategy(
            name,
            tasks=TASKS,
            num_instances=4 * BATCH,
            model=self.net,
            representation=self.net.trunk,
            parameters=parameters or {},
            dtype=torch.float64,
        )
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.05)

    def backward(self, number: int, bad: float | None = None, **options: Any) -> None:
        """Leaves the gradient of a batch; a bad one has such a factor in one loss of task b."""
        chance = torch.Generator().manual_seed(number)
        inputs = torch.randn(BATCH, 5, generator=chance, dtype=torch.float64)
        a = torch.randint(3, (BATCH,), generator=chance)
        b, c = torch.randn(2, BATCH, generator=chance, dtype=torch.float64)
        index = torch.randperm(4 * BATCH, generator=chance)[:BATCH]
        targets = {"a": a, "b": b, "c": c}
        outputs = self.strategy.transform(self.net(inputs), targets, index)
        losses = losses_of(outputs, targets)
        if bad is not None:
            factor = torch.ones(BATCH, dtype=torch.float64)
            factor[3] = bad
            losses["b"] = losses["b"] * factor
        self.optimizer.zero_grad()
        self.strategy.backward(losses, index, **options)

    def gradients(self) -> list[Tensor]:
        return [p.grad.clone() for p in self.net.parameters() if p.grad is not None]

    def train(self, steps: int, **options: Any) -> list[Tensor]:
        """The network's parameters after some steps."""
        for number in range(steps):
            self.backward(number, **options)
            self.optimizer.step()
            if number == 2:
                self.strategy.end_epoch({"a/accuracy": 50.0})
        return [p.detach().clone() for p in self.net.parameters()]


def flat(state: Any) -> list[Any]:
    """The leaves of nested containers, tensors as lists of numbers."""
    if isinstance(state, dict):
        return [leaf for key in state for leaf in (key, *flat(state[key]))]
    if isinstance(state, list | tuple):
        return [leaf for each in state for leaf in flat(each)]
    return state.flatten().tolist() if isinstance(state, Tensor) else [state]


def state_of(strategy: nn.Module) -> list[Any]:
    """All that a strategy remembers, without the number of steps of the epoch."""
    state = copy.deepcopy(dict(strategy.state_dict()))
    state["_extra_state"].pop("steps")
    return [None if x != x else x for x in flat(state)]


# --- bad batches ---


def with_and_without(
    form: tuple[str, dict[str, Any]], spoil: Callable[[Loop], None]
) -> tuple[EpochSummary, EpochSummary]:
    """The epochs of two trainings that end in the same network, one of them with something in the
    middle whose step is skipped."""
    with_it, without = Loop(*form), Loop(*form)
    for number in range(4):
        if number == 2:
            spoil(with_it)
        for loop in (with_it, without):
            loop.backward(number)
            loop.optimizer.step()
    for one, other in zip(with_it.net.parameters(), without.net.parameters(), strict=True):
        assert torch.equal(one, other)
    return with_it.strategy.end_epoch(), without.strategy.end_epoch()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize(("name", "parameters"), FORMS, ids=str)
def test_a_loss_that_is_not_finite_leaves_the_strategy_as_it_was(
    name: str, parameters: dict[str, Any], bad: float
) -> None:
    loop = Loop(name, parameters)
    loop.train(4)
    before = state_of(loop.strategy)
    loop.backward(9, bad)
    assert not all(gradient.isfinite().all() for gradient in loop.gradients())
    assert state_of(loop.strategy) == before


@pytest.mark.parametrize(("name", "parameters"), FORMS, ids=str)
def test_who_skips_a_bad_batch_trains_as_if_it_had_not_been(
    name: str, parameters: dict[str, Any]
) -> None:
    summary, expected = with_and_without(
        (name, parameters), lambda loop: loop.backward(9, torch.nan)
    )
    assert torch.equal(summary.losses, expected.losses)
    assert torch.equal(summary.weights.nan_to_num(), expected.weights.nan_to_num())
    assert (summary.bad_batches, expected.bad_batches) == (1, 0)


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_a_gradient_that_is_not_finite_leaves_a_gradient_weighting_as_it_was(name: str) -> None:
    loop = Loop(name)
    loop.train(4)
    before = state_of(loop.strategy)
    hook = loop.net.trunk[0].weight.register_hook(lambda gradient: gradient / 0)
    loop.backward(9)
    hook.remove()
    assert not loop.net.trunk[0].weight.grad.isfinite().all()
    sums = loop.strategy.get_buffer("sums_of_epoch")
    after = state_of(loop.strategy)
    assert after[len(sums.flatten()) + 1 :] == before[len(sums.flatten()) + 1 :]


@pytest.mark.parametrize("form", [("mgda", {}), ("cagrad", {"cagrad.every": 2})], ids=str)
def test_a_weighing_that_came_to_nothing_is_made_in_the_next_step(
    form: tuple[str, dict[str, Any]],
) -> None:
    def spoil(loop: Loop) -> None:
        hook = loop.net.trunk[0].weight.register_hook(lambda gradient: gradient / 0)
        loop.backward(9)
        hook.remove()

    summary, expected = with_and_without(form, spoil)
    assert torch.equal(summary.weights, expected.weights)
    assert (summary.bad_batches, expected.bad_batches) == (1, 0)


@pytest.mark.parametrize("first", ["a", "b"])
def test_losses_of_two_precisions_keep_their_own(first: str) -> None:
    tasks = dict.fromkeys((first, "ab".replace(first, "")), "regression")
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    strategy = build_strategy("static", tasks=tasks, parameters={"static.weights": {"b": 8.0}})
    half, single = weight[0].half().repeat(4), weight[1].repeat(4)
    strategy.backward({"a": half, "b": single}, scale=2.0**14)
    # 8 · 2¹⁴ is beyond float16, in which the gradient of b never was.
    assert weight.grad.tolist() == [2.0**14, 8 * 2.0**14]


@pytest.mark.parametrize("name", COMPOSED)
def test_where_nobody_looks_a_bad_batch_is_one_without_labels(name: str) -> None:
    """As on a GPU, where looking would be waiting: no number is read from a tensor."""
    loop = Loop(name)
    loop.train(4)
    before = state_of(loop.strategy)
    never = {"readable": lambda flag: False}
    with mock.patch.multiple(strategy, **never), mock.patch.multiple(base, **never):
        loop.backward(9, torch.nan)
    assert not all(gradient.isfinite().all() for gradient in loop.gradients())
    learned = [x for x in state_of(loop.strategy) if not isinstance(x, int) or isinstance(x, bool)]
    kept = [x for x in before if not isinstance(x, int) or isinstance(x, bool)]
    assert learned == kept
    assert loop.strategy.end_epoch().bad_batches == 1


# --- scaled gradients ---


@pytest.mark.parametrize("scale", [2.0**16, 1 / 3, torch.tensor(1024.0)], ids=str)
@pytest.mark.parametrize(("name", "parameters"), FORMS, ids=str)
def test_a_scale_multiplies_the_gradient_and_nothing_else(
    name: str, parameters: dict[str, Any], scale: Any
) -> None:
    plain, scaled = Loop(name, parameters), Loop(name, parameters)
    for number in range(4):
        plain.backward(number)
        scaled.backward(number, scale=scale)
        for one, other in zip(plain.gradients(), scaled.gradients(), strict=True):
            torch.testing.assert_close(other / scale, one, rtol=1e-9, atol=1e-12)
        for parameter in scaled.net.parameters():
            if parameter.grad is not None:
                parameter.grad /= scale
        plain.optimizer.step()
        scaled.optimizer.step()
    ours, theirs = (flat(dict(loop.strategy.state_dict())) for loop in (plain, scaled))
    numbers = [(a, b) for a, b in zip(ours, theirs, strict=True) if isinstance(a, float)]
    for a, b in numbers:
        assert a == pytest.approx(b, rel=1e-7, abs=1e-10, nan_ok=True)


@pytest.mark.parametrize("scale", [0, -1.0, torch.nan, torch.inf, torch.tensor([1.0, 2.0])])
def test_a_scale_that_is_none_is_refused(scale: Any) -> None:
    with pytest.raises(ValueError, match="scale must be a number above 0"):
        Loop("equal").backward(0, scale=scale)


@pytest.mark.parametrize("name", ["equal", "ilt", "mtu", "mgda", "graddrop"])
def test_training_with_a_grad_scaler_is_training_without(name: str) -> None:
    plain, scaled = Loop(name), Loop(name)
    expected = plain.train(3)
    scaler = torch.amp.GradScaler("cpu")
    for number in range(3):
        scaled.backward(number, scale=scaler.scale(torch.ones(())))
        scaler.step(scaled.optimizer)
        scaler.update()
    for one, other in zip(scaled.net.parameters(), expected, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-6, atol=1e-9)


# --- strategies inside modules ---


class Module(nn.Module):
    """A network that holds its strategy, as a module of Lightning does."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.loop = Loop(name)
        self.net, self.strategy = self.loop.net, self.loop.strategy


@pytest.mark.parametrize("name", COMPOSED)
def test_own_parameters_are_learned_once_by_whatever_optimiser_gets_them_too(name: str) -> None:
    alone, held = Module(name), Module(name)
    for module, parameters in ((alone, alone.net.parameters()), (held, held.parameters())):
        optimizer = torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)
        for number in range(4):
            module.loop.backward(number)
            optimizer.step()
    for one, other in zip(alone.strategy.parameters(), held.strategy.parameters(), strict=True):
        assert torch.equal(one, other)


class Learned(LossWeighting):
    def start(self, setting: base.Setting) -> None:
        self.power = nn.Parameter(setting.tensor([1.0] * len(setting.tasks)))
        self.optimizer = torch.optim.SGD([self.power], lr=0.1)

    def objective(self, losses: Tensor, present: Tensor) -> Tensor:
        return (losses * self.power.exp() - self.power).sum()


class LearnedByHand(Learned):
    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        weights = self.power.exp()
        self.power.grad = losses * weights - 1
        self.optimizer.step()
        return weights


@pytest.mark.parametrize("kind", [Learned, LearnedByHand])
def test_a_weighting_of_ones_own_is_learned_once_too(kind: type[Learned]) -> None:
    stage = kind()
    own = strategy.Strategy(base.InstanceStage(), stage, tasks={"x": "regression"})
    weight = nn.Parameter(torch.ones(()))
    everything = torch.optim.SGD([weight, *own.parameters()], lr=0.1)
    own.backward({"x": (weight * torch.arange(1.0, 5.0)).square()})
    # F = L e^p − p with L = 7.5 and p = 1 at first: one step of 0.1 (7.5 e − 1).
    first = 1 - 0.1 * (7.5 * torch.e - 1)
    everything.step()
    assert stage.power.item() == pytest.approx(first, rel=1e-6)
