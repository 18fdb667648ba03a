"""GradNorm, against Algorithm 1 of the paper with Adam by hand."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_gradients import (
    Step,
    all_steps,
    assert_goes_on,
    assert_step_without_labels_changes_nothing,
    directions,
    make_step,
    setting,
    started,
)
from toy import assert_agrees, assert_same_bits, many_examples

from mtlbench.strategies.gradnorm import GradientNormalization


class AdamByHand:
    """Kingma & Ba 2015, Algorithm 1, of one number."""

    def __init__(self, lr: float) -> None:
        self.lr, self.m, self.v, self.t = lr, 0.0, 0.0, 0

    def step(self, gradient: float) -> float:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return -self.lr * m / (math.sqrt(v) + 1e-8)


def weights_by_hand(steps: list[Step], alpha: float, lr: float) -> list[list[float]]:
    tasks = len(steps[0].losses)
    weights, initial = [1.0] * tasks, [math.nan] * tasks
    adam = [AdamByHand(lr) for _ in range(tasks)]
    results = []
    for step in steps:
        results.append(list(weights))
        here = [k for k in range(tasks) if step.present[k]]
        losses = step.losses.tolist()
        norms = [math.sqrt(sum(x * x for x in row)) for row in step.jacobian.tolist()]
        for k in here:
            if math.isnan(initial[k]):
                initial[k] = losses[k]
        if not here:
            continue
        mean_length = sum(weights[k] * norms[k] for k in here) / len(here)
        mean_ratio = sum(losses[k] / initial[k] for k in here) / len(here)
        together = sum(weights[k] for k in here)
        for k in here:
            target = mean_length * (losses[k] / initial[k] / mean_ratio) ** alpha
            difference = weights[k] * norms[k] - target
            # One task alone is at its target, up to rounding.
            sign = 0.0 if abs(difference) <= 1e-13 * target else math.copysign(1, difference)
            adam_step = adam[k].step(sign * norms[k])
            weights[k] = max(weights[k] + adam_step, 1e-8)
        factor = together / sum(weights[k] for k in here)
        for k in here:
            weights[k] *= factor
    return results


@many_examples
@given(all_steps(), st.floats(0, 3), st.floats(0.001, 0.5))
def test_gradnorm_agrees_with_its_oracle(steps: list[Step], alpha: float, lr: float) -> None:
    weighting = started(GradientNormalization(alpha, lr), len(steps[0].losses))
    with torch.no_grad():
        for step, expected in zip(steps, weights_by_hand(steps, alpha, lr), strict=True):
            actual = weighting.weights(step.gramian, step.losses, step.present)
            assert_agrees(actual, torch.tensor(expected, dtype=torch.float64))


@many_examples
@given(all_steps(count=8), st.floats(0, 3), st.floats(0.001, 100))
def test_weights_stay_above_zero_and_sum_to_the_number_of_tasks(
    steps: list[Step], alpha: float, lr: float
) -> None:
    tasks = len(steps[0].losses)
    weighting = started(GradientNormalization(alpha, lr), tasks)
    with torch.no_grad():
        for step in steps:
            weights = weighting.weights(step.gramian, step.losses, step.present)
            assert (weights > 0).all()
            # The shares of a step are sums and quotients of numbers from 1e-8 to K.
            assert weights.sum().item() == pytest.approx(tasks, rel=1e-6)


def test_without_asymmetry_gradients_come_to_one_length() -> None:
    weighting = started(GradientNormalization(alpha=0.0, lr=0.01), 3)
    step = make_step(3, 4, seed=5)
    lengths = step.jacobian.norm(dim=1)
    with torch.no_grad():
        for _ in range(2000):
            weights = weighting.weights(step.gramian, step.losses, step.present)
    weighted = weights * lengths
    assert lengths.max() > 1.5 * lengths.min()
    # The sign of the difference makes the weights swing around the target by about lr.
    assert (weighted - weighted.mean()).abs().max() < 3 * 0.01 * lengths.max()


def test_a_task_that_is_slower_than_the_others_gets_more_weight() -> None:
    weighting = started(GradientNormalization(), 2)
    jacobian, present = torch.eye(2, dtype=torch.float64), torch.tensor([True, True])
    with torch.no_grad():
        for n in range(20):
            losses = torch.tensor([1.0, 0.9**n], dtype=torch.float64)
            weights = weighting.weights(jacobian @ jacobian.T, losses, present)
    assert weights[0] > 1 > weights[1]


def test_a_task_without_a_label_keeps_its_weight_and_the_others_go_on_as_without_it() -> None:
    three, two = started(GradientNormalization(), 3), started(GradientNormalization(), 2)
    with torch.no_grad():
        for n in range(5):
            step = make_step(3, 4, n, [True, True, False])
            of_three = three.weights(step.gramian, step.losses, step.present)
            of_two = two.weights(step.gramian[:2, :2], step.losses[:2], step.present[:2])
            assert_same_bits(of_three, torch.cat([of_two, torch.ones(1, dtype=torch.float64)]))


def test_a_step_without_any_label_changes_nothing() -> None:
    assert_step_without_labels_changes_nothing(lambda _: started(GradientNormalization(), 3))


def test_a_task_whose_loss_is_zero_at_first_waits_for_another() -> None:
    weighting = started(GradientNormalization(), 2)
    with torch.no_grad():
        for n, loss in enumerate([0.0, 0.0, 2.0, 1.0]):
            step = make_step(2, 3, n)
            step.losses[1] = loss
            weights = weighting.weights(step.gramian, step.losses, step.present)
            assert weights.isfinite().all()
    assert weighting.get_buffer("initial")[1] == 2


def test_one_huge_gradient_does_not_stop_it_for_good() -> None:
    """Adam's squares of it are infinite in float32, and stay so."""
    weighting = GradientNormalization()
    weighting.start(replace(setting(2), dtype=torch.float32))
    here, seen = torch.tensor([True, True]), []
    with torch.no_grad():
        for size in (1.0, 1e30, 1.0, 1.0):
            gramian = torch.tensor([size, 0.5 * size]).double().square().diag()
            seen.append(weighting.weights(gramian, torch.tensor([1.0, 1.0]), here))
    assert all(weights.dtype == torch.float32 for weights in seen)
    states = weighting.adam.state.values()
    assert all(state["exp_avg_sq"].isfinite() for state in states)
    assert len({float(weights[0]) for weights in seen}) == len(seen)


def test_a_restored_state_goes_on_bit_for_bit(tmp_path: Path) -> None:
    steps = [make_step(3, 4, n, [True, n % 2 == 0, n % 3 > 0]) for n in range(8)]
    assert_goes_on(
        lambda _: started(GradientNormalization(), 3), steps, tmp_path / "state.safetensors"
    )


def test_it_uses_the_weights_from_before_its_own_update() -> None:
    weighting = started(GradientNormalization(), 3)
    first = make_step(3, 4, 0)
    assert_same_bits(directions(weighting, [first])[0], torch.ones(3).double() @ first.jacobian)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": -0.5}, "alpha must be at least 0, but is -0.5"),
        ({"lr": 0.0}, "lr must be above 0, but is 0.0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameters: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GradientNormalization(**parameters)
