"""Gradients of tasks without a network: steps to hand to a gradient weighting."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from hypothesis import strategies as st
from torch import Tensor
from toy import assert_same_bits

from mtlbench.strategies import GradientWeighting, Setting
from mtlbench.strategies.base import KINDS
from mtlbench.training.checkpoint import load_tree, save_tree


@dataclass(frozen=True)
class Step:
    """The Jacobian [K, P], losses [K] and which tasks have a label [K] of one batch."""

    jacobian: Tensor
    losses: Tensor
    present: Tensor

    @property
    def gramian(self) -> Tensor:
        return self.jacobian @ self.jacobian.T


def setting(tasks: int, seed: int = 0) -> Setting:
    return Setting(
        tuple(f"t{k}" for k in range(tasks)),
        tuple(KINDS[k % 2] for k in range(tasks)),
        0,
        torch.device("cpu"),
        torch.float64,
        torch.Generator().manual_seed(seed),
    )


def started(weighting: GradientWeighting, tasks: int, seed: int = 0) -> GradientWeighting:
    weighting.start(setting(tasks, seed))
    return weighting


def make_step(tasks: int, size: int, seed: int, present: list[bool] | None = None) -> Step:
    """Gradients and losses of lengths from 1/10 to 10; 0 where a label is absent."""
    chance = torch.Generator().manual_seed(seed)

    def scale() -> Tensor:
        return 10 ** (2 * torch.rand(tasks, generator=chance, dtype=torch.float64) - 1)

    jacobian = torch.randn(tasks, size, generator=chance, dtype=torch.float64) * scale()[:, None]
    here = torch.tensor([True] * tasks if present is None else present)
    return Step(torch.where(here[:, None], jacobian, 0), torch.where(here, scale(), 0), here)


@st.composite
def all_steps(
    draw: st.DrawFn, *, min_tasks: int = 1, count: int = 6, complete: bool = False
) -> list[Step]:
    """Some steps of one problem, any labels missing unless they are to be complete."""
    tasks, size = draw(st.integers(min_tasks, 4)), draw(st.integers(1, 5))
    seed = draw(st.integers(0, 2**31))
    flags = st.just(True) if complete else st.booleans()
    rows = draw(st.lists(st.lists(flags, min_size=tasks, max_size=tasks), min_size=count))
    return [make_step(tasks, size, seed + n, row) for n, row in enumerate(rows[:count])]


def directions(weighting: GradientWeighting, steps: list[Step]) -> Tensor:
    """The update of each step [steps, P]: the direction, or the weighted sum."""
    results = []
    with torch.no_grad():
        for step in steps:
            if weighting.gives_direction:
                result = weighting.direction(step.jacobian, step.losses, step.present)
            else:
                weights = weighting.weights(step.gramian, step.losses, step.present)
                result = torch.where(step.present, weights, 0) @ step.jacobian
            results.append(result)
    return torch.stack(results)


def assert_goes_on(make: Callable[[int], GradientWeighting], steps: list[Step], path: Path) -> None:
    """That one which is given the saved state of another before its first step goes on with the
    same bits. `make` takes the seed of the generator, which the state does not hold."""
    half = len(steps) // 2
    one = make(3)
    directions(one, steps[:half])
    save_tree(path, dict(one.state_dict()))
    other = make(4)
    other.load_state_dict(load_tree(path))
    assert_same_bits(directions(other, steps[half:]), directions(one, steps[half:]))
    final, expected = other.state_dict(), one.state_dict()
    assert final.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, Tensor):
            assert_same_bits(final[key], value)


def assert_absent_task_keeps_its_state(make: Callable[[int], GradientWeighting]) -> None:
    """That a batch without a label of the last of three tasks moves only what is the others'."""
    weighting = make(3)
    directions(weighting, [make_step(3, 4, 0)])
    before = {k: v.clone() for k, v in weighting.state_dict().items() if isinstance(v, Tensor)}
    directions(weighting, [make_step(3, 4, 1, [True, True, False])])
    moved = False
    for key, value in before.items():
        if value.shape[:1] == (3,):
            after = weighting.state_dict()[key]
            assert_same_bits(after[2], value[2])
            moved |= not torch.equal(after[:2], value[:2])
    assert moved


def assert_step_without_labels_changes_nothing(make: Callable[[int], GradientWeighting]) -> None:
    weighting = make(3)
    directions(weighting, [make_step(3, 4, 0)])
    before = {k: v.clone() for k, v in weighting.state_dict().items() if isinstance(v, Tensor)}
    nothing = directions(weighting, [make_step(3, 4, 1, [False] * 3)])
    assert_same_bits(nothing, torch.zeros_like(nothing))
    for key, value in before.items():
        assert_same_bits(weighting.state_dict()[key], value)
