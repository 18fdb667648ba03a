"""Confident learning (Northcutt et al. 2021), through the package cleanlab, where it is installed.

cleanlab is an optional dependency, imported only when it is asked for.
"""

from importlib.util import find_spec

import numpy as np

from mtlbench.errors import UserError


def has_cleanlab() -> bool:
    """Whether the package is there."""
    return find_spec("cleanlab") is not None


def require_cleanlab() -> None:
    """Makes sure that the package is there.

    Raises:
        UserError: it is not.
    """
    if not has_cleanlab():
        raise UserError(
            "detector 'cleanlab' needs the package cleanlab: pip install 'mtlbench[cleanlab]'"
        )


def label_quality(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Self-confidence [N]: the predicted probability of the given class, low where suspicious.

    Args:
        labels: given classes [N].
        probabilities: of each class, by a network that has not seen the instance [N, C].
    """
    from cleanlab.rank import get_label_quality_scores

    quality: np.ndarray = get_label_quality_scores(
        labels, probabilities, method="self_confidence", adjust_pred_probs=False
    )
    return quality


def wrong_share(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Confident learning's own estimate of the share of wrong labels (%).

    Args:
        labels: given classes [N].
        probabilities: of each class, by a network that has not seen the instance [N, C].
    """
    from cleanlab.count import num_label_issues

    return 100.0 * num_label_issues(labels, probabilities) / len(labels)
