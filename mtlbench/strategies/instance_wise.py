"""Weights of every loss of every instance, from their gradients."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import GradientWeighting, register_strategy
from mtlbench.strategies.gradients import (
    TaskGradients,
    TaskLosses,
    exponents_of,
    power_of_two,
)
from mtlbench.strategies.gramian import Array
from mtlbench.strategies.network import Network
from mtlbench.strategies.quadratic import minimize_nonnegative


@register_strategy("iwmtl", label="IWMTL")
class InstanceWiseMultiTask(GradientWeighting):
    """UPGrad of the losses of all instances and tasks, each for itself (Quinton & Rey 2024).

        d = 1/K Σ_bk π(g_bk),    π(x) = argmin ‖y − x‖  subject to  ⟨g_cj, y⟩ ≥ 0 for all c, j

        π(Jᵀ u) = Jᵀ v,    v = argmin vᵀ G v  subject to  v ≥ u

    g_bk is the gradient of instance b's part in the mean loss of task k, over the representation:
    what the shared layers give to the heads, from which the update goes on through them in one
    backward pass. There two instances have different numbers, so that their gradients are
    orthogonal and G = J Jᵀ / tr(J Jᵀ) + reg_eps I is block diagonal, with a block [K, K] an
    instance: the tasks of an instance are kept from conflicts with each other. Where heads look at
    several instances, as batch normalisation does, g_bk is the gradient of the whole mean loss
    over the numbers of instance b. Tasks without a label in the batch are left out of K; the
    weights of an epoch are means over the labels. The representation must have a row for each
    instance.

    Departs from the authors' code: that has G over the shared parameters, where the gradients of
    two instances may conflict, too. It takes B K backward passes, or a network of which each layer
    treats each instance by itself, without batch normalisation. There the heads' losses are
    weighed by v too.

    Quinton, Rey: Jacobian Descent for Multi-Objective Optimization, 2024, arXiv 2406.16232,
    Eq. 3 and Proposition 1; of all instances and tasks in their TorchJD, as IWMTL.

    Args:
        on: `representation`.
        reg_eps: what is added to the diagonal, above 0; 0.0001 in the authors' code.

    Raises:
        ValueError: a parameter out of its range.
    """

    needs_representation = True
    own_gradients = True

    space: ClassVar = {"reg_eps": Range(1e-6, 1e-2, log=True)}

    def __init__(
        self, on: Literal["representation"] = "representation", reg_eps: float = 1e-4
    ) -> None:
        super().__init__()
        if on != "representation":
            raise ValueError(f"on must be 'representation', but is {on!r}")
        if reg_eps <= 0:
            raise ValueError(f"reg_eps must be above 0, but is {reg_eps}")
        self.reg_eps = reg_eps

    def backward(self, losses: TaskLosses, network: Network) -> Tensor:
        features = network.detached_features()
        at_cuts = {id(leaf) for each in features for _, leaf in each.pairs()}
        shared = network.task_gradients(losses, features)
        over_leaves = [entry for entry in shared if id(entry[0]) in at_cuts]
        with torch.no_grad():
            gramians = self._gramians(over_leaves, losses, network)
            weights = self._weights(gramians, losses.present).to(losses.values)
            update = []
            for tensor, by_task in shared:
                some = [(k, g) for k, g in enumerate(by_task) if g is not None]
                if id(tensor) in at_cuts:
                    some = [(k, weights[:, k].view(-1, *(1,) * (g.ndim - 1)) * g) for k, g in some]
                update.append((tensor, torch.stack([g for _, g in some]).sum(0).to(tensor.dtype)))
            network.add_update(update, features, scale=losses.scale)
            return self._means(weights, losses, network)

    def _gramians(
        self, over_leaves: Sequence[TaskGradients], losses: TaskLosses, network: Network
    ) -> Tensor:
        """G of each instance of this rank [b, K, K], without reg_eps."""
        batch, tasks = losses.instance_weights.shape
        gramians = losses.values.new_zeros(batch, tasks, tasks)
        largest = losses.values.new_zeros(())
        rows = []
        for leaf, by_task in over_leaves:
            if leaf.ndim == 0 or len(leaf) != batch:
                raise ValueError(
                    f"the representation must have a row for each of {batch} instances, but has "
                    f"shape {tuple(leaf.shape)}"
                )
            zeros = torch.zeros_like(leaf)
            row = torch.stack([zeros if g is None else g for g in by_task], 1).to(gramians)
            rows.append(row.flatten(2))
            if row.numel():
                largest = torch.maximum(largest, row.abs().amax())
        if network.ranks is not None:
            largest = network.ranks.largest(largest)
        unit = power_of_two(exponents_of(largest), largest.dtype)
        for row in rows:
            scaled = row / unit
            gramians += scaled @ scaled.mT
        trace = gramians.diagonal(dim1=1, dim2=2).sum()
        if network.ranks is not None:
            trace = network.ranks.sum(trace)
        return gramians / torch.where(trace == 0, 1, trace)

    def _weights(self, gramians: Tensor, present: Tensor) -> Tensor:
        """v [b, K]."""
        tasks = len(present)
        both = torch.cat([gramians.double(), present.double().expand(1, tasks, tasks)])
        brought = both.cpu().numpy()  # one wait for the device, and not two
        blocks, here = brought[:-1], brought[-1, 0]
        if not np.isfinite(blocks).all():
            return torch.full_like(gramians[:, 0], torch.nan)
        regular: Array = blocks + self.reg_eps * np.eye(tasks)
        preferences = np.diag(here / max(here.sum(), 1))
        # v = u + x with the x ≥ 0 that makes Jᵀ v shortest
        x = minimize_nonnegative(regular, -preferences @ regular)
        return torch.from_numpy((preferences + x).sum(1)).to(gramians.device, non_blocking=True)

    def _means(self, weights: Tensor, losses: TaskLosses, network: Network) -> Tensor:
        """The means of v over the labels of each task [K], as the losses count them."""
        sums = torch.stack(
            [(weights * losses.instance_weights).sum(0), losses.instance_weights.sum(0)]
        )
        if network.ranks is not None:
            sums = network.ranks.sum(sums)
        means = sums[0] / torch.where(sums[1] == 0, 1, sums[1])
        return torch.where(losses.present, means, 0)
