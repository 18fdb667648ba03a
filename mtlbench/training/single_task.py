"""A network for each task: K jobs of one run, whose record has from each what is of its task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtlbench.spec import RunSpec
from mtlbench.store.runs import RunRecord, Store, read_run
from mtlbench.store.schema import DIVERGED, DONE, FAILED
from mtlbench.store.sealed import DamagedRunError
from mtlbench.suites.build import suite_of
from mtlbench.tasks.task import Task
from mtlbench.training.job import (
    Ended,
    Job,
    Messages,
    Parts,
    Place,
    require_same_data,
    run_directory,
)
from mtlbench.training.loop import train
from mtlbench.training.run import Run


@dataclass(kw_only=True)
class TaskRun(Run):
    """The network of one task."""

    task: str

    def start(self) -> None:
        super().start()
        stage: Any = self.strategy.task
        stage.set_task(self.task)

    def scored(self) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks if task.name == self.task)

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"task": self.task}


@dataclass(frozen=True)
class TaskJob(Job):
    """The network of one task.

    Attributes:
        spec: the run that it belongs to.
        task, number: the task's name, and its place among all.
        traces: keep what `Traces` notes of every training instance.
        tested: as for `Run`.
    """

    spec: RunSpec
    task: str
    number: int
    traces: bool = False
    tested: bool = True

    @property
    def hash(self) -> str:
        return f"{self.spec.hash}/task-{self.number}"

    def __str__(self) -> str:
        return f"{self.spec}/{self.task}"

    def path(self, store: Store) -> Path:
        return run_directory(self.spec, self._store(store))

    def read(self, store: Store) -> Ended:
        run = read_run(self.path(store), thorough=True)
        require_same_data(run.info["spec"], self.spec)
        history = {name: column.tolist() for name, column in run.history().items()}
        record = RunRecord(
            {name: value for name, value in run.info.items() if name != "files"},
            history,
            run.labels() or {},
            predictions=run.predictions() or {},
            traces=run.traces() or {},
        )
        if self.traces and not run.has_traces:
            raise DamagedRunError("kept no traces")
        return Ended(run.info["status"], "", len(history["epoch"]), record)

    def write(self, store: Store, ended: Ended) -> None:
        """Keeps it until the networks of all tasks are trained; nothing of one that failed."""
        if ended.status != FAILED:
            self._store(store).write(ended.result)

    def train(self, place: Place, checkpoint: Path | None) -> Messages:
        options = (self.spec, place, self.traces, self.tested)
        return train(lambda: TaskRun(*options, task=self.task), checkpoint)

    def _store(self, store: Store) -> Store:
        return Store(store.checkpoint_file(self.hash).with_name("whole"))


def each_task(spec: RunSpec, traces: bool, tested: bool = True) -> Parts:
    """The jobs of a run that trains a network for each task; it ends with what they did together.

    Args:
        spec: the run.
        traces: keep what `Traces` notes of every training instance.
        tested: as for `Run`.
    """
    tasks = [task.name for task in suite_of(spec).tasks()]
    jobs = [TaskJob(spec, task, number, traces, tested) for number, task in enumerate(tasks)]
    ends = yield [*jobs]
    for ended in ends:
        if ended.status == FAILED:
            return ended
    record = together(tasks, [ended.result for ended in ends])
    return Ended(record.info["status"], "", sum(ended.epochs for ended in ends), record)


def together(tasks: Sequence[str], records: Sequence[RunRecord]) -> RunRecord:
    """The record of a run from those of the networks of its tasks, in their order.

    Of a history that ended early, all end there.
    """
    first = records[0]
    statuses = {record.info["status"] for record in records}
    epochs = min(len(record.history["epoch"]) for record in records)
    history = {"epoch": list(first.history["epoch"][:epochs])}
    for task, record in zip(tasks, records, strict=True):
        own = (f"train_loss/{task}", f"weight/{task}", f"validation/{task}/")
        history |= {
            name: list(column[:epochs])
            for name, column in record.history.items()
            if name in own or name.startswith(own[-1])
        }
    seconds = {
        name: sum(record.info["timings"][name] for record in records)
        for name in first.info["timings"]
    }
    trained = sum(len(record.history["epoch"]) for record in records)
    info = {
        **first.info,
        "status": DONE if statuses == {DONE} else DIVERGED,
        "metrics": [
            metric
            for task, record in zip(tasks, records, strict=True)
            for metric in record.info["metrics"]
            if metric["task"] == task
        ]
        * (statuses == {DONE}),
        "timings": seconds,
        "population": {"networks": len(tasks), "epochs": trained},
    }
    return replace(
        first,
        info=info,
        history=history,
        predictions=_predictions(tasks, records),
        traces=_columns(records, lambda record: record.traces),
    )


def _predictions(tasks: Sequence[str], records: Sequence[RunRecord]) -> dict[str, np.ndarray]:
    """From the network of each task what it predicts of that task; the rest is the same."""
    if not all(record.predictions for record in records):
        return {}
    found = dict(records[0].predictions)
    for task, record in zip(tasks, records, strict=True):
        found |= {
            name: array
            for name, array in record.predictions.items()
            if name.rpartition("/")[2] == task
        }
    return found


def _columns(
    records: Sequence[RunRecord], of: Callable[[RunRecord], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Arrays [E, N, K] or [N, K] whose last axis has a place for each task, from the network of
    each."""
    epochs = min(
        (len(array) for record in records for array in of(record).values() if array.ndim == 3),
        default=0,
    )

    def column(array: np.ndarray, k: int) -> np.ndarray:
        return array[:epochs, :, k] if array.ndim == 3 else array[:, k]

    return {
        name: np.stack([column(of(record)[name], k) for k, record in enumerate(records)], -1)
        for name in of(records[0])
    }
