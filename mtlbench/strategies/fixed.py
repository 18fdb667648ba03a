"""Weights that do not change: equal, and set by hand."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import TaskWeights
from mtlbench.strategies.base import LossWeighting, Setting, register_strategy


@register_strategy("equal", label="Eq. Weight")
class Equal(LossWeighting):
    """The sum of the task losses."""

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        return torch.ones_like(losses)


@register_strategy("static", label="Static")
class Static(LossWeighting):
    """Weights set by hand.

    Args:
        weights: task name to weight, at least 0; 1 for a task that is not named.
    """

    space: ClassVar = {"weights": TaskWeights()}

    def __init__(self, weights: dict[str, float] = {}) -> None:  # noqa: B006 (never changed)
        super().__init__()
        self.by_task: Mapping[str, float] = weights

    def start(self, setting: Setting) -> None:
        self.register_buffer("fixed", setting.per_task(self.by_task, "weight"))

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        return self.get_buffer("fixed")
