"""How well the learned variances find the corrupted labels."""

import numpy as np


def detection_accuracy(log_variance: np.ndarray, corrupted: np.ndarray) -> float:
    """Share (%) of corrupted instances among those with the largest σ.

    As in Table 7 of Vasu et al. (2021): the instances are sorted by σ, as many are taken from the
    top as are corrupted, and those that are corrupted are counted.

    Args:
        log_variance: log σ² of one task, [N]. Its order is that of σ.
        corrupted: whether an instance's label of that task is corrupted, bool [N].

    Returns:
        A percentage; NaN where nothing is corrupted. Among equal σ the lower index comes first.
    """
    count = int(corrupted.sum())
    if count == 0:
        return float("nan")
    top = np.argsort(-log_variance, kind="stable")[:count]
    return 100.0 * float(corrupted[top].mean())
