"""The results directory: a run is there whole or not at all, and damage is never read silently."""

import hashlib
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtlbench.errors import UserError
from mtlbench.files import replacing
from mtlbench.store.merge import merge_results
from mtlbench.store.runs import (
    HISTORY_FILE,
    INSTANCE_FILE,
    LABELS_FILE,
    RUN_FILE,
    RunRecord,
    Store,
    read_npz,
    read_run,
)
from mtlbench.store.sealed import DamagedRunError, sealed
from mtlbench.store.trials import tunings
from mtlbench.training.checkpoint import load_tree, save_tree

HASH = "0123456789ab"
TASK = {"name": "left", "kind": "classification", "classes": [], "palette": None, "unit": ""}


def record(**changes: Any) -> RunRecord:
    spec = {
        "suite": "digits", "variant": "left@0.4", "strategy": "ilt", "seed": 3,
        "suite_parameters": {}, "strategy_parameters": {}, "sources": {},
    }  # fmt: skip
    info = {
        "status": "done", "hash": HASH, "spec": spec, "label": "ILT Params", "tasks": [TASK],
        "metrics": [], "error": None, **changes,
    }  # fmt: skip
    corrupted = np.array([[True], [False]])
    return RunRecord(
        info,
        {"epoch": [1, 2], "train_loss/left": [2.5, float("nan")]},
        {"corrupted": corrupted},
        {"log_variance": np.zeros((2, 2, 1), np.float16), "corrupted": corrupted},
    )


def directories_with_a_run(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.rglob(RUN_FILE))


# --- writing ------------------------------------------------------------------------------------


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = Store(tmp_path).write(record())
    assert path == tmp_path / "digits" / "left@0.4" / "ilt" / f"seed-3-{HASH}"
    run = read_run(path, thorough=True)
    assert run.info["spec"]["seed"] == 3
    np.testing.assert_array_equal(run.history()["train_loss/left"], [2.5, np.nan])
    assert run.labels()["corrupted"].tolist() == [[True], [False]]
    assert run.instance_parameters()["log_variance"].dtype == np.float16


def test_files_that_a_run_does_not_have_read_as_none(tmp_path: Path) -> None:
    plain = record()
    plain.labels, plain.instance_parameters = {}, {}
    run = read_run(Store(tmp_path).write(plain))
    assert run.labels() is None
    assert run.instance_parameters() is None
    assert {file.name for file in run.path.iterdir()} == {RUN_FILE, HISTORY_FILE}


def test_run_json_is_strict_json_with_null_for_what_is_not_finite(tmp_path: Path) -> None:
    values = [{"value": float("nan")}, {"value": float("-inf")}, {"value": 1.5}]
    path = Store(tmp_path).write(record(metrics=values))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    info = json.loads((path / RUN_FILE).read_text(), parse_constant=refuse)
    assert [metric["value"] for metric in info["metrics"]] == [None, None, 1.5]


@pytest.mark.parametrize("writes", range(4))
def test_a_write_that_breaks_off_leaves_no_run(
    writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    real = os.fsync

    def breaks_off(handle: int) -> None:
        if len(synced) == writes:
            raise OSError("disk full")
        synced.append(handle)
        real(handle)

    monkeypatch.setattr(os, "fsync", breaks_off)
    store = Store(tmp_path)
    with pytest.raises(OSError, match="disk full"):
        store.write(record())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    store.write(record())
    store.clear_unfinished(HASH)
    (path,) = store.run_directories()
    assert read_run(path, thorough=True).info["hash"] == HASH
    assert not (tmp_path / ".unfinished").exists()


def test_a_rename_that_fails_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Path, target: Path) -> None:
        raise PermissionError("no rename here")

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(PermissionError, match="no rename here"):
        Store(tmp_path).write(record())
    assert list(Store(tmp_path).run_directories()) == []


def test_of_two_writers_of_one_run_the_first_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.write(record(label="first"))
    assert store.write(record(label="second")) == first
    assert directories_with_a_run(tmp_path) == [first]
    assert read_run(first).info["label"] == "first"


def test_setting_aside_keeps_the_contents_and_never_overwrites(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = []
    for text in ("one", "two"):
        path = store.write(record())
        (path / RUN_FILE).write_text(text)
        kept.append(store.set_aside(path))
        assert not path.exists()
    assert [(path / RUN_FILE).read_text() for path in kept] == ["one", "two"]
    assert all(path.is_relative_to(tmp_path / ".set-aside") for path in kept)
    assert list(store.run_directories()) == []


# --- damage -------------------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    """Damages a run directory."""
    run, history = path / RUN_FILE, path / HISTORY_FILE
    if how == "truncated run.json":
        run.write_bytes(run.read_bytes()[:-20])
    elif how == "empty run.json":
        run.write_bytes(b"")
    elif how == "other json":
        run.write_text("[1, 2]")
    elif how == "no run.json":
        run.unlink()
    elif how == "a folder":
        run.unlink()
        run.mkdir()
    elif how == "truncated history":
        history.write_bytes(history.read_bytes()[:-1])
    elif how == "missing labels":
        (path / LABELS_FILE).unlink()
    elif how == "missing instance parameters":
        (path / INSTANCE_FILE).unlink()
    elif how in ("newer schema", "unknown status"):
        info = json.loads(run.read_text())
        info |= {"schema_version": 99} if how == "newer schema" else {"status": "dnoe"}
        run.write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("truncated run.json", "run.json is truncated"),
        ("empty run.json", "run.json is truncated"),
        ("other json", "run.json is not one of mtlbench"),
        ("no run.json", "run.json is missing"),
        ("a folder", "run.json is not a file"),
        ("truncated history", "history.parquet is truncated"),
        ("missing labels", "labels.npz is missing"),
        ("missing instance parameters", "instance_parameters.npz is missing"),
        ("newer schema", "schema version 99"),
        ("unknown status", "unknown status 'dnoe'"),
    ],
)
def test_damage_is_named_and_the_other_runs_are_read(how: str, named: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    sound = store.write(record(hash="b" * 12))
    damaged = store.write(record())
    damage(damaged, how)
    runs, unreadable = store.load()
    assert [run.path for run in runs] == [sound]
    ((path, what),) = unreadable
    assert path == damaged
    assert named in what


@pytest.mark.parametrize("name", [HISTORY_FILE, LABELS_FILE, INSTANCE_FILE])
def test_altered_bytes_are_found_by_a_thorough_reading(name: str, tmp_path: Path) -> None:
    path = Store(tmp_path).write(record())
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    with pytest.raises(DamagedRunError, match=f"{name} was altered"):
        read_run(path, thorough=True)


def test_files_that_are_no_runs_are_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(record())
    (tmp_path / "notes.txt").write_text("a person's")
    (path.parent / "seed-notes").mkdir()
    (path.parent / ".seed-hidden").mkdir()
    runs, damaged = store.load()
    assert [run.path for run in runs] == [path]
    assert [where.name for where, _ in damaged] == ["seed-notes"]


class Bomb:
    """Writes a file where it is unpickled."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.target),)


def test_pickled_objects_in_a_results_directory_are_refused(tmp_path: Path) -> None:
    path = Store(tmp_path / "runs").write(record())
    buffer = io.BytesIO()
    bomb = np.array([Bomb(str(tmp_path / "exploded"))], dtype=object)
    np.savez(buffer, allow_pickle=True, corrupted=bomb)
    info = json.loads((path / RUN_FILE).read_text())
    for name in (LABELS_FILE, INSTANCE_FILE):
        (path / name).write_bytes(buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        info["files"][name] = {"bytes": len(buffer.getvalue()), "sha256": digest}
    (path / RUN_FILE).write_bytes(sealed(info))
    run = read_run(path, thorough=True)
    with pytest.raises(UserError, match=r"labels\.npz' is damaged"):
        run.labels()
    with pytest.raises(UserError, match=r"instance_parameters\.npz' is damaged"):
        run.instance_parameters()
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"log_variance": np.zeros((2, 2, 1), np.float16)},
        {"log_variance": np.zeros((2, 2, 1), np.float64)},
        {"log_variance": np.zeros((2, 2, 2), np.float16), "corrupted": np.zeros((2, 2), bool)},
        {"log_variance": np.zeros((2, 3, 1), np.float16), "corrupted": np.zeros((2, 1), bool)},
        {"log_variance": np.zeros(2, np.float16), "corrupted": np.zeros((2, 1), bool)},
    ],
    ids=["none", "one", "type", "tasks", "instances", "axes"],
)
def test_arrays_that_are_not_laid_out_as_those_of_a_run_are_damage(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    forged = record()
    forged.instance_parameters = {"other": np.zeros(1), **arrays}
    run = read_run(Store(tmp_path).write(forged), thorough=True)
    with pytest.raises(UserError, match=r"instance_parameters\.npz' is damaged"):
        run.instance_parameters()


def test_objects_are_not_written_either(tmp_path: Path) -> None:
    strange = record()
    strange.labels = {"corrupted": np.array([{}], dtype=object)}
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        Store(tmp_path).write(strange)
    assert list(Store(tmp_path).run_directories()) == []


@pytest.mark.parametrize(
    "files",
    [[], "history.parquet", {"history.parquet": 3}, {"history.parquet": {}}, {}],
    ids=["list", "text", "number", "nothing about it", "none"],
)
def test_a_list_of_files_that_is_none_is_damage(files: Any, tmp_path: Path) -> None:
    path = Store(tmp_path).write(record())
    info = json.loads((path / RUN_FILE).read_text())
    (path / RUN_FILE).write_bytes(sealed({**info, "files": files}))
    with pytest.raises(DamagedRunError, match=r"run\.json|history\.parquet"):
        read_run(path)


# --- checkpoints --------------------------------------------------------------------------------


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_tree(path, {"epoch": 1, "nested": [(1, None), {2: "two"}]})

    def fails(*_: Any) -> None:
        raise OSError("killed here")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="killed here"):
        save_tree(path, {"epoch": 2})
    assert load_tree(path) == {"epoch": 1, "nested": [(1, None), {2: "two"}]}


def test_a_disk_that_has_no_room_for_a_checkpoint_is_an_error_of_the_system(tmp_path: Path) -> None:
    """Of others, training makes a failure."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # bytes of a file
    try:
        with pytest.raises(OSError, match="too large"):
            save_tree(tmp_path / "checkpoint.safetensors", {"weights": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not any(tmp_path.iterdir())


def test_a_file_for_which_there_is_no_room_is_named_and_nothing_of_it_is_left(
    tmp_path: Path,
) -> None:
    path = tmp_path / "table.csv"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as raised, replacing(path) as aside:
            aside.write_bytes(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.filename == str(path)
    assert not any(tmp_path.iterdir())


# --- locks --------------------------------------------------------------------------------------


def test_only_one_holds_the_lock_of_a_run(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    with first.lock(HASH) as held:
        assert held
        with second.lock(HASH) as too:
            assert not too
        with second.lock("b" * 12) as other:
            assert other
    with second.lock(HASH) as now:
        assert now


def test_a_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from mtlbench.store.runs import Store\n"
            f"with Store(sys.argv[1]).lock({HASH!r}) as held:\n"
            "    print(held, flush=True)\n"
            "    sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert holder.stdout
    assert holder.stdout.readline() == "True\n"
    with Store(tmp_path).lock(HASH) as held:
        assert not held
    holder.kill()
    holder.wait()
    with Store(tmp_path).lock(HASH) as held:
        assert held


def test_a_lock_whose_folder_was_cleared_does_not_let_two_in(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.lock(HASH) as first:
        assert first
        store.clear_unfinished(HASH)
        with store.lock(HASH) as second, store.lock(HASH) as third:
            assert second
            assert not third


def test_clearing_one_run_leaves_what_others_have_under_way(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.lock(HASH), store.lock("b" * 12):
        store.clear_unfinished(HASH)
        assert (tmp_path / ".unfinished" / ("b" * 12)).is_dir()
        store.clear_unfinished("b" * 12)
    assert not (tmp_path / ".unfinished").exists()


# --- where results can be -----------------------------------------------------------------------


def test_looking_whether_a_place_is_writable_writes_nothing(tmp_path: Path) -> None:
    Store(tmp_path / "a" / "b").check_writable()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "under" / "it"):
        with pytest.raises(UserError, match=r"file' is a file, not a directory"):
            Store(root).check_writable()


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_directory_without_permission_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for root in (closed, closed / "under"):
        with pytest.raises(UserError, match=r"closed' is not writable"):
            Store(root).check_writable()


def test_a_folder_that_cannot_be_listed_is_named_and_hides_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    sound = store.write(record(hash="b" * 12))
    closed = [tmp_path / ".tuned", tmp_path / "closed"]
    for folder in closed:
        folder.mkdir()
    listed = os.listdir

    def without_permission(folder: Any) -> list[str]:
        if folder in closed:
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "listdir", without_permission)
    runs, unreadable = store.load()
    assert [run.path for run in runs] == [sound]
    told = "it cannot be listed: Permission denied"
    assert unreadable == [(tmp_path / "closed", told)]
    assert tunings(store) == ([], [(tmp_path / ".tuned", told)])
    merged = merge_results(tmp_path, tmp_path.with_name("merged"))
    assert merged.runs == 1
    assert sorted(merged.damaged) == [(folder, told) for folder in closed]


def test_tunings_that_a_file_stands_in_the_place_of_are_named(tmp_path: Path) -> None:
    (tmp_path / ".tuned").write_text("")
    assert tunings(Store(tmp_path)) == ([], [(tmp_path / ".tuned", "it is no folder")])


def test_a_missing_results_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no results directory at '.*missing'"):
        Store(tmp_path / "missing").require()


def test_an_archive_that_unpacks_to_far_more_than_it_has_is_not_unpacked(tmp_path: Path) -> None:
    """200 MB of zeros in 200 KB; noise of the same size is read."""
    np.savez_compressed(tmp_path / "bomb.npz", input=np.zeros(200_000_000, np.uint8))
    with pytest.raises(ValueError, match=r"bomb\.npz unpacks to 0\.2 GB"):
        read_npz(tmp_path / "bomb.npz")
    masks = np.zeros((100, 100_000), bool)
    np.savez_compressed(tmp_path / "masks.npz", corrupted=masks)
    assert read_npz(tmp_path / "masks.npz")["corrupted"].shape == masks.shape
