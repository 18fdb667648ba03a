"""PCGrad and GradVac, against loops over the gradients themselves, and TorchJD."""

import numpy as np
import pytest
import torch
from gramians import Array, jacobians, stage, weigh
from hypothesis import given
from hypothesis import strategies as st
from torchjd.aggregation import GradVac, PCGrad
from toy import many_examples, problem

from mtlbench.errors import UserError

several_batches = st.lists(st.integers(0, 2**31), min_size=1, max_size=4)


def batches(tasks: int, seeds: list[int]) -> list[Array]:
    """Gradients of several batches, with conflicts and without."""
    results = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        shift = rng.uniform(0, 1.5) * rng.standard_normal(7)
        rows = rng.standard_normal((tasks, 7)) + shift
        results.append(rows * 10.0 ** rng.uniform(-1, 1, (tasks, 1)))
    return results


def after_surgery(rows: Array, generator: torch.Generator) -> Array:
    """PCGrad's Algorithm 1, vector by vector."""
    total = np.zeros(rows.shape[1])
    for i, own in enumerate(rows):
        gradient = own.copy()
        for j in torch.randperm(len(rows), generator=generator).tolist():
            product = gradient @ rows[j]
            if i != j and product < 0:
                gradient -= product / (rows[j] @ rows[j]) * rows[j]
        total += gradient
    return total


def after_vaccination(
    rows: Array, targets: Array, beta: float, generator: torch.Generator
) -> Array:
    """GradVac's Algorithm 1, vector by vector; moves the targets."""
    total = np.zeros(rows.shape[1])
    for i, own in enumerate(rows):
        gradient = own.copy()
        others = [j for j in range(len(rows)) if j != i]
        for place in torch.randperm(len(others), generator=generator).tolist():
            j = others[place]
            length, other = np.linalg.norm(gradient), np.linalg.norm(rows[j])
            cosine, target = gradient @ rows[j] / (length * other), targets[i, j]
            if cosine < target:
                sine, target_sine = np.sqrt(1 - cosine**2), np.sqrt(1 - target**2)
                gradient = gradient + rows[j] * length * (target * sine - cosine * target_sine) / (
                    other * target_sine
                )
                assert gradient @ rows[j] / (np.linalg.norm(gradient) * other) == pytest.approx(
                    target, abs=1e-9
                )
            targets[i, j] = (1 - beta) * target + beta * cosine
        total += gradient
    return total


@many_examples
@given(st.integers(1, 6), several_batches)
def test_pcgrad_agrees_with_its_oracle(tasks: int, seeds: list[int]) -> None:
    strategy = stage("pcgrad", tasks, seed=3)
    generator = torch.Generator().manual_seed(3)
    for rows in batches(tasks, seeds):
        expected = after_surgery(rows, generator)
        np.testing.assert_allclose(weigh(strategy, rows) @ rows, expected, rtol=1e-9, atol=1e-9)


@many_examples
@given(st.integers(1, 6), several_batches, st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_gradvac_agrees_with_its_oracle(tasks: int, seeds: list[int], beta: float) -> None:
    strategy = stage("gradvac", tasks, seed=3, beta=beta)
    generator, targets = torch.Generator().manual_seed(3), np.zeros((tasks, tasks))
    for rows in batches(tasks, seeds):
        expected = after_vaccination(rows, targets, beta, generator)
        np.testing.assert_allclose(weigh(strategy, rows) @ rows, expected, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(strategy.get_buffer("targets"), targets, atol=1e-10)


@pytest.mark.parametrize(("name", "theirs"), [("pcgrad", PCGrad), ("gradvac", GradVac)])
@many_examples
@given(st.integers(2, 6), several_batches)
def test_the_generator_gives_what_the_global_one_gives_torchjd(
    name: str, theirs: type, tasks: int, seeds: list[int]
) -> None:
    strategy, aggregator = stage(name, tasks, seed=11), theirs()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        for rows in batches(tasks, seeds):
            expected = aggregator(torch.from_numpy(rows)).numpy()
            # TorchJD's GradVac adds 1e-8 to each length and sine that it divides by.
            np.testing.assert_allclose(weigh(strategy, rows) @ rows, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_gradients_that_agree_are_summed(name: str) -> None:
    rows = np.abs(np.random.default_rng(0).standard_normal((4, 6)))
    np.testing.assert_allclose(weigh(stage(name, 4), rows), np.ones(4))


def test_gradvac_before_it_knows_a_cosine_is_pcgrad_for_two_tasks() -> None:
    rows = np.array([[1.0, 0.5], [-2.0, 1.0]])
    vaccinated = weigh(stage("gradvac", 2), rows)
    np.testing.assert_allclose(vaccinated, weigh(stage("pcgrad", 2), rows), rtol=1e-12)


def test_gradvac_keeps_the_target_of_pairs_that_do_not_meet() -> None:
    strategy = stage("gradvac", 3)
    rows = np.array([[1.0, 0.5], [-2.0, 1.0], [0.0, 3.0]])
    weigh(strategy, rows)
    before = strategy.get_buffer("targets").clone()
    weigh(strategy, np.array([[1.0, 1.0], [5.0, 0.0], [-3.0, 2.0]]), [True, False, True])
    weigh(strategy, rows * [[1], [0], [0]])  # gradients of zero have no cosine
    changed = strategy.get_buffer("targets") != before
    assert changed.tolist() == [[False, False, True], [False, False, False], [True, False, False]]


@many_examples
@given(jacobians(min_tasks=2), st.integers(1, 60))
def test_gradvac_never_lengthens_a_gradient_without_bound(rows: Array, times: int) -> None:
    """Targets near 1 after many equal gradients, and then others."""
    strategy = stage("gradvac", len(rows), beta=0.9)
    for _ in range(times):
        weigh(strategy, np.ones((len(rows), rows.shape[1])))
    lengths = np.linalg.norm(rows, axis=1)
    weights = weigh(strategy, rows)
    # Each of up to five corrections makes a gradient at most 71 times as long, plus itself.
    assert np.linalg.norm(weights @ rows) <= len(rows) * lengths.max() * 142.0 ** (len(rows) - 1)


@pytest.mark.filterwarnings("error")
def test_gradvac_of_pairs_that_were_always_opposite_stays_a_sum() -> None:
    """The target comes to −1, below which there is no cosine."""
    strategy, rows = stage("gradvac", 2), np.array([[1.0, 0.0], [-2.0, 0.0]])
    strategy.get_buffer("targets").fill_(-1.0)
    np.testing.assert_allclose(weigh(strategy, rows), np.ones(2))
    np.testing.assert_allclose(strategy.get_buffer("targets"), [[-1, -1], [-1, -1]])
    np.testing.assert_allclose(weigh(strategy, np.array([[1.0, 0.0], [-1.0, 1.0]])), np.ones(2))


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_parameter_out_of_its_range_is_refused(value: float) -> None:
    case = problem()
    message = f"beta must be at least 0 and at most 1, but is {value}"
    with pytest.raises(UserError, match=message):
        case.strategy("gradvac", case.network(), gradvac__beta=value)
