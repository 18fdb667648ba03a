"""Gradient weightings in networks as people have them: right gradients, or one clear line."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mtlbench.errors import UserError
from mtlbench.strategies.base import (
    GRADIENT,
    GradientWeighting,
    InstanceStage,
    strategies,
)
from mtlbench.strategies.compose import build_strategy, stage_of
from mtlbench.strategies.fewer_passes import FewerPasses
from mtlbench.strategies.strategy import Strategy

TASKS = {"a": "classification", "b": "regression"}

BATCH = 16

ENTRIES = [
    entry
    for entry in strategies.entries()
    if not getattr(entry.cls, "needs_representation", False)  # not every network here has one
]
ALL = [entry.name for entry in ENTRIES]
GRADIENT_ONES = [entry.name for entry in ENTRIES if stage_of(entry) == GRADIENT]

every_strategy = pytest.mark.parametrize("name", ALL)
every_gradient_weighting = pytest.mark.parametrize("name", GRADIENT_ONES)
a_few = pytest.mark.parametrize("name", ["mgda", "nash-mtl", "upgrad", "graddrop", "moco"])
of_weights = pytest.mark.parametrize("name", ["mgda", "nash-mtl", "upgrad"])
"""Some that would tell heads weighed as shared layers."""


class Net(nn.Module):
    """A trunk and two heads."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
            self.a, self.b = nn.Linear(16, 3), nn.Linear(16, 1)

    def heads(self, features: Tensor) -> dict[str, Tensor]:
        return {"a": self.a(features), "b": self.b(features).squeeze(1)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.heads(self.trunk(x))


def inputs(seed: int = 0) -> Tensor:
    return torch.randn(BATCH, 8, generator=torch.Generator().manual_seed(seed))


def losses_of(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(7)
    label = torch.randint(3, (BATCH,), generator=chance)
    height = torch.randn(BATCH, generator=chance)
    return {
        "a": functional.cross_entropy(outputs["a"], label, reduction="none"),
        "b": (outputs["b"] - height).square(),
    }


def make(name: str, model: nn.Module | None, **options: Any) -> Strategy:
    parameters = {f"{name}.{key}": options.pop(key) for key in ("on", "every") if key in options}
    return build_strategy(
        name,
        **{"tasks": TASKS, "num_instances": 64, "model": model, "parameters": parameters} | options,
    )


def step(strategy: Strategy, losses: Any) -> None:
    strategy.backward(losses, torch.arange(BATCH))


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.to_dense() for n, p in net.named_parameters() if p.grad is not None}


def assert_same(net: nn.Module, expected: nn.Module) -> None:
    """The same gradients, but for the order of sums in float32."""
    one, other = gradients(net), gradients(expected)
    assert one.keys() == other.keys()
    for key, gradient in other.items():
        torch.testing.assert_close(one[key], gradient, rtol=1e-4, atol=1e-5, msg=key)


def usual(name: str, **options: Any) -> Net:
    """The network after a step as everybody's networks take it."""
    net = Net()
    step(make(name, net, **options), losses_of(net(inputs())))
    return net


# --- graphs that say too much ---


def compiled(net: nn.Module) -> Any:
    return torch.compile(net, backend="aot_eager")


class SeveralAtOnce(torch.autograd.Function):
    """A function of two losses that autograd sees as one."""

    @staticmethod
    def forward(ctx: Any, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return one.clone(), other.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return grads


def whole(net: Net) -> dict[str, Tensor]:
    return losses_of(compiled(net)(inputs()))


def in_one_checkpoint(net: Net) -> dict[str, Tensor]:
    def run(x: Tensor) -> tuple[Tensor, ...]:
        return tuple(net(x).values())

    outputs = checkpoint(run, inputs().requires_grad_(), use_reentrant=True)
    return losses_of(dict(zip("ab", outputs, strict=True)))


def cut_out(cut: Callable[[Tensor], list[Tensor]]) -> Callable[[Net], list[Tensor]]:
    def losses(net: Net) -> list[Tensor]:
        return cut(torch.stack(list(losses_of(net(inputs())).values()), 1))

    return losses


def stacked_for_each(net: Net) -> list[Tensor]:
    each = list(losses_of(net(inputs())).values())
    return [torch.stack(each, 1)[:, k] for k in range(2)]


def with_parameters_of_their_own(net: Net) -> list[Tensor]:
    if not hasattr(net, "scales"):
        net.scales = nn.ParameterList([nn.Parameter(torch.ones(())) for _ in TASKS])
    stacked = torch.stack(list(losses_of(net(inputs())).values()), 1)
    return [stacked[:, k] * scale for k, scale in enumerate(net.scales)]


EYE = torch.eye(2)

OPAQUE: dict[str, Callable[[Net], Any]] = {
    "compiled as a whole": whole,
    "in one reentrant checkpoint": in_one_checkpoint,
    "columns": cut_out(lambda both: [both[:, k] for k in range(2)]),
    "unbound": cut_out(lambda both: list(both.unbind(1))),
    "split": cut_out(lambda both: [part[:, 0] for part in both.split(1, dim=1)]),
    "masked": cut_out(lambda both: [(both * EYE[k]).sum(1) for k in range(2)]),
    "multiplied": cut_out(lambda both: [both @ EYE[k] for k in range(2)]),
    "chosen": cut_out(lambda both: [torch.where(EYE[k] > 0, both, 0).sum(1) for k in range(2)]),
    "gathered": cut_out(
        lambda both: [both.gather(1, torch.full((BATCH, 1), k))[:, 0] for k in range(2)]
    ),
    "stacked for each": stacked_for_each,
    "cut out and scaled": with_parameters_of_their_own,
    "of one function": lambda net: list(SeveralAtOnce.apply(*losses_of(net(inputs())).values())),
}

opaque = pytest.mark.parametrize("kind", OPAQUE)


@opaque
@a_few
def test_a_graph_that_cannot_tell_heads_from_shared_layers_is_refused(name: str, kind: str) -> None:
    net = Net()
    losses = OPAQUE[kind](net)
    with pytest.raises(ValueError, match=r"cannot tell heads .* shared=") as raised:
        step(make(name, net), losses)
    assert "\n" not in str(raised.value)
    assert not gradients(net)


@opaque
@a_few
def test_with_shared_parameters_named_any_graph_gives_the_usual_gradients(
    name: str, kind: str
) -> None:
    net = Net()
    losses = OPAQUE[kind](net)
    step(make(name, net, shared=net.trunk), losses)
    if hasattr(net, "scales"):
        del net.scales
    assert_same(net, usual(name))


@every_gradient_weighting
def test_shared_parameters_may_be_named_in_any_network(name: str) -> None:
    for shared in (lambda net: net.trunk, lambda net: list(net.trunk.parameters())):
        net = Net()
        model = net if strategies.get(name).cls.recomputes else None
        step(make(name, model, shared=shared(net)), losses_of(net(inputs())))
        assert_same(net, usual(name))


@a_few
def test_a_compiled_trunk_needs_nothing_named(name: str) -> None:
    net = Net()
    net.trunk.compile(backend="aot_eager")
    step(make(name, net), losses_of(net(inputs())))
    assert_same(net, usual(name))


class Named(torch.autograd.Function):
    """A function of somebody's own that keeps something under the name of a method of nodes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.name = "mine"
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


@a_few
def test_functions_of_ones_own_may_keep_what_they_like(name: str) -> None:
    net = Net()
    net.trunk.register_forward_hook(lambda _, __, output: Named.apply(output))
    step(make(name, net), losses_of(net(inputs())))
    assert_same(net, usual(name))


class OneLayerOfHeads(nn.Module):
    """Binary tasks whose heads are the rows of one layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.last = nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 2)

    def losses(self) -> Tensor:
        outputs = self.last(self.trunk(inputs()))
        return functional.softplus(outputs * torch.tensor([1.0, -1.0]))


@a_few
def test_a_layer_whose_rows_are_heads_is_refused_and_right_with_shared_named(name: str) -> None:
    net = OneLayerOfHeads()
    with pytest.raises(ValueError, match=r"last\.weight holds the heads of several tasks"):
        step(make(name, net), list(net.losses().unbind(1)))
    step(make(name, net, shared=net.trunk), list(net.losses().unbind(1)))
    expected = OneLayerOfHeads()
    losses = expected.losses()
    heads = list(expected.last.parameters())
    gradients_of_sum = torch.autograd.grad(losses.mean(0).sum(), heads)
    for parameter, gradient in zip(net.last.parameters(), gradients_of_sum, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def scaled_rows(net: OneLayerOfHeads) -> list[Tensor]:
    if not hasattr(net, "scales"):
        net.scales = nn.ParameterList([nn.Parameter(torch.ones(())) for _ in TASKS])
    return [loss * scale for loss, scale in zip(net.losses().unbind(1), net.scales, strict=True)]


ROWS: dict[str, Callable[[OneLayerOfHeads], list[Tensor]]] = {
    "scaled by parameters of their own": scaled_rows,
    "computed apart": lambda net: [net.losses()[:, k] for k in range(2)],
    "cut out of its weights": lambda net: [
        functional.softplus(net.trunk(inputs()) @ net.last.weight[k]) for k in range(2)
    ],
    "one labelled in this batch": lambda net: list(net.losses().unbind(1)),
}


@a_few
@pytest.mark.parametrize("kind", ROWS)
def test_a_layer_whose_rows_are_heads_is_found_in_other_guises(name: str, kind: str) -> None:
    net = OneLayerOfHeads()
    one = (torch.arange(2) == 0).expand(BATCH, 2)
    losses, present = ROWS[kind](net), one if "labelled" in kind else None
    strategy = make(name, net)
    for _ in range(2):  # and so it is when tried again
        with pytest.raises(ValueError, match=r"last\.weight holds the heads of several tasks"):
            strategy.backward(losses, torch.arange(BATCH), present)
        losses = ROWS[kind](net)
    assert not gradients(net)


@a_few
def test_a_term_of_zero_over_all_parameters_is_refused(name: str) -> None:
    """People add it for data parallel training; it ties every head to the task."""
    net = Net()
    losses = losses_of(net(inputs()))
    losses["a"] = losses["a"] + 0 * sum(p.sum() for p in net.parameters())
    with pytest.raises(ValueError, match=r"multiplied by 0"):
        step(make(name, net), losses)


@of_weights
def test_a_graph_that_begins_to_lie_is_found(name: str) -> None:
    net = Net()
    strategy = make(name, net)
    for _ in range(3):
        step(strategy, losses_of(net(inputs())))
    losses = OPAQUE["columns"](net)
    with pytest.raises(ValueError, match="cannot tell heads"):
        step(strategy, losses)


class Flow(nn.Module):
    """u' = −u with u(0) = 1: two losses of one output, and at t = 0 a layer without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

    def losses(self) -> list[Tensor]:
        t = torch.linspace(0, 1, BATCH)[:, None].requires_grad_()
        u = self.layers(t)
        (slope,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        start = self.layers(torch.zeros(BATCH, 1))
        return [(slope + u).square().squeeze(1), (start - 1).square().squeeze(1)]


@a_few
def test_losses_of_one_output_are_no_reason_to_refuse(name: str) -> None:
    net = Flow()
    step(make(name, net), net.losses())
    assert all(p.grad is not None for p in net.parameters())


@a_few
def test_tasks_that_see_different_rows_of_one_table_are_no_reason_to_refuse(name: str) -> None:
    torch.manual_seed(0)
    net = nn.ModuleDict({"table": nn.Embedding(40, 4), "last": nn.Linear(4, 1)})
    seen = [net["table"](torch.arange(k * BATCH, (k + 1) * BATCH)) for k in range(2)]
    step(make(name, net), [net["last"](features).squeeze(1).square() for features in seen])


@a_few
def test_a_head_that_starts_at_zero_is_no_reason_to_refuse(name: str) -> None:
    net = Net()
    nn.init.zeros_(net.b.weight)
    strategy = make(name, net)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        step(strategy, losses_of(net(inputs())))
        optimizer.step()
    assert net.trunk[0].weight.grad is not None


@a_few
def test_a_task_whose_loss_is_zero_or_absent_at_first_is_no_reason_to_refuse(name: str) -> None:
    net = Net()
    strategy = make(name, net)
    for present in ([True, False], [False, True], [True, True]):
        losses = losses_of(net(inputs()))
        mask = torch.tensor(present).expand(BATCH, 2)
        strategy.backward(losses, torch.arange(BATCH), mask)
    strategy.backward(
        {"a": losses_of(net(inputs()))["a"], "b": net(inputs())["b"] * 0}, torch.arange(BATCH)
    )


@of_weights
def test_a_graph_that_lies_is_found_where_each_batch_labels_one_task(name: str) -> None:
    net = Net()
    strategy = make(name, net)

    def some_steps() -> None:
        for number in range(6):
            mask = (torch.arange(2) == number % 2).expand(BATCH, 2)
            both = torch.stack(list(losses_of(net(inputs())).values()), 1)
            strategy.backward(list(both.unbind(1)), torch.arange(BATCH), mask)

    with pytest.raises(ValueError, match="cannot tell heads"):
        some_steps()


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        ([], "shared holds no parameter"),
        (nn.ReLU(), "shared holds no parameter"),
        (["trunk"], "shared must be a module, or modules and parameters, but holds str"),
        ([torch.ones(2, requires_grad=True) * 2], "but holds Tensor"),
    ],
)
def test_shared_that_is_not_parameters_is_refused(shared: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make("mgda", Net(), shared=shared)


def test_shared_parameters_that_no_loss_depends_on_are_refused() -> None:
    net = Net()
    with pytest.raises(ValueError, match="none of the losses depends on any of the shared"):
        step(make("mgda", net, shared=Net().trunk), losses_of(net(inputs())))


# --- parameters that are not where they were looked for ---


@every_gradient_weighting
@pytest.mark.parametrize("part", ["trunk", "a", "heads"])
def test_parameters_outside_of_the_model_are_weighed_as_those_within(name: str, part: str) -> None:
    net = Net()
    model = nn.ModuleList([net.a, net.b]) if part == "heads" else getattr(net, part)
    strategy = make(name, model)
    step(strategy, losses_of(net(inputs())))
    assert_same(net, usual(name))


@of_weights
@pytest.mark.parametrize("options", [{}, {"every": 2}])
def test_a_module_in_front_of_the_model_is_shared_too(name: str, options: dict[str, Any]) -> None:
    grads = []
    for in_model in (True, False):
        net = Net()
        torch.manual_seed(5)
        stem = nn.Linear(8, 8)
        model = nn.ModuleList([stem, net]) if in_model else net
        strategy = make(name, model, representation=net.trunk, **options)
        step(strategy, losses_of(net(stem(inputs()))))
        grads.append(nn.ModuleList([stem, net]))
    assert_same(grads[1], grads[0])


@a_few
def test_a_head_replaced_after_the_strategy_was_made_learns(name: str) -> None:
    net, expected = Net(), usual(name)
    strategy = make(name, net)
    net.a = nn.Linear(16, 3)
    net.a.load_state_dict(expected.a.state_dict())
    step(strategy, losses_of(net(inputs())))
    assert_same(net, expected)


@of_weights
def test_a_head_replaced_between_steps_learns(name: str) -> None:
    net, expected = Net(), usual(name)
    strategy = make(name, net)
    step(strategy, losses_of(net(inputs())))
    net.zero_grad()
    state = net.a.state_dict()
    net.a = nn.Linear(16, 3)
    net.a.load_state_dict(state)
    step(strategy, losses_of(net(inputs())))
    assert_same(net, expected)


class Tied(nn.Module):
    """One head is the table that the shared layers begin with, as in language models."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.trunk = nn.Embedding(9, 4), nn.Linear(4, 4)
        self.a = nn.Linear(4, 1)

    def losses(self) -> list[Tensor]:
        words = torch.arange(BATCH) % 9
        z = self.trunk(self.table(words))
        scores = functional.linear(z, self.table.weight)
        own = functional.cross_entropy(scores, words, reduction="none")
        return [(self.a(z).squeeze(1) - 1).square(), own]


class Fixed(GradientWeighting):
    """Weights that tell whether something was weighed."""

    def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        return torch.tensor([10.0, 0.1])


def fixed(net: nn.Module, **options: Any) -> Strategy:
    task = FewerPasses(Fixed(), **options) if options else Fixed()
    return Strategy(InstanceStage(), task, tasks=TASKS, model=net, representation=net.trunk)


@pytest.mark.parametrize("options", [{}, {"on": "representation"}, {"every": 2}])
def test_what_one_head_shares_with_the_shared_layers_is_weighed_in_every_step(
    options: dict[str, Any],
) -> None:
    net, expected = Tied(), Tied()
    strategy = fixed(net, **options)
    one, other = (loss.mean() for loss in expected.losses())
    (10 * one + 0.1 * other).backward()
    for _ in range(3):
        net.zero_grad()
        step(strategy, net.losses())
        for layer in ("table", "trunk"):
            wanted = getattr(expected, layer).weight.grad
            torch.testing.assert_close(getattr(net, layer).weight.grad, wanted)


@pytest.mark.parametrize("options", [{"on": "representation"}, {"every": 2}])
def test_heads_may_see_what_goes_around_the_representation(options: dict[str, Any]) -> None:
    """As in a U-Net."""
    nets = [Net(), Net()]
    for net in nets:
        net.stem, net.trunk = nn.Linear(8, 8), nn.Linear(8, 8)
        net.load_state_dict(nets[0].state_dict())

    def losses(net: Net) -> dict[str, Tensor]:
        first = net.stem(inputs()).tanh()
        return losses_of(net.heads(torch.cat([first, net.trunk(first)], 1)))

    strategy = fixed(nets[0], **options)
    one, other = (loss.mean() for loss in losses(nets[1]).values())
    (10 * one + 0.1 * other).backward()
    for _ in range(3):
        nets[0].zero_grad()
        step(strategy, losses(nets[0]))
        for layer in ("stem", "trunk"):
            actual, wanted = (getattr(net, layer).weight.grad for net in nets)
            torch.testing.assert_close(actual, wanted)


def test_weights_may_be_of_any_type() -> None:
    class Worst(GradientWeighting):
        def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
            return losses >= losses.max()

    net, expected = Net(), Net()
    small = {task: 1e-4 * loss for task, loss in losses_of(net(inputs())).items()}
    step(Strategy(InstanceStage(), Worst(), tasks=TASKS, model=net), small)
    means = [1e-4 * loss.mean() for loss in losses_of(expected(inputs())).values()]
    torch.stack(means).max().backward()
    torch.testing.assert_close(net.trunk[0].weight.grad, expected.trunk[0].weight.grad)


@pytest.mark.parametrize("weights", [[1.0, 2.0], torch.ones(3), torch.ones(2, 1)])
def test_weights_of_another_shape_are_refused(weights: Any) -> None:
    class Odd(GradientWeighting):
        def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
            return weights

    net = Net()
    strategy = Strategy(InstanceStage(), Odd(), tasks=TASKS, model=net)
    with pytest.raises(ValueError, match=r"Odd\.weights must give a tensor of shape \(2,\)"):
        step(strategy, losses_of(net(inputs())))
    assert not gradients(net)


@every_strategy
@pytest.mark.parametrize("constant", [torch.zeros(BATCH), 0.0])
def test_a_task_without_labels_may_come_as_a_constant(name: str, constant: Any) -> None:
    net = Net()
    losses = losses_of(net(inputs())) | {"b": constant}
    present = torch.tensor([True, False]).expand(BATCH, 2)
    make(name, net).backward(losses, torch.arange(BATCH), present)
    assert net.a.weight.grad.isfinite().all()
    assert net.b.weight.grad is None


@pytest.mark.parametrize(
    ("model", "message"),
    [([nn.Linear(2, 2)], "model must be a module, but is of type list")],
)
def test_a_model_that_is_no_module_is_refused(model: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make("mgda", model)


@a_few
def test_inputs_that_require_a_gradient_get_the_sum_and_are_not_weighed(name: str) -> None:
    net, x = Net(), inputs().requires_grad_()
    step(make(name, net), losses_of(net(x)))
    assert_same(net, usual(name))
    (expected,) = torch.autograd.grad(sum(v.mean() for v in losses_of(net(x)).values()), x)
    torch.testing.assert_close(x.grad, expected)


def test_gradients_that_were_there_are_added_to_and_survive_an_error() -> None:
    net, expected = Net(), usual("mgda")
    strategy = make("mgda", net)
    ones = {name: torch.ones_like(p) for name, p in net.named_parameters()}
    for name, parameter in net.named_parameters():
        parameter.grad = ones[name]
    with pytest.raises(ValueError, match="cannot tell heads"):
        step(strategy, OPAQUE["unbound"](net))
    assert all((p.grad == 1).all() for p in net.parameters())
    step(make("mgda", net), losses_of(net(inputs())))
    for name, parameter in net.named_parameters():
        assert parameter.grad is ones[name]
        torch.testing.assert_close(parameter.grad, 1 + gradients(expected)[name])


def test_an_optimizer_inside_of_the_backward_pass_is_refused() -> None:
    """It would step on each task's gradient by itself."""
    net = Net()
    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: None)
    with pytest.raises(ValueError, match="hook that runs after its gradient is accumulated"):
        step(make("mgda", net), losses_of(net(inputs())))


# --- activation checkpoints ---


@pytest.mark.parametrize(
    "name", [e.name for e in ENTRIES if not (e.cls.held_out or e.cls.recomputes)]
)
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("part", ["trunk", "heads", "all parts"])
def test_activation_checkpoints_change_no_gradient(name: str, part: str, reentrant: bool) -> None:
    net = Net()

    def run(module: nn.Module, x: Tensor, kind: str) -> Tensor:
        if part not in (kind, "all parts"):
            return module(x)
        return checkpoint(module, x, use_reentrant=reentrant)

    x = inputs().requires_grad_()  # as reentrant checkpoints ask for
    features = run(net.trunk, x, "trunk")
    outputs = {
        "a": run(net.a, features, "heads"),
        "b": run(net.b, features, "heads").squeeze(1),
    }
    step(make(name, net), losses_of(outputs))
    assert_same(net, usual(name))


# --- parameters of every kind ---


class Scaled(Net):
    """A learned temperature that both tasks share, and one that a single task has."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.scale, self.own = nn.Parameter(torch.full(shape, 1.5)), nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        outputs = self.heads(self.trunk(x) * self.scale)
        return {"a": outputs["a"] * self.own, "b": outputs["b"]}


@every_strategy
def test_a_shared_number_without_a_dimension_is_weighed_as_one_with(name: str) -> None:
    without, having = Scaled(()), Scaled((1,))
    for net in (without, having):
        step(make(name, net), losses_of(net(inputs())))
    assert without.scale.grad.shape == ()
    torch.testing.assert_close(without.scale.grad, having.scale.grad[0])
    torch.testing.assert_close(without.trunk[0].weight.grad, having.trunk[0].weight.grad)


class Empty(Net):
    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(0, 8))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return super().forward(x + self.nothing.sum())


@every_strategy
def test_a_shared_parameter_without_entries_is_no_trouble(name: str) -> None:
    net = Empty()
    step(make(name, net), losses_of(net(inputs())))
    assert net.nothing.grad.shape == (0, 8)


class Fourier(Net):
    """A complex layer, either as it is or as two real ones."""

    def __init__(self, real: bool) -> None:
        super().__init__()
        start = torch.randn(8, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
        self.real = real
        self.mix = nn.Parameter(torch.view_as_real(start).clone() if real else start)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        mix = torch.view_as_complex(self.mix) if self.real else self.mix
        z = torch.fft.fft(x) @ mix
        return super().forward(z.real + z.imag)


@every_strategy
def test_a_complex_parameter_counts_as_its_real_and_imaginary_parts(name: str) -> None:
    nets = [Fourier(real) for real in (True, False)]
    for net in nets:
        step(make(name, net), losses_of(net(inputs())))
    real, complex_ = (net.mix.grad for net in nets)
    torch.testing.assert_close(torch.view_as_real(complex_), real)
    torch.testing.assert_close(*(net.trunk[0].weight.grad for net in nets))


class Words(nn.Module):
    """Bags of words, of which a batch holds few."""

    def __init__(self, sparse: bool, kind: str = "bag") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        if kind == "bag":
            self.trunk: nn.Module = nn.EmbeddingBag(50, 16, sparse=sparse, mode="sum")
        else:
            self.trunk = nn.Embedding(50, 16, sparse=sparse)
        self.a, self.b = nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, seed: int = 1) -> dict[str, Tensor]:
        words = torch.randint(50, (BATCH, 5), generator=torch.Generator().manual_seed(seed))
        if self.kind == "tower":  # each task sees words of its own
            seen, others = self.trunk(words[:, :3]).mean(1), self.trunk(words[:, 3:]).mean(1)
            return {"a": self.a(seen), "b": self.b(others).squeeze(1)}
        features = self.trunk(words)
        features = features.tanh() if self.kind == "bag" else features.mean(1).tanh()
        return {"a": self.a(features), "b": self.b(features).squeeze(1)}


TWICE = ("l2rw", "mw-net", "slgrad")
"""Those that differentiate twice."""


@pytest.mark.parametrize("name", [name for name in ALL if name not in TWICE])
@pytest.mark.parametrize("kind", ["bag", "embedding", "tower"])
def test_sparse_gradients_are_weighed_as_dense_ones(name: str, kind: str) -> None:
    nets = [Words(sparse, kind) for sparse in (True, False)]
    for net in nets:
        strategy = make(name, net)
        for seed in (1, 2):  # added up
            step(strategy, losses_of(net(seed)))
    assert_same(*nets)


@pytest.mark.parametrize("name", TWICE)
def test_a_sparse_layer_that_cannot_be_differentiated_twice_is_refused(name: str) -> None:
    net = Words(sparse=True)
    with pytest.raises(ValueError, match="take layers that can be differentiated twice"):
        step(make(name, net), losses_of(net()))
    assert not gradients(net)


@every_gradient_weighting
def test_an_optimizer_of_sparse_gradients_gets_them(name: str) -> None:
    net = Words(sparse=True)
    strategy = make(name, net)
    step(strategy, losses_of(net()))
    # A direction is one of all parameters together, sparse or not.
    assert net.trunk.weight.grad.is_sparse != strategy.task.gives_direction
    if net.trunk.weight.grad.is_sparse:
        torch.optim.SparseAdam(net.trunk.parameters()).step()


# --- the shared layers run more than once in a step ---

CHEAPER = [{"on": "representation"}, {"every": 3}, {"on": "representation", "every": 3}]

cheaper = pytest.mark.parametrize("options", CHEAPER, ids=["representation", "every", "both"])


def reference(net: Net, losses: list[Tensor], weights: Tensor) -> dict[str, Tensor]:
    """Σ w_k ∇L_k for the trunk and ∇L_k for the heads, by PyTorch's autograd on a whole graph."""
    trunk = list(net.trunk.named_parameters())
    weighted = torch.autograd.grad(
        sum(w * loss for w, loss in zip(weights, losses, strict=True)),
        [p for _, p in trunk],
        retain_graph=True,
    )
    heads = [(f"{k}.{n}", p) for k in "ab" for n, p in getattr(net, k).named_parameters()]
    own = torch.autograd.grad(sum(losses), [p for _, p in heads], retain_graph=True)
    names = [f"trunk.{n}" for n, _ in trunk] + [n for n, _ in heads]
    return dict(zip(names, [*weighted, *own], strict=True))


def pair(net: Net) -> dict[str, Tensor]:
    """A siamese step: both halves of a pair go through the trunk."""
    one, other = net.trunk(inputs(1)), net.trunk(inputs(2))
    return losses_of({"a": net.a(one - other), "b": net.b(one * other).squeeze(1)})


def loaders(net: Net) -> dict[str, Tensor]:
    """One loader a task: each task has inputs of its own."""
    one, other = net.trunk(inputs(1)), net.trunk(inputs(2))
    return losses_of({"a": net.a(one), "b": net.b(other).squeeze(1)})


class Recurrent(Net):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        self.a, self.b = nn.Linear(8, 3), nn.Linear(8, 1)


def again(net: Net) -> dict[str, Tensor]:
    """The trunk sees its own output, and one head sees both."""
    first = net.trunk(inputs())
    second = net.trunk(first)
    return losses_of({"a": net.a(second), "b": net.b(first + second).squeeze(1)})


def with_stem(net: Net) -> dict[str, Tensor]:
    """Two passes through the trunk start from one graph."""
    x = inputs().requires_grad_().sin()
    return losses_of({"a": net.a(net.trunk(x)), "b": net.b(net.trunk(2 * x)).squeeze(1)})


SEVERAL = {
    "pair": (Net, pair),
    "loaders": (Net, loaders),
    "again": (Recurrent, again),
    "stem": (Net, with_stem),
}


@pytest.mark.parametrize("kind", SEVERAL)
@cheaper
@of_weights
def test_every_call_of_the_shared_layers_gets_its_gradient(
    name: str, options: dict[str, Any], kind: str
) -> None:
    cls, run = SEVERAL[kind]
    net = cls()
    strategy = make(name, net, representation=net.trunk, **options)
    limit = 1.0 if name == "nash-mtl" else torch.inf
    for _ in range(2):
        net.zero_grad()
        step(strategy, run(net))
        weights = strategy.task.get_buffer("held_weights")
        whole_net = copy.deepcopy(net).eval()
        losses = [loss.mean() for loss in run(whole_net).values()]
        expected = reference(whole_net, losses, weights)
        length = torch.stack([expected[k].norm() for k in expected if "trunk" in k]).norm()
        for key, gradient in gradients(net).items():
            factor = min(1.0, limit / length.item()) if "trunk" in key else 1.0
            torch.testing.assert_close(gradient, factor * expected[key], rtol=1e-4, atol=1e-6)


@of_weights
def test_losses_may_come_one_forward_pass_after_the_other(name: str) -> None:
    """Two forward passes, then a backward pass for each."""
    net = Net()
    strategy = make(name, net, representation=net.trunk, on="representation")
    both = [losses_of(net(inputs(seed))) for seed in (1, 2)]
    for losses in both:
        step(strategy, losses)
    apart = Net()
    strategy = make(name, apart, representation=apart.trunk, on="representation")
    for seed in (1, 2):
        step(strategy, losses_of(apart(inputs(seed))))
    assert_same(net, apart)


def test_forward_passes_without_a_backward_pass_are_forgotten() -> None:
    net = Net()
    strategy = make("mgda", net, representation=net.trunk, on="representation")
    for seed in range(5):
        net(inputs(seed))
    assert len(strategy._network._representation._pending) <= 1
    step(strategy, losses_of(net(inputs())))
    assert_same(net, on_representation("mgda"))


def on_representation(name: str) -> Net:
    net = Net()
    strategy = make(name, net, representation=net.trunk, on="representation")
    step(strategy, losses_of(net(inputs())))
    return net


@of_weights
def test_heads_may_change_the_representation_in_place(name: str) -> None:
    nets = [Net(), Net()]
    for net, inplace in zip(nets, (True, False), strict=True):
        net.trunk = net.trunk[0]
        strategy = make(name, net, representation=net.trunk, on="representation")
        features = functional.relu(net.trunk(inputs()), inplace=inplace)
        step(strategy, losses_of(net.heads(features)))
    assert_same(*nets)


def test_of_two_strategies_with_one_representation_the_newer_works_and_the_older_says_so() -> None:
    net = Net()
    older = make("mgda", net, representation=net.trunk, on="representation")
    newer = make("mgda", net, representation=net.trunk, on="representation")
    step(newer, losses_of(net(inputs())))
    assert_same(net, on_representation("mgda"))
    with pytest.raises(ValueError, match="a strategy made later has the same module"):
        step(older, losses_of(net(inputs())))


@pytest.mark.parametrize("other", ["equal", "mgda", "a plain backward pass"])
def test_other_backward_passes_go_through_the_representation(other: str) -> None:
    """Warm-up epochs, a further loss, or another strategy on the same network."""
    net, expected = Net(), Net()
    strategies = {
        "representation": make("mgda", net, representation=net.trunk, on="representation"),
        "equal": make("equal", net),
        "mgda": make("mgda", net),
    }
    if other in strategies:
        step(strategies[other], losses_of(net(inputs())))
        step(make(other, expected), losses_of(expected(inputs())))
    else:
        for each in (net, expected):
            sum(loss.mean() for loss in losses_of(each(inputs())).values()).backward()
    assert_same(net, expected)
    net.zero_grad()
    step(strategies["representation"], losses_of(net(inputs())))
    assert_same(net, on_representation("mgda"))


@pytest.mark.parametrize("options", [{"on": "representation"}, {"every": 2}])
def test_a_representation_that_holds_the_heads_is_refused(options: dict[str, Any]) -> None:
    net = Net()
    strategy = make("mgda", net, representation=net, **options)
    with pytest.raises(ValueError, match="representation holds the heads, too"):
        step(strategy, losses_of(net(inputs())))


@pytest.mark.parametrize("part", ["trunk", "heads"])
def test_parts_compiled_for_changing_batches_may_be_gone_through_again(part: str) -> None:
    torch._dynamo.reset()
    net = Net()
    net.trunk = nn.Sequential(nn.Linear(8, 16), nn.GELU())
    strategy = make("mgda", net)
    for module in [net.trunk] if part == "trunk" else [net.a, net.b]:
        module.compile(backend="aot_eager", dynamic=True)
    for size in (BATCH, BATCH - 3):
        losses = {task: loss[:size] for task, loss in losses_of(net(inputs())).items()}
        strategy.backward(losses, torch.arange(size))


def test_a_copy_of_the_network_is_whole() -> None:
    """Averages of weights are kept in a deep copy."""
    net = Net()
    strategy = make("mgda", net, representation=net.trunk, on="representation")
    step(strategy, losses_of(net(inputs())))
    average = copy.deepcopy(net)
    average.zero_grad()
    sum(loss.mean() for loss in losses_of(average(inputs())).values()).backward()
    assert average.trunk[0].weight.grad is not None


def test_a_network_that_is_compiled_after_the_strategy_was_made_is_cut_too() -> None:
    torch._dynamo.reset()
    net = Net()
    options = {"representation": net.trunk, "shared": net.trunk, "on": "representation"}
    strategy = make("mgda", net, **options)
    step(strategy, losses_of(compiled(net)(inputs())))
    assert_same(net, on_representation("mgda"))


@pytest.mark.parametrize("kind", ["eval mode", "frozen"])
def test_a_trunk_in_eval_mode_or_frozen_has_a_representation(kind: str) -> None:
    net, expected = Net(), on_representation("mgda")
    if kind == "frozen":
        net.trunk.requires_grad_(False)
    else:
        net.trunk.eval()
    strategy = make("mgda", net, representation=net.trunk, on="representation")
    step(strategy, losses_of(net(inputs())))
    torch.testing.assert_close(net.a.weight.grad, expected.a.weight.grad)
    if kind == "eval mode":
        assert_same(net, expected)
    else:
        assert net.trunk[0].weight.grad is None


def test_a_representation_that_gives_no_tensor_is_refused() -> None:
    class Opaque(nn.Module):
        def forward(self, x: Tensor) -> object:
            return object()

    net = Net()
    net.trunk = Opaque()
    make_it = make("mgda", net, representation=net.trunk, on="representation")
    with pytest.raises(ValueError, match="must give tensors, or containers of them, but gives obj"):
        net.trunk(inputs())
    assert make_it is not None


# --- weights in every n-th step ---


class Counted(GradientWeighting):
    """Equal weights; notes in which steps it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        self.asked += 1
        return torch.ones_like(losses)


def test_every_counts_the_steps_of_the_whole_training() -> None:
    """15 steps an epoch, every 10th: steps 0, 10, 20, 30 and 40 of 45, in whatever epoch."""
    net = Net()
    inner = Counted()
    strategy = Strategy(
        InstanceStage(),
        FewerPasses(inner, every=10),
        tasks=TASKS,
        model=net,
        representation=net.trunk,
    )
    asked = []
    for number in range(45):
        before = inner.asked
        step(strategy, losses_of(net(inputs())))
        if inner.asked > before:
            asked.append(number)
        if number % 15 == 14:
            strategy.end_epoch()
    assert asked == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("on", ["parameters", "representation"])
@pytest.mark.parametrize("max_norm", [0.0, 0.3, 1.0])
def test_nash_mtl_keeps_to_its_longest_update_in_every_step(on: str, max_norm: float) -> None:
    """As the authors' code does: the weights are kept, and each step's update is clipped."""
    net = Net()
    parameters = {"nash-mtl.every": 3, "nash-mtl.max_norm": max_norm, "nash-mtl.on": on}
    strategy = build_strategy(
        "nash-mtl", tasks=TASKS, model=net, representation=net.trunk, parameters=parameters
    )
    longest = 0.0
    for seed in range(7):
        net.zero_grad()
        losses = losses_of(net(inputs(seed)))
        scale = 1 + 10 * (seed % 3)  # gradients grow between weighings
        step(strategy, {task: scale * loss for task, loss in losses.items()})
        update = torch.cat([p.grad.flatten() for p in net.trunk.parameters()])
        whole_net = copy.deepcopy(net).eval()
        means = [scale * loss.mean() for loss in losses_of(whole_net(inputs(seed))).values()]
        held = strategy.task.get_buffer("held_weights")
        raw = reference(whole_net, means, held)
        expected = torch.cat([raw[k].flatten() for k in raw if "trunk" in k])
        if max_norm:
            expected *= min(1.0, max_norm / expected.norm().item())
        torch.testing.assert_close(update, expected, rtol=1e-4, atol=1e-6)
        longest = max(longest, update.norm().item())
    if max_norm:
        assert longest <= max_norm * (1 + 1e-5)
    else:
        assert longest > 2


# --- what an instance stage needs ---


class Table(InstanceStage):
    """A table of its own, and nothing that shows it."""

    def start(self, setting: Any) -> None:
        self.table = setting.instance_table(1)

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        return self.table.read(index)[:, 0] + 1


class Buffer(InstanceStage):
    def start(self, setting: Any) -> None:
        self.register_buffer("seen", torch.zeros(setting.num_instances, len(setting.tasks)))

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        self.seen[index] += 1
        return 1 / self.seen[index]


class ByIndex:
    """Weights that come from somewhere else."""

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        return (1 + index[:, None]).expand_as(losses)


class ByLoss(InstanceStage):
    needs_index = False

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        return 1 / (1 + losses)


class Mixed(ByIndex, InstanceStage):
    pass


@pytest.mark.parametrize("stage", [Table, Buffer, Mixed])
def test_an_instance_stage_that_may_look_at_the_index_gets_one_or_an_error(stage: type) -> None:
    net = Net()
    strategy = Strategy(
        stage(), Counted(), tasks=TASKS, num_instances=BATCH, model=net, representation=net.trunk
    )
    with pytest.raises(ValueError, match=f"index is needed: {stage.__name__}"):
        strategy.backward(losses_of(net(inputs())))
    step(strategy, losses_of(net(inputs())))


def test_an_instance_stage_says_that_it_needs_no_index() -> None:
    net = Net()
    strategy = Strategy(ByLoss(), Counted(), tasks=TASKS, model=net)
    strategy.backward(losses_of(net(inputs())))
    assert net.a.weight.grad is not None
