"""GradDrop, against loops over the paper's equations and against TorchJD."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_gradients import (
    Step,
    all_steps,
    assert_step_without_labels_changes_nothing,
    directions,
    make_step,
    started,
)
from torchjd.aggregation import GradDrop
from toy import assert_agrees, assert_same_bits, many_examples

from mtlbench.strategies.graddrop import GradientSignDropout

leaks = st.sampled_from([0.0, 0.3, 1.0])


def direction_by_hand(step: Step, leak: float, chances: list[float]) -> list[float]:
    update = []
    for column, u in zip(step.jacobian.T.tolist(), chances, strict=True):
        magnitude = sum(abs(g) for g in column)
        purity = 0.5 * (1 + sum(column) / magnitude) if magnitude else 0.5
        total = 0.0
        for g in column:
            kept = (purity > u and g > 0) or (purity <= u and g < 0)
            total += (leak + (1 - leak) * kept) * g
        update.append(total)
    return update


@many_examples
@given(all_steps(), leaks)
def test_graddrop_agrees_with_its_oracle(steps: list[Step], leak: float) -> None:
    weighting = started(GradientSignDropout(leak), len(steps[0].losses), seed=7)
    chance = torch.Generator().manual_seed(7)
    for step, actual in zip(steps, directions(weighting, steps), strict=True):
        chances = torch.rand(len(actual), generator=chance, dtype=torch.float64).tolist()
        expected = direction_by_hand(step, leak, chances)
        assert_agrees(actual, torch.tensor(expected, dtype=torch.float64))


@many_examples
@given(all_steps(), leaks)
def test_it_moves_as_torchjd_does_with_the_same_draws(steps: list[Step], leak: float) -> None:
    tasks = len(steps[0].losses)
    actual = directions(started(GradientSignDropout(leak), tasks, seed=11), steps)
    aggregator = GradDrop(leak=torch.full((tasks,), leak, dtype=torch.float64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        assert_agrees(actual, torch.stack([aggregator(step.jacobian) for step in steps]))


@many_examples
@given(all_steps(complete=True))
def test_each_parameter_moves_by_the_gradients_of_one_sign(steps: list[Step]) -> None:
    actual = directions(started(GradientSignDropout(), len(steps[0].losses)), steps)
    for step, update in zip(steps, actual, strict=True):
        positive, negative = step.jacobian.clamp(min=0).sum(0), step.jacobian.clamp(max=0).sum(0)
        to_either = torch.minimum((update - positive).abs(), (update - negative).abs())
        assert (to_either <= 1e-12 * (positive - negative)).all()


def test_the_mean_of_many_updates_is_the_sum_of_the_gradients() -> None:
    count = 4000
    step = make_step(3, 6, seed=1)
    updates = directions(started(GradientSignDropout(), 3), [step] * count)
    error = (updates.mean(0) - step.jacobian.sum(0)).abs()
    assert (updates.std(0) > 0).any()
    # Five standard errors: passed by chance alone in all but one of a million.
    assert (error <= 5 * updates.std(0) / count**0.5 + 1e-12).all()


def test_a_full_leak_is_the_plain_sum() -> None:
    step = make_step(3, 6, seed=2)
    update = directions(started(GradientSignDropout(leak=1.0), 3), [step])[0]
    assert_agrees(update, step.jacobian.sum(0))


def test_a_task_without_a_label_changes_nothing_for_the_others() -> None:
    steps = [make_step(3, 6, n, [True, False, True]) for n in range(4)]
    others = [Step(s.jacobian[[0, 2]], s.losses[[0, 2]], s.present[[0, 2]]) for s in steps]
    assert_same_bits(
        directions(started(GradientSignDropout(), 3), steps),
        directions(started(GradientSignDropout(), 2), others),
    )


def test_a_step_without_any_label_does_not_move() -> None:
    assert_step_without_labels_changes_nothing(lambda _: started(GradientSignDropout(), 3))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    directions(started(GradientSignDropout(), 3), [make_step(3, 4, 0)])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("leak", [-0.1, 1.5])
def test_a_parameter_out_of_its_range_is_refused(leak: float) -> None:
    with pytest.raises(ValueError, match=f"leak must be from 0 to 1, but is {leak}"):
        GradientSignDropout(leak)
