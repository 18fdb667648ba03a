"""Weighting by how far each task is from its own optimum."""

from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import Setting, register_strategy
from mtlbench.strategies.gradients import units
from mtlbench.strategies.tracking import GradientTracking

LARGE, STEP = 2.0**40, 16.0


@register_strategy("excess-mtl", label="ExcessMTL")
class ExcessRisks(GradientTracking):
    """Gives more weight to tasks further from convergence, noisy ones excepted (He et al. 2024).

        S_k ← S_k + g_k²,    e_k = Σ_p g_kp² / √(S_kp + 10⁻⁷)
        w_k ← w_k exp(η e_k / e_k(0)),    w ← K w / Σ_j w_j
        update = Σ_k w_k g_k

    with g_k the gradient of task k over the P shared parameters, e_k the estimate gᵀ H⁻¹ g of its
    excess risk from a diagonal Hessian, and e_k(0) the first one above 0. Weights begin at 1 and a
    task's first estimate does not move them. A task without a label in the batch keeps S_k and
    w_k and is left out of the update; the others share what they had together. The weights are
    kept as logarithms, which do not overflow.

    Departs from the authors' code: a parameter that only one task reaches takes that task's own
    gradient without the weight, as in all gradient weightings here. As in that code, and not in
    the paper, e_k(0) comes from one step in the place of three epochs, and Σ w = K in that of 1.

    He, Zhou, Zhang, Yun, Xu, Zeng, Chilimbi, Zhao: Robust Multi-Task Learning with Excess Risks,
    ICML 2024, Eqs. 6, 7 and 9.

    Args:
        lr: η, above 0: step size of the weights; authors' code.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"lr": Range(1e-3, 1, log=True)}

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        if lr <= 0:
            raise ValueError(f"lr must be above 0, but is {lr}")
        self.lr = lr

    def start(self, setting: Setting) -> None:
        super().start(setting)
        self.register_buffer("log_weights", setting.tensor([0.0] * len(setting.tasks)))
        self.register_buffer("first_risk", setting.tensor([0.0] * len(setting.tasks)))
        self.register_buffer("units", setting.tensor([1.0] * len(setting.tasks)))

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        log_weights, first = self.get_buffer("log_weights"), self.get_buffer("first_risk")
        risk = self._risks(jacobian)
        moves = present & (first > 0)
        farthest = torch.finfo(risk.dtype).max / 4
        moved = log_weights + (self.lr * risk / first).clamp(max=farthest)
        # Beside large numbers Σ w would be lost.
        moved = moved - STEP * torch.trunc(torch.where(moves, moved, 0).max() / STEP)
        share = _log_sum(log_weights, moves) - _log_sum(moved, moves)
        moved = (moved + share).clamp(min=-farthest)
        log_weights.copy_(torch.where(moves, moved, log_weights))
        first.copy_(torch.where(present & (first == 0), risk, first))
        return torch.where(present, log_weights.exp(), 0) @ jacobian

    def _risks(self, jacobian: Tensor) -> Tensor:
        """e [K], of which S learns.

        S is kept in units in which it does not overflow; they are above 1 only for large gradients.
        """
        tracked, last = self.rows(jacobian), self.get_buffer("units")
        unit = torch.maximum(last, units(jacobian) / LARGE)
        epsilon = (1e-7 / unit / unit).clamp(min=torch.finfo(unit.dtype).tiny)
        risks = []
        for squares, gradient, beside, one, shrink in zip(
            tracked, jacobian, epsilon, unit, (last / unit).square(), strict=True
        ):
            scaled = gradient / one
            root = squares.mul_(shrink).addcmul_(scaled, scaled).add(beside).sqrt_()
            risks.append(scaled.square_().div_(root).sum())
        last.copy_(unit)
        return torch.stack(risks) * unit


def _log_sum(log_values: Tensor, among: Tensor) -> Tensor:
    return torch.where(among, log_values, -torch.inf).logsumexp(0)
