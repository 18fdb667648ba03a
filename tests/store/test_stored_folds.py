"""Folds of a cross-validation in a results directory: whole ones are read, no others."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtlbench.analysis.label_errors.folds import fold_scores
from mtlbench.errors import UserError
from mtlbench.spec import RunSpec
from mtlbench.store.folds import fold_file, group_of, read_fold, stored_folds
from mtlbench.store.runs import Store, npz_bytes
from mtlbench.store.sealed import DamagedRunError

FOLDS = 2
SPEC = RunSpec("mine", {}, "clean", "equal", {}, 0, {})
ABOUT = {
    "spec": asdict(SPEC),
    "hash": SPEC.hash,
    "tasks": ["side"],
    "folds": FOLDS,
    "fold": 0,
    "clean": True,
    "changed": [],
}


def content(fold: int, count: int = 4, *, about: Any = None, **changes: Any) -> bytes:
    """The file of a fold that holds every second of the instances; None leaves an array out."""
    arrays = {
        "rows": np.arange(fold, count, 2),
        "corrupted": np.zeros((count // 2, 1), bool),
        "loss": np.linspace(fold, 1, count // 2, dtype=np.float32)[:, None],
        "value": np.full((count // 2, 1), np.nan, np.float32),
        "validation_loss": np.full((3, 1), fold, np.float32),
        "label/side": np.arange(count // 2, dtype=np.int32) % 2,
        "probability/side": np.full((count // 2, 2), 0.5, np.float32),
        "about": np.array(json.dumps({**ABOUT, "fold": fold} if about is None else about)),
    }
    arrays |= changes
    return npz_bytes({name: values for name, values in arrays.items() if values is not None})


def folds(root: Path, **changes: Any) -> Path:
    """A cross-validation of two folds, the first of them changed; its file."""
    for fold in range(FOLDS):
        path = fold_file(Store(root), group_of(SPEC.hash, FOLDS), fold)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(fold, **(changes if fold == 0 else {})))
    return path.with_name("fold-0.npz")


def test_a_whole_fold_is_read(tmp_path: Path) -> None:
    about, arrays = read_fold(folds(tmp_path))
    assert about == ABOUT
    assert arrays["rows"].tolist() == [0, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": None},
        {"rows": np.array([0.0, 2.0])},
        {"corrupted": None},
        {"corrupted": np.zeros((2, 2), bool)},
        {"label/side": np.array([0, 2], np.int32)},
        {"label/side": np.array([-2, 0], np.int32)},
        {"probability/side": None},
        {"probability/side": np.full((1, 2), 0.5, np.float32)},
        {"quality/side": np.zeros(3)},
        {"loss": None},
        {"loss": np.zeros((2, 1), int)},
        {"value": np.zeros((2, 2))},
        {"validation_loss": None},
        {"validation_loss": np.zeros(3)},
        {"about": []},
        {"about": {**ABOUT, "spec": None}},
        {"about": {**ABOUT, "folds": 0}},
        {"about": {**ABOUT, "folds": 5}},
        {"about": {**ABOUT, "fold": 1}},
        {"about": {**ABOUT, "fold": -1}},
        {"about": {**ABOUT, "hash": "0123456789ab"}},
    ],
    ids=str,
)
def test_a_fold_that_cannot_be_right_is_damaged_and_left_out(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DamagedRunError):
        read_fold(folds(tmp_path, **changes))
    ((_, parts),) = stored_folds(Store(tmp_path))
    assert len(parts) == 1


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: None],
    ids=["a pipe", "a folder", "a device", "nothing"],
)
def test_what_is_no_file_is_neither_waited_for_nor_read_without_end(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = folds(tmp_path)
    path.unlink()
    make(path)
    with pytest.raises(DamagedRunError):
        read_fold(path)


def test_neither_copies_of_a_cross_validation_nor_what_is_none_count(tmp_path: Path) -> None:
    path = folds(tmp_path)
    copy = path.parent.with_name("copy")
    copy.mkdir()
    for file in path.parent.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    path.with_name("fold-9.npz").write_bytes(path.read_bytes())
    ((folder, parts),) = stored_folds(Store(tmp_path))
    assert folder == path.parent
    assert len(parts) == FOLDS


@pytest.mark.parametrize(
    "changes",
    [{"rows": np.array([1, 3])}, {"probability/side": np.full((2, 3), 0.5, np.float32)}],
    ids=["rows", "classes"],
)
def test_folds_that_do_not_fit_together_are_named(changes: dict[str, Any], tmp_path: Path) -> None:
    path = folds(tmp_path, **changes)
    with pytest.raises(UserError, match=f"{path.parent.name}' do not fit together; remove"):
        fold_scores(Store(tmp_path), "mine")
    assert fold_scores(Store(tmp_path), "mine", hashes=["another"]) == []


def test_the_out_of_fold_loss_needs_no_package_and_knows_that_of_validation_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    number = {"label/side": None, "probability/side": None}
    path = folds(tmp_path, **number, value=np.array([[3], [5]], np.float32))
    path.with_name("fold-1.npz").write_bytes(content(1, **number))
    ((_, (scores,)),) = fold_scores(Store(tmp_path), "mine", detectors=["fold-loss"])
    assert scores.score.tolist() == [0, 1, 1, 1]
    assert scores.by_epoch().tolist() == [[0, 1, 1, 1]]
    assert scores.losses is not None
    assert scores.losses[1].tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(scores.predictions, [[3, np.nan, 5, np.nan]])


@pytest.mark.parametrize(("count", "classes"), [(6, 2), (60, 1)], ids=["few", "one class"])
def test_counts_of_few_labels_or_of_one_class_say_nothing(
    count: int, classes: int, tmp_path: Path
) -> None:
    pytest.importorskip("cleanlab")
    root = tmp_path / "runs"
    for fold in range(FOLDS):
        path = fold_file(Store(root), group_of(SPEC.hash, FOLDS), fold)
        path.parent.mkdir(parents=True, exist_ok=True)
        label = np.arange(count // 2, dtype=np.int32) % classes
        path.write_bytes(content(fold, count, **{"label/side": label}))
    ((_, (scores,)),) = fold_scores(Store(root), "mine", detectors=["cleanlab"])
    np.testing.assert_allclose(scores.score, 0.5)
    assert np.isnan(scores.estimate)
