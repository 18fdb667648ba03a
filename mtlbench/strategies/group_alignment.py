"""Weights that groups of tasks share."""

from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import LossWeighting, Setting, register_strategy
from mtlbench.strategies.gradients import units
from mtlbench.strategies.scalarizations import invert, softmax_over


@register_strategy("go4align", label="GO4Align")
class GroupAlignment(LossWeighting):
    """Clusters the tasks and gives each cluster one weight (Shen et al. 2024).

        w_k = mean of a_j over the group of k

        a_k = p_k Σ_j L_j / L_k,    p = softmax(−η Σ_t L(t))

    p_k falls with the losses that task k has had in all batches so far, η being the step size;
    Σ L / L_k brings losses of different sizes to one scale. The groups are those of K-means over
    the numbers a. All sums are over the tasks that have a label in the batch; a batch without
    a label adds nothing to a task's p. Losses must be positive; a task whose loss is 0 has
    weight 0.

    Departs from the authors' code: groups are those with the smallest sum of squares of all,
    found among all cuts of the sorted numbers, where that iterates from random centres.

    Shen, Wang, Xiao, van Noord, Worring: GO4Align: Group Optimization for Multi-Task Alignment,
    NeurIPS 2024, Section 3; equations as in the authors' code.

    Args:
        groups: most groups, at least 1; 2 in the paper for three tasks, 5 for eleven.
        step_size: η, at least 0; 0.0001 in the authors' code.

    Raises:
        ValueError: a parameter out of its range.
    """

    least_loss = 0.0

    space: ClassVar = {"step_size": Range(1e-5, 1e-2, log=True)}

    def __init__(self, groups: int = 2, step_size: float = 1e-4) -> None:
        super().__init__()
        if groups < 1:
            raise ValueError(f"groups must be at least 1, but is {groups}")
        if step_size < 0:
            raise ValueError(f"step_size must be at least 0, but is {step_size}")
        self.groups, self.step_size = groups, step_size

    def start(self, setting: Setting) -> None:
        tasks = len(setting.tasks)
        self.register_buffer("total", setting.tensor([0.0] * tasks))
        self.most_groups = min(self.groups, tasks)

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        total = self.get_buffer("total")
        total += torch.where(present, losses, 0)
        counted = present & (losses > 0)
        sum_of_losses = torch.where(counted, losses, 0).sum()
        scaled = softmax_over(counted, -self.step_size * total) * sum_of_losses * invert(losses)
        return self._group_means(scaled, counted)

    def _group_means(self, values: Tensor, counted: Tensor) -> Tensor:
        """The mean [K] of the group that each counted value belongs to, 0 for the others."""
        ordered, order = torch.where(counted, values, float("inf")).sort()
        here = counted[order]
        middle = torch.where(counted, values, 0).sum() / counted.sum().clamp(min=1)
        distance = torch.where(here, ordered - middle, 0)

        # Of the run from place i to j [K, K], counted values alone.
        upwards = torch.ones_like(values).expand(len(values), -1).triu()
        sizes = ((upwards * here) @ upwards).clamp(min=1)
        sums = (upwards * distance) @ upwards
        # Σ (x − mean of its group)² is smallest where Σ n (mean of group)² is largest.
        unit = units(distance[None])
        gain = torch.where(upwards > 0, (sums / unit).square() / sizes, -torch.inf)
        means = sums / sizes
        return torch.zeros_like(values).scatter(
            0, order, (_means_of_best_runs(means, gain, self.most_groups) + middle) * here
        )


def _means_of_best_runs(means: Tensor, gain: Tensor, groups: int) -> Tensor:
    """The mean at each place [K], cut into so many runs that the sum of their gains is largest.

    By dynamic programming: of the best cuts of the places up to j into one group less, one goes on.
    No step waits for the device.

    Args:
        means: of the run from place i to j [K, K].
        gain: of the run from place i to j [K, K], −∞ where there is none.
        groups: at most K.
    """
    places = torch.arange(len(gain), device=gain.device)
    best, first_of_last = gain[0], []
    for _ in range(groups - 1):
        one_more = gain[1:] + best[:-1, None]
        first = one_more.argmax(0, keepdim=True)
        best = one_more.gather(0, first)[0]
        first_of_last.append(first[0] + 1)
    result, last = torch.zeros_like(best), places[-1:]
    for first in [*reversed(first_of_last), torch.zeros_like(places)]:
        start = first.gather(0, last)
        mean = means.index_select(0, start).index_select(1, last)[0]
        result = torch.where((start <= places) & (places <= last), mean, result)
        last = start - 1
    return result
