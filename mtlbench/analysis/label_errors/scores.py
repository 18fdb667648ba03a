"""Scores that say how suspicious a label is, from what a run kept of its training."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mtlbench.errors import UserError
from mtlbench.store.runs import StoredRun

SIGMA, ILT_LOSS, LOSS, MARGIN = "sigma", "ilt-loss", "loss", "margin"
FOLD_LOSS, CLEANLAB = "fold-loss", "cleanlab"
DETECTORS = (SIGMA, ILT_LOSS, LOSS, MARGIN, FOLD_LOSS, CLEANLAB)

DETECTOR_LABELS = {
    SIGMA: "σ",
    ILT_LOSS: "summed loss, ILT",
    LOSS: "summed loss",
    MARGIN: "AUM",
    FOLD_LOSS: "out-of-fold loss",
    CLEANLAB: "cleanlab",
}

STRATEGY = {SIGMA: "ilt", ILT_LOSS: "ilt", LOSS: "equal", MARGIN: "equal"}
"""The strategy whose runs each detector reads."""

FOLDED = (FOLD_LOSS, CLEANLAB)
"""Detectors that read the folds of a cross-validation instead."""

SCORE_COLUMNS = ["task", "detector", "seed", "index", "score", "corrupted"]


@dataclass(frozen=True)
class Scores:
    """One detector's scores of all labels of a task, from one seed.

    Attributes:
        task, detector, seed: what they are of.
        trace: the value of each epoch, float32 [E, N]: log σ², loss or minus the margin, as it was
            in the epoch's visit. E is 0 for those of `FOLDED`, which have one value only.
        score: [N], large where suspicious; NaN where there is no label.
        corrupted: whether the label is corrupted, bool [N]; None where the variant is clean.
        estimate: share of wrong labels, where the detector brings an estimate of its own; or NaN.
        predictions: of the network: classes by epoch, integers [P, N], -1 where there is none, or
            numbers at the end, [1, N], NaN where there is none. None where nothing is known.
        losses: of the same run, of the training labels [N] and of the validation labels [M], NaN
            where there is no label; see `losses_until_best`. None where nothing is known.
    """

    task: str
    detector: str
    seed: int
    trace: np.ndarray
    score: np.ndarray
    corrupted: np.ndarray | None
    estimate: float = float("nan")
    predictions: np.ndarray | None = None
    losses: tuple[np.ndarray, np.ndarray] | None = None

    def by_epoch(self) -> np.ndarray:
        """The scores [E, N], had training been looked at after each epoch only."""
        if self.detector in FOLDED:
            return self.score[None]
        if self.detector == SIGMA:
            return self.trace
        count = np.cumsum(~np.isnan(self.trace), axis=0)
        total = np.nancumsum(self.trace, axis=0, dtype=np.float64)
        return np.where(count, total / np.maximum(count, 1), np.nan)


def scores_of(run: StoredRun, detectors: Sequence[str] = DETECTORS) -> list[Scores]:
    """The scores that one run gives, task by task.

    - `sigma`: log σ² after the last epoch, of runs with instance parameters (Vasu et al. 2021).
    - `loss`: the training loss, averaged over the epochs: the "small loss" criterion (Arpit et al.
      2017; Han et al. 2018) without the choice of an epoch.
    - `ilt-loss`: the same of a run with instance parameters, which hold back the labels that it
      does not believe, before they weigh it.
    - `margin`: minus the area under the margin of a classification label (Pleiss et al. 2020,
      Eq. 2): the logit of the given class less the largest other, averaged over the epochs.

    Args:
        run: a run that is done; all but `sigma` need its traces.
        detectors: which; those that the run kept nothing for are left out.

    Raises:
        UserError: a file of it is damaged.
    """
    found = []
    spec, tasks = run.info["spec"], run.info["tasks"]
    labels, traces = run.labels(), run.traces()
    parameters = run.instance_parameters()
    counts = {len(labels["corrupted"])} if labels is not None else set()
    counts |= {traces["loss"].shape[1]} if traces is not None else set()
    counts |= {parameters["log_variance"].shape[1]} if parameters is not None else set()
    if len(counts) > 1:
        raise UserError(f"{str(run.path)!r} has files of different training instances")
    for k, task in enumerate(tasks):
        kept: dict[str, np.ndarray] = {}
        predictions = losses = None
        if parameters is not None:
            log_variance = parameters["log_variance"][:, :, k].astype(np.float32)
            # It starts at 0 and moves with the first batch that has the label.
            unlabelled = (log_variance == 0).all(axis=0)
            kept[SIGMA] = np.where(unlabelled, np.float32("nan"), log_variance)
        if traces is not None:
            summed = LOSS if parameters is None else ILT_LOSS
            kept[summed] = traces["loss"][:, :, k].astype(np.float32)
            kept[MARGIN] = -traces["margin"][:, :, k].astype(np.float32)
            losses = losses_until_best(traces["loss"][:, :, k], traces["validation_loss"][:, :, k])
            classifies = task["kind"] == "classification"
            predictions = (
                traces["prediction"][:, :, k] if classifies else traces["value"][None, :, k]
            )
        for detector in detectors:
            trace = kept.get(detector)
            if trace is None or np.isnan(trace).all():
                continue
            score = trace[-1] if detector == SIGMA else mean(trace)
            corrupted = None if labels is None else labels["corrupted"][:, k]
            about = (task["name"], detector, spec["seed"])
            found.append(
                Scores(*about, trace, score, corrupted, predictions=predictions, losses=losses)
            )
    return found


def losses_until_best(
    training: np.ndarray, validation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Losses of training labels [E, N] and of validation labels [E, M], averaged over the epochs up
    to the one with the least loss on validation data.

    Later on, a network that learns its labels by heart has small losses on the ones and large ones
    on the others, whatever is wrong with them. Validation losses are those after an epoch: beside
    them stand those of training labels in the epoch that follows. In the same one the network knows
    less, and right labels had larger losses than any of validation data.
    """
    of_epoch = mean(validation.T)
    best = len(of_epoch) if np.isnan(of_epoch).all() else int(np.nanargmin(of_epoch)) + 1
    if len(training) == 1:
        return training[0], validation[0]
    best = min(best, len(training) - 1)
    return mean(training[1 : best + 1]), mean(validation[:best])


def detector_scores(run: StoredRun) -> pd.DataFrame:
    """The scores that one run gives, as a table.

    Args:
        run: as from `mtlbench.store.runs.read_run`.

    Returns:
        A row for each task, detector and training instance: `task`, `detector`, `seed`, `index`
        (of the instance), `score` (large where suspicious, NaN where there is no label) and
        `corrupted` (missing where the variant is clean). See `scores_of` for the detectors.

    Raises:
        UserError: the run kept neither traces nor instance parameters.
    """
    found = scores_of(run)
    if not found:
        raise UserError(
            f"{run.path} kept neither traces nor instance parameters; train it with --traces"
        )
    frames = [
        pd.DataFrame(
            {
                "task": scores.task,
                "detector": scores.detector,
                "seed": scores.seed,
                "index": np.arange(len(scores.score)),
                "score": scores.score.astype(np.float64),
                "corrupted": pd.array(
                    [None] * len(scores.score) if scores.corrupted is None else scores.corrupted,
                    dtype="boolean",
                ),
            }
        )
        for scores in found
    ]
    return pd.concat(frames, ignore_index=True)[SCORE_COLUMNS]


def mean(values: np.ndarray) -> np.ndarray:
    """Means over the first axis of what is not NaN; NaN where all is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an empty mean
        return np.asarray(np.nanmean(values, axis=0, dtype=np.float64))


def order(score: np.ndarray) -> np.ndarray:
    """Instances by falling score, those without one left out; the lower index first in a tie."""
    ranked = np.argsort(-score, kind="stable")
    return ranked[~np.isnan(score[ranked])]
