"""The best direction for the worst task near the mean gradient."""

from typing import ClassVar

import numpy as np

from mtlbench.space import Range
from mtlbench.strategies.base import register_strategy
from mtlbench.strategies.gramian import Array, GramianWeighting, lengths_and_cosines
from mtlbench.strategies.quadratic import minimize_nonnegative

MOST_STEPS = 100


@register_strategy("cagrad", label="CAGrad")
class ConflictAverseGradient(GramianWeighting):
    """Improves the worst task most, not far from the mean gradient (Liu et al. 2021).

        d = argmax min_k ⟨g_k, d⟩  subject to  ‖d − g_0‖ ≤ c ‖g_0‖,    g_0 = 1/K Σ_k g_k

        d = g_0 + c ‖g_0‖ g_w / ‖g_w‖,    w = argmin ⟨g_w, g_0⟩ + c ‖g_0‖ ‖g_w‖

    g_k is the gradient of task k and g_w = Σ w_k g_k with w ≥ 0, Σ w = 1. Sums are over the tasks
    with a label in the batch, K of them. Where g_w would be zero, as where a task's gradient is, d
    is the nearest to g_0 of the directions that are best.

    Departs from the authors' code: that divides d by 1 + c² and multiplies it by K, which the
    paper does not, and adds 1e-8 to each root and quotient.

    Liu, Liu, Jin, Stone, Liu: Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS
    2021, Algorithm 1.

    Args:
        c: at least 0: 0 gives the mean gradient, 1 and more go to any Pareto-stationary point
            instead of a minimum of the mean loss; 0.4 is what the authors' code runs Cityscapes
            with, beside 0.6.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"c": Range(0.1, 0.9)}

    def __init__(self, c: float = 0.4) -> None:
        super().__init__()
        if c < 0:
            raise ValueError(f"c must be at least 0, but is {c}")
        self.c = c

    def solve(self, gramian: Array, losses: Array) -> Array:
        mean = np.full(len(gramian), 1 / len(gramian))
        along = gramian @ mean
        radius = self.c * np.sqrt(max(mean @ along, 0))
        if radius == 0:
            return mean
        # Of the d with ⟨g_k, d⟩ ≥ s for all k the nearest to g_0 is g_0 + Jᵀ y, and its distance
        # is convex in s. Newton's steps come down from above to the s where it is the radius;
        # w = y / Σ y on the way, and z = y · length.
        lengths, cosines = lengths_and_cosines(gramian)
        least = (along + radius * lengths).min()
        moves = lengths > 0
        lengths, along = lengths[moves], along[moves]
        cosines = self.regularize(cosines[moves][:, moves])
        for _ in range(MOST_STEPS):
            z = minimize_nonnegative(cosines, ((least - along) / lengths)[None])[0]
            distance = np.sqrt(z @ cosines @ z)
            if distance <= radius * (1 + 1e-10):
                break
            least -= (distance - radius) * distance / (z / lengths).sum()
        mean[moves] += z / lengths
        return mean
