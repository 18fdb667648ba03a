"""Runs trained by several processes together, on one GPU: each process on its part of every batch.

NCCL refuses two processes on one GPU. So what NCCL is asked for is asked by one process, and
whether the parts are the whole is looked at with two processes that speak over gloo.
"""

import math
import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from mtlbench.spec import RunSpec
from mtlbench.store.runs import History
from mtlbench.strategies.ranks import Ranks
from mtlbench.suites.base import suites
from mtlbench.training import run as training
from mtlbench.training.job import Place

Record = dict[str, Any]

GROUPS = (("nccl", 1), ("gloo", 2))
"""What the processes speak over on the GPU, and how many there are."""

CLOSE = 0.02
"""Relative, of a history in float32: rounding grows from step to step."""


def checks(specs: list[RunSpec], device: str) -> Iterator[Record]:
    """A record for each group and run: whether its history is that of one process."""
    context = multiprocessing.get_context("spawn")
    cuda = torch.device(device).type == "cuda"
    for backend, size in GROUPS if cuda else GROUPS[1:]:
        with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(size, context) as pool:
            for spec in specs:
                along = [
                    pool.submit(history, spec, device, backend, rank, size, f"{folder}/store")
                    for rank in range(size)
                ]
                record: Record = {"backend": backend, "processes": size, "strategy": spec.strategy}
                try:
                    together, *_ = [each.result(timeout=60) for each in along]
                    found = apart(together, alone(spec, device))
                    yield {**record, "ok": found <= CLOSE, "apart": found}
                except Exception as error:
                    yield {**record, "ok": False, "note": f"{type(error).__name__}: {error}"[:300]}
                    break  # the others wait for it


def alone(spec: RunSpec, device: str) -> History:
    """The history of one process; several have no recorded passes, so this has none."""
    with mock.patch.object(suites.get(spec.suite).cls, "graphed", False):
        return _trained(training.Run(spec, Place(device)))


def history(
    spec: RunSpec, device: str, backend: str, rank: int, size: int, file: str
) -> History | None:
    """The history as one of the processes, the first, has it; they meet in a file."""
    torch.set_num_threads(1)
    if not dist.is_initialized():
        store = dist.FileStore(file, size)
        dist.init_process_group(f"cpu:gloo,cuda:{backend}", store=store, rank=rank, world_size=size)
    with mock.patch.object(training, "ranks_of", Ranks):  # where there is only one, too
        run = training.Run(spec, Place(device, workers=2))
        return _trained(run)


def _trained(run: training.Run) -> History:
    run.start()
    for _ in range(run.end):
        run.train_epoch()
    return run.history


def apart(one: History, other: History) -> float:
    """The largest difference of two histories, relative to the largest number of its column;
    infinite where a number stands against none."""
    most = 0.0
    for name, column in one.items():
        pairs = list(zip(column, other[name], strict=True))
        scale = max((abs(b) for _, b in pairs if math.isfinite(b)), default=0.0) or 1.0
        for a, b in pairs:
            if not (math.isnan(a) and math.isnan(b)):  # a direction has no weights
                far = abs(a - b) / scale
                most = max(most, far if math.isfinite(far) else math.inf)
    return most
