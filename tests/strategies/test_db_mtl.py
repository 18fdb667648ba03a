"""DB-MTL, against loops over the paper's Algorithm 1."""

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
from toy import assert_agrees, many_examples

from mtlbench.strategies.db_mtl import DualBalancing
from mtlbench.strategies.fewer_passes import FewerPasses


def directions_by_hand(steps: list[Step], beta: float, beta_sigma: float) -> list[list[float]]:
    tasks, size = steps[0].jacobian.shape
    averages, labelled = [[0.0] * size for _ in range(tasks)], [0] * tasks
    results = []
    for step in steps:
        here = [k for k in range(tasks) if step.present[k]]
        for k in here:
            labelled[k] += 1
            kept = beta / labelled[k] ** beta_sigma
            for p in range(size):
                of_logarithm = step.jacobian[k, p].item() / (step.losses[k].item() + 1e-8)
                averages[k][p] = kept * averages[k][p] + (1 - kept) * of_logarithm
        lengths = {k: math.sqrt(sum(g * g for g in averages[k])) for k in here}
        results.append(
            [
                sum(max(lengths.values()) * averages[k][p] / (lengths[k] + 1e-8) for k in here)
                for p in range(size)
            ]
        )
    return results


@many_examples
@given(all_steps(), st.floats(0, 0.99), st.floats(0, 1))
def test_db_mtl_agrees_with_its_oracle(steps: list[Step], beta: float, beta_sigma: float) -> None:
    weighting = started(DualBalancing(beta, beta_sigma), len(steps[0].losses))
    expected = torch.tensor(directions_by_hand(steps, beta, beta_sigma), dtype=torch.float64)
    assert_agrees(directions(weighting, steps), expected)


@many_examples
@given(all_steps(complete=True), st.lists(st.floats(0.01, 100), min_size=4, max_size=4))
def test_the_scales_of_the_losses_do_not_matter(steps: list[Step], scales: list[float]) -> None:
    tasks = len(steps[0].losses)
    factor = torch.tensor(scales[:tasks], dtype=torch.float64)
    scaled = [Step(s.jacobian * factor[:, None], s.losses * factor, s.present) for s in steps]
    # Losses are at least 1e-3 here, beside which the ε of the logarithm is 1e-5.
    torch.testing.assert_close(
        directions(started(DualBalancing(), tasks), scaled),
        directions(started(DualBalancing(), tasks), steps),
        rtol=1e-4,
        atol=1e-4,
    )


def test_all_tasks_have_the_length_of_the_longest_gradient() -> None:
    weighting = started(DualBalancing(beta=0.0), 3)
    lengths = torch.tensor([3.0, 0.2, 1.0], dtype=torch.float64)
    step = Step(lengths.diag(), torch.ones(3, dtype=torch.float64), torch.tensor([True] * 3))
    torch.testing.assert_close(
        directions(weighting, [step])[0], torch.full((3,), 3.0).double(), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e30])
def test_lengths_do_not_overflow_in_float32(size: float) -> None:
    weighting = DualBalancing(beta=0.0)
    weighting.start(replace(setting(3), dtype=torch.float32))
    rows = torch.tensor([size, 1e-30, 1.0]).diag()
    update = weighting.direction(rows, torch.ones(3), torch.tensor([True] * 3))
    longest = max(size, 1.0)
    expected = longest * torch.tensor([size / (size + 1e-8), 1e-22, 1.0])
    torch.testing.assert_close(update, expected, rtol=1e-5, atol=0)


def test_a_task_without_a_label_keeps_its_state() -> None:
    assert_absent_task_keeps_its_state(lambda _: started(DualBalancing(0.9, 0.5), 3))


def test_a_step_without_any_label_changes_nothing() -> None:
    assert_step_without_labels_changes_nothing(lambda _: started(DualBalancing(), 3))


def test_a_restored_state_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Also its shape, which a fresh stage does not know."""
    steps = [make_step(3, 4, n, [True, n % 2 == 0, n % 3 > 0]) for n in range(8)]
    assert_goes_on(
        lambda _: started(DualBalancing(0.9, 0.5), 3), steps, tmp_path / "state.safetensors"
    )


def test_gradients_over_the_representation_are_refused() -> None:
    with pytest.raises(ValueError, match="on must be 'parameters', but is 'representation'"):
        FewerPasses(DualBalancing(), on="representation")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"beta": 1.0}, "beta must be at least 0 and below 1, but is 1.0"),
        ({"beta": -0.1}, "beta must be at least 0 and below 1, but is -0.1"),
        ({"beta_sigma": -1.0}, "beta_sigma must be at least 0, but is -1.0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameters: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DualBalancing(**parameters)
