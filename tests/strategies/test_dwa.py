"""Dynamic weight average, against the equation in NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import Problem, assert_agrees, gradient_of, many_examples, problem, problems, step

from mtlbench.errors import UserError

EPOCHS, STEPS = 5, 2


def weights_by_hand(history: list[np.ndarray], temperature: float, tasks: int) -> np.ndarray:
    ratio = np.ones(tasks)
    if len(history) >= 2:
        ratio = history[-1] / history[-2]
        ratio[np.isnan(ratio)] = 1
    power = np.exp(ratio / temperature - np.max(ratio / temperature))
    return tasks * power / power.sum()


@many_examples
@given(
    problems(steps=EPOCHS * STEPS),
    st.floats(0.2, 5),
    st.lists(st.floats(0, 10), min_size=4, max_size=4),
    st.sets(st.tuples(st.integers(0, EPOCHS - 1), st.integers(0, 3)), max_size=3),
)
def test_dwa_agrees_with_its_oracle(
    case: Problem, temperature: float, scales: list[float], unlabelled: set[tuple[int, int]]
) -> None:
    tasks = len(case.kinds)
    network = case.network()
    strategy = case.strategy(
        "dwa",
        network,
        dwa__temperature=temperature,
        dwa__scales=dict(zip(case.tasks, scales, strict=False)),
    )
    history: list[np.ndarray] = []
    for epoch in range(EPOCHS):
        expected = np.array(scales[:tasks]) * weights_by_hand(history, temperature, tasks)
        totals, counts = np.zeros(tasks), np.zeros(tasks)
        for batch in case.batches[epoch * STEPS : (epoch + 1) * STEPS]:
            for k in range(tasks):
                if (epoch, k) in unlabelled:
                    batch.present[:, k] = False
            losses = network.task_losses(batch)
            objective = sum(w * loss for w, loss in zip(expected, losses, strict=True))
            assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
            counts += batch.present.sum(0).numpy()
            totals += batch.present.sum(0).numpy() * np.array([x.item() for x in losses])
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter *= 0.9
        strategy.end_epoch()
        history.append(np.array([t / n if n else math.nan for t, n in zip(totals, counts)]))  # noqa: B905 (both [K])


def test_a_task_whose_loss_was_zero_does_not_break_the_weights() -> None:
    case = problem(tasks=2)
    stage = case.strategy("dwa", case.network()).task
    for losses in ([0.0, 1.0], [0.5, 1.0]):
        stage.end_epoch(torch.tensor(losses, dtype=torch.float64), {})
    weights = stage.weights(torch.ones(2, dtype=torch.float64), torch.tensor([True, True]))
    assert weights.isfinite().all()


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("dwa__temperature", 0, "temperature must be above 0, but is 0.0"),
        ("dwa__temperature", -2, "temperature must be above 0, but is -2.0"),
        ("dwa__scales", {"t7": 1.0}, "scale names the unknown task 't7'; tasks: t0, t1, t2"),
        ("dwa__scales", "t0:-1", "scale of task 't0' must be at least 0, but is -1.0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameter: str, value: object, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy("dwa", case.network(), **{parameter: value})
