"""Confident learning's scores of the cross-validations in a results directory."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtlbench.analysis.label_errors.confident import label_quality, wrong_share
from mtlbench.analysis.label_errors.scores import CLEANLAB, Scores
from mtlbench.store.folds import NO_LABEL, stored_folds
from mtlbench.store.runs import Store


def fold_scores(store: Store, suite: str) -> list[tuple[dict[str, Any], list[Scores]]]:
    """Confident learning's scores of every cross-validation of a suite that is complete.

    The score of a label is 1 less its quality: see `label_quality` and `map_quality`.

    Returns:
        For each its `about` (the run's spec and hash among others) and a score per task.
    """
    found = []
    for parts in stored_folds(store):
        about = json.loads(str(parts[0]["about"]))
        if about["spec"]["suite"] == suite and len(parts) == about["folds"]:
            found.append((about, _scores(about, parts)))
    return found


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
                estimate = wrong_share(label[here], probability[here])
        else:
            continue
        trace = np.empty((0, len(rows)), np.float32)
        mask = None if about["clean"] else corrupted[:, k]
        seed = about["spec"]["seed"]
        found.append(Scores(task, CLEANLAB, seed, trace, score, mask, estimate, predictions))
    return found
