"""The direction that makes one angle with the gradients of all tasks."""

import numpy as np

from mtlbench.registry import register_strategy
from mtlbench.strategies.gramian import Array, GramianWeighting, lengths_and_cosines


class EqualAngleWeighting(GramianWeighting):
    """Weights of the direction whose cosines with all gradients are equal."""

    needs_directions = True

    def combine(self, cosines: Array) -> Array:
        """The weights v = C⁺ 1 [m] of the unit gradients: the cosines of Uᵀ v with them are equal.

        C = U Uᵀ; its pseudo-inverse makes v the shortest where the gradients are dependent, and
        the angles as equal as can be where they cannot be equal.
        """
        values, vectors = np.linalg.eigh(cosines)
        vectors = vectors[:, values > len(values) * self.resolution * values[-1]]
        return vectors @ (vectors.sum(0) / values[-vectors.shape[1] :])


@register_strategy("imtl-g", label="IMTL-G")
class ImpartialGradient(EqualAngleWeighting):
    """Projections of the update on all unit gradients are equal (Liu et al. 2021).

        ⟨d, u_1⟩ = … = ⟨d, u_K⟩,    d = Σ_k α_k g_k,    Σ α = 1,    u_k = g_k / ‖g_k‖

    g_k is the gradient of task k. α_k may be negative. A task's scale does not change the
    direction of d. Tasks without a label in the batch are left out, and so is a task whose
    gradient is zero, because it has no direction. For linearly dependent gradients the
    inverse is a pseudo-inverse, as in TorchJD, and where no α sums to 1, as for two opposite
    gradients, d is zero.

    Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang: Towards Impartial Multi-task Learning, ICLR
    2021.
    """

    def solve(self, gramian: Array, losses: Array) -> Array:
        lengths, cosines = lengths_and_cosines(gramian)
        alpha = self.combine(cosines) / lengths
        total = alpha.sum()
        if abs(total) <= len(alpha) * self.resolution * np.abs(alpha).sum():
            return np.zeros_like(alpha)
        return alpha / total


@register_strategy("config", label="ConFIG")
class ConflictFreeInverseGradient(EqualAngleWeighting):
    """The direction at one angle to all gradients, as long as they reach (Liu et al. 2024).

        d = (Σ_k ⟨g_k, u⟩) u,    u = U⁺ 1 / ‖U⁺ 1‖

    g_k is the gradient of task k, U [K, P] the unit gradients g_k / ‖g_k‖ and U⁺ its
    pseudo-inverse. d conflicts with no task, if the gradients are linearly independent. Tasks
    without a label in the batch are left out, and so is a task whose gradient is zero. For two
    opposite gradients d is zero.

    Departs from the authors' code: a gradient counts as dependent on the others where rounding
    could make it so, and not by its number of entries.

    Liu, Chu, Thuerey: ConFIG: Towards Conflict-free Training of Physics Informed Neural
    Networks, ICLR 2025, arXiv 2408.11104, Eq. 2.
    """

    def solve(self, gramian: Array, losses: Array) -> Array:
        lengths, cosines = lengths_and_cosines(gramian)
        v = self.combine(cosines)
        projections = cosines @ v
        squared_length = v @ projections
        if squared_length <= len(v) * self.resolution:
            return np.zeros_like(v)
        return v / lengths * (lengths @ projections) / squared_length
