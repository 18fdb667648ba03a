"""The tracker that all others derive from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlbench.spec import RunSpec


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers know it.

    Attributes:
        spec: the run.
        key: 16 hexadecimal digits; the same when an interrupted run goes on, another when a run
            is trained anew.
    """

    spec: RunSpec
    key: str

    @property
    def name(self) -> str:
        return str(self.spec)

    @property
    def tags(self) -> dict[str, str]:
        spec = self.spec
        return {
            "suite": spec.suite,
            "variant": spec.variant,
            "strategy": spec.strategy,
            "seed": str(spec.seed),
            "hash": spec.hash,
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the suite by name, of the strategy as `STAGE.PARAMETER`."""
        return {**self.spec.suite_parameters, **self.spec.strategy_parameters}


@dataclass(frozen=True)
class Ending:
    """The end of a run.

    Attributes:
        status: `done`, `diverged` or `failed`.
        epoch: its last.
        metrics: the final ones, as `final/TASK/METRIC`.
        error: last line of what went wrong, where it failed.
    """

    status: str
    epoch: int
    metrics: Mapping[str, float]
    error: str


class Tracker(ABC):
    """One tracking system, with any number of runs open at a time.

    After construction all calls come from one thread. Whatever they raise turns the tracker off.

    Attributes:
        place: where a person finds the runs, in words.
    """

    place: str

    @abstractmethod
    def __init__(self, results: Path) -> None:
        """Opens the tracker for a study with this results directory."""

    @abstractmethod
    def start(self, run: TrackedRun) -> int:
        """Begins a run, or goes on with an interrupted one; gives the last epoch it has."""

    @abstractmethod
    def log(self, run: TrackedRun, epoch: int, values: Mapping[str, float]) -> None:
        """Takes one epoch of the history; each comes once, in order."""

    @abstractmethod
    def end(self, run: TrackedRun, ending: Ending) -> None:
        """Closes a run that has ended."""

    @abstractmethod
    def stop(self, run: TrackedRun) -> None:
        """Closes a run that is interrupted; a later study may go on with it."""
