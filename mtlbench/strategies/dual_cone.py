"""Projections onto the directions that no task objects to."""

import numpy as np

from mtlbench.strategies.base import register_strategy
from mtlbench.strategies.gramian import Array, GramianWeighting
from mtlbench.strategies.quadratic import minimize_nonnegative


class DualConeWeighting(GramianWeighting):
    """Projects onto the dual cone of the gradients {d: ⟨g_k, d⟩ ≥ 0 for all k}."""

    def __init__(self, norm_eps: float = 1e-4, reg_eps: float = 1e-4) -> None:
        super().__init__()
        if norm_eps < 0:
            raise ValueError(f"norm_eps must be at least 0, but is {norm_eps}")
        if reg_eps <= 0:
            raise ValueError(f"reg_eps must be above 0, but is {reg_eps}")
        self.norm_eps, self.reg_eps = norm_eps, reg_eps

    def project(self, combinations: Array, gramian: Array) -> Array:
        """The weights v [n, m] of the projections Jᵀ v of Jᵀ u, for the rows u [n, m]."""
        trace = gramian.trace()
        regular = self.reg_eps * np.eye(len(gramian))
        if trace > 0 and trace >= self.norm_eps:
            regular += gramian / trace
        # v = u + x with the x ≥ 0 that makes Jᵀ v shortest
        return combinations + minimize_nonnegative(regular, -combinations @ regular)


@register_strategy("upgrad", label="UPGrad")
class UnconflictingProjection(DualConeWeighting):
    """The mean of the gradients, each projected off all conflicts (Quinton & Rey 2024).

        d = 1/K Σ_k π(g_k),    π(x) = argmin ‖y − x‖  subject to  ⟨g_j, y⟩ ≥ 0 for all j

        π(Jᵀ u) = Jᵀ v,    v = argmin vᵀ G v  subject to  v ≥ u

    g_k are the gradients, rows of J, and G = J Jᵀ / tr(J Jᵀ) + reg_eps I is their Gramian brought
    to scale. d conflicts with no task, but for what reg_eps adds. Tasks without a label in the
    batch are left out, of K too.

    Quinton, Rey: Jacobian Descent for Multi-Objective Optimization, 2024, arXiv 2406.16232,
    Eq. 3 and Proposition 1.

    Args:
        norm_eps: trace of J Jᵀ below which the gradients count as zero and d is their mean, at
            least 0; 0.0001 in the authors' code.
        reg_eps: what is added to the diagonal, above 0; 0.0001 in the authors' code.

    Raises:
        ValueError: a parameter out of its range.
    """

    def solve(self, gramian: Array, losses: Array) -> Array:
        return self.project(np.eye(len(gramian)) / len(gramian), gramian).sum(0)


@register_strategy("dualproj", label="DualProj")
class DualProjection(DualConeWeighting):
    """The mean gradient, projected off all conflicts (Lopez-Paz & Ranzato 2017).

        d = argmin ‖d − g_0‖  subject to  ⟨g_k, d⟩ ≥ 0 for all k,    g_0 = 1/K Σ_k g_k

        d = Jᵀ v,    v = argmin vᵀ G v  subject to  v ≥ 1/K

    g_k are the gradients, rows of J, and G = J Jᵀ / tr(J Jᵀ) + reg_eps I is their Gramian brought
    to scale. d conflicts with no task, but for what reg_eps adds. Tasks without a label in the
    batch are left out, of K too.

    Departs from the authors' code: that is for tasks that come one after another, and projects
    the gradient of the last; the mean gradient of tasks learned together, norm_eps and reg_eps
    are from TorchJD (Quinton & Rey 2024).

    Lopez-Paz, Ranzato: Gradient Episodic Memory for Continual Learning, NeurIPS 2017, Eq. 11.

    Args:
        norm_eps: trace of J Jᵀ below which the gradients count as zero and d is their mean, at
            least 0; 0.0001 in TorchJD.
        reg_eps: what is added to the diagonal, above 0; 0.0001 in TorchJD.

    Raises:
        ValueError: a parameter out of its range.
    """

    def solve(self, gramian: Array, losses: Array) -> Array:
        return self.project(np.full((1, len(gramian)), 1 / len(gramian)), gramian)[0]
