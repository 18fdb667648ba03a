"""Losses that large errors pull less on."""

from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import InstanceStage, Setting, register_strategy

MEDIAN_OF_NORMAL = 0.6745
"""Median of |r| where r is normal with standard deviation 1."""


@register_strategy("robust", label="Robust Loss")
class RobustLoss(InstanceStage):
    """Weighs each loss as robust losses do (Zhang & Sabuncu 2018, Huber 1964).

        classification    v = p^q = e^(−q ℓ),             ∇ (1 − p^q) / q = v ∇ℓ with ℓ = −log p
        regression        v = min(1, δ s / √ℓ),           ∇ 2 ρ_δs(r) = v ∇ℓ with ℓ = r²

    the generalised cross entropy, between cross entropy (q = 0) and absolute error (q = 1), and
    the ρ of Huber (Robust Estimation of a Location Parameter, Annals of Mathematical Statistics
    1964), which is ½ r² up to the corner δ s and linear beyond it. For a map of labels, or a
    label of several numbers, ℓ is the mean over the instance: p is then a geometric mean, and r a
    root mean square. The task stage sees the means of v ℓ. A regression task's scale s is a running
    mean of the medians of √ℓ over each batch's present labels, divided by 0.6745, which makes it
    the standard deviation of normal errors. Losses of 0 are not counted, and a batch without a
    label leaves s as it is.

    Zhang, Sabuncu: Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy
    Labels, NeurIPS 2018, Sec. 3.2.

    Args:
        q: above 0 and at most 1; the default is the paper's.
        delta: the corner δ, above 0; 1.345 loses 5 % of efficiency where errors are normal
            (Holland & Welsch 1977).
        momentum: how much of s stays in a step, at least 0 and below 1.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"q": Range(0.1, 1), "delta": Range(0.5, 5, log=True)}

    needs_index = False

    def __init__(self, q: float = 0.7, delta: float = 1.345, momentum: float = 0.9) -> None:
        super().__init__()
        if not 0 < q <= 1:
            raise ValueError(f"q must be above 0 and at most 1, but is {q}")
        if delta <= 0:
            raise ValueError(f"delta must be above 0, but is {delta}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, but is {momentum}")
        self.q, self.delta, self.momentum = q, delta, momentum

    def start(self, setting: Setting) -> None:
        self.register_buffer("classifies", setting.per_kind(classification=1, regression=0))
        self.register_buffer("scale", setting.tensor([0.0] * len(setting.tasks)))  # 0: none yet

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        classifies, scale = self.get_buffer("classifies") > 0, self.get_buffer("scale")
        root = losses.clamp(min=0).sqrt()
        counted = present & (root > 0) & ~classifies
        median = torch.where(counted, root, torch.nan).nanmedian(0).values / MEDIAN_OF_NORMAL
        moved = torch.where(scale > 0, torch.lerp(median, scale, self.momentum), median)
        scale.copy_(torch.where(counted.any(0), moved, scale))
        huber = torch.where(root > 0, (self.delta * scale / root).clamp(max=1), 1)
        return torch.where(classifies, torch.exp(-self.q * losses), huber)
