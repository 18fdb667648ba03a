"""One sign for each shared parameter, chosen at random."""

from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import GradientWeighting, Setting, register_strategy


@register_strategy("graddrop", label="GradDrop")
class GradientSignDropout(GradientWeighting):
    """Keeps the gradients of one sign, drawn for each parameter (Chen et al. 2020).

        p = ½ (1 + Σ_k g_k / Σ_k |g_k|),    u uniform in [0, 1)
        m_k = 1[p > u] 1[g_k > 0] + 1[p ≤ u] 1[g_k < 0]
        update = Σ_k (λ + (1 − λ) m_k) g_k

    for each of the P shared parameters by itself: g_k is the gradient of task k, p the purity of
    the positive sign. The expected update is the plain sum of the gradients. A task without a
    label in the batch has a gradient of 0, which changes neither p nor the update. The P numbers
    u are drawn on the CPU, so that a run draws the same ones on any device.

    Departs from the authors' code: that masks the gradients of one layer's outputs by the signs of
    gradient times output, summed over the batch, and scales the result to the length of the plain
    sum; here as in TorchJD the gradients themselves are masked, and not scaled.

    Chen, Ngiam, Huang, Luong, Kretzschmar, Chai, Anguelov: Just Pick a Sign: Optimizing Deep
    Multitask Models with Gradient Sign Dropout, NeurIPS 2020, Eq. 1 and Algorithm 1.

    Args:
        leak: λ, from 0 to 1: the part of each gradient that is never dropped; 0 in the paper's
            experiments and in LibMTL, 1 for the plain sum.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"leak": Range(0, 0.9)}

    def __init__(self, leak: float = 0.0) -> None:
        super().__init__()
        if not 0 <= leak <= 1:
            raise ValueError(f"leak must be from 0 to 1, but is {leak}")
        self.leak = leak

    def start(self, setting: Setting) -> None:
        self.generator = setting.generator

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        positive = torch.zeros_like(jacobian[0])
        negative = torch.zeros_like(positive)
        for row in jacobian:
            positive += row.clamp(min=0)
            negative += row.clamp(max=0)
        purity = positive / (positive - negative)
        # From pinned memory: another copy would wait for all that the device has still to do.
        chance = torch.empty(len(purity), dtype=purity.dtype, pin_memory=purity.is_cuda)
        chance.uniform_(generator=self.generator)
        # Where all gradients are 0 the purity is NaN, and what is kept is 0 either way.
        kept = torch.where(purity > chance.to(purity.device, non_blocking=True), positive, negative)
        return self.leak * (positive + negative) + (1 - self.leak) * kept
