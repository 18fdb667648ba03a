"""Values of many instances, in memory or not."""

import tempfile
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

CHUNK = 1024
"""Instances that are worked on at a time where all together might not fit into memory."""


class Rows(Protocol):
    """Values of N instances that need not lie in memory: a tensor [N, …], or rows of files."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def shape(self) -> torch.Size: ...

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """The rows [n, …] with these numbers [n], on the CPU unless these are a tensor's."""
        ...


class RowSubset:
    """Some rows of another object.

    Args:
        base: the values [N, …].
        rows: which, in this order [n].
    """

    def __init__(self, base: Rows, rows: Tensor) -> None:
        self.base, self.rows = base, rows
        self.dtype, self.shape = base.dtype, torch.Size((len(rows), *base.shape[1:]))
        self.nbytes = base.nbytes * len(rows) // max(1, len(base))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        return self.base[self.rows[index]]


class Overlay:
    """The rows of another object with others over some of them, which lie in a temporary file.

    Args:
        base: the values [N, …].
        rows: which are replaced [n], rising.
        replace: the base's rows of a chunk to what stands in their place.
    """

    def __init__(self, base: Rows, rows: Tensor, replace: Callable[[Tensor], Tensor]) -> None:
        self.base = base
        self.dtype, self.shape, self.nbytes = base.dtype, base.shape, base.nbytes
        self._position = torch.full((len(base),), -1)
        self._position[rows] = torch.arange(len(rows))
        with tempfile.TemporaryFile(prefix="mtlbench-") as file:
            if len(rows):
                zero = base[rows[:1]].numpy()
                shape = (len(rows), *base.shape[1:])
                self._replaced = torch.from_numpy(np.memmap(file, zero.dtype, "w+", shape=shape))
        # Chunks of like length: some corruptions exchange labels among the rows of a chunk.
        for some in rows.tensor_split(-(-len(rows) // CHUNK)) if len(rows) else ():
            self._replaced[self._position[some]] = replace(base[some])

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        values, position = self.base[index], self._position[index]
        here = position >= 0
        if here.any():
            values = values.clone()
            values[here] = self._replaced[position[here]]
        return values


def to_device(values: Rows, device: torch.device) -> Tensor:
    """All values as a tensor on a device."""
    if not isinstance(values, Tensor):
        values = torch.cat([values[some] for some in torch.arange(len(values)).split(CHUNK)])
    return values.to(device)
