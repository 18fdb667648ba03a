"""The training of a run as a job."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlbench.spec import RunSpec
from mtlbench.store.runs import FAILED, DamagedRunError, Store, read_run
from mtlbench.strategies.compose import Composition
from mtlbench.training.job import Ended, Job, Notice, Parts, Place, Progress
from mtlbench.training.loop import train
from mtlbench.training.population import evolve
from mtlbench.training.run import Run


@dataclass(frozen=True)
class RunJob(Job):
    """A run, which may take several networks: its strategy says so.

    Attributes:
        spec: the run.
        traces: keep what `Traces` notes of every training instance.
    """

    spec: RunSpec
    traces: bool = False

    @property
    def hash(self) -> str:
        return self.spec.hash

    @property
    def epochs(self) -> int:
        stage = self._task_stage()
        networks = 1 if stage is None else stage.networks
        return networks * int(self.spec.suite_parameters["epochs"])

    def __str__(self) -> str:
        return str(self.spec)

    def path(self, store: Store) -> Path:
        return run_directory(self.spec, store)

    def read(self, store: Store) -> Ended:
        try:
            run = read_run(self.path(store), thorough=True)
        except DamagedRunError as error:
            raise DamagedRunError(f"is damaged: {error}") from error
        if run.info["status"] == FAILED:
            raise DamagedRunError("had failed")
        if self.traces and not run.has_traces:
            raise DamagedRunError("kept no traces")
        return Ended(run.info["status"])

    def write(self, store: Store, ended: Ended) -> None:
        record = ended.result
        if record is None:  # nothing came back, from a process that ran out of memory for example
            record = Run(self.spec, status=ended.status, error=ended.error).record()
            record.info["device"] = ""
        store.write(record)

    def train(self, place: Place, checkpoint: Path | None) -> Iterator[Progress | Notice | Ended]:
        return train(lambda: Run(self.spec, place, self.traces), checkpoint)

    def parts(self) -> Parts:
        stage = self._task_stage()
        if stage is None or stage.networks == 1:
            return super().parts()
        return evolve(self.spec, stage, self.traces)

    def _task_stage(self) -> Any:
        """None where it cannot be made: then training says why."""
        try:
            return Composition.parse(self.spec.strategy).task_stage(self.spec.strategy_parameters)
        except (Exception, SystemExit):
            return None


def run_directory(spec: RunSpec, store: Store) -> Path:
    """The directory of the run of this spec."""
    return store.run_directory(spec.suite, spec.variant, spec.strategy, spec.seed, spec.hash)
