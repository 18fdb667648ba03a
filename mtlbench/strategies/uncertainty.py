"""Weighting by homoscedastic task uncertainty."""

import torch
from torch import Tensor, nn

from mtlbench.registry import register_strategy
from mtlbench.strategies.base import LossWeighting, Setting


@register_strategy("mtu", label="MTU")
class MultiTaskUncertainty(LossWeighting):
    """Learns one log σ² for each task (Kendall et al. 2018).

    With s = log σ², one number a task, initialised at 0:

        regression      ½ e^(−s) L + ½ s
        classification    e^(−s) L + ½ s

    s is learned with the optimiser of that paper, SGD with Nesterov momentum 0.9 at a learning
    rate of 2.5e-3, held constant here: its polynomial decay belongs to a schedule of the network.

    Kendall, Gal, Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
    Geometry and Semantics, CVPR 2018, Eqs. 7 and 10.

    Args:
        lr: learning rate of s.
        momentum: Nesterov momentum of s, at least 0 and below 1; 0 for plain SGD.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, lr: float = 2.5e-3, momentum: float = 0.9) -> None:
        super().__init__()
        if lr <= 0:
            raise ValueError(f"lr must be above 0, but is {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, but is {momentum}")
        self.lr, self.momentum = lr, momentum

    def start(self, setting: Setting) -> None:
        self.log_variance = nn.Parameter(setting.tensor([0.0] * len(setting.tasks)))
        self.register_buffer("scale", setting.per_kind(classification=1.0, regression=0.5))
        self.optimizer = torch.optim.SGD(
            [self.log_variance], lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0
        )

    def objective(self, losses: Tensor, present: Tensor) -> Tensor:
        s, c = self.log_variance, self.get_buffer("scale")
        return torch.where(present, c * torch.exp(-s) * losses + 0.5 * s, 0).sum()
