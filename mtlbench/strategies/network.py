"""The network as gradient weightings see it: each task's gradient, and one put in their place."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch._functorch import config as functorch_config

from mtlbench.strategies.gradients import (
    ByTask,
    TaskLosses,
    accumulate,
    gradients_of,
    length,
)
from mtlbench.strategies.graph import leaves, meet
from mtlbench.strategies.representation import NOT_RUN, Call, Representation
from mtlbench.strategies.sharing import Sharing


class Network:
    """A network with what its tasks share.

    Args:
        model: the network, or None.
        shared: the shared parameters, or modules that hold them; None to find them in the graph.
        representation: the module whose output all heads see, where the graph is to be cut there.

    Raises:
        ValueError: `model` is no module, or `shared` holds something else than modules and
            parameters, or nothing.
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
        self._own: list[tuple[Tensor, Tensor]] = []
        self._behind: set[int] = set()  # ids of the parameters that the shared layers' calls use
        self._goes_around = False  # whether heads also use what the shared layers start from

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

        What a single task reaches gets its gradient with the update, and all else that the losses
        depend on gets what it is due right away.

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
        outputs = [output for call in calls for output in call.outputs]
        self._parameters = self._sharing.candidates([*losses.vectors, *outputs])
        if any(getattr(p, "_post_accumulate_grad_hooks", None) for p in self._parameters):
            raise ValueError(
                "a parameter has a hook that runs after its gradient is accumulated, which would "
                "see each task's gradient and not the update; take the optimizer's step after "
                "backward"
            )
        if calls and (self._sharing.looks or not self._behind):
            self._look_behind(losses, outputs, calls[-1])
        leaves_of_calls = [leaf for call in calls for _, leaf in call.pairs()]
        tensors = [*leaves_of_calls, *self._parameters]
        with self._holding_back():
            by_task = [
                gradients_of(tensors, self._pass(losses, k, calls, through))
                for k in range(len(losses.tasks))
            ]
            columns = list(zip(*by_task, strict=True))
            count = len(leaves_of_calls)
            over_leaves = [
                (leaf, column)
                for leaf, column in zip(leaves_of_calls, columns[:count], strict=True)
                if any(gradient is not None for gradient in column)
            ]
            over_parameters = list(zip(self._parameters, columns[count:], strict=True))
            if leaves_of_calls and not through and not over_leaves:
                raise ValueError(NOT_RUN)
            behind = self._behind if calls else None
            shared, self._own = self._sharing.split(over_parameters, losses, behind)
        return shared + over_leaves

    def put(
        self, update: Sequence[tuple[Tensor, Tensor]], calls: Sequence[Call] = (), limit: float = 0
    ) -> None:
        """Adds an update to `.grad`, and what belongs to single tasks; passes on what it says at
        cuts.

        Args:
            update: shared tensors, and a gradient for each.
            calls: where the graph is cut.
            limit: the longest update of the shared parameters; 0 for any.
        """
        at_cuts = {id(leaf) for call in calls for _, leaf in call.pairs()}

        def add() -> None:
            for tensor, gradient in update:
                if id(tensor) in at_cuts:
                    tensor.grad = gradient
                else:
                    accumulate(tensor, gradient)
            if self._representation is not None:
                self._representation.backward(calls, retain_graph=False)

        with self._holding_back():
            if limit:
                gradients = gradients_of(self._parameters, add)
                pairs = zip(self._parameters, gradients, strict=True)
                new = [(p, gradient) for p, gradient in pairs if gradient is not None]
                if new:
                    factor = (limit / length([gradient for _, gradient in new])).clamp(max=1)
                    for parameter, gradient in new:
                        accumulate(parameter, gradient * factor.to(gradient))
            else:
                add()
        for parameter, gradient in self._own:
            if parameter.grad is None:
                parameter.grad = gradient  # from a backward pass, which gave it memory of its own
            else:
                accumulate(parameter, gradient)
        self._own = []

    def _look_behind(self, losses: TaskLosses, outputs: Sequence[Tensor], last: Call) -> None:
        """Finds what lies behind the cut, and makes sure that it comes before the heads.

        Raises:
            ValueError: the heads are behind it.
        """
        self._behind = set(map(id, leaves(outputs)))
        self._goes_around = meet(losses.vectors, outputs)
        before = [leaves([vector]) for vector in losses.vectors]
        headless = not any(isinstance(leaf, nn.Parameter) for some in before for leaf in some)
        of_tasks = [
            sum(any(leaf is other for other in some) for some in before) for _, leaf in last.pairs()
        ]
        if headless and len(of_tasks) > 1 and max(of_tasks) == 1:
            raise ValueError(
                "the module of the representation holds the heads, too; it must be the part of the "
                "network before them"
            )

    def _pass(
        self, losses: TaskLosses, task: int, calls: Sequence[Call], through: bool
    ) -> Callable[[], None]:
        keep = task < len(losses.tasks) - 1 or self._sharing.looks

        def backward() -> None:
            with _clear_errors():
                losses.backward(task, retain_graph=keep or (bool(calls) and self._goes_around))
                if calls and through:
                    assert self._representation is not None
                    self._representation.backward(calls, retain_graph=keep)

        return backward

    def _holding_back(self) -> Any:
        representation = self._representation
        return nullcontext() if representation is None else representation.holding_back()


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turns what PyTorch says of several backward passes into what to do.

    Raises:
        ValueError: it was one of these.
    """
    try:
        yield
    except RuntimeError as error:
        if "mark a variable ready only once" in str(error):
            raise ValueError(
                "DistributedDataParallel takes one backward pass a step, and this strategy "
                "weighs each task's gradient: call the module inside of it"
            ) from error
        if "donated buffer" in str(error):
            raise ValueError(
                "a compiled network gives memory away in its first backward pass, and this "
                "strategy takes one for each task: set torch._functorch.config.donated_buffer = "
                "False before it is compiled, or build the strategy before"
            ) from error
        raise


def keep_compiled_buffers() -> None:
    """Lets networks that are compiled from now on take several backward passes a step."""
    functorch_config.donated_buffer = False
