"""SAMO: gradients where losses are larger nearby, against the equations of the authors' code."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gramians import stage, weigh
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from toy import (
    Batch,
    Toy,
    assert_agrees,
    assert_same_bits,
    gradient,
    instance_losses,
    mean_losses,
    problem,
)

from mtlbench import build_strategy
from mtlbench.errors import UserError
from mtlbench.strategies import Strategy

TRUNK = ("trunk.weight", "trunk.bias")


def step(strategy: Strategy, network: Toy, batch: Batch) -> Tensor:
    """The gradient [P] that one batch leaves in the network."""
    network.zero_grad()
    strategy.backward(
        network.losses(batch), batch.index, batch.present, closure=lambda: network.losses(batch)
    )
    return gradient(network)


Gradients = list[dict[str, Tensor]]


def expected(
    losses: Callable[[dict[str, Tensor]], list[Tensor]],
    network: Toy,
    draws: torch.Generator,
    *,
    rho: float,
    alpha: float,
    mu: float,
) -> Gradients:
    """The gradients of each task, by the name of a parameter, where SAMO takes them."""
    at = dict(network.named_parameters())
    found: Gradients = []
    whole = gradients(sum(losses(at)), at)
    seeds = torch.randint(2**62, (len(network.heads),), generator=draws).tolist()
    for k, seed in enumerate(seeds):
        chance = torch.Generator().manual_seed(seed)
        z = {n: torch.randn(at[n].shape, generator=chance, dtype=torch.float64) for n in TRUNK}
        above, below = (
            losses({**at, **{n: at[n] + way * z[n] for n in TRUNK}})[k] for way in (mu, -mu)
        )
        local = {n: (above - below) / (2 * mu) * z[n] for n in TRUNK}
        joint = {}
        for n in TRUNK:
            own = local[n] / local[n].norm() if local[n].any() else local[n]
            joint[n] = alpha * whole[n] + (1 - alpha) * whole[n].norm() * own
        head = {n: whole[n] for n in at if n.startswith(f"heads.{k}.")}
        moved = dict(at)
        for part in (joint, head):
            length = torch.cat([each.flatten() for each in part.values()]).norm()
            for n, each in part.items():
                moved[n] = (at[n] + rho * each / length) if length else at[n]
        found.append(gradients(losses(moved)[k], at))
    return found


def gradients(loss: Tensor, at: dict[str, Tensor]) -> dict[str, Tensor]:
    given = torch.autograd.grad(loss, list(at.values()), materialize_grads=True, retain_graph=True)
    return dict(zip(at, given, strict=True))


def flat(some: dict[str, Tensor]) -> Tensor:
    return torch.cat([each.flatten() for each in some.values()])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_samo_agrees_with_its_oracle(alpha: float) -> None:
    """With labels that are missing, and a task without any."""
    case = problem(steps=3)
    case.batches[1].present[:, 2] = False
    network, draws = case.network(), torch.Generator().manual_seed(5)
    options = {"rho": 0.3, "alpha": alpha, "mu": 0.05}
    strategy = case.strategy(
        "samo", network, 5, **{f"samo__{name}": value for name, value in options.items()}
    )
    for batch in case.batches:
        theirs = expected(
            lambda at, b=batch: mean_losses(network, at, b), network, draws, **options
        )
        assert_agrees(step(strategy, network, batch), sum(map(flat, theirs)))


@pytest.mark.parametrize("name", ["cagrad", "mgda"])
def test_in_front_of_a_weighting_of_gradients_it_has_that_weigh_those_elsewhere(name: str) -> None:
    case = problem(steps=1)
    (batch,) = case.batches
    batch.present[:] = True
    network, draws = case.network(), torch.Generator().manual_seed(0)
    found = step(case.strategy(f"samo+{name}", network, samo__rho=0.3), network, batch)
    theirs = expected(
        lambda at: mean_losses(network, at, batch), network, draws, rho=0.3, alpha=0.5, mu=0.01
    )
    rows = torch.stack([torch.cat([each[n].flatten() for n in TRUNK]) for each in theirs])
    weights = torch.from_numpy(weigh(stage(name, 3), rows.numpy()))
    trunk = rows.shape[1]
    torch.testing.assert_close(found[:trunk], weights @ rows, rtol=1e-7, atol=1e-9)
    assert_agrees(found[trunk:], sum(map(flat, theirs))[trunk:])


def test_behind_an_instance_stage_it_takes_the_weighted_losses() -> None:
    case = problem(steps=1)
    (batch,) = case.batches
    batch.present[:] = True
    network, draws = case.network(), torch.Generator().manual_seed(0)
    three = [loss.sort().indices[:3] for loss in network.losses(batch)]
    options = {"trim__share": 0.5, "trim__warmup": 0, "samo__rho": 0.3}
    found = step(case.strategy("trim+samo", network, **options), network, batch)

    def easiest(at: dict[str, Tensor]) -> list[Tensor]:
        losses = instance_losses(network, at, batch)
        return [loss[some].mean() for loss, some in zip(losses, three, strict=True)]

    theirs = expected(easiest, network, draws, rho=0.3, alpha=0.5, mu=0.01)
    assert_agrees(found, sum(map(flat, theirs)))


def test_on_two_parabolas_it_is_as_by_hand() -> None:
    """L = ½ a (θ + h)², of which the shared θ goes up by ρ, and so does each task's own h."""
    net = nn.ParameterDict(
        {name: torch.tensor([1.0], dtype=torch.float64) for name in ("theta", "h0", "h1")}
    )

    def losses() -> list[Tensor]:
        return [a / 2 * (net["theta"] + net[h]).square() for a, h in ((2.0, "h0"), (3.0, "h1"))]

    strategy = build_strategy(
        "samo",
        tasks={"a": "regression", "b": "regression"},
        model=net,
        dtype=torch.float64,
        parameters={"samo.rho": 0.1, "samo.alpha": 1.0},
    )
    strategy.backward(losses(), closure=losses)
    assert net["h0"].grad.item() == pytest.approx(2 * 2.2)
    assert net["h1"].grad.item() == pytest.approx(3 * 2.2)
    assert net["theta"].grad.item() == pytest.approx(5 * 2.2)


# --- what a step leaves alone ---


class Net(nn.Module):
    """A trunk with batch norm and dropout, and two heads."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(dropout)
            self.trunk = nn.Sequential(*layers)
            self.heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in ("a", "b")})
        chance = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(6, 3, generator=chance)

    def losses(self, run: Callable[[nn.Module, Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        seen = self.trunk(self.inputs) if run is None else run(self.trunk, self.inputs)
        return {task: (head(seen)[:, 0] - 1).square() for task, head in self.heads.items()}


def make(net: nn.Module | None, name: str = "samo", **options: Any) -> Strategy:
    tasks = {"a": "regression", "b": "regression"}
    return build_strategy(name, tasks=tasks, num_instances=6, model=net, **options)


def test_the_network_its_statistics_and_the_draws_of_others_stay_as_one_pass_left_them() -> None:
    net, other = Net(), Net()
    before = {key: value.clone() for key, value in net.named_parameters()}
    torch.manual_seed(3)
    make(net).backward(net.losses(), closure=net.losses)
    after = torch.rand(1)
    torch.manual_seed(3)
    other.losses()
    assert_same_bits(after, torch.rand(1))
    for key, parameter in net.named_parameters():
        assert_same_bits(parameter, before[key])
    for one, theirs in zip(net.buffers(), other.buffers(), strict=True):
        assert_same_bits(one, theirs)


def test_a_scale_and_gradients_from_before_change_nothing_but_themselves() -> None:
    nets = [Net(), Net()]
    make(nets[0]).backward(nets[0].losses(), closure=nets[0].losses)
    for parameter in nets[1].parameters():
        parameter.grad = torch.ones_like(parameter)
    make(nets[1]).backward(nets[1].losses(), scale=1024.0, closure=nets[1].losses)
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(other.grad - 1, 1024 * one.grad, rtol=1e-5, atol=1e-3)


def test_parameters_that_autocast_keeps_are_not_those_from_before() -> None:
    def trained(around: bool) -> Net:
        net = Net()

        def losses() -> dict[str, Tensor]:
            with torch.autocast("cpu", torch.bfloat16):
                return {task: loss.float() for task, loss in net.losses().items()}

        with torch.autocast("cpu", torch.bfloat16, enabled=around):
            strategy = make(net, parameters={"samo.rho": 2.0})
            strategy.backward(losses(), closure=losses)
        return net

    for one, other in zip(trained(True).parameters(), trained(False).parameters(), strict=True):
        # Around it, the gradients are joined in bfloat16, too, which has 8 bits.
        torch.testing.assert_close(one.grad, other.grad, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("name", ["samo", "samo+mgda"])
def test_a_batch_whose_gradients_are_not_finite_leaves_the_strategy_as_it_was(name: str) -> None:
    case = problem(steps=1)
    (batch,) = case.batches
    network = case.network()
    strategy = case.strategy(name, network)
    before = strategy.get_extra_state()["generator"]
    losses = network.losses(batch)
    losses[0] = losses[0] + (network.trunk.weight[0, 0] - network.trunk.weight[0, 0]).sqrt()
    strategy._closure_compared = True
    strategy.backward(losses, batch.index, batch.present, closure=lambda: network.losses(batch))
    assert not gradient(network).isfinite().all()
    assert_same_bits(strategy.get_extra_state()["generator"], before)
    assert strategy.end_epoch().bad_batches == 1


# --- what is refused ---


def test_without_a_closure_or_a_model_a_step_is_refused_and_nothing_has_happened() -> None:
    net = Net()
    strategy = make(net)
    with pytest.raises(ValueError, match=r"closure is needed: .* at other parameters") as raised:
        strategy.backward(net.losses())
    assert "\n" not in str(raised.value)
    assert all(p.grad is None for p in net.parameters())
    assert strategy.end_epoch().bad_batches == 0
    with pytest.raises(ValueError, match="model is needed"):
        make(None, shared=net.trunk).backward(net.losses(), closure=net.losses)


@pytest.mark.parametrize(
    ("closure", "message"),
    [
        (lambda net, losses: losses, "compute its losses anew, with gradients"),
        (
            lambda net, losses: {task: 2 * loss for task, loss in net.losses().items()},
            "the same batch again: with the same parameters one of task 'a' was",
        ),
        (
            lambda net, losses: {task: loss[:2] for task, loss in net.losses().items()},
            r"as backward was given, \[6\], but gives \[2\] for task 'a'",
        ),
        (lambda net, losses: {"c": losses["a"]}, "losses must name the tasks"),
        (
            lambda net, losses: {task: loss.detach() for task, loss in net.losses().items()},
            "compute its losses anew, with gradients",
        ),
    ],
)
def test_what_does_not_give_the_losses_of_the_batch_is_refused(
    closure: Callable[[Net, dict[str, Tensor]], Any], message: str
) -> None:
    net = Net()
    losses = net.losses()
    with pytest.raises(ValueError, match=message) as raised:
        make(net).backward(losses, closure=lambda: closure(net, losses))
    assert "\n" not in str(raised.value)
    assert all(p.grad is None for p in net.parameters())


def test_dropout_that_draws_anew_is_refused_and_one_that_draws_the_same_is_not() -> None:
    net = Net(dropout=0.5)

    def seeded() -> dict[str, Tensor]:
        torch.manual_seed(7)
        return net.losses()

    with pytest.raises(ValueError, match=r"dropout must draw the same numbers"):
        make(net).backward(net.losses(), closure=net.losses)
    make(net).backward(seeded(), closure=seeded)


def test_a_reentrant_checkpoint_is_refused() -> None:
    net = Net()
    net.inputs.requires_grad_()
    losses = net.losses(lambda module, x: checkpoint(module, x, use_reentrant=True))
    with pytest.raises(ValueError, match="make it with use_reentrant=False"):
        make(net).backward(losses, closure=net.losses)


def test_heads_that_the_graph_does_not_tell_apart_are_refused_also_where_shared_is_given() -> None:
    net = Net()

    def losses() -> list[Tensor]:
        return list(torch.stack([*net.losses().values()]).unbind())

    with pytest.raises(ValueError, match="must tell the heads of the tasks apart"):
        make(net, shared=net.trunk).backward(losses(), closure=losses)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("samo", {"samo.rho": 0.0}, "rho must be above 0, but is 0"),
        ("samo", {"samo.mu": -1.0}, "mu must be above 0, but is -1"),
        ("samo", {"samo.alpha": 1.5}, "alpha must be from 0 to 1, but is 1.5"),
        ("samo", {"samo.on": "representation"}, "on and every must stay as they are"),
        ("samo+mgda", {"mgda.every": 2}, "samo goes only in front of a weighting that takes the"),
        ("samo+modo", {}, "samo goes only in front of a weighting that takes the"),
        ("samo+iwmtl", {}, "samo goes only in front of a weighting that takes the"),
        ("samo+db-mtl", {}, "'db-mtl' takes the logarithm by itself"),
        ("samo+log+mgda", {}, "has two task stages; one is the most"),
        ("samo+dwa", {}, "has two task stages; one is the most"),
        ("elr+samo", {}, "SharpnessAware takes the losses of each batch several times, and Early"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    name: str, parameters: dict[str, Any], message: str
) -> None:
    net = Net()
    with pytest.raises(UserError, match=message) as raised:
        make(net, name, parameters=parameters, representation=net.trunk)
    assert "\n" not in str(raised.value)


def test_a_loss_for_trainers_that_go_back_by_themselves_takes_a_closure() -> None:
    one, other = Net(), Net()
    make(one).loss(one.losses(), closure=one.losses).backward()
    make(other).backward(other.losses(), closure=other.losses)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert_same_bits(mine.grad, theirs.grad)
