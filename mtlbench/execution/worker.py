"""A process that trains one job after the other, and keeps imports and data between them."""

import ctypes
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from mtlbench.errors import UserError
from mtlbench.execution.storage import Storage, kept
from mtlbench.plugins import PluginFile, load_plugins
from mtlbench.store.runs import LOCK, job_folder
from mtlbench.training.job import Notice, Place
from mtlbench.version import package_version


@dataclass(frozen=True)
class Apart:
    """A machine does not see the results directory: where it is lost, its jobs begin anew."""


@dataclass(frozen=True)
class WorkerSetup:
    """The setup of a worker, the same for all that it trains.

    Attributes:
        plugins: loaded first.
        threads: to compute with.
        place: where jobs are trained.
        versions: of the packages that decide about the bits; a worker must have the same.
        storage: URI of where checkpoints are kept, too; "" for none.
    """

    plugins: tuple[PluginFile, ...]
    threads: int
    place: Place
    versions: tuple[str, str]
    storage: str = ""

    def on(self, device: str) -> "WorkerSetup":
        """The same on another kind of device."""
        return replace(self, place=replace(self.place, device=device))


def own_versions() -> tuple[str, str]:
    """Of mtlbench and of PyTorch, here."""
    return package_version(), metadata.version("torch").partition("+")[0]


class Worker:
    """The actor that Ray places on a machine.

    Raises:
        RuntimeError: this machine cannot train what the others do.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        if own_versions() != setup.versions:
            (here, torch_here), (there, torch_there) = own_versions(), setup.versions
            raise RuntimeError(
                f"it has mtlbench {here} and torch {torch_here}, and not {there} and {torch_there}"
            )
        import torch

        if setup.place.device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("its PyTorch sees no GPU; --gpus-per-run 0 trains on CPUs")
        keep_freed_memory()
        torch.set_num_threads(setup.threads)
        load_plugins(setup.plugins)
        self.place = setup.place
        self.storage = setup.storage

    def is_up(self) -> None:
        """Answers as soon as the process is ready."""

    def train(self, job: Any, checkpoint: Path) -> Iterator[Any]:
        """Trains a job, giving what it says on the way."""
        messages, folder = job.train(self.place, checkpoint), job_folder(checkpoint)
        if self.storage:
            try:
                storage = Storage(self.storage)
                messages = kept(messages, checkpoint, storage, folder.parent)
            except UserError as error:  # on this machine alone
                yield Notice(str(error))
        elif not (folder / LOCK).exists():
            yield Apart()
        yield from messages

    def forget(self, checkpoint: Path) -> None:
        """Removes what a finished job has left here, on a machine with a disk of its own."""
        forget(checkpoint)


def forget(checkpoint: Path) -> None:
    """Removes what a job has left beside its checkpoint, and that."""
    checkpoint.unlink(missing_ok=True)
    shutil.rmtree(checkpoint.with_name("members"), ignore_errors=True)
    with suppress(OSError):  # another process is at it
        checkpoint.parent.rmdir()


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
