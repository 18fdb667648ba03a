"""Every strategy on gradients at the edge of what there is: opposite, equal, zero, tiny, huge.

The losses are linear in the shared parameters θ, which stay at 0: L_k + ⟨J_k, θ⟩ has the gradient
J_k and the value L_k. Each task has a head of its own beside.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from gramians import Array, jacobians
from hypothesis import given
from torch import Tensor, nn
from toy import many_examples

from mtlbench.strategies import GradientWeighting, Strategy
from mtlbench.strategies.base import KINDS, strategies
from mtlbench.strategies.compose import build_strategy

NAMES = [
    entry.name
    for entry in strategies.entries()
    if entry.cls.__module__.startswith("mtlbench.strategies.")
    and not getattr(entry.cls, "needs_representation", False)  # there is none
]
DTYPES = [torch.float32, torch.float64]
SIZE = 12
INSTANCES = 4
STEPS = 4
PATIENCE_SECONDS = 60.0

every_strategy = pytest.mark.parametrize("name", NAMES)
every_precision = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


def has_weights_of_gradients(name: str) -> bool:
    cls = strategies.get(name).cls
    return issubclass(cls, GradientWeighting) and not cls().gives_direction


# --- how long an update can be ---


class Seen:
    """The past of K tasks as a strategy sees it: lengths of their gradients, and losses."""

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks
        self.lengths, self.past = np.zeros(tasks), np.zeros(tasks)
        self.losses = [math.inf, 0.0]

    def see(self, rows: Array, losses: Tensor) -> None:
        self.lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        self.past = np.maximum(self.past, self.lengths)
        self.losses = [
            min(self.losses[0], float(losses.min())),
            max(self.losses[1], float(losses.max())),
        ]

    @property
    def all(self) -> float:
        """Σ_k ‖g_k‖."""
        return float(self.lengths.sum())

    @property
    def longest(self) -> float:
        """max_k ‖g_k‖."""
        return float(self.lengths.max())

    @property
    def ratio(self) -> float:
        """The largest loss over the smallest."""
        return self.losses[1] / self.losses[0]


Bound = Callable[[Seen], float]


def at_most_one(seen: Seen) -> float:
    """Weights of at most 1, or gradients that are made shorter, or cut to that length."""
    return seen.all


def sum_is_one(seen: Seen) -> float:
    """A convex combination of the gradients."""
    return seen.longest


def sum_is_number_of_tasks(seen: Seen) -> float:
    """Weights above 0 that sum to K."""
    return seen.tasks * seen.longest


def learned(seen: Seen) -> float:
    """Weights that begin at 1 at most and do not double in a few steps."""
    return 2 * seen.all


def inverse_losses(seen: Seen) -> float:
    """Weights of 1 / L."""
    return seen.all / seen.losses[0]


def root_of_number_of_tasks(seen: Seen) -> float:
    """G α = 1 / α, hence ‖Jᵀ α‖² = αᵀ G α = K."""
    return math.sqrt(seen.tasks)


BOUNDS: dict[str, Bound] = {
    "equal": at_most_one,
    "static": at_most_one,
    "single": at_most_one,
    "evolution": at_most_one,
    "mtu": learned,
    "ruw": learned,
    "imtl-l": learned,
    "ldc-mtl": at_most_one,  # σ / Σ σ + 2 penalty σ, and 1 for a task alone
    "auto-lambda": at_most_one,  # λ begins at 0.1
    "dwa": sum_is_number_of_tasks,
    "rlw": sum_is_number_of_tasks,
    "uw-so": sum_is_number_of_tasks,
    "famo": sum_is_one,
    "log": inverse_losses,
    "uw-o": inverse_losses,
    "stch": lambda seen: seen.tasks * seen.longest / seen.losses[0],  # K softmax / L
    "gls": lambda seen: seen.ratio * seen.all / seen.tasks,  # the mean of the losses over K L
    "tch": sum_is_one,
    "dtp": lambda seen: -math.log(0.01) * seen.all,  # − log κ, which is at least 0.01
    "go4align": lambda seen: seen.tasks * seen.ratio * seen.all,  # a mean of p Σ L / L_k
    "ilt": lambda seen: math.exp(4) * seen.all,  # e^(−s), and s is at least −4
    "data-parameters": at_most_one,
    "robust": at_most_one,
    "elr": at_most_one,  # without outputs, no penalty
    "l2rw": at_most_one,  # a convex combination of the gradients of each task
    "slgrad": sum_is_number_of_tasks,
    "mw-net": at_most_one,
    "trim": lambda seen: INSTANCES / (0.8 * INSTANCES) * seen.all,
    "self-paced": at_most_one,
    "mgda": sum_is_one,
    "sdmgrad": sum_is_one,
    "cagrad": lambda seen: 1.4 * seen.all / seen.tasks,  # (1 + c) ‖g_0‖
    "conicgrad": lambda seen: seen.all / seen.tasks,  # ‖g_0‖
    "upgrad": at_most_one,
    "dualproj": at_most_one,
    "nash-mtl": lambda seen: 1.0,  # max_norm
    "pivrg": lambda seen: 1.0,
    "fairgrad": root_of_number_of_tasks,
    "imtl-g": at_most_one,
    "config": at_most_one,
    # rows of length σ_min or 0, which are orthogonal: √K σ_min
    "aligned-mtl": lambda seen: math.sqrt(seen.tasks) * float(np.linalg.norm(seen.lengths)),
    "samo": at_most_one,
    "pcgrad": at_most_one,
    # g_i is at most 1 / √(1 − φ̂²) times as long after each meeting, and φ̂ at most 1 − 0.5^n
    "gradvac": lambda seen: seen.all * (1 - (1 - 0.5**STEPS) ** 2) ** (-0.5 * (seen.tasks - 1)),
    "gradnorm": sum_is_number_of_tasks,
    "graddrop": at_most_one,
    "moco": lambda seen: seen.losses[1],  # a convex combination of averages of L g / ‖g‖
    "modo": sum_is_one,
    "db-mtl": lambda seen: seen.tasks * float(seen.past.max()) / seen.losses[0],  # of ∇ log L
    "excess-mtl": sum_is_number_of_tasks,
}

ROUNDING = 1.01
"""Factor by which an update may be longer than its bound."""


def longest_update(name: str, seen: Seen) -> float:
    """The bound; what a single task reaches takes that task's own gradient."""
    bound = BOUNDS[name](seen)
    return max(bound, seen.all) if seen.tasks == 1 else bound


def test_every_strategy_has_a_bound() -> None:
    assert sorted(BOUNDS) == sorted(NAMES)


# --- gradients ---


def spread_out(tasks: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((tasks, SIZE))


def opposite(tasks: int, seed: int) -> Array:
    return np.outer((-1.0) ** np.arange(tasks), spread_out(1, seed))


def with_one_of_zero(tasks: int, seed: int) -> Array:
    rows = spread_out(tasks, seed)
    rows[seed % tasks] = 0
    return rows


def that_sum_to_zero(tasks: int, seed: int) -> Array:
    rows = spread_out(tasks, seed)
    rows[-1] = -rows[:-1].sum(0)
    return rows


def of_rank_one(tasks: int, seed: int) -> Array:
    return np.outer(spread_out(tasks, seed)[:, 0], spread_out(1, seed + 1))


def of_many_sizes(exponent: float) -> Callable[[int, int], Array]:
    def rows(tasks: int, seed: int) -> Array:
        sizes = np.random.default_rng(seed).uniform(-exponent, exponent, (tasks, 1))
        return spread_out(tasks, seed) * 10.0**sizes

    return rows


def times(factor: float, rows: Callable[[int, int], Array]) -> Callable[[int, int], Array]:
    return lambda tasks, seed: factor * rows(tasks, seed)


GRADIENTS: dict[str, Callable[[int, int], Array]] = {
    "spread out": spread_out,
    "opposite": opposite,
    "opposite, 1.001 times as long": lambda tasks, seed: (
        opposite(tasks, seed) * 1.001 ** np.arange(tasks)[:, None]
    ),
    "nearly opposite": lambda tasks, seed: opposite(tasks, seed) + 1e-4 * spread_out(tasks, seed),
    "nearly opposite within rounding": lambda tasks, seed: (
        opposite(tasks, seed) + 1e-7 * spread_out(tasks, seed)
    ),
    "equal": lambda tasks, seed: np.repeat(spread_out(1, seed), tasks, 0),
    "zero, one of them": with_one_of_zero,
    "zero, all of them": lambda tasks, seed: np.zeros((tasks, SIZE)),
    "of sum zero": that_sum_to_zero,
    "of rank one": of_rank_one,
    "of sizes from 1e-12 to 1e12": of_many_sizes(12),
    "of sizes from 1e-30 to 1e30": of_many_sizes(30),
}
for size in (1e-30, 1e-12, 1e12, 1e30):
    GRADIENTS[f"of size {size:.0e}"] = times(size, spread_out)
    GRADIENTS[f"of size {size:.0e} and of sum zero"] = times(size, that_sum_to_zero)
    GRADIENTS[f"of size {size:.0e} and opposite"] = times(size, opposite)


# --- steps ---


class Lines(nn.Module):
    """Losses L + ⟨J_k, θ⟩ + ½ h_k² of each task, where θ is shared and h_k is its own."""

    def __init__(self, tasks: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(SIZE, dtype=dtype))
        self.heads = nn.ParameterList(
            nn.Parameter(torch.ones(1, dtype=dtype)) for _ in range(tasks)
        )

    def losses(self, rows: Tensor, values: Tensor) -> list[Tensor]:
        return [
            values[:, k] + rows[k] @ self.theta + (head - 1).square()
            for k, head in enumerate(self.heads)
        ]


def strategy_of(name: str, network: Lines) -> Strategy:
    return build_strategy(
        name,
        tasks={f"t{k}": KINDS[k % 2] for k in range(len(network.heads))},
        num_instances=INSTANCES,
        model=network,
        dtype=network.theta.dtype,
    )


def some_losses(tasks: int, seed: int, dtype: torch.dtype) -> Tensor:
    """From ½ to 2, [B, K]."""
    chance = torch.Generator().manual_seed(seed)
    return 4.0 ** (torch.rand(INSTANCES, tasks, generator=chance, dtype=dtype) - 0.5)


def update_of(strategy: Strategy, network: Lines, rows: Array, losses: Tensor) -> Tensor:
    """The gradient [P] that a step leaves in θ."""
    network.zero_grad()
    jacobian = torch.from_numpy(rows)
    strategy.backward(network.losses(jacobian, losses), torch.arange(INSTANCES))
    assert network.theta.grad is not None
    return network.theta.grad


def numbers(state: Any) -> Iterator[Tensor]:
    """All tensors of a state."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for key, value in state.items():
            if key != "sums_of_epoch":  # NaN where there is a direction and no weights
                yield from numbers(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from numbers(value)


def check_steps(name: str, dtype: torch.dtype, batches: list[Array]) -> None:
    """That updates and state are finite, and updates no longer than the bound."""
    tasks = len(batches[0])
    network, seen = Lines(tasks, dtype), Seen(tasks)
    strategy = strategy_of(name, network)
    for number, batch in enumerate(batches):
        rows = torch.from_numpy(batch).to(dtype).numpy()
        losses = some_losses(tasks, number, dtype)
        seen.see(rows, losses)
        update = update_of(strategy, network, rows, losses)
        assert update.isfinite().all()
        # The smallest numbers are rounded to multiples of `tiny`.
        least = tasks * SIZE * torch.finfo(dtype).tiny
        length = float(np.linalg.norm(update.double().numpy()))
        bound = ROUNDING * longest_update(name, seen) + least
        assert length <= bound, f"{tasks} tasks, step {number}"
        strategy.end_epoch()
    assert all(value.isfinite().all() for value in numbers(dict(strategy.state_dict())))


@every_strategy
@every_precision
@pytest.mark.parametrize("gradients", GRADIENTS)
@pytest.mark.filterwarnings("error")
def test_updates_and_state_are_finite_and_bounded_for_gradients(
    name: str, dtype: torch.dtype, gradients: str
) -> None:
    # Up to 8 are drawn below, too. Sizes need no more; in float64, more than there are parameters.
    many = 8 if gradients.startswith("of size 1e") else 40 if dtype == torch.float32 else 16
    for tasks in (1, 2, 3, many):
        steps = STEPS if tasks <= 8 else 2  # which take their time
        check_steps(name, dtype, [GRADIENTS[gradients](tasks, seed) for seed in range(steps)])


@every_strategy
@every_precision
@many_examples
@given(jacobians(max_tasks=8, spread=8))
@pytest.mark.filterwarnings("error")
def test_updates_and_state_are_finite_and_bounded_for_any_gradients(
    name: str, dtype: torch.dtype, rows: Array
) -> None:
    wide = np.zeros((len(rows), SIZE))
    wide[:, : rows.shape[1]] = rows
    check_steps(name, dtype, [wide, -wide, wide[::-1].copy(), wide])


@every_strategy
@pytest.mark.filterwarnings("error")
def test_one_huge_batch_is_got_over(name: str) -> None:
    """In float32, where its squares are infinite; what follows is as long as usual."""
    batches = [spread_out(3, seed) for seed in range(STEPS)]
    batches[1] *= 1e30
    network, seen = Lines(3, torch.float32), Seen(3)
    strategy = strategy_of(name, network)
    for number, batch in enumerate(batches):
        rows, losses = batch.astype(np.float32), some_losses(3, number, torch.float32)
        seen.see(rows, losses)
        length = float(update_of(strategy, network, rows, losses).double().norm())
        # Where nothing agrees with the held-out gradient, nothing is learned; with G w = w^(−½) an
        # update is as long as the inverse cube root of the gradients.
        least = {"l2rw": -1, "slgrad": -1, "pivrg": 1e-11}.get(name, 1e-2)
        # db-mtl keeps nine tenths of the batch in each step.
        assert least < length <= ROUNDING * longest_update(name, seen)
        assert length < 1e3 or number == 1 or name == "db-mtl"


@pytest.mark.parametrize("name", [name for name in NAMES if has_weights_of_gradients(name)])
def test_a_gramian_may_be_more_precise_than_the_losses(name: str) -> None:
    """A Gramian in float64 holds squares that float32 does not."""
    of_single, of_double = (strategy_of(name, Lines(3, torch.float32)).task for _ in range(2))
    rows, present = torch.from_numpy(spread_out(3, 0)).float(), torch.tensor([True] * 3)
    gramian, losses = rows @ rows.T, torch.tensor([1.0, 0.5, 2.0])
    with torch.no_grad():
        single = of_single.weights(gramian, losses, present)
        double = of_double.weights(gramian.double(), losses, present)
    torch.testing.assert_close(double.float(), single, rtol=1e-6, atol=1e-7)


def takes_few_passes(name: str) -> bool:
    cls = strategies.get(name).cls
    return not (cls.held_out or cls.recomputes)


@pytest.mark.parametrize("name", [*filter(takes_few_passes, NAMES)])
@every_precision
@pytest.mark.parametrize("gradients", ["spread out", "opposite", "of sum zero", "of rank one"])
def test_a_strategy_takes_less_than_ten_milliseconds_for_forty_tasks(
    name: str, dtype: torch.dtype, gradients: str
) -> None:
    """Beside what the sum of the losses takes with this network."""
    rows = torch.from_numpy(GRADIENTS[gradients](40, 0)).to(dtype)
    limit = 0.01 + time_of_network(dtype)
    fastest = fastest_step(name, rows, limit)
    assert fastest < limit, f"{1e3 * fastest:.1f} ms, more than {1e3 * limit:.1f} ms"


@functools.cache
def time_of_network(dtype: torch.dtype) -> float:
    return fastest_step("equal", torch.ones(40, SIZE, dtype=dtype), limit=0)


def fastest_step(name: str, rows: Tensor, limit: float) -> float:
    """The time of this thread (s), of 40 steps or until one is below a limit.

    Other work on the machine can only make a step slower: it is waited for.
    """
    network = Lines(len(rows), rows.dtype)
    strategy = strategy_of(name, network)
    losses = some_losses(len(rows), 0, rows.dtype)
    times: list[float] = []
    end = time.monotonic() + (PATIENCE_SECONDS if limit else 0)
    while not times or (min(times) >= limit and (len(times) < 40 or time.monotonic() < end)):
        if len(times) % 40 == 39:
            time.sleep(1)
        network.zero_grad()
        of_tasks = network.losses(rows, losses)
        start = time.thread_time()
        strategy.backward(of_tasks, torch.arange(INSTANCES))
        times.append(time.thread_time() - start)
    return min(times)
