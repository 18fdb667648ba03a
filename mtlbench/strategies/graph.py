"""The autograd graph of a batch's losses: what it ties together, and whether it can be trusted."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node

from mtlbench.strategies.gradients import TaskLosses
from mtlbench.strategies.representation import LeafView

Edge = tuple[Node, int]

NextEdges = dict[Node, list[Edge]]
"""Nodes with the edges that leave them, towards the parameters."""

PRODUCTS = ("Mul", "Div", "Mm", "Bmm", "Addmm", "Baddbmm", "Addbmm", "Mv", "Dot", "Linear")
"""Operations, and all convolutions, whose gradient over one input vanishes with the other."""

SLICES = ("Select", "Slice", "Split", "Unbind")


class LossGraph:
    """The graph of each task's losses, to be gone through again while it is there."""

    def __init__(self, losses: TaskLosses) -> None:
        self.losses = losses
        self._below: dict[int, NextEdges] = {}
        self._gradients: dict[int, dict[Edge, bool]] = {}

    def backward_sum(self, task: int) -> None:
        """A backward pass of the sum of a task's losses, whatever their weights."""
        ones = torch.ones_like(self.losses.vectors[task])
        self.losses.vjp(task, ones, retain_graph=True)

    def drops_gradient(self, task: int, leaf: Tensor) -> bool:
        """True where a task has no gradient over a leaf because an operation on the way there
        hands its gradient to some of its inputs only.

        Other reasons may pass: a factor that is 0 as it happens, such as a head that starts at 0,
        or a function that is flat here.
        """
        below = self._nodes(task)
        ends = {node for node in below if _variable(node) is leaf}
        if not ends:  # hidden: in a function of somebody's own, such as a reentrant checkpoint
            ends = {node for node in below if isinstance(node, BackwardCFunction)}
            others = (node for node in ends if not isinstance(node, LeafView._backward_cls))
            return any(self._reaches_node(task, node) for node in others)
        ways = _nodes_above(ends, below)
        for node in ways - ends:
            on = [edge for edge in below[node] if edge[0] in ways]
            lost = self._reaches_node(task, node) and not any(
                self._nonzero_at(task, edge) for edge in on
            )
            if lost and not _may_vanish(node, on, below):
                return True
        return False

    def has_own_columns(self, tasks: Sequence[int], leaf: Tensor) -> bool:
        """True where tasks use parts of their own of what comes from a leaf: output columns."""
        common = set.intersection(*(set(self._nodes(task)) for task in tasks))
        ends = {node for node in common if _variable(node) is leaf}
        ways = _nodes_above(ends, self._nodes(tasks[0])) & common - ends
        edges = [edge for edge in self._edges(tasks[0]) if edge[0] in ways]
        rows = zip(*(self._gradients_at(task, edges) for task in tasks), strict=True)
        if any(_disjoint_in_columns([[gradient] for gradient in row]) for row in rows):
            return True
        # Where each task has an output of its own, or cuts its rows out of the leaf.
        views = [self._views(task, leaf) for task in tasks]
        if all(any(_name(node).startswith(SLICES) for node in some) for some in views):
            return True
        uses = [self._uses(task, some) for task, some in zip(tasks, views, strict=True)]
        return _disjoint_in_columns(list(map(self._gradients_at, tasks, uses)))

    def _views(self, task: int, leaf: Tensor) -> set[Node]:
        """A leaf and the views of it that a task uses."""
        below = self._nodes(task)
        ends = {node for node in below if _variable(node) is leaf}
        return ends | {n for n in _nodes_above(ends, below) if _is_parameter((n, 0), below)}

    def _uses(self, task: int, views: set[Node]) -> list[Edge]:
        """The edges into the operations that use them."""
        below = self._nodes(task)
        uses = {
            node
            for node, edges in below.items()
            if node not in views and any(lower in views for lower, _ in edges)
        }
        return [edge for edge in self._edges(task) if edge[0] in uses]

    # --- gradients on the way ---

    def _reaches_node(self, task: int, node: Node) -> bool:
        """True where a task's gradient is not 0 as it comes to a node."""
        return any(self._nonzero_at(task, edge) for edge in self._edges(task) if edge[0] is node)

    def _nonzero_at(self, task: int, edge: Edge) -> bool:
        """True where a task's gradient is not 0 at an edge, or cannot be known there."""
        if task not in self._gradients:
            edges = self._edges(task)
            flags = any_nonzero(self._gradients_at(task, edges))
            if not any(flags):  # a reentrant checkpoint lets nothing be seen below it
                edges = self._edges(task, through_functions=False)
                flags = any_nonzero(self._gradients_at(task, edges))
            self._gradients[task] = dict(zip(edges, flags, strict=True))
        return self._gradients[task].get(edge, True)

    def _gradients_at(self, task: int, edges: Sequence[Edge]) -> Sequence[Tensor | None]:
        """A task's gradients at edges, with weights of 1 for all of its losses."""
        vector = self.losses.vectors[task]
        if not edges or not vector.requires_grad:
            return [None] * len(edges)
        try:
            return torch.autograd.grad(
                [vector],
                [GradientEdge(node, number) for node, number in edges],
                [torch.ones_like(vector)],
                retain_graph=True,
                allow_unused=True,
            )
        except RuntimeError:  # a reentrant checkpoint on the way
            return [None] * len(edges)

    def _edges(self, task: int, *, through_functions: bool = True) -> list[Edge]:
        """All edges of a task's graph, the one into its root among them; or those that are above
        all functions in Python."""
        root = self._root(task)
        if root is None:
            return []
        if through_functions:
            below = self._nodes(task)
        else:
            below = nodes_below([root[0]], stop_at=BackwardCFunction)
        return list(dict.fromkeys([root, *(edge for edges in below.values() for edge in edges)]))

    def _root(self, task: int) -> Edge | None:
        vector = self.losses.vectors[task]
        return None if vector.grad_fn is None else (vector.grad_fn, vector.output_nr)

    def _nodes(self, task: int) -> NextEdges:
        if task not in self._below:
            root = self._root(task)
            self._below[task] = {} if root is None else nodes_below([root[0]])
        return self._below[task]


def _may_vanish(node: Node, on: Sequence[Edge], below: NextEdges) -> bool:
    """True where a gradient may end at a node for its numbers alone: in a product with what is 0,
    in a function of one input that is flat, or in one that says `depends_on_all_inputs`."""
    edges, name = below[node], _name(node)
    if isinstance(node, BackwardCFunction):
        function = getattr(node, "_forward_cls", None)
        return len(edges) == 1 or getattr(function, "depends_on_all_inputs", False)
    if "DifferentiableGraph" in name:
        return len(edges) == 1
    product = name.startswith(PRODUCTS) or "Convolution" in name
    if not product:
        return len(node.next_functions) == 1
    # By a constant it is the graph's doing, unless the constant is the layer's input.
    return len(edges) > 1 or (not name.startswith(("Mul", "Div")) and _is_parameter(on[0], below))


def _disjoint_in_columns(by_task: Sequence[Sequence[Tensor | None]]) -> bool:
    """True where each task's gradients [B, …] are other than 0 in places of its own only."""
    used = []
    for gradients in by_task:
        given = [g for g in gradients if g is not None and g.ndim > 1]
        columns = [(gradient != 0).flatten(1).any(0) for gradient in given]
        if not columns or any(each.shape != columns[0].shape for each in columns):
            return False
        used.append(torch.stack(columns).any(0))
    if any(each.shape != used[0].shape or not each.any() for each in used):
        return False
    return not bool((torch.stack(used).sum(0) > 1).any())


def _is_parameter(edge: Edge, below: NextEdges) -> bool:
    """True of an edge that leads to a leaf and nowhere else, through views of it."""
    node = edge[0]
    while _variable(node) is None and len(below[node]) == 1:
        node = below[node][0][0]
    return _variable(node) is not None


def nodes_below(roots: Sequence[Node], stop_at: type | tuple[type, ...] = ()) -> NextEdges:
    """All nodes below some, and below no node of a certain type."""
    found: NextEdges = {}
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node not in found:
            edges = () if isinstance(node, stop_at) else node.next_functions
            found[node] = [(on, number) for on, number in edges if on is not None]
            waiting += [below for below, _ in found[node]]
    return found


def leaves(roots: Sequence[Tensor]) -> list[Tensor]:
    """The tensors at the ends of the graph, in the order that they are met."""
    variables = [_variable(node) for node in nodes_below(_functions(roots))]
    return [variable for variable in variables if variable is not None]


def has_reentrant_checkpoint(roots: Sequence[Tensor]) -> bool:
    """True where parameters hide from the graph, in an activation checkpoint that is reentrant."""
    return any("CheckpointFunctionBackward" in _name(n) for n in nodes_below(_functions(roots)))


def share_nodes(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """True of two graphs with a part in common, apart from the tensors at their ends."""
    one, other = nodes_below(_functions(some)), nodes_below(_functions(others))
    return any(_variable(node) is None for node in one if node in other)


def _functions(tensors: Sequence[Tensor]) -> list[Node]:
    return [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]


def any_nonzero(gradients: Sequence[Tensor | None]) -> list[bool]:
    """A flag for each that is not 0 throughout. The device is waited for once."""
    flags = [
        (g.coalesce().values() if g.is_sparse else g).any() for g in gradients if g is not None
    ]
    told = iter(torch.stack([f.to(flags[0].device) for f in flags]).tolist() if flags else [])
    return [g is not None and next(told) for g in gradients]


def _nodes_above(ends: set[Node], below: NextEdges) -> set[Node]:
    """The ends, and all nodes from which one of them is reached."""
    above: dict[Node, list[Node]] = defaultdict(list)
    for node, edges in below.items():
        for lower, _ in edges:
            above[lower].append(node)
    found: set[Node] = set()
    waiting = list(ends)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += above[node]
    return found


def _name(node: Node) -> str:
    """What a node does. A function of somebody's own may keep something else as `ctx.name`."""
    return type(node).name(node)


def _variable(node: Node) -> Tensor | None:
    """The tensor whose `.grad` a node at the end of the graph adds to."""
    ends = _name(node) == "torch::autograd::AccumulateGrad"
    return node.variable if ends else None  # type: ignore[attr-defined]
