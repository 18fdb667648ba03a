"""The best direction for the worst task near the mean gradient."""

from typing import ClassVar

import numpy as np

from mtlbench.space import Range
from mtlbench.strategies.base import register_strategy
from mtlbench.strategies.gramian import Array, GramianWeighting, lengths_and_cosines
from mtlbench.strategies.mgda import shortest
from mtlbench.strategies.quadratic import minimize_nonnegative

MOST_STEPS = 100


class WorstTaskWeighting(GramianWeighting):
    """Goes from a point to where the smallest gain is largest."""

    def improve(self, lengths: Array, cosines: Array, gains: Array, radius: float) -> Array:
        """The y ≥ 0 [m] of the step Jᵀ y, of length `radius` at most, that makes the smallest of
        the gains + J Jᵀ y largest; of many the shortest.

        Args:
            lengths: units of J's rows [m]; a row whose unit is 0 is 0.
            cosines: products of the rows in these units [m, m].
            gains: without the step [m].
            radius: above 0.
        """
        # The length of the shortest step to gains of at least s is convex in s. Newton's steps
        # come down from above to the s where it is the radius; z = y · length.
        least = (gains + radius * lengths).min()
        moves = lengths > 0
        y = np.zeros_like(lengths)
        lengths, gains = lengths[moves], gains[moves]
        cosines = self.regularize(cosines[moves][:, moves])
        free = gains < least
        for _ in range(MOST_STEPS):
            z = minimize_nonnegative(cosines, ((least - gains) / lengths)[None], free[None])[0]
            distance = np.sqrt(z @ cosines @ z)
            if distance <= radius * (1 + 1e-10):
                break
            least -= (distance - radius) * distance / (z / lengths).sum()
            free = z > 0
        y[moves] = z / lengths
        return y


@register_strategy("cagrad", label="CAGrad")
class ConflictAverseGradient(WorstTaskWeighting):
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
        lengths, cosines = lengths_and_cosines(gramian)
        return mean + self.improve(lengths, cosines, along, radius)


@register_strategy("conicgrad", label="ConicGrad")
class ConicGradient(WorstTaskWeighting):
    """Improves the worst task most, in a cone about the mean gradient (Hassanpour et al. 2025).

        d = argmax min_k ⟨g_k, d⟩  subject to  ⟨g_0, d⟩ ≥ c ‖g_0‖ ‖d‖,  ‖d‖ = ‖g_0‖

        d = ‖g_0‖ g_w / ‖g_w‖,  w = argmin ‖g_w‖,  if that is in the cone;  else

        d = c g_0 + s ‖g_0‖ h_w / ‖h_w‖,    w = argmin c ⟨g_w, g_0⟩ + s ‖g_0‖ ‖h_w‖

    g_k is the gradient of task k, g_0 = 1/K Σ_k g_k and g_w = Σ w_k g_k with w ≥ 0, Σ w = 1; h_w is
    what of g_w is orthogonal to g_0, and c² + s² = 1. Sums are over the tasks with a label in the
    batch, K of them. Where no direction in the cone improves all tasks, a part of d may be
    orthogonal to all gradients: it changes no loss and is left out. d is then the nearest to c g_0
    of the directions that are best, and no shorter than c ‖g_0‖. Gradients whose sum is zero, but
    for rounding, have no cone: d is g_0.

    Departs from the authors' code: the paper's problem is solved exactly, where they take one step
    on softmax weights in each iteration and bring every d to the length ‖g_0‖.

    Hassanpour, Janjua, Zhang, Lavasani, Zhang, Zhou, Gao: Fantastic Multi-Task Gradient Updates and
    How to Find Them In a Cone, 2025, arXiv 2502.00217.

    Args:
        c: least cosine with g_0, above 0 and at most 1, which gives the mean gradient; values near
            0 give MGDA's direction. The default is ours.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"c": Range(0.1, 0.9)}

    def __init__(self, c: float = 0.5) -> None:
        super().__init__()
        if not 0 < c <= 1:
            raise ValueError(f"c must be above 0 and at most 1, but is {c}")
        self.c = c

    def solve(self, gramian: Array, losses: Array) -> Array:
        mean = np.full(len(gramian), 1 / len(gramian))
        lengths, cosines = lengths_and_cosines(gramian)
        shares = lengths * mean
        squared, rounding = mean @ gramian @ mean, len(mean) * self.resolution
        if self.c == 1 or squared <= rounding * shares.sum() ** 2:  # which may be all of it
            return mean
        length = np.sqrt(squared)
        cosines = self.regularize(cosines)
        axis = np.sqrt(shares @ cosines @ shares)  # ‖g_0‖ with the raised diagonal
        along = cosines @ shares / axis
        if lengths.all():
            z = shortest(lengths, cosines)
            norm = np.sqrt(z @ cosines @ z)
            if z @ along >= self.c * norm:
                return length / norm * z / lengths
        across = cosines - np.outer(along, along)
        y = self.improve(lengths, across, self.c * along * lengths, np.sqrt(1 - self.c**2))
        return length * (y + (self.c - along @ (y * lengths)) / axis * mean)
