"""Weighting that brings gradients to a common length."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from mtlbench.space import Range
from mtlbench.strategies.base import GradientWeighting, Setting, register_strategy

LEAST = 1e-8
"""A weight that a step would take below 0 stops here: the paper says nothing of negative ones."""


@register_strategy("gradnorm", label="GradNorm")
class GradientNormalization(GradientWeighting):
    """Learns weights under which slower tasks have longer gradients (Chen et al. 2018).

        G_k = w_k ‖g_k‖,    r_k = (L_k / L_k(0)) / mean_j (L_j / L_j(0))
        w ← w − Adam(∂/∂w Σ_k |G_k − mean_j(G_j) r_k^α|),    w ← K w / Σ_j w_j

    with the target mean_j(G_j) r_k^α held constant. g_k is the gradient of task k over all shared
    parameters (the paper takes the last shared layer), L_k(0) its loss in the first batch that
    labels it. A step uses the weights from before its own update; they begin at 1. A task without
    a label in the batch is left out of both means and keeps its weight and its moments of Adam;
    the others share what they had together.

    Departs from the authors' code: there is none to follow. In the paper the weights are those of
    the losses, and so reach the heads too; here a parameter that only one task reaches takes that
    task's own gradient without the weight, as in all gradient weightings here.

    Chen, Badrinarayanan, Lee, Rabinovich: GradNorm: Gradient Normalization for Adaptive Loss
    Balancing in Deep Multitask Networks, ICML 2018, Eqs. 1 and 2, Algorithm 1.

    Args:
        alpha: α, at least 0: how strongly tasks are held to one rate of training. 1.5 on NYUv2 in
            the paper and in LibMTL; 0.12 in the paper's toy problem of tasks that are alike.
        lr: learning rate of w, above 0; the paper's.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"alpha": Range(0, 3), "lr": Range(2.5e-3, 0.25, log=True)}

    gramian_in_float64 = True

    def __init__(self, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__()
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0, but is {alpha}")
        if lr <= 0:
            raise ValueError(f"lr must be above 0, but is {lr}")
        self.alpha, self.lr = alpha, lr

    def start(self, setting: Setting) -> None:
        # One parameter for each task: Adam passes over those without a gradient, moments and all.
        self.task_weights = nn.ParameterList(
            nn.Parameter(setting.tensor([1.0])) for _ in setting.tasks
        )
        self.register_buffer("initial", setting.tensor([0.0] * len(setting.tasks)))
        self.optimizer = self.adam = torch.optim.Adam(self.task_weights, lr=self.lr)

    def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        initial = self.get_buffer("initial")
        initial.copy_(torch.where(present & (initial == 0), losses, initial))
        here = present & (initial > 0)
        weights, norms = self._joined(), _lengths(gramian, losses)

        ratio = _mean_is_one(torch.where(here, losses / initial, 0), here)
        target = torch.where(here, weights * norms, 0).sum() / here.sum() * ratio**self.alpha
        longest = torch.finfo(norms.dtype).max ** 0.5 / 2  # Adam squares it
        gradient = torch.sign(weights * norms - target) * norms.clamp(max=longest)
        for parameter, grad, learns in zip(
            self.task_weights, gradient.split(1), here.tolist(), strict=True
        ):
            parameter.grad = grad if learns else None
        self.adam.step()

        learned = self._joined().clamp(min=LEAST)
        share = torch.where(here, weights, 0).sum() / torch.where(here, learned, 0).sum()
        new = torch.where(here, learned * share, weights)
        for parameter, value in zip(self.task_weights, new.split(1), strict=True):
            parameter.copy_(value)
        return weights

    def _joined(self) -> Tensor:
        return torch.cat([parameter.detach() for parameter in self.task_weights])


def _lengths(gramian: Tensor, like: Tensor) -> Tensor:
    """‖g_k‖ [K] in the precision of `like`, from squares that may be beyond its range."""
    squares = gramian.to(like).diagonal()
    within = squares.isfinite() & (squares >= torch.finfo(like.dtype).tiny)
    return torch.where(within, squares.sqrt(), gramian.diagonal().sqrt().to(like))


def _mean_is_one(values: Tensor, here: Tensor) -> Tensor:
    """The values divided by their mean over some; 0 where all of these are 0."""
    mean = torch.where(here, values, 0).sum() / here.sum()
    return torch.where(mean > 0, values / mean, 0)
