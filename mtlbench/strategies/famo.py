"""Weights that make all losses fall at one rate."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import LossWeighting, Setting, register_strategy
from mtlbench.strategies.scalarizations import softmax_over

FIRST_MOMENT, SECOND_MOMENT, EPSILON = 0.9, 0.999, 1e-8  # of Adam


@register_strategy("famo", label="FAMO")
class FastAdaptiveWeighting(LossWeighting):
    """Lets all losses fall at the same relative rate (Liu et al. 2023).

        w_k = c z_k / D_k,    c = 1 / Σ_k z_k / D_k,    z = softmax(ξ)

        D_k = L_k − b_k + 1e-8

    with one logit ξ for each task, 0 at first, and b a lower bound of the losses. Before a batch
    is weighed, ξ takes a step of Adam along

        g = ∂/∂ξ Σ_k z_k δ_k + weight_decay ξ,    δ_k = log D_k(t−1) − log D_k(t)

    so that a task whose loss fell faster than the others' loses weight. Weights are over
    the tasks with a label in the batch, the step over those with one in both batches; the
    logits of the others, and their moments in Adam, stay as they are.

    Departs from the authors' code: that computes the losses of a batch a second time after the
    network's step, which costs a forward pass, and has D(t) of the same batch. D(t) is here that
    of the next batch, so that δ holds what tells the two batches apart too. That code also cuts
    the gradient of the shared parameters to length 1, which the paper does not mention.

    Liu, Feng, Stone, Liu: FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023, Algorithm 1.

    Args:
        lr: learning rate of ξ, above 0; 0.025 in the paper and the authors' code.
        weight_decay: decay of ξ, the paper's γ, at least 0; 0.001 in the paper, LibMTL and the
            authors' scripts for QM9, NYUv2 and CelebA, which have 0.01 for CityScapes.
        min_losses: task name to b; 0 for a task that is not named.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {
        "lr": Range(2.5e-3, 0.25, log=True),
        "weight_decay": Range(1e-4, 1e-2, log=True),
    }

    def __init__(
        self,
        lr: float = 0.025,
        weight_decay: float = 1e-3,
        min_losses: dict[str, float] = {},  # noqa: B006 (never changed)
    ) -> None:
        super().__init__()
        if lr <= 0:
            raise ValueError(f"lr must be above 0, but is {lr}")
        if weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, but is {weight_decay}")
        self.lr, self.weight_decay = lr, weight_decay
        self.min_losses: Mapping[str, float] = min_losses

    def start(self, setting: Setting) -> None:
        bounds = dict.fromkeys(setting.tasks, 0.0) | dict(self.min_losses)
        self.register_buffer("min_loss", setting.per_task(bounds, "min_loss", least=-math.inf))
        zeros = setting.tensor([0.0] * len(setting.tasks))
        for name in ("logits", "first_moment", "second_moment", "steps", "log_excess"):
            self.register_buffer(name, zeros.clone())
        self.register_buffer("was_present", zeros.clone())  # 1 for yes

    @property
    def least_loss(self) -> Tensor:  # type: ignore[override]
        return self.get_buffer("min_loss")

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        excess = (losses - self.get_buffer("min_loss")).clamp(min=0) + 1e-8
        self._learn(torch.where(present, excess.log(), 0), present)
        share = softmax_over(present, self.get_buffer("logits")) / excess
        return share / share.sum().clamp(min=torch.finfo(share.dtype).tiny)

    def _learn(self, log_excess: Tensor, present: Tensor) -> None:
        """Moves the logits by what the losses of two batches say."""
        last, was_present = self.get_buffer("log_excess"), self.get_buffer("was_present")
        logits, both = self.get_buffer("logits"), present & (was_present > 0)
        fall = last - log_excess
        z = softmax_over(both, logits)
        gradient = z * (fall - (z * fall).sum()) + self.weight_decay * logits

        # torch.optim.Adam counts steps for all tasks together and moves absent ones too.
        steps = self.get_buffer("steps") + 1
        first = torch.lerp(gradient, self.get_buffer("first_moment"), FIRST_MOMENT)
        second = torch.lerp(gradient.square(), self.get_buffer("second_moment"), SECOND_MOMENT)
        mean = first / (1 - FIRST_MOMENT**steps)
        deviation = (second / (1 - SECOND_MOMENT**steps)).sqrt()
        moved = logits - self.lr * mean / (deviation + EPSILON)
        for name, value in {
            "logits": moved,
            "first_moment": first,
            "second_moment": second,
            "steps": steps,
        }.items():
            buffer = self.get_buffer(name)
            buffer.copy_(torch.where(both, value, buffer))
        last.copy_(log_excess)
        was_present.copy_(present)
