"""Numbers that a strategy keeps for each instance, on the model's device or off it."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtlbench.strategies.kept import KeptTensor

ON_DEVICE, ON_CPU = "device", "cpu"


class InstanceTable(KeptTensor):
    """A few numbers for each (instance, task), 0 at first: values [N, C, K].

    A step reads and writes only its batch's rows, so the table may lie where there is room for it:
    N is then bounded by the machine's memory, or by its disk, and not by the GPU.

    Args:
        shape: N, C and K.
        where: `device` beside the model, `cpu` in the machine's memory, or a directory for a
            memory-mapped file, which vanishes with the process: `state_dict` saves the values.
        device, dtype: the model's, in which rows are handed out.

    Raises:
        ValueError: a directory that is not there.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        shape: tuple[int, int, int],
        where: str | Path,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        check_place(where)
        if where in (ON_DEVICE, ON_CPU):
            place = device if where == ON_DEVICE else torch.device("cpu")
            values = torch.zeros(shape, device=place, dtype=dtype)
        else:
            values = _mapped_zeros(Path(where), shape, dtype)
        super().__init__(values)
        self.device = device
        self._written: tuple[Tensor, Tensor, torch.cuda.Event] | None = None

    def read(self, index: Tensor) -> Tensor:
        """The rows [B, C, K] of these instances [B], on the model's device."""
        self._settle()
        values = self.values
        rows = values[index.to(values.device)]
        if self.device.type == "cuda" and not rows.is_cuda:
            rows = rows.pin_memory()  # from other memory the copy may wait for the device
        return rows.to(self.device, non_blocking=True)

    def write(self, index: Tensor, rows: Tensor) -> None:
        """Puts rows [B, C, K] in the place of those of these instances [B]."""
        values = self.values
        if values.device == rows.device:
            values[index.to(values.device)] = rows
            return
        # Waiting for the rows here would keep the GPU from being handed the backward pass.
        host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        host.copy_(rows, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(rows.device))
        self._written = index.to(values.device), host, copied

    def column(self, number: int) -> Tensor:
        """One of the C numbers for all instances, [N, K]."""
        self._settle()
        return self.values[:, number]

    def _settle(self) -> None:
        """Makes sure that what was written last is in the table."""
        if self._written is not None:
            index, host, copied = self._written
            copied.synchronize()
            self.values[index] = host
            self._written = None

    def _save_to_state_dict(self, *args: Any) -> None:
        self._settle()
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._settle()
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: with what was written last."""
        self._settle()
        return self.__dict__.copy()

    def _apply(self, fn: Any, recurse: bool = True) -> "InstanceTable":
        return self  # `.to(device)` of a strategy leaves the table where it was asked to be


def check_place(where: str | Path) -> None:
    """Makes sure that tables can lie there.

    Raises:
        ValueError: a directory that is not there.
    """
    if where not in (ON_DEVICE, ON_CPU) and not Path(where).is_dir():
        raise ValueError(
            f"instance_tables must be {ON_DEVICE!r}, {ON_CPU!r} or a directory, but there is no "
            f"directory {str(where)!r}"
        )


def _mapped_zeros(directory: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros in a sparse file without a name, which takes no room before it is written to."""
    kind = torch.empty(0, dtype=dtype).numpy().dtype
    with tempfile.TemporaryFile(dir=directory, prefix="mtlbench-") as file:
        return torch.from_numpy(np.memmap(file, kind, "w+", shape=shape))


SMALL_BATCH = 64
"""Up to here a matrix that tells which places are the same is the fastest; it grows as B²."""


def sum_repeats(index: Tensor, *values: Tensor) -> list[Tensor]:
    """For values [B, K] the sums over all places of the batch that hold the same instance.

    An instance drawn twice into a batch so gets the sum of its gradients in both places, and both
    write the same row. Where none is, they are the values to the last bit.
    """
    number, dtype = index.to(values[0].device, non_blocking=True), values[0].dtype
    if len(number) <= SMALL_BATCH:
        same = (number[:, None] == number[None, :]).to(dtype)
        return [same @ value.to(dtype) for value in values]
    ordered, order = number.sort()
    rising = functional.pad(ordered[1:] != ordered[:-1], (1, 0)).cumsum(0)
    group = torch.empty_like(order).scatter_(0, order, rising)  # the same for the same instance
    return [
        torch.zeros_like(v, dtype=dtype).index_add_(0, group, v.to(dtype))[group] for v in values
    ]
