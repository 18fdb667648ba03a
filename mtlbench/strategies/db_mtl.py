"""Balancing of the losses' scales and of the gradients' lengths."""

from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import Setting, register_strategy
from mtlbench.strategies.gradients import units
from mtlbench.strategies.tracking import GradientTracking

EPSILON = 1e-8
"""The paper's ε, in the logarithm and beside the length."""


@register_strategy("db-mtl", label="DB-MTL")
class DualBalancing(GradientTracking):
    """Sums the gradients of the losses' logarithms, brought to one length (Lin et al. 2023).

        ĝ_k ← β_k ĝ_k + (1 − β_k) ∇ log(L_k + ε),    β_k = β n_k^(−σ)
        update = max_j ‖ĝ_j‖ Σ_k ĝ_k / (‖ĝ_k‖ + ε)

    with ε = 10⁻⁸, n_k the number of steps so far that labelled task k, and ĝ_k [P] 0 at first. A
    task without a label in the batch keeps ĝ_k and is left out of the maximum and of the sum. The
    losses must be above 0.

    Departs from the authors' code: a parameter that only one task reaches takes the gradient of
    that task's loss, and not of its logarithm, as in all gradient weightings here.

    Lin, Jiang, Ye, Zhang, Chen, Chen, Liu, Tsang, Kwok: Dual-Balancing for Multi-Task Learning,
    arXiv 2308.12029, 2023, Eqs. 1 and 2, Algorithm 1.

    Args:
        beta: β, at least 0 and below 1: how much of the average is kept; LibMTL's (by the same
            authors). The paper chose among 0.1, 0.5 and 0.9, constant or with σ = 0.5.
        beta_sigma: σ, at least 0: how fast that falls; LibMTL's.

    Raises:
        ValueError: a parameter out of its range.
    """

    least_loss = 0.0

    space: ClassVar = {"beta": Range(0.1, 0.95), "beta_sigma": Range(0, 1)}

    def __init__(self, beta: float = 0.9, beta_sigma: float = 0.0) -> None:
        super().__init__()
        if not 0 <= beta < 1:
            raise ValueError(f"beta must be at least 0 and below 1, but is {beta}")
        if beta_sigma < 0:
            raise ValueError(f"beta_sigma must be at least 0, but is {beta_sigma}")
        self.beta, self.beta_sigma = beta, beta_sigma

    def start(self, setting: Setting) -> None:
        super().start(setting)
        self.register_buffer("steps", setting.tensor([0.0] * len(setting.tasks)))

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        steps = self.get_buffer("steps")
        steps += present
        tracked = self.rows(jacobian)
        rate = torch.where(present, 1 - self.beta / steps**self.beta_sigma, 0)
        scale = 1 / (losses + EPSILON)
        for average, gradient, factor, part in zip(tracked, jacobian, scale, rate, strict=True):
            average.lerp_(factor * gradient, part)
        unit = units(tracked)
        length = unit * torch.linalg.vector_norm(tracked / unit[:, None], dim=1)
        longest = torch.where(present, length, 0).max()
        unit = units(longest.view(1, 1))  # of a weight, which may be too large without
        return unit * (torch.where(present, longest / unit / (length + EPSILON), 0) @ tracked)
