"""Which parameters of a network the tasks share: as told, or as the graph of the losses has it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from mtlbench.strategies.gradients import ByTask, TaskLosses, accumulate

EAGER_STEPS = 8
"""While a parameter is in question, the graph is looked at in so many steps, and then in those
whose number is a power of two."""


class Sharing:
    """Tells the parameters that the tasks share from those of their heads.

    Told which parameters are shared, it takes these. Else a parameter is shared that the losses
    of several tasks reach in the graph. A graph can say too much, not too little: where the
    network is compiled as one, or the losses are slices of one tensor, every loss reaches every
    head, with gradients of 0. So a parameter counts as shared once two tasks have had a gradient
    that is not 0 over it. Where a single one has, the graph is refused if another task reaches no
    parameter of its own, or if its gradient does get into the part of the graph that both have in
    common: it is then the graph that sorts the gradients, and not a head that starts at 0. A layer
    whose rows are the heads of tasks that have no other is refused, too.

    Args:
        model: the network; its parameters are read in every step, so that it may change.
        shared: the shared parameters, or modules that hold them; None to find them.

    Raises:
        ValueError: `shared` holds something else, or nothing.
    """

    def __init__(
        self, model: nn.Module | None, shared: nn.Module | Iterable[Any] | None = None
    ) -> None:
        self._model = model
        self._told = None if shared is None else _parts(shared)
        self._known: list[Tensor] = []  # held, so that an id stays the id of one tensor
        self._outside: list[Tensor] = []
        self._nonzero: dict[int, set[int]] = defaultdict(set)  # tasks, by the id of a parameter
        self._in_question, self._steps_in_question = True, 0
        self.looks = False

    @property
    def known(self) -> bool:
        """Whether there is anything to weigh gradients over."""
        return self._model is not None or self._told is not None

    def candidates(self, roots: Sequence[Tensor]) -> list[Tensor]:
        """The parameters whose gradients are to be had by task, at the start of a step.

        Args:
            roots: the losses, and what else is to be gone back from. Parameters outside of
                `model` that these depend on are among the candidates.
        """
        if self._told is not None:
            return _trainable(chain.from_iterable(map(_parameters, self._told)))
        assert self._model is not None
        known = _trainable(self._model.parameters())
        if list(map(id, known)) != list(map(id, self._known)):
            self._known = known
            self._nonzero.clear()
            self._in_question, self._steps_in_question = True, 0
        self._steps_in_question += 1
        few = self._steps_in_question <= EAGER_STEPS
        self.looks = self._in_question and (few or self._steps_in_question.bit_count() == 1)
        if self.looks:
            ids = set(map(id, known))
            self._outside = [
                leaf
                for leaf in _leaves(roots)
                if isinstance(leaf, nn.Parameter) and id(leaf) not in ids
            ]
        return known + self._outside

    def shared(
        self, gradients: Sequence[ByTask], losses: TaskLosses, *, beyond: bool = False
    ) -> list[ByTask]:
        """Those of the parameters that are shared, with each task's gradient.

        What belongs to a single task gets its gradient right away.

        Args:
            gradients: each task's over every candidate.
            losses: where they come from.
            beyond: whether the graph is cut, so that shared parameters may lie beyond.

        Raises:
            ValueError: the graph cannot tell them apart, or no task reaches what it was told.
        """
        reached = [(p, by_task, _tasks(by_task)) for p, by_task in gradients]
        if self._told is not None:
            shared = [(p, by_task) for p, by_task, tasks in reached if tasks]
            if gradients and not shared and not beyond:
                raise ValueError("none of the losses depends on any of the shared parameters")
            return shared
        several = [entry for entry in reached if len(entry[2]) > 1]
        if self.looks:
            headed = {tasks[0] for _, _, tasks in reached if len(tasks) == 1}
            self._look(several, headed, losses)
        in_question = any(len(self._nonzero[id(parameter)]) < 2 for parameter, _, _ in several)
        if in_question and not self._in_question:
            self._steps_in_question = 0
        self._in_question = in_question
        for parameter, by_task, tasks in reached:
            if len(tasks) == 1:
                gradient = by_task[tasks[0]]
                assert gradient is not None
                if parameter.grad is None:
                    parameter.grad = gradient
                else:
                    accumulate(parameter, gradient)
        return [(p, by_task) for p, by_task, _ in several]

    def _look(
        self,
        several: Sequence[tuple[Tensor, Sequence[Tensor | None], list[int]]],
        headed: set[int],
        losses: TaskLosses,
    ) -> None:
        """Makes sure of those parameters that several tasks reach in the graph.

        Args:
            several: the parameters, the gradients over them, and the tasks that reach them.
            headed: tasks that reach a parameter of their own.
            losses: those of the batch.

        Raises:
            ValueError: one of them is a task's own.
        """
        several = [entry for entry in several if len(self._nonzero[id(entry[0])]) < 2]
        flags = iter(_any_nonzero([g for _, by_task, _ in several for g in by_task]))
        in_batch = [
            {k for k, flag in enumerate([next(flags) for _ in by_task]) if flag}
            for _, by_task, _ in several
        ]
        active = set().union(*in_batch)
        graph = Graph(losses)
        for (parameter, by_task, tasks), now in zip(several, in_batch, strict=True):
            nonzero = self._nonzero[id(parameter)]
            nonzero |= now
            if len(now) > 1 and not now & headed and _apart(by_task):
                raise ValueError(
                    f"{self._name(parameter)} holds the heads of several tasks, each in a part of "
                    "its own; name the shared module or parameters by shared=…"
                )
            if len(nonzero) == 1:
                (owner,) = nonzero
                for other in set(tasks) - nonzero:
                    headless = other in active and other not in headed
                    if headless or graph.gets_lost(other, owner, parameter):
                        raise ValueError(self._complaint(parameter, other, owner, losses.tasks))

    def _complaint(self, parameter: Tensor, other: int, owner: int, tasks: Sequence[str]) -> str:
        return (
            f"the graph of the losses cannot tell heads from shared layers: tasks {tasks[owner]!r} "
            f"and {tasks[other]!r} both reach {self._name(parameter)}, but only the first has a "
            "gradient there; the network is compiled as a whole, or losses are cut out of one "
            "tensor: keep them apart, or name the shared module or parameters by shared=…"
        )

    def _name(self, parameter: Tensor) -> str:
        names = {id(p): name for name, p in self._model.named_parameters()} if self._model else {}
        return names.get(id(parameter), f"a parameter of shape {tuple(parameter.shape)}")


def _parts(shared: nn.Module | Iterable[Any]) -> list[nn.Module | Tensor]:
    parts: list[Any] = [shared] if isinstance(shared, nn.Module | Tensor) else list(shared)
    for part in parts:
        if not (isinstance(part, nn.Module) or (isinstance(part, Tensor) and part.is_leaf)):
            raise ValueError(
                "shared must be a module, or modules and parameters, but holds "
                f"{type(part).__name__}"
            )
    if not any(True for part in parts for _ in _parameters(part)):
        raise ValueError("shared holds no parameter")
    return parts


def _parameters(part: nn.Module | Tensor) -> Iterator[Tensor]:
    return iter([part]) if isinstance(part, Tensor) else part.parameters()


def _trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those that require a gradient, each once."""
    return list({id(p): p for p in parameters if p.requires_grad}.values())


def _tasks(by_task: Sequence[Tensor | None]) -> list[int]:
    return [k for k, gradient in enumerate(by_task) if gradient is not None]


def _any_nonzero(gradients: Sequence[Tensor | None]) -> list[bool]:
    """Whether each is not 0 throughout. The device is waited for once."""
    flags = [
        (g.coalesce().values() if g.is_sparse else g).any() for g in gradients if g is not None
    ]
    told = iter(torch.stack([f.to(flags[0].device) for f in flags]).tolist() if flags else [])
    return [g is not None and next(told) for g in gradients]


def _apart(by_task: Sequence[Tensor | None]) -> bool:
    """Whether no two tasks' gradients are both other than 0 at any place."""
    places = [(g.to_dense() if g.is_sparse else g) != 0 for g in by_task if g is not None]
    return not bool((torch.stack(places).sum(0) > 1).any())


Node = torch.autograd.graph.Node
Edge = tuple[Node, int]


class Graph:
    """The autograd graph of a batch's losses."""

    def __init__(self, losses: TaskLosses) -> None:
        self.losses = losses
        self._below: dict[int, dict[Node, list[Edge]]] = {}
        self._lost: dict[tuple[int, int], set[int] | None] = {}

    def gets_lost(self, task: int, other: int, leaf: Tensor) -> bool:
        """Whether a task's gradient enters what its graph has in common with another task's, and
        could from there on reach a leaf."""
        pair = (task, other)
        if pair not in self._lost:
            self._lost[pair] = self._reachable(task, other)
        reachable = self._lost[pair]
        return reachable is not None and (id(leaf) in reachable or not self._has(task, leaf))

    def _reachable(self, task: int, other: int) -> set[int] | None:
        """The leaves below where the gradient enters the common graph; None where it does not."""
        mine, others = self._nodes(task), self._nodes(other)
        entered = self._entered(task, mine, others)
        if not entered:
            return None
        return {id(_variable(node)) for node in _descend(entered)}

    def _entered(
        self, task: int, mine: dict[Node, list[Edge]], others: dict[Node, list[Edge]]
    ) -> list[Node]:
        vector = self.losses.vectors[task]
        cotangent = self.losses.instance_weights[:, task].to(vector.dtype)
        root = vector.grad_fn
        if root in others:
            return [root] if root is not None and bool(cotangent.any()) else []
        edges = {
            edge
            for node, below in mine.items()
            if node not in others
            for edge in below
            if edge[0] in others and _variable(edge[0]) is None
        }
        ordered = list(edges)
        if not ordered:
            return []
        try:
            gradients = torch.autograd.grad(
                [vector],
                [GradientEdge(node, number) for node, number in ordered],
                [cotangent],
                retain_graph=True,
                allow_unused=True,
            )
        except RuntimeError:  # a reentrant checkpoint in the task's own part
            return []
        flags = _any_nonzero(gradients)
        return [node for (node, _), flag in zip(ordered, flags, strict=True) if flag]

    def _has(self, task: int, leaf: Tensor) -> bool:
        """Whether the graph shows the leaf: what a reentrant checkpoint holds is hidden."""
        return any(_variable(node) is leaf for node in self._nodes(task))

    def _nodes(self, task: int) -> dict[Node, list[Edge]]:
        """All nodes of a task's graph, with the edges that leave them."""
        if task not in self._below:
            root = self.losses.vectors[task].grad_fn
            self._below[task] = {} if root is None else _descend([root])
        return self._below[task]


def _descend(roots: Sequence[Node]) -> dict[Node, list[Edge]]:
    found: dict[Node, list[Edge]] = {}
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        found[node] = [
            (below, number) for below, number in node.next_functions if below is not None
        ]
        waiting += [below for below, _ in found[node]]
    return found


def _leaves(roots: Sequence[Tensor]) -> list[Tensor]:
    """The tensors at the ends of the graph, in the order that they are met."""
    nodes = [root.grad_fn for root in roots if root.grad_fn is not None]
    variables = [_variable(node) for node in _descend(nodes)]
    return [variable for variable in variables if variable is not None]


def _variable(node: Node) -> Tensor | None:
    """The tensor whose `.grad` a node at the end of the graph adds to."""
    ends = node.name() == "torch::autograd::AccumulateGrad"
    return node.variable if ends else None  # type: ignore[attr-defined]
