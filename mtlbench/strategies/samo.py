"""Gradients of the tasks at parameters where the losses are larger: flat minima are sought."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import GradientWeighting, Setting, TaskStage, register_strategy
from mtlbench.strategies.closure import ANEW
from mtlbench.strategies.gradients import TaskLosses, readable
from mtlbench.strategies.held_out import explaining_refusals
from mtlbench.strategies.network import Network
from mtlbench.strategies.ranks import Ranks

Elsewhere = tuple[list[Tensor], list[Tensor]]
"""Parameters, and other values of them."""


@dataclass(frozen=True)
class PerturbedLosses(TaskLosses):
    """Losses whose gradients are those at other parameters, for each task at its own.

    The graph is that of the losses as they are: it tells what the tasks share.

    Attributes:
        elsewhere: gives the parameters of a task, by its number.
    """

    elsewhere: Callable[[int], Elsewhere] = lambda task: ([], [])

    def vjp(self, task: int, cotangent: Tensor, *, retain_graph: bool) -> None:
        if not self.vectors[task].requires_grad:
            return
        assert self.closure is not None
        parameters, values = self.elsewhere(task)
        with torch.enable_grad(), self.closure.losses(parameters, values) as vectors:
            vector = vectors[task]
            if not vector.requires_grad:
                raise ValueError(ANEW)
            torch.autograd.backward([vector], [cotangent.to(vector.dtype)], retain_graph)


@register_strategy("samo", label="SAMO")
class SharpnessAware(GradientWeighting):
    """Takes each task's gradient where its loss is larger nearby (Ban, Subramani, Ji 2025).

        update = Σ_k ∇L_k(θ + ε_k, h_k + δ_k)

        ε_k = ρ u_k / ‖u_k‖,    u_kl = α g_l + (1 − α) ‖g_l‖ ĝ_kl / ‖ĝ_kl‖
        ĝ_k = (L_k(θ + μ z_k) − L_k(θ − μ z_k)) / 2μ · z_k,    z_k ~ N(0, I)
        δ_k = ρ ∇_h L_k / ‖∇_h L_k‖

    with g = ∇ Σ_k L_k over the shared parameters θ, l one of their tensors, and h_k what task k
    alone reaches. Each task is moved up by ρ along the gradient of all tasks and an estimate of its
    own, which takes forward passes only; brought to one length in each tensor, it tells no more
    than on which side of θ the loss is larger, and where neither is, there is no such part. All is
    moved back before the network learns. In front of a weighting of gradients, `samo+fairgrad`, it
    has that weigh the gradients there, beside the losses at θ. A step takes 3 K + 1 forward and
    K + 1 backward passes, with α = 1 K + 1 and K + 1.

    Each pass is one of training on the same batch: dropout and augmentation draw the same, and
    batch norm normalises by the batch and keeps its running statistics. In a loop of one's own
    `closure=` gives the losses again. It goes with no instance stage that learns by outputs
    (`data-parameters`, `elr`), no weighting with gradients of its own or logarithms (`modo`,
    `iwmtl`, `db-mtl`, `log`), and no `on` or `every`.

    Departs from the authors' code: there the forward passes at θ ± μ z_k are in evaluation mode.
    Their code for NYUv2 leaves out the lengths in u_k, that for QM9 adds the gradient itself to a
    head; with the sum of the gradients it multiplies the update by K and cuts it to length 1.

    Ban, Subramani, Ji: SAMO: A Lightweight Sharpness-Aware Approach for Multi-Task Optimization
    with Joint Global-Local Perturbation, ICCV 2025; equations as in the authors' code.

    Args:
        rho: ρ, above 0: how far each task is moved; in the authors' scripts 0.001, for QM9 0.00001.
        alpha: α, from 0 to 1: the part of all tasks together; in the authors' scripts 0.5, for QM9
            0.1 (there `beta` is 1 − α).
        mu: μ, above 0: how far apart losses are compared; authors' code.

    Raises:
        ValueError: a parameter out of its range.
    """

    recomputes = True
    over_ranks = True
    own_gradients = True
    gramian_in_float64 = True

    space: ClassVar = {"rho": Range(1e-4, 0.1, log=True), "alpha": Range(0, 1)}

    def __init__(self, rho: float = 0.001, alpha: float = 0.5, mu: float = 0.01) -> None:
        super().__init__()
        for name, value in (("rho", rho), ("mu", mu)):
            if not value > 0:
                raise ValueError(f"{name} must be above 0, but is {value}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be from 0 to 1, but is {alpha}")
        self.rho, self.alpha, self.mu = rho, alpha, mu
        self.inner: TaskStage | None = None

    def stand_before(self, inner: TaskStage) -> None:
        """Lets another stage weigh the gradients.

        Raises:
            ValueError: it takes gradients of another kind than those that it is given.
        """
        apart = getattr(inner, "own_gradients", False) or inner.needs_representation
        if apart or inner.least_loss is not None:
            raise ValueError(
                "samo goes only in front of a weighting that takes the gradients of the losses as "
                "they are: without logarithms, gradients of its own, on or every"
            )
        self.inner = inner

    @property
    def gives_direction(self) -> bool:
        return self.inner is not None and self.inner.gives_direction

    def start(self, setting: Setting) -> None:
        self._generator = setting.generator
        if self.inner is not None:
            self.inner.start(setting)

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        if self.inner is not None:
            self.inner.end_epoch(losses, validation)

    def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        return torch.ones_like(losses)

    def backward(self, losses: TaskLosses, network: Network) -> Tensor:
        drawn = self._generator.get_state()
        perturbed = PerturbedLosses(**vars(losses), elsewhere=self._perturbations(losses, network))
        weigh = super().backward if self.inner is None else self.inner.backward
        weights = weigh(perturbed, network)
        if not self.gives_direction and readable(weights) and not weights.isfinite().all().numpy():
            self._generator.set_state(drawn)
        return weights

    def _perturbations(self, losses: TaskLosses, network: Network) -> Callable[[int], Elsewhere]:
        """Gives the parameters at which each task's gradient is to be taken, and their values."""
        shared, heads = network.reached(losses)
        gradient = _gradient(losses, [*shared, *chain.from_iterable(heads)], network.ranks)
        common = _in_unit([gradient[id(p)] for p in shared])
        lengths = [torch.linalg.vector_norm(each) for each in common]
        seeds = torch.randint(2**62, (len(losses.tasks),), generator=self._generator).numpy()

        def elsewhere(task: int) -> Elsewhere:
            direction = common
            if self.alpha < 1 and shared:
                drawn = _normal(shared, int(seeds[task]))
                own = (1 - self.alpha) * self._sign(losses, task, shared, drawn, network.ranks)
                direction = [
                    self.alpha * one + own.to(one.device) * length / torch.linalg.vector_norm(z) * z
                    for one, length, z in zip(common, lengths, drawn, strict=True)
                ]
            steps = self._of_length_rho(direction)
            steps += self._of_length_rho(_in_unit([gradient[id(p)] for p in heads[task]]))
            moved = [*shared, *heads[task]]
            return moved, [p.detach() + step for p, step in zip(moved, steps, strict=True)]

        return elsewhere

    @torch.no_grad()
    def _sign(
        self,
        losses: TaskLosses,
        task: int,
        shared: Sequence[Tensor],
        drawn: Sequence[Tensor],
        ranks: Ranks | None,
    ) -> Tensor:
        """Whether a task's loss is larger a little further along what was drawn than a little
        before: 1 or −1, or 0 where neither is."""
        assert losses.closure is not None
        weights = losses.instance_weights[:, task]
        found = []
        for way in (self.mu, -self.mu):
            values = [p + way * z for p, z in zip(shared, drawn, strict=True)]
            with losses.closure.losses(shared, values) as vectors:
                found.append((weights * vectors[task].to(weights)).sum())
        if ranks is not None:
            found = [*ranks.sum(torch.stack(found))]
        above, below = found
        return (above > below).to(above) - (above < below).to(above)

    def _of_length_rho(self, direction: Sequence[Tensor]) -> list[Tensor]:
        """Tensors that have length ρ together; 0 where they have none."""
        if not direction:
            return []
        norms = [torch.linalg.vector_norm(each) for each in direction]
        length = torch.linalg.vector_norm(torch.stack([n.to(norms[0]) for n in norms]))
        factor = self.rho / torch.where(length == 0, 1, length)
        return [each * factor.to(each.device) for each in direction]


def _gradient(
    losses: TaskLosses, parameters: Sequence[Tensor], ranks: Ranks | None
) -> dict[int, Tensor]:
    """The dense gradient of the sum of the tasks' losses, by the id of a parameter. The graph
    stays, and no `.grad` changes."""
    learn = [k for k, vector in enumerate(losses.vectors) if vector.requires_grad]
    if not parameters:
        return {}
    weights = losses.scaled(losses.instance_weights)
    with explaining_refusals():
        found = torch.autograd.grad(
            [losses.vectors[k] for k in learn],
            parameters,
            [weights[:, k].to(losses.vectors[k].dtype) for k in learn],
            retain_graph=True,
            materialize_grads=True,
        )
    dense = [
        (each.to_dense() if each.layout != torch.strided else each).to(parameter)
        for parameter, each in zip(parameters, found, strict=True)
    ]
    if ranks is not None:
        (summed,) = ranks.sum_gradients(parameters, [dense])
        dense = [each for each in summed if each is not None]
    return {id(parameter): each for parameter, each in zip(parameters, dense, strict=True)}


def _in_unit(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Gradients divided by their largest number, so that their squares neither vanish nor
    overflow."""
    sizes = [torch.linalg.vector_norm(each, torch.inf) for each in gradients if each.numel()]
    if not sizes:
        return list(gradients)
    largest = torch.stack([size.to(sizes[0]) for size in sizes]).amax()
    unit = torch.where(largest == 0, 1, largest)
    return [each / unit.to(each.device) for each in gradients]


def _normal(like: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Normal numbers in the shapes of tensors, drawn where these are."""
    generators = {
        device: torch.Generator(device).manual_seed(seed) for device in {p.device for p in like}
    }
    return [
        torch.randn(p.shape, generator=generators[p.device], dtype=p.dtype, device=p.device)
        for p in like
    ]
