"""Weights of robust losses, against autograd through the losses themselves."""

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from toy import assert_agrees, many_examples, problem

from mtlbench.errors import UserError
from mtlbench.strategies import Setting, robust
from mtlbench.strategies.compose import build_strategy

KINDS = ("classification", "regression", "classification", "regression")


def started(kinds: tuple[str, ...] = KINDS, **parameters: float) -> robust.RobustLoss:
    stage = robust.RobustLoss(**parameters)
    tasks = tuple(f"t{k}" for k in range(len(kinds)))
    cpu = torch.device("cpu")
    stage.start(Setting(tasks, kinds, 0, cpu, torch.float64, torch.Generator()))
    return stage


class Scale:
    """The running scale of one regression task, as one number."""

    def __init__(self, momentum: float) -> None:
        self.value, self.momentum = 0.0, momentum

    def update(self, errors: list[float]) -> float:
        errors = sorted(abs(error) for error in errors if error != 0)
        if errors:
            new = statistics.median_low(errors) / 0.6745
            kept = self.momentum if self.value else 0
            self.value = kept * self.value + (1 - kept) * new
        return self.value


@many_examples
@given(
    st.floats(0.1, 1),
    st.floats(0.2, 5),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.integers(1, 8),
    st.integers(0, 2**31),
)
def test_robust_agrees_with_its_oracle(
    q: float, delta: float, momentum: float, size: int, seed: int
) -> None:
    """Tasks: a class, a number, a map of classes, a number; several steps, labels missing."""
    stage = started(q=q, delta=delta, momentum=momentum)
    scales = [Scale(momentum), Scale(momentum)]
    chance = torch.Generator().manual_seed(seed)
    for _ in range(5):
        present = torch.rand(size, 4, generator=chance) < 0.7
        logits, pixels, *numbers = (
            torch.randn(*shape, generator=chance, dtype=torch.float64).mul(3).requires_grad_()
            for shape in ((size, 5), (size, 5, 2, 2), (size,), (size,))
        )
        label = torch.randint(5, (size,), generator=chance)
        labels = torch.randint(5, (size, 2, 2), generator=chance)
        losses = [
            functional.cross_entropy(logits, label, reduction="none"),
            numbers[0].square(),
            functional.cross_entropy(pixels, labels, reduction="none").mean((1, 2)),
            numbers[1].square(),
        ]
        values = torch.where(present, torch.stack(losses, dim=1).detach(), 0)
        weights = stage.weights(values, torch.arange(size), present)

        probability = torch.softmax(logits, 1)[torch.arange(size), label]
        of_pixels = torch.softmax(pixels, 1).gather(1, labels[:, None])[:, 0]
        together = of_pixels.flatten(1).prod(1) ** (1 / 4)  # geometric mean
        objectives = [(1 - probability**q) / q, None, (1 - together**q) / q, None]
        for k, number, scale in ((1, numbers[0], scales[0]), (3, numbers[1], scales[1])):
            corner = delta * scale.update(number[present[:, k]].tolist())
            if corner:
                zero = torch.zeros_like(number)
                objectives[k] = 2 * functional.huber_loss(
                    number, zero, reduction="none", delta=corner
                )
        inputs = [logits, numbers[0], pixels, numbers[1]]
        for k, (objective, loss, output) in enumerate(zip(objectives, losses, inputs, strict=True)):
            here = present[:, k]
            if here.any():
                assert objective is not None
                (expected,) = torch.autograd.grad(objective[here].sum(), output)
                (actual,) = torch.autograd.grad((weights[:, k] * loss)[here].sum(), output)
                assert_agrees(actual, expected)


def test_the_strategy_leaves_the_gradient_of_the_generalised_cross_entropy() -> None:
    strategy = build_strategy("robust", tasks={"y": "classification"}, dtype=torch.float64)
    logits = torch.tensor([[0.0, 2.0], [3.0, 0.0]], dtype=torch.float64, requires_grad=True)
    label = torch.tensor([0, 0])
    strategy.backward([functional.cross_entropy(logits, label, reduction="none")])
    probability = torch.softmax(logits, 1)[:, 0]
    (expected,) = torch.autograd.grad(((1 - probability**0.7) / 0.7).mean(), logits)
    assert_agrees(logits.grad, expected)


def test_half_of_the_labels_can_be_far_off_without_moving_the_corner_far() -> None:
    stage = started(("regression",), momentum=0.0)
    errors = torch.cat([torch.linspace(0.5, 1.5, 11), torch.full((10,), 1e6)]).double()[:, None]
    weights = stage.weights(errors.square(), torch.arange(21), errors > 0)
    corner = 1.345 * 1.5 / 0.6745
    assert_agrees(weights[:11], torch.ones_like(errors[:11]))
    assert_agrees(weights[11:], corner / errors[11:])


@many_examples
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9), st.floats(1e-3, 1e3))
def test_weights_of_regression_do_not_depend_on_the_unit(errors: list[float], unit: float) -> None:
    one, other = started(("regression",)), started(("regression",))
    losses = torch.tensor(errors, dtype=torch.float64).square()[:, None]
    present, index = torch.ones_like(losses, dtype=torch.bool), torch.arange(len(errors))
    for _ in range(2):
        expected = one.weights(losses, index, present)
        assert_agrees(other.weights(unit**2 * losses, index, present), expected)


def test_a_batch_without_a_label_leaves_the_scale_as_it_is() -> None:
    stage = started()
    losses = torch.ones(2, 4, dtype=torch.float64)
    present = torch.ones(2, 4, dtype=torch.bool)
    stage.weights(losses, torch.arange(2), present)
    before = stage.get_buffer("scale").clone()
    present[:, 1] = False
    weights = stage.weights(4 * losses * present, torch.arange(2), present)
    moved = stage.get_buffer("scale") != before
    assert moved.tolist() == [False, False, False, True]
    assert weights.isfinite().all()


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e300])
def test_losses_at_the_ends_of_the_range_give_finite_weights(value: float) -> None:
    stage = started()
    losses = torch.full((3, 4), value, dtype=torch.float64)
    for _ in range(2):
        weights = stage.weights(losses, torch.arange(3), losses >= 0)
        assert weights.isfinite().all()
        assert (weights[:, 1] == 1).all()


def test_an_instance_drawn_twice_counts_twice_in_the_median() -> None:
    stage = started(("regression",))
    losses = torch.tensor([[1.0], [9.0], [9.0]], dtype=torch.float64)
    stage.weights(losses, torch.tensor([0, 1, 1]), losses > 0)
    expected = torch.tensor([3 / 0.6745], dtype=torch.float64)
    assert_agrees(stage.get_buffer("scale"), expected)


def test_a_restored_stage_goes_on_as_it_would_have() -> None:
    stage, restored = started(), started()
    chance = torch.Generator().manual_seed(0)

    def weights(one: robust.RobustLoss, losses: Tensor) -> Tensor:
        return one.weights(losses, torch.arange(5), losses > 0)

    for _ in range(3):
        weights(stage, torch.rand(5, 4, generator=chance, dtype=torch.float64))
    restored.load_state_dict(stage.state_dict())
    for _ in range(3):
        losses = torch.rand(5, 4, generator=chance, dtype=torch.float64)
        assert torch.equal(weights(restored, losses), weights(stage, losses))


def test_what_is_kept_does_not_depend_on_the_number_of_instances() -> None:
    tasks = {"y": "regression"}
    few, many = (
        build_strategy("robust", tasks=tasks, num_instances=n).instance.state_dict()
        for n in (1, 10**15)
    )
    assert few["scale"].shape == many["scale"].shape == (1,)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("robust__q", 0, "q must be above 0 and at most 1, but is 0.0"),
        ("robust__q", 1.1, "q must be above 0 and at most 1, but is 1.1"),
        ("robust__delta", 0, "delta must be above 0, but is 0.0"),
        ("robust__momentum", 1, "momentum must be at least 0 and below 1, but is 1.0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameter: str, value: float, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy("robust", case.network(), **{parameter: value})


def test_the_corner_loses_five_percent_where_errors_are_normal() -> None:
    """Huber's asymptotic efficiency, (E ψ′)² / E ψ², at the default corner."""
    k = robust.RobustLoss().delta
    density = math.exp(-k * k / 2) / math.sqrt(2 * math.pi)
    inside = math.erf(k / math.sqrt(2))
    variance = inside - 2 * k * density + k * k * (1 - inside)
    assert inside**2 / variance == pytest.approx(0.95, abs=1e-3)
