"""The members of a population, each named by the task weights that it was trained with.

All members of a search share suite, labels, seed, first weights of the network and batches. So
what a member is after a generation follows from its lineage alone: the task weights of each
generation up to then. Its state is kept in a file named by it, and found there again by a copy of
the member, by another worker, and by a search that was killed.
"""

import hashlib
import json
import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mtlbench.checkpoint import load_tree, save_tree
from mtlbench.files import replacing
from mtlbench.store import DONE, FAILED, RunRecord
from mtlbench.strategies.evolution import Evolution
from mtlbench.study import RunSpec
from mtlbench.tasks import Task
from mtlbench.trainer import Run

Lineage = Sequence[Mapping[str, float]]
"""Task weights by task name, one mapping a generation."""

FLOOR = 1e-6
"""Least value of a metric whose logarithm is taken."""


@dataclass(frozen=True)
class Segment:
    """What came of training a member for one generation.

    Attributes:
        status: `done` or `diverged`.
        score: on validation data, see `score`; −∞ where there is none.
        epochs: how many were trained.
        seconds: what they took, by what was done, as in a run's timings.
    """

    status: str
    score: float
    epochs: int
    seconds: dict[str, float]


def score(tasks: Sequence[Task], validation: Mapping[str, float]) -> float:
    """How good a member is: the mean over tasks of the mean over a task's metrics of ±log m.

    Differences of it are relative improvements, so that neither the unit of a metric nor how many
    of them a task has decides.

    Args:
        tasks: with their metrics.
        validation: `TASK/METRIC` to value.

    Returns:
        −∞ where a value is not finite.
    """
    means = []
    for task in tasks:
        logs = []
        for metric in task.metrics:
            value = validation[f"{task.name}/{metric.name}"]
            sign = 1 if metric.direction == "max" else -1
            logs.append(sign * math.log(max(value, FLOOR)) if math.isfinite(value) else -math.inf)
        means.append(math.fsum(logs) / len(logs))
    return math.fsum(means) / len(means)


class Members:
    """Trains members of one search, one after the other.

    Attributes:
        spec: the search.
        directory: where members are kept.
        device: where they are trained.
        instance_tables: where their instance parameters lie: `device`, `cpu` or a directory.
        keep_traces: keep what `Traces` notes of every training instance.
    """

    def __init__(
        self,
        spec: RunSpec,
        directory: Path,
        device: torch.device,
        instance_tables: str,
        keep_traces: bool,
    ) -> None:
        self.spec, self.directory, self.device = spec, directory, device
        self.instance_tables, self.keep_traces = instance_tables, keep_traces
        self._run: Run | None = None

    def train(self, lineage: Lineage) -> Segment:
        """Trains the last generation of a lineage, unless that was done before."""
        file = self._file(lineage, "json")
        if file.exists():
            return Segment(**json.loads(file.read_text()))
        segment = self._train(lineage)
        # Selection waits for all members, so nobody copies one from before the last generation.
        for old in self.directory.glob("*.safetensors"):
            if int(old.name.partition("-")[0]) < len(lineage) - 1:
                old.unlink(missing_ok=True)
        return segment

    def record(self, lineage: Lineage) -> RunRecord:
        """Tests a member and gives what the store writes, with the timings of this test alone."""
        run = self._at(lineage)
        run.seconds = dict.fromkeys(run.seconds, 0.0)
        try:
            if run.status == DONE:
                run.test()
        except Exception:
            run.status, run.error = FAILED, traceback.format_exc()
        return run.record()

    def _train(self, lineage: Lineage) -> Segment:
        run = self._at(lineage[:-1])
        first = run.epoch
        before = dict(run.seconds) if first else dict.fromkeys(run.seconds, 0.0)
        stage = run.strategy.task
        assert isinstance(stage, Evolution)
        stage.set_weights(lineage[-1])
        end = min(len(lineage) * stage.every, run.suite.epochs)
        while run.epoch < end and run.status == DONE:
            run.train_epoch()
        prefix = "validation/"
        validation = {
            key.removeprefix(prefix): values[-1]
            for key, values in run.history.items()
            if key.startswith(prefix)
        }
        segment = Segment(
            run.status,
            score(run.tasks, validation) if run.status == DONE else -math.inf,
            run.epoch - first,
            {name: value - before[name] for name, value in run.seconds.items()},
        )
        save_tree(self._file(lineage, "safetensors"), run.state())
        with replacing(self._file(lineage, "json")) as aside:
            aside.write_text(json.dumps(asdict(segment)))
        return segment

    def _at(self, lineage: Lineage) -> Run:
        """A run in the state after a lineage."""
        if self._run is None or not lineage:
            self._run = Run(self.spec, self.device, self.instance_tables, self.keep_traces)
            self._run.start()
        if not lineage:
            return self._run
        try:
            self._run.load_state(load_tree(self._file(lineage, "safetensors")))
        except ValueError:  # it was trained on another machine, whose files are not seen from here
            self._train(lineage)
        return self._run

    def _file(self, lineage: Lineage, suffix: str) -> Path:
        digest = hashlib.sha256(json.dumps(lineage).encode()).hexdigest()[:16]
        return self.directory / f"{len(lineage)}-{digest}.{suffix}"
