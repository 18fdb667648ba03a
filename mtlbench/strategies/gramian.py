"""Gradient weightings that TorchJD provides, through one adapter."""

import torch
from torch import Tensor
from torchjd.aggregation import MGDAWeighting, PCGradWeighting, Weighting

from mtlbench.randomness import global_draws_from
from mtlbench.registry import register_strategy
from mtlbench.strategies.base import GradientWeighting, Setting


class TorchJDWeighting(GradientWeighting):
    """Weighs by a TorchJD weighting of the Gramian.

    Tasks without a label in the batch are left out of the Gramian: their zero gradient would
    otherwise count as a gradient (MGDA would give it all the weight). TorchJD draws from PyTorch's
    global generator; here it draws from the strategy's own.
    """

    def __init__(self, weighting: Weighting) -> None:
        super().__init__()
        self.weighting = weighting

    def start(self, setting: Setting) -> None:
        self.generator = setting.generator

    def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        weights = torch.zeros_like(gramian[0])
        (rows,) = present.nonzero(as_tuple=True)
        if len(rows):
            with global_draws_from(self.generator):
                weights[rows] = self.weighting(gramian[rows][:, rows])
        return weights


@register_strategy("mgda", label="MGDA")
class MultipleGradientDescent(TorchJDWeighting):
    """The smallest convex combination of the gradients (Sener & Koltun 2018).

        w = argmin ‖Jᵀ w‖²  subject to  w ≥ 0, Σ w = 1

    by Frank-Wolfe (Algorithm 2), as TorchJD has it.

    Sener, Koltun: Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018.

    Args:
        epsilon: step length below which the search stops, above 0.
        max_iters: most steps of the search, above 0.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, epsilon: float = 1e-3, max_iters: int = 100) -> None:
        super().__init__(MGDAWeighting(epsilon=epsilon, max_iters=max_iters))


@register_strategy("pcgrad", label="PCGrad")
class ProjectingConflictingGradients(TorchJDWeighting):
    """Projects each gradient off those it conflicts with, in random order (Yu et al. 2020).

    The update is the sum of the projected gradients (Algorithm 1), as TorchJD has it.

    Yu et al.: Gradient Surgery for Multi-Task Learning, NeurIPS 2020.
    """

    def __init__(self) -> None:
        super().__init__(PCGradWeighting())
