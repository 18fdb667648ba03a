"""The pool of workers on Ray: locks, checkpoints, restarts, placement and events of all jobs.

It runs in the process that holds Ray, see `driver`. Workers send back what a job leaves behind;
the pool alone writes it into the store.
"""

import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from mtlbench.errors import UnfinishedError, UserError, describe
from mtlbench.execution.events import EPOCH, NOTICE, STARTED, WAITING, Event, LostRayError
from mtlbench.execution.group import Group, LostProcessError
from mtlbench.execution.placement import room
from mtlbench.execution.storage import Storage
from mtlbench.execution.worker import Apart, Worker, WorkerSetup
from mtlbench.store.runs import DamagedRunError, RunRecord, Store
from mtlbench.store.schema import FAILED
from mtlbench.training.job import Ended, Job, Notice, Parts, Progress

POLL_SECONDS = 1.0
"""Time between two looks at the machines and at jobs that other processes train."""

MOST_LOOKS = 200
"""Waiting jobs that one poll looks for in the store: of a hundred thousand each look takes seconds,
and more over a network."""

CLEARERS = 8
"""Threads that remove checkpoints from a storage, which may be far away."""

MOST_STARTS = 3
"""Starts in a row of something that dies: the machine may be at fault, or the job."""

PATIENCE_SECONDS = 60.0
"""Time that a cluster may be without a machine that trains."""

NO_MACHINE = "no machine is left to train on"
TOO_FEW_MACHINES = "too few machines are left to train on"

NODE = "ray.io/node-id"
"""The label by which Ray knows a machine."""

ANSWER_SECONDS = 5.0
"""Time that the cluster's head may take to answer."""


@dataclass
class _Machine:
    """A node of the cluster.

    Attributes:
        name: as people know it.
        slots: processes that fit.
        workers: processes there are, starting ones too.
        failures: workers in a row that did not come up.
        lost: when it last lost a worker.
        reason: why it is left out; "" where it is not.
    """

    name: str
    slots: int
    workers: int = 0
    failures: int = 0
    lost: float = 0.0
    reason: str = ""


@dataclass(eq=False)
class _Worker:
    """What trains one job at a time: a process, or several together.

    Attributes:
        handle: the actor.
        nodes: the machine of each process.
        places: those of a group, as Ray has reserved them.
    """

    handle: Any
    nodes: tuple[str, ...]
    places: Any = None


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
    """Workers on all machines of the cluster, and what each of them has.

    Args:
        cpus, gpus: what each process of a job takes.
        setup: what each is told, and how many train a job together.
        elastic: whether machines may join; where not, the pool ends with the last one.
        emit: told of everything that happens.

    Attributes:
        waiting: jobs that were not begun here.
        elsewhere: those of them that another process trains.
        parts: begun, and waiting for a worker.
        running: parts under way and their workers, by the stream of their messages.
        starting: workers that are not up yet, by the reference that tells when they are.
        idle: workers without a part.
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
        self.needs = {"CPU": cpus, "GPU": gpus}
        self.setup, self.elastic, self.emit = setup, elastic, emit
        self.processes = setup.place.workers
        self.machines: dict[str, _Machine] = {}
        self.waiting: deque[Job] = deque()
        self.elsewhere: list[Job] = []
        self.active: list[_ActiveJob] = []
        self.parts: deque[_Part] = deque()
        self.running: dict[Any, tuple[_Part, _Worker]] = {}
        self.starting: dict[Any, _Worker] = {}
        self.idle: list[_Worker] = []
        self.unusable: dict[str, tuple[int, int]] = {}
        self.looked = 0
        self.storage = Storage(setup.storage) if setup.storage else None
        self.clearers = ThreadPoolExecutor(CLEARERS)
        self.clearing: list[tuple[Job, Future[None]]] = []
        self.apart_told = False
        self.any_started = False
        self.excluded: list[str] = []
        self.polled, self.without_machine = 0.0, 0.0

    def capacity(self) -> int:
        """The number of workers that fit into the cluster.

        Raises:
            UserError: a job needs more than any machine has, or all together.
        """
        self.update_machines()
        slots = self.usable_slots()
        if not slots:
            most = {
                kind: max(node["Resources"].get(kind, 0.0) for node in alive_nodes())
                for kind in self.needs
            }
            count = self.processes
            who = "a run" if count == 1 else f"a run in {count} processes"
            raise UserError(
                f"{who} asks for {count * self.needs['CPU']:g} CPUs and "
                f"{count * self.needs['GPU']:g} GPUs, but "
                f"the largest machine has {most['CPU']:g} and {most['GPU']:g}"
            )
        if slots < self.processes:
            raise UserError(
                f"a run asks for {self.processes} processes with {self.needs['CPU']:g} CPUs and "
                f"{self.needs['GPU']:g} GPUs each, but there is room for {slots}"
            )
        return slots // self.processes

    def usable_slots(self) -> int:
        """The number of processes that fit on all machines that work."""
        return sum(each.slots for each in self.machines.values() if not each.reason)

    def work(self, jobs: Iterable[Job], store: Store) -> None:
        """Returns when all jobs have ended, here or in another process.

        Raises:
            UserError: no worker comes up on any machine.
            LostRayError: Ray is gone.
            UnfinishedError: no machine is left.
        """
        self.store = store
        self.waiting.extend(jobs)
        while self.waiting or self.elsewhere or self.active:
            if time.monotonic() - self.polled >= POLL_SECONDS:
                self.poll()
            waited_for: list[Any] = [*self.running, *self.starting]
            if not waited_for:
                time.sleep(POLL_SECONDS / 10)
            for reference in ready(waited_for):
                if reference in self.starting:
                    self.worker_started(reference)
                else:
                    self.receive(reference)
            self.dispatch()
        self.collect_cleared(wait=True)

    # --- machines and workers ---------------------------------------------------------------

    def poll(self) -> None:
        """Takes in what changes without a word: machines, and jobs that other processes finish."""
        self.update_machines()
        self.wait_for_machines()
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
            while self.idle:  # others may want the cores
                self.stop_worker(self.idle.pop())
        self.start_workers(wanted)
        self.polled = time.monotonic()

    def update_machines(self) -> None:
        """Takes in machines that have joined, and forgets those that have left."""
        alive = {node["NodeID"]: node for node in alive_nodes()}
        for node, about in alive.items():
            slots = room(about, self.needs)
            if node not in self.machines and slots:
                self.machines[node] = _Machine(about["NodeManagerHostname"], slots)
        for node in self.machines.keys() - alive.keys():
            machine = self.machines.pop(node)
            if machine.workers:
                self.emit(Event(None, NOTICE, text=f"machine {machine.name} has left"))
            for part in (*self.parts, *(part for part, _ in self.running.values())):
                if node in part.lost_on:  # it was no fault of the part
                    part.starts, part.lost_on = part.starts - 1, ()
        for worker in [each for each in self.idle if not self.machines.keys() >= {*each.nodes}]:
            self.idle.remove(worker)
            self.stop_worker(worker)
        for worker in self.starting.values():  # else Ray waits for the machine
            if worker.places is not None and not self.machines.keys() >= {*worker.nodes}:
                ray.kill(worker.handle)

    def wait_for_machines(self) -> None:
        """Lets a cluster be without a machine for a while.

        Raises:
            UnfinishedError: for too long.
            LostRayError: no other machine can come.
        """
        if self.starting or self.usable_slots() >= self.processes:
            self.without_machine = 0.0  # of a worker that starts, it is not known yet
            return
        if not self.without_machine and self.elastic:
            self.without_machine = time.monotonic()
            self.emit(Event(None, WAITING, text=f"{self.reason()}; waits for one"))
        if not self.elastic:
            raise LostRayError(self.reason())
        if time.monotonic() - self.without_machine > PATIENCE_SECONDS:
            raise UnfinishedError(self.reason())

    def reason(self) -> str:
        """Why nothing can be trained."""
        return TOO_FEW_MACHINES if self.usable_slots() else NO_MACHINE

    def start_workers(self, wanted: int) -> None:
        """Starts as many as are wanted and fit, beside those that will soon be free."""
        wanted -= len(self.idle) + len(self.starting)
        while wanted > 0 and (nodes := self.free_places()):
            worker = self.start_group(nodes) if self.processes > 1 else self.start_worker(*nodes)
            self.starting[worker.handle.is_up.remote()] = worker
            for node in nodes:
                self.machines[node].workers += 1
            wanted -= 1

    def free_places(self) -> tuple[str, ...]:
        """The machine of each process of one more worker; none where there is no room for it.

        Those of a group are on one machine if they can be, else on as few as possible.
        """
        # One that lost a worker just now may be about to leave.
        free = {
            node: machine.slots - machine.workers
            for node, machine in sorted(self.machines.items(), key=lambda item: item[1].lost)
            if not machine.reason and machine.slots > machine.workers
        }
        whole = [node for node, slots in free.items() if slots >= self.processes]
        if whole:
            return (whole[0],) * self.processes
        places = [
            node for node in sorted(free, key=lambda node: -free[node]) for _ in range(free[node])
        ]
        return tuple(places[: self.processes]) if len(places) >= self.processes else ()

    def start_worker(self, node: str) -> _Worker:
        """A process on a machine."""
        actor: Any = ray.remote(Worker).options(
            num_cpus=self.needs["CPU"],
            num_gpus=self.needs["GPU"],
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        return _Worker(actor.remote(self.setup), (node,))

    def start_group(self, nodes: tuple[str, ...]) -> _Worker:
        """Processes that train together, on these machines."""
        bundle = {kind: count for kind, count in self.needs.items() if count}
        places = placement_group(
            [bundle] * len(nodes), bundle_label_selector=[{NODE: node} for node in nodes]
        )
        actor: Any = ray.remote(Group).options(
            num_cpus=0,
            max_restarts=0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(places, 0),
        )
        return _Worker(actor.remote(self.setup, places, self.needs), nodes, places)

    def worker_started(self, reference: Any) -> None:
        """A worker is up, or did not come up: then its machine is left out sooner or later."""
        worker = self.starting.pop(reference)
        try:
            ray.get(reference)
        except RayError as error:
            self.stop_worker(worker)
            self.update_machines()
            cause = getattr(error, "cause", None)
            lost = cause if isinstance(cause, LostProcessError) else LostProcessError(0, str(error))
            machine = self.machines.get(worker.nodes[lost.number])
            if machine is not None and not machine.reason:
                machine.failures += 1
                raised = "creation task" in lost.reason  # and will do so again
                if raised or machine.failures == MOST_STARTS:
                    self.exclude(machine, lost.reason)
            broken = self.usable_slots() < self.processes
            if broken and self.excluded and not self.starting:
                raise UserError("; ".join(self.excluded)) from error
            return
        for node in self.machines.keys() & {*worker.nodes}:
            self.machines[node].failures = 0
        self.idle.append(worker)
        self.any_started = True
        for text in self.excluded:
            self.emit(Event(None, NOTICE, text=text))
        self.excluded.clear()

    def exclude(self, machine: _Machine, reason: str) -> None:
        """Trains no more on a machine, and says so once; when it is known that another works."""
        machine.reason = reason.strip().rpartition("\n")[2]
        text = f"{machine.name} is left out, no worker starts there: {machine.reason}"
        if self.any_started:
            self.emit(Event(None, NOTICE, text=text))
        else:
            self.excluded.append(text)

    def stop_worker(self, worker: _Worker) -> None:
        ray.kill(worker.handle)
        if worker.places is not None:
            remove_placement_group(worker.places)
        for node in worker.nodes:
            if node in self.machines:
                self.machines[node].workers -= 1

    # --- jobs -------------------------------------------------------------------------------

    def dispatch(self) -> None:
        """Gives each idle worker something to train.

        A job is locked only for a worker that is up: a cluster may be full for hours.
        """
        while self.idle:
            while not self.parts and self.waiting:
                self.start_job(self.waiting.popleft())
            if not self.parts:
                return
            part, worker = self.parts.popleft(), self.idle.pop()
            part.starts += 1
            part.of.nodes.add(worker.nodes[0])
            checkpoint = part.job.checkpoint(self.store).absolute()
            self.running[worker.handle.train.remote(part.job, checkpoint)] = part, worker

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
        part, worker = self.running[stream]
        active = part.of
        try:
            message: Any = ray.get(next(stream))
        except RayTaskError as error:  # it was no training that raised
            message = Ended(FAILED, str(error))
        except RayError as error:
            del self.running[stream]
            self.requeue(part, worker, error)
            return
        seconds = time.monotonic() - active.started
        if isinstance(message, Notice):
            self.emit(Event(active.job, NOTICE, seconds=seconds, text=message.text))
        elif isinstance(message, Apart):
            self.tell_apart(worker)
        elif isinstance(message, Progress):
            if message.epoch > part.epoch:
                part.epoch, part.starts = message.epoch, 0
            active.epochs_over[part.job.hash] = message.epoch
            over = sum(active.epochs_over.values())
            history = message.history if part.job is active.job else {}
            self.emit(Event(active.job, EPOCH, over, active.epochs, seconds, history=history))
        else:
            del self.running[stream]
            self.idle.append(worker)
            self.finish_part(part, message)

    def requeue(self, part: _Part, worker: _Worker, error: Exception) -> None:
        """Puts the part of a lost worker back into the queue; it goes on from its checkpoint."""
        self.stop_worker(worker)
        part.lost_on = worker.nodes
        for node in self.machines.keys() & {*worker.nodes}:
            self.machines[node].lost = time.monotonic()
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
            part.job.write(self.store, ended)
        if ended.status == FAILED:  # the others of its step are of no use
            for other in [each for each in self.parts if each.of is active]:
                self.parts.remove(other)
                active.ended[other.job.hash] = ended
        if all(job.hash in active.ended for job in active.step):
            self.advance(active, [active.ended[job.hash] for job in active.step])

    def finish_job(self, active: _ActiveJob, ended: Ended) -> None:
        """Writes what a job of the study leaves behind, and lets go of it."""
        job = active.job
        job.write(self.store, ended)
        self.clear(job)
        active.lock.close()
        self.active.remove(active)
        if self.elastic:  # there may be machines with a disk of their own
            there = {each.nodes[0]: each for each in self.idle if each.nodes[0] in active.nodes}
            for worker in there.values():
                worker.handle.forget.remote(job.checkpoint(self.store).absolute())
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

    def tell_apart(self, worker: _Worker) -> None:
        """Says once that what a machine trains begins anew on another."""
        if not self.apart_told and worker.nodes[0] in self.machines:
            name = self.machines[worker.nodes[0]].name
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


def alive_nodes() -> Sequence[dict[str, Any]]:
    """The machines of the cluster that are alive.

    Raises:
        LostRayError: the head does not answer: Ray itself would wait for a minute, and then end
            this process without a word. Or the node that this process belongs to has died: Ray
            takes its job for finished then, and starts no more workers, without a word.
    """
    context = ray.get_runtime_context()
    address = context.gcs_address
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise LostRayError(f"Ray's head at {address} does not answer") from error
    alive = [node for node in ray.nodes() if node["Alive"]]
    if all(node["NodeID"] != context.get_node_id() for node in alive):
        raise LostRayError("Ray on this machine has died")
    return alive
