"""Uncertainty weighting with the optimal uncertainties put in."""

from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import LossWeighting, register_strategy
from mtlbench.strategies.scalarizations import invert, softmax_over


@register_strategy("uw-o", label="UW-O")
class OptimalUncertainty(LossWeighting):
    """Weighs each task by the inverse of its loss (Kirchdorfer et al. 2024).

        w_k = 1 / L_k

    which is what 1/σ_k L_k + log σ_k, the uncertainty weighting of an L1 loss, comes to at its
    smallest, σ_k = L_k. The network's gradient is that of `log`, Σ_k ∇log L_k. Losses must be
    positive; a task whose loss is 0, or that has no label in the batch, has weight 0.

    Kirchdorfer, Elich, Kutsche, Stuckenschmidt, Schott, Köhler: Analytical Uncertainty-Based Loss
    Weighting in Multi-Task Learning, GCPR 2024, Section 3 (UW-O).
    """

    least_loss = 0.0

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        return invert(losses) * present


@register_strategy("uw-so", label="UW-SO")
class SoftOptimalUncertainty(LossWeighting):
    """Weighs the tasks by a softmax of their inverse losses (Kirchdorfer et al. 2024).

        w_k = n softmax_k(1 / (T L_k))

    over the n tasks that have a label in the batch, T the temperature. Losses must be positive;
    a task whose loss is 0 has weight 0. The best temperature depends on the size of
    the losses: if all of them are divided by ten, T must be ten times as large.

    Departs from the authors' code: weights sum to n, as those of `dwa` and `rlw` do, not to 1 as
    in the paper, so that a learning rate means the same as for equal weights.

    Kirchdorfer, Elich, Kutsche, Stuckenschmidt, Schott, Köhler: Analytical Uncertainty-Based Loss
    Weighting in Multi-Task Learning, GCPR 2024, Section 3 (UW-SO).

    Args:
        temperature: T, above 0; the larger, the more equal the weights. The paper searches it
            anew for each data set; 1 is the plain softmax.

    Raises:
        ValueError: a parameter out of its range.
    """

    least_loss = 0.0

    space: ClassVar = {"temperature": Range(1, 100, log=True)}

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, but is {temperature}")
        self.temperature = temperature

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        counted = present & (losses > 0)
        tiny = torch.finfo(losses.dtype).tiny  # 1 / tiny is still a finite number
        return counted.sum() * softmax_over(
            counted, 1 / (self.temperature * losses).clamp(min=tiny)
        )
