"""Confident learning's scores of the cross-validations in a results directory."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtlbench.analysis.label_errors.confident import label_quality, wrong_share
from mtlbench.analysis.label_errors.mixture import FEWEST
from mtlbench.analysis.label_errors.scores import CLEANLAB, Scores
from mtlbench.errors import UserError
from mtlbench.store.folds import NO_LABEL, Fold, stored_folds
from mtlbench.store.runs import Store


def fold_scores(
    store: Store,
    suite: str,
    variants: Collection[str] | None = None,
    hashes: Collection[str] | None = None,
) -> list[tuple[dict[str, Any], list[Scores]]]:
    """Confident learning's scores of every cross-validation of a suite that is complete.

    The score of a label is 1 less its quality: see `label_quality` and `map_quality`.

    Args:
        store: where they are.
        suite: the suite's name.
        variants: which; all where None.
        hashes: only those of runs with these hashes; all where None.

    Returns:
        For each its `about` (the run's spec and hash among others) and a score per task.

    Raises:
        UserError: folds of one are not parts of one training set.
    """
    found = []
    for folder, parts in stored_folds(store):
        about, _ = parts[0]
        wanted = about["spec"]["suite"] == suite and len(parts) == about["folds"]
        if variants is not None:
            wanted &= about["spec"]["variant"] in variants
        if hashes is not None:
            wanted &= about["hash"] in hashes
        if wanted:
            _require_parts(folder, parts)
            found.append((about, _scores(about, [arrays for _, arrays in parts])))
    return found


def _require_parts(folder: Path, parts: Sequence[Fold]) -> None:
    rows = np.sort(np.concatenate([arrays["rows"] for _, arrays in parts]))
    kinds = {
        tuple((name, values.shape[1:]) for name, values in sorted(arrays.items()))
        for _, arrays in parts
    }
    if len(kinds) > 1 or not np.array_equal(rows, np.arange(len(rows))):
        raise UserError(
            f"the folds in {str(folder)!r} do not fit together; remove that directory, and they "
            "are trained again"
        )


def _scores(about: dict[str, Any], parts: Sequence[dict[str, np.ndarray]]) -> list[Scores]:
    rows = np.concatenate([part["rows"] for part in parts])
    place = np.argsort(rows)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([part[name] for part in parts])[place]

    corrupted = joined("corrupted")
    found = []
    for k, task in enumerate(about["tasks"]):
        estimate, predictions = float("nan"), None
        if f"quality/{task}" in parts[0]:
            score = 1 - joined(f"quality/{task}")
        elif f"label/{task}" in parts[0]:
            label, probability = joined(f"label/{task}"), joined(f"probability/{task}")
            here = label != NO_LABEL
            predictions = probability.argmax(1)[None]
            score = np.full(len(label), np.nan)
            if here.any():
                score[here] = 1 - label_quality(label[here], probability[here])
            if here.sum() >= FEWEST and np.ptp(label[here]):
                estimate = wrong_share(label[here], probability[here])
        else:
            continue
        trace = np.empty((0, len(rows)), np.float32)
        mask = None if about["clean"] else corrupted[:, k]
        seed = about["spec"]["seed"]
        found.append(Scores(task, CLEANLAB, seed, trace, score, mask, estimate, predictions))
    return found
