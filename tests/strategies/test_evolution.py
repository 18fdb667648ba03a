"""Weights evolved by a population."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY_OPTIONS, here
from hypothesis import given
from hypothesis import strategies as st
from toy import Problem, assert_agrees, gradient_of, many_examples, problem, problems, step

from mtlbench.errors import UserError
from mtlbench.randomness import named_generator
from mtlbench.store.runs import Store, read_run
from mtlbench.strategies.base import Member
from mtlbench.strategies.evolution import Evolution

TASKS = ("left", "right", "offset")


def scaled(weights: list[float], factor: float, draws: torch.Generator) -> list[float]:
    """Weights times factor^u with u uniform in [−1, 1], rescaled to their number."""
    uniform = torch.rand(len(weights), generator=draws, dtype=torch.float64)
    changed = [w * factor ** (2 * float(u) - 1) for w, u in zip(weights, uniform, strict=True)]
    return [w * len(weights) / sum(changed) for w in changed]


def replayed(scores: list[list[float]], quantile: float) -> list[list[tuple[Any, list[float]]]]:
    """Parent and weights of each member of each generation, from the scores alone."""
    size, weights = len(scores[0]), [[1.0, 1.0, 1.0]]

    def draws(generation: int, member: int) -> torch.Generator:
        return named_generator("population", "digits", "ilt+evolution", 0, generation, member)

    weights += [scaled([1.0] * 3, 4.0, draws(1, member)) for member in range(1, size)]
    generations: list[list[tuple[Any, list[float]]]] = [[(None, w) for w in weights]]
    for generation, found in enumerate(scores[:-1], start=2):
        worst_first = sorted(range(size), key=lambda member: (found[member], member))
        count = math.ceil(quantile * size)
        worst, best = worst_first[:count], worst_first[-count:]
        after: list[tuple[Any, list[float]]] = []
        for member in range(size):
            if member not in worst:
                after.append((member, weights[member]))
                continue
            generator = draws(generation, member)
            parent = best[int(torch.randint(count, (), generator=generator))]
            after.append((parent, scaled(weights[parent], 1.5, generator)))
        generations.append(after)
        weights = [w for _, w in after]
    return generations


def test_evolution_agrees_with_its_oracle(
    train_here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--epochs", "3", "--strategies", "ilt+evolution", "--variants", "left@0.4"]
    for setting in ("population=5", "every=1", "quantile=0.4"):
        options += ["--set", f"evolution.{setting}"]
    command = ["run", "digits", *TINY_OPTIONS, *options, "--seeds", "1"]
    ended = here([*command, "--results", tmp_path], capsys)
    assert ended.status == 0, ended.err
    (path,) = Store(tmp_path).run_directories()
    run = read_run(path)
    generations = run.info["population"]["generations"]
    scores = [[member["score"] for member in generation] for generation in generations]
    expected = replayed(scores, 0.4)
    assert len(expected) == len(generations) == 3
    for generation, wanted in zip(generations, expected, strict=True):
        for member, (parent, weights) in zip(generation, wanted, strict=True):
            assert member["parent"] == parent
            # float64: the order of a sum and of products
            assert list(member["weights"].values()) == pytest.approx(weights, rel=1e-12)
            assert tuple(member["weights"]) == TASKS

    # The result is the best of the last generation: its weights are those of its ancestors.
    number = max(range(5), key=lambda member: scores[-1][member])
    for epoch in (2, 1, 0):
        weights = generations[epoch][number]["weights"]
        for task, weight in weights.items():
            # a mean over batches in float32
            assert run.history()[f"weight/{task}"][epoch] == pytest.approx(weight, rel=1e-5)
        number = generations[epoch][number]["parent"]
    instances = run.instance_parameters()
    assert instances is not None
    assert len(instances["log_variance"]) == 3


@many_examples
@given(problems(), st.lists(st.floats(0, 100), min_size=4, max_size=4))
def test_evolution_takes_the_weights_that_it_is_given(case: Problem, values: list[float]) -> None:
    network = case.network()
    strategy = case.strategy("evolution", network)
    weights = dict(zip(case.tasks, values, strict=False))
    for batch in case.batches:
        expected = gradient_of(sum(network.task_losses(batch)), network)
        assert_agrees(step(strategy, network, batch), expected)
        break
    strategy.task.set_weights(weights)
    batch = case.batches[-1]
    objective = sum(
        w * loss for w, loss in zip(weights.values(), network.task_losses(batch), strict=True)
    )
    assert_agrees(step(strategy, network, batch), gradient_of(objective, network))


def test_evolution_keeps_its_weights_in_its_state() -> None:
    case = problem()
    network = case.network()
    first, second = (case.strategy("evolution", network) for _ in range(2))
    first.task.set_weights({"t0": 0.5, "t2": 1.75})
    second.load_state_dict(first.state_dict())
    assert second.task.weights(torch.ones(3), torch.ones(3)).tolist() == [0.5, 1.0, 1.75]


@many_examples
@given(st.integers(0, 5), st.integers(0, 2**32), st.floats(1.01, 100), st.integers(1, 6))
def test_weights_sum_to_their_number_and_stay_within_the_factor(
    best: int, seed: int, factor: float, tasks: int
) -> None:
    stage = Evolution(population=6, factor=factor, spread=factor, quantile=0.5)

    def draws(generation: int, member: int) -> torch.Generator:
        return named_generator("test", seed, generation, member)

    names = tuple("abcdef"[:tasks])
    search = stage.generations(names, draws)
    first = next(search)
    second = search.send([float(number == best) for number in range(6)])
    assert first[0].weights == dict.fromkeys(names, 1.0)
    equal = Member(first[0].weights)
    assert second[best] == Member(first[best].weights, best)
    for before, after in [(equal, member) for member in first] + [
        (first[member.parent], member) for member in second if member.parent is not None
    ]:
        assert sum(after.weights.values()) == pytest.approx(tasks)
        ratios = [after.weights[task] / before.weights[task] for task in names]
        assert max(ratios) <= min(ratios) * factor**2 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"population": 1}, "population must be at least 2, but is 1"),
        ({"every": 0}, "every must be at least 1, but is 0"),
        ({"quantile": 0.0}, "quantile must be above 0 and at most 0.5, but is 0"),
        ({"quantile": 0.6}, "quantile must be above 0 and at most 0.5, but is 0.6"),
        ({"factor": 1.0}, "factor must be above 1, but is 1"),
        ({"spread": 0.5}, "spread must be above 1, but is 0.5"),
    ],
)
def test_evolution_refuses_what_is_out_of_range(setting: dict[str, Any], message: str) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy(
            "evolution", case.network(), **{f"evolution__{k}": v for k, v in setting.items()}
        )


def test_evolution_refuses_weights_of_an_unknown_task() -> None:
    case = problem()
    strategy = case.strategy("evolution", case.network())
    with pytest.raises(ValueError, match="weight names the unknown task 't9'"):
        strategy.task.set_weights({"t9": 1.0})
