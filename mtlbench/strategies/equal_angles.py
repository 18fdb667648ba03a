"""The direction that makes one angle with the gradients of all tasks."""

import numpy as np

from mtlbench.strategies.base import register_strategy
from mtlbench.strategies.gramian import Array, GramianWeighting, lengths_and_cosines


@register_strategy("imtl-g", label="IMTL-G")
class ImpartialGradient(GramianWeighting):
    """Projections of the update on all unit gradients are equal (Liu et al. 2021).

        ⟨d, u_1⟩ = … = ⟨d, u_K⟩,    d = Σ_k α_k g_k,    Σ α = 1,    u_k = g_k / ‖g_k‖

        α_{2:K} = g_1 Uᵀ (D Uᵀ)⁻¹,    rows u_1 − u_k of U and g_1 − g_k of D

        hence α_k = t β_k / ‖g_k‖,    C β = 1,    C_jk = ⟨u_j, u_k⟩,    t = 1 / Σ_k β_k / ‖g_k‖

    g_k is the gradient of task k. For two tasks α is (‖g_2‖, ‖g_1‖) / (‖g_1‖ + ‖g_2‖), whatever
    the angle between them. α_k may be negative. A task's scale does not change the direction of
    d. Tasks without a label in the batch are left out, and so is a task whose gradient is zero,
    because it has no direction.

    C is singular where gradients are linearly dependent. If some β solves C β = 1 nevertheless,
    as for equal gradients, it is the shortest. If none does, as for opposite gradients, the equal
    projections are 0: C β = 0, hence d = 0, and β is the solution nearest to 1.

    Departs from the authors' code: the paper does not say what holds where D Uᵀ is singular. For
    three tasks and more d grows without bound as Σ_k β_k / ‖g_k‖ goes through 0; here it is cut to
    the length Σ_k ‖g_k‖, and is 0 where rounding hides the sign of that sum.

    Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang: Towards Impartial Multi-task Learning, ICLR
    2021.
    """

    needs_directions = True

    def solve(self, gramian: Array, losses: Array) -> Array:
        lengths, cosines = lengths_and_cosines(gramian)
        beta = self.level(cosines)
        alpha = beta / lengths
        total, rounding = alpha.sum(), len(alpha) * self.resolution
        if abs(total) <= rounding * np.abs(alpha).sum():
            return np.zeros_like(alpha)
        alpha /= total
        # What rounding may hide of the length counts: terms that should cancel may not.
        squared = (beta @ cosines @ beta).clip(min=0) + rounding * (beta @ beta)
        length, longest = np.sqrt(squared) / abs(total), lengths.sum()
        return alpha * longest / length if length > longest else alpha

    def level(self, cosines: Array) -> Array:
        """β [m], up to a factor, with C β constant; of many the one nearest to 1."""
        values, vectors = np.linalg.eigh(cosines)
        ones = vectors.sum(0)  # 1 along the eigenvectors
        least = len(values) * self.resolution * values[-1]
        null = values <= least
        if np.linalg.norm(ones[null]) <= NOISE * len(values) * self.resolution:
            ones[null] = 0
        return vectors @ (ones * (least / np.maximum(values, least)))


NOISE = 30
"""Number of roundings that a part of 1 outside the range of C may be made of: where gradients are
equal, that part is 0 but for those."""


@register_strategy("config", label="ConFIG")
class ConflictFreeInverseGradient(GramianWeighting):
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

    needs_directions = True

    def solve(self, gramian: Array, losses: Array) -> Array:
        lengths, cosines = lengths_and_cosines(gramian)
        v = self.combine(cosines)
        projections = cosines @ v
        squared_length = v @ projections
        if squared_length <= len(v) * self.resolution:
            return np.zeros_like(v)
        return v / lengths * (lengths @ projections) / squared_length

    def combine(self, cosines: Array) -> Array:
        """The weights v = C⁺ 1 [m] of the unit gradients: the cosines of Uᵀ v with them are equal.

        C = U Uᵀ; its pseudo-inverse makes v the shortest where the gradients are dependent, and
        the angles as equal as can be where they cannot be equal.
        """
        values, vectors = np.linalg.eigh(cosines)
        vectors = vectors[:, values > len(values) * self.resolution * values[-1]]
        return vectors @ (vectors.sum(0) / values[-vectors.shape[1] :])
