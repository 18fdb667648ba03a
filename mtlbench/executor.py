"""Trains the runs of a study on Ray: on this machine, or on a cluster.

The driver, this process, alone writes results; workers send records back. They stay alive from
run to run and keep imports and data.
"""

import logging
import math
import os
import re
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtlbench.errors import UserError
from mtlbench.registry import PluginFile
from mtlbench.store import FAILED, DamagedRunError, History, RunRecord, Store, read_run
from mtlbench.strategies.compose import Composition
from mtlbench.strategies.evolution import Evolution
from mtlbench.strategies.table import ON_DEVICE, check_place
from mtlbench.study import RunSpec
from mtlbench.worker import Workplace

POLL_SECONDS = 1.0
"""How often runs that other processes train are looked at again."""


MOST_STARTS = 3
"""How often a run is begun whose worker dies: the machine may be at fault, or the run."""

CONNECT_SECONDS = 5.0
"""How long a cluster's address may take to answer."""


@dataclass(frozen=True)
class Resources:
    """What one run takes.

    Attributes:
        address: of a Ray cluster; this machine where None.
        cpus: cores a run, fractions too; it computes with so many threads, at least one.
        gpus: GPUs a run, fractions too; 0 trains on the CPU.
        instance_tables: where instance parameters lie while a run is trained: `device` beside the
            network, `cpu`, or a directory for memory-mapped files.
        traces: which runs keep `traces.npz`: all of them, none, or those of these strategies.
    """

    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    instance_tables: str = ON_DEVICE
    traces: bool | frozenset[str] = False

    @property
    def of_worker(self) -> dict[str, Any]:
        """What Ray is to reserve for a worker."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}

    def workplace(self, plugins: Sequence[PluginFile]) -> Workplace:
        """What a worker is set up with."""
        threads, device = max(1, int(self.cpus)), "cuda" if self.gpus else "cpu"
        return Workplace(tuple(plugins), threads, device, self.instance_tables)

    def keeps_traces(self, spec: RunSpec) -> bool:
        return self.traces if isinstance(self.traces, bool) else spec.strategy in self.traces

    def __post_init__(self) -> None:
        try:
            check_place(self.instance_tables)
        except ValueError as error:
            raise UserError(str(error)) from error
        if not self.cpus > 0:
            raise UserError(f"cpus per run must be above 0, but is {self.cpus:g}")
        if not self.gpus >= 0:
            raise UserError(f"gpus per run must be at least 0, but is {self.gpus:g}")
        for name, count in (("cpus", self.cpus), ("gpus", self.gpus)):
            if not math.isfinite(count) or (count > 1 and count != int(count)):
                raise UserError(f"{name} per run above 1 must be whole, but is {count:g}")


@dataclass(frozen=True)
class Event:
    """Something that happened to a run, or to a fold.

    Attributes:
        spec: a `RunSpec`, or a `FoldSpec`.
        kind: `started`, `epoch`, `notice`, `done`, `diverged` or `failed`.
        epoch, epochs: how many are over, and of how many.
        seconds: since the run started here.
        error: last line of what went wrong, where `kind` is `failed`; what a person should know,
            where it is `notice`.
        history: of all epochs so far, where `kind` is `epoch`.
        record: all that a run leaves behind that has ended here; None where another process ended
            it.
    """

    spec: Any
    kind: str
    epoch: int = 0
    epochs: int = 0
    seconds: float = 0.0
    error: str = ""
    history: History = field(default_factory=dict)
    record: RunRecord | None = None


@dataclass(frozen=True)
class Survey:
    """What of a study is there already.

    Attributes:
        finished: runs that are done or diverged.
        missing: runs to train.
        unusable: runs of this study that are damaged or failed, or lack the traces asked for;
            they are among the missing.
    """

    finished: list[RunSpec]
    missing: list[RunSpec]
    unusable: list[RunSpec]


def survey(specs: Sequence[RunSpec], store: Store, resources: Resources) -> Survey:
    """Looks which runs of a study stand whole in the store, with all that is to be kept."""
    finished, missing, unusable = [], [], []
    for spec in specs:
        there = run_directory(spec, store).exists()
        if there and fault(spec, store, resources) is None:
            finished.append(spec)
        else:
            missing.append(spec)
            unusable += [spec] * there
    return Survey(finished, missing, unusable)


def fault(spec: RunSpec, store: Store, resources: Resources) -> str | None:
    """Why a run in the store is of no use; None where it is whole, with all that is to be kept."""
    try:
        run = read_run(run_directory(spec, store), thorough=True)
    except DamagedRunError as error:
        return f"is damaged: {error}"
    if run.info["status"] == FAILED:
        return "had failed"
    return "kept no traces" if resources.keeps_traces(spec) and not run.has_traces else None


def set_aside(specs: Sequence[RunSpec], store: Store, resources: Resources) -> Iterator[str]:
    """Moves runs out of the way that are of no use, and says so of each.

    Another command may have done that meanwhile, and trained them anew: each is looked at again,
    by whom no other trains it.
    """
    for spec in specs:
        with store.lock(spec.hash) as held:
            path = run_directory(spec, store)
            if held and path.exists() and (reason := fault(spec, store, resources)):
                kept = store.set_aside(path)
                yield f"{path} {reason}; it is kept as {kept} and trained again"


@contextmanager
def cluster(resources: Resources) -> Iterator[int]:
    """Connects to Ray and gives how many runs fit at a time.

    Raises:
        UserError: no cluster at the address, or a run needs more than any machine of it has.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no calls home
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    _check_reachable(resources.address)
    import ray

    on_end = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if resources.address is None:
            ray.init(address="local", include_dashboard=False, **options)
        else:
            ray.init(address=resources.address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"no Ray cluster at {resources.address!r}: {reason}") from error
    if threading.current_thread() is threading.main_thread():
        # Ray has put a handler of its own, which dumps a stack.
        signal.signal(signal.SIGTERM, on_end)
    try:
        fits = 0
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for node in nodes:
            at_once = node.get("CPU", 0.0) / resources.cpus
            if resources.gpus:
                at_once = min(at_once, node.get("GPU", 0.0) / resources.gpus)
            fits += int(at_once + 1e-9)
        if not fits:
            most_cpus = max(node.get("CPU", 0.0) for node in nodes)
            most_gpus = max(node.get("GPU", 0.0) for node in nodes)
            raise UserError(
                f"a run asks for {resources.cpus:g} CPUs and {resources.gpus:g} GPUs, but the "
                f"largest machine has {most_cpus:g} and {most_gpus:g}"
            )
        yield fits
    finally:
        ray.shutdown()


def execute(
    specs: Sequence[RunSpec],
    store: Store,
    parallel: int,
    *,
    plugins: Sequence[PluginFile] = (),
    resources: Resources,
    report: Callable[[Event], None],
) -> None:
    """Trains runs and writes each into the store as it ends.

    Args:
        specs: the runs, none of which stands in the store.
        store: where records go.
        parallel: how many runs at a time, as `cluster` gave it.
        plugins: loaded in every worker.
        resources: what a run takes.
        report: told of everything that happens, in this process.
    """
    searches = [spec for spec in specs if _is_search(spec)]
    study = _Study(store, resources, resources.workplace(plugins), report)
    crew = _Crew([s for s in specs if s not in searches], study)
    try:
        crew.work(parallel)
    finally:
        crew.dismiss()
    _search(searches, study)


@dataclass(frozen=True)
class _Study:
    """What all runs of a study share: where they go, what each takes, who is told."""

    store: Store
    resources: Resources
    workplace: Workplace
    report: Callable[[Event], None]


@dataclass
class _Running:
    spec: RunSpec
    worker: Any
    lock: ExitStack
    started: float


class _Crew:
    """The workers of one study, and which run each of them has.

    Attributes:
        queue: runs that nobody here trains.
        starting: workers that are not up yet, by the reference that tells when they are.
        idle: workers without a run.
        running: runs under way, by the stream of their messages.
        starts: how often each run was begun here, by its hash.
    """

    def __init__(self, specs: Sequence[RunSpec], study: _Study) -> None:
        self.study, self.store, self.report = study, study.store, study.report
        self.queue = deque(specs)
        self.starting: dict[Any, Any] = {}
        self.idle: list[Any] = []
        self.running: dict[Any, _Running] = {}
        self.starts: Counter[str] = Counter()

    def work(self, parallel: int) -> None:
        """Returns when all runs have ended, here or in another process."""
        import ray

        for _ in range(min(parallel, len(self.queue))):
            self.start_worker()
        while self.queue or self.running:
            waited_for: list[Any] = [*self.running, *self.starting]
            ready: list[Any] = []
            if waited_for:
                ready = ray.wait(waited_for, timeout=POLL_SECONDS)[0]
            else:  # all that is left is in the hands of other processes
                time.sleep(POLL_SECONDS)
            for item in ready:
                if item in self.starting:
                    self.idle.append(self.starting.pop(item))
                else:
                    self.receive(item)
            if self.idle or not ready:
                self.hand_out()

    def start_worker(self) -> None:
        import ray

        study = self.study
        actor: Any = ray.remote(_Worker).options(**study.resources.of_worker, max_restarts=0)
        worker = actor.remote(study.workplace)
        self.starting[worker.is_up.remote()] = worker

    def hand_out(self) -> None:
        """Gives runs to idle workers and drops those that another process has finished.

        A run is locked only for a worker that is up: a cluster may be full for hours.
        """
        for _ in range(len(self.queue)):
            spec = self.queue.popleft()
            directory = run_directory(spec, self.store)
            if directory.exists():
                self.report(Event(spec, read_run(directory).info["status"]))
                continue
            lock = ExitStack()
            if not self.idle or not lock.enter_context(self.store.lock(spec.hash)):
                lock.close()
                self.queue.append(spec)
                continue
            worker = self.idle.pop()
            checkpoint = self.store.checkpoint_file(spec.hash).absolute()
            self.starts[spec.hash] += 1
            stream = worker.train.remote(spec, checkpoint, self.study.resources.keeps_traces(spec))
            self.running[stream] = _Running(spec, worker, lock, time.monotonic())
            self.report(Event(spec, "started"))

    def receive(self, stream: Any) -> None:
        """Takes the next message of a run: an epoch is over, or all is."""
        import ray

        from mtlbench.trainer import Notice

        run = self.running[stream]
        message: Any
        try:
            message = ray.get(next(stream))
        except ray.exceptions.RayError as error:  # the worker process died
            ray.kill(run.worker)
            run.worker = None
            if self.starts[run.spec.hash] < MOST_STARTS:
                self.take_back(stream)
                return
            message = _failed(
                run.spec, f"the worker process died, {MOST_STARTS} times in a row: {error}"
            )
        seconds = time.monotonic() - run.started
        if isinstance(message, Notice):
            self.report(Event(run.spec, "notice", seconds=seconds, error=message.text))
            return
        if not isinstance(message, RunRecord):
            epochs = message.epoch, message.epochs
            self.report(Event(run.spec, "epoch", *epochs, seconds, history=message.history))
            return
        self.store.write(message)
        self.store.clear_unfinished(run.spec.hash)
        run.lock.close()
        del self.running[stream]
        if run.worker is None:
            self.start_worker()
        else:
            self.idle.append(run.worker)
        self.report(_end(message, run.spec, seconds))

    def take_back(self, stream: Any) -> None:
        """Puts the run of a lost worker back into the queue; it goes on from its checkpoint."""
        run = self.running.pop(stream)
        run.lock.close()
        self.queue.append(run.spec)
        self.start_worker()
        saved = self.store.checkpoint_file(run.spec.hash).exists()
        place = "where it was saved last" if saved else "the start"
        self.report(Event(run.spec, "notice", error=f"has lost its worker; goes on from {place}"))

    def dismiss(self) -> None:
        """Ends all workers, and stops what is under way; its checkpoints stay."""
        import ray

        for worker in (*self.idle, *self.starting.values()):
            ray.kill(worker)
        for run in self.running.values():
            if run.worker is not None:
                ray.kill(run.worker)
            run.lock.close()


class _Worker:
    """Lives in a process of its own and trains one run after the other."""

    def __init__(self, workplace: Workplace) -> None:
        workplace.set_up()
        self.workplace = workplace

    def is_up(self) -> None:
        """Answers as soon as the process is there."""

    def train(self, spec: RunSpec, checkpoint: Path, keep_traces: bool) -> Iterator[Any]:
        from mtlbench.trainer import train

        yield from train(
            spec,
            device=self.workplace.device,
            checkpoint=checkpoint,
            instance_tables=self.workplace.instance_tables,
            keep_traces=keep_traces,
        )


def _is_search(spec: RunSpec) -> bool:
    """Whether a run is the training of a whole population."""
    return issubclass(Composition.parse(spec.strategy).task.cls, Evolution)


def _search(specs: Sequence[RunSpec], study: _Study) -> None:
    """Evolves populations one after the other, the members of each side by side."""
    queue = deque(specs)
    while queue:
        elsewhere: deque[RunSpec] = deque()
        for spec in queue:
            directory = run_directory(spec, study.store)
            if directory.exists():
                study.report(Event(spec, read_run(directory).info["status"]))
                continue
            with study.store.lock(spec.hash) as held:
                if held:
                    _evolve(spec, study)
                else:
                    elsewhere.append(spec)
        if len(elsewhere) == len(queue):
            time.sleep(POLL_SECONDS)
        queue = elsewhere


def _evolve(spec: RunSpec, study: _Study) -> None:
    from mtlbench.population import Job, MemberError, evolve

    store, resources, report = study.store, study.resources, study.report
    started = time.monotonic()

    def progress(epoch: int, epochs: int) -> None:
        report(Event(spec, "epoch", epoch, epochs, time.monotonic() - started))

    report(Event(spec, "started"))
    job = Job(
        spec,
        store.checkpoint_file(spec.hash).absolute().parent / "members",
        study.workplace,
        resources.keeps_traces(spec),
    )
    try:
        record = evolve(job, resources.of_worker, progress)
    except MemberError as error:
        record = _failed(spec, str(error))
    store.write(record)
    store.clear_unfinished(spec.hash)
    report(_end(record, spec, time.monotonic() - started))


def _check_reachable(address: str | None) -> None:
    """Ray itself tries for minutes to reach an address where nothing listens."""
    host_and_port = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address or "")
    if host_and_port is None:
        return
    try:
        port = int(host_and_port[2])
        socket.create_connection((host_and_port[1], port), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"no Ray cluster at {address!r}: {reason}") from error


def run_directory(spec: RunSpec, store: Store) -> Path:
    """Where the run of this spec stands, or will."""
    return store.run_directory(spec.suite, spec.variant, spec.strategy, spec.seed, spec.hash)


def _end(record: RunRecord, spec: RunSpec, seconds: float) -> Event:
    error_line = (record.info["error"] or "").strip().rpartition("\n")[2]
    return Event(spec, record.info["status"], seconds=seconds, error=error_line, record=record)


def _failed(spec: RunSpec, error: str) -> RunRecord:
    """The record of a run that gave none, by running out of memory for example."""
    info = {
        "status": FAILED,
        "hash": spec.hash,
        "spec": asdict(spec),
        "label": spec.strategy,
        "tasks": [],
        "corrupted": {},
        "metrics": [],
        "timings": {},
        "versions": {},
        "device": "",
        "error": error,
    }
    return RunRecord(info, {"epoch": []})
