"""Minimum-norm weighting from two samples, without bias."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import GradientWeighting, Setting, register_strategy, where_finite
from mtlbench.strategies.gradients import Jacobian, TaskLosses, readable
from mtlbench.strategies.moco import move_on_simplex
from mtlbench.strategies.network import Network


@register_strategy("modo", label="MoDo")
class DoubleSampling(GradientWeighting):
    """Moves weights to the smallest combination, told by two samples (Chen et al. 2023).

        λ ← Π(λ − γ (J_1 J_2ᵀ + ρ I) λ)
        update = Jᵀ λ

    with J_1 and J_2 [K, P] the gradients of the tasks over two halves of the batch, which are drawn
    anew for each, J those over the whole batch, and Π the projection onto λ ≥ 0, Σ_k λ_k = 1. The
    noise of two samples is independent, so that J_1 J_2ᵀ is right on average, where J Jᵀ is too
    large by the noise of each gradient. λ begins at 1/K. A task without a label in the batch
    keeps λ_k and has no part in the update, one without a label in one of the halves keeps λ_k; the
    λ of the others move among themselves. A step takes two backward passes a task.

    Departs from the authors' code: that draws two batches a step, of which both lead to the
    update, as here the halves of one do.

    Chen, Fernando, Ying, Chen: Three-Way Trade-Off in Multi-Objective Learning: Optimization,
    Generalization and Conflict-Avoidance, NeurIPS 2023, Algorithm 1.

    Args:
        gamma: γ, above 0: step size of λ; authors' code.
        rho: ρ, at least 0: pulls λ to equal weights; authors' code.

    Raises:
        ValueError: a parameter out of its range.
    """

    own_gradients = True

    space: ClassVar = {"gamma": Range(1e-3, 10, log=True)}

    def __init__(self, gamma: float = 0.1, rho: float = 0.1) -> None:
        super().__init__()
        if gamma <= 0:
            raise ValueError(f"gamma must be above 0, but is {gamma}")
        if rho < 0:
            raise ValueError(f"rho must be at least 0, but is {rho}")
        self.gamma, self.rho = gamma, rho

    def start(self, setting: Setting) -> None:
        tasks = len(setting.tasks)
        self.register_buffer("lambdas", setting.tensor([1 / tasks] * tasks))
        self._generator = setting.generator

    def backward(self, losses: TaskLosses, network: Network) -> Tensor:
        drawn = self._generator.get_state()
        first, second = self._halves(losses, network)
        gradients = zip(
            network.task_gradients(first, keep_graph=True),
            network.task_gradients(second, more=True),
            strict=True,
        )
        with torch.no_grad():
            # What each half adds to the gradients of the batch, one below the other [2K, P].
            jacobian = Jacobian(
                [(tensor, (*one, *other)) for (tensor, one), (_, other) in gradients],
                torch.cat([losses.values, losses.values]),
                scale=losses.scale,
                ranks=network.ranks,
            )
            tasks = len(losses.tasks)
            products = jacobian.gramian(torch.float64)[:tasks, tasks:]
            parts = torch.stack([half.instance_weights.sum(0) for half in (first, second)])
            if network.ranks is not None:
                parts = network.ranks.sum(parts)
            one, other = (parts / parts.sum(0)).to(products)  # of each task's labels
            both = losses.present & (one > 0) & (other > 0)
            products = products / torch.where(both, one, 1)[:, None] / torch.where(both, other, 1)
            lambdas = where_finite(products, replace(losses, present=both), self.weights)
            weights = torch.where(losses.present, lambdas, 0)
            network.add_update(jacobian.weighted(torch.cat([weights, weights])))
        if readable(weights) and not weights.isfinite().all().numpy():
            self._generator.set_state(drawn)
        return weights

    def _halves(self, losses: TaskLosses, network: Network) -> tuple[TaskLosses, TaskLosses]:
        """The losses of two halves of the batch: 0 is the weight of an instance in the other.

        Raises:
            ValueError: it cannot be halved.
        """
        weights = losses.instance_weights
        sizes, rank = [len(weights)], 0
        if network.ranks is not None:
            sizes = network.ranks.gather_numbers(len(weights), weights.device)
            rank = network.ranks.rank
        if sum(sizes) < 2:
            raise ValueError(
                "two losses a task are needed, of two instances, and not their mean: this strategy "
                "takes the gradients of two halves of a batch"
            )
        order = torch.randperm(sum(sizes), generator=self._generator).split(sizes)[rank]
        mine = (order % 2 == 0).to(weights.device, non_blocking=True)[:, None]
        return losses.weighed(weights * mine), losses.weighed(weights * ~mine)

    def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        """λ [K] after a step of those that have a label in both halves, from J_1 J_2ᵀ [K, K]."""
        lambdas = self.get_buffer("lambdas")
        mine = torch.where(present, lambdas, 0).to(gramian)
        slope = gramian @ mine + self.rho * mine
        steeper = slope - torch.where(present, slope, torch.inf).min()
        move_on_simplex(lambdas, self.gamma * steeper, present)
        return lambdas.clone()
