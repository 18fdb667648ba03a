"""What a loop of one's own hands to a strategy is checked."""

import copy
import functools
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtlbench import build_strategy
from mtlbench.strategies.base import strategies

TASKS = {"a": "classification", "b": "regression"}
NAMES = [entry.name for entry in strategies.entries()]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.a, self.b = nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        seen = self.trunk(inputs)
        return {"a": self.a(seen), "b": self.b(seen).squeeze(1)}


def step(name: str, **given: Any) -> tuple[Any, Net]:
    """A step of a strategy on made-up labels; `given` replaces what it is handed."""
    torch.manual_seed(0)
    net = Net()
    strategy = build_strategy(
        name, tasks=TASKS, num_instances=64, model=net, representation=net.trunk
    )
    inputs, a, b = torch.randn(16, 8), torch.randint(3, (16,)), torch.randn(16)
    index = given.get("index", torch.arange(16))
    outputs = net(inputs)
    if "transform" not in given:
        outputs = strategy.transform(outputs, {"a": a, "b": b}, torch.arange(16))
    b = given.get("b", b)
    losses = {
        "a": functional.cross_entropy(outputs["a"], a, reduction="none"),
        "b": (outputs["b"] - b).square(),
    }
    strategy.backward(losses, index, given.get("present"))
    return strategy, net


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_is_not_finite_at_an_absent_label_is_refused(name: str) -> None:
    labels = torch.randn(16)
    labels[::2] = torch.nan
    present = torch.ones(16, 2, dtype=torch.bool)
    present[::2, 1] = False
    with pytest.raises(ValueError, match="absent must be finite: put any valid label in its place"):
        step(name, b=labels, present=present)
    _, net = step(name, b=labels.nan_to_num(), present=present)
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "modo"])  # it takes two halves
def test_a_batch_of_no_instances_moves_nothing(name: str) -> None:
    torch.manual_seed(0)
    net = Net()
    strategy = build_strategy(
        name, tasks=TASKS, num_instances=64, model=net, representation=net.trunk
    )
    none, labels = torch.randn(0, 8), torch.randn(0)

    def losses() -> dict[str, Tensor]:
        outputs = net(none)
        index = labels.long()
        outputs = strategy.transform(outputs, {"a": index, "b": labels}, index)
        cross_entropy = functional.cross_entropy(outputs["a"], index, reduction="none")
        return {"a": cross_entropy, "b": (outputs["b"] - labels).square()}

    held_out = {"held_out": lambda: {"b": net(torch.randn(2, 8))["b"].square()}}
    strategy.backward(losses(), labels.long(), **(held_out if strategy.held_out else {}))
    assert all(p.grad is None or not p.grad.any() for p in net.parameters())


def test_what_weighs_by_outputs_says_so_where_it_never_sees_them() -> None:
    with pytest.raises(ValueError, match=r"give them to strategy\.transform before the losses"):
        step("data-parameters", transform=False)
    step("data-parameters")
    step("ilt", transform=False)  # weighs by losses alone


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.arange(16) - 1, "index must be from 0 to 63, below num_instances, but has -1"),
        (torch.arange(16) + 60, "but has 75"),
        (torch.arange(16.0), "index must be of whole numbers .int64., but is float32"),
        (torch.ones(16, dtype=torch.bool), "but is bool"),
        (torch.arange(16, dtype=torch.uint8), "but is uint8"),
        (torch.arange(15), "index must have shape"),
    ],
)
@pytest.mark.parametrize("name", ["ilt", "equal"])
def test_an_index_that_is_no_number_of_an_instance_is_refused(
    name: str, index: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        step(name, index=index)


def test_indices_of_fewer_bits_are_taken() -> None:
    one, _ = step("ilt")
    other, _ = step("ilt", index=torch.arange(16, dtype=torch.int32))
    assert torch.equal(one.instance.log_variances(), other.instance.log_variances())


POSITIVE = [
    "log",
    "stch",
    "uw-o",
    "uw-so",
    "go4align",
    "gls",
    "famo",
    "mtu",
    "ruw",
    "imtl-l",
    "db-mtl",
    "ldc-mtl",
]
"""Those that take a logarithm, or whose objective has no end below 0."""


@pytest.mark.parametrize("name", POSITIVE)
def test_a_negative_loss_is_refused_where_it_has_no_sense(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(4))
    loss = 1 * weight
    strategy = build_strategy(
        name,
        tasks={"a": "regression", "b": "regression"},
        model=torch.nn.ParameterList([weight]),
    )
    strategy.backward({"a": loss, "b": loss - 1}, None)  # 0 has one
    loss = 1 * weight
    strategy.backward({"a": loss, "b": loss - 1 - 1e-7}, None)  # by rounding
    loss = 1 * weight
    with pytest.raises(ValueError, match=r"task 'b' has a loss of -0\.5, and .* of at least 0"):
        strategy.backward({"a": loss, "b": loss - 1.5}, None)


@pytest.mark.parametrize("name", POSITIVE)
def test_a_negative_loss_of_one_instance_is_none_of_its_task(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(4))
    strategy = build_strategy(
        name,
        tasks={"a": "regression", "b": "regression"},
        model=torch.nn.ParameterList([weight]),
    )
    strategy.backward({"a": 1 * weight, "b": weight * torch.tensor([-1.0, 2.0, 2.0, 2.0])}, None)
    assert weight.grad.isfinite().all()


def test_famo_takes_losses_down_to_their_bound() -> None:
    loss = torch.ones(4, requires_grad=True)
    strategy = build_strategy(
        "famo",
        tasks={"a": "regression", "b": "regression"},
        parameters={"famo.min_losses": {"b": -3.0}},
    )
    strategy.backward({"a": loss, "b": loss - 2}, None)
    # w ∝ 1 / D with D = 1 and −1 + 3 = 2
    assert strategy.end_epoch().weights.tolist() == pytest.approx([2 / 3, 1 / 3])
    with pytest.raises(ValueError, match=r"task 'b' has a loss of -4, .* of at least -3"):
        strategy.backward({"a": loss, "b": loss - 5}, None)


@pytest.mark.parametrize("name", ["equal", "dwa", "tch", "ilt", "mgda"])
def test_others_take_negative_losses(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(()))
    strategy = build_strategy(
        name,
        tasks={"a": "regression", "b": "regression"},
        num_instances=4,
        model=torch.nn.ParameterList([weight]),
    )
    strategy.backward(
        {"a": weight * torch.ones(4), "b": -weight.square() * torch.ones(4)}, torch.arange(4)
    )
    assert weight.grad.isfinite()


def backward(name: str, losses: Any, **given: Any) -> Net:
    """A step of a strategy on what is made of the losses of 16 instances by task."""
    torch.manual_seed(0)
    net = Net()
    strategy = build_strategy(name, tasks=TASKS, num_instances=64, model=net)
    outputs = net(torch.randn(16, 8))
    a, b = torch.randint(3, (16,)), torch.randn(16)
    by_task = {
        "a": functional.cross_entropy(outputs["a"], a, reduction="none"),
        "b": (outputs["b"] - b).square(),
    }
    strategy.backward(losses(by_task), **{"index": torch.arange(16), **given})
    return net


def replaced(change: Any) -> Any:
    """One loss as it is, the other changed."""
    return lambda losses: {"a": losses["a"], "b": change(losses["b"])}


def each(change: Any) -> Any:
    return lambda losses: {task: change(loss) for task, loss in losses.items()}


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (each(Tensor.detach), "no loss depends on a parameter that learns: they were computed"),
        (each(lambda loss: loss[:, None]), r"task 'a' are float32 of shape \[16, 1\]"),
        (each(lambda loss: loss.to(torch.complex64)), r"task 'a' are complex64 of shape \[16\]"),
        (each(Tensor.mean), r"shape \(1,\), but has \(16,\): keep the loss of each instance"),
        (replaced(lambda loss: loss.detach().numpy()), "task 'b' must be a tensor, but is ndarray"),
        (replaced(lambda loss: None), "task 'b' must be a tensor, but is NoneType"),
        (lambda losses: sum(losses.values()), "losses must be .* but are one Tensor"),
        (lambda losses: torch.stack([*losses.values()], 1), "but are one Tensor"),
        (lambda losses: set(losses.values()), "but are one set"),
        (lambda losses: (loss for loss in losses.values()), "but are one generator"),
    ],
)
@pytest.mark.parametrize("name", ["equal", "ilt", "pcgrad"])
def test_losses_that_cannot_be_learned_from_are_refused(
    name: str, losses: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        backward(name, losses)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["equal", "ilt", "pcgrad"])
def test_a_task_that_nothing_is_learned_from_is_warned_of(name: str) -> None:
    with pytest.warns(UserWarning, match="the loss of task 'b' depends on no parameter") as told:
        backward(name, replaced(Tensor.detach))
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backward(name, replaced(lambda loss: torch.zeros(len(loss))))  # as without a label


@pytest.mark.parametrize("name", ["equal", "ilt+mtu", "pcgrad", "graddrop"])
def test_losses_that_went_back_before_are_refused(name: str) -> None:
    net = nn.GRUCell(8, 8)
    strategy = build_strategy(name, tasks=TASKS, num_instances=64, model=net)
    state = torch.zeros(16, 8)

    def train() -> None:
        nonlocal state
        for _ in range(3):
            state = net(torch.randn(16, 8), state)
            losses = {"a": state.square().mean(1), "b": (state - 1).square().mean(1)}
            strategy.backward(losses, torch.arange(16))
            with torch.no_grad():
                net.weight_hh.add_(0.1)

    with pytest.raises(ValueError, match="detach what one batch leaves to the next") as raised:
        train()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["ilt", "trim", "self-paced"])
def test_means_are_refused_where_instances_are_weighed(name: str) -> None:
    with pytest.raises(ValueError, match="weighs instances: keep the loss of each, reduction="):
        backward(name, each(Tensor.mean), index=None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"index": tuple("abcdefghijklmnop")}, "index must be a tensor, but is tuple"),
        ({"present": {"a": True}}, "present must be a tensor, but is dict"),
        ({"scale": "2"}, "scale must be a number above 0"),
    ],
)
def test_what_is_no_tensor_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backward("ilt", lambda losses: losses, **given)


def test_lists_and_arrays_are_taken_as_tensors() -> None:
    net = backward("ilt", lambda losses: losses)
    given = {"index": list(range(16)), "present": torch.ones(16, 2, dtype=torch.bool).numpy()}
    other = backward("ilt", lambda losses: [*losses.values()], **given)
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)


@pytest.mark.parametrize("value", [0, 0.0, torch.zeros(16, dtype=torch.long)])
@pytest.mark.parametrize("name", ["equal", "ilt", "pcgrad"])
def test_a_task_without_labels_may_come_as_a_number(name: str, value: Any) -> None:
    net = backward(name, replaced(lambda loss: value))
    assert net.a.weight.grad is not None
    assert net.b.weight.grad is None


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_the_same_whatever_the_modes_around_it(name: str) -> None:
    def gradients(around: Any) -> list[Tensor | None]:
        torch.manual_seed(0)
        net = Net()
        with around():
            strategy = build_strategy(
                name, tasks=TASKS, num_instances=64, model=net, representation=net.trunk
            )
        inputs, a, b = torch.randn(16, 8), torch.randint(3, (16,)), torch.randn(16)

        def losses(inputs: Tensor, change: Any = lambda outputs: outputs) -> dict[str, Tensor]:
            with torch.autocast("cpu", enabled=False):
                outputs = change(net(inputs))
                cross_entropy = functional.cross_entropy(outputs["a"], a, reduction="none")
            return {"a": cross_entropy, "b": (outputs["b"] - b).square()}

        def change(outputs: Any) -> Any:
            return strategy.transform(outputs, {"a": a, "b": b}, torch.arange(16))

        given: dict[str, Any] = {}
        if strategy.held_out:
            given = {"held_out": lambda: losses(inputs + 1)}
        if strategy.task.recomputes:
            given = {"closure": lambda: losses(inputs)}
        by_task = losses(inputs, change)
        index = torch.arange(16)
        with around():
            strategy.backward(by_task, index, **given)
            strategy.end_epoch({"a/accuracy": 50.0})
            strategy.load_state_dict(copy.deepcopy(strategy.state_dict()))
        again = losses(inputs, change)
        net.zero_grad()
        strategy.backward(again, index, **given)
        return [p.grad for p in net.parameters()]

    expected = gradients(torch.enable_grad)
    autocast = functools.partial(torch.autocast, "cpu", torch.bfloat16)
    elsewhere = functools.partial(torch.device, "meta")  # as set_default_device
    for mode in (torch.no_grad, torch.inference_mode, autocast, elsewhere):
        for one, other in zip(gradients(mode), expected, strict=True):
            assert one is other is None or torch.allclose(one, other, rtol=1e-6, atol=1e-8)
