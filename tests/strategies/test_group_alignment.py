"""Weights that groups of tasks share, against K-means by trying every grouping."""

import math
from itertools import combinations, pairwise, product

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


def best_groups(values: list[float], groups: int) -> list[float]:
    """The mean of each value's group, in the grouping with the smallest sum of squares."""
    best = (math.inf, values)
    for labels in product(range(groups), repeat=len(values)):
        sums: dict[int, list[float]] = {}
        for label, value in zip(labels, values, strict=True):
            sums.setdefault(label, []).append(value)
        means = [math.fsum(sums[label]) / len(sums[label]) for label in labels]
        squares = math.fsum((v - m) ** 2 for v, m in zip(values, means, strict=True))
        best = min(best, (squares, means), key=lambda pair: pair[0])
    return best[1]


@many_examples
@given(problems(steps=4, spread=1), st.integers(1, 3), st.floats(0, 0.1))
def test_go4align_agrees_with_its_oracle(case: Problem, groups: int, step_size: float) -> None:
    tasks = len(case.kinds)
    network = case.network()
    strategy = case.strategy(
        "go4align", network, go4align__groups=groups, go4align__step_size=step_size
    )
    indicator = [1 / tasks] * tasks
    for batch in case.batches:
        losses = network.task_losses(batch)
        here = [k for k in range(tasks) if batch.present[:, k].any()]
        for k in here:
            indicator[k] *= math.exp(-step_size * losses[k].item())
        total = sum(indicator[k] for k in here)
        sum_of_losses = sum(losses[k].item() for k in here)
        scaled = [indicator[k] / total * sum_of_losses / losses[k].item() for k in here]
        objective = 0 * losses[0]
        for k, weight in zip(here, best_groups(scaled, groups), strict=True):
            objective = objective + weight * losses[k]
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))


def weighting(tasks: int = 3, **parameters: object) -> torch.nn.Module:
    case = problem(tasks=tasks)
    return case.strategy("go4align", case.network(), **parameters).task


def test_tasks_with_losses_of_one_size_share_a_weight() -> None:
    losses = torch.tensor([2.0, 0.1, 2.1, 0.11], dtype=torch.float64)
    weights = weighting(tasks=4).weights(losses, torch.tensor([True] * 4))
    assert weights[0] == weights[2]
    assert weights[1] == weights[3]
    assert weights[1] > 10 * weights[0]


def test_one_group_for_each_task_brings_all_losses_to_one_size_at_first() -> None:
    losses = torch.tensor([2.0, 0.1, 30.0], dtype=torch.float64)
    stage = weighting(go4align__groups=9, go4align__step_size=0)
    weights = stage.weights(losses, torch.tensor([True] * 3))
    assert_agrees(weights * losses, torch.full((3,), losses.sum() / 3, dtype=torch.float64))


def test_a_task_without_a_label_or_without_a_loss_leaves_the_others_alone() -> None:
    stage, pair = weighting(), weighting(tasks=2)
    losses = torch.tensor([2.0, 0.0, 30.0], dtype=torch.float64)
    for present in ([True, False, True], [True, True, True]):
        weights = stage.weights(losses, torch.tensor(present))
        assert_agrees(weights[[0, 2]], pair.weights(losses[[0, 2]], torch.tensor([True, True])))
        assert weights[1] == 0
    assert stage.weights(0 * losses, torch.tensor([False] * 3)).tolist() == [0, 0, 0]


@many_examples
@given(st.lists(st.floats(0.1, 10), min_size=12, max_size=12), st.integers(1, 12))
def test_many_tasks_are_grouped_as_by_every_cut_of_the_sorted_numbers(
    values: list[float], groups: int
) -> None:
    stage = weighting(tasks=12, go4align__groups=groups, go4align__step_size=0)
    losses = torch.tensor(values, dtype=torch.float64)
    weights = stage.weights(losses, torch.tensor([True] * 12))
    scaled = sorted((losses.sum() / losses / 12).tolist())
    least = min(
        sum(squares(scaled[i:j]) for i, j in pairwise([0, *cut, 12]))
        for cut in combinations(range(1, 12), groups - 1)
    )
    ordered = weights.sort().values
    runs = ordered.unique_consecutive(return_counts=True)[1].tolist()
    found = sum(
        squares(run.tolist()) for run in torch.tensor(scaled, dtype=torch.float64).split(runs)
    )
    assert len(runs) <= groups
    assert found <= least + 1e-9 * sum(value**2 for value in scaled)
    assert_agrees(ordered.sum(), losses.sum() * (1 / losses).sum() / 12)


def squares(values: list[float]) -> float:
    """Σ (x − mean)²."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)


def test_many_tasks_in_many_groups_take_no_longer_to_start_than_few() -> None:
    """There are 82,251 ways to cut 40 places into 5 groups."""
    stage = weighting(tasks=40, go4align__groups=5)
    assert sum(value.numel() for value in stage.buffers()) == 40
    weights = stage.weights(torch.linspace(1, 9, 40).double(), torch.tensor([True] * 40))
    assert len(weights.unique()) == 5


def test_the_indicators_survive_saving() -> None:
    losses, present = torch.tensor([2.0, 0.1, 30.0], dtype=torch.float64), torch.tensor([True] * 3)
    stage, other = (weighting(go4align__step_size=0.1) for _ in range(2))
    stage.weights(losses, present)
    other.load_state_dict(stage.state_dict())
    assert_same_bits(other.weights(losses, present), stage.weights(losses, present))


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("go4align__groups", 0, "groups must be at least 1, but is 0"),
        ("go4align__step_size", -1, "step_size must be at least 0, but is -1.0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameter: str, value: float, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy("go4align", case.network(), **{parameter: value})
