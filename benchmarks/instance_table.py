"""ILT's table beside dense instance parameters with sparse SGD, as the authors of data parameters
have them (Saxena, Tuzel, DeCoste 2019; https://github.com/apple/ml-data-parameters).

    python benchmarks/instance_table.py [--most 8] [--repeats 20]

Their optimiser gets a gradient of the whole parameter [N], zero outside the batch, and moves value
and momentum where it is not zero, by operations over all N numbers. It is written down here anew,
with ILT's objective and bound. First both take the same 1,000 random steps and must agree; then
each takes steps with tables of 10^4 to 10^MOST instances, as far as memory allows.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mtlbench.strategies.compose import build_strategy

BATCH, LR, MOMENTUM, CLAMP = 32, 4.0, 0.9, 4.0
TASKS = {"parts": "classification", "depth": "regression"}
SCALE = torch.tensor([1.0, 0.5])
AGREEMENT = 1e-5
"""Float32 sums in another order over 1,000 steps; values lie between ±4."""


class Dense:
    """log σ² [N, K] with a gradient and a velocity of the same size."""

    def __init__(self, count: int) -> None:
        self.s = torch.zeros(count, len(TASKS), requires_grad=True)
        self.velocity = torch.zeros(count, len(TASKS))

    def step(self, losses: Tensor, index: Tensor) -> None:
        s = self.s[index]
        (SCALE * losses * torch.exp(-s) + s).mean(0).sum().backward()
        gradient = self.s.grad
        assert gradient is not None
        with torch.no_grad():
            moves = gradient != 0
            velocity = MOMENTUM * self.velocity + gradient
            self.velocity = torch.where(moves, velocity, self.velocity)
            self.s.copy_(torch.where(moves, self.s - LR * self.velocity, self.s))
            self.s.clamp_(-CLAMP, CLAMP)
        self.s.grad = None


class Table:
    """The instance stage of the strategy."""

    def __init__(self, count: int) -> None:
        parameters = {"ilt.lr": LR, "ilt.momentum": MOMENTUM, "ilt.clamp": CLAMP}
        strategy = build_strategy("ilt", tasks=TASKS, num_instances=count, parameters=parameters)
        self.stage = strategy.instance

    def step(self, losses: Tensor, index: Tensor) -> None:
        self.stage.weights(losses, index, torch.ones_like(losses, dtype=torch.bool))


def batches(count: int, steps: int) -> list[tuple[Tensor, Tensor]]:
    """Losses [B, K] and instances [B] of so many steps; an instance may come twice in a batch."""
    chance = torch.Generator().manual_seed(0)
    return [
        (
            torch.rand(BATCH, len(TASKS), generator=chance) * 3,
            torch.randint(count, (BATCH,), generator=chance),
        )
        for _ in range(steps)
    ]


def check_agreement() -> None:
    dense, table = Dense(1000), Table(1000)
    for losses, index in batches(1000, 1000):
        dense.step(losses, index)
        table.step(losses, index)
    learned = table.stage.log_variances()
    assert learned is not None
    apart = (dense.s.detach() - learned).abs().max().item()
    spread = learned.std().item()
    verdict = "the same" if apart < AGREEMENT else "NOT THE SAME"
    print(f"1,000 steps, 1,000 instances: apart by {apart:.1e}, std {spread:.2f}: {verdict}")


def median_step(step: Callable[[Tensor, Tensor], None], count: int, repeats: int) -> float:
    seconds = []
    for losses, index in batches(count, repeats + 3):
        started = time.perf_counter()
        step(losses, index)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--most", type=int, default=8, help="largest power of ten")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    check_agreement()
    print("\n| instances | ILT's table (ms) | dense (ms) | ratio |\n| --: | --: | --: | --: |")
    for power in range(4, options.most + 1):
        row = []
        for make in (Table, Dense):
            try:
                row.append(1000 * median_step(make(10**power).step, 10**power, options.repeats))
            except (MemoryError, RuntimeError):  # PyTorch says so with the latter
                row.append(float("nan"))
        print(f"| 10^{power} | {row[0]:.3f} | {row[1]:.3f} | {row[1] / row[0]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
