"""Weights & Biases: one run there per run, in the project `mtlbench`, grouped by suite.

What else there is to choose, wandb's own environment variables choose: `WANDB_MODE`,
`WANDB_PROJECT`, `WANDB_ENTITY`, `WANDB_DIR`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from wandb import Run, Settings, init, login, setup
from wandb.errors import UsageError

from mtlbench.errors import UserError
from mtlbench.execution.trackers.base import Ending, TrackedRun, Tracker
from mtlbench.store.schema import DONE

LONGEST_TAG = 64
INTERRUPTED = 255
"""The exit code of a run that Ctrl-C has ended, by wandb's own convention."""


class WeightsAndBiases(Tracker):
    """Epochs are steps, tags and parameters the configuration, final metrics the summary."""

    def __init__(self, results: Path) -> None:
        settings = setup().settings
        if settings.mode == "online":
            try:
                login()  # asks now, not in the middle of a study
            except UsageError as error:
                raise UserError(
                    "tracker 'wandb' has no login: use `wandb login`, or set WANDB_MODE=offline"
                ) from error
        self.project = os.environ.get("WANDB_PROJECT", "mtlbench")
        self.place = f"{settings.mode}, project {self.project!r}"
        self.runs: dict[str, Run] = {}

    def start(self, run: TrackedRun) -> int:
        spec = run.spec
        tags = (spec.suite, spec.variant, spec.strategy, f"seed-{spec.seed}")
        self.runs[run.key] = init(
            project=self.project,
            id=run.key,
            name=run.name,
            group=spec.suite,
            tags=list(dict.fromkeys(tag[:LONGEST_TAG] for tag in tags)),
            config={**run.parameters, **run.tags, "seed": spec.seed},
            resume="allow",
            reinit="create_new",  # several runs at a time in one process
            settings=Settings(console="off", silent=True),
        )
        return max(0, self.runs[run.key].step - 1)

    def log(self, run: TrackedRun, epoch: int, values: Mapping[str, float]) -> None:
        self.runs[run.key].log(dict(values), step=epoch)

    def end(self, run: TrackedRun, ending: Ending) -> None:
        there = self.runs.pop(run.key)
        there.summary.update({**ending.metrics, "status": ending.status})
        if ending.error:
            there.summary.update({"error": ending.error})
        if ending.status != DONE:
            there.tags = (*(there.tags or ()), ending.status)
        there.finish(exit_code=0 if ending.status == DONE else 1)

    def stop(self, run: TrackedRun) -> None:
        self.runs.pop(run.key).finish(exit_code=INTERRUPTED)


TRACKER = WeightsAndBiases
