"""Feeds trackers from the events of a study, in threads that training never waits for."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from queue import SimpleQueue
from threading import Thread
from typing import Any

from mtlbench.errors import UserError, describe, unknown
from mtlbench.execution.events import ENDS, STARTED, Event
from mtlbench.execution.trackers import NAMES
from mtlbench.execution.trackers.base import Ending, TrackedRun, Tracker
from mtlbench.store.runs import History, Store
from mtlbench.training.jobs import RunJob

CLOSING_SECONDS = 60.0
"""Time that the end of a study waits for trackers that lag behind."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""No calls home, and standard output is for tables; a user's own settings come first."""


def load(names: str | Sequence[str]) -> dict[str, type[Tracker]]:
    """The trackers of this name or of these.

    Raises:
        UserError: an unknown name, or a package that is not there.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    kinds: dict[str, type[Tracker]] = {}
    for name in [names] if isinstance(names, str) else names:
        if name not in NAMES:
            raise unknown("tracker", name, NAMES)
        try:
            module: Any = import_module(f"mtlbench.execution.trackers.{name}")
        except ImportError as error:
            raise UserError(
                f'tracker {name!r} needs: pip install "mtlbench[{name}]" ({describe(error)})'
            ) from error
        kinds[name] = module.TRACKER
    return kinds


@contextmanager
def tracking(
    kinds: Mapping[str, type[Tracker]], store: Store
) -> Iterator[tuple[Callable[[Event], None], dict[str, str]]]:
    """Gives the function that is to be told of every event, and where each tracker's runs are.

    Raises:
        UserError: a tracker wants a login first.
    """
    lines = []
    for name, kind in kinds.items():
        try:
            lines.append(_Line(name, kind(store.root)))
        except UserError:
            raise
        except Exception as error:  # a server that is away
            _off(name, error)
    runs: dict[str, TrackedRun] = {}  # under way, by hash

    def tell(event: Event) -> None:
        job = event.job
        if not isinstance(job, RunJob):
            return
        if event.kind == STARTED:
            runs[job.hash] = TrackedRun(job.spec, _key(store, job.hash))
        if job.hash not in runs:  # another process has trained it
            return
        for line in lines:
            line.queue.put((runs[job.hash], event))
        if event.kind in ENDS:
            del runs[job.hash]

    try:
        yield tell, {line.name: line.tracker.place for line in lines}
    finally:
        for line in lines:
            line.queue.put(None)
        for line in lines:
            line.thread.join(CLOSING_SECONDS)
            if line.thread.is_alive():
                _warn(f"tracker {line.name!r} lags behind; what it has not taken by now is lost")


class _Line:
    """The way of one tracker's events: a queue, and the thread that works it off."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name, self.tracker = name, tracker
        self.queue: SimpleQueue[tuple[TrackedRun, Event] | None] = SimpleQueue()
        self.open: dict[str, TrackedRun] = {}
        self.logged: dict[str, int] = {}  # last epoch, by the run's key
        self.thread = Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            while (item := self.queue.get()) is not None:
                self._pass_on(*item)
            for run in self.open.values():
                self.tracker.stop(run)
        except Exception as error:  # nothing that a tracker does may end the training
            _off(self.name, error)

    def _pass_on(self, run: TrackedRun, event: Event) -> None:
        if event.kind == STARTED:
            self.logged[run.key] = self.tracker.start(run)
            self.open[run.key] = run
        for epoch, values in _epochs(event.history):
            if epoch > self.logged[run.key]:
                self.tracker.log(run, epoch, values)
                self.logged[run.key] = epoch
        if event.kind in ENDS:
            metrics = {
                f"final/{metric['task']}/{metric['metric']}": metric["value"]
                for metric in event.metrics or ()
            }
            ending = Ending(event.kind, self.logged.pop(run.key), metrics, event.text)
            self.tracker.end(run, ending)
            del self.open[run.key]


def _epochs(history: History) -> Iterator[tuple[int, dict[str, float]]]:
    """The rows of a history, by epoch."""
    for row, epoch in enumerate(history.get("epoch", [])):
        yield int(epoch), {name: column[row] for name, column in history.items()}


def _key(store: Store, hash: str) -> str:
    """The key of a run, kept beside its checkpoint for as long as it is unfinished."""
    file = store.checkpoint_file(hash).with_name("tracked")
    key = secrets.token_hex(8)
    with suppress(OSError):  # a full disk: then an interrupted run does not go on in trackers
        with suppress(FileNotFoundError):
            key = file.read_text("ascii", "replace") or key
        file.write_text(key)
    return key


def _off(name: str, error: Exception) -> None:
    _warn(f"tracker {name!r} is off for the rest of this study, which goes on: {describe(error)}")


def _warn(text: str) -> None:
    print(f"mtlbench: {text}", file=sys.stderr, flush=True)
