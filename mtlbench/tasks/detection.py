"""Measures of how well scores of instances find the corrupted labels."""

import numpy as np

DETECTION = "detection_accuracy"
"""The one metric that only some strategies have, those with instance parameters: its name beside
those of the metrics of a task."""


def detection_accuracy(log_variance: np.ndarray, corrupted: np.ndarray) -> float:
    """Share (%) of corrupted instances among those with the largest σ.

    As in Table 7 of Vasu et al. (2021): the instances are sorted by σ, as many are taken from the
    top as are corrupted, and those that are corrupted are counted.

    Args:
        log_variance: log σ² of one task or of several that are corrupted together, [N, C]. The
            order is that of their sum, the log-variance of all their labels. Tasks without
            instance parameters are NaN, and so are absent labels: both are left out, and instances
            that have no label of these tasks.
        corrupted: whether an instance's label of such a task is corrupted, bool [N, C].

    Returns:
        A percentage; NaN where nothing is corrupted, or no task has instance parameters. Among
        equal σ the lower index comes first.
    """
    labelled = ~np.isnan(log_variance).all(axis=1)
    wrong = np.asarray(corrupted[labelled].any(axis=1))
    count = int(wrong.sum())
    if count == 0:
        return float("nan")
    order = np.argsort(-np.nansum(log_variance[labelled].astype(np.float64), axis=1), kind="stable")
    return 100.0 * float(wrong[order[:count]].mean())


def roc_auc(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Area under the ROC curve (%): how often a wrong label has a larger score than a right one.

    Args:
        scores: one an instance [N], large where suspicious; NaN ones are left out.
        wrong: whether the label is wrong, bool [N].

    Returns:
        A percentage, 50 by chance; NaN where all labels are wrong, or none.
    """
    from sklearn.metrics import roc_auc_score

    scores, wrong = _known(scores, wrong)
    if wrong.all() or not wrong.any():
        return float("nan")
    return 100.0 * float(roc_auc_score(wrong, scores))


def average_precision(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Precision (%) averaged over the places of the wrong labels, sorted by falling score.

    Args:
        scores: one an instance [N], large where suspicious; NaN ones are left out.
        wrong: whether the label is wrong, bool [N].

    Returns:
        A percentage, the share of wrong labels by chance; NaN where no label is wrong.
    """
    from sklearn.metrics import average_precision_score

    scores, wrong = _known(scores, wrong)
    if not wrong.any():
        return float("nan")
    return 100.0 * float(average_precision_score(wrong, scores))


def _known(scores: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = ~np.isnan(scores)
    return scores[known].astype(np.float64), wrong[known]
