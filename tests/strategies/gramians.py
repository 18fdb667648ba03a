"""Jacobians of task losses, plain and awkward, and strategies that weigh them by their Gramian."""

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtlbench.strategies.base import Setting, strategies
from mtlbench.strategies.gramian import GramianWeighting

Array = NDArray[np.float64]

PARAMETERS: dict[str, dict[str, float]] = {
    "mgda": {},
    "sdmgrad": {},
    "cagrad": {},
    "conicgrad": {},
    "upgrad": {"norm_eps": 0.0},  # below it there are no gradients to weigh
    "dualproj": {"norm_eps": 0.0},
    "nash-mtl": {},
    "fairgrad": {"alpha": 2.0},
    "pivrg": {},
    "imtl-g": {},
    "config": {},
    "aligned-mtl": {},
    "pcgrad": {},
    "gradvac": {},
}


def stage(
    name: str,
    tasks: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    **parameters: float,
) -> GramianWeighting:
    """The strategy of that name at the start of training on so many tasks."""
    built = strategies.get(name).cls(**parameters)
    assert isinstance(built, GramianWeighting)
    names = tuple(f"t{k}" for k in range(tasks))
    generator = torch.Generator().manual_seed(seed)
    cpu = torch.device("cpu")
    built.start(Setting(names, ("regression",) * tasks, 0, cpu, dtype, generator))
    return built


def weigh(strategy: GramianWeighting, jacobian: Array, present: list[bool] | None = None) -> Array:
    """The weights [K] for gradients [K, P]; rows of absent tasks count as 0."""
    here = torch.ones(len(jacobian), dtype=torch.bool) if present is None else torch.tensor(present)
    rows = torch.from_numpy(jacobian) * here[:, None]
    losses = torch.arange(1.0, 1 + len(rows), dtype=rows.dtype) * here
    return strategy.weights(rows @ rows.T, losses, here).numpy()


@st.composite
def jacobians(draw: st.DrawFn, *, min_tasks: int = 1, max_tasks: int = 6, spread: int = 3) -> Array:
    """Gradients [K, P] of lengths around 10^-spread to 10^spread, some of them zero, equal up to a
    factor or opposite, and dependent where P is below K."""
    tasks = draw(st.integers(min_tasks, max_tasks))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    rows = rng.standard_normal((tasks, draw(st.integers(1, 8))))
    rows += draw(st.sampled_from([0.0, 0.5, 2.0])) * rng.standard_normal(rows.shape[1])
    rows *= 10.0 ** rng.uniform(-spread, spread, (tasks, 1))
    for place in draw(st.lists(st.integers(0, tasks - 1), max_size=2)):
        rows[place] = draw(st.sampled_from([0.0, 1.0, -1.0, -2.0])) * rows[place - 1]
    return rows


@st.composite
def independent_jacobians(
    draw: st.DrawFn, *, min_tasks: int = 1, max_tasks: int = 6, spread: float = 1
) -> Array:
    """Gradients [K, P] whose cosines have a condition number below 1000."""
    tasks = draw(st.integers(min_tasks, max_tasks))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    shift = draw(st.sampled_from([0.0, 0.5, 1.0])) * rng.standard_normal(tasks + 4)
    while True:
        rows = rng.standard_normal((tasks, tasks + 4)) + shift
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        if np.linalg.cond(rows) ** 2 < 1000:
            return rows * 10.0 ** rng.uniform(-spread, spread, (tasks, 1))
