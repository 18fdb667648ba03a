"""Jobs: trained whole or not at all, and what they say on the way."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlbench.spec import RunSpec
from mtlbench.store.runs import History, Store
from mtlbench.store.sealed import DamagedRunError


@dataclass(frozen=True)
class Place:
    """The place where a job is trained.

    Attributes:
        device: `cpu` or `cuda`.
        instance_tables: where instance parameters lie: `device` beside the network, `cpu`, or a
            directory for memory-mapped files.
        workers: processes that train one job together, each on its part of every batch. This is
            one of them.
    """

    device: str = "cpu"
    instance_tables: str | Path = "device"
    workers: int = 1


@dataclass(frozen=True)
class Progress:
    """One epoch of a job is over.

    Attributes:
        epoch: how many are.
        history: of all epochs so far, those before an interruption too.
    """

    epoch: int
    history: History


@dataclass(frozen=True)
class Notice:
    """Something about a job that a person should know; it goes on."""

    text: str


@dataclass(frozen=True)
class Again:
    """What was to go on from its checkpoint must begin anew, in new processes: others may be in the
    middle of what they do together.

    Attributes:
        text: why.
    """

    text: str


@dataclass(frozen=True)
class Ended:
    """A job is over.

    Attributes:
        status: `done`, `diverged` or `failed`.
        error: what went wrong, where it failed: a traceback or a reason.
        epochs: how many were trained for it.
        result: what it leaves behind, if anything: a record, the content of a file, a score.
        device: where it was trained, of one from the store that says so: `cpu` or a GPU's name.
        workers: how many processes trained it together, of one from the store that says so; else 0.
    """

    status: str
    error: str = ""
    epochs: int = 0
    result: Any = None
    device: str = ""
    workers: int = 0


Messages = Iterator[Progress | Notice | Again | Ended]
"""What training a job says on the way, and how it ended."""

Parts = Generator[list["Job"], list[Ended], Ended]
"""Yields the jobs that can be trained side by side, is sent how they ended, and so on; returns how
the whole did."""


class Job(ABC):
    """One thing that is trained whole or not at all: a run, a fold, a member of a population.

    A value that travels to the worker which trains it, and is found again in the store.

    Attributes:
        networks: how many are trained for it.
    """

    networks = 1

    @property
    @abstractmethod
    def hash(self) -> str:
        """Names it, and its checkpoint; the same for the same content."""

    @property
    def epochs(self) -> int:
        """The number of epochs trained for it, those of its parts together; 0 where nobody asks."""
        return 0

    @property
    def gpu_share(self) -> float:
        """What it takes of a GPU, or how many, where nobody asked for anything else."""
        return 1.0

    @abstractmethod
    def __str__(self) -> str: ...

    @abstractmethod
    def path(self, store: Store) -> Path:
        """Its place in the store when it is over."""

    @abstractmethod
    def read(self, store: Store) -> Ended:
        """Its end, from the store.

        Raises:
            DamagedRunError: what stands there is of no use; the message says why.
        """

    def found(self, store: Store) -> Ended | None:
        """Its end, where it stands whole in the store; None where it is to be trained."""
        try:
            return self.read(store) if self.path(store).exists() else None
        except DamagedRunError:
            return None

    @abstractmethod
    def write(self, store: Store, ended: Ended) -> None:
        """Keeps how it ended in the store, whole or not at all."""

    @abstractmethod
    def train(self, place: Place, checkpoint: Path | None) -> Messages:
        """Trains it here and now, going on from the checkpoint if it is there."""

    def require_workers(self, workers: int) -> None:  # noqa: B027 (most can be trained by any)
        """Makes sure that so many processes can train it together.

        Raises:
            UserError: they cannot.
        """

    def checkpoint(self, store: Store) -> Path:
        """Its checkpoint, saved on the way."""
        return store.checkpoint_file(self.hash)

    def parts(self) -> Parts:
        """The jobs to be trained for it: itself, unless it takes several networks."""
        (ended,) = yield [self]
        return ended


def run_directory(spec: RunSpec, store: Store) -> Path:
    """The directory of the run of this spec."""
    return store.run_directory(spec.suite, spec.variant, spec.strategy, spec.seed, spec.hash)


def require_same_data(stored: Mapping[str, Any], spec: RunSpec) -> None:
    """Makes sure that what is stored was trained on the data of a spec.

    Args:
        stored: its spec, as its file has it.
        spec: what is wanted.

    Raises:
        DamagedRunError: it was not.
    """
    if stored.get("fingerprint", "") != spec.fingerprint:
        raise DamagedRunError("was trained on other data")
