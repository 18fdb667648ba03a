"""Weighting by how well each task is already done."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import LossWeighting, Setting, register_strategy

SCORES = ("miou", "accuracy", "pixel_accuracy")
"""Metrics in percent of which more is better, the most telling first."""

LOWEST_KPI = 0.01
"""A task that does worse is taken to do this well: the weight of one that fails is infinite."""


@register_strategy("dtp", label="DTP")
class DynamicTaskPriority(LossWeighting):
    """Gives more weight to tasks that are done less well (Guo et al. 2018).

        w_k = −(1 − κ_k)^γ log κ_k

        κ_k(t) = α q_k(t) + (1 − α) κ_k(t−1)

    q in [0, 1] is the key performance indicator of a task after epoch t, κ its moving average,
    at least 0.01 in w; κ(1) = q(1), and weights are 1 in the first epoch. q is the validation
    mIoU or accuracy of the task where it has one, because priority by performance instead of by
    loss is the point of the paper. For other tasks it is exp(−L) of the mean training
    loss: where L is a negative log-likelihood, this is the likelihood of the labels, the p of the
    focal loss −(1 − p)^γ log p that w is made after. It depends on the unit of the loss.
    An epoch without a label of a task leaves its κ as it is.

    Departs from the authors' code: there is none to follow. The paper takes its indicators from
    each batch, and weighs instances by a focal loss too, which is a matter of the tasks' losses.

    Guo, Haque, Huang, Yeung, Fei-Fei: Dynamic Task Prioritization for Multitask Learning,
    ECCV 2018, Section 3.

    Args:
        gamma: γ, at least 0; the larger, the less weight a task has that is done well. The
            default is chosen here: with 1, w is near (1 − κ)² for such a task.
        alpha: α, above 0 and at most 1; 1 for no memory. The default is chosen here: with 0.9,
            an epoch counts a tenth of the one after it.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"gamma": Range(0.5, 5, log=True), "alpha": Range(0.5, 0.99)}

    def __init__(self, gamma: float = 1.0, alpha: float = 0.9) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma must be at least 0, but is {gamma}")
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha must be above 0 and at most 1, but is {alpha}")
        self.gamma, self.alpha = gamma, alpha

    def start(self, setting: Setting) -> None:
        self._tasks = setting.tasks
        kpi = setting.tensor([0.0] * len(setting.tasks))
        self.register_buffer("kpi", kpi)
        self.register_buffer("known", kpi.clone())  # 1 for yes

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        kpi = self.get_buffer("kpi").clamp(LOWEST_KPI, 1)
        focal = -((1 - kpi) ** self.gamma) * kpi.log()
        return torch.where(self.get_buffer("known") > 0, focal, 1) * present

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        kpi, known = self.get_buffer("kpi"), self.get_buffer("known")
        scores = losses.new_tensor([_score(task, validation) for task in self._tasks])
        now = torch.where(scores.isfinite(), scores / 100, torch.exp(-losses))
        average = torch.where(known > 0, self.alpha * now + (1 - self.alpha) * kpi, now)
        kpi.copy_(torch.where(now.isfinite(), average, kpi))
        known.copy_(torch.maximum(known, now.isfinite()))


def _score(task: str, validation: Mapping[str, float]) -> float:
    """The most telling score of a task (%), NaN where it has none."""
    values = [validation.get(f"{task}/{metric}") for metric in SCORES]
    return next((value for value in values if value is not None), float("nan"))
