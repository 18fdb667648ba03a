"""Cross-validations in a results directory: what each fold's network predicts.

<results>/.folds/<hash>/fold-<k>.npz
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mtlbench.files import below
from mtlbench.spec import RunSpec
from mtlbench.store.runs import Store, read_npz
from mtlbench.store.schema import FOLD
from mtlbench.store.sealed import DamagedRunError

DIRECTORY = ".folds"

NO_LABEL = -1
"""In place of a class that is absent."""

Fold = tuple[dict[str, Any], dict[str, np.ndarray]]
"""What a fold is of, as `schema.FOLD` has it, and its arrays: `rows` [n] of the training data,
`corrupted`, `loss` and `value` [n, K], `validation_loss` [M, K] of the validation data, and of
classifications `label/TASK` [n] and `probability/TASK` [n, C], or `quality/TASK` [n]."""


def group_of(hash: str, folds: int) -> str:
    """The hash that all folds of the cross-validation of a run have."""
    return hashlib.sha256(f"{hash}/{folds}".encode()).hexdigest()[:12]


def fold_file(store: Store, group: str, fold: int) -> Path:
    """The file of a fold of the cross-validation with the hash `group`."""
    return store.root / DIRECTORY / group / f"fold-{fold}.npz"


def read_fold(path: Path) -> Fold:
    """A fold, from its file.

    Raises:
        DamagedRunError: the file does not hold what it should, or another fold.
    """
    try:
        arrays = read_npz(path)
        about = json.loads(str(arrays.pop("about")))
    except Exception as error:  # NumPy and its zip reader raise all kinds
        raise DamagedRunError("is damaged") from error
    if not FOLD(about) or not _fit(about["tasks"], arrays):
        raise DamagedRunError("is damaged: it does not hold what a fold does")
    spec = RunSpec.stored(about["spec"])
    group = group_of(spec.hash, about["folds"])
    if about["hash"] != spec.hash or path.parent.name != group:
        raise DamagedRunError("is of another cross-validation")
    if path.stem != f"fold-{about['fold']}" or about["fold"] >= about["folds"]:
        raise DamagedRunError("is another fold")
    return about, arrays


def _fit(tasks: Sequence[str], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether these are arrays of a fold with these tasks."""
    nothing = np.empty(())
    rows, corrupted = (arrays.get(name, nothing) for name in ("rows", "corrupted"))
    count = rows.shape
    fits = len(count) == 1 and rows.dtype.kind == "i" and corrupted.dtype.kind == "b"
    if not fits or corrupted.shape != (*count, len(tasks)):
        return False
    of_tasks = [arrays.get(name, nothing) for name in ("loss", "value")]
    if any(each.shape != corrupted.shape or each.dtype.kind != "f" for each in of_tasks):
        return False
    validation = arrays.get("validation_loss", nothing)
    if validation.shape[1:] != (len(tasks),) or validation.dtype.kind != "f":
        return False
    for task in tasks:
        label, quality = arrays.get(f"label/{task}"), arrays.get(f"quality/{task}")
        probability = arrays.get(f"probability/{task}", nothing)
        if quality is not None and (quality.shape != count or quality.dtype.kind != "f"):
            return False
        if label is not None:
            fits = label.shape == probability.shape[:1] == count and probability.ndim == 2
            if not fits or label.dtype.kind != "i" or probability.dtype.kind != "f":
                return False
            if ((label < NO_LABEL) | (label >= probability.shape[1])).any():
                return False
    return True


def stored_folds(store: Store) -> Iterator[tuple[Path, list[Fold]]]:
    """The folder and the folds of each cross-validation, without damaged ones."""
    for folder in below(store.root, DIRECTORY, "*"):
        parts = []
        for path in below(folder, "fold-*.npz"):
            with suppress(DamagedRunError):
                parts.append(read_fold(path))
        if parts:
            yield folder, parts
