"""The shortest common direction, drawn towards the mean gradient."""

from typing import ClassVar

import numpy as np
import torch

from mtlbench.space import Range
from mtlbench.strategies.base import Setting, register_strategy
from mtlbench.strategies.gramian import Array, GramianWeighting

LARGE = 2.0**20


@register_strategy("sdmgrad", label="SDMGrad")
class DirectionOrientedGradient(GramianWeighting):
    """The smallest combination of the gradients near their mean (Xiao et al. 2023).

        d = Jᵀ (w + λ/K) / (1 + λ)

        w ← Π(w − lr v),    v ← momentum v + G (w + λ/K) / s²,    s = 1/K Σ_k ‖g_k‖

    g_k are the gradients, rows of J, G = J Jᵀ is their Gramian and Π the projection onto w ≥ 0,
    Σ w = 1. Each batch takes some steps towards argmin ‖Jᵀ (w + λ/K)‖², from v = 0 and the w of
    the last batch, 1/K at first. Sums are over the tasks with a label in the batch, K of them;
    they share out among themselves what they had of w, and the others keep theirs.

    Departs from the authors' code: all gradients are of one batch, where that takes two batches
    for G and a third for d, so that G is without bias; and d is neither multiplied by K nor cut to
    length 1, which the paper does not mention.

    Xiao, Ban, Ji: Direction-oriented Multi-objective Learning: Simple and Provable Stochastic
    Algorithms, NeurIPS 2023, Algorithm 1; s and momentum as in the authors' code.

    Args:
        regularization: λ, at least 0; 0 gives MGDA's direction, large values the mean gradient;
            0.3 in LibMTL and TorchJD.
        lr: learning rate of w, above 0; 10 in TorchJD, 5 in LibMTL.
        momentum: at least 0 and below 1; 0.5 in LibMTL and TorchJD.
        steps: steps of w for each batch, at least 1; 20 in LibMTL and TorchJD.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"regularization": Range(0.1, 10, log=True)}

    def __init__(
        self,
        regularization: float = 0.3,
        lr: float = 10.0,
        momentum: float = 0.5,
        steps: int = 20,
    ) -> None:
        super().__init__()
        if regularization < 0:
            raise ValueError(f"regularization must be at least 0, but is {regularization}")
        if lr <= 0:
            raise ValueError(f"lr must be above 0, but is {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, but is {momentum}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, but is {steps}")
        self.regularization, self.lr = regularization, lr
        self.momentum, self.steps = momentum, steps

    def start(self, setting: Setting) -> None:
        super().start(setting)
        tasks = len(setting.tasks)
        self.register_buffer("shares", torch.full((tasks,), 1 / tasks, dtype=setting.dtype))

    def solve(self, gramian: Array, losses: Array) -> Array:
        shares = self.get_buffer("shares").numpy()
        total = shares[self.here].sum()
        pull = self.regularization / len(gramian)
        scale = np.sqrt(gramian.diagonal()).mean()
        scaled = gramian / scale**2 if scale > 0 else gramian

        w = project_onto_simplex(shares[self.here].astype(np.float64) / (total or 1))
        velocity = np.zeros_like(w)
        for _ in range(self.steps):
            velocity = self.momentum * velocity + scaled @ (w + pull)
            w = project_onto_simplex(w - self.lr * velocity)
        shares[self.here] = total * w
        return (w + pull) / (1 + self.regularization)


def project_onto_simplex(point: Array) -> Array:
    """The nearest point with coordinates of at least 0 that sum to 1."""
    # A common shift makes no difference, but beside large numbers the 1 would be lost.
    point = point - LARGE * np.trunc(point.max() / LARGE)
    total, excess = -1.0, 0.0
    for count, value in enumerate(sorted(point.tolist(), reverse=True), 1):
        total += value
        if value * count <= total:
            break
        excess = total / count
    return np.maximum(point - excess, 0)
