"""Dynamic task priority, against the equations written out for one task after another."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import (
    Problem,
    assert_agrees,
    assert_same_bits,
    gradient_of,
    many_examples,
    problem,
    problems,
    step,
)

from mtlbench.errors import UserError

EPOCHS, STEPS = 4, 2


def focal(kpi: float, gamma: float) -> float:
    kpi = max(kpi, 0.01)
    return -((1 - kpi) ** gamma) * math.log(kpi)


@many_examples
@given(
    problems(steps=EPOCHS * STEPS),
    st.floats(0, 5),
    st.floats(0.05, 1),
    st.lists(st.floats(0, 100), min_size=EPOCHS, max_size=EPOCHS),
)
def test_dtp_agrees_with_its_oracle(
    case: Problem, gamma: float, alpha: float, scores: list[float]
) -> None:
    """The first task has an accuracy, the others none."""
    tasks = len(case.kinds)
    network = case.network()
    strategy = case.strategy("dtp", network, dtp__gamma=gamma, dtp__alpha=alpha)
    kpi: dict[int, float] = {}
    for epoch in range(EPOCHS):
        totals, counts = [0.0] * tasks, [0] * tasks
        weights = [focal(kpi[k], gamma) if k in kpi else 1.0 for k in range(tasks)]
        for batch in case.batches[epoch * STEPS : (epoch + 1) * STEPS]:
            losses = network.task_losses(batch)
            objective = sum(w * loss for w, loss in zip(weights, losses, strict=True))
            assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
            for k, loss in enumerate(losses):
                count = int(batch.present[:, k].sum())
                totals[k] += count * loss.item()
                counts[k] += count
        strategy.end_epoch({"t0/accuracy": scores[epoch], "t0/abs_err": 3.0})
        for k in range(tasks):
            if k == 0:
                now = scores[epoch] / 100
            elif counts[k]:
                now = math.exp(-totals[k] / counts[k])
            else:
                continue
            kpi[k] = alpha * now + (1 - alpha) * kpi[k] if k in kpi else now


def weighting(tasks: int = 2, **parameters: object) -> torch.nn.Module:
    case = problem(tasks=tasks)
    return case.strategy("dtp", case.network(), **parameters).task


ONES, BOTH = torch.ones(2, dtype=torch.float64), torch.tensor([True, True])


@many_examples
@given(st.floats(0, 5), st.floats(0, 100), st.floats(0, 100))
def test_the_task_that_is_done_less_well_has_no_less_weight(
    gamma: float, first: float, second: float
) -> None:
    stage = weighting(dtp__gamma=gamma)
    stage.end_epoch(ONES, {"t0/accuracy": first, "t1/accuracy": second})
    left, right = stage.weights(ONES, BOTH).tolist()
    assert (left - right) * (first - second) <= 0


def test_a_mean_iou_counts_more_than_an_accuracy_and_a_score_more_than_the_loss() -> None:
    stage = weighting(dtp__gamma=2)
    stage.end_epoch(
        ONES, {"t0/pixel_accuracy": 90.0, "t0/miou": 40.0, "t1/rel_err": 20.0, "other/miou": 1.0}
    )
    expected = [focal(0.4, 2), focal(math.exp(-1), 2)]
    assert_agrees(stage.weights(ONES, BOTH), torch.tensor(expected, dtype=torch.float64))


def test_a_task_that_fails_has_a_finite_weight_and_a_perfect_one_none() -> None:
    stage = weighting()
    stage.end_epoch(ONES, {"t0/accuracy": 0.0, "t1/accuracy": 100.0})
    weights = stage.weights(ONES, BOTH)
    assert_agrees(weights, torch.tensor([-0.99 * math.log(0.01), 0], dtype=torch.float64))


def test_an_epoch_without_a_label_leaves_the_indicator_of_a_task_as_it_is() -> None:
    stage = weighting()
    stage.end_epoch(ONES, {})
    before = stage.weights(ONES, BOTH)
    stage.end_epoch(torch.tensor([float("nan"), 3.0], dtype=torch.float64), {})
    after = stage.weights(ONES, BOTH)
    assert after[0] == before[0]
    assert after[1] > before[1]
    assert stage.weights(ONES, torch.tensor([False, False])).tolist() == [0, 0]


def test_the_indicators_survive_saving() -> None:
    stage, other = weighting(), weighting()
    stage.end_epoch(ONES, {"t0/accuracy": 80.0})
    other.load_state_dict(stage.state_dict())
    for one in (stage, other):
        one.end_epoch(2 * ONES, {"t0/accuracy": 60.0})
    assert_same_bits(other.weights(ONES, BOTH), stage.weights(ONES, BOTH))
    expected = focal(0.9 * 0.6 + 0.1 * 0.8, 1)
    assert other.weights(ONES, BOTH)[0].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("dtp__gamma", -1, "gamma must be at least 0, but is -1.0"),
        ("dtp__alpha", 0, "alpha must be above 0 and at most 1, but is 0.0"),
        ("dtp__alpha", 1.5, "alpha must be above 0 and at most 1, but is 1.5"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameter: str, value: float, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy("dtp", case.network(), **{parameter: value})
