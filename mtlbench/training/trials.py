"""Trials as jobs: runs that never see test data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from mtlbench.store.runs import Store
from mtlbench.store.schema import FAILED
from mtlbench.store.sealed import DamagedRunError
from mtlbench.store.trials import read_trial, trial_file, write_trial
from mtlbench.training.job import Ended, require_same_data
from mtlbench.training.jobs import RunJob, ended_as


@dataclass(frozen=True)
class TrialJob(RunJob):
    """A run with some parameters, judged on validation data.

    Attributes:
        number: of the trial, for people to read.
    """

    tested: ClassVar[bool] = False
    number: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        spec = self.spec
        return f"{spec.suite}/{spec.variant}/{spec.strategy}/trial-{self.number}"

    def path(self, store: Store) -> Path:
        return trial_file(store, self.hash)

    def read(self, store: Store) -> Ended:
        try:
            info = read_trial(self.path(store))
        except DamagedRunError as error:
            raise DamagedRunError(f"is damaged: {error}") from error
        require_same_data(info["spec"], self.spec)
        if info["status"] == FAILED:
            raise DamagedRunError("had failed")
        return ended_as(info)

    def write(self, store: Store, ended: Ended) -> None:
        record = self.record_of(ended)
        write_trial(store, record.info, record.history)
