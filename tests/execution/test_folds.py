"""Folds go through the same pool as runs: each is trained once, and goes on where it was saved."""

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_OPTIONS, finish, here, run_mtlbench, start_mtlbench, wait_until

from mtlbench.training.folds import FoldRun

PLUGIN = """
import os
import time
from pathlib import Path

import mtlbench.training.loop
from mtlbench.training.folds import FoldRun

mtlbench.training.loop.CHECKPOINT_SECONDS = 0.0
PLACE = Path("DIRECTORY")
train_epoch = FoldRun.train_epoch


def noted(run):
    train_epoch(run)
    with (PLACE / "epochs").open("a") as log:
        log.write(f"{run.fold} {run.epoch}\\n")
    lines = (PLACE / "epochs").read_text().splitlines()
    WHAT


FoldRun.train_epoch = noted
"""

DIES_ONCE = 'if run.epoch == 2 and lines.count("3 2") == 1 and run.fold == 3: os._exit(1)'
WAITS = 'while not (PLACE / "open").exists(): time.sleep(0.02)'


def plugin(place: Path, what: str) -> Path:
    """Keeps a log of the epochs of folds, and does something after each."""
    place.mkdir()
    path = place / "noted.py"
    path.write_text(PLUGIN.replace("DIRECTORY", str(place)).replace("WHAT", what))
    return path


def command(place: Path) -> list[str]:
    options = [*TINY_OPTIONS, "--epochs", "3", "--seeds", "1", "--variants", "left@0.4"]
    options += ["--detectors", "fold-loss", "--results", str(place / "runs")]
    return ["detectors", "digits", *options]


def on(address: str, file: Path) -> list[str]:
    """The command on a cluster, with a plugin that lies where its results go."""
    return [*command(file.parent), "--plugin", str(file), "--address", address]


def epochs(file: Path) -> list[str]:
    log = file.parent / "epochs"
    return log.read_text().splitlines() if log.exists() else []


def fold_arrays(place: Path) -> dict[str, dict[str, bytes]]:
    """The content of each fold's file, by its name."""
    found = {}
    for path in sorted((place / "runs" / ".folds").glob("*/*.npz")):
        with np.load(path) as arrays:
            found[path.name] = {name: arrays[name].tobytes() for name in arrays}
    return found


def test_the_fold_of_a_worker_that_dies_goes_on_and_two_commands_train_each_once(
    cluster_address: str, tmp_path: Path
) -> None:
    dying, waiting = plugin(tmp_path / "one", DIES_ONCE), plugin(tmp_path / "two", WAITS)
    alone = run_mtlbench(on(cluster_address, dying))
    assert alone.status == 0, alone.err
    assert "fold-4-of-5 has lost its worker; goes on from where it was saved last" in alone.err
    again = ["3 2"]  # the epoch that was under way, and no other
    assert sorted(epochs(dying)) == sorted(
        [f"{fold} {epoch}" for fold in range(5) for epoch in (1, 2, 3)] + again
    )

    both = [start_mtlbench(on(cluster_address, waiting)) for _ in range(2)]
    wait_until(lambda: len(epochs(waiting)) == 2, what="two folds")
    (waiting.parent / "open").touch()
    ends = [finish(process) for process in both]
    assert [ended.status for ended in ends] == [0, 0], ends
    assert ends[0].out == ends[1].out == alone.out
    assert len(epochs(waiting)) == 5 * 3
    assert fold_arrays(waiting.parent) == fold_arrays(dying.parent)
    assert len(fold_arrays(dying.parent)) == 5
    for file in (dying, waiting):
        assert not (file.parent / "runs" / ".unfinished").exists()


def test_a_damaged_fold_is_set_aside_and_trained_again(
    train_here: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained: list[int] = []
    train_epoch = FoldRun.train_epoch

    def noted(run: FoldRun) -> None:
        train_epoch(run)
        trained.append(run.fold)

    monkeypatch.setattr(FoldRun, "train_epoch", noted)
    assert here(command(tmp_path), capsys).status == 0
    before = fold_arrays(tmp_path)
    path = next((tmp_path / "runs" / ".folds").glob("*/fold-2.npz"))
    path.write_bytes(path.read_bytes()[:1000])
    ended = here(command(tmp_path), capsys)
    assert ended.status == 0, ended.err
    assert f"{path} is damaged; it is kept as " in ended.err
    assert sorted(trained[:-3]) == sorted([*range(5)] * 3)
    assert trained[-3:] == [2] * 3
    assert fold_arrays(tmp_path) == before
    (kept,) = (tmp_path / "runs" / ".set-aside").rglob("fold-2.npz-*")
    assert len(kept.read_bytes()) == 1000
