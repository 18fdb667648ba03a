"""Weights that keep the losses of the tasks together."""

import typing
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mtlbench.space import Choice, Range
from mtlbench.strategies.base import LossWeighting, Setting, register_strategy

Normalization = Literal["none", "rescaled", "log"]


@register_strategy("ldc-mtl", label="LDC-MTL")
class LossDiscrepancyControl(LossWeighting):
    """Learns weights that keep the weighted losses of the tasks together (Xiao et al. 2025).

        F = Σ_k σ_k x_k / c + penalty Σ_k |σ_k x_k − σ_(k+1) x_(k+1)|

        σ = 1 / (1 + e^(−s)),    c = Σ_k σ_k

        none        x_k = L_k
        rescaled    x_k = L_k min_j L_j(0) / L_k(0)
        log         x_k = log(L_k / L_k(0))

    over the tasks that have a label in the batch, in their order, each beside the next of them;
    L_k(0) is a task's first loss above 0. The first sum is the lower level of a bilevel problem,
    the second one the upper level, and both the network and s follow the gradient of F, in which c
    counts as a constant. s has one number a task, 1 at first, and is learned by plain SGD; that of
    an absent task stays as it is. But for `none`, losses must not be negative, and for `log` a
    task whose loss is 0 has weight 0.

    Departs from the authors' code: the network's optimiser learns s there; here s has a learning
    rate of its own. For scenes that has a small network that gives σ from the features of a batch,
    in the place of one s a task, which it has for CelebA and QM9. There L_k(0) is of the first
    batch, for `log` of that of each epoch.

    Xiao, Dong, Zou, Ji: LDC-MTL: Balancing Multi-Task Learning through Scalable Loss Discrepancy
    Control, arXiv 2502.08585, 2025; equations as in the authors' code.

    Args:
        penalty: weight of the differences, at least 0; in the authors' code 0.05 for NYUv2 and
            QM9, 0.1 for Cityscapes, 0.01 for CelebA.
        normalization: `none` (the authors' for CelebA and Cityscapes), `rescaled` (for NYUv2) or
            `log` (for QM9).
        lr: learning rate of s, above 0; the default is that of `imtl-l`.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {
        "penalty": Range(5e-3, 0.5, log=True),
        "normalization": Choice(typing.get_args(Normalization)),
        "lr": Range(2.5e-3, 0.25, log=True),
    }

    def __init__(
        self, penalty: float = 0.05, normalization: Normalization = "rescaled", lr: float = 0.025
    ) -> None:
        super().__init__()
        if penalty < 0:
            raise ValueError(f"penalty must be at least 0, but is {penalty}")
        if normalization not in typing.get_args(Normalization):
            raise ValueError(
                f"normalization must be 'none', 'rescaled' or 'log', but is {normalization!r}"
            )
        if lr <= 0:
            raise ValueError(f"lr must be above 0, but is {lr}")
        self.penalty, self.normalization, self.lr = penalty, normalization, lr

    @property
    def least_loss(self) -> float | None:  # type: ignore[override]
        return None if self.normalization == "none" else 0.0

    def start(self, setting: Setting) -> None:
        tasks = len(setting.tasks)
        self.logits = nn.Parameter(setting.tensor([1.0] * tasks))
        self.optimizer = torch.optim.SGD([self.logits], lr=self.lr)
        self.register_buffer("first_loss", setting.tensor([0.0] * tasks))  # 0: unknown

    def objective(self, losses: Tensor, present: Tensor) -> Tensor:
        share = torch.where(present, torch.sigmoid(self.logits), 0)
        weighted = share * self._normalized(losses, present)
        total = share.detach().sum().clamp(min=torch.finfo(share.dtype).tiny)
        # Those without a label come last, whose neighbours do not count.
        order = torch.argsort(~present, stable=True)
        apart = weighted[order].diff().abs() * present[order][1:]
        return weighted.sum() / total + self.penalty * apart.sum()

    def _normalized(self, losses: Tensor, present: Tensor) -> Tensor:
        """x [K]."""
        if self.normalization == "none":
            return losses
        first = self.get_buffer("first_loss")
        new = present & (first == 0) & (losses > 0)
        first.copy_(torch.where(new, losses.detach(), first))
        known = first > 0
        first = torch.where(known, first, 1)
        if self.normalization == "log":
            return torch.where(present & (losses > 0), losses / first, 1).log()
        least = torch.where(known, first, torch.finfo(first.dtype).max).amin()
        # In this order all are exactly the same in the first batch.
        return torch.where(known, losses / first * least, losses)
