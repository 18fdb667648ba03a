"""Batches of a split on a device: gathered at once where it lies there, else read ahead."""

import itertools
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mtlbench.data.reading import Items
from mtlbench.data.rows import Rows, to_device
from mtlbench.data.splits import Inputs, Split, Targets, each_input, input_parts
from mtlbench.strategies.ranks import Ranks
from mtlbench.training.whole_batch import Part, part_of

READ_AHEAD = 3
"""Batches that are read before they are needed, where data lies in files."""


@dataclass(frozen=True)
class Batch:
    """Some instances of a split, on a device.

    Attributes:
        index: their row numbers [B].
        rows: the same on the CPU.
        inputs, targets, present: as in `Split`, of these rows.
        part: this process's part of the batch, where several train together.
    """

    index: Tensor
    rows: Tensor
    inputs: Inputs
    targets: Targets
    present: Tensor | None
    part: Part | None = None

    def some(self, rows: slice) -> "Batch":
        """The same of some rows, without inputs and targets."""
        present = None if self.present is None else self.present[rows]
        return replace(self, index=self.index[rows], rows=self.rows[rows], present=present)


class Batches:
    """Goes over a split in batches.

    Args:
        split: what to go over.
        order: row numbers on the CPU.
        size: instances a batch; the last may have fewer.
        device: where batches are wanted.
        none_of_one: whether a last batch of one instance, for which batch norm has no variance,
            joins the one before it.
        draws: the names of what items of a dataset draw in training; None where they are read as
            for validation and test.
        ranks: the processes that train together. Batches then know this one's part.
        whole: whether batches have the other parts, too, as where they are changed at random.

    Attributes:
        waited: seconds spent waiting for files, or for items.
    """

    def __init__(
        self,
        split: Split,
        order: Tensor,
        size: int,
        device: torch.device,
        *,
        none_of_one: bool = False,
        draws: tuple[object, ...] | None = None,
        ranks: Ranks | None = None,
        whole: bool = False,
    ) -> None:
        self.split, self.device, self.draws = split, device, draws
        values = (*input_parts(split.inputs), *split.targets.values())
        self.in_files = any(not isinstance(value, Tensor) for value in values)
        sizes = [len(chunk) for chunk in order.split(size)]
        if none_of_one and size > 1 and len(sizes) > 1 and sizes[-1] == 1:
            sizes[-2:] = [sizes[-2] + 1]
        self._chunks = [*zip(order.to(device).split(sizes), order.split(sizes), strict=True)]
        self._parts: list[Part | None] = [None] * len(sizes)
        if ranks is not None:
            parts = [part_of(len(rows), ranks.rank, ranks.size) for _, rows in self._chunks]
            self._parts = [*parts]
            if not whole:
                own = zip(self._chunks, parts, strict=True)
                self._chunks = [(index[p.rows], rows[p.rows]) for (index, rows), p in own]
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[Batch]:
        for batch, part in zip(self._read_all(), self._parts, strict=True):
            yield batch if part is None else replace(batch, part=part)

    def _read_all(self) -> Iterator[Batch]:
        if isinstance(self.split.inputs, Items):
            yield from self._of_items(self.split.inputs)
            return
        if not self.in_files:
            yield from itertools.starmap(self._read, self._chunks)
            return
        chunks = iter(self._chunks)

        def read(count: int) -> list[Future[Batch]]:
            return [reader.submit(self._read, *c) for c in itertools.islice(chunks, count)]

        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            ahead = deque(read(READ_AHEAD))
            while ahead:
                started = time.perf_counter()
                batch = ahead.popleft().result()
                self.waited += time.perf_counter() - started
                ahead.extend(read(1))
                yield batch

    def _of_items(self, items: Items) -> Iterator[Batch]:
        changed = self.draws is not None and items.transforms
        labels = (
            {
                name: to_device(target, torch.device("cpu"))
                for name, target in self.split.targets.items()
            }
            if changed
            else None
        )
        read = items.batches(
            [rows for _, rows in self._chunks], self.draws, labels, pin=self.device.type == "cuda"
        )
        for index, rows in self._chunks:
            started = time.perf_counter()
            inputs, targets = next(read)
            self.waited += time.perf_counter() - started
            yield self._batch(index, rows, each_input(inputs, self._sent), targets)

    def _sent(self, part: Any) -> Any:
        return part.to(self.device, non_blocking=True) if hasattr(part, "to") else part

    def _read(self, index: Tensor, rows: Tensor) -> Batch:
        def gather(values: Rows) -> Tensor:
            return self._gather(values, index, rows)

        return self._batch(index, rows, each_input(self.split.inputs, gather))

    def _batch(
        self, index: Tensor, rows: Tensor, inputs: Any, changed: Targets | None = None
    ) -> Batch:
        split = self.split
        if changed is None:
            targets = {name: self._gather(t, index, rows) for name, t in split.targets.items()}
        else:
            targets = {name: self._sent(target) for name, target in changed.items()}
        present = None if split.present is None else split.present[index]
        return Batch(index, rows, inputs, targets, present)

    def _gather(self, values: Rows, index: Tensor, rows: Tensor) -> Tensor:
        if isinstance(values, Tensor):
            return values[index]
        gathered = values[rows]
        if self.device.type == "cuda":
            gathered = gathered.pin_memory()
        return gathered.to(self.device, non_blocking=True)


def take(split: Split, rows: Tensor, device: torch.device) -> Batch:
    """Some rows of a split, by number [B], as one batch."""
    return next(iter(Batches(split, rows, max(1, len(rows)), device)))
