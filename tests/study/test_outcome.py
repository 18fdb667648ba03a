"""Results that are changed by other hands while a study is under way."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_OPTIONS, here

from mtlbench.store import trials
from mtlbench.store.runs import RUN_FILE, RunRecord, Store

FIRST, SECOND = "equal", "dwa"
STUDY = ["run", "digits", *TINY_OPTIONS, "--strategies", f"{FIRST},{SECOND}"]
STUDY += ["--variants", "clean", "--seeds", "1"]


def cut(run: Path) -> None:
    (run / RUN_FILE).write_text((run / RUN_FILE).read_text()[:99])


def remove_all(run: Path) -> None:
    shutil.rmtree(run.parents[3])


@pytest.mark.parametrize(
    ("change", "told", "shown", "trained"),
    [
        (cut, "1 damaged, 1 done", "DWA", ["equal"]),
        (shutil.rmtree, "1 done, 1 missing", "DWA", ["equal"]),
        (remove_all, "2 missing", "", ["equal", "dwa"]),
    ],
)
def test_a_run_that_is_changed_while_others_train_is_told_and_the_others_are_shown(
    change: Callable[[Path], None],
    told: str,
    shown: str,
    trained: list[str],
    train_here: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, write = tmp_path / "runs", Store.write

    def write_and_change(store: Store, record: RunRecord) -> Path:
        path = write(store, record)
        if path.parent.name == SECOND:
            (first,) = path.parents[1].glob(f"{FIRST}/*")
            change(first)
        return path

    command = [*STUDY, "--results", root]
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", write_and_change)
        ended = here(command, capsys)
    assert ended.status == 1
    assert ended.err.splitlines()[-1] == f"mtlbench: not all 2 runs are done: {told}"
    assert shown in ended.out
    assert "Eq. Weight" not in ended.out
    again = here(command, capsys)
    assert again.status == 0
    assert [name for name in (FIRST, SECOND) if f"/{name}/seed-0 done" in again.err] == trained


def test_a_run_for_which_there_is_no_room_is_named_and_the_others_stay(
    train_here: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, write = tmp_path / "runs", Store.write

    def fails_for_the_second(store: Store, record: RunRecord) -> Path:
        if record.info["spec"]["strategy"] == SECOND:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(store, record)

    command = [*STUDY, "--results", root]
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", fails_for_the_second)
        ended = here(command, capsys)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines()[-1].startswith(
        f"mtlbench: error: '{root}/digits/clean/{SECOND}/seed-0-"
    )
    assert ended.err.endswith(
        "' cannot be written: No space left on device; the same command goes on from here\n"
    )
    assert len(list(Store(root).run_directories())) == 1


def test_a_trial_that_is_damaged_while_others_train_is_named_and_trained_again(
    train_here: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = trials._write
    written: list[Path] = []

    def write_and_damage(path: Path, content: Any) -> None:
        write(path, content)
        written.append(path)
        if len(written) == 2:
            written[0].write_text("{")

    command = ["tune", "digits", *TINY_OPTIONS, "--strategies", "equal", "--variants", "clean"]
    command += ["--seeds", "1", "--trials", "2", "--results", tmp_path]
    with monkeypatch.context() as patch:
        patch.setattr(trials, "_write", write_and_damage)
        ended = here(command, capsys)
    file = written[0]
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines()[-1] == (
        f"mtlbench: error: {file}: {file.name} is truncated or not JSON; "
        "the same command goes on from here"
    )
    again = here(command, capsys)
    assert again.status == 0
    assert "is damaged" in again.err
    assert "1 finished before, 1 to train" in again.err
