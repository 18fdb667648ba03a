"""Weights of instances that a small network learns to give by their losses."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from mtlbench.space import Range
from mtlbench.strategies.alignment import derivatives, weighed_gradient
from mtlbench.strategies.base import InstanceStage, Setting, register_strategy
from mtlbench.strategies.gradients import TaskLosses
from mtlbench.strategies.held_out import explaining_refusals

LARGEST_LOSS = 1e15
"""A larger one would make the hidden units' sum infinite in float32."""


@register_strategy("mw-net", label="MW-Net")
class MetaWeightNet(InstanceStage):
    """Learns a function from loss to weight that lowers held-out losses (Shu et al. 2019).

        v_ik = V(ℓ_ik; Θ_k),    V(ℓ; Θ) = sigmoid(c + Σ_h b_h max(0, a_h ℓ + d_h))
        θ' = θ − α Σ_k 1/n_k Σ_i v_ik ∇ℓ_ik(θ)
        ∂(Σ_j H_j(θ')) / ∂Θ_k = −α/n_k Σ_i ⟨∇ℓ_ik(θ), Σ_j ∇H_j(θ')⟩ ∂V(ℓ_ik; Θ_k)/∂Θ_k

    with n_k labels of task k in the batch, H_j the loss of task j on a held-out batch, and θ' a
    step of the network that is tried and taken back. The Θ take a step of Adam on that in every
    batch, before the network is trained with their weights; those of a task without a label in the
    batch stay, and all where a gradient is not finite. Every task has its own Θ, since losses of
    different tasks are of different units. Weights lie between 0 and 1, at first about ½ where
    losses are about 1; where they are far above it V is flat and learns little.

    It sees validation labels, which are never corrupted here: where training labels are wrong, an
    advantage that most other strategies do not have. Parameters that are chosen by the same labels
    look better than they are.

    Departs from the authors' code: there is one task there. The step that is tried is at a constant
    rate; theirs has the learning rate of the network, which falls from this one.

    Shu, Xie, Yi, Zhao, Zhou, Xu, Meng: Meta-Weight-Net: Learning an Explicit Mapping For Sample
    Weighting, NeurIPS 2019, Algorithm 1.

    Args:
        lr: learning rate of Θ, above 0; authors' code.
        hidden: hidden units h, at least 1; authors' code.
        weight_decay: of Θ, at least 0; authors' code.
        virtual_lr: α, above 0; where the authors' learning rate of the network begins.

    Raises:
        ValueError: a parameter out of its range.
    """

    held_out = True
    over_ranks = True
    needs_index = False

    space: ClassVar = {"lr": Range(1e-4, 1e-2, log=True)}

    def __init__(
        self,
        lr: float = 1e-3,
        hidden: int = 100,
        weight_decay: float = 1e-4,
        virtual_lr: float = 0.1,
    ) -> None:
        super().__init__()
        for name, value in (("lr", lr), ("virtual_lr", virtual_lr)):
            if not value > 0:
                raise ValueError(f"{name} must be above 0, but is {value}")
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, but is {hidden}")
        if weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, but is {weight_decay}")
        self.lr, self.hidden, self.weight_decay = lr, hidden, weight_decay
        self.virtual_lr = virtual_lr

    def start(self, setting: Setting) -> None:
        def drawn(columns: int, inputs: int) -> nn.Parameter:
            """As a layer of PyTorch begins."""
            shape = (len(setting.tasks), columns)
            values = torch.rand(shape, generator=setting.generator, dtype=torch.float64)
            bound = 1 / math.sqrt(inputs)
            return nn.Parameter((bound * (2 * values - 1)).to(setting.device, setting.dtype))

        self.steepness, self.corners = drawn(self.hidden, 1), drawn(self.hidden, 1)
        self.outgoing, self.offset = drawn(self.hidden, self.hidden), drawn(1, self.hidden)
        self.optimizer = torch.optim.Adam(
            self.parameters(), lr=self.lr, weight_decay=self.weight_decay
        )
        self._ranks = setting.ranks
        self._slopes: tuple[Tensor, ...] = ()

    def weight(self, losses: Tensor) -> Tensor:
        """V of losses [B, K]."""
        seen = losses.clamp(max=LARGEST_LOSS)[:, :, None]
        hidden = torch.relu(self.steepness * seen + self.corners)
        return torch.sigmoid((self.outgoing * hidden).sum(2) + self.offset[:, 0])

    def look(self, losses: TaskLosses) -> None:
        means = losses.instance_weights
        here = means > 0
        values = torch.stack([vector.detach() for vector in losses.vectors], 1).to(means.dtype)
        given = self.weight(torch.where(here, values, 0))
        products = torch.where(here, self._products(losses, (means * given).detach()), 0)
        objective = (-self.virtual_lr * means * products * given).sum()
        self._slopes = torch.autograd.grad(objective, list(self.parameters()))
        if self._ranks is not None:
            self._slopes = tuple(map(self._ranks.sum, self._slopes))

    def _products(self, losses: TaskLosses, weights: Tensor) -> Tensor:
        """⟨∇ℓ_ik(θ), Σ_j ∇H_j(θ')⟩ [B, K], with θ' after a step with these weights [B, K]."""
        held_out = losses.held_out
        assert held_out is not None
        parameters = held_out.parameters
        columns = [*torch.zeros_like(weights).unbind(1)]
        learn = [k for k, vector in enumerate(losses.vectors) if vector.requires_grad]
        vectors = [losses.vectors[k] for k in learn]
        us = [weights[:, k].to(losses.vectors[k].dtype).requires_grad_() for k in learn]
        with explaining_refusals():
            step = weighed_gradient(vectors, us, parameters)
            along = [None if g is None else g.detach() for g in step]
            if self._ranks is not None:
                (along,) = self._ranks.sum_gradients(parameters, [along])
            tried = [
                p.detach() if g is None else p.detach() - self.virtual_lr * g
                for p, g in zip(parameters, along, strict=True)
            ]
            with held_out.losses(tried) as held:
                after = held_out.gradient(torch.stack([*held.values()]).sum())
            for k, products in zip(learn, derivatives(us, step, after), strict=True):
                columns[k] = products.to(weights)
        return torch.stack(columns, 1)

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        slopes, self._slopes = self._slopes, ()
        self.take_step(slopes, present.any(0))
        return self.weight(losses)
