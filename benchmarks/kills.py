"""Kills processes of a study at random, and checks that nothing is lost and nothing is left.

    python benchmarks/kills.py [--kills 20] [--nodes 1|3] [--storage] [--seed 0] [--out FILE.json]

Trains a small study and the folds of a cross-validation undisturbed. Then trains the same again
while one random process after the other is killed: the command, its driver, a worker, any part of
Ray. A command that has ended early is started again, as a person would. Whatever it trains must
come out with the same bits, print the same tables, and each command that ends, however it does,
must leave no process and no temporary file. With `--nodes 3` the commands use a cluster of three
nodes on this machine, whose parts are killed too; a node that is gone is replaced by a new one,
and a cluster that has lost its head by a new one. With `--storage` checkpoints are kept in a folder
beside the results, too, by a URI; of the runs that have ended nothing may be left there.

Prints a line for each kill, a table, and a verdict; ends with status 1 if anything was found.
Needs cleanlab, and Linux. Takes about half a minute for each kill on two cores.
"""

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from mtlbench.store.sealed import DIGEST

SIZE = ["--epochs", "6", "--set", "train_size=1500", "--set", "validation_size=200"]
SIZE += ["--set", "test_size=200"]

COMMANDS = {
    "run": [
        *("run", "digits", "--strategies", "equal,ilt,evolution", "--seeds", "2"),
        *("--variants", "clean", "left@0.4", "--set", "evolution.population=4", *SIZE),
    ],
    "detectors": [
        *("detectors", "digits", "--detectors", "cleanlab", "--seeds", "1"),
        *("--variants", "left@0.4", *SIZE),
    ],
}
"""What a study is made of, by name."""

PLUGIN = """
import mtlbench.training.loop

mtlbench.training.loop.CHECKPOINT_SECONDS = 0.0
"""
"""Saves each epoch: no run of this study takes as long as two checkpoints are apart otherwise."""

MOST_DELAY = 15.0
"""The longest time from a kill, or from the first progress after it, to the next one."""

PATIENT = 0.5
"""How often the next kill waits for progress: else a second one could hide what the first did."""

STUCK_SECONDS = 240.0
"""How long a command may go on without progress before it counts as stuck."""

LEFT_SECONDS = {True: 15.0, False: 5.0}
"""How long something of a command may be there after its end, if it was killed or not."""

NODE_SECONDS = 120.0
"""How long a node of the cluster may take to start."""

MOST_VAIN = 3
"""How often in a row a command may end early without a kill, or a node not start."""

GOES_ON = "the same command goes on from here"

MARK = "MTLBENCH_KILLS"
"""Environment variable by which processes started here know each other."""

# --- processes ----------------------------------------------------------------------------------


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def of_sessions(sessions: Iterable[int]) -> set[psutil.Process]:
    """The living processes of some sessions."""
    found = set()
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) in sessions and alive(process):
                found.add(process)
    return found


def end_sessions(sessions: Iterable[int]) -> None:
    """Kills all processes of some sessions."""
    end = time.monotonic() + LEFT_SECONDS[False]
    while (left := of_sessions(sessions)) and time.monotonic() < end:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.05)


SCRIPTS = {
    "agent.py": "dashboard agent",
    "main.py": "runtime environment agent",
    "dashboard.py": "dashboard",
    "default_worker.py": "new worker",
    "log_monitor.py": "log monitor",
    "monitor.py": "monitor",
    "setup_worker.py": "new worker",
}
TITLES = {
    "ray::DashboardAgent": "dashboard agent",
    "ray::IDLE": "idle worker",
    "ray::RuntimeEnvAgent": "runtime environment agent",
}
PROGRAMS = {"gcs_server": "gcs", "raylet": "raylet"}


def kind_of(process: psutil.Process) -> str:
    """What a process is for, by its command line; "" where it has ended."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    if not words:
        return ""
    if words[0].startswith("ray::Worker"):
        return "worker"
    if words[0] in TITLES:
        return TITLES[words[0]]
    program = Path(words[0]).name
    if program in PROGRAMS:
        return PROGRAMS[program]
    if any("mtlbench.execution.driver" in word for word in words):
        return "driver"
    if "ray.util.client.server" in words:
        return "client server"
    names = [Path(word).name for word in words[1:] if word.endswith(".py")]
    return SCRIPTS.get(names[0], names[0]) if names else program


# --- a cluster ----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Node:
    """A node of the cluster.

    Attributes:
        session: which all its processes share.
        vital: those without which it is none.
    """

    session: int
    vital: tuple[psutil.Process, ...]

    def lives(self) -> bool:
        return all(map(alive, self.vital))


class Cluster:
    """Ray nodes on this machine, with one CPU and a session each.

    Attributes:
        address: of its head.
        nodes: the head first.
    """

    def __init__(self, base: Path, environment: Mapping[str, str], nodes: int) -> None:
        from ray.util import get_node_ip_address

        self._base, self._environment, self._wanted = base, environment, nodes
        self._host = get_node_ip_address()
        self._started = 0
        self.nodes: list[Node] = []

    def start(self) -> None:
        self._started += 1
        port = free_port()
        self.address = f"{self._host}:{port}"
        self.folder = self._base / f"c{self._started}"
        head = ["--head", "--port", str(port), "--ray-client-server-port", str(free_port())]
        self._add(*head, "--include-dashboard", "false", "--temp-dir", str(self.folder))
        self.mend()

    def mend(self) -> None:
        """Replaces nodes other than the head that have died."""
        dead = [node for node in self.nodes[1:] if not node.lives()]
        for node in dead:
            end_sessions([node.session])
            self.nodes.remove(node)
        for attempt in range(1, MOST_VAIN + 1):
            try:
                while self.has_head() and len(self.nodes) < self._wanted:
                    self._add("--address", self.address)
                break
            except ChildProcessError:
                if attempt == MOST_VAIN:
                    raise

    def has_head(self) -> bool:
        return bool(self.nodes) and self.nodes[0].lives()

    def sessions(self) -> set[int]:
        return {node.session for node in self.nodes}

    def end(self) -> None:
        end_sessions(self.sessions())
        self.nodes.clear()

    def _add(self, *arguments: str) -> None:
        ports = ["--min-worker-port", "0", "--max-worker-port", "0"]
        ports += ["--dashboard-agent-listen-port", "0"]
        sizes = ["--num-cpus", "1", "--object-store-memory", str(10**8)]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats"]
        with (self._base / "cluster.log").open("ab") as log:
            starter = subprocess.Popen(
                [*command, *ports, *sizes, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self._environment),
                cwd=self._base,
                start_new_session=True,
            )
        try:
            status = starter.wait(NODE_SECONDS)
            vital = [p for p in of_sessions([starter.pid]) if kind_of(p) in PROGRAMS.values()]
            if status or not vital:
                raise ChildProcessError(f"no node starts, see {log.name}")
            self.nodes.append(Node(starter.pid, tuple(vital)))
        except BaseException:
            starter.kill()
            end_sessions([starter.pid])
            raise


# --- a command ----------------------------------------------------------------------------------


class Start:
    """One start of a command, and every process that it has had.

    Attributes:
        name: of the command.
        number: of the start, counted over all commands.
        out, err: files that it writes to.
        drivers: the sessions of its drivers.
    """

    def __init__(
        self, name: str, number: int, options: Sequence[str], base: Path, environment: Any
    ) -> None:
        self.name, self.number = name, number
        self._mark = secrets.token_hex(8)
        self.out, self.err = (base / "logs" / f"{number}.{end}" for end in ("out", "err"))
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mtlbench", *COMMANDS[name], *options],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**environment, MARK: self._mark},
                cwd=base,
                process_group=0,
            )
        self.started = time.monotonic()
        self.itself = psutil.Process(self.process.pid)
        self.drivers: set[int] = set()
        self._had: set[psutil.Process] = set()
        self._looked_at: set[psutil.Process] = set()

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def look(self) -> set[psutil.Process]:
        """All its processes that live, itself too where it does."""
        with suppress(psutil.Error):
            self._had.update(self.itself.children(recursive=True))
        for process in psutil.process_iter():
            if process in self._looked_at:
                continue
            self._looked_at.add(process)
            with suppress(OSError, psutil.Error):  # titles overwrite what others have of it
                if process.environ().get(MARK) == self._mark:
                    self._had.add(process)
        for process in self._had:
            with suppress(OSError, psutil.Error):
                if os.getsid(process.pid) == process.pid:
                    self.drivers.add(process.pid)
        self._had |= of_sessions(self.drivers)
        return {process for process in self._had | {self.itself} if alive(process)}

    def said(self) -> list[str]:
        """The lines that it has written on standard error."""
        return self.err.read_text(errors="replace").splitlines()


# --- what comes out -----------------------------------------------------------------------------


def files_of(root: Path) -> dict[str, Path]:
    """All files below a directory, hidden ones too, by their names from there."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            found[str(path.relative_to(root))] = path
    return found


def differences(root: Path, other: Path, *, below: Callable[[str], bool]) -> list[str]:
    """How a results directory differs from the undisturbed one, a line for each file."""
    ours, theirs = (
        {name: path for name, path in files_of(each).items() if below(name)}
        for each in (root, other)
    )
    found = [f"{name} is missing" for name in sorted(theirs.keys() - ours.keys())]
    found += [f"{name} should not be there" for name in sorted(ours.keys() - theirs.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        what = _difference(ours[name], theirs[name])
        if what:
            found.append(f"{name} differs: {what}")
    return found


def _difference(path: Path, other: Path) -> str:
    if path.name == "run.json":
        chance = {"timings": 0, DIGEST: ""}
        mine, theirs = (json.loads(each.read_bytes()) | chance for each in (path, other))
        return ", ".join(key for key in mine.keys() | theirs if mine.get(key) != theirs.get(key))
    if path.read_bytes() == other.read_bytes():
        return ""
    try:
        if path.suffix == ".npz":
            with np.load(path) as archive, np.load(other) as theirs:
                arrays = [dict(archive), dict(theirs)]
        else:
            arrays = [pq.read_table(each).to_pydict() for each in (path, other)]
    except Exception as error:
        return f"it cannot be read, {error}"
    mine, theirs = arrays
    same = [name for name in mine.keys() & theirs if np.array_equal(mine[name], theirs[name])]
    return ", ".join(sorted((mine.keys() | theirs.keys()) - set(same))) or "in bytes, not in values"


def progress_of(results: Path) -> frozenset[tuple[str, int]]:
    """Changes with each checkpoint and each file that is finished."""
    found = set()
    for name, path in files_of(results).items():
        if path.name != "lock" and not name.endswith(".tmp"):
            with suppress(OSError):
                found.add((name, path.stat().st_mtime_ns))
    return frozenset(found)


# --- the trial ----------------------------------------------------------------------------------


@dataclass
class Kill:
    """A kill and what came of it.

    Attributes:
        study, start: the number of the study, and of the command's start.
        command: its name.
        seconds: since that start.
        kind, pid: what was killed.
        status: of the command, where it ended before the next kill; None where it went on.
        said: what it wrote until then.
    """

    study: int
    start: int
    command: str
    seconds: float
    kind: str
    pid: int
    status: int | None = None
    said: list[str] | None = None

    @property
    def again(self) -> bool:
        """Whether the command had to be started again."""
        return bool(self.status)


class GivenUpError(Exception):
    """It makes no sense to go on."""


class Trial:
    """Undisturbed study, disturbed ones, and what was found.

    Attributes:
        kills: those so far.
        found: what is wrong, a line each.
    """

    def __init__(self, base: Path, kills: int, nodes: int, seed: int, *, storage: bool) -> None:
        self.base, self.wanted, self.chance = base, kills, random.Random(f"kills {seed}")
        self.storage = base / "s" if storage else None
        self.kills: list[Kill] = []
        self.found: list[str] = []
        self.starts = 0
        self.vain = 0
        self.printed: dict[str, str] = {}
        self.temporary = base / "t"
        self.plugin = base / "save_each_epoch.py"
        self.plugin.write_text(PLUGIN)
        for folder in (self.temporary, base / "logs"):
            folder.mkdir()
        left_out = ("RAY_ADDRESS", "RAY_TMPDIR")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in left_out},
            "MTLBENCH_CACHE": str(base / "cache"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "TMPDIR": str(self.temporary),
            "TORCHINDUCTOR_CACHE_DIR": str(base / "inductor"),
        }
        self.current: Start | None = None
        self.cluster: Cluster | None = None
        if nodes > 1:
            beside = base / "n"
            beside.mkdir()
            environment = {**self.environment, "TMPDIR": str(beside)}
            self.cluster = Cluster(beside, environment, nodes)

    def go(self) -> None:
        """All of it.

        Raises:
            GivenUpError: a command does not come to its end.
        """
        self.whole = self.base / "whole"
        started = time.monotonic()
        for name in COMMANDS:
            start = self._start(name, ["--results", str(self.whole)])
            while start.process.poll() is None:
                start.look()
                time.sleep(0.1)
            self._see_what_is_left(start, killed=False)
            if start.process.returncode:
                raise GivenUpError(f"undisturbed, {name} fails: {start.said()[-1:]}")
            self.printed[name] = start.out.read_text()
        seconds = time.monotonic() - started
        print(f"undisturbed: {len(files_of(self.whole))} files in {seconds:.0f} s", flush=True)
        if self.cluster is not None:
            self.cluster.start()
        study = 0
        while len(self.kills) < self.wanted:
            study += 1
            self._train(study)

    def end(self) -> None:
        """Ends all that was started here."""
        if self.current is not None:
            for _ in range(20):
                left = self.current.look()
                for process in left:
                    with suppress(psutil.Error):
                        process.kill()
                if not left:
                    break
                time.sleep(0.1)
        if self.cluster is not None:
            self.cluster.end()

    # --- a study ----------------------------------------------------------------------------

    def _train(self, study: int) -> None:
        """Trains a study in spite of everything, and looks at what comes out."""
        results = self.base / f"study-{study}"
        known: set[str] = set()
        for name in COMMANDS:
            while True:
                before = len(self.kills)
                start = self._disturb(name, study, results)
                status = start.process.returncode
                self.vain = 0 if not status or len(self.kills) > before else self.vain + 1
                if self.vain == MOST_VAIN:
                    raise GivenUpError(f"{name} ends {MOST_VAIN} times in a row without a kill")
                if not status:
                    break
            where = f"study {study}, {name}, start {start.number}"
            if start.out.read_text() != self.printed[name]:
                self._note(f"{where}: prints other tables, see {start.out}")
            runs_only = name == "run"  # the folds are not there yet

            def compared(path: str, runs_only: bool = runs_only) -> bool:
                return not (runs_only and path.startswith(".folds"))

            for line in differences(results, self.whole, below=compared):
                if line not in known:
                    known.add(line)
                    self._note(f"{where}: {line}")
            if self.storage is not None and (left := sorted(files_of(self.storage))):
                self._note(f"{where}: there are left in the storage: {', '.join(left)}")
        if not self.found:
            shutil.rmtree(results)
        print(f"study {study} has ended, {len(self.kills)} kills so far", flush=True)

    def _disturb(self, name: str, study: int, results: Path) -> Start:
        """Starts a command once, with kills, and waits for its end and for what it leaves."""
        options = ["--plugin", str(self.plugin), "--results", str(results)]
        if self.cluster is not None:
            options += ["--address", self.cluster.address]
        if self.storage is not None:
            options += ["--storage", self.storage.as_uri()]
        start = self._start(name, options)
        killed, stuck, headless = False, False, False
        last: Kill | None = None
        plan = self._plan()
        seen, since = progress_of(results), time.monotonic()
        line = wrote = 0  # of its words, those before `last` and all

        while start.process.poll() is None:
            here = start.look()
            if self.cluster is not None and not headless:
                self.cluster.mend()
                if not self.cluster.has_head():
                    headless = True
                    if self.chance.random() < 0.5:  # else its other nodes live on for a while
                        self.cluster.end()
            now, lines = progress_of(results), len(start.said())
            if now != seen:
                seen, since = now, time.monotonic()
                plan.progressed = True
            elif lines != wrote:
                wrote, since = lines, time.monotonic()
            if not stuck and time.monotonic() - since > STUCK_SECONDS:
                self._note(f"study {study}, {name}, start {start.number}: {self._stuck(start)}")
                stuck = True
                start.process.kill()
            if len(self.kills) < self.wanted and not stuck and plan.due():
                chosen = self._choose(start, here)
                if chosen is not None and start.process.poll() is None:
                    kind, process = chosen
                    with suppress(psutil.Error):
                        self._settle(last, start, line, None)
                        line = len(start.said())
                        process.kill()
                        last = Kill(study, start.number, name, start.seconds(), kind, process.pid)
                        self.kills.append(last)
                        killed = kind == "command"
                        plan, since = self._plan(), time.monotonic()
            time.sleep(0.1)

        self._settle(last, start, line, start.process.returncode)
        if self.cluster is not None and not self.cluster.has_head():
            self.cluster.end()
            headless = True
        self._see_what_is_left(start, killed=killed or stuck)
        self._judge_the_end(start, study, killed=killed or stuck, kill=last)
        if self.cluster is not None:
            if headless:
                self.cluster.end()
                self.cluster.start()
            self.cluster.mend()
        return start

    def _start(self, name: str, options: Sequence[str]) -> Start:
        self.starts += 1
        self.current = Start(name, self.starts, options, self.base, self.environment)
        return self.current

    def _plan(self) -> "Plan":
        return Plan(self.chance.random() < PATIENT, self.chance.uniform(0.3, MOST_DELAY))

    def _choose(self, start: Start, here: set[psutil.Process]) -> tuple[str, psutil.Process] | None:
        """A process that lives: first one of the kinds there are, then one of that kind."""
        by_kind: dict[str, list[psutil.Process]] = {}
        for process in here:
            kind = "command" if process == start.itself else kind_of(process)
            by_kind.setdefault(kind, []).append(process)
        if self.cluster is not None:
            for node in self.cluster.nodes:
                of_head = node is self.cluster.nodes[0]
                for process in of_sessions([node.session]):
                    kind = kind_of(process)
                    kind += " of the head" * (of_head and kind == "raylet")
                    by_kind.setdefault(kind, []).append(process)
        by_kind.pop("", None)
        if not by_kind:
            return None
        kind = self.chance.choice(sorted(by_kind))
        return kind, self.chance.choice(sorted(by_kind[kind], key=lambda process: process.pid))

    def _settle(self, kill: Kill | None, start: Start, line: int, status: int | None) -> None:
        """Says what came of a kill, when the next one comes or the command has ended."""
        if kill is None:
            return
        kill.status, kill.said = status, start.said()[line:]
        if status is None:
            followed = "went on"
        elif status:
            followed = f"ended with status {status}"
        else:
            followed = "went on to its end"
        words = [said for said in kill.said if not said.startswith("[")]
        print(
            f"[{self.kills.index(kill) + 1:2}/{self.wanted}] study {kill.study}, {kill.command}, "
            f"start {kill.start}, after {kill.seconds:5.1f} s: {kill.kind} ({kill.pid}); "
            f"{followed}" + "".join(f"\n        {said}" for said in words),
            flush=True,
        )

    # --- what must hold ---------------------------------------------------------------------

    def _see_what_is_left(self, start: Start, *, killed: bool) -> None:
        """Waits for all that a command has had to go."""
        seconds = LEFT_SECONDS[killed or self.cluster is not None]
        end = time.monotonic() + seconds
        while True:
            left = [f"{kind_of(process)} ({process.pid})" for process in start.look()]
            if self.cluster is not None:
                left += [
                    f"{kind_of(process)} ({process.pid}) in the cluster"
                    for process in of_sessions(self.cluster.sessions())
                    if kind_of(process) == "worker"
                ]
            left += [f"{path}" for path in sorted(self.temporary.iterdir())]
            if not left:
                return
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        self._note(
            f"{start.name}, start {start.number}: {seconds:.0f} s after its end with status "
            f"{start.process.returncode} there are left: {', '.join(left)}"
        )
        for process in start.look():
            with suppress(psutil.Error):
                process.kill()
        time.sleep(1)
        for path in self.temporary.iterdir():
            shutil.move(path, self.base / "logs" / f"{start.number}-{path.name}")

    def _judge_the_end(self, start: Start, study: int, *, killed: bool, kill: Kill | None) -> None:
        """A command ends with what it was to do, or says in one line that it has not."""
        status, said = start.process.returncode, start.said()
        where = f"study {study}, {start.name}, start {start.number}"
        if any("Traceback" in line for line in said):
            self._note(f"{where}: a traceback on standard error, see {start.err}")
        if killed and status == -signal.SIGKILL:
            return
        if status == 2 and kill and kill.kind == "gcs" and "no Ray cluster at" in said[-1]:
            return  # its head was gone before it was reached
        if status not in (0, 1):
            self._note(f"{where}: ended with status {status} and {said[-1:]}")
        elif status and not (said and said[-1].endswith(GOES_ON)):
            self._note(f"{where}: ended with status 1 and {said[-1:]}")
        elif status and kill is None:
            self._note(f"{where}: ended with status 1 without a kill and {said[-1:]}")

    def _stuck(self, start: Start) -> str:
        """That there was no progress; keeps what there is to look at."""
        kept = self.base / "logs" / f"{start.number}-stuck"
        shutil.copytree(self.temporary, kept, symlinks=True, ignore=_special)
        here = sorted(f"{kind_of(process)} ({process.pid})" for process in start.look())
        kill = self.kills[-1] if self.kills else None
        after = f", {kill.kind} was killed last" if kill else ""
        return (
            f"no progress for {STUCK_SECONDS:.0f} s{after}; alive are {', '.join(here)}; "
            f"it said last {start.said()[-1:]}; a copy of its folder is {kept}"
        )

    def _note(self, text: str) -> None:
        self.found.append(text)
        print(f"FOUND  {text}", flush=True)


@dataclass
class Plan:
    """When to kill next.

    Attributes:
        patient: wait for progress first.
        delay: how long to wait then.
    """

    patient: bool
    delay: float
    progressed: bool = False
    _since: float | None = None

    def due(self) -> bool:
        if self.patient and not self.progressed:
            return False
        if self._since is None:
            self._since = time.monotonic()
        return time.monotonic() - self._since >= self.delay


def _special(folder: str, names: Sequence[str]) -> Iterator[str]:
    """Sockets, which cannot be copied."""
    return (
        name
        for name in names
        if not os.path.islink(os.path.join(folder, name))
        and not os.path.isfile(os.path.join(folder, name))
        and not os.path.isdir(os.path.join(folder, name))
    )


# --- the whole ----------------------------------------------------------------------------------


def table(kills: Sequence[Kill]) -> list[dict[str, Any]]:
    """How often a process of each kind was killed, and what followed."""
    counts = Counter(kill.kind for kill in kills)
    again = Counter(kill.kind for kill in kills if kill.again)
    return [
        {"kind": kind, "kills": count, "went_on": count - again[kind], "again": again[kind]}
        for kind, count in sorted(counts.items())
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--storage", action="store_true", help="keep checkpoints in one, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args()

    # Sockets below it have paths of at most 107 characters.
    base = Path(tempfile.mkdtemp(prefix="k-", dir="/tmp"))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background is deaf to it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"everything is below {base}", flush=True)
    trial = Trial(base, options.kills, options.nodes, options.seed, storage=options.storage)
    started = time.monotonic()
    try:
        trial.go()
    except (GivenUpError, ChildProcessError) as error:
        trial.found.append(f"given up: {error}")
    except KeyboardInterrupt:
        print(f"interrupted; what there is so far is below {base}", file=sys.stderr)
        sys.exit(130)
    finally:
        trial.end()
    seconds = time.monotonic() - started

    rows = table(trial.kills)
    print(f"\n{'process':28}{'kills':>8}{'went on':>10}{'started again':>16}")
    for row in rows:
        print(f"{row['kind']:28}{row['kills']:8}{row['went_on']:10}{row['again']:16}")
    for line in trial.found:
        print(f"FOUND  {line}")
    nodes = f"{options.nodes} node{'s' * (options.nodes > 1)}"
    what = f"{len(trial.kills)} kills on {nodes}, {trial.starts} starts"
    if trial.found:
        verdict = f"{what}: {len(trial.found)} faults found; look at {base}"
    else:
        verdict = f"{what}: nothing lost, nothing left, every bit the same"
        shutil.rmtree(base)
    if options.out is not None:
        told = {
            "options": {key: str(value) for key, value in vars(options).items()},
            "seconds": seconds,
            "kills": [asdict(kill) for kill in trial.kills],
            "table": rows,
            "found": trial.found,
            "verdict": verdict,
        }
        options.out.write_text(json.dumps(told, indent=1) + "\n")
    print(verdict)
    sys.exit(bool(trial.found))


if __name__ == "__main__":
    main()
