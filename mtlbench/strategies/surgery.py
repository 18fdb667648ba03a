"""Each gradient changed by those that it meets, in random order."""

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from mtlbench.space import Range
from mtlbench.strategies.base import Setting, register_strategy
from mtlbench.strategies.gramian import Array, GramianWeighting, invert

LARGEST_TARGET = 0.9999
"""A correction towards a larger cosine would lengthen a gradient more than 70 times."""


class SurgeryWeighting(GramianWeighting):
    """Draws the order in which each gradient meets the others."""

    def start(self, setting: Setting) -> None:
        super().start(setting)
        self.generator = setting.generator

    def draw(self, count: int) -> NDArray[np.int64]:
        """A random order of 0 … count − 1."""
        return torch.randperm(count, generator=self.generator).numpy()


@register_strategy("pcgrad", label="PCGrad")
class ProjectingConflictingGradients(SurgeryWeighting):
    """Projects each gradient off those it conflicts with, in random order (Yu et al. 2020).

        g_i' ← g_i' − ⟨g_i', g_j⟩ / ‖g_j‖² g_j  where  ⟨g_i', g_j⟩ < 0,  for all j ≠ i

        d = Σ_i g_i'

    g_i' is at first the gradient g_i of task i, and meets the gradients of the other tasks in an
    order drawn anew for each task and batch. Tasks without a label in the batch are left out.

    Yu, Kumar, Gupta, Levine, Hausman, Finn: Gradient Surgery for Multi-Task Learning, NeurIPS
    2020, Algorithm 1.
    """

    def solve(self, gramian: Array, losses: Array) -> Array:
        tasks = np.arange(len(gramian))
        inverse = invert(gramian.diagonal())
        changed = np.eye(len(gramian))  # row i: the weights that make up g_i'
        orders = np.stack([self.draw(len(gramian)) for _ in tasks], axis=1)
        for met in orders:  # all tasks at once, each with the next one that it meets
            products = np.einsum("ij,ij->i", changed, gramian[met])
            conflict = np.where(met == tasks, 0, np.minimum(products, 0))
            changed[tasks, met] -= conflict * inverse[met]
        return changed.sum(0)


@register_strategy("gradvac", label="GradVac")
class GradientVaccine(SurgeryWeighting):
    """Turns each gradient towards the others, up to the usual cosine (Wang et al. 2021).

        g_i' ← g_i' + a g_j  where  φ < φ̂_ij,  for all j ≠ i,    φ = cos(g_i', g_j)

        a = ‖g_i'‖ (φ̂ √(1 − φ²) − φ √(1 − φ̂²)) / (‖g_j‖ √(1 − φ̂²))

        φ̂_ij ← (1 − beta) φ̂_ij + beta φ,    d = Σ_i g_i'

    g_i' is at first the gradient g_i of task i, and meets the gradients of the other tasks in an
    order drawn anew for each task and batch; a gives it the cosine φ̂_ij with g_j. φ̂ is 0 at
    first, where this is PCGrad. There is one φ̂ for each pair of tasks, over all shared
    parameters. Tasks without a label in the batch are left out, and φ̂ of a pair that did not meet,
    or of which one gradient is zero, stays as it is.

    Departs from the authors' code: there is none. φ̂ counts as at most 0.9999 in a, which has no
    bound as φ̂ goes to 1.

    Wang, Tsvetkov, Firat, Cao: Gradient Vaccine: Investigating and Improving Multi-task
    Optimization in Massively Multilingual Models, ICLR 2021, Algorithm 1.

    Args:
        beta: how fast φ̂ follows, at least 0 and at most 1; 0.5 in LibMTL and TorchJD.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"beta": Range(0.01, 0.9, log=True)}

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be at least 0 and at most 1, but is {beta}")
        self.beta = beta

    def start(self, setting: Setting) -> None:
        super().start(setting)
        tasks = len(setting.tasks)
        self.register_buffer("targets", torch.zeros(tasks, tasks, dtype=setting.dtype))

    def solve(self, gramian: Array, losses: Array) -> Array:
        count = len(gramian)
        tasks = np.arange(count)
        squares = gramian.diagonal()
        inverse = invert(np.sqrt(squares))
        changed = np.eye(count)  # row i: the weights that make up g_i'
        state = self.get_buffer("targets").numpy()
        targets = state[np.ix_(self.here, self.here)].astype(np.float64)
        orders = np.array([self.draw(count - 1) for _ in tasks]).T
        for order in orders:  # all tasks at once, each with the next one that it meets
            met = order + (order >= tasks)
            products = changed @ gramian
            square = np.einsum("ij,ij->i", changed, products)
            length = np.sqrt(np.where(square > count * self.resolution * squares, square, 0))
            known = (length > 0) & (squares[met] > 0)
            cosine = np.clip(products[tasks, met] * invert(length) * inverse[met], -1, 1)

            target = targets[tasks, met]
            aim = np.minimum(target, LARGEST_TARGET)
            tangent, aimed = np.sqrt(1 - cosine**2), np.sqrt(1 - aim**2)
            # No cosine is below an aim of −1.
            a = length * inverse[met] * (aim * tangent / np.where(aimed > 0, aimed, 1) - cosine)
            changed[tasks, met] += np.where(known & (cosine < aim), a, 0)
            moved = (1 - self.beta) * target + self.beta * cosine
            targets[tasks, met] = np.where(known, moved, target)
        state[np.ix_(self.here, self.here)] = targets
        return changed.sum(0)
