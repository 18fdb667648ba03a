"""What a step costs over two processes with `DistributedDataParallel`, beside a plain loop there.

    python benchmarks/ranks.py [--repeats 15] [--only ilt,mgda]

The network and batch of `step_cost.py`, half of the batch in each process, gloo on the CPU, one
thread a process. A plain step is `sum(losses).backward()` through the same wrapper. Each strategy's
step is held against the mean of the two plain steps around it; printed is the median of the first
process. On the CPU gradients are brought together after the backward pass, not during it.
"""

import argparse
import os
import socket
import statistics
import sys
from collections.abc import Callable

import step_cost
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from mtlbench.errors import UserError
from mtlbench.execution.worker import keep_freed_memory
from mtlbench.strategies.base import GRADIENT, InstanceStage, strategies
from mtlbench.strategies.compose import build_strategy, stage_of

RANKS = 2


class Wrapped(step_cost.Network):
    """The network with its losses inside of `forward`, as the wrapper needs it."""

    def forward(
        self, images: torch.Tensor, targets: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        return self.losses(self.trunk(images), targets)


def step_of(bench: step_cost.Bench, name: str | None, **parameters: object) -> Callable[[], None]:
    """A step with a strategy, or a plain one."""
    torch.manual_seed(0)
    network = Wrapped()
    wrapped = DistributedDataParallel(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    strategy = name and build_strategy(
        name,
        tasks=step_cost.TASKS,
        num_instances=step_cost.INSTANCES,
        model=network,
        representation=network.trunk,
        parameters={f"{name}.{key}": value for key, value in parameters.items()},
    )

    def again() -> dict[str, torch.Tensor]:
        """The losses of the batch once more, or in the place of those of a held-out one."""
        return network(bench.images, bench.targets)

    def step() -> None:
        losses = wrapped(bench.images, bench.targets)
        optimizer.zero_grad(set_to_none=True)
        if strategy:
            strategy.backward(losses, bench.index, held_out=again, closure=again)
        else:
            torch.stack([loss.mean() for loss in losses.values()]).sum().backward()
        optimizer.step()

    return step


def work(rank: int, port: int, names: list[str], repeats: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    torch.set_num_threads(1)
    keep_freed_memory()
    bench = step_cost.Bench("cpu", batch=step_cost.BATCH // RANKS)
    plain = step_of(bench, None)
    for name in names:
        entry = strategies.get(name)
        stage = stage_of(entry)
        if getattr(entry.cls, "transform", InstanceStage.transform) is not InstanceStage.transform:
            continue  # it looks at outputs, which are inside of the wrapper here
        for form in ({}, {"on": "representation"}) if stage == GRADIENT else ({},):
            try:
                step = step_of(bench, name, **form)
            except UserError:
                continue
            seconds, ratios = step_cost.between(plain, step, repeats)
            if rank == 0:
                what = " on the representation" if form else ""
                print(
                    f"| {name}{what} | {stage} | {1e3 * statistics.median(seconds):.1f} "
                    f"| {statistics.median(ratios):.2f} |",
                    flush=True,
                )
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", default="", help="names, apart by commas")
    options = parser.parse_args()
    names = [entry.name for entry in strategies.entries()]
    names = options.only.split(",") if options.only else names
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    print(
        "| strategy | weighs by | ms | step / plain step |\n| :-- | :-- | --: | --: |", flush=True
    )
    mp.spawn(work, (port, names, options.repeats), nprocs=RANKS)


if __name__ == "__main__":
    sys.exit(main())
