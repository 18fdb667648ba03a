"""Weights drawn at random."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from mtlbench.space import Choice
from mtlbench.strategies.base import LossWeighting, Setting, register_strategy
from mtlbench.strategies.scalarizations import softmax_over


@register_strategy("rlw", label="RLW")
class RandomLossWeighting(LossWeighting):
    """Draws new weights for every batch (Lin et al. 2022).

        normal       w = n softmax(z),      z_k from the standard normal distribution
        dirichlet    w = n e / Σ_k e_k,     e_k from the standard exponential distribution

    over the n tasks that have a label in the batch; e / Σ e is a draw from the flat Dirichlet
    distribution. K numbers are drawn for every batch, so that an absent task
    changes no later draw.

    Departs from the authors' code: weights sum to n, not to 1, so that on average they are the
    equal weights and a learning rate means the same. A Dirichlet draw, already a set of weights,
    passes through no softmax, which would make it nearly equal.

    Lin, Ye, Zhang, Tsang: Reasonable Effectiveness of Random Weighting: A Litmus Test for
    Multi-Task Learning, TMLR 2022, Algorithm 2.

    Args:
        distribution: `normal` (the default of the authors' code) or `dirichlet`.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"distribution": Choice(("normal", "dirichlet"))}

    def __init__(self, distribution: Literal["normal", "dirichlet"] = "normal") -> None:
        super().__init__()
        if distribution not in ("normal", "dirichlet"):
            raise ValueError(
                f"distribution must be 'normal' or 'dirichlet', but is {distribution!r}"
            )
        self.distribution = distribution

    def start(self, setting: Setting) -> None:
        self._generator = setting.generator

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        draw = torch.empty(len(losses), dtype=losses.dtype)
        if self.distribution == "normal":
            draw.normal_(generator=self._generator)
        else:  # the softmax of log e is e / Σ e
            draw.exponential_(generator=self._generator).log_()
        # A blocking copy would wait for all that the device has still to do.
        logits = draw.to(losses.device, non_blocking=True)
        return present.sum() * softmax_over(present, logits)
