"""What every process that trains is set up with."""

import ctypes
import sys
from contextlib import suppress
from dataclasses import dataclass

from mtlbench.registry import PluginFile


@dataclass(frozen=True)
class Workplace:
    """What a process that trains is told once, whatever it then trains.

    Attributes:
        plugins: loaded first.
        threads: to compute with.
        device: where networks are trained: `cpu` or `cuda`.
        instance_tables: where instance parameters lie: `device`, `cpu` or a directory.
    """

    plugins: tuple[PluginFile, ...]
    threads: int
    device: str
    instance_tables: str

    def set_up(self) -> None:
        """Makes this process ready to train."""
        import torch

        keep_freed_memory()
        torch.set_num_threads(self.threads)
        for plugin in self.plugins:
            plugin.load()


def keep_freed_memory() -> None:
    """Lets glibc keep all memory that is freed for the next step.

    Left to itself it gives what lies on top back to the kernel in every step, and each page of it
    is cleared anew in the next one: up to a fifth of a gradient strategy's step. Elsewhere, nothing
    happens.
    """
    trim_threshold, mmap_threshold, never = -1, -3, 2**31 - 1
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            library = ctypes.CDLL(None)
            library.mallopt(trim_threshold, never)
            library.mallopt(mmap_threshold, never)
