"""Minimum-norm weighting of gradients that are averaged over steps."""

from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import Setting, register_strategy
from mtlbench.strategies.gradients import units
from mtlbench.strategies.tracking import GradientTracking

FAR = 4.0
"""A λ between 0 and 1 that is to fall by more than 2 below all others is projected to 0."""


@register_strategy("moco", label="MoCo")
class MultiObjectiveGradientCorrection(GradientTracking):
    """Weighs averages of the gradients towards their smallest combination (Fernando et al. 2023).

        y_k ← y_k − β n_k^(−σ_β) (y_k − h_k),    h_k = L_k g_k / ‖g_k‖
        λ ← Π(λ − γ n^(−σ_γ) (Y Yᵀ + ρ I) λ)
        update = Yᵀ λ

    with g_k the gradient of task k, Y [K, P] the rows y_k, Π the projection onto λ ≥ 0 and
    Σ_k λ_k = 1, n_k the number of steps so far that labelled task k and n of those that labelled
    any. Y begins at 0, λ at 1/K. A task without a label in the batch keeps y_k and λ_k and has no
    part in the update; the λ of the others move among themselves, with the sum that theirs leaves.

    Departs from the authors' code: that has a softmax of the λ, which keeps them close to each
    other, in the place of the paper's projection. It does normalise the gradients as here, where
    the paper has h_k = g_k, and it does change Y and λ before the update, where the paper takes
    those of the step before.

    Fernando, Shen, Liu, Chaudhury, Murugesan, Chen: Mitigating Gradient Bias in Multi-objective
    Learning: A Provably Convergent Approach, ICLR 2023, Algorithm 1.

    Args:
        beta: β, above 0 and at most 1: how far y moves to the gradient; authors' code.
        beta_sigma: σ_β, at least 0: how fast that falls; authors' code.
        gamma: γ, above 0: step size of λ; authors' code.
        gamma_sigma: σ_γ, at least 0: how fast that falls; authors' code.
        rho: ρ, at least 0: pulls λ to equal weights; authors' code.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"beta": Range(0.1, 1), "gamma": Range(0.01, 10, log=True)}

    def __init__(
        self,
        beta: float = 0.5,
        beta_sigma: float = 0.5,
        gamma: float = 0.1,
        gamma_sigma: float = 0.5,
        rho: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 < beta <= 1:
            raise ValueError(f"beta must be above 0 and at most 1, but is {beta}")
        if gamma <= 0:
            raise ValueError(f"gamma must be above 0, but is {gamma}")
        for name, value in (
            ("beta_sigma", beta_sigma),
            ("gamma_sigma", gamma_sigma),
            ("rho", rho),
        ):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, but is {value}")
        self.beta, self.beta_sigma = beta, beta_sigma
        self.gamma, self.gamma_sigma = gamma, gamma_sigma
        self.rho = rho

    def start(self, setting: Setting) -> None:
        super().start(setting)
        tasks = len(setting.tasks)
        self.register_buffer("lambdas", setting.tensor([1 / tasks] * tasks))
        self.register_buffer("steps", setting.tensor([0.0] * tasks))
        self.register_buffer("steps_of_any", setting.tensor([0.0]))

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        lambdas, steps = self.get_buffer("lambdas"), self.get_buffer("steps")
        steps += present
        steps_of_any = self.get_buffer("steps_of_any")
        steps_of_any += present.any()

        tracked = self.rows(jacobian)
        unit = units(jacobian)
        length = torch.linalg.vector_norm(jacobian / unit[:, None], dim=1)
        scale = losses / (length + 1e-8 / unit) / unit
        rate = torch.where(present, self.beta / steps**self.beta_sigma, 0)
        for y, gradient, factor, part in zip(tracked, jacobian, scale, rate, strict=True):
            y.lerp_(factor * gradient, part)

        mine = torch.where(present, lambdas, 0)
        # What all λ move by makes no difference to the projection. In float32 it would hide them.
        unit = units(tracked).max().clamp(min=1)
        slope = tracked @ (mine / unit @ tracked) + self.rho * mine / unit
        steeper = slope - torch.where(present, slope, torch.inf).min()
        fall = self.gamma / steps_of_any**self.gamma_sigma * steeper * unit
        move_on_simplex(lambdas, fall, present)
        return torch.where(present, lambdas, 0) @ tracked


def move_on_simplex(lambdas: Tensor, fall: Tensor, present: Tensor) -> None:
    """Lets the λ [K] of those present fall by so much, projected onto λ ≥ 0 and Σ_k λ_k = 1."""
    # Not their sum, in which rounding would add up from step to step.
    total = (1 - torch.where(present, 0, lambdas).sum()).clamp(min=0)
    moved = project_to_simplex(lambdas - fall.clamp(max=FAR).to(lambdas), present, total)
    lambdas.copy_(torch.where(present, moved, lambdas))


def project_to_simplex(values: Tensor, present: Tensor, total: Tensor) -> Tensor:
    """The point nearest to the values [K] of those present that is at least 0 and sums to a total.

    Duchi, Shalev-Shwartz, Singer, Chandra: Efficient Projections onto the l1-Ball for Learning in
    High Dimensions, ICML 2008, Fig. 1. What comes for those that are not present means nothing.
    The values count from their largest: beside large numbers the total would be lost.
    """
    values = values - torch.where(present, values, -torch.inf).max()
    largest = torch.where(present, values, -torch.inf).sort(descending=True).values
    excess = (largest.cumsum(0) - total) / torch.arange(1, len(values) + 1, device=values.device)
    positive = (largest > excess).sum(0, keepdim=True).clamp(min=1)
    return (values - excess.gather(0, positive - 1)).clamp(min=0)
