"""The machines of a Ray cluster, and the workers that are up, starting and lost there."""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from mtlbench.errors import UnfinishedError, UserError
from mtlbench.execution.events import NOTICE, WAITING, Event, LostRayError
from mtlbench.execution.group import Group, LostProcessError
from mtlbench.execution.placement import room
from mtlbench.execution.worker import Worker, WorkerSetup

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
class Machine:
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
class Crew:
    """What trains one job at a time: a worker process, or several together.

    Attributes:
        handle: the actor.
        nodes: the machine of each process.
        places: those of a group, as Ray has reserved them.
    """

    handle: Any
    nodes: tuple[str, ...]
    places: Any = None


class Fleet:
    """Crews on all machines of the cluster.

    Args:
        cpus, gpus: what each process of a job takes.
        setup: what each is told, and how many train a job together.
        elastic: whether machines may join; where not, the fleet ends with the last one.
        emit: told of everything that happens.
        left: told of each machine that has left, by its node.

    Attributes:
        processes: of a crew.
        machines: by node.
        starting: crews that are not up yet, by the reference that tells when they are.
        idle: crews without work.
    """

    def __init__(
        self,
        cpus: float,
        gpus: float,
        setup: WorkerSetup,
        *,
        elastic: bool,
        emit: Callable[[Event], None],
        left: Callable[[str], None],
    ) -> None:
        self.needs = {"CPU": cpus, "GPU": gpus}
        self.setup, self.elastic, self.emit, self.left = setup, elastic, emit, left
        self.processes = setup.place.workers
        self.machines: dict[str, Machine] = {}
        self.starting: dict[Any, Crew] = {}
        self.idle: list[Crew] = []
        self._any_started = False
        self._excluded: list[str] = []
        self._without_machine = 0.0

    # --- machines ---------------------------------------------------------------------------

    def capacity(self) -> int:
        """The number of crews that fit into the cluster.

        Raises:
            UserError: a job needs more than any machine has, or all together.
        """
        self.update()
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

    def update(self) -> None:
        """Takes in machines that have joined, and forgets those that have left."""
        alive = {node["NodeID"]: node for node in alive_nodes()}
        for node, about in alive.items():
            slots = room(about, self.needs)
            if node not in self.machines and slots:
                self.machines[node] = Machine(about["NodeManagerHostname"], slots)
        for node in self.machines.keys() - alive.keys():
            machine = self.machines.pop(node)
            if machine.workers:
                self.emit(Event(None, NOTICE, text=f"machine {machine.name} has left"))
            self.left(node)
        for crew in [each for each in self.idle if not self.machines.keys() >= {*each.nodes}]:
            self.idle.remove(crew)
            self.stop(crew)
        for crew in self.starting.values():  # else Ray waits for the machine
            if crew.places is not None and not self.machines.keys() >= {*crew.nodes}:
                ray.kill(crew.handle)

    def wait_for_machines(self) -> None:
        """Lets a cluster be without a machine for a while.

        Raises:
            UnfinishedError: for too long.
            LostRayError: no other machine can come.
        """
        if self.starting or self.usable_slots() >= self.processes:
            self._without_machine = 0.0  # of a worker that starts, it is not known yet
            return
        if not self._without_machine and self.elastic:
            self._without_machine = time.monotonic()
            self.emit(Event(None, WAITING, text=f"{self._reason()}; waits for one"))
        if not self.elastic:
            raise LostRayError(self._reason())
        if time.monotonic() - self._without_machine > PATIENCE_SECONDS:
            raise UnfinishedError(self._reason())

    def _reason(self) -> str:
        """Why nothing can be trained."""
        return TOO_FEW_MACHINES if self.usable_slots() else NO_MACHINE

    # --- crews ------------------------------------------------------------------------------

    def start(self, wanted: int) -> None:
        """Starts as many as are wanted and fit, beside those that will soon be free."""
        wanted -= len(self.idle) + len(self.starting)
        while wanted > 0 and (nodes := self.free_places()):
            crew = self._group(nodes) if self.processes > 1 else self._process(*nodes)
            self.starting[crew.handle.is_up.remote()] = crew
            for node in nodes:
                self.machines[node].workers += 1
            wanted -= 1

    def free_places(self) -> tuple[str, ...]:
        """The machine of each process of one more crew; none where there is no room for it.

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

    def _process(self, node: str) -> Crew:
        """A process on a machine."""
        actor: Any = ray.remote(Worker).options(
            num_cpus=self.needs["CPU"],
            num_gpus=self.needs["GPU"],
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        return Crew(actor.remote(self.setup), (node,))

    def _group(self, nodes: tuple[str, ...]) -> Crew:
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
        return Crew(actor.remote(self.setup, places, self.needs), nodes, places)

    def started(self, reference: Any) -> None:
        """A crew is up, or did not come up: then its machine is left out sooner or later."""
        crew = self.starting.pop(reference)
        try:
            ray.get(reference)
        except RayError as error:
            self.stop(crew)
            self.update()
            cause = getattr(error, "cause", None)
            lost = cause if isinstance(cause, LostProcessError) else LostProcessError(0, str(error))
            machine = self.machines.get(crew.nodes[lost.number])
            if machine is not None and not machine.reason:
                machine.failures += 1
                raised = "creation task" in lost.reason  # and will do so again
                if raised or machine.failures == MOST_STARTS:
                    self._exclude(machine, lost.reason)
            broken = self.usable_slots() < self.processes
            if broken and self._excluded and not self.starting:
                raise UserError("; ".join(self._excluded)) from error
            return
        for node in self.machines.keys() & {*crew.nodes}:
            self.machines[node].failures = 0
        self.idle.append(crew)
        self._any_started = True
        for text in self._excluded:
            self.emit(Event(None, NOTICE, text=text))
        self._excluded.clear()

    def _exclude(self, machine: Machine, reason: str) -> None:
        """Trains no more on a machine, and says so once; when it is known that another works."""
        machine.reason = reason.strip().rpartition("\n")[2]
        text = f"{machine.name} is left out, no worker starts there: {machine.reason}"
        if self._any_started:
            self.emit(Event(None, NOTICE, text=text))
        else:
            self._excluded.append(text)

    def stop(self, crew: Crew) -> None:
        """Ends its processes; their places are free again."""
        ray.kill(crew.handle)
        if crew.places is not None:
            remove_placement_group(crew.places)
        for node in crew.nodes:
            if node in self.machines:
                self.machines[node].workers -= 1

    def lose(self, crew: Crew) -> None:
        """Its processes have died: the next one starts elsewhere, where there is another place."""
        self.stop(crew)
        for node in self.machines.keys() & {*crew.nodes}:
            self.machines[node].lost = time.monotonic()


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
