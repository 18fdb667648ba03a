"""MLflow: one run there per run, in an experiment named after the suite.

Where that is, `MLFLOW_TRACKING_URI` says, as everywhere in MLflow, and `MLFLOW_EXPERIMENT_NAME` may
give another experiment.
"""

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from mtlbench.execution.trackers.base import Ending, TrackedRun, Tracker
from mtlbench.store.schema import DONE

KEY = "mtlbench.key"
LONGEST_VALUE = 5000
"""Characters of a tag or a parameter that every store takes."""


class MLflow(Tracker):
    """Epochs are steps, final metrics too; a run that failed or diverged is `FAILED`."""

    def __init__(self, results: Path) -> None:
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # no line for every attempt
        self.client = MlflowClient()
        self.place = self.client.tracking_uri
        self.ids: dict[str, str] = {}

    def start(self, run: TrackedRun) -> int:
        experiment = self._experiment(run.spec.suite)
        found = self.client.search_runs([experiment], f"tags.`{KEY}` = '{run.key}'", max_results=1)
        if found:
            self.ids[run.key] = found[0].info.run_id
            self.client.update_run(found[0].info.run_id, status="RUNNING")
            return int(found[0].data.metrics.get("epoch", 0))
        made = self.client.create_run(
            experiment, tags={**run.tags, KEY: run.key}, run_name=run.name
        )
        self.ids[run.key] = made.info.run_id
        parameters = [
            Param(_name(name), str(value)[:LONGEST_VALUE]) for name, value in run.parameters.items()
        ]
        self.client.log_batch(made.info.run_id, params=parameters)
        return 0

    def log(self, run: TrackedRun, epoch: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, now, epoch) for name, value in values.items()]
        self.client.log_batch(self.ids[run.key], metrics)

    def end(self, run: TrackedRun, ending: Ending) -> None:
        id = self.ids[run.key]
        self.log(run, ending.epoch, ending.metrics)
        self.client.set_tag(id, "status", ending.status)
        if ending.error:
            self.client.set_tag(id, "error", ending.error[:LONGEST_VALUE])
        self.client.set_terminated(id, "FINISHED" if ending.status == DONE else "FAILED")

    def stop(self, run: TrackedRun) -> None:
        self.client.set_terminated(self.ids[run.key], "KILLED")

    def _experiment(self, suite: str) -> str:
        """Finds or makes the experiment; gives its number."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", suite)
        there = self.client.get_experiment_by_name(name)
        number: str = there.experiment_id if there else self.client.create_experiment(name)
        return number


def _name(name: str) -> str:
    """A name with the characters that MLflow allows in those of metrics and parameters."""
    return re.sub(r"[^\w/.: -]", "_", name)


TRACKER = MLflow
