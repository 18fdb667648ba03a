"""ExcessMTL, against loops over the paper's equations and against TorchJD."""

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
    assert_absent_task_keeps_its_state,
    assert_goes_on,
    assert_step_without_labels_changes_nothing,
    directions,
    make_step,
    setting,
    started,
)
from torchjd.aggregation import ExcessMTL
from toy import assert_agrees, many_examples

from mtlbench.strategies.excess import ExcessRisks
from mtlbench.strategies.fewer_passes import FewerPasses


def directions_by_hand(steps: list[Step], lr: float) -> list[list[float]]:
    tasks, size = steps[0].jacobian.shape
    squares = [[0.0] * size for _ in range(tasks)]
    weights, first = [1.0] * tasks, [math.nan] * tasks
    results = []
    for step in steps:
        here = [k for k in range(tasks) if step.present[k]]
        moving = [k for k in here if not math.isnan(first[k])]
        together, relative = sum(weights[k] for k in moving), {}
        for k in here:
            gradient = step.jacobian[k].tolist()
            squares[k] = [s + g * g for s, g in zip(squares[k], gradient, strict=True)]
            risk = sum(
                g * g / math.sqrt(s + 1e-7) for s, g in zip(squares[k], gradient, strict=True)
            )
            if k in moving:
                relative[k] = risk / first[k]
            else:
                first[k] = risk
        for k in moving:
            weights[k] *= math.exp(lr * relative[k])
        total = sum(weights[k] for k in moving)
        for k in moving:
            weights[k] *= together / total
        results.append(
            [sum(weights[k] * step.jacobian[k, p].item() for k in here) for p in range(size)]
        )
    return results


@many_examples
@given(all_steps(), st.floats(0.001, 1))
def test_excess_mtl_agrees_with_its_oracle(steps: list[Step], lr: float) -> None:
    weighting = started(ExcessRisks(lr), len(steps[0].losses))
    expected = torch.tensor(directions_by_hand(steps, lr), dtype=torch.float64)
    assert_agrees(directions(weighting, steps), expected)


@many_examples
@given(all_steps(complete=True), st.floats(0.001, 1))
def test_it_moves_as_torchjd_does_after_a_first_step(steps: list[Step], lr: float) -> None:
    """TorchJD's weights have the sum 1; there the first step is its whole time of warming up."""
    tasks = len(steps[0].losses)
    aggregator = ExcessMTL(lr, n_warmup_steps=1)
    expected = tasks * torch.stack([aggregator(step.jacobian) for step in steps])
    # TorchJD has 1e-7 beside the first risk, and what is divided by it goes into an exponent.
    torch.testing.assert_close(
        directions(started(ExcessRisks(lr), tasks), steps), expected, rtol=1e-3, atol=1e-3
    )


def test_a_task_that_stays_as_far_from_convergence_as_it_was_gets_more_weight() -> None:
    weighting = started(ExcessRisks(lr=0.1), 2)
    ones = torch.ones(2, dtype=torch.float64)
    steps = [
        Step(torch.tensor([[1.0, 0.0], [0.0, 0.5**n]]).double(), ones, torch.tensor([True, True]))
        for n in range(10)
    ]
    directions(weighting, steps)
    weights = weighting.get_buffer("log_weights").exp()
    assert weights[0] > 1 > weights[1]


def test_weights_do_not_overflow_where_a_first_risk_was_tiny() -> None:
    weighting = started(ExcessRisks(lr=1.0), 2)
    steps = [make_step(2, 4, n) for n in range(3)]
    steps[0].jacobian[0] *= 1e-8
    assert directions(weighting, steps).isfinite().all()
    assert weighting.get_buffer("log_weights").isfinite().all()


def test_the_weights_keep_their_sum_where_a_first_gradient_was_tiny() -> None:
    """In float32, where the logarithm of a weight would be 3e8 beside that of 3."""
    weighting = ExcessRisks()
    weighting.start(replace(setting(3), dtype=torch.float32))
    here = torch.tensor([True] * 3)
    for size in (1e-7, 1.0, 1.0):
        weighting.direction(size * (torch.eye(3)[:, :2] + 0.5), torch.ones(3), here)
        weights = weighting.get_buffer("log_weights").exp()
        assert float(weights.sum()) == pytest.approx(3, rel=1e-5)


def test_risks_of_gradients_too_large_for_float32_are_those_of_float64() -> None:
    single, double = ExcessRisks(), started(ExcessRisks(), 3)
    single.start(replace(setting(3), dtype=torch.float32))
    for number, size in enumerate((1.0, 1e30, 1e10, 1e25, 1e30)):
        each = make_step(3, 4, number)
        rows = (size * each.jacobian).float()
        update = single.direction(rows, each.losses.float(), each.present)
        expected = double.direction(rows.double(), each.losses, each.present)
        assert all(value.isfinite().all() for value in single.buffers())
        # The first risks are 1e30 times smaller than those that follow, a logarithm of up to 1e28.
        torch.testing.assert_close(update.double(), expected, rtol=1e-5, atol=1e-5 * size)


def test_a_task_without_a_gradient_at_first_waits_for_one() -> None:
    weighting = started(ExcessRisks(), 2)
    steps = [make_step(2, 4, n) for n in range(4)]
    steps[0].jacobian[1] = steps[1].jacobian[1] = 0
    assert directions(weighting, steps).isfinite().all()
    assert weighting.get_buffer("first_risk")[1] > 0


def test_a_task_without_a_label_keeps_its_state() -> None:
    assert_absent_task_keeps_its_state(lambda _: started(ExcessRisks(), 3))


def test_a_step_without_any_label_changes_nothing() -> None:
    assert_step_without_labels_changes_nothing(lambda _: started(ExcessRisks(), 3))


def test_a_restored_state_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Also its shape, which a fresh stage does not know."""
    steps = [make_step(3, 4, n, [True, n % 2 == 0, n % 3 > 0]) for n in range(8)]
    assert_goes_on(lambda _: started(ExcessRisks(), 3), steps, tmp_path / "state.safetensors")


def test_gradients_over_the_representation_are_refused() -> None:
    with pytest.raises(ValueError, match="on must be 'parameters', but is 'representation'"):
        FewerPasses(ExcessRisks(), on="representation")


def test_a_parameter_out_of_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lr must be above 0, but is 0\.0"):
        ExcessRisks(lr=0.0)
