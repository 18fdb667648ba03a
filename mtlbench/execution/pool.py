"""The pool of jobs on Ray: their locks, checkpoints, restarts and events.

It runs in the process that holds Ray, see `driver`. Workers send back what a job leaves behind;
the pool alone writes it into the store.
"""

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from mtlbench.errors import UnfinishedError, describe
from mtlbench.execution.events import EPOCH, NOTICE, STARTED, Event
from mtlbench.execution.fleet import MOST_STARTS, Crew, Fleet
from mtlbench.execution.storage import Storage
from mtlbench.execution.worker import Apart, WorkerSetup
from mtlbench.store.runs import RunRecord, Store
from mtlbench.store.schema import FAILED
from mtlbench.store.sealed import DamagedRunError
from mtlbench.training.job import Ended, Job, Notice, Parts, Progress

POLL_SECONDS = 1.0
"""Time between two looks at the machines and at jobs that other processes train."""

MOST_LOOKS = 200
"""Waiting jobs that one poll looks for in the store: of a hundred thousand each look takes seconds,
and more over a network."""

CLEARERS = 8
"""Threads that remove checkpoints from a storage, which may be far away."""


@dataclass(eq=False)
class _ActiveJob:
    """A job of the study that was begun here.

    Attributes:
        job: it.
        lock: held until it is over.
        parts: what is to be trained for it, step by step.
        nodes: the machines that had its checkpoint.
        step: the jobs of this step, and how they ended so far.
        epochs_over: by the hash of a part.
    """

    job: Job
    lock: ExitStack
    parts: Parts
    epochs: int
    started: float = field(default_factory=time.monotonic)
    nodes: set[str] = field(default_factory=set)
    step: list[Job] = field(default_factory=list)
    ended: dict[str, Ended] = field(default_factory=dict)
    epochs_over: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class _Part:
    """The work of one worker: a job of the study, or a part of one.

    Attributes:
        starts: in a row without an epoch more than before.
        epoch: how far it has come.
        lost_on: the machines on which the worker of the last of these starts was lost.
    """

    job: Job
    of: _ActiveJob
    starts: int = 0
    epoch: int = 0
    lost_on: tuple[str, ...] = ()


class Pool:
    """The jobs of a study, and which worker has which part of them.

    Args:
        cpus, gpus: what each process of a job takes.
        setup: what each is told, and how many train a job together.
        elastic: whether machines may join; where not, the pool ends with the last one.
        emit: told of everything that happens.

    Attributes:
        fleet: the workers.
        waiting: jobs that were not begun here.
        elsewhere: those of them that another process trains.
        parts: begun, and waiting for a worker.
        running: parts under way and their workers, by the stream of their messages.
        unusable: of waiting jobs, the files that were read and are of no use.
        looked: place in `waiting` of the job that is looked for next.
        storage: where checkpoints are kept, too.
        clearing: what is being removed there, by job.
    """

    def __init__(
        self,
        cpus: float,
        gpus: float,
        setup: WorkerSetup,
        *,
        elastic: bool,
        emit: Callable[[Event], None],
    ) -> None:
        self.emit = emit
        self.fleet = Fleet(cpus, gpus, setup, elastic=elastic, emit=emit, left=self.forgive)
        self.waiting: deque[Job] = deque()
        self.elsewhere: list[Job] = []
        self.active: list[_ActiveJob] = []
        self.parts: deque[_Part] = deque()
        self.running: dict[Any, tuple[_Part, Crew]] = {}
        self.unusable: dict[str, tuple[int, int]] = {}
        self.looked = 0
        self.storage = Storage(setup.storage) if setup.storage else None
        self.clearers = ThreadPoolExecutor(CLEARERS)
        self.clearing: list[tuple[Job, Future[None]]] = []
        self.apart_told = False
        self.polled = 0.0

    def work(self, jobs: Iterable[Job], store: Store) -> None:
        """Returns when all jobs have ended, here or in another process.

        Raises:
            UserError: no worker comes up on any machine.
            LostRayError: Ray is gone.
            UnfinishedError: no machine is left, or a result cannot be written.
        """
        self.store = store
        self.waiting.extend(jobs)
        while self.waiting or self.elsewhere or self.active:
            if time.monotonic() - self.polled >= POLL_SECONDS:
                self.poll()
            waited_for: list[Any] = [*self.running, *self.fleet.starting]
            if not waited_for:
                time.sleep(POLL_SECONDS / 10)
            for reference in ready(waited_for):
                if reference in self.fleet.starting:
                    self.fleet.started(reference)
                else:
                    self.receive(reference)
            self.dispatch()
        self.collect_cleared(wait=True)

    def poll(self) -> None:
        """Takes in what changes without a word: machines, and jobs that other processes finish."""
        self.fleet.update()
        self.fleet.wait_for_machines()
        self.waiting.extend(self.elsewhere)
        self.elsewhere.clear()
        for _ in range(min(MOST_LOOKS, len(self.waiting))):
            self.looked %= len(self.waiting)
            job = self.waiting[self.looked]
            if (ended := self.ended_elsewhere(job)) is None:
                self.looked += 1
            else:
                del self.waiting[self.looked]
                self.emit(Event(job, ended.status))
        self.collect_cleared(wait=False)
        wanted = len(self.waiting) + len(self.parts)
        if not wanted and not any(each.job is not each.step[0] for each in self.active):
            while self.fleet.idle:  # others may want the cores
                self.fleet.stop(self.fleet.idle.pop())
        self.fleet.start(wanted)
        self.polled = time.monotonic()

    def forgive(self, node: str) -> None:
        """A machine has left: that workers were lost on it was no fault of their parts."""
        for part in (*self.parts, *(part for part, _ in self.running.values())):
            if node in part.lost_on:
                part.starts, part.lost_on = part.starts - 1, ()

    # --- jobs -------------------------------------------------------------------------------

    def dispatch(self) -> None:
        """Gives each idle worker something to train.

        A job is locked only for a worker that is up: a cluster may be full for hours.
        """
        while self.fleet.idle:
            while not self.parts and self.waiting:
                self.start_job(self.waiting.popleft())
            if not self.parts:
                return
            part, crew = self.parts.popleft(), self.fleet.idle.pop()
            part.starts += 1
            part.of.nodes.add(crew.nodes[0])
            checkpoint = part.job.checkpoint(self.store).absolute()
            self.running[crew.handle.train.remote(part.job, checkpoint)] = part, crew

    def start_job(self, job: Job) -> None:
        """Takes a job of the study in hand, unless another process has it or has finished it."""
        lock = ExitStack()
        if not lock.enter_context(self.store.lock(job.hash)):
            lock.close()
            self.elsewhere.append(job)
            return
        path, ended = job.path(self.store), None
        try:
            ended = job.read(self.store) if path.exists() else None
        except DamagedRunError as error:
            # Under the lock only: another process may just have done so, and trained it anew.
            kept = self.store.set_aside(path)
            text = f"{path} {error}; it is kept as {kept} and trained again"
            self.emit(Event(None, NOTICE, text=text))
        if ended is not None:
            self.clear(job)
            lock.close()
            self.emit(Event(job, ended.status))
            return
        active = _ActiveJob(job, lock, job.parts(), job.epochs)
        self.active.append(active)
        self.emit(Event(job, STARTED))
        self.advance(active, None)

    def ended_elsewhere(self, job: Job) -> Ended | None:
        """The end of a waiting job that another process has trained meanwhile; else None.

        What stands there and is of no use is not read again, until something else does.
        """
        try:
            there = job.path(self.store).stat()
        except OSError:
            return None
        seen = (there.st_ino, there.st_mtime_ns)
        if self.unusable.get(job.hash) == seen:
            return None
        ended = job.found(self.store)
        if ended is None:
            self.unusable[job.hash] = seen
        return ended

    def advance(self, active: _ActiveJob, ends: list[Ended] | None) -> None:
        """Takes the next step of a job, or closes it."""
        while True:
            try:
                active.step = next(active.parts) if ends is None else active.parts.send(ends)
            except StopIteration as stop:
                self.finish_job(active, stop.value)
                return
            except (Exception, SystemExit):  # a strategy's own generations
                self.finish_job(active, Ended(FAILED, traceback.format_exc()))
                return
            active.ended = {}
            unlike = {job.hash: job for job in active.step}  # equal ones are trained once
            for job in unlike.values():
                # Parts that were over before the job was interrupted.
                ended = None if job is active.job else job.found(self.store)
                if ended is None:
                    self.parts.append(_Part(job, active))
                else:
                    active.ended[job.hash] = ended
                    active.epochs_over[job.hash] = ended.epochs
            if len(active.ended) < len(unlike):
                return
            ends = [active.ended[job.hash] for job in active.step]

    def receive(self, stream: Any) -> None:
        """Takes the next message of a part: an epoch is over, or all is."""
        part, crew = self.running[stream]
        active = part.of
        try:
            message: Any = ray.get(next(stream))
        except RayTaskError as error:  # it was no training that raised
            message = Ended(FAILED, str(error))
        except RayError as error:
            del self.running[stream]
            self.requeue(part, crew, error)
            return
        seconds = time.monotonic() - active.started
        if isinstance(message, Notice):
            self.emit(Event(active.job, NOTICE, seconds=seconds, text=message.text))
        elif isinstance(message, Apart):
            self.tell_apart(crew)
        elif isinstance(message, Progress):
            if message.epoch > part.epoch:
                part.epoch, part.starts = message.epoch, 0
            active.epochs_over[part.job.hash] = message.epoch
            over = sum(active.epochs_over.values())
            history = message.history if part.job is active.job else {}
            self.emit(Event(active.job, EPOCH, over, active.epochs, seconds, history=history))
        else:
            del self.running[stream]
            self.fleet.idle.append(crew)
            self.finish_part(part, message)

    def requeue(self, part: _Part, crew: Crew, error: Exception) -> None:
        """Puts the part of a lost worker back into the queue; it goes on from its checkpoint."""
        self.fleet.lose(crew)
        part.lost_on = crew.nodes
        if part.starts >= MOST_STARTS:
            reason = f"the worker process died, {MOST_STARTS} times in a row: {error}"
            self.finish_part(part, Ended(FAILED, reason))
            return
        self.parts.appendleft(part)
        saved = part.job.checkpoint(self.store).exists()
        place = "where it was saved last" if saved else "the start"
        if self.storage is not None:
            place = f"what {self.storage.name} has of it"
        text = f"has lost its worker; goes on from {place}"
        self.emit(Event(part.of.job, NOTICE, text=text))

    def finish_part(self, part: _Part, ended: Ended) -> None:
        """Keeps how a part ended; the last one of a step brings the next."""
        active = part.of
        active.ended[part.job.hash] = ended
        if part.job is not active.job:
            self.write(part.job, ended)
        if ended.status == FAILED:  # the others of its step are of no use
            for other in [each for each in self.parts if each.of is active]:
                self.parts.remove(other)
                active.ended[other.job.hash] = ended
        if all(job.hash in active.ended for job in active.step):
            self.advance(active, [active.ended[job.hash] for job in active.step])

    def finish_job(self, active: _ActiveJob, ended: Ended) -> None:
        """Writes what a job of the study leaves behind, and lets go of it."""
        job = active.job
        self.write(job, ended)
        self.clear(job)
        active.lock.close()
        self.active.remove(active)
        if self.fleet.elastic:  # there may be machines with a disk of their own
            idle = {crew.nodes[0]: crew for crew in self.fleet.idle}
            for node in idle.keys() & active.nodes:
                idle[node].handle.forget.remote(job.checkpoint(self.store).absolute())
        record = ended.result if isinstance(ended.result, RunRecord) else RunRecord({}, {})
        self.emit(
            Event(
                job,
                ended.status,
                seconds=time.monotonic() - active.started,
                text=ended.error.strip().rpartition("\n")[2],
                history=record.history,
                metrics=record.info.get("metrics", ()),
            )
        )

    def write(self, job: Job, ended: Ended) -> None:
        """Keeps how a job ended.

        Raises:
            UnfinishedError: it cannot be written.
        """
        try:
            job.write(self.store, ended)
        except OSError as error:
            why = error.strerror or describe(error)
            raise UnfinishedError(
                f"{str(job.path(self.store))!r} cannot be written: {why}"
            ) from error

    # --- checkpoints ------------------------------------------------------------------------

    def clear(self, job: Job) -> None:
        """Removes the checkpoints of a job that is over."""
        self.store.clear_unfinished(job.hash)
        if self.storage is not None:
            self.clearing.append((job, self.clearers.submit(self.storage.remove, job.hash)))

    def collect_cleared(self, *, wait: bool) -> None:
        """Tells of what could not be removed."""
        under_way, self.clearing = self.clearing, []
        for job, future in under_way:
            if not wait and not future.done():
                self.clearing.append((job, future))
            elif (error := future.exception()) is not None and self.storage is not None:
                text = f"its state in {self.storage.name} cannot be removed: {describe(error)}"
                self.emit(Event(job, NOTICE, text=text))

    def tell_apart(self, crew: Crew) -> None:
        """Says once that what a machine trains begins anew on another."""
        if not self.apart_told and crew.nodes[0] in self.fleet.machines:
            name = self.fleet.machines[crew.nodes[0]].name
            text = (
                f"{name} does not see {self.store.root.absolute()}: runs of a machine that is lost "
                "begin anew on another one; --storage keeps their checkpoints where all reach them"
            )
            self.emit(Event(None, NOTICE, text=text))
            self.apart_told = True


def ready(references: list[Any]) -> list[Any]:
    """All that have something to say, after a wait for the first where none has.

    Taken one by one, each would be looked for among all, and those behind would wait for those in
    front.
    """
    if not references:
        return []
    found: list[Any] = ray.wait(references, num_returns=len(references), timeout=0)[0]
    return found or ray.wait(references, timeout=POLL_SECONDS)[0]
