"""Equal and hand-set weights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import Problem, assert_agrees, gradient_of, many_examples, problem, problems, step

from mtlbench.errors import UserError


@many_examples
@given(problems())
def test_equal_agrees_with_its_oracle(case: Problem) -> None:
    network = case.network()
    strategy = case.strategy("equal", network)
    for batch in case.batches:
        expected = gradient_of(sum(network.task_losses(batch)), network)
        assert_agrees(step(strategy, network, batch), expected)


@many_examples
@given(problems(steps=1), st.lists(st.floats(0, 100), min_size=4, max_size=4))
def test_static_agrees_with_its_oracle(case: Problem, values: list[float]) -> None:
    network, (batch,) = case.network(), case.batches
    weights = dict(zip(case.tasks, values, strict=False))
    strategy = case.strategy("static", network, static__weights=weights)
    objective = sum(
        w * loss for w, loss in zip(weights.values(), network.task_losses(batch), strict=True)
    )
    assert_agrees(step(strategy, network, batch), gradient_of(objective, network))


@many_examples
@given(problems(steps=1), st.integers(0, 9))
def test_single_agrees_with_its_oracle(case: Problem, number: int) -> None:
    network, (batch,) = case.network(), case.batches
    strategy = case.strategy("single", network)
    k = number % len(case.tasks)
    strategy.task.set_task(list(case.tasks)[k])
    mine = network.task_losses(batch)[k] + 0 * sum(network.task_losses(batch))
    assert_agrees(step(strategy, network, batch), gradient_of(mine, network))


def test_static_leaves_the_weight_of_a_task_that_is_not_named_at_one() -> None:
    case = problem()
    network, batch = case.network(), case.batches[0]
    strategy = case.strategy("static", network, static__weights="t1:0.25")
    first, second, third = network.task_losses(batch)
    expected = gradient_of(first + 0.25 * second + third, network)
    assert_agrees(step(strategy, network, batch), expected)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"t0": -1.0}, "weight of task 't0' must be at least 0, but is -1.0"),
        ({"t9": 1.0}, "weight names the unknown task 't9'; tasks: t0, t1, t2"),
    ],
)
def test_static_refuses_weights_that_do_not_fit_the_tasks(
    weights: dict[str, float], message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy("static", case.network(), static__weights=weights)
