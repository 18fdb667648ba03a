"""Results directories joined: whole or not at all, once, and without touching what is there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis.synthetic_runs import metric, write_run
from conftest import CHECKOUT, here
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlbench.cli.main import main
from mtlbench.errors import UnfinishedError, UserError
from mtlbench.spec import RunSpec
from mtlbench.store import merge
from mtlbench.store.folds import fold_file, group_of
from mtlbench.store.merge import merge_results
from mtlbench.store.runs import RUN_FILE, Store, npz_bytes, read_run
from mtlbench.store.sealed import sealed

ARRAYS = {"corrupted": np.array([[True], [False]])}


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def runs(root: Path, seeds: Sequence[int], **others: object) -> None:
    for seed in seeds:
        write_run(
            root, metric(50.0 + seed), seed=seed, history={"epoch": [1], "x": [float("nan")]},
            **others,  # type: ignore[arg-type]
        )  # fmt: skip


def fold(root: Path, number: int, suite: str = "maps", value: float = 1.0) -> Path:
    """A fold of five, of a task with label maps."""
    spec = RunSpec(suite, {}, "clean", "equal", {}, 0, {})
    about = {
        "spec": asdict(spec), "hash": spec.hash, "tasks": ["left"], "folds": 5, "fold": number,
        "clean": True, "changed": [],
    }  # fmt: skip
    arrays = {
        "rows": np.array([number, number + 5]),
        "corrupted": np.zeros((2, 1), bool),
        **dict.fromkeys(("loss", "value", "validation_loss"), np.full((2, 1), 0.5, np.float32)),
        "quality/left": np.array([value, np.nan]),
        "about": np.array(json.dumps(about)),
    }
    path = fold_file(Store(root), group_of(spec.hash, 5), number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(npz_bytes(arrays))
    return path


# --- what is copied -----------------------------------------------------------------------------


def test_runs_and_folds_of_all_sources_are_copied_byte_for_byte(tmp_path: Path) -> None:
    runs(tmp_path / "a", [0, 1], variant="depth@0.4", labels=ARRAYS)
    runs(tmp_path / "b", [2], strategy="ilt", instance_parameters=ARRAYS)
    fold(tmp_path / "b", 3)
    merged = merge_results([tmp_path / "a", tmp_path / "b"], tmp_path / "new" / "c")
    assert (merged.runs, merged.folds, merged.there) == (3, 1, 0)
    expected = contents(tmp_path / "a") | contents(tmp_path / "b")
    assert contents(tmp_path / "new" / "c") == expected


def test_checkpoints_and_what_was_set_aside_stay_where_they_are(tmp_path: Path) -> None:
    source = tmp_path / "a"
    runs(source, [0])
    for place in (".unfinished/0123", ".set-aside/streets/clean/equal/seed-1-ab"):
        (source / place).mkdir(parents=True)
        (source / place / RUN_FILE).write_text("{}")
    merge_results([source], tmp_path / "b")
    assert all(not name.startswith(".") for name in contents(tmp_path / "b"))


def test_a_file_that_a_run_does_not_list_is_not_copied(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", metric(1.0))
    (run / "notes.txt").write_text("mine")
    merge_results([tmp_path / "a"], tmp_path / "b")
    assert not list((tmp_path / "b").rglob("notes.txt"))


placed = st.dictionaries(
    st.tuples(st.sampled_from(["equal", "ilt", "mtu"]), st.integers(0, 3)),
    st.integers(0, 2),
    min_size=1,
)
"""(strategy, seed) to the source that has it."""


def scatter(root: Path, placement: dict[tuple[str, int], int]) -> list[Path]:
    for (strategy, seed), number in placement.items():
        runs(root / f"source-{number}", [seed], strategy=strategy)
        fold(root / f"source-{number}", seed, suite=strategy)
    return sorted(root.glob("source-*"))


@settings(max_examples=15)  # each is slow: everything is written to the disk
@given(placement=placed, data=st.data())
def test_the_order_of_sources_does_not_matter_where_they_share_nothing(
    placement: dict[tuple[str, int], int], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sources = scatter(root, placement)
        merge_results(sources, root / "once")
        for source in data.draw(st.permutations(sources)):
            merge_results([source], root / "one-by-one")
        assert contents(root / "once") == contents(root / "one-by-one")
        assert len(list(Store(root / "once").run_directories())) == len(placement)


@settings(max_examples=15)
@given(placement=placed)
def test_merging_again_changes_nothing(placement: dict[tuple[str, int], int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sources = scatter(root, placement)
        merge_results(sources, root / "target")
        before = contents(root / "target")
        merged = merge_results(sources, root / "target")
        assert contents(root / "target") == before
        assert (merged.runs, merged.folds, merged.there) == (0, 0, 2 * len(placement))
        assert not merged.different


# --- the same run twice -------------------------------------------------------------------------


def test_the_same_run_in_two_sources_is_copied_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        runs(tmp_path / name, [0])
        fold(tmp_path / name, 0)
    merged = merge_results([tmp_path / "a", tmp_path / "b", tmp_path / "a"], tmp_path / "c")
    assert (merged.runs, merged.folds, merged.there, merged.different) == (1, 1, 2, [])


def test_times_and_other_versions_do_not_make_a_run_another_one(tmp_path: Path) -> None:
    runs(tmp_path / "a", [0])
    runs(tmp_path / "b", [0])
    (path,) = Store(tmp_path / "b").run_directories()
    info = json.loads((path / RUN_FILE).read_text())
    info |= {"timings": {"train_seconds": 9.0}, "processor": "another"}
    (path / RUN_FILE).write_bytes(sealed(info))
    assert merge_results([tmp_path / "a", tmp_path / "b"], tmp_path / "c").different == []


def test_of_two_results_of_one_spec_that_of_the_target_stays_and_the_other_is_named(
    tmp_path: Path,
) -> None:
    stays = write_run(tmp_path / "target", metric(50.0))
    other = write_run(tmp_path / "a", metric(50.000001))
    mine, theirs = fold(tmp_path / "target", 1), fold(tmp_path / "a", 1, value=2.0)
    before = contents(tmp_path / "target")
    merged = merge_results([tmp_path / "a"], tmp_path / "target")
    assert contents(tmp_path / "target") == before
    assert merged.different == [(other, stays), (theirs, mine)]


def test_runs_whose_histories_differ_are_different_ones(tmp_path: Path) -> None:
    write_run(tmp_path / "a", metric(50.0), history={"epoch": [1], "x": [0.5]})
    write_run(tmp_path / "b", metric(50.0), history={"epoch": [1], "x": [0.25]})
    assert len(merge_results([tmp_path / "a", tmp_path / "b"], tmp_path / "c").different) == 1


def test_of_two_sources_one_that_did_not_fail_is_copied_else_the_first(tmp_path: Path) -> None:
    write_run(tmp_path / "a", status="failed", seed=0)
    write_run(tmp_path / "b", metric(50.0), seed=0)
    write_run(tmp_path / "a", metric(1.0), seed=1)
    write_run(tmp_path / "b", metric(2.0), seed=1)
    merge_results([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    found = [
        read_run(path).info["metrics"][0]["value"]
        for path in Store(tmp_path / "c").run_directories()
    ]
    assert sorted(found) == [1.0, 50.0]


# --- what is damaged ----------------------------------------------------------------------------


def test_damaged_runs_and_folds_are_named_and_left_out_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs(tmp_path / "a", [0, 1])
    broken = write_run(tmp_path / "a", metric(1.0), seed=2)
    content = bytearray((broken / "history.parquet").read_bytes())
    content[len(content) // 2] ^= 1  # as long as before: only its hash tells
    (broken / "history.parquet").write_bytes(content)
    damaged = fold(tmp_path / "a", 0)
    damaged.write_bytes(damaged.read_bytes()[:-30])
    ended = here(["merge", tmp_path / "a", "--into", tmp_path / "b"], capsys)
    assert ended.status == 1
    assert (
        ended.out
        == f"{tmp_path / 'b'}: 2 runs, 0 folds, 0 trials and 0 tunings copied, 0 there already\n"
    )
    assert f"mtlbench: {broken} is left out: history.parquet was altered\n" in ended.err
    assert f"mtlbench: {damaged} is left out: is damaged\n" in ended.err
    assert "Traceback" not in ended.err
    assert len(list(Store(tmp_path / "b").run_directories())) == 2


def test_a_fold_in_the_place_of_another_or_without_predictions_is_not_copied(
    tmp_path: Path,
) -> None:
    good, other, empty = (fold(tmp_path / "a", number) for number in range(3))
    other.write_bytes(good.read_bytes())
    empty.write_bytes(npz_bytes({"x": np.zeros(3)}))
    merged = merge_results([tmp_path / "a"], tmp_path / "b")
    assert merged.folds == 1
    assert [path for path, _ in merged.damaged] == [other, empty]


def test_where_everything_is_damaged_nothing_is_written(tmp_path: Path) -> None:
    broken = write_run(tmp_path / "a", metric(1.0))
    (broken / "history.parquet").unlink()
    assert len(merge_results([tmp_path / "a"], tmp_path / "b").damaged) == 1
    assert not (tmp_path / "b").exists()


def test_a_damaged_run_in_the_target_stays_and_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", metric(1.0))
    broken = write_run(tmp_path / "b", metric(1.0))
    (broken / "history.parquet").unlink()
    before = contents(tmp_path / "b")
    merged = merge_results([tmp_path / "a"], tmp_path / "b")
    assert merged.damaged == []
    assert merged.kept == [(broken, "history.parquet is missing")]
    assert contents(tmp_path / "b") == before


@pytest.mark.parametrize("name", ["../../../../../outside", "/etc/hostname", "sub/file"])
def test_a_run_that_lists_a_file_of_another_directory_is_damaged(name: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", metric(1.0))
    (tmp_path / "outside").write_text("")
    info = json.loads((run / RUN_FILE).read_text())
    info["files"][name] = {"bytes": 0, "sha256": ""}
    (run / RUN_FILE).write_bytes(sealed(info))
    ((path, what),) = merge_results([tmp_path / "a"], tmp_path / "b").damaged
    assert path == run
    assert what == f"run.json lists {name!r}, which is no file of a run"


@pytest.mark.parametrize("suite", ["../../elsewhere", "bodies", 3, None])
def test_a_run_that_says_it_belongs_elsewhere_is_damaged(suite: object, tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", metric(1.0))
    info = json.loads((run / RUN_FILE).read_text())
    info["spec"]["suite"] = suite
    (run / RUN_FILE).write_bytes(sealed(info))
    assert [path for path, _ in merge_results([tmp_path / "a"], tmp_path / "b").damaged] == [run]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


# --- bad input ----------------------------------------------------------------------------------


LOOP = "results path 'loop' is not writable: Too many levels of symbolic links"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "nowhere", "--into", "b"], "no results directory at 'nowhere'"),
        (["a", "file", "--into", "b"], "no results directory at 'file'"),
        (["a", "empty", "--into", "b"], "'empty' holds nothing that can be merged"),
        (["a", "--into", ""], "the results directory has no name"),
        (["a", "--into", "a"], "'a' cannot be merged into itself"),
        (["a", "--into", "empty/../a/"], "'empty/../a' cannot be merged into itself"),
        (["a", "--into", "link"], "'link' cannot be merged into itself"),
        (["a", "--into", "loop"], LOOP),
        (["a", "--into", "a/inside"], "'a/inside' lies inside 'a'"),
        (["a", "--into", "file"], "results path 'file' is a file, not a directory"),
        (["a", "--into", "file/b"], "results path 'file' is a file, not a directory"),
        (["a", "", "--into", "b"], "the results directory has no name"),
        (["a", "--into", "way"], "'way/streets' is in the way: it is not a directory"),
    ],
)
def test_bad_input_gets_one_line_and_nothing_is_written(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs(tmp_path / "a", [0])
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "way").mkdir()
    (tmp_path / "way" / "streets").write_text("kept")
    before = sorted(map(str, tmp_path.rglob("*")))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["merge", *arguments])
    assert ended.value.code == 2
    told = capsys.readouterr().err.replace(f"{tmp_path}/", "")
    assert told == f"mtlbench: error: {message}\n"
    assert sorted(map(str, tmp_path.rglob("*"))) == before


@pytest.mark.parametrize("sources", [[], 3, [3], None])
def test_sources_that_are_none_are_refused(sources: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        merge_results(sources, tmp_path / "b")
    assert not any(tmp_path.iterdir())


def test_one_source_may_be_given_by_itself_and_many_by_any_iterable(tmp_path: Path) -> None:
    runs(tmp_path / "a", [0])
    assert merge_results(str(tmp_path / "a"), tmp_path / "b").runs == 1
    assert merge_results(iter([tmp_path / "a"]), tmp_path / "c").runs == 1


def test_another_result_of_the_same_spec_is_said_and_ends_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", metric(1.0))
    write_run(tmp_path / "b", metric(2.0))
    with pytest.raises(SystemExit) as ended:
        main(["merge", str(tmp_path / "a"), "--into", str(tmp_path / "b")])
    assert ended.value.code == 1
    assert "has another result" in capsys.readouterr().err


def test_two_merges_into_one_directory_do_not_meet(tmp_path: Path) -> None:
    runs(tmp_path / "a", [0])
    with Store(tmp_path / "b").lock(merge.LOCK) as held:
        assert held
        with pytest.raises(UserError, match=r"^another merge into '[^']*' is under way$"):
            merge_results([tmp_path / "a"], tmp_path / "b")


# --- breaking off -------------------------------------------------------------------------------


def test_a_full_disk_ends_it_without_half_a_run_and_the_same_merge_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(tmp_path / "a", range(4))
    real, copied = shutil.copyfile, []

    def full(source: Path, target: Path) -> None:
        if len(copied) == 5:
            target.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        copied.append(real(source, target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UnfinishedError, match="No space left on device"):
        merge_results([tmp_path / "a"], tmp_path / "b")
    paths = list(Store(tmp_path / "b").run_directories())
    assert len(paths) == 2
    assert all(read_run(path, thorough=True) for path in paths)
    assert not (tmp_path / "b" / ".unfinished").exists()
    monkeypatch.undo()
    assert merge_results([tmp_path / "a"], tmp_path / "b").there == 2
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


def test_one_that_is_killed_leaves_whole_runs_and_the_same_command_goes_on(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    runs(source, range(120))
    for number in range(3):
        fold(source, number)
    before = contents(source)
    command = [sys.executable, "-m", "mtlbench", "merge", str(source), "--into", str(target)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    kills = 0
    for least in (1, 40, 80):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(glob(f"{target}/*/*/*/seed-*")) < least:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        assert all(read_run(path, thorough=True) for path in Store(target).run_directories())
    assert kills, "the command was never under way"
    merge_results([source], target)
    assert contents(target) == before == contents(source)
