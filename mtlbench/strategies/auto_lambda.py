"""Task weights learned by what a step does to held-out losses."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from mtlbench.space import Range
from mtlbench.strategies.base import LossWeighting, Setting, register_strategy
from mtlbench.strategies.gradients import TaskLosses
from mtlbench.strategies.held_out import inner


@register_strategy("auto-lambda", label="Auto-Lambda")
class AutoLambda(LossWeighting):
    """Learns task weights that lower the losses of held-out labels (Liu et al. 2022).

        θ' = θ − α Σ_k λ_k ∇L_k(θ)
        ∂(Σ_j p_j H_j(θ')) / ∂λ_k = −α ⟨Σ_j p_j ∇H_j(θ'), ∇L_k(θ)⟩

    with H_j the loss of task j on a held-out batch and θ' a step of the network that is tried and
    taken back. The λ take a step of Adam on that in every batch, before the network is trained
    with them; they begin at a small value, have no bound and may become negative. p is 1, and 0
    for auxiliary tasks, for whose own sake nothing is learned. A task without a label in the batch
    keeps its λ, all keep theirs where a gradient is not finite.

    It sees validation labels, which are never corrupted here: where training labels are wrong, an
    advantage that most other strategies do not have. Parameters that are chosen by the same labels
    look better than they are.

    Departs from the authors' code: there the held-out batch is drawn from the training data, in
    another order, and may have wrong labels, too; the paper has a validation loss. The inner
    product is taken as it is, from a backward pass for each task, where they approximate it by
    the losses at two points on both sides of θ. The step that is tried is one of plain gradient
    descent at a constant rate; theirs has the learning rate, momentum and weight decay of the
    network's SGD.

    Liu, James, Davison, Johns: Auto-Lambda: Disentangling Dynamic Task Relationships, TMLR 2022.

    Args:
        lr: learning rate of λ, above 0; authors' code.
        initial: λ at first, above 0; authors' code.
        virtual_lr: α, above 0; where the authors' learning rate of the network begins.
        primary: p of each task, at least 0; 1 for a task that is not named.

    Raises:
        ValueError: a parameter out of its range.
    """

    held_out = True
    over_ranks = True

    space: ClassVar = {
        "lr": Range(1e-5, 1e-2, log=True),
        "initial": Range(0.05, 1, log=True),
    }

    def __init__(
        self,
        lr: float = 1e-4,
        initial: float = 0.1,
        virtual_lr: float = 0.1,
        primary: dict[str, float] = {},  # noqa: B006 (never changed)
    ) -> None:
        super().__init__()
        for name, value in (("lr", lr), ("initial", initial), ("virtual_lr", virtual_lr)):
            if not value > 0:
                raise ValueError(f"{name} must be above 0, but is {value}")
        self.lr, self.initial, self.virtual_lr = lr, initial, virtual_lr
        self.primary: Mapping[str, float] = primary

    def start(self, setting: Setting) -> None:
        self.importance = dict(
            zip(setting.tasks, setting.per_task(self.primary, "primary").tolist(), strict=True)
        )
        self.lambdas = nn.Parameter(setting.tensor([self.initial] * len(setting.tasks)))
        self.optimizer = torch.optim.Adam([self.lambdas], lr=self.lr)
        self._ranks = setting.ranks
        self._slope: Tensor | None = None

    def look(self, losses: TaskLosses) -> None:
        held_out = losses.held_out
        assert held_out is not None
        by_task = [losses.gradients(k, held_out.parameters) for k in range(len(losses.tasks))]
        if self._ranks is not None:
            by_task = self._ranks.sum_gradients(held_out.parameters, by_task)
        lambdas = self.lambdas.detach()
        steps = (-self.virtual_lr * lambdas).unbind()
        tried = []
        for parameter, column in zip(held_out.parameters, zip(*by_task, strict=True), strict=True):
            value = parameter.detach()
            for step, gradient in zip(steps, column, strict=True):
                if gradient is not None:
                    value = value + step.to(value.device) * gradient
            tried.append(value)
        with held_out.losses(tried) as held:
            total = torch.stack([self.importance[task] * loss for task, loss in held.items()]).sum()
            after = held_out.gradient(total)
        products = [inner(gradients, after) for gradients in by_task]
        self._slope = torch.stack(
            [lambdas.new_zeros(()) if each is None else each.to(lambdas) for each in products]
        )

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        assert self._slope is not None
        slope, self._slope = -self.virtual_lr * self._slope, None
        self.take_step([slope], present)
        return self.lambdas.detach().clone()
