"""Weighting by how fast each loss falls."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import LossWeighting, Setting, register_strategy


@register_strategy("dwa", label="DWA")
class DynamicWeightAverage(LossWeighting):
    """Gives more weight to tasks whose loss falls more slowly (Liu et al. 2019).

        w_k = λ_k K softmax_k(r_k / T),    r_k = L_k(t−1) / L_k(t−2)

    with epoch-mean losses L_k(t), r_k = 1 in the first two epochs and for a task that had no
    label in one of the two, T the temperature and λ_k a fixed scale of each loss.

    Departs from the authors' code: L_k(t) is the mean over the labels of an epoch, where that has
    the mean over its batches, which counts a label in a small batch for more.

    Liu, Johns, Davison: End-to-End Multi-Task Learning with Attention, CVPR 2019, Eq. 7.

    Args:
        temperature: T, above 0; the larger, the more equal the weights.
        scales: task name to λ, at least 0; 1 for a task that is not named.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"temperature": Range(0.5, 5, log=True)}

    def __init__(self, temperature: float = 2.0, scales: dict[str, float] = {}) -> None:  # noqa: B006 (never changed)
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, but is {temperature}")
        self.temperature = temperature
        self.scales = scales

    def start(self, setting: Setting) -> None:
        unknown = setting.tensor([float("nan")] * len(setting.tasks))
        self.register_buffer("scale", setting.per_task(self.scales, "scale"))
        self.register_buffer("last", unknown)
        self.register_buffer("before_last", unknown.clone())

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        ratio = self.get_buffer("last") / self.get_buffer("before_last")
        ratio = torch.where(ratio.isfinite(), ratio, 1.0)
        return self.get_buffer("scale") * len(losses) * torch.softmax(ratio / self.temperature, 0)

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        self.get_buffer("before_last").copy_(self.get_buffer("last"))
        self.get_buffer("last").copy_(losses)
