"""How far a study goes: 1,000 to 100,000 runs on up to 1,000 workers, in the process that drives.

    python benchmarks/scale.py [--runs 1000 10000] [--workers 1000] [--seconds 10] [--epochs 2]
                               [--driven N] [--directory DIR] [--out FILE.json]

Simulated: time, which goes on when there is nothing left to do; Ray, whose machines of 16 workers
give messages when they are due; training, which takes `--seconds` a run of that time and comes to
random metrics. Real, and the code of every study: the plan of one of `digits`, its jobs and their
way to the driver, the pool with its queue, locks, polls and placement, every event and the line
that tells of it, every file of a run until it stands in its place, and all that reads the runs
again. Real Ray adds about a millisecond of CPU to each message. With `--driven N` the driver ends
after so many runs, when its queue is as long as it gets, and the others are written by hand.

Each step is a process of its own, and so has a peak memory of its own. Prints a table: CPU time of
the driver and of the command; the share of a core that the driver needs to keep up with the
workers; files, and what they take of the disk; CPU time to plan a study, to look for its runs where
all are there (`found`), to load them (`load_results`) and to compare them. The runs lie in a
temporary directory and take 20 kB each.
"""

import argparse
import hashlib
import heapq
import itertools
import json
import os
import pickle
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mtlbench.store.runs import HISTORY_FILE, RUN_FILE, UNFINISHED, RunRecord, Store
from mtlbench.store.schema import DONE
from mtlbench.store.sealed import sealed

SUITE = "digits"
STRATEGIES, LEVELS = 40, (0.0, 0.1, 0.2, 0.4, 0.6)
CELLS = STRATEGIES * len(LEVELS)
LEFT_OUT = ("evolution", "pivrg", "single")
"""Strategies whose runs are more than one network, or take what others have found."""
MACHINE = 16
"""Workers of a machine."""
START_SECONDS = 5.0
"""Time that a worker takes to be up."""

JOBS, INFO = "jobs.pickle", "info.pickle"
"""What a step leaves for the next."""


@dataclass(frozen=True)
class Scale:
    """What is measured.

    Attributes:
        runs: how many, a multiple of `CELLS` or less than that.
        workers: how many train at a time.
        seconds: that a run takes.
        epochs: that it has.
        driven: runs that the driver trains.
    """

    runs: int
    workers: int
    seconds: float
    epochs: int
    driven: int


# --- a plan -------------------------------------------------------------------------------------


def plan_study(base: Path, scale: Scale) -> dict[str, float]:
    """Plans a study, looks for its runs, and packs them as for the driver."""
    from mtlbench.strategies.base import strategies
    from mtlbench.study.plan import plan
    from mtlbench.suites.build import suite_of
    from mtlbench.training.jobs import RunJob
    from mtlbench.training.record import final_metrics, run_info

    names = [entry.name for entry in strategies.entries() if entry.name not in LEFT_OUT]
    names = names[: max(1, min(STRATEGIES, scale.runs // len(LEVELS)))]
    variants = [f"left@{level:g}" if level else "clean" for level in LEVELS]
    overrides = {"epochs": scale.epochs}
    plan(SUITE, strategies=names, variants=variants, seeds=1, overrides=overrides)  # imports
    started = time.process_time()
    specs = plan(
        SUITE,
        strategies=names,
        variants=variants,
        seeds=max(1, scale.runs // CELLS),
        overrides=overrides,
    )
    jobs, store = [RunJob(spec) for spec in specs], Store(base / "runs")
    missing = [job for job in jobs if job.found(store) is None]
    packed = pickle.dumps((missing, store))
    seconds = time.process_time() - started
    tasks = suite_of(specs[0]).tasks()
    values = {f"{task.name}/{metric.name}": 0.0 for task in tasks for metric in task.metrics}
    metrics = final_metrics(tasks, values)
    info = run_info(specs[0], "", "", status=DONE, error=None, tasks=tasks, metrics=metrics)
    (base / JOBS).write_bytes(packed)
    (base / INFO).write_bytes(pickle.dumps(info))
    return {"runs": len(jobs), "plan": seconds, "packed": len(packed)}


# --- a simulated cluster ------------------------------------------------------------------------


class EnoughError(Exception):
    """As many runs are trained as are to be."""


class Due:
    """A message that will be there at some time."""


class Stream(Due):
    """What a worker says of a job, one message after the other."""

    def __init__(self, messages: Iterator[Any], ray: "SimulatedRay", pause: float) -> None:
        self._messages, self._ray, self._pause = messages, ray, pause
        ray.expect(self, pause)

    def __next__(self) -> Any:
        with self._ray.work:
            message = next(self._messages)
            if not self._ray.is_last(message):
                self._ray.expect(self, self._pause)
        return message


class Meter:
    """CPU time of this thread inside of its blocks (s)."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.thread_time() - self._started


class SimulatedRay:
    """What the pool needs of Ray, in a time of its own.

    Attributes:
        now: the time (s).
        work: what workers do.
        messages: how many were received.
    """

    def __init__(self, scale: Scale, info: Mapping[str, Any]) -> None:
        self._scale, self._info = scale, info
        self._due: list[tuple[float, int, Due]] = []
        self._numbers = itertools.count()
        self._chance = random.Random("scale")
        self.now, self.work, self.messages = 0.0, Meter(), 0
        self.forgotten = 0

    def nodes(self) -> list[dict[str, Any]]:
        machines = [MACHINE] * (self._scale.workers // MACHINE)
        machines += [self._scale.workers % MACHINE] if self._scale.workers % MACHINE else []
        return [
            {
                "NodeID": f"{number:056x}",
                "NodeManagerHostname": f"machine-{number}",
                "Resources": {"CPU": float(workers)},
                "Alive": True,
            }
            for number, workers in enumerate(machines)
        ]

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def expect(self, what: Due, seconds: float) -> None:
        """Something will be there in a while, sooner or later by a tenth."""
        due = self.now + seconds * self._chance.uniform(0.9, 1.1)
        heapq.heappush(self._due, (due, next(self._numbers), what))

    def wait(
        self, references: list[Due], *, num_returns: int = 1, timeout: float
    ) -> tuple[list[Due], list[Due]]:
        """As `ray.wait`: those that are there, after a wait for the first where none is."""
        if self._due and self.now < self._due[0][0]:
            self.now = min(self.now + timeout, self._due[0][0])
        ready: list[Due] = []
        while self._due and self._due[0][0] <= self.now and len(ready) < num_returns:
            ready.append(heapq.heappop(self._due)[2])
        self.messages += len(ready)
        return ready, []

    def get(self, message: Any) -> Any:
        return message

    def kill(self, worker: Any) -> None:
        pass

    def remote(self, actor: type) -> Any:
        """Stands for `ray.remote(Worker)`."""
        handle = SimpleNamespace(
            is_up=SimpleNamespace(remote=self._start),
            train=SimpleNamespace(remote=self._train),
            forget=SimpleNamespace(remote=self._forget),
        )
        started = SimpleNamespace(remote=lambda setup: handle)
        return SimpleNamespace(options=lambda **_: started)

    def _start(self) -> Due:
        up = Due()
        self.expect(up, START_SECONDS)
        return up

    def _train(self, job: Any, checkpoint: Path) -> Stream:
        pause = self._scale.seconds / (self._scale.epochs + 1)
        return Stream(self._messages(job), self, pause)

    def _forget(self, checkpoint: Path) -> None:
        self.forgotten += 1

    def is_last(self, message: Any) -> bool:
        from mtlbench.training.job import Ended

        return isinstance(message, Ended)

    def _messages(self, job: Any) -> Iterator[Any]:
        """What training says of a job."""
        from mtlbench.training.job import Ended, Progress

        record = self.record_of(job)
        for epoch in range(1, self._scale.epochs + 1):
            yield Progress(epoch, {name: c[:epoch] for name, c in record.history.items()})
        yield Ended(DONE, epochs=self._scale.epochs, result=record)

    def record_of(self, job: Any) -> RunRecord:
        """What a run leaves behind."""
        metrics = [
            {**metric, "value": self._chance.gauss(50.0, 1.0)} for metric in self._info["metrics"]
        ]
        columns = ["epoch", *(f"validation/{m['task']}/{m['metric']}" for m in metrics)]
        epochs = range(1, self._scale.epochs + 1)
        history = {name: [epoch + self._chance.random() for epoch in epochs] for name in columns}
        own = {"hash": job.hash, "spec": asdict(job.spec), "label": job.label, "stage": job.stage}
        return RunRecord({**self._info, **own, "metrics": metrics, "device": "cpu"}, history)


def drive(base: Path, scale: Scale) -> dict[str, float]:
    """Trains a planned study on the simulated cluster."""
    from rich.console import Console

    from mtlbench.execution import fleet, pool
    from mtlbench.execution.events import ENDS
    from mtlbench.execution.progress import show_progress
    from mtlbench.execution.worker import WorkerSetup, own_versions
    from mtlbench.training.job import Place

    simulated = SimulatedRay(scale, pickle.loads((base / INFO).read_bytes()))
    for module in (fleet, pool):
        module.ray = simulated  # type: ignore[assignment]
        module.time = simulated  # type: ignore[assignment]
    fleet.alive_nodes = simulated.nodes
    command, sent, ended = Meter(), 0, 0
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere)
        with redirect_stderr(nowhere), show_progress(scale.runs, console) as show:

            def emit(event: Any) -> None:
                nonlocal sent, ended
                content = pickle.dumps(event)
                sent += len(content)
                with command:
                    show(pickle.loads(content))
                ended += event.kind in ENDS
                if ended == scale.driven < scale.runs:
                    raise EnoughError

            of_thread = time.thread_time()
            jobs, store = pickle.loads((base / JOBS).read_bytes())
            setup = WorkerSetup((), 1, Place(), own_versions())
            of_jobs = pool.Pool(1, 0, setup, elastic=True, emit=emit)
            of_jobs.fleet.capacity()
            of_jobs.fleet.start(len(jobs))
            with suppress(EnoughError):
                of_jobs.work(jobs, store)
            of_thread = time.thread_time() - of_thread
    driver = of_thread - command.seconds - simulated.work.seconds
    if ended < len(jobs):
        write_rest(jobs, store, simulated)
    return {
        "driven": ended,
        "driver": driver,
        "command": command.seconds,
        "simulated": simulated.now,
        "messages": simulated.messages,
        "forgotten": simulated.forgotten,
        "events_bytes": sent,
    }


def write_rest(jobs: Sequence[Any], store: Any, simulated: SimulatedRay) -> None:
    """Writes the runs that were not trained, at once and without waiting for the disk."""
    shutil.rmtree(store.root / UNFINISHED)
    history = (jobs[0].path(store) / HISTORY_FILE).read_bytes()
    digest = {"bytes": len(history), "sha256": hashlib.sha256(history).hexdigest()}
    files = {"files": {HISTORY_FILE: digest}}
    for job in jobs:
        path = job.path(store)
        if not path.exists():
            path.mkdir(parents=True)
            (path / HISTORY_FILE).write_bytes(history)
            info = {**simulated.record_of(job).info, **files}
            (path / RUN_FILE).write_bytes(sealed(info))


# --- reading it again ---------------------------------------------------------------------------


def survey(base: Path, scale: Scale) -> dict[str, float]:
    """Reads all runs, as a command does that is begun again, and as those do that compare."""
    from mtlbench.analysis.aggregate import compare
    from mtlbench.analysis.results import load_results
    from mtlbench.analysis.tables import render

    files = blocks = 0
    for folder, _, names in os.walk(base / "runs"):
        files += len(names)
        blocks += sum(os.stat(f"{folder}/{name}").st_blocks for name in names)
    jobs, store = pickle.loads((base / JOBS).read_bytes())
    figures: dict[str, float] = {"files": files, "disk": 512 * blocks}

    def measured(name: str, does: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = does()
        figures[name] = time.process_time() - started
        return result

    found = measured("found", lambda: [job.found(store) for job in jobs])
    if any(ended is None for ended in found):
        raise SystemExit("a run is missing")
    del found
    hashes = {job.hash for job in jobs}
    measured("load", lambda: store.load())
    measured("results", lambda: load_results(store.root))
    compared = measured("compare", lambda: compare(store.root, SUITE, hashes=hashes, tunings=()))
    measured("render", lambda: render(compared, "table"))
    if len(compared.runs["hash"].unique()) != len(jobs):
        raise SystemExit("not all runs are compared")
    return figures


# --- the whole ----------------------------------------------------------------------------------

STEPS: dict[str, Callable[[Path, Scale], dict[str, float]]] = {
    "plan": plan_study,
    "drive": drive,
    "survey": survey,
}


def measure(scale: Scale, directory: str | None) -> dict[str, Any]:
    """All steps, each in a process of its own."""
    figures: dict[str, Any] = asdict(scale)
    with tempfile.TemporaryDirectory(prefix="mtlbench-scale-", dir=directory) as base:
        for step in STEPS:
            command = [sys.executable, __file__, "--step", step, base]
            started = time.perf_counter()
            ended = subprocess.run(
                [*command, json.dumps(asdict(scale))], stdout=subprocess.PIPE, check=True
            )
            figures |= json.loads(ended.stdout)
            figures[f"{step}_wall"] = time.perf_counter() - started
    return figures


ROWS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "workers": lambda f: f"{f['workers']:,}",
    "of them driven": lambda f: f"{f['driven']:,}",
    "to plan (s)": lambda f: f"{f['plan']:.2f}",
    "driver, a run (ms)": lambda f: f"{1e3 * f['driver'] / f['driven']:.2f}",
    "driver, share of a core to keep up": lambda f: f"{f['driver'] / f['simulated']:.3f}",
    "calls of workers to forget a run": lambda f: f"{f['forgotten']:,}",
    "command, a run (ms)": lambda f: f"{1e3 * f['command'] / f['driven']:.2f}",
    "files": lambda f: f"{f['files']:,}",
    "on the disk (MB)": lambda f: f"{f['disk'] / 1e6:,.0f}",
    "`found` (s)": lambda f: f"{f['found']:.2f}",
    "`Store.load` (s)": lambda f: f"{f['load']:.2f}",
    "`load_results` (s)": lambda f: f"{f['results']:.2f}",
    "`compare` (s)": lambda f: f"{f['compare']:.2f}",
    "its table (s)": lambda f: f"{f['render']:.2f}",
    "peak memory: plan, driver, compare (MiB)": lambda f: ", ".join(
        f"{f[f'{step}_mib']:.0f}" for step in STEPS
    ),
}


def table(measured: list[dict[str, Any]]) -> str:
    heads = [f"{figures['runs']:,} runs" for figures in measured]
    lines = [f"| | {' | '.join(heads)} |", f"| :-- |{' --: |' * len(heads)}"]
    lines += [f"| {row} | {' | '.join(map(of, measured))} |" for row, of in ROWS.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--driven", type=int, metavar="N", help="runs that are trained")
    parser.add_argument("--directory", help="where runs are written for as long as it takes")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, base, scale = options.step
        figures = STEPS[step](Path(base), Scale(**json.loads(scale)))
        figures[f"{step}_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(figures))
        return
    measured = []
    for runs in options.runs:
        scale = Scale(
            runs, options.workers, options.seconds, options.epochs, options.driven or runs
        )
        measured.append(measure(scale, options.directory))
        print(f"{runs:,} runs: {json.dumps(measured[-1])}", file=sys.stderr)
    print(table(measured))
    if options.out is not None:
        options.out.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
