"""The network as gradient weightings see it: each task's gradient, and one put in their place."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from mtlbench.strategies.gradients import (
    ByTask,
    TaskLosses,
    accumulate,
    gradients_of,
    length,
)
from mtlbench.strategies.representation import NOT_RUN, Call, Representation
from mtlbench.strategies.sharing import Sharing


class Network:
    """A network with what its tasks share.

    Args:
        model: the network, or None.
        shared: the shared parameters, or modules that hold them; None to find them in the graph.
        representation: the module whose output all heads see, where the graph is to be cut there.

    Raises:
        ValueError: `shared` holds something else than modules and parameters, or nothing.
    """

    def __init__(
        self,
        model: nn.Module | None,
        shared: nn.Module | Iterable[Any] | None = None,
        representation: nn.Module | None = None,
    ) -> None:
        self._sharing = Sharing(model, shared)
        self._representation = (
            None if representation is None else Representation(representation, model)
        )
        self._parameters: list[Tensor] = []

    def calls(self) -> list[Call]:
        """The forward passes of the shared layers that the losses of this step may come from.

        Raises:
            ValueError: there was none.
        """
        assert self._representation is not None
        return self._representation.take()

    def gradients(
        self, losses: TaskLosses, calls: Sequence[Call] = (), *, through: bool = False
    ) -> list[ByTask]:
        """Each task's gradient over every tensor that several tasks share.

        Parameters of a single task get its gradient right away, and so does all else that the
        losses depend on and that is not weighed.

        Args:
            losses: those of the batch.
            calls: where the graph is cut; the leaves there count as shared.
            through: go on through the shared layers, task by task, to their parameters.

        Raises:
            ValueError: there is no network, the graph does not tell what is shared, or something
                would act on each task's gradient by itself.
        """
        if not self._sharing.known:
            raise ValueError("model is needed, or shared: this strategy weighs gradients")
        before = [output for call in calls for output in call.outputs]
        self._parameters = self._sharing.candidates([*losses.vectors, *before])
        if any(getattr(p, "_post_accumulate_grad_hooks", None) for p in self._parameters):
            raise ValueError(
                "a parameter has a hook that runs after its gradient is accumulated, which would "
                "see each task's gradient and not the update; take the optimizer's step after "
                "backward"
            )
        leaves = [leaf for call in calls for _, leaf in call.pairs()]
        tensors = [*leaves, *self._parameters]
        by_task = [
            gradients_of(tensors, self._pass(losses, k, calls if through else ()))
            for k in range(len(losses.tasks))
        ]
        columns = list(zip(*by_task, strict=True))
        over_parameters = list(zip(self._parameters, columns[len(leaves) :], strict=True))
        over_leaves = [
            (leaf, column)
            for leaf, column in zip(leaves, columns, strict=False)
            if any(gradient is not None for gradient in column)
        ]
        if leaves and not through and not over_leaves:
            raise ValueError(NOT_RUN)
        return self._sharing.shared(over_parameters, losses, beyond=bool(calls)) + over_leaves

    def put(
        self, update: Sequence[tuple[Tensor, Tensor]], calls: Sequence[Call] = (), limit: float = 0
    ) -> None:
        """Adds an update to `.grad`, and passes on what it says at cuts.

        Args:
            update: shared tensors, and a gradient for each.
            calls: where the graph is cut.
            limit: the longest update of the shared parameters; 0 for any.
        """

        def add() -> None:
            for tensor, gradient in update:
                accumulate(tensor, gradient)
            if self._representation is not None:
                self._representation.backward(calls, retain_graph=False)

        if not limit:
            add()
            return
        gradients = gradients_of(self._parameters, add)
        new = [(p, g) for p, g in zip(self._parameters, gradients, strict=True) if g is not None]
        if new:
            factor = (limit / length([gradient for _, gradient in new])).clamp(max=1)
            for parameter, gradient in new:
                accumulate(parameter, gradient * factor.to(gradient))

    def _pass(self, losses: TaskLosses, task: int, calls: Sequence[Call]) -> Callable[[], None]:
        keep = task < len(losses.tasks) - 1 or self._sharing.looks

        def backward() -> None:
            try:
                losses.backward(task, retain_graph=keep)
            except RuntimeError as error:
                if "mark a variable ready only once" not in str(error):
                    raise
                raise ValueError(
                    "DistributedDataParallel takes one backward pass a step, and this strategy "
                    "weighs each task's gradient: call the module inside of it"
                ) from error
            if calls:
                assert self._representation is not None
                self._representation.backward(calls, retain_graph=keep)

        return backward
