"""Trials as jobs: runs that never see test data."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mtlbench.store.runs import DamagedRunError, Store
from mtlbench.store.schema import FAILED
from mtlbench.store.trials import read_trial, trial_file, write_trial
from mtlbench.training.job import Ended, Notice, Parts, Place, Progress
from mtlbench.training.jobs import RunJob

TRIAL_SEED = -1
"""Of every trial; those of runs are counted from 0."""


@dataclass(frozen=True)
class TrialJob(RunJob):
    """A run with some parameters, judged on validation data.

    Attributes:
        number: of the trial, for people to read.
    """

    number: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        spec = self.spec
        return f"{spec.suite}/{spec.variant}/{spec.strategy}/trial-{self.number}"

    def path(self, store: Store) -> Path:
        return trial_file(store, self.hash)

    def read(self, store: Store) -> Ended:
        try:
            info = read_trial(store, self.hash)
        except DamagedRunError as error:
            raise DamagedRunError(f"is damaged: {error}") from error
        if info["status"] == FAILED:
            raise DamagedRunError("had failed")
        return Ended(info["status"])

    def write(self, store: Store, ended: Ended) -> None:
        record = self.record_of(ended)
        write_trial(store, record.info, record.history)

    def train(self, place: Place, checkpoint: Path | None) -> Iterator[Progress | Notice | Ended]:
        from mtlbench.training.loop import train
        from mtlbench.training.run import Run

        return train(lambda: Run(self.spec, place, tested=False), checkpoint)

    def parts(self) -> Parts:
        if self.networks == 1:
            return super().parts()
        from mtlbench.training.population import evolve

        return evolve(self.spec, self._task_stage(), False, tested=False)
