"""The network of a gradient weighting: the tasks' gradients, and the update added to `.grad`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch._functorch import config as functorch_config

from mtlbench.strategies.gradients import (
    TaskGradients,
    TaskLosses,
    accumulate,
    gradient_norm,
    gradients_of,
)
from mtlbench.strategies.graph import leaves, share_nodes
from mtlbench.strategies.ranks import Ranks
from mtlbench.strategies.representation import NOT_RUN, DetachedFeatures, Representation
from mtlbench.strategies.sharing import SharedParameters


class Network:
    """A network with what its tasks share.

    Args:
        model: the network, or None.
        shared: the shared parameters, or modules that hold them; None to find them in the graph.
        representation: the module whose output all heads see, where the graph is to be cut there.
        ranks: the processes that train together, or None.

    Raises:
        ValueError: `model` is no module, or `shared` holds something else than modules and
            parameters, or nothing.
    """

    def __init__(
        self,
        model: nn.Module | None,
        shared: nn.Module | Iterable[Any] | None = None,
        representation: nn.Module | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.ranks = model, ranks
        self._shared = SharedParameters(model, shared, over_ranks=ranks is not None)
        self._representation = (
            None if representation is None else Representation(representation, model)
        )
        self._parameters: list[Tensor] = []
        self._own: list[tuple[Tensor, Tensor]] = []
        self._trunk: set[int] = set()  # ids of the parameters that the features depend on
        # Whether heads also use what the shared layers start from.
        self._heads_bypass_features = False

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, whose parameters have other ids."""
        return self.__dict__ | {"_trunk": set()}

    def reached(self, losses: TaskLosses) -> tuple[list[Tensor], list[list[Tensor]]]:
        """The parameters that several tasks' losses depend on, and those that one's alone do, by
        task, as the graph has it.

        Raises:
            ValueError: the shared ones are given, and the graph does not tell the others apart.
        """
        return self._shared.reached(losses)

    def detached_features(self) -> list[DetachedFeatures]:
        """The features that the losses of this step may come from, one for each forward pass.

        Raises:
            ValueError: there was none.
        """
        assert self._representation is not None
        return self._representation.pending()

    def task_gradients(
        self,
        losses: TaskLosses,
        features: Sequence[DetachedFeatures] = (),
        *,
        through_trunk: bool = False,
        keep_graph: bool = False,
        more: bool = False,
    ) -> list[TaskGradients]:
        """Each task's gradient over every tensor that several tasks share.

        What a single task reaches gets its gradient with the update, and all else that the losses
        depend on gets what it is due right away.

        Args:
            losses: those of the batch.
            features: where the graph is cut; their leaves count as shared.
            through_trunk: go on through the shared layers, task by task, to their parameters.
            keep_graph: more of the batch's gradients are asked for afterwards.
            more: what a single task reaches has a gradient from before, to which this one is added.

        Raises:
            ValueError: there is no network, the graph does not tell what is shared, or something
                would act on each task's gradient by itself.
        """
        if not self._shared.available:
            raise ValueError("model is needed, or shared: this strategy weighs gradients")
        outputs = [output for each in features for output in each.features]
        self._parameters = self._shared.candidates([*losses.vectors, *outputs])
        if any(getattr(p, "_post_accumulate_grad_hooks", None) for p in self._parameters):
            raise ValueError(
                "a parameter has a hook that runs after its gradient is accumulated, which would "
                "see each task's gradient and not the update; take the optimizer's step after "
                "backward"
            )
        if features and (self._shared.inspects_graph or not self._trunk):
            self._find_trunk(losses, outputs, features[-1])
        detached = [leaf for each in features for _, leaf in each.pairs()]
        tensors = [*detached, *self._parameters]
        with self._stopping_at_features():
            by_task = [
                gradients_of(
                    tensors, self._task_backward(losses, k, features, through_trunk, keep_graph)
                )
                for k in range(len(losses.tasks))
            ]
            count = len(detached)
            if self.ranks is not None:
                of_parameters = [gradients[count:] for gradients in by_task]
                of_parameters = self.ranks.sum_gradients(self._parameters, of_parameters)
                by_task = [
                    [*own[:count], *summed]
                    for own, summed in zip(by_task, of_parameters, strict=True)
                ]
            columns = list(zip(*by_task, strict=True))
            over_leaves = [
                (leaf, column)
                for leaf, column in zip(detached, columns[:count], strict=True)
                if any(gradient is not None for gradient in column)
            ]
            over_parameters = list(zip(self._parameters, columns[count:], strict=True))
            if detached and not through_trunk and not over_leaves:
                raise ValueError(NOT_RUN)
            trunk = self._trunk if features else None
            shared, of_single = self._shared.split(over_parameters, losses, trunk)
            self._own = [*self._own, *of_single] if more else of_single
        return shared + over_leaves

    def add_update(
        self,
        update: Sequence[tuple[Tensor, Tensor]],
        features: Sequence[DetachedFeatures] = (),
        limit: float = 0,
        scale: Tensor | float | None = None,
    ) -> None:
        """Adds an update to `.grad`, and what belongs to single tasks; passes on what it says at
        cuts.

        Args:
            update: shared tensors, and a gradient for each.
            features: where the graph is cut.
            limit: the longest update of the shared parameters, without the scale; 0 for any.
            scale: what the update is multiplied by, None for 1.
        """
        at_cuts = {id(leaf) for each in features for _, leaf in each.pairs()}

        apart = bool(features) and self.ranks is not None

        def add() -> None:
            for tensor, gradient in update:
                if id(tensor) in at_cuts:
                    tensor.grad = gradient
                elif not apart:
                    accumulate(tensor, gradient)
            if self._representation is not None:
                self._representation.backward(features, retain_graph=False)
            if apart:
                self._sum_over_ranks()
                for tensor, gradient in update:
                    if id(tensor) not in at_cuts:
                        accumulate(tensor, gradient)

        with self._stopping_at_features():
            if limit or apart:
                gradients = gradients_of(self._parameters, add)
                pairs = zip(self._parameters, gradients, strict=True)
                new = [(p, gradient) for p, gradient in pairs if gradient is not None]
                if new and limit:
                    length = gradient_norm([gradient for _, gradient in new])
                    longest = limit if scale is None else limit * scale
                    factor = (longest / length).clamp(max=1)
                    new = [(p, gradient * factor.to(gradient)) for p, gradient in new]
                for parameter, gradient in new:
                    accumulate(parameter, gradient)
            else:
                add()
        for parameter, gradient in self._own:
            if parameter.grad is None:
                parameter.grad = gradient  # from a backward pass, which gave it memory of its own
            else:
                accumulate(parameter, gradient)
        self._own = []

    def _sum_over_ranks(self) -> None:
        """Puts the sum over ranks into `.grad` of the parameters."""
        assert self.ranks is not None
        own = [parameter.grad for parameter in self._parameters]
        (summed,) = self.ranks.sum_gradients(self._parameters, [own])
        for parameter, gradient in zip(self._parameters, summed, strict=True):
            parameter.grad = gradient

    def _find_trunk(
        self, losses: TaskLosses, outputs: Sequence[Tensor], last: DetachedFeatures
    ) -> None:
        """Finds the parameters that the features depend on, and makes sure that no heads are there.

        Raises:
            ValueError: the features depend on the heads.
        """
        self._trunk = set(map(id, leaves(outputs)))
        self._heads_bypass_features = share_nodes(losses.vectors, outputs)
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

    def _task_backward(
        self,
        losses: TaskLosses,
        task: int,
        features: Sequence[DetachedFeatures],
        through_trunk: bool,
        keep_graph: bool,
    ) -> Callable[[], None]:
        keep = keep_graph or task < len(losses.tasks) - 1 or self._shared.inspects_graph
        keep_heads = keep or (bool(features) and self._heads_bypass_features)

        def backward() -> None:
            losses.backward(task, retain_graph=keep_heads)
            if features and through_trunk:
                assert self._representation is not None
                self._representation.backward(features, retain_graph=keep)

        return backward

    def _stopping_at_features(self) -> Any:
        representation = self._representation
        return nullcontext() if representation is None else representation.stopping_at_features()


@contextmanager
def explaining_errors() -> Iterator[None]:
    """Turns what PyTorch says of backward passes into what to do.

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
        if "backward through the graph a second time" in str(error):
            raise ValueError(
                "a part of the losses has been through a backward pass before: compute them anew "
                "for each strategy.backward, which takes the place of loss.backward, and detach "
                "what one batch leaves to the next, such as a hidden state"
            ) from error
        if "modified by an inplace operation" in str(error):
            raise ValueError(
                "what the losses depend on was changed after the forward pass: step the optimizer "
                "after strategy.backward, detach what one batch leaves to the next, and let no "
                "layer change in place what its backward pass needs"
            ) from error
        raise


def keep_compiled_buffers() -> None:
    """Lets networks that are compiled from now on take several backward passes a step."""
    functorch_config.donated_buffer = False
