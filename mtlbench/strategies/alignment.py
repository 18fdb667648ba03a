"""Instances weighed by how far their gradients agree with those of held-out losses."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtlbench.strategies.base import InstanceStage, Setting, register_strategy
from mtlbench.strategies.gradients import TaskLosses
from mtlbench.strategies.held_out import HeldOut, explaining_refusals, inner

Direction = Sequence[Tensor | None]
"""A gradient over the network's parameters, None where it is 0."""


class GradientAlignment(InstanceStage):
    """Base of stages that weigh by ⟨∇ℓ_ik, d_k⟩, with a direction d_k for each task k.

    The products are the derivatives of ⟨Jᵀ u, d⟩ by u, with J the gradients of the losses: two
    backward passes for each direction, and not one for each instance.
    """

    held_out = True
    over_ranks = True
    needs_index = False

    def start(self, setting: Setting) -> None:
        self._products: Tensor | None = None
        self._dtype, self._ranks = setting.dtype, setting.ranks

    def directions(
        self, held: Mapping[str, Tensor], held_out: HeldOut
    ) -> list[tuple[Sequence[str], Direction]]:
        """Directions from the held-out losses, each with the tasks that have it."""
        raise TypeError(f"{type(self).__name__} must define directions")

    def look(self, losses: TaskLosses) -> None:
        held_out = losses.held_out
        assert held_out is not None
        vectors = dict(zip(losses.tasks, losses.vectors, strict=True))
        columns = {
            task: torch.full_like(vector, torch.nan, requires_grad=False)
            for task, vector in vectors.items()
        }
        with held_out.losses() as held:
            directions = self.directions(held, held_out)
        with explaining_refusals():
            for tasks, direction in directions:
                some = [task for task in tasks if vectors[task].requires_grad]
                found = _products([vectors[t] for t in some], held_out.parameters, direction)
                columns |= zip(some, found, strict=True)
        self._products = torch.stack([each.to(self._dtype) for each in columns.values()], 1)
        if self._ranks is not None:
            (self._products,), _ = self._ranks.gather(self._products)

    def aligned(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """The products where they are above 0 and a label is there, 0 elsewhere, [B, K]; and of
        which tasks they say anything, bool [K]."""
        assert self._products is not None
        products, self._products = self._products, None
        told = (products.isfinite() | ~present).all(0)
        return torch.where(present & told, products, 0).clamp(min=0), told


@register_strategy("l2rw", label="L2RW")
class LearningToReweight(GradientAlignment):
    """Weighs instances by how far they lower held-out losses (Ren et al. 2018).

        u_i = max(0, ⟨∇ℓ_i, ∇H⟩)
        v_i = n u_i / Σ_j u_j

    for each task apart, over the n labels of the batch, with H the task's loss on a held-out
    batch: −⟨∇ℓ_i, ∇H⟩ is the derivative of H by the weight of an instance, after a step of
    gradient descent in which all weights are 0. Gradients are those over all parameters of the
    network. Where no instance lowers H, the task learns nothing of the batch; where H says
    nothing, because the held-out batch has no label of the task or a gradient is not finite, it
    has the plain mean. Nothing is remembered from step to step, and nothing is there to be tuned,
    as in the paper.

    It sees validation labels, which are never corrupted here: where training labels are wrong, an
    advantage that most other strategies do not have. Parameters that are chosen by the same labels
    look better than they are.

    Departs from the authors' code: there is one task there; here held-out batches are as large as
    those of training.

    Ren, Zeng, Yang, Urtasun: Learning to Reweight Examples for Robust Deep Learning, ICML 2018,
    Algorithm 1.
    """

    def directions(
        self, held: Mapping[str, Tensor], held_out: HeldOut
    ) -> list[tuple[Sequence[str], Direction]]:
        return [([task], _in_unit(held_out.gradient(loss))) for task, loss in held.items()]

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        u, told = self.aligned(present)
        largest = u.amax(0)
        u = u / torch.where(largest > 0, largest, 1)  # whose sum is finite
        v = u * present.sum(0) / u.sum(0).clamp(min=1)
        return torch.where(told, v, 1)


@register_strategy("slgrad", label="SLGrad")
class SampleLevelGradients(GradientAlignment):
    """Weighs instances of all tasks by one held-out loss (Grégoire et al. 2023).

        u_ik = max(0, ⟨∇ℓ_ik, ∇ Σ_j p_j H_j⟩)
        v_ik = K n_k u_ik / Σ_jl u_jl

    over the instances i and tasks k of a batch with n_k labels of task k, with H_j the loss of
    task j on a held-out batch: weights of instances and of tasks in one. p is 1 for a main task
    and 0 for an auxiliary one. Of an auxiliary task only the gradient over the shared parameters
    counts, since a main task's loss has none over its head. Where no instance lowers the held-out
    loss, nothing is learned; a task whose gradients are not finite has the plain mean. Nothing is
    remembered from step to step. p says what is asked for and is not tuned.

    It sees validation labels, which are never corrupted here: where training labels are wrong, an
    advantage that most other strategies do not have. Parameters that are chosen by the same labels
    look better than they are.

    Departs from the authors' code: there the weights of a batch sum to 1, and not to K as equal
    ones do; gradients are those at the network as it is, where they first take a step; those over
    the head of a main task count, too. As there, the product is that of the gradients and not of
    their directions, and the held-out loss stands for a metric.

    Grégoire, Chaudhary, Verboven: Sample-Level Weighting for Multi-Task Learning with Auxiliary
    Tasks, arXiv:2306.04519, 2023.

    Args:
        primary: p of each task, at least 0; 1 for a task that is not named.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, primary: dict[str, float] = {}) -> None:  # noqa: B006 (never changed)
        super().__init__()
        self.primary: Mapping[str, float] = primary

    def start(self, setting: Setting) -> None:
        super().start(setting)
        importance = setting.per_task(self.primary, "primary").tolist()
        self._importance = dict(zip(setting.tasks, importance, strict=True))

    def directions(
        self, held: Mapping[str, Tensor], held_out: HeldOut
    ) -> list[tuple[Sequence[str], Direction]]:
        total = torch.stack([self._importance[task] * loss for task, loss in held.items()]).sum()
        return [(list(self._importance), _in_unit(held_out.gradient(total)))]

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        u, told = self.aligned(present)
        largest = u.max()
        u = u / torch.where(largest > 0, largest, 1)
        v = u * present.sum(0) * u.shape[1] / u.sum().clamp(min=1)
        return torch.where(told, v, 1)


def _in_unit(gradient: Direction) -> Direction:
    """The gradient of a held-out loss, in the unit of its largest number: only the ratios of
    products count, and squares of large gradients are infinite."""
    sizes = [g.abs().max().float() for g in gradient if g is not None and g.numel()]
    if not sizes:
        return gradient
    largest = torch.stack([size.to(sizes[0].device) for size in sizes]).max()
    return [None if g is None else g / largest.to(g.device) for g in gradient]


def _products(
    vectors: Sequence[Tensor], parameters: Sequence[Tensor], direction: Direction
) -> list[Tensor]:
    """⟨∇ℓ_ik, d⟩ of the losses [B] of some tasks, [B] of each."""
    pairs = [(p, d) for p, d in zip(parameters, direction, strict=True) if d is not None]
    us = [torch.ones_like(vector, requires_grad=True) for vector in vectors]
    if not us or not pairs:
        return [torch.zeros_like(u) for u in us]
    over, along = zip(*pairs, strict=True)
    return derivatives(us, weighed_gradient(vectors, us, over), along)


def weighed_gradient(
    vectors: Sequence[Tensor], us: Sequence[Tensor], parameters: Sequence[Tensor]
) -> Direction:
    """Σ_ik u_ik ∇ℓ_ik of losses [B] of some tasks, differentiable in the weights u [B] of each."""
    if not vectors:
        return [None] * len(parameters)
    return torch.autograd.grad(vectors, parameters, us, create_graph=True, allow_unused=True)


def derivatives(us: Sequence[Tensor], gradient: Direction, direction: Direction) -> list[Tensor]:
    """∂⟨gradient, direction⟩/∂u of such a gradient, [B] of each task: ⟨∇ℓ_ik, direction⟩."""
    product = inner(gradient, direction)
    if product is None:
        return [torch.zeros_like(u) for u in us]
    return list(torch.autograd.grad(product, us, allow_unused=True, materialize_grads=True))
