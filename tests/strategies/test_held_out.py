"""What strategies that look at a held-out batch need, leave alone and refuse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from toy import assert_same_bits

from mtlbench import build_strategy
from mtlbench.errors import UserError
from mtlbench.strategies import GradientWeighting, InstanceStage, Strategy
from mtlbench.strategies.base import strategies
from mtlbench.strategies.fewer_passes import FewerPasses
from mtlbench.strategies.gradients import TaskLosses
from mtlbench.strategies.held_out import inner

NAMES = [entry.name for entry in strategies.entries() if entry.cls.held_out]
TASKS = {"a": "regression", "b": "regression"}

each = pytest.mark.parametrize("name", NAMES)


class Net(nn.Module):
    """A trunk with batch norm, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh())
            self.heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in TASKS})

    def losses(self, seed: int, run: Callable[..., Tensor] | None = None) -> dict[str, Tensor]:
        chance = torch.Generator().manual_seed(seed)
        inputs, targets = torch.randn(6, 3, generator=chance), torch.randn(2, 6, generator=chance)
        seen = self.trunk(inputs) if run is None else run(self.trunk, inputs.requires_grad_())
        heads = zip(self.heads.items(), targets, strict=True)
        return {task: (head(seen)[:, 0] - y).square() for (task, head), y in heads}


def make(name: str, net: nn.Module | None, **options: Any) -> Strategy:
    return build_strategy(name, tasks=TASKS, num_instances=6, model=net, **options)


@each
def test_without_held_out_losses_a_step_is_refused_and_nothing_has_happened(name: str) -> None:
    net = Net()
    strategy = make(name, net)
    with pytest.raises(ValueError, match=r"held_out is needed: .* looks at a batch") as raised:
        strategy.backward(net.losses(0), torch.arange(6))
    assert "\n" not in str(raised.value)
    assert all(p.grad is None for p in net.parameters())
    assert strategy.end_epoch().bad_batches == 0


@each
def test_without_a_model_a_step_is_refused(name: str) -> None:
    net = Net()
    with pytest.raises(ValueError, match="model is needed"):
        make(name, None).backward(net.losses(0), torch.arange(6), held_out=lambda: net.losses(1))


@each
def test_the_network_and_its_statistics_stay_as_a_step_without_left_them(name: str) -> None:
    nets = [Net(), Net()]
    strategy = make(name, nets[0])
    before = {key: value.clone() for key, value in nets[0].named_parameters()}
    strategy.backward(nets[0].losses(0), torch.arange(6), held_out=lambda: nets[0].losses(1))
    nets[1].losses(0)
    for key, parameter in nets[0].named_parameters():
        assert_same_bits(parameter, before[key])
    for one, other in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        assert_same_bits(one, other)


@each
def test_held_out_labels_reach_no_gradient_but_by_weights(name: str) -> None:
    """The gradient is a combination of the training losses' own."""
    net = Net()
    strategy = make(name, net)
    strategy.backward(net.losses(0), torch.arange(6), held_out=lambda: net.losses(1))
    parameters = list(net.parameters())
    rows = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(
                    loss, parameters, retain_graph=True, materialize_grads=True
                )
            ]
        )
        for vector in net.losses(0).values()
        for loss in vector
    ]
    found = torch.cat([p.grad.flatten() for p in parameters])
    solved = torch.linalg.lstsq(torch.stack(rows).T.double(), found.double()[:, None])
    assert torch.dist(torch.stack(rows).T.double() @ solved.solution, found[:, None]) < 1e-5


@each
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda net: {"c": torch.ones(2)}, r"by the names of the tasks .* but gives \('c',\)"),
        (lambda net: [torch.ones(2)] * 2, "by the names of the tasks .* but gives list"),
        (lambda net: {"a": 1.0}, "but gives float for task 'a'"),
        (lambda net: {"a": torch.ones(2, 2)}, r"but gives \[2, 2\] for task 'a'"),
        (lambda net: {"a": torch.ones(2)}, "compute its losses anew, with gradients"),
        (lambda net: {}, "compute its losses anew, with gradients"),
    ],
)
def test_what_is_no_held_out_loss_is_refused(
    name: str, given: Callable[[nn.Module], Any], message: str
) -> None:
    net = Net()
    with pytest.raises(ValueError, match=message):
        make(name, net).backward(net.losses(0), torch.arange(6), held_out=lambda: given(net))
    assert all(p.grad is None for p in net.parameters())


@each
def test_a_reentrant_checkpoint_is_refused_and_one_that_is_not_works(name: str) -> None:
    def run(reentrant: bool) -> Net:
        net = Net()

        def through(module: nn.Module, inputs: Tensor) -> Tensor:
            return checkpoint(module, inputs, use_reentrant=reentrant)

        make(name, net).backward(
            net.losses(0, through), torch.arange(6), held_out=lambda: net.losses(1)
        )
        return net

    with pytest.raises(ValueError, match="make it with use_reentrant=False"):
        run(True)
    plain = Net()
    make(name, plain).backward(plain.losses(0), torch.arange(6), held_out=lambda: plain.losses(1))
    for one, other in zip(run(False).parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@each
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_held_out_batch_that_is_not_finite_teaches_nothing(name: str, bad: float) -> None:
    net = Net()
    strategy = make(name, net)

    def step(factor: float) -> None:
        net.zero_grad()
        strategy.backward(
            net.losses(0),
            torch.arange(6),
            held_out=lambda: {task: factor * loss for task, loss in net.losses(1).items()},
        )

    step(1.0)
    before = {key: value.clone() for key, value in strategy.named_parameters()}
    step(bad)
    assert all(p.grad.isfinite().all() for p in net.parameters())
    for key, value in strategy.named_parameters():
        assert_same_bits(value, before[key])


def test_others_take_held_out_losses_and_never_ask_for_them() -> None:
    net = Net()

    def never() -> dict[str, Tensor]:
        raise AssertionError

    make("equal", net).backward(net.losses(0), held_out=never)


def test_a_weighting_of_gradients_of_ones_own_may_look_and_goes_with_no_cut_graph() -> None:
    class Agreeing(GradientWeighting):
        """Leaves out tasks whose gradient is against the held-out one."""

        held_out = True

        def look(self, losses: TaskLosses) -> None:
            parameters = losses.held_out.parameters
            with losses.held_out.losses() as held:
                after = torch.autograd.grad(sum(held.values()), parameters)
            products = [inner(losses.gradients(k, parameters), after) for k in range(2)]
            self.agree = torch.stack(products) > 0

        def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
            return self.agree.to(losses.dtype)

    net = Net()
    strategy = Strategy(InstanceStage(), Agreeing(), tasks=TASKS, model=net)
    against = {"a": 1.0, "b": -1.0}
    strategy.backward(
        net.losses(0),
        held_out=lambda: {task: 100 * against[task] * x for task, x in net.losses(0).items()},
    )
    assert strategy.end_epoch().weights.tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="every 1: the strategy looks at held-out data"):
        FewerPasses(Agreeing(), every=2)


def test_weights_of_instances_by_held_out_data_go_with_no_cut_graph() -> None:
    for name in NAMES:
        if strategies.get(name).cls.stage == "instance":
            with pytest.raises(UserError, match="on must be 'parameters' and every 1"):
                make(f"{name}+mgda", Net(), parameters={"mgda.on": "representation"})
