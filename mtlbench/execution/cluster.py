"""Trains jobs on Ray from a command or a notebook: starts the process that holds Ray, and again."""

import fcntl
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mtlbench.errors import UnfinishedError, UserError, describe
from mtlbench.execution.driver import Connected, Finished, Order, Stopped
from mtlbench.execution.events import ENDS, EPOCH, NOTICE, Event
from mtlbench.execution.processes import NONE, end_session, fill_standard_descriptors
from mtlbench.execution.resources import Resources, host_and_port
from mtlbench.plugins import PluginFile
from mtlbench.store.runs import Store
from mtlbench.training.job import Job

MOST_LOSSES = 3
"""Ends of Ray in a row, with no epoch in between, after which the study ends, too."""

START_SECONDS = 120.0
"""Time that Ray may take to start or to connect: it takes 5 s, on a busy machine 30."""

CONNECT_SECONDS = 5.0
"""Time that a cluster's address may take to answer."""

FOLDER = "mtlbench-ray-"
OLD_SECONDS = 60.0
"""Age from which a folder without a lock belongs to nobody."""

LONGEST_FOLDER = 40
"""Characters; below it Ray makes sockets, whose paths may have 107."""

LEAST_SPACE = 30_000_000
"""Bytes that must be free for what Ray writes; of a small study it is 3 MB."""

START = (
    "import sys; sys.path[:] = {path!r}; "
    "from mtlbench.execution.driver import main; main({descriptor}, {folder!r})"
)


class Cluster:
    """Ray, in a process of its own, for the jobs of one command.

    Attributes:
        capacity: how many jobs fit at a time.
        place: of each job, in words.
    """

    def __init__(
        self, resources: Resources, plugins: Sequence[PluginFile], jobs: int, gpu_share: float
    ) -> None:
        fill_standard_descriptors()
        self._resources, self._setup, self._jobs = resources, resources.setup(plugins), jobs
        self._gpus, self._gpu_share = resources.gpus_each, gpu_share
        self._start()

    @property
    def on_gpus(self) -> bool:
        """Whether jobs train on GPUs."""
        return bool(self._gpus)

    def train(self, jobs: Sequence[Job], store: Store, report: Callable[[Event], None]) -> None:
        """Trains jobs and writes each into the store as it ends.

        Args:
            jobs: what to train.
            store: where it goes.
            report: told of everything that happens, in this process.

        Raises:
            UserError: no machine of the cluster works.
            UnfinishedError: Ray or the cluster is gone for good, or the store is full.
        """
        left = {job.hash: job for job in jobs}
        losses = 0
        self._send(pickle.dumps((jobs, store)))
        while not isinstance(message := self._receive(), Finished):
            if isinstance(message, Stopped):
                losses += 1
                if not message.lost or losses == MOST_LOSSES:
                    raise UnfinishedError(message.reason)
                self.end()
                try:
                    self._start()
                except UserError as error:  # what was there before is not there any more
                    raise UnfinishedError(message.reason) from error
                message = Event(None, NOTICE, text=f"{message.reason}; begins again with a new one")
                self._send(pickle.dumps((list(left.values()), store)))
            if message.kind in (*ENDS, EPOCH):
                losses = 0
            if message.kind in ENDS:
                left.pop(message.job.hash, None)
            report(message)

    def end(self) -> None:
        """Ends Ray here, and all that it has started; its folder goes."""
        with deferring_signals():
            self._channel.close()
            if self._process is not None and self._process.stdin is not None:
                self._process.kill()
                self._process.wait()
                self._process.stdin.close()
            end_session(self._process.pid if self._process else NONE, self._folder)
            self._lock.close()

    def _start(self) -> None:
        """Starts the process that holds Ray, again where that comes to nothing.

        Raises:
            UserError: no cluster at the address, or a job needs more than any machine of it has,
                or Ray does not start.
        """
        reason, address = "", self._resources.address
        begun = time.monotonic()
        for _ in range(MOST_LOSSES):
            if time.monotonic() - begun > START_SECONDS:
                break  # it would take as long again
            answer = self._start_once()
            if isinstance(answer, Connected):
                self.capacity, self.place = answer.capacity, answer.place
                self._gpus = answer.gpus  # also where Ray has to be started again
                return
            self.end()
            reason = answer.reason
            if address is not None and self._process and self._process.returncode > 0:
                raise UserError(f"no Ray cluster at {address!r}")  # Ray itself has given up
        raise UserError(
            f"Ray does not start: {reason}"
            if address is None
            else f"no Ray cluster at {address!r}: {reason}"
        )

    def _start_once(self) -> Connected | Stopped:
        resources = self._resources
        _check_reachable(resources.address)
        self._folder, self._lock = _temporary_folder()
        ours, theirs = socket.socketpair()
        self._channel = Connection(ours.detach())
        self._process: subprocess.Popen[bytes] | None = None
        try:
            with theirs, (self._folder / "driver.log").open("w") as log:
                path = [entry for entry in sys.path if isinstance(entry, str)]
                start = START.format(
                    path=path, descriptor=theirs.fileno(), folder=str(self._folder)
                )
                self._process = subprocess.Popen(
                    [sys.executable, "-c", start],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[theirs.fileno(), self._lock.fileno()],
                    start_new_session=True,
                )
            order = Order(
                resources.address,
                resources.cpus,
                self._gpus,
                self._gpu_share,
                self._setup,
                self._jobs,
            )
            self._send(pickle.dumps(order))
            if not self._channel.poll(START_SECONDS):
                return Stopped(f"no answer in {START_SECONDS:g} s", lost=True)
            answer: Connected | Stopped = self._receive()
            return answer
        except BaseException:
            self.end()
            raise

    def _send(self, content: bytes) -> None:
        with suppress(OSError):  # it has ended, and what is received next says so
            self._channel.send_bytes(content)

    def _receive(self) -> Any:
        try:
            message = self._channel.recv()
        except (EOFError, OSError):
            assert self._process is not None
            status = self._process.wait()
            how = f"killed by signal {-status}" if status < 0 else f"with status {status}"
            return Stopped(f"the process that holds Ray has ended, {how}", lost=True)
        if isinstance(message, UserError):
            raise message
        return message


@contextmanager
def cluster(
    resources: Resources, plugins: Sequence[PluginFile], jobs: int, gpu_share: float = 1.0
) -> Iterator[Cluster]:
    """Ray for as long as the block lasts.

    Args:
        resources: what a job takes, and where.
        plugins: loaded in every worker.
        jobs: how many there are to train.
        gpu_share: of one GPU, or how many, that a job takes where nobody asked.

    Raises:
        UserError: no cluster at the address, or a job needs more than any machine of it has, or Ray
            does not start.
    """
    held = Cluster(resources, plugins, jobs, gpu_share)
    try:
        yield held
    finally:
        held.end()


@contextmanager
def deferring_signals() -> Iterator[None]:
    """What has been begun is not cut short by a signal: it comes after that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(each, lambda number, _: came.append(number)) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
    if came:
        signal.raise_signal(came[0])


def _check_reachable(address: str | None) -> None:
    """Ray itself tries for minutes to reach an address where nothing listens."""
    where = host_and_port(address or "")
    if where is None:
        return
    try:
        socket.create_connection(where, timeout=CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:  # the latter: of a host's name
        reason = getattr(error, "strerror", None) or describe(error)
        raise UserError(f"no Ray cluster at {address!r}: {reason}") from error


def _temporary_folder() -> tuple[Path, Any]:
    """A new folder for what Ray writes, and the lock that says that it is in use.

    Folders of commands that were killed together with their Ray are removed.
    """
    base = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()).absolute()
    if len(str(base)) + len(FOLDER) + 9 > LONGEST_FOLDER:
        base = Path("/tmp")
    for old in base.glob(f"{FOLDER}*"):
        with suppress(OSError):
            if (old / "lock").exists():
                with (old / "lock").open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(old, ignore_errors=True)
            elif time.time() - old.stat().st_mtime > OLD_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
    with suppress(OSError):  # that it cannot be written to is told below
        if (free := shutil.disk_usage(base).free) < LEAST_SPACE:
            raise UserError(
                f"no space left in {str(base)!r}: Ray writes there, and takes some "
                f"{LEAST_SPACE / 1e6:.0f} MB, but {free / 1e6:.1f} MB are free"
            )
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=base))
            lock = (folder / "lock").open("w")
        except OSError as error:
            raise UserError(f"no folder can be made in {str(base)!r}: {error.strerror}") from error
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock.fileno()).st_nlink:
            return folder, lock
        lock.close()  # another command has swept it before it was locked
