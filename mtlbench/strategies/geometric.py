"""The geometric mean of the losses."""

import torch
from torch import Tensor

from mtlbench.strategies.base import LossWeighting, register_strategy


@register_strategy("gls", label="GLS")
class GeometricLoss(LossWeighting):
    """Minimises the geometric mean of the task losses (Chennupati et al. 2019).

        F = (Π_k L_k)^(1/K), over the tasks that have a label in the batch

    The losses must be positive; a loss of 0 is taken as the smallest positive number.

    Chennupati et al.: MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy
    for Multi-Task Learning, CVPR Workshops 2019, Eq. 4.
    """

    least_loss = 0.0

    def objective(self, losses: Tensor, present: Tensor) -> Tensor:
        log_losses = losses.clamp(min=torch.finfo(losses.dtype).tiny).log()
        return torch.exp(torch.where(present, log_losses, 0).sum() / present.sum().clamp(min=1))
