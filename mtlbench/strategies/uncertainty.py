"""Weighting by homoscedastic task uncertainty."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtlbench.space import Range
from mtlbench.strategies.base import LossWeighting, Setting, register_strategy


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

    least_loss = 0.0

    space: ClassVar = {"lr": Range(2.5e-4, 0.25, log=True)}

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


@register_strategy("ruw", label="RUW")
class RevisedUncertainty(LossWeighting):
    """Learns one σ² for each task, with a regulariser that stays positive (Liebel & Körner 2018).

        F = Σ_k L_k / (2 σ_k²) + ln(1 + σ_k²)

    over the tasks that have a label in the batch, whatever their kind, with one s = log σ² a
    task, initialised at 0 and learned by plain SGD. Unlike log σ, the regulariser does not
    reward a σ² below 1 without bound, so F never falls below 0. The σ² of an absent task stays
    as it is.

    Departs from the authors' code: the paper learns σ itself, with the network's optimiser;
    log σ² cannot change its sign.

    Liebel, Körner: Auxiliary Tasks in Multi-task Learning, arXiv:1805.06334, 2018, Section 3.

    Args:
        lr: learning rate of s, above 0; 0.025 is a plain step as long as those of `mtu` get by
            their momentum.

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
        self.log_variance = nn.Parameter(setting.tensor([0.0] * len(setting.tasks)))
        self.optimizer = torch.optim.SGD([self.log_variance], lr=self.lr)

    def objective(self, losses: Tensor, present: Tensor) -> Tensor:
        s = self.log_variance
        regulariser = -functional.logsigmoid(-s)  # ln(1 + e^s), which overflows for large s
        return torch.where(present, torch.exp(-s) * losses / 2 + regulariser, 0).sum()
