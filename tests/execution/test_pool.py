"""What the pool makes of a job's parts, without any Ray; where the driver's folder lies."""

import fcntl
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKOUT, tiny_spec, trained

from mtlbench.errors import UserError
from mtlbench.execution.cluster import FOLDER, _temporary_folder
from mtlbench.execution.events import Event
from mtlbench.execution.pool import Pool
from mtlbench.execution.resources import Resources
from mtlbench.store.runs import Store
from mtlbench.store.sealed import DamagedRunError
from mtlbench.training.job import Ended, Job, Parts, Place
from mtlbench.training.jobs import RunJob, cross_validations


@dataclass(frozen=True)
class Simple(Job):
    """A job that leaves its status in a file; `below` are the parts that it takes one by one."""

    name: str
    below: tuple[tuple["Simple", ...], ...] = ()
    fault: BaseException | None = None
    sent: list[Any] = field(default_factory=list, compare=False)

    @property
    def hash(self) -> str:
        return self.name

    @property
    def epochs(self) -> int:
        return 1

    def __str__(self) -> str:
        return self.name

    def path(self, store: Store) -> Path:
        return store.root / self.name

    def read(self, store: Store) -> Ended:
        return Ended(self.path(store).read_text())

    def write(self, store: Store, ended: Ended) -> None:
        self.path(store).parent.mkdir(parents=True, exist_ok=True)
        self.path(store).write_text(ended.status)

    def train(self, place: Place, checkpoint: Path | None) -> Iterator[Any]:
        return iter(())

    def parts(self) -> Parts:
        if not self.below and self.fault is None:
            return (yield from super().parts())
        for step in self.below:
            self.sent.append((yield list(step)))
        if self.fault is not None:
            raise self.fault
        return Ended("done")


def pool_of(root: Path) -> tuple[Pool, list[Event]]:
    told: list[Event] = []
    pool = Pool(1, 0, Resources().setup([]), elastic=False, emit=told.append)
    pool.store = Store(root)
    return pool, told


def test_parts_that_are_equal_are_trained_once_and_those_that_stand_are_not(
    tmp_path: Path,
) -> None:
    a, b, c = (Simple(name) for name in "abc")
    c.write(Store(tmp_path), Ended("diverged"))
    whole = Simple("whole", ((a, a, b, c), (b,)))
    pool, told = pool_of(tmp_path)
    pool.start_job(whole)
    assert [part.job for part in pool.parts] == [a, b]
    while pool.parts:
        pool.finish_part(pool.parts.popleft(), Ended("done"))
    first, second = whole.sent
    assert [ended.status for ended in first] == ["done", "done", "done", "diverged"]
    assert [ended.status for ended in second] == ["done"]  # b stands by now
    assert [event.kind for event in told] == ["started", "done"]
    assert not pool.active


@pytest.mark.parametrize("fault", [ArithmeticError("no"), SystemExit(4)])
def test_parts_that_raise_fail_their_job_and_no_other(fault: BaseException, tmp_path: Path) -> None:
    pool, told = pool_of(tmp_path)
    pool.start_job(Simple("bad", ((Simple("a"),),), fault))
    pool.start_job(Simple("good"))
    while pool.parts:
        pool.finish_part(pool.parts.popleft(), Ended("done"))
    assert {str(event.job): event.kind for event in told} == {"bad": "failed", "good": "done"}
    assert repr(fault).partition("(")[0] in next(e.text for e in told if e.kind == "failed")


def test_the_first_part_that_fails_ends_its_job(tmp_path: Path) -> None:
    pool, _ = pool_of(tmp_path)
    whole = Simple("whole", ((Simple("a"), Simple("b")), ()))
    pool.start_job(whole)
    pool.finish_part(pool.parts.popleft(), Ended("failed", "out of memory"))
    assert not pool.parts
    assert [ended.status for ended in whole.sent[0]] == ["failed", "failed"]


def test_what_is_of_no_use_is_read_again_only_when_something_else_stands_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, _ = pool_of(tmp_path)
    job, reads = Simple("a"), []

    def read(self: Simple, store: Store) -> Ended:
        reads.append(self.path(store).read_text())
        if reads[-1] == "damaged":
            raise DamagedRunError("is damaged")
        return Ended(reads[-1])

    monkeypatch.setattr(Simple, "read", read)
    assert pool.ended_elsewhere(job) is None
    job.write(pool.store, Ended("damaged"))
    assert [pool.ended_elsewhere(job) for _ in range(3)] == [None] * 3
    assert reads == ["damaged"]
    (tmp_path / "new").write_text("done")
    (tmp_path / "new").replace(job.path(pool.store))  # as another process does
    assert pool.ended_elsewhere(job) == Ended("done")
    assert reads == ["damaged", "done"]


# --- the driver's folder ------------------------------------------------------------------------


def test_folders_of_commands_that_are_gone_are_removed_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Path(f"/tmp/f{os.getpid()}")
    base.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(base))
    try:
        held, lock = _temporary_folder()
        for name in ("left", "young", "old"):
            (base / f"{FOLDER}{name}").mkdir()
        (base / f"{FOLDER}left" / "lock").touch()
        long_ago = time.time() - 3600
        os.utime(base / f"{FOLDER}old", (long_ago, long_ago))
        new, other = _temporary_folder()
        assert set(base.iterdir()) == {held, new, base / f"{FOLDER}young"}
        with pytest.raises(OSError, match="unavailable"), (new / "lock").open() as again:
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.close()
        other.close()
        _temporary_folder()[1].close()
        assert not held.exists()
        assert not new.exists()
    finally:
        subprocess.run(["rm", "-r", str(base)], check=True)


def test_no_folder_for_ray_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/nonexistent")
    with pytest.raises(UserError, match="no folder can be made in '/nonexistent'"):
        _temporary_folder()


# --- closed streams -----------------------------------------------------------------------------


ALL_CLOSED = "<&- >&- 2>&-"
SOON = [("compare digits --reference", 0), ("compare nosuch --reference", 2), ("--version", 0)]
"""Commands that import no PyTorch."""


@pytest.mark.parametrize(
    ("command", "status", "closed"),
    [
        *((*each, closed) for each in SOON for closed in ("<&-", ">&-", "2>&-", ALL_CLOSED)),
        ("list suites", 0, ALL_CLOSED),
        ("run nosuch", 2, ALL_CLOSED),
    ],
)
def test_a_command_works_with_closed_streams(command: str, status: int, closed: str) -> None:
    line = f"{sys.executable} -m mtlbench {command} {closed}"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    ended = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment)
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_process_that_holds_ray_needs_no_pytorch() -> None:
    code = (
        "import pickle, sys\n"
        "import mtlbench.execution.driver, mtlbench.execution.pool\n"
        "jobs = pickle.loads(sys.stdin.buffer.read())\n"
        "print([job.epochs for job in jobs[:-1]], 'torch' in sys.modules)"
    )
    spec = tiny_spec()
    jobs = [RunJob(spec), *cross_validations([spec])]
    ended = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps([*jobs, trained(spec)]),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        check=True,
    )
    assert ended.stdout.decode().strip() == f"{[2] * 6} False"
