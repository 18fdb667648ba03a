"""Instance-level task parameters."""

from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import InstanceStage, Setting, register_strategy
from mtlbench.strategies.table import sum_repeats


@register_strategy("ilt", label="ILT Params")
class InstanceLevelTaskParameters(InstanceStage):
    """Learns one log σ² for each instance and task (Vasu, Saxena, Tuzel 2021).

    With s = log σ² of instance i and task k, ℓ its loss:

        regression      ½ ℓ e^(−s) + s      (Eq. 2)
        classification    ℓ e^(−s) + s      (Eq. 4)

    averaged over the instances of a batch whose label is present. The gradient of s has a closed
    form, (1 − c ℓ e^(−s)) / n with c = ½ or 1 and n such instances. s starts at 0, stays in
    [−4, 4], and is learned by sparse SGD with momentum: value and momentum of an instance outside
    the batch, or whose label is absent, do not move. A step reads and writes only the batch's
    rows, so its time does not depend on the number of instances.

    In a composition the task stage sees Σ_b c e^(−s) ℓ / n of each task, without the term s,
    which no gradient of the network depends on. The optimal s does not depend on a task's weight,
    so s is learned from the objective above whatever the task stage.

    Vasu, Saxena, Tuzel: Instance-Level Task Parameters: A Robust Multi-task Weighting Framework,
    2021, arXiv 2106.06129.

    Args:
        lr: learning rate of s.
        momentum: at least 0 and below 1.
        clamp: largest |s|.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"lr": Range(0.5, 32, log=True)}

    needs_index = True

    def __init__(self, lr: float = 4.0, momentum: float = 0.9, clamp: float = 4.0) -> None:
        super().__init__()
        if lr <= 0:
            raise ValueError(f"lr must be above 0, but is {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, but is {momentum}")
        if clamp <= 0:
            raise ValueError(f"clamp must be above 0, but is {clamp}")
        self.lr, self.momentum, self.clamp = lr, momentum, clamp

    def start(self, setting: Setting) -> None:
        setting.require_instances("parameter")
        self.table = setting.instance_table(2)  # s and its velocity
        self.register_buffer("scale", setting.per_kind(classification=1.0, regression=0.5))

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        s, velocity = self.table.read(index).unbind(1)
        weights = self.get_buffer("scale") * torch.exp(-s)

        gradient = torch.where(present, 1 - weights * losses, 0) / present.sum(0).clamp(min=1)
        gradient, times = sum_repeats(index, gradient, present)

        new_velocity = self.momentum * velocity + gradient
        new_s = (s - self.lr * new_velocity).clamp(-self.clamp, self.clamp)
        moves = times > 0
        rows = [torch.where(moves, new_s, s), torch.where(moves, new_velocity, velocity)]
        self.table.write(index, torch.stack(rows, dim=1))
        return weights

    def log_variances(self) -> Tensor:
        return self.table.column(0)
