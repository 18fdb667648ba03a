"""Runs and folds as jobs.

What trains them is imported where it is trained: the process that holds Ray gives jobs to workers
and takes what they leave behind, without PyTorch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mtlbench.errors import UserError
from mtlbench.files import replacing
from mtlbench.spec import RunSpec
from mtlbench.store.folds import fold_file, group_of, read_fold
from mtlbench.store.runs import RunRecord, Store, read_run
from mtlbench.store.schema import DONE, FAILED
from mtlbench.store.sealed import DamagedRunError
from mtlbench.training.job import (
    Ended,
    Job,
    Messages,
    Parts,
    Place,
    require_same_data,
    run_directory,
)

FOLDS = 5
"""A network then trains on four fifths of the labels."""


@dataclass(frozen=True)
class RunJob(Job):
    """A run, which may take several networks: its strategy says so.

    Attributes:
        spec: the run.
        traces: keep what `Traces` notes of every training instance.
        tested: as for `training.run.Run`.
        tuned: whether a tuning has chosen its parameters, for people to read.
        networks: how many are trained for it.
        label, stage: of its strategy. They travel with the job: where it ends there may be no such
            strategy.
    """

    spec: RunSpec
    traces: bool = False
    tested: ClassVar[bool] = True
    networks: int = field(init=False, compare=False)
    label: str = field(init=False, compare=False)
    stage: str = field(init=False, compare=False)
    tuned: bool = field(default=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        from mtlbench.strategies.compose import Composition

        composition, stage = Composition.parse(self.spec.strategy), self._task_stage()
        networks = 1 if stage is None else stage.networks
        if stage is not None and stage.network_per_task:
            from mtlbench.suites.build import suite_of

            networks = len(suite_of(self.spec).tasks())
        object.__setattr__(self, "networks", networks)
        object.__setattr__(self, "label", composition.label)
        object.__setattr__(self, "stage", composition.stage)

    @property
    def hash(self) -> str:
        return self.spec.hash

    @property
    def epochs(self) -> int:
        return self.networks * int(self.spec.suite_parameters["epochs"])

    @property
    def gpu_share(self) -> float:
        return _gpu_share(self.spec)

    def __str__(self) -> str:
        return f"{self.spec} (tuned)" if self.tuned else str(self.spec)

    def path(self, store: Store) -> Path:
        return run_directory(self.spec, store)

    def read(self, store: Store) -> Ended:
        try:
            run = read_run(self.path(store), thorough=True)
        except DamagedRunError as error:
            raise DamagedRunError(f"is damaged: {error}") from error
        if run.info["status"] == FAILED:
            raise DamagedRunError("had failed")
        require_same_data(run.info["spec"], self.spec)
        if self.traces and not run.has_traces:
            raise DamagedRunError("kept no traces")
        return ended_as(run.info)

    def write(self, store: Store, ended: Ended) -> None:
        store.write(self.record_of(ended))

    def record_of(self, ended: Ended) -> RunRecord:
        """What it leaves behind, also where nothing came back, as from a process that ran out of
        memory."""
        if ended.result is not None:
            record: RunRecord = ended.result
            return record
        from mtlbench.training.record import run_info

        info = run_info(self.spec, self.label, self.stage, status=ended.status, error=ended.error)
        return RunRecord(info, {"epoch": []})

    def train(self, place: Place, checkpoint: Path | None) -> Messages:
        from mtlbench.training.loop import train
        from mtlbench.training.run import Run

        return train(lambda: Run(self.spec, place, self.traces, self.tested), checkpoint)

    def require_workers(self, workers: int) -> None:
        from mtlbench.strategies.compose import Composition

        _require_batches_for(workers, self.spec)
        if workers > 1 and not Composition.parse(self.spec.strategy).over_ranks:
            raise UserError(
                f"strategy {self.spec.strategy!r} does not say that it brings its gradients "
                "together over processes (over_ranks): train it with --workers-per-run 1"
            )

    def parts(self) -> Parts:
        if self.networks == 1:
            return super().parts()
        stage, options = self._task_stage(), (self.traces, self.tested)
        if stage.network_per_task:
            from mtlbench.training.single_task import each_task

            return each_task(self.spec, *options)
        from mtlbench.training.population import evolve

        return evolve(self.spec, stage, *options)

    def _task_stage(self) -> Any:
        """None where it cannot be made: then training says why."""
        from mtlbench.strategies.compose import Composition

        try:
            return Composition.parse(self.spec.strategy).task_stage(self.spec.strategy_parameters)
        except (Exception, SystemExit):
            return None


@dataclass(frozen=True)
class FoldJob(Job):
    """One fold of a run's training data.

    Attributes:
        spec: the run with equal weights whose suite, variant and seed the fold has.
        fold: its number, from 0.
        folds: how many there are.
    """

    spec: RunSpec
    fold: int
    folds: int = FOLDS

    @property
    def group(self) -> str:
        """The hash that all folds of one cross-validation have."""
        return group_of(self.spec.hash, self.folds)

    @property
    def hash(self) -> str:
        return f"{self.group}-{self.fold}"

    @property
    def epochs(self) -> int:
        return int(self.spec.suite_parameters["epochs"])

    @property
    def gpu_share(self) -> float:
        return _gpu_share(self.spec)

    def __str__(self) -> str:
        spec = self.spec
        return f"{spec.suite}/{spec.variant}/seed-{spec.seed}/fold-{self.fold + 1}-of-{self.folds}"

    def path(self, store: Store) -> Path:
        return fold_file(store, self.group, self.fold)

    def read(self, store: Store) -> Ended:
        about, _ = read_fold(self.path(store))
        require_same_data(about["spec"], self.spec)
        return Ended(DONE)

    def write(self, store: Store, ended: Ended) -> None:
        """Keeps its predictions; nothing of one that diverged or failed."""
        if ended.status == DONE:
            path = self.path(store)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as aside:
                aside.write_bytes(ended.result)

    def train(self, place: Place, checkpoint: Path | None) -> Messages:
        from mtlbench.training.folds import FoldRun
        from mtlbench.training.loop import train

        return train(
            lambda: FoldRun(self.spec, place, fold=self.fold, folds=self.folds), checkpoint
        )

    def require_workers(self, workers: int) -> None:
        _require_batches_for(workers, self.spec)


def ended_as(info: Mapping[str, Any]) -> Ended:
    """How a run or a trial ended, by its file."""
    device = info.get("device") or ""
    return Ended(info["status"], device=device, workers=info.get("workers", 1) if device else 0)


def _require_batches_for(workers: int, spec: RunSpec) -> None:
    """Makes sure that each of so many processes has a part in a batch."""
    size = int(spec.suite_parameters["batch_size"])
    if size < workers:
        raise UserError(
            f"batch_size is {size}, too small for {workers} workers per run, each of which takes a "
            "part of every batch"
        )


def _gpu_share(spec: RunSpec) -> float:
    from mtlbench.suites.base import suites

    suite: Any = suites.get(spec.suite).cls
    return float(suite.gpu_share)


def cross_validations(specs: Sequence[RunSpec]) -> list[FoldJob]:
    """All folds of these runs."""
    return [FoldJob(spec, fold) for spec in specs for fold in range(FOLDS)]
