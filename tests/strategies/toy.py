"""A small float64 network with one trunk and a head for each task, and batches to train it on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from mtlbench.strategies import Strategy
from mtlbench.strategies.base import KINDS
from mtlbench.strategies.compose import build_strategy

NUM_INSTANCES = 8

many_examples = settings(max_examples=25)


@dataclass(frozen=True)
class Batch:
    """Inputs [B, 3], targets [B, K], dataset indices [B] and which labels are present [B, K]."""

    inputs: Tensor
    targets: Tensor
    index: Tensor
    present: Tensor


class Toy(nn.Module):
    """Its losses are at least 0.1 · scale, so that the geometric mean is smooth."""

    def __init__(self, scales: list[float], seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = nn.Linear(3, 4, dtype=torch.float64)
            self.heads = nn.ModuleList(nn.Linear(4, 1, dtype=torch.float64) for _ in scales)
        self.scales = scales

    def losses(self, batch: Batch) -> list[Tensor]:
        """Per-instance losses [B] of each task."""
        features = self.trunk(batch.inputs).tanh()
        return [
            scale * (0.1 + (head(features)[:, 0] - batch.targets[:, k]).square())
            for k, (scale, head) in enumerate(zip(self.scales, self.heads, strict=True))
        ]

    def task_losses(self, batch: Batch) -> list[Tensor]:
        """The mean over the present labels of each task, 0 where there is none."""
        return [
            loss[here].sum() / max(int(here.sum()), 1)
            for loss, here in zip(self.losses(batch), batch.present.unbind(1), strict=True)
        ]


@dataclass(frozen=True)
class Problem:
    """Tasks t0, t1 … of these kinds, and batches."""

    kinds: tuple[str, ...]
    scales: list[float]
    seed: int
    batches: list[Batch]

    @property
    def tasks(self) -> dict[str, str]:
        return {f"t{k}": kind for k, kind in enumerate(self.kinds)}

    @property
    def constants(self) -> list[float]:
        """The factor of the loss in the likelihood: 1 for classification, ½ for regression."""
        return [{"classification": 1.0, "regression": 0.5}[kind] for kind in self.kinds]

    def network(self) -> Toy:
        return Toy(self.scales, self.seed)

    def strategy(
        self, name: str, network: "Toy", generator_seed: int = 0, **parameters: object
    ) -> Strategy:
        """The strategy in float64; `ilt__lr=2.0` stands for the parameter `ilt.lr`."""
        return build_strategy(
            name,
            tasks=self.tasks,
            num_instances=NUM_INSTANCES,
            model=network,
            representation=network.trunk,
            dtype=torch.float64,
            parameters={key.replace("__", "."): value for key, value in parameters.items()},
            generator=torch.Generator().manual_seed(generator_seed),
        )


def problem(*, tasks: int = 3, steps: int = 4, batch: int = 6, seed: int = 0) -> Problem:
    """A problem with a third of its labels missing; every instance twice at most in a batch."""
    chance = torch.Generator().manual_seed(seed)
    batches = [
        Batch(
            torch.randn(batch, 3, generator=chance, dtype=torch.float64),
            torch.randn(batch, tasks, generator=chance, dtype=torch.float64),
            torch.randperm(2 * NUM_INSTANCES, generator=chance)[:batch] % NUM_INSTANCES,
            torch.rand(batch, tasks, generator=chance) < 2 / 3,
        )
        for _ in range(steps)
    ]
    kinds = tuple(KINDS[k % 2] for k in range(tasks))
    return Problem(kinds, [3.0**k for k in range(tasks)], seed, batches)


@st.composite
def problems(
    draw: st.DrawFn, *, steps: int = 3, min_tasks: int = 1, max_tasks: int = 4, spread: int = 3
) -> Problem:
    """Some tasks and instances, losses from 10^-spread to 10^spread, any labels missing."""
    tasks = draw(st.integers(min_tasks, max_tasks))
    of_each_task = {"min_size": tasks, "max_size": tasks}
    kinds = draw(st.lists(st.sampled_from(KINDS), **of_each_task))
    exponents = draw(st.lists(st.integers(-spread, spread), **of_each_task))
    seed = draw(st.integers(0, 2**31))
    chance = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(steps):
        size = draw(st.integers(1, 6))
        index = draw(st.lists(st.integers(0, NUM_INSTANCES - 1), min_size=size, max_size=size))
        flags = st.lists(st.booleans(), min_size=size * tasks, max_size=size * tasks)
        batches.append(
            Batch(
                torch.randn(size, 3, generator=chance, dtype=torch.float64),
                torch.randn(size, tasks, generator=chance, dtype=torch.float64),
                torch.tensor(index),
                torch.tensor(draw(flags)).view(size, tasks),
            )
        )
    return Problem(tuple(kinds), [10.0**e for e in exponents], seed, batches)


def step(strategy: Strategy, network: Toy, batch: Batch) -> Tensor:
    """The gradient [P] that one batch leaves in the network."""
    network.zero_grad()
    strategy.backward(network.losses(batch), batch.index, batch.present)
    return gradient(network)


def gradient(network: nn.Module) -> Tensor:
    """The parameters' `.grad`, as [P]."""
    grads = [p.grad for p in network.parameters()]
    assert all(grad is not None for grad in grads)
    return torch.cat([grad.flatten() for grad in grads])


def gradient_of(objective: Tensor, network: nn.Module) -> Tensor:
    """∂objective/∂parameters [P], by PyTorch's autograd."""
    parameters = list(network.parameters())
    grads = torch.autograd.grad(objective, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([grad.flatten() for grad in grads])


def assert_agrees(actual: Tensor, expected: Tensor) -> None:
    """Equal to 1e-10: two float64 computations that sum in another order differ by less."""
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def mean_losses(network: Toy, values: dict[str, Tensor], batch: Batch) -> list[Tensor]:
    """The mean loss of each task at these values of the parameters."""
    return _at(network, values, lambda: network.task_losses(batch))


def instance_losses(network: Toy, values: dict[str, Tensor], batch: Batch) -> list[Tensor]:
    """The losses [B] of each task at these values of the parameters."""
    return _at(network, values, lambda: network.losses(batch))


def _at(
    network: Toy, values: dict[str, Tensor], losses: Callable[[], list[Tensor]]
) -> list[Tensor]:
    class Losses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self) -> list[Tensor]:
            return losses()

    named = {f"network.{name}": value for name, value in values.items()}
    found: list[Tensor] = functional_call(Losses(), named, ())
    return found


def held_losses(network: Toy, held: Batch) -> Callable[[], dict[str, Tensor]]:
    """Gives the losses of a held-out batch, of the labels that are there."""
    return lambda: {
        f"t{k}": loss[here]
        for k, (loss, here) in enumerate(
            zip(network.losses(held), held.present.unbind(1), strict=True)
        )
        if here.any()
    }
