"""The shortest common direction."""

import numpy as np

from mtlbench.strategies.base import register_strategy
from mtlbench.strategies.gramian import Array, GramianWeighting, lengths_and_cosines
from mtlbench.strategies.quadratic import minimize_nonnegative


@register_strategy("mgda", label="MGDA")
class MultipleGradientDescent(GramianWeighting):
    """The smallest convex combination of the gradients (Sener & Koltun 2018).

        w = argmin ‖Jᵀ w‖²  subject to  w ≥ 0, Σ w = 1

    J [K, P] is the Jacobian of the task losses. The update Jᵀ w is a descent direction of all
    tasks, or zero where none is. Tasks without a label in the batch are left out. A task that has
    labels and a gradient of zero takes all the weight: no direction improves it.

    Departs from the authors' code: the minimum is exact, where that takes steps of Frank-Wolfe
    (Algorithm 2) until they are short, and whose optional normalisation of the gradients, which
    is not in the algorithm, is left out.

    Sener, Koltun: Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018, Eq. 3.
    """

    def solve(self, gramian: Array, losses: Array) -> Array:
        lengths, cosines = lengths_and_cosines(gramian)
        still = lengths == 0
        if still.any():
            return still / still.sum()
        w = lengths.min() / lengths * shortest(lengths, self.regularize(cosines))
        return w / w.sum()


def shortest(lengths: Array, cosines: Array) -> Array:
    """z = w · length [m], up to a factor, of the w ≥ 0 with Σ w = 1 that makes Jᵀ w shortest.

    Args:
        lengths: of the gradients [m], above 0.
        cosines: theirs [m, m], positive definite.
    """
    # The w sought is x / Σ x of the x ≥ 0 that minimises ‖Jᵀ x‖² + s (1 − Σ x)², whatever
    # s > 0. In units of each gradient's length the problem is well scaled.
    shortness = lengths.min() / lengths
    hessian = cosines + np.outer(shortness, shortness)
    z: Array = minimize_nonnegative(hessian, shortness[None])[0]
    return z
