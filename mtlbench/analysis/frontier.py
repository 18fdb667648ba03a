"""Trade-offs between tasks: those that fixed weights reach, and what other strategies reach.

Xin, Ghorbani, Gilmer, Garg, Firat: Do Current Multi-Task Optimization Methods in Deep Learning Even
Help?, NeurIPS 2022. Royer, Blankevoort, Ehteshami Bejnordi: Scalarization for Multi-Task and
Multi-Domain Learning at Scale, NeurIPS 2023. Hu, Xian, Wu, Fan, Yin, Zhao: Revisiting Scalarization
in Multi-Task Learning: A Theoretical Perspective, NeurIPS 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.budget import tunings_of
from mtlbench.analysis.printing import heading
from mtlbench.analysis.tuning import Metrics
from mtlbench.store.runs import Store
from mtlbench.store.schema import DONE
from mtlbench.store.sealed import DamagedRunError
from mtlbench.store.trials import read_trial, trial_file

FIXED, EQUAL = "static", "equal"
"""Strategies whose trials are fixed weights of the tasks: all of them, and equal ones."""

FEWEST = 3
"""Trials of fixed weights that make a front."""


# --- dominance ------------------------------------------------------------------------------------


def pareto_front(points: np.ndarray, directions: Sequence[str]) -> np.ndarray:
    """Which points no other dominates: is as good in everything and better in something.

    Args:
        points: [N, K]; one with a value that is not finite is neither in the front nor in the way.
        directions: "max" or "min" of each of the K values.

    Returns:
        A mask [N]; of points that are the same all are in the front, or none.
    """
    values = _larger_is_better(points, directions)
    dominated = [((values >= one).all(1) & (values > one).any(1)).any() for one in values]
    front: np.ndarray = ~np.isnan(values).any(axis=1) & ~np.array(dominated, dtype=bool)
    return front


def attained(points: np.ndarray, by: np.ndarray, directions: Sequence[str]) -> np.ndarray:
    """Which points some others attain: one of those is as good in everything.

    Args:
        points: [N, K].
        by: the others [M, K].
        directions: "max" or "min" of each of the K values.

    Returns:
        A mask [N]; False where a value of the point is not finite.
    """
    others = _larger_is_better(by, directions)
    values = _larger_is_better(points, directions)
    return np.array([(others >= one).all(1).any() for one in values], dtype=bool)


def _larger_is_better(points: np.ndarray, directions: Sequence[str]) -> np.ndarray:
    """The same, turned; NaN, which is as good as nothing, in rows that are not finite."""
    turned = points * np.where(np.array(directions) == "max", 1.0, -1.0)
    return np.where(np.isfinite(turned).all(axis=1, keepdims=True), turned, np.nan)


# --- of a comparison ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """The first metric of a task.

    Attributes:
        task, metric: which.
        label: "depth Abs. Err. (1/m) ↓".
        direction: "max" or "min".
    """

    task: str
    metric: str
    label: str
    direction: str


@dataclass(frozen=True)
class Reached:
    """What a strategy reached.

    Attributes:
        chosen: by the trial chosen [K].
        default: by the one with the default parameters [K]; None where it was chosen, or did not
            end well.
        score: by which it was chosen (%).
    """

    chosen: np.ndarray
    default: np.ndarray | None
    score: float


@dataclass(frozen=True)
class Frontier:
    """Validation results of one seed, of fixed weights and of the other strategies tuned.

    Attributes:
        measures: of each of the K tasks that are measured.
        fixed: every trial of fixed weights that ended well [N, K], those of equal ones too.
        others: each strategy but `static` whose chosen trial is known.
    """

    measures: list[Measure]
    fixed: np.ndarray
    others: dict[str, Reached]


def frontier(comparison: Comparison, variant: str, roots: Sequence[Path]) -> Frontier | None:
    """What was reached in a variant by fixed weights, and by what else was tuned.

    Only tunings that are held against the same trial as the largest one of fixed weights count:
    others are of other data or of longer training. Those whose trials were halved do not, since few
    of their trials had all epochs. Trials that did not end well, or whose file cannot be read, are
    left out.

    Args:
        comparison: of which.
        variant: its variant.
        roots: the results directories with the trials.

    Returns:
        None of fewer than `FEWEST` fixed weights.
    """
    found = tunings_of(comparison, variant, fewest=1)
    of_fixed = [tuning for tuning in found.values() if tuning.strategy == FIXED]
    if not of_fixed:
        return None
    against = max(of_fixed, key=lambda tuning: len(tuning.trials)).against
    trials = [
        trial
        for tuning in found.values()
        if tuning.against == against and tuning.strategy in (FIXED, EQUAL)
        for trial in tuning.trials
    ]
    tried = [_metrics(hash, roots) for hash in dict.fromkeys(trial.hash for trial in trials)]
    measures = _measures(tried)
    fixed = np.array([_point(metrics, measures) for metrics in tried])
    fixed = fixed[np.isfinite(fixed).all(axis=1)]
    if not measures or len(fixed) < FEWEST:
        return None
    others = {}
    for key, tuning in found.items():
        if tuning.against != against or tuning.strategy == FIXED or tuning.chosen.score is None:
            continue
        chosen, default = (
            _point(_metrics(trial.hash, roots), measures)
            for trial in (tuning.chosen, tuning.trials[0])
        )
        moved = bool(tuning.chosen.parameters) and np.isfinite(default).all()
        if np.isfinite(chosen).all():
            others[key] = Reached(chosen, default if moved else None, tuning.chosen.score)
    return Frontier(measures, fixed, others)


def _metrics(hash: str, roots: Sequence[Path]) -> Metrics:
    """Of a trial, from the first place where it ended well; none where there is no such place."""
    for root in roots:
        try:
            trial = read_trial(trial_file(Store(root), hash))
        except DamagedRunError:
            continue
        if trial["status"] == DONE:
            metrics: list[dict[str, Any]] = trial["metrics"]
            return metrics
    return []


def _measures(tried: Sequence[Metrics]) -> list[Measure]:
    first: dict[str, Measure] = {}
    for metric in (metric for metrics in tried for metric in metrics):
        label = heading(metric["label"], metric["unit"], metric["direction"])
        task = metric["task"]
        first.setdefault(
            task, Measure(task, metric["metric"], f"{task} {label}", metric["direction"])
        )
    return list(first.values())


def _point(metrics: Metrics, measures: Sequence[Measure]) -> np.ndarray:
    """The value of each measure, NaN where there is none [K]."""
    values = {(metric["task"], metric["metric"]): metric["value"] for metric in metrics}
    return np.array([values.get((m.task, m.metric)) for m in measures], dtype=float)
