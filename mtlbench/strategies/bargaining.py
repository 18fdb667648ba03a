"""Directions that share out what the tasks gain."""

from typing import ClassVar

import numpy as np

from mtlbench.space import Range
from mtlbench.strategies.base import register_strategy
from mtlbench.strategies.gramian import Array, GramianWeighting, lengths_and_cosines

MOST_STEPS = 100


class FairWeighting(GramianWeighting):
    """Weights that are a power of what each task gains."""

    needs_directions = True

    def share(self, gramian: Array, power: float) -> Array:
        """The weights w > 0 [m] with G w = w^(−power).

        They minimise the convex function ½ wᵀ G w − Σ w^(1 − power) / (1 − power), found by
        Newton's method. Each weight changes by less than 1 / max(1, power) of itself in a step,
        which makes every step a descent.
        """
        lengths, cosines = lengths_and_cosines(gramian)
        cosines = self.regularize(cosines)
        # z = w · length, of which `alone` would be the solution if the gradients were orthogonal
        alone = lengths ** ((power - 1) / (power + 1))
        z = alone * ((alone @ alone) / (alone @ cosines @ alone)) ** (1 / (power + 1))
        last = np.inf
        for _ in range(MOST_STEPS):
            wanted = alone * (z / alone) ** -power
            step = np.linalg.solve(cosines + np.diag(power * wanted / z), wanted - cosines @ z)
            largest = np.abs(step / z).max()
            z = z + step / (1 + max(1.0, power) * largest)
            if largest < 1e-6 or 1e-2 > largest >= last:  # converged, or as near as rounding lets
                break
            last = largest
        return z / lengths


@register_strategy("nash-mtl", label="Nash-MTL")
class NashBargaining(FairWeighting):
    """The tasks' Nash bargaining solution (Navon et al. 2022).

        G α = 1 / α,    d = Jᵀ α · min(1, max_norm / ‖Jᵀ α‖)

    G = J Jᵀ is the Gramian of the gradients, rows of J, and α > 0. d maximises Σ_k log ⟨g_k, d⟩
    among the directions of its length. A task's scale does not matter: α_k g_k stays the same.
    ‖Jᵀ α‖ is √K for any gradients, so d has length max_norm if that is less; in steps that keep
    the α of an earlier one, and on the representation, it is the update of the shared parameters
    that is cut to max_norm, as the authors' code does. Tasks without a
    label in the batch are left out, and so is a task whose gradient is zero, because nothing can
    be gained for it. Tasks whose gradients are opposed have nothing to gain: their α is large, and
    their α_k g_k cancel.

    Departs from the authors' code: that approaches α by up to 20 convex programmes in G / ‖G‖,
    whose constraints α_k (G α)_k ≥ 1 are of G itself, so that this normalisation changes nothing
    but rounding; here the equation is solved to the end by Newton's method. There the heads'
    losses are weighed by α too.

    Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya: Multi-Task Learning as a
    Bargaining Game, ICML 2022, Algorithm 1.

    Args:
        max_norm: longest update, at least 0; 0 for no limit; 1 in the authors' code.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        super().__init__()
        if max_norm < 0:
            raise ValueError(f"max_norm must be at least 0, but is {max_norm}")
        self.max_norm = max_norm

    def solve(self, gramian: Array, losses: Array) -> Array:
        alpha = self.share(gramian, 1.0)
        norm = np.sqrt((alpha @ gramian @ alpha).clip(min=0))
        return alpha * self.max_norm / norm if 0 < self.max_norm < norm else alpha


@register_strategy("fairgrad", label="FairGrad")
class FairResourceAllocation(FairWeighting):
    """Shares out the tasks' gains by α-fairness (Ban & Ji 2024).

        G w = w^(−1/α),    d = Jᵀ w

    G = J Jᵀ is the Gramian of the gradients, rows of J, and w > 0. d maximises the α-fair utility
    Σ_k ⟨g_k, d⟩^(1−α) / (1−α) among the directions of its length: a sum of gains for α near 0, the
    product of gains (Nash-MTL's direction) for 1, the smallest gain for large α. Tasks without
    a label in the batch are left out, and so is a task whose gradient is zero, because nothing
    can be gained for it.

    Departs from the authors' code: w is exact, where that takes the result of a bounded
    least-squares search, and d is neither multiplied by K nor cut to length 1, which the paper
    does not mention.

    Ban, Ji: Fair Resource Allocation in Multi-Task Learning, ICML 2024, Eq. 4 and Algorithm 1.

    Args:
        alpha: α, above 0; 1 in the authors' code.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"alpha": Range(0.5, 10, log=True)}

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        if alpha <= 0:
            raise ValueError(f"alpha must be above 0, but is {alpha}")
        self.alpha = alpha

    def solve(self, gramian: Array, losses: Array) -> Array:
        return self.share(gramian, 1 / self.alpha)
