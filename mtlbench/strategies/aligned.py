"""Gradients turned and scaled until they are orthogonal and equally long."""

import numpy as np

from mtlbench.strategies.base import register_strategy
from mtlbench.strategies.gramian import Array, GramianWeighting


@register_strategy("aligned-mtl", label="Aligned-MTL")
class IndependentComponentAlignment(GramianWeighting):
    """Aligns the principal components of the gradients (Senushkin et al. 2023).

        α = B 1,    B = σ_min V Σ⁻¹ Vᵀ,    J Jᵀ = V Σ² Vᵀ

    The gradients, rows of J, become the rows of B J, whose sum is the update: the orthogonal ones
    of equal length that are nearest to them, up to a scale. Their condition number is 1 and their
    length the smallest singular value σ_min of J, so no step is larger than the weakest direction
    allows. Singular values that rounding cannot tell from 0 are left out, and so are tasks
    without a label in the batch.

    Senushkin, Patakin, Kuznetsov, Konushin: Independent Component Alignment for Multi-Task
    Learning, CVPR 2023, Algorithm 1.
    """

    def solve(self, gramian: Array, losses: Array) -> Array:
        squares, vectors = np.linalg.eigh(gramian)
        kept = squares > len(squares) * self.resolution * squares[-1]
        if not kept.any():
            return np.ones(len(gramian))
        squares, vectors = squares[kept], vectors[:, kept]
        return vectors @ (vectors.sum(0) * np.sqrt(squares[0] / squares))
