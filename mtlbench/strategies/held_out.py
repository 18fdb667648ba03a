"""A batch of held-out data: its losses, at the network's weights or at others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtlbench.strategies.ranks import Ranks

HeldOutLosses = Callable[[], Mapping[str, Tensor]]
"""Gives the losses of one held-out batch by task name, scalars or [B], by the network as it then
is; a task without a label in the batch may be left out. It may be called several times."""


class HeldOut:
    """The held-out batch of a step, as a stage sees it.

    Args:
        losses: gives its losses.
        model: the network.
        tasks: the K task names.
        ranks: the processes that train together, each with its part of the batch, or with all of
            it; or None.

    Attributes:
        parameters: those of the network that are trained.
    """

    def __init__(
        self,
        losses: HeldOutLosses,
        model: nn.Module,
        tasks: Sequence[str],
        ranks: Ranks | None = None,
    ) -> None:
        self._losses, self._model, self._tasks, self._ranks = losses, model, tasks, ranks
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    @contextmanager
    def losses(self, at: Sequence[Tensor] | None = None) -> Iterator[dict[str, Tensor]]:
        """The mean loss of each task that has a label, by name, to be differentiated in this
        context by `gradient`. The network, its buffers among it, is as before afterwards.

        Over several processes each has its share of every mean, which add up to it.

        Args:
            at: values of `parameters` to take the losses at; None for those they have.

        Raises:
            ValueError: they are no losses of these tasks, or do not depend on the network.
        """
        parameters = [] if at is None else self.parameters
        with network_at(self._model, parameters, at or []), torch.enable_grad():
            yield self._shares(self._checked(self._losses()))

    def gradient(self, loss: Tensor) -> list[Tensor | None]:
        """The gradient of a sum of these losses over `parameters`, of all processes together; None
        where it does not depend on one. The graph stays.

        Raises:
            ValueError: the network does not allow it.
        """
        found: list[Tensor | None] = [None] * len(self.parameters)
        if loss.requires_grad:
            with explaining_refusals():
                found = list(
                    torch.autograd.grad(loss, self.parameters, retain_graph=True, allow_unused=True)
                )
        if self._ranks is not None:
            (found,) = self._ranks.sum_gradients(self.parameters, [found])
        return found

    def _shares(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The means of the tasks [b] or [], times this process's share of their labels."""
        if self._ranks is None:
            return {task: loss.mean() for task, loss in losses.items()}
        device = self.parameters[0].device
        counts = [float(losses[task].numel()) if task in losses else 0.0 for task in self._tasks]
        own = torch.tensor(counts, dtype=torch.float64, device=device)
        shares = (own / self._ranks.sum(own)).tolist()  # NaN where no process has a label
        none = torch.zeros((), device=device)
        return {
            task: losses[task].mean() * share if task in losses else none
            for task, share in zip(self._tasks, shares, strict=True)
            if share == share
        }

    def _checked(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not isinstance(losses, Mapping) or not set(losses) <= set(self._tasks):
            names = tuple(losses) if isinstance(losses, Mapping) else type(losses).__name__
            raise ValueError(
                f"held_out must give losses by the names of the tasks {tuple(self._tasks)}, but "
                f"gives {names}"
            )
        for task, loss in losses.items():
            if not isinstance(loss, Tensor) or loss.ndim > 1:
                found = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
                raise ValueError(
                    f"held_out must give a loss, or one for each instance [B], but gives {found} "
                    f"for task {task!r}"
                )
        if not any(loss.requires_grad for loss in losses.values()):
            raise ValueError(
                "held_out must compute its losses anew, with gradients, whenever it is called"
            )
        return {task: loss for task, loss in losses.items() if loss.requires_grad}


@contextmanager
def network_at(
    model: nn.Module, parameters: Sequence[Tensor], values: Sequence[Tensor]
) -> Iterator[None]:
    """Lets parameters have other values for a while. Graphs that they were in do not notice; one
    that is made meanwhile is to be gone back through meanwhile, too. Buffers, such as batch norm's
    statistics, are as before afterwards."""
    buffers = list(model.buffers())
    tensors = [*buffers, *parameters]
    kept = [tensor.data for tensor in tensors]
    copies = [buffer.clone() for buffer in buffers]
    for tensor, value in zip(tensors, [*copies, *values], strict=True):
        tensor.data = value
    torch.clear_autocast_cache()  # it has the parameters as they were
    try:
        yield
    finally:
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.data = value
        torch.clear_autocast_cache()


REFUSALS = {
    "donated buffer": "compile the network after the strategy is built, or not as a whole",
    "double backward": "do not compile it, and take layers that can be differentiated twice",
    "not implemented": "take layers that can be differentiated twice",
    "trying to differentiate twice": "take layers that can be differentiated twice",
}
"""What PyTorch says where gradients cannot be had, in part, and what to do."""


@contextmanager
def explaining_refusals() -> Iterator[None]:
    """Turns what PyTorch says of gradients that cannot be had apart from a step into what to do.

    Raises:
        ValueError: it was that.
    """
    try:
        yield
    except RuntimeError as error:
        for part, advice in REFUSALS.items():
            if part in str(error):
                raise ValueError(
                    "this strategy takes gradients apart from the step, which the network does "
                    f"not allow: {advice}"
                ) from error
        raise


def inner(some: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> Tensor | None:
    """⟨a, b⟩ of gradients over the same parameters, None for 0; complex numbers count as their
    real and imaginary parts. None where they have no parameter in common."""
    products = [
        (_real(one) * _real(other)).sum()
        for one, other in zip(some, others, strict=True)
        if one is not None and other is not None
    ]
    return torch.stack([each.to(products[0]) for each in products]).sum() if products else None


def _real(gradient: Tensor) -> Tensor:
    if gradient.layout != torch.strided:
        gradient = gradient.to_dense()
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient
