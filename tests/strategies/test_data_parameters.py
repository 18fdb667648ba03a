"""Temperatures of instances and classes, against a dense optimiser over autograd's gradients."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from toy import assert_agrees, assert_same_bits, many_examples

from mtlbench.errors import UserError
from mtlbench.strategies import Strategy, data_parameters
from mtlbench.strategies.compose import build_strategy
from mtlbench.tasks.task import cross_entropy, squared_l2
from mtlbench.training.checkpoint import load_tree, save_tree

assert data_parameters.DataParameters  # registered by its module

N, IGNORED = 8, -1
KINDS = {"digit": "classification", "depth": "regression", "map": "classification"}
CLASSES = {"digit": 5, "map": 3}
LOSSES = {"digit": cross_entropy(), "depth": squared_l2(), "map": cross_entropy(IGNORED)}
LEVELS = ["instance", "class", "joint"]


class Labelled(NamedTuple):
    """Network outputs and labels by task, dataset indices [B] and which are present [B, K]."""

    outputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    index: Tensor
    present: Tensor


def draw(chance: torch.Generator, size: int = 6) -> Labelled:
    """Logits of a number and of a map of 2×2 pixels; labels missing, and instances drawn twice."""

    def normal(*shape: int) -> Tensor:
        return 3 * torch.randn(*shape, generator=chance, dtype=torch.float64)

    pixels = torch.randint(-1, 3, (size, 2, 2), generator=chance)
    if torch.rand((), generator=chance) < 0.2:
        pixels[0] = IGNORED
    outputs = {"digit": normal(size, 5), "depth": normal(size), "map": normal(size, 3, 2, 2)}
    digits = torch.randint(5, (size,), generator=chance)
    present = torch.rand(size, 3, generator=chance) < 0.7
    if torch.rand((), generator=chance) < 0.2:
        present[:, 0] = False
    return Labelled(
        {name: output.requires_grad_() for name, output in outputs.items()},
        {"digit": digits, "depth": normal(size), "map": pixels},
        torch.randperm(2 * N, generator=chance)[:size] % N,
        present,
    )


def make(**parameters: object) -> Strategy:
    return build_strategy(
        "data-parameters",
        tasks=KINDS,
        num_instances=N,
        dtype=torch.float64,
        parameters={f"data-parameters.{name}": value for name, value in parameters.items()},
    )


def step(strategy: Strategy, batch: Labelled) -> dict[str, Tensor]:
    """The gradient that a batch leaves in each of the network's outputs."""
    for output in batch.outputs.values():
        output.grad = None
    tempered = strategy.transform(batch.outputs, batch.targets, batch.index, batch.present)
    losses = {name: LOSSES[name](tempered[name], batch.targets[name]) for name in KINDS}
    strategy.backward(losses, batch.index, batch.present)
    return {name: output.grad for name, output in batch.outputs.items()}


def learn(strategy: Strategy, logits: Tensor, labels: Tensor, index: Tensor) -> None:
    """A step of one task, from logits [B, C, …] of its labels."""
    outputs = strategy.transform({"y": logits.requires_grad_()}, {"y": labels}, index)
    losses = functional.cross_entropy(outputs["y"], labels, reduction="none")
    strategy.backward({"y": losses.flatten(1).mean(1) if losses.ndim > 1 else losses}, index)


class Dense:
    """A parameter vector with dense SGD, put back where the gradient is 0, as the authors do."""

    def __init__(self, size: int, first: float, lr: float, decay: float, bound: float) -> None:
        self.value = torch.full((size,), first, dtype=torch.float64, requires_grad=True)
        self.velocity = torch.zeros(size, dtype=torch.float64)
        self.lr, self.decay, self.limit = lr, decay, math.log(bound)

    def descend(self, gradient: Tensor) -> None:
        still = gradient == 0
        value, velocity = self.value.detach().clone(), self.velocity.clone()
        self.velocity = 0.9 * self.velocity + gradient
        moved = (self.value - self.lr * self.velocity).clamp(-self.limit, self.limit)
        self.velocity = torch.where(still, velocity, self.velocity)
        self.value = torch.where(still, value, moved).detach().requires_grad_()


class ByHand:
    """The temperatures of one task."""

    def __init__(
        self, level: str, classes: int, lr: float, class_lr: float, decay: float, bound: float
    ) -> None:
        self.level = level
        first = -math.log(bound) if level == "joint" else 0.0
        self.instances = Dense(N, first, lr, decay, bound)
        self.classes = Dense(classes, 0.0, class_lr, 2 * decay, bound)

    def step(self, logits: Tensor, labels: Tensor, index: Tensor, present: Tensor) -> Tensor:
        """Learns; the gradient of the mean cross entropy in the logits."""
        loss = penalty = torch.zeros((), dtype=torch.float64)
        for b in present.nonzero()[:, 0].tolist():
            places = (labels[b] != IGNORED).nonzero().tolist()
            for place in places:
                at = (b, slice(None), *place)
                label = labels[(b, *place)]
                sigma = torch.zeros((), dtype=torch.float64)
                if self.level != "class":
                    sigma = sigma + self.instances.value[index[b]].exp()
                if self.level != "instance":
                    sigma = sigma + self.classes.value[label].exp()
                    decay = self.classes.decay / len(places)
                    penalty = penalty + decay / 2 * self.classes.value[label].square()
                probability = (logits[at] / sigma).exp() / (logits[at] / sigma).exp().sum()
                loss = loss - probability[label].log() / len(places)
            if places and self.level != "class":
                square = self.instances.value[index[b]].square()
                penalty = penalty + self.instances.decay / 2 * square
        loss = loss / max(int(present.sum()), 1) + 0 * logits.sum()
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        both = [self.instances, self.classes]
        slopes = torch.autograd.grad(
            loss + penalty, [p.value for p in both], allow_unused=True, materialize_grads=True
        )
        for parameter, slope in zip(both, slopes, strict=True):
            parameter.descend(slope)
        return gradient


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("decay", "bound"), [(0.0, 20.0), (0.02, 3.0)])
def test_data_parameters_agrees_with_its_oracle(level: str, decay: float, bound: float) -> None:
    lr, class_lr = 0.8, 0.3
    strategy = make(
        level=level,
        lr=lr,
        class_lr=class_lr,
        weight_decay=decay,
        class_weight_decay=2 * decay,
        bound=bound,
    )
    by_hand = {
        name: ByHand(level, classes, lr, class_lr, decay, bound)
        for name, classes in CLASSES.items()
    }
    chance = torch.Generator().manual_seed(0)
    for _ in range(200):
        batch = draw(chance, size=4)
        gradients = step(strategy, batch)
        for k, name in ((0, "digit"), (2, "map")):
            expected = by_hand[name].step(
                batch.outputs[name], batch.targets[name], batch.index, batch.present[:, k]
            )
            assert_loose(gradients[name], expected)
            if level != "class":
                learned = strategy.instance.log_variances()[:, k]
                assert_agrees(learned, 2 * by_hand[name].instances.value.detach())
            if level != "instance":
                learned = strategy.instance.state_dict()["classes.values"][0, k, : CLASSES[name]]
                assert_agrees(learned, by_hand[name].classes.value.detach())
    tables = [by_hand[name].instances.value for name in CLASSES if level != "class"]
    tables += [by_hand[name].classes.value for name in CLASSES if level != "instance"]
    assert all((table.abs() > 0.1).any() for table in tables)
    if bound == 3:
        assert any((table.abs() == math.log(bound)).any() for table in tables)


def assert_loose(actual: Tensor, expected: Tensor) -> None:
    """Equal to 1e-5: `cross_entropy` computes in float32."""
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@many_examples
@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 2**31))
def test_the_slope_of_a_temperature_is_that_of_autograd(
    classes: int, pixels: int, seed: int
) -> None:
    chance = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, classes, pixels, generator=chance, dtype=torch.float64) * 5
    labels = torch.randint(classes, (3, pixels), generator=chance)
    sigma = torch.ones(3, dtype=torch.float64, requires_grad=True)
    loss = functional.cross_entropy(logits / sigma.view(3, 1, 1), labels)
    (slope,) = torch.autograd.grad(loss, sigma)
    strategy = build_strategy(
        "data-parameters",
        tasks={"y": "classification"},
        num_instances=3,
        dtype=torch.float64,
        parameters={"data-parameters.lr": 1e-3},
    )
    learn(strategy, logits, labels, torch.arange(3))
    assert_agrees(strategy.instance.log_variances()[:, 0], -2e-3 * slope)


@many_examples
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6, unique_by=lambda z: round(z, 2)))
def test_a_label_of_the_largest_logit_cools_its_instance_and_one_of_the_smallest_heats_it(
    logits: list[float],
) -> None:
    strategy = build_strategy(
        "data-parameters", tasks={"y": "classification"}, num_instances=2, dtype=torch.float64
    )
    z = torch.tensor([logits, logits], dtype=torch.float64)
    labels = torch.stack([z[0].argmax(), z[0].argmin()])
    learn(strategy, z, labels, torch.arange(2))
    cooled, heated = strategy.instance.log_variances()[:, 0].tolist()
    assert cooled < 0 < heated


def test_an_instance_drawn_twice_moves_by_the_sum_of_its_gradients() -> None:
    strategy = build_strategy(
        "data-parameters", tasks={"y": "classification"}, num_instances=1, dtype=torch.float64
    )
    z = torch.tensor([[0.0, 2.0], [3.0, 0.0]], dtype=torch.float64)
    learn(strategy, z, torch.tensor([0, 1]), torch.tensor([0, 0]))
    # z_y − Σ p z of each, over a batch of 2, at the learning rate 0.2
    slopes = [-2 / (1 + math.exp(-2)), -3 / (1 + math.exp(-3))]
    expected = torch.tensor([[-2 * 0.2 * sum(slopes) / 2]], dtype=torch.float64)
    assert_agrees(strategy.instance.log_variances(), expected)


# --- labels that are not there ---


@pytest.mark.parametrize("level", LEVELS)
def test_what_has_no_label_in_the_batch_does_not_move(level: str) -> None:
    strategy = make(level=level)
    chance = torch.Generator().manual_seed(1)
    for _ in range(20):
        step(strategy, draw(chance))
    batch = draw(chance)
    batch.present[:3], batch.present[3:] = False, True
    batch.targets["map"][4:] = IGNORED
    batch.targets["map"][3] = torch.tensor([[0, 1], [IGNORED, 1]])
    batch = batch._replace(index=torch.tensor([0, 1, 2, 3, 4, 5]))
    before = tables(strategy)
    step(strategy, batch)
    moved = {name: tables(strategy)[name] != before[name] for name in before}
    if level != "class":
        digit, depth, pixels = moved["table.values"].unbind(2)
        assert digit.any(1).tolist() == [3 <= i < 6 for i in range(N)]
        assert pixels.any(1).tolist() == [i == 3 for i in range(N)]
        assert not depth.any()
    if level != "instance":
        digit, depth, pixels = moved["classes.values"].unbind(1)
        seen = batch.targets["digit"][3:].tolist()
        assert digit.any(0).tolist() == [c in seen for c in range(5)]
        assert pixels.any(0).tolist() == [True, True, False, False, False]
        assert not depth.any()


def tables(strategy: Strategy) -> dict[str, Tensor]:
    state = strategy.instance.state_dict()
    return {
        name: state[name].clone() for name in ("table.values", "classes.values") if name in state
    }


@pytest.mark.parametrize("level", LEVELS)
def test_a_batch_without_any_label_changes_nothing(level: str) -> None:
    strategy = make(level=level)
    chance = torch.Generator().manual_seed(1)
    step(strategy, draw(chance))
    before = tables(strategy)
    batch = draw(chance)
    batch.present[:] = False
    for gradient in step(strategy, batch).values():
        assert not gradient.any()
    for name, value in tables(strategy).items():
        assert_same_bits(value, before[name])


@pytest.mark.parametrize("level", LEVELS)
def test_the_value_of_an_absent_label_does_not_matter(level: str) -> None:
    one, other = make(level=level), make(level=level)
    chance = torch.Generator().manual_seed(2)
    for _ in range(10):
        batch = draw(chance)
        targets: Mapping[str, Tensor] = {
            name: torch.where(here.view(-1, *[1] * (label.ndim - 1)), label, 1)
            for (name, label), here in zip(
                batch.targets.items(), batch.present.unbind(1), strict=True
            )
        }
        expected = {name: gradient.clone() for name, gradient in step(one, batch).items()}
        for name, gradient in step(other, batch._replace(targets=dict(targets))).items():
            assert_same_bits(gradient, expected[name])
    for name, value in tables(one).items():
        assert_same_bits(tables(other)[name], value)


# --- what is left alone, what is read, what is kept ---


def test_outputs_of_regression_tasks_are_left_as_they_are() -> None:
    strategy, batch = make(level="joint"), draw(torch.Generator().manual_seed(0))
    tempered = strategy.transform(batch.outputs, batch.targets, batch.index, batch.present)
    assert tempered["depth"] is batch.outputs["depth"]
    assert list(tempered) == list(batch.outputs)
    assert {name: output.shape for name, output in tempered.items()} == {
        name: output.shape for name, output in batch.outputs.items()
    }


def test_log_variances_are_those_of_the_instances_and_nan_for_regression() -> None:
    strategy = make(level="joint")
    log_variances = strategy.instance.log_variances()
    expected = torch.full((N,), -2 * math.log(20), dtype=torch.float64)
    assert_agrees(log_variances[:, 0], expected)
    assert_agrees(log_variances[:, 2], expected)
    assert log_variances[:, 1].isnan().all()
    assert make(level="class").instance.log_variances() is None


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("steps", [0, 5])
def test_a_restored_stage_goes_on_bit_for_bit(level: str, steps: int, tmp_path: Path) -> None:
    strategy, restored = make(level=level), make(level=level)
    chance = torch.Generator().manual_seed(3)
    for _ in range(steps):
        step(strategy, draw(chance))
    save_tree(tmp_path / "state.safetensors", dict(strategy.state_dict()))
    restored.load_state_dict(load_tree(tmp_path / "state.safetensors"))
    for _ in range(5):
        batch = draw(chance)
        expected = {name: gradient.clone() for name, gradient in step(strategy, batch).items()}
        for name, gradient in step(restored, batch).items():
            assert_same_bits(gradient, expected[name])
    for name, value in tables(strategy).items():
        assert_same_bits(tables(restored)[name], value)


def test_a_step_touches_no_row_but_those_of_its_batch(tmp_path: Path) -> None:
    """With a table of 16 GB of holes, any pass over all rows would take minutes."""
    rows = 2 * 10**9
    strategy = build_strategy(
        "data-parameters",
        tasks={"y": "classification"},
        num_instances=rows,
        instance_tables=tmp_path,
    )
    index = torch.tensor([0, rows // 2, rows - 1])
    learn(strategy, torch.eye(3), torch.tensor([0, 1, 0]), index)
    log_sigma = strategy.instance.table.read(index)[:, 0, 0]
    mean = math.e / (math.e + 2)
    expected = -0.2 / 3 * torch.tensor([1 - mean, 1 - mean, -mean])
    torch.testing.assert_close(log_sigma, expected, rtol=1e-5, atol=1e-6)  # float32
    assert (strategy.instance.table.read(index + torch.tensor([1, 1, -1])) == 0).all()


def test_the_index_is_needed() -> None:
    strategy = make()
    with pytest.raises(ValueError, match="index is needed"):
        strategy.backward([torch.ones(1, requires_grad=True)] * 3)


def test_the_number_of_instances_is_needed_where_they_have_temperatures() -> None:
    with pytest.raises(UserError, match="num_instances must be at least 1, but is 0"):
        build_strategy("data-parameters", tasks=KINDS)
    build_strategy("data-parameters", tasks=KINDS, parameters={"data-parameters.level": "class"})


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("level", "pixel", "level must be 'instance' or 'class' or 'joint', but is 'pixel'"),
        ("lr", 0, "lr must be above 0, but is 0.0"),
        ("class_lr", -1, "class_lr must be above 0, but is -1.0"),
        ("momentum", 1, "momentum must be at least 0 and below 1, but is 1.0"),
        ("weight_decay", -1, "weight_decay must be at least 0, but is -1.0"),
        ("class_weight_decay", -1, "class_weight_decay must be at least 0, but is -1.0"),
        ("bound", 1, "bound must be above 1, but is 1.0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameter: str, value: object, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(**{parameter: value})


def test_an_unknown_level_is_refused_in_python_too() -> None:
    with pytest.raises(ValueError, match="level must be 'instance', 'class' or 'joint'"):
        data_parameters.DataParameters(level="pixel")  # type: ignore[arg-type]
