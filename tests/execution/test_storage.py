"""Checkpoints in a storage that all machines reach."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import tiny_spec, trained

from mtlbench.errors import UserError
from mtlbench.execution.events import Event
from mtlbench.execution.fleet import Crew, Machine
from mtlbench.execution.pool import Pool
from mtlbench.execution.resources import Resources
from mtlbench.execution.storage import Storage, kept
from mtlbench.execution.worker import Apart, Worker
from mtlbench.spec import RunSpec
from mtlbench.store.runs import RunRecord, Store
from mtlbench.training.job import Ended, Job, Notice, Place, Progress
from mtlbench.training.jobs import RunJob


def spec() -> RunSpec:
    return tiny_spec("ilt", epochs=3)


def on_a_machine(disk: Path, job: Job, storage: Storage) -> Iterator[Any]:
    """Training on a machine with a disk of its own."""
    checkpoint = job.checkpoint(Store(disk))
    return kept(job.train(Place(), checkpoint), checkpoint, storage, disk / ".unfinished")


def lost_after_an_epoch(disk: Path, job: Job, storage: Storage) -> None:
    messages = on_a_machine(disk, job, storage)
    assert isinstance(next(messages), Progress)
    assert isinstance(next(messages), Progress)  # by now the first is on its way
    messages.close()


@pytest.fixture(params=["file", "mock", "fsspec+memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(f"{request.param}://{tmp_path}/kept")


def test_a_run_goes_on_on_another_machine_to_the_same_bits(
    storage: Storage, tmp_path: Path
) -> None:
    job = RunJob(spec())
    lost_after_an_epoch(tmp_path / "a", job, storage)
    assert [info.base_name for info in storage.files(job.hash)] == ["checkpoint.safetensors"]
    first, *_, ended = on_a_machine(tmp_path / "b", job, storage)
    assert first.epoch > 1
    assert ended.result.history == trained(spec()).history


def test_what_the_storage_has_counts_more_than_an_older_state_of_this_machine(
    tmp_path: Path,
) -> None:
    storage, job = Storage(f"file://{tmp_path}/kept"), RunJob(spec())
    lost_after_an_epoch(tmp_path / "a", job, storage)
    here = job.checkpoint(Store(tmp_path / "b"))
    here.parent.mkdir(parents=True)
    here.write_bytes(b"an older one")
    first, *_ = on_a_machine(tmp_path / "b", job, storage)
    assert isinstance(first, Progress)
    assert first.epoch > 1


def test_files_take_the_place_of_others_and_leave_nothing_beside(
    storage: Storage, tmp_path: Path
) -> None:
    storage.prepare(())
    for content in (b"old", b"new"):
        (tmp_path / "file").write_bytes(content)
        storage.put(tmp_path / "file", "run/members/state.safetensors")
    storage.get("run/members/state.safetensors", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"new"
    assert [info.base_name for info in storage.files("run/members")] == ["state.safetensors"]
    assert storage.files("nowhere") == []
    storage.remove("run")
    storage.remove("run")
    assert storage.files("") == []


def test_a_storage_that_fails_is_said_once_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(f"file://{tmp_path}/kept")

    def fails(*_: Any) -> None:
        raise OSError("it is away")

    monkeypatch.setattr(Storage, "put", fails)
    monkeypatch.setattr(Storage, "files", fails)
    *said, ended = on_a_machine(tmp_path / "a", RunJob(spec()), storage)
    notices = [message.text for message in said if isinstance(message, Notice)]
    where = f"in file://{tmp_path}/kept: OSError: it is away ("  # and the line that says so
    whats = ("cannot look for its state", "cannot save its state")
    assert len(notices) == len(whats)
    for text, what in zip(notices, whats, strict=True):
        assert text.startswith(f"{what} {where}")
    assert ended.status == "done"


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("nosuch://x", "Unrecognized filesystem type"),
        ("a/path", "empty scheme"),
        ("file:///proc/nothing", "Cannot create directory"),
        ("fsspec+nosuch://x", "Protocol not known"),
    ],
)
def test_a_storage_that_cannot_be_is_refused_in_one_line(uri: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as refused:
        Storage(uri).prepare(())
    assert str(refused.value).startswith(f"no checkpoints can be kept at {uri!r}: ")
    assert "\n" not in str(refused.value)


def test_passwords_are_not_told() -> None:
    with pytest.raises(UserError) as refused:
        Storage("nosuch://key:secret@bucket/path")
    assert "secret" not in str(refused.value)


# --- the pool -----------------------------------------------------------------------------------


def pool_of(root: Path, storage: str | None) -> tuple[Pool, list[Event]]:
    told: list[Event] = []
    pool = Pool(1, 0, Resources(storage=storage).setup([]), elastic=False, emit=told.append)
    pool.store = Store(root)
    return pool, told


def test_the_state_of_a_run_goes_when_it_has_ended(tmp_path: Path) -> None:
    job, uri = RunJob(spec()), f"file://{tmp_path}/kept"
    lost_after_an_epoch(tmp_path / "a", job, Storage(uri))
    pool, told = pool_of(tmp_path / "runs", uri)
    pool.start_job(job)
    pool.finish_part(pool.parts.popleft(), Ended("done", result=trained(spec())))
    pool.collect_cleared(wait=True)
    assert Storage(uri).files("") == []
    assert [event.kind for event in told] == ["started", "done"]


def test_what_a_killed_command_has_left_of_finished_runs_is_removed(tmp_path: Path) -> None:
    storage = Storage(f"file://{tmp_path}/kept")
    (tmp_path / "file").touch()
    for name in ("finished", "under-way"):
        storage.put(tmp_path / "file", f"{name}/checkpoint.safetensors")
    storage.prepare({"finished", "another"})
    assert [info.base_name for info in storage.files("")] == ["under-way"]


def worker_of(storage: str) -> Worker:
    worker = object.__new__(Worker)  # as it is after its start
    worker.place, worker.storage = Place(), storage
    return worker


def test_a_machine_that_does_not_see_the_results_says_so_once(tmp_path: Path) -> None:
    job, store = RunJob(spec()), Store(tmp_path / "runs")
    with store.lock(job.hash):
        assert not isinstance(next(worker_of("").train(job, job.checkpoint(store))), Apart)
    elsewhere = job.checkpoint(Store(tmp_path / "elsewhere"))
    assert isinstance(next(worker_of("").train(job, elsewhere)), Apart)
    pool, told = pool_of(tmp_path / "runs", None)
    pool.fleet.machines = {"node": Machine("host", 2)}
    for _ in range(2):
        pool.tell_apart(Crew(None, ("node",)))
    (event,) = told
    assert event.text.startswith(f"host does not see {tmp_path / 'runs'}: ")


def test_a_worker_that_knows_no_such_storage_trains_without(tmp_path: Path) -> None:
    checkpoint = RunJob(spec()).checkpoint(Store(tmp_path))
    first, *_, ended = worker_of("nosuch://x").train(RunJob(spec()), checkpoint)
    assert isinstance(first, Notice)
    assert isinstance(ended.result, RunRecord)
    assert ended.status == "done"
