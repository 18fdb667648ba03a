"""Several processes that train one job together, over machines if need be.

To the pool a group is one worker. It is a small actor that starts its processes beside itself, in a
placement group of Ray, and passes on what the first of them says. Ray reserves all their places at
once, so that two commands on one cluster never wait for each other, each with half of its places.
Ray Train would bring a controller, retries, checkpoints and reports of its own beside those of the
pool; all that is needed of it are actors that `torch.distributed` joins.

All die together. A process that is lost takes the group with it, and the pool starts the job again
elsewhere, from its checkpoint.
"""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import psutil
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mtlbench.execution.worker import Worker, WorkerSetup, forget
from mtlbench.files import remove
from mtlbench.store.schema import FAILED
from mtlbench.training.job import Again, Ended, Notice

TIMEOUT = timedelta(days=7)
"""Time that a process may wait for another one, as for its evaluation. Ray knows who is dead."""

DEATH_SECONDS = 10.0
"""Time that Ray may take to find out that a process has died: those that were connected to it know
at once."""


LOCAL = "127.0.0.1"
"""Where processes of one machine meet."""


class LostProcessError(Exception):
    """A process of a group did not come up.

    Attributes:
        number: which.
    """

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.number, self.reason = number, reason

    def __str__(self) -> str:
        return self.reason


class Process(Worker):
    """One of the processes of a group."""

    def host(self) -> str:
        """The address of its machine."""
        return str(ray.util.get_node_ip_address())

    def open(self, count: int, host: str) -> int:
        """Lets so many processes come to it; the port where."""
        from torch.distributed import TCPStore

        self.store = TCPStore(host, 0, count, is_master=True, wait_for_workers=False)
        return int(self.store.port)

    def meet(self, number: int, count: int, host: str, address: tuple[str, int]) -> None:
        """Joins the others.

        Args:
            number: which of them it is.
            count: how many there are.
            host: where they find it.
            address: where the first one lets them come.
        """
        import torch.distributed as dist

        for name, addresses in psutil.net_if_addrs().items():
            if any(each.address == host for each in addresses):
                os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
                os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if self.place.device == "cuda" else "gloo",
            store=self.store if number == 0 else dist.TCPStore(*address, count),
            rank=number,
            world_size=count,
            timeout=TIMEOUT,
        )

    def train_along(self, job: Any, checkpoint: Path) -> Ended | Again:
        """Trains a job together with the first process, which says how it goes; how it ended."""
        *_, last = job.train(self.place, checkpoint)
        assert isinstance(last, Ended | Again)
        return last


class Group:
    """The actor that stands for a group.

    Args:
        setup: what each process is told.
        places: the placement group, with a bundle for each process.
        needs: `CPU` and `GPU` of each process.
    """

    def __init__(self, setup: WorkerSetup, places: Any, needs: dict[str, float]) -> None:
        self.setup, self.places, self.needs = setup, places, needs
        self.processes: list[Any] = []

    def is_up(self) -> None:
        """Answers as soon as all processes are there and know each other.

        Raises:
            LostProcessError: one of them does not come up.
        """
        count = self.setup.place.workers
        actor: Any = ray.remote(Process)
        self.processes = [
            actor.options(
                num_cpus=self.needs["CPU"],
                num_gpus=self.needs["GPU"],
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self.places, number),
            ).remote(self.setup)
            for number in range(count)
        ]
        _answers([process.is_up.remote() for process in self.processes])
        hosts = _answers([process.host.remote() for process in self.processes])
        if len(set(hosts)) == 1:
            hosts = [LOCAL] * count
        (port,) = _answers([self.processes[0].open.remote(count, hosts[0])])
        _answers(
            [
                process.meet.remote(number, count, host, (hosts[0], port))
                for number, (process, host) in enumerate(zip(self.processes, hosts, strict=True))
            ]
        )

    def train(self, job: Any, checkpoint: Path) -> Iterator[Any]:
        """Trains a job, giving what its first process says on the way."""
        again = True
        while again:
            if not self.processes:
                self._start_again()
            again = False
            for message in self._train(job, checkpoint):
                if isinstance(message, Again):
                    again = True
                    remove(checkpoint)
                    message = Notice(f"begins anew: {message.text}")
                yield message

    def forget(self, checkpoint: Path) -> None:
        """Removes what a finished job has left here, on a machine with a disk of its own."""
        forget(checkpoint)

    def _start_again(self) -> None:
        try:
            self.is_up()
        except LostProcessError:
            _die()

    def _train(self, job: Any, checkpoint: Path) -> Iterator[Any]:
        first, *others = self.processes
        stream: Any = first.train.remote(job, checkpoint)
        along = [other.train_along.remote(job, checkpoint) for other in others]
        waiting = [stream, *along]
        while True:
            ready: Any = ray.wait(waiting)[0][0]
            try:
                message = ray.get(next(stream) if ready is stream else ready)
            except RayTaskError as error:  # it was no training that raised
                message = Ended(FAILED, str(error))
            except RayError:
                _die()
            if isinstance(message, Again) or (
                isinstance(message, Ended) and message.status == FAILED
            ):
                self._end()
                yield message
                return
            if ready is not stream:
                waiting.remove(ready)
                continue
            yield message
            if isinstance(message, Ended):
                return

    def _end(self) -> None:
        """Ends all processes after one of them has failed, for which the others wait in vain.

        It may have failed because another one has died, which is then what has happened.
        """
        asked = [process.is_up.remote() for process in self.processes]
        for answer in ray.wait(asked, num_returns=len(asked), timeout=DEATH_SECONDS)[0]:
            try:
                ray.get(answer)
            except RayError:
                _die()
        for process in self.processes:
            ray.kill(process)
        self.processes = []


def _answers(references: list[Any]) -> list[Any]:
    """What the processes answer, in their order.

    Raises:
        LostProcessError: one does not.
    """
    answers = []
    for number, reference in enumerate(references):
        try:
            answers.append(ray.get(reference))
        except RayError as error:
            raise LostProcessError(number, str(error)) from None
    return answers


def _die() -> NoReturn:
    """Ends the group, its processes with it."""
    os._exit(1)
