"""The losses of the batch of a step again, at other values of the parameters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from mtlbench.strategies.held_out import network_at

SAME = 1e-3
"""How far losses may be apart that kernels sum in another order, as a share of them."""

ANEW = "closure must compute its losses anew, with gradients, whenever it is called"

LossClosure = Callable[[], Mapping[str, Tensor] | Sequence[Tensor]]
"""Gives the losses of the batch again, as they were given, by the network as it then is. It is
called several times."""


class Closure:
    """The batch of a step, as a stage sees it that asks for its losses again.

    Args:
        losses: gives them.
        model: the network.
        vectors_of: makes sure that they fit the tasks, and makes them vectors [B].
    """

    def __init__(
        self,
        losses: LossClosure,
        model: nn.Module,
        vectors_of: Callable[[Mapping[str, Tensor] | Sequence[Tensor]], list[Tensor]],
    ) -> None:
        self._losses, self._model, self._vectors_of = losses, model, vectors_of

    @contextmanager
    def losses(
        self, parameters: Sequence[Tensor] = (), values: Sequence[Tensor] = ()
    ) -> Iterator[list[Tensor]]:
        """The losses [B] of each task where some parameters have other values, to be
        differentiated in this context. The network, its buffers among it, is as before afterwards.

        Raises:
            ValueError: they are no losses of these tasks.
        """
        with network_at(self._model, parameters, values):
            yield self._vectors_of(self._losses())


def require_same(
    tasks: Sequence[str], given: Tensor, again: Sequence[Tensor], present: Tensor
) -> None:
    """Makes sure that a closure gives the losses of the batch.

    Args:
        tasks: the K task names.
        given: the losses that the step began with [B, K].
        again: what the closure gives where nothing has changed, by task [B].
        present: which labels are there, bool [B, K].

    Raises:
        ValueError: it gives others.
    """
    for task, one, other, here in zip(
        tasks, given.unbind(1), again, present.unbind(1), strict=True
    ):
        if other.shape != one.shape:
            raise ValueError(
                f"closure must give losses as backward was given, {list(one.shape)}, but gives "
                f"{list(other.shape)} for task {task!r}"
            )
        here = here & one.isfinite()
        before, after = one[here], other.detach()[here].to(one)
        near = SAME * (before.abs() + before.abs().mean())
        wrong = ~((after - before).abs() <= near)
        if wrong.any():
            k = int(wrong.nonzero()[0])
            raise ValueError(
                "closure must give the losses of the same batch again: with the same parameters "
                f"one of task {task!r} was {before[k]:.4g} and is {after[k]:.4g}; autocast "
                "must be on in it too, where it was, and dropout must draw the same numbers, by "
                "torch.manual_seed before each pass"
            )
