"""Learned scales that bring all losses to one size."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from mtlbench.space import Range
from mtlbench.strategies.base import LossWeighting, Setting, register_strategy


@register_strategy("imtl-l", label="IMTL-L")
class ImpartialLoss(LossWeighting):
    """Learns a scale for each loss that makes all of them equal (Liu et al. 2021).

        F = Σ_k e^(s_k) L_k − s_k

    over the tasks that have a label in the batch, with one s a task, initialised at 0 and learned
    by plain SGD; F is smallest where every e^(s_k) L_k is 1. The scale of an absent task
    stays as it is.

    Departs from the authors' code: the network's optimiser learns s there; here s has a learning
    rate of its own.

    Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang: Towards Impartial Multi-Task Learning,
    ICLR 2021, Section 3.2.

    Args:
        lr: learning rate of s, above 0; 0.025 as Navon et al. (ICML 2022) have it for learned
            weights.

    Raises:
        ValueError: a parameter out of its range.
    """

    least_loss = 0.0

    space: ClassVar = {"lr": Range(2.5e-3, 0.25, log=True)}

    def __init__(self, lr: float = 0.025) -> None:
        super().__init__()
        if lr <= 0:
            raise ValueError(f"lr must be above 0, but is {lr}")
        self.lr = lr

    def start(self, setting: Setting) -> None:
        self.log_scale = nn.Parameter(setting.tensor([0.0] * len(setting.tasks)))
        self.optimizer = torch.optim.SGD([self.log_scale], lr=self.lr)

    def objective(self, losses: Tensor, present: Tensor) -> Tensor:
        s = self.log_scale
        return torch.where(present, torch.exp(s) * losses - s, 0).sum()
