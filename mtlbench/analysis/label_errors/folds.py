"""Scores of the cross-validations in a results directory: out-of-fold loss, confident learning."""

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtlbench.analysis.label_errors.confident import label_quality, wrong_share
from mtlbench.analysis.label_errors.mixture import FEWEST
from mtlbench.analysis.label_errors.scores import CLEANLAB, FOLD_LOSS, FOLDED, Scores
from mtlbench.errors import UserError
from mtlbench.store.folds import NO_LABEL, Fold, stored_folds
from mtlbench.store.runs import Store


def fold_scores(
    store: Store,
    suite: str,
    variants: Collection[str] | None = None,
    hashes: Collection[str] | None = None,
    detectors: Collection[str] = FOLDED,
) -> list[tuple[dict[str, Any], list[Scores]]]:
    """The scores of every cross-validation of a suite that is complete.

    - `fold-loss`: the loss of the label by a network that has not seen it.
    - `cleanlab`: 1 less the quality of the label of a classification by confident learning: see
      `label_quality` and `map_quality`.

    Args:
        store: where they are.
        suite: the suite's name.
        variants: which; all where None.
        hashes: only those of runs with these hashes; all where None.
        detectors: which of the two.

    Returns:
        For each its `about` (the run's spec and hash among others) and scores by task and detector.

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
            arrays = [each for _, each in parts]
            found.append((about, list(_scores(about, arrays, detectors))))
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


def _scores(
    about: dict[str, Any], parts: Sequence[dict[str, np.ndarray]], detectors: Collection[str]
) -> Iterator[Scores]:
    place = np.argsort(np.concatenate([part["rows"] for part in parts]))
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # A network of a fold knows neither its own instances nor those of validation.
    validation = arrays.pop("validation_loss")
    arrays = {name: values[place] for name, values in arrays.items()}
    seed, trace = about["spec"]["seed"], np.empty((0, len(place)), np.float32)
    for k, task in enumerate(about["tasks"]):
        loss, value = arrays["loss"][:, k], arrays["value"][None, :, k]
        if np.isnan(loss).all():
            continue
        corrupted = None if about["clean"] else arrays["corrupted"][:, k]
        predictions = None if np.isnan(value).all() else value
        if f"probability/{task}" in arrays:
            predictions = arrays[f"probability/{task}"].argmax(1)[None]
        if FOLD_LOSS in detectors:
            of = (task, FOLD_LOSS, seed, trace, loss, corrupted)
            yield Scores(*of, predictions=predictions, losses=(loss, validation[:, k]))
        if CLEANLAB in detectors and (known := _confident(task, arrays)) is not None:
            quality, share = known
            yield Scores(task, CLEANLAB, seed, trace, 1 - quality, corrupted, share, predictions)


def _confident(task: str, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, float] | None:
    """The quality of each label [N], NaN where there is none, and the share of wrong ones (%), NaN
    where that is not known; None for a task that is no classification."""
    if f"quality/{task}" in arrays:
        return arrays[f"quality/{task}"], math.nan
    if f"label/{task}" not in arrays:
        return None
    label, probability = arrays[f"label/{task}"], arrays[f"probability/{task}"]
    here = label != NO_LABEL
    quality, share = np.full(len(label), np.nan), math.nan
    quality[here] = label_quality(label[here], probability[here])
    if here.sum() >= FEWEST and np.ptp(label[here]):
        share = wrong_share(label[here], probability[here])
    return quality, share
