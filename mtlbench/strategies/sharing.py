"""The parameters that tasks share: as given, or as the graph of the losses has it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.strategies.gradients import TaskGradients, TaskLosses, gradients_of
from mtlbench.strategies.graph import LossGraph, any_nonzero, leaves

EAGER_STEPS = 8
"""While a parameter is in question, the graph is looked at in so many steps, and then in those
whose number is a power of two."""


WAY_OUT = (
    "name the shared module or parameters by shared=… of build_strategy; in a study, weigh on what "
    "the heads are given: --set STRATEGY.on=representation"
)


class SharedParameters:
    """Tells the parameters that the tasks share from those of their heads.

    Parameters that are given as shared are taken. Else a parameter is shared that the losses
    of several tasks reach in the graph. A graph can say too much, not too little: where the
    network is compiled as one, or the losses are slices of one tensor, every loss reaches every
    head, with gradients of 0. So a parameter counts as shared once two tasks have had a gradient
    that is not 0 over it. Where a single one has, `LossGraph.drops_gradient` looks where the
    others' got lost: an operation that hands parts of its gradient to several inputs is not to be
    trusted, other than a head that starts at 0. A layer whose rows are the heads of tasks is
    refused, too.

    Args:
        model: the network; its parameters are read in every step, so that it may change.
        shared: the shared parameters, or modules that hold them; None to find them.
        over_ranks: whether several processes train together. Then gradients of all parameters are
            asked for, to be brought together, and all of them must be of the model.

    Raises:
        ValueError: `model` is no module, or `shared` holds something else, or nothing.
    """

    def __init__(
        self,
        model: nn.Module | None,
        shared: nn.Module | Iterable[Any] | None = None,
        *,
        over_ranks: bool = False,
    ) -> None:
        self._over_ranks = over_ranks
        if not (model is None or isinstance(model, nn.Module)):
            raise ValueError(f"model must be a module, but is of type {type(model).__name__}")
        self._model = model
        self._given = None if shared is None else _parts(shared)
        self._known: list[Tensor] = []  # held, so that an id stays the id of one tensor
        self._outside: list[Tensor] = []
        self._nonzero: dict[int, set[int]] = defaultdict(set)  # tasks, by the id of a parameter
        self._undecided, self._undecided_steps = True, 0
        self.inspects_graph = False

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, whose parameters have other ids: they look at the graph anew."""
        return self.__dict__ | {"_known": [], "_nonzero": defaultdict(set)}

    @property
    def available(self) -> bool:
        """True where there is anything to weigh gradients over."""
        return self._model is not None or self._given is not None

    def candidates(self, roots: Sequence[Tensor]) -> list[Tensor]:
        """The parameters whose gradients are to be had by task, at the start of a step.

        Args:
            roots: the losses, and what else is to be gone back from. Parameters outside of
                `model` that these depend on are among the candidates.
        """
        if self._over_ranks and self._model is None:
            raise ValueError("model is needed: over several processes, the whole network")
        if self._given is not None:
            shared = _trainable(chain.from_iterable(map(_parameters, self._given)))
            if not self._over_ranks:
                return shared
            assert self._model is not None
            return _trainable([*shared, *self._model.parameters()])
        assert self._model is not None
        known = _trainable(self._model.parameters())
        if list(map(id, known)) != list(map(id, self._known)):
            self._known = known
            self._nonzero.clear()
            self._undecided, self._undecided_steps = True, 0
        self._undecided_steps += 1
        few = self._undecided_steps <= EAGER_STEPS
        self.inspects_graph = self._undecided and (few or self._undecided_steps.bit_count() == 1)
        if self.inspects_graph:
            ids = set(map(id, known))
            found = [leaf for leaf in leaves(roots) if isinstance(leaf, nn.Parameter)]
            self._outside = [leaf for leaf in found if id(leaf) not in ids]
            if self._outside and self._over_ranks:
                raise ValueError(
                    "the losses depend on parameters outside of model; over several processes it "
                    "must be the whole network"
                )
        return known + self._outside

    def reached(self, losses: TaskLosses) -> tuple[list[Tensor], list[list[Tensor]]]:
        """The parameters that several tasks' losses depend on, and those that one's alone do, by
        task, in the order of the model, before any gradient is there to tell.

        Raises:
            ValueError: the shared ones are given, and several tasks depend on another one.
        """
        by_task: list[dict[int, Tensor]] = [
            {id(leaf): leaf for leaf in leaves([vector]) if isinstance(leaf, nn.Parameter)}
            for vector in losses.vectors
        ]
        times = Counter(chain.from_iterable(by_task))
        shared = {key for key, count in times.items() if count > 1}
        if self._given is not None:
            given = {id(p) for part in self._given for p in _parameters(part)}
            if shared - given:
                raise ValueError(
                    "the graph of the losses must tell the heads of the tasks apart, also where "
                    "shared is given: this strategy moves each of them by itself; keep the losses "
                    "apart, and compile the network in parts"
                )
            shared = given
        model = () if self._model is None else self._model.parameters()
        order = {id(parameter): place for place, parameter in enumerate(model)}
        reached = {key: leaf for some in by_task for key, leaf in some.items()}
        keys = sorted(reached, key=lambda key: order.get(key, len(order)))
        own = [[reached[key] for key in keys if key in some.keys() - shared] for some in by_task]
        return [reached[key] for key in keys if key in shared], own

    def split(
        self, gradients: Sequence[TaskGradients], losses: TaskLosses, trunk: set[int] | None = None
    ) -> tuple[list[TaskGradients], list[tuple[Tensor, Tensor]]]:
        """The shared ones of the parameters, with each task's gradient, and what is the others'.

        Args:
            gradients: each task's over every candidate.
            losses: where they come from.
            trunk: ids of the parameters before the cut, where the graph is cut: they are shared.

        Raises:
            ValueError: the graph cannot tell them apart, or no task reaches what was given.
        """
        reached = [(p, by_task, _tasks(by_task)) for p, by_task in gradients]
        if self._given is not None:
            given = {id(p) for part in self._given for p in _parameters(part)}
            shared = [(p, by_task) for p, by_task, tasks in reached if tasks and id(p) in given]
            if gradients and not shared and trunk is None:
                raise ValueError("none of the losses depends on any of the shared parameters")
            sums = [
                (p, torch.stack([g for g in by_task if g is not None]).sum(0))
                for p, by_task, tasks in reached
                if tasks and id(p) not in given
            ]
            return shared, sums
        several = [entry for entry in reached if len(entry[2]) > 1]
        try:
            if self.inspects_graph:
                self._check_graph(several, losses)
            elif new := [entry for entry in several if id(entry[0]) not in self._nonzero]:
                self._check_values(new, losses)
        except ValueError:
            self._nonzero.clear()  # whoever tries again is told again
            raise
        undecided = any(len(self._nonzero[id(parameter)]) < 2 for parameter, _, _ in several)
        if undecided and not self._undecided:
            self._undecided_steps = 0
        self._undecided = undecided
        shared, own = [], []
        for parameter, by_task, tasks in reached:
            if len(tasks) > 1 or (tasks and trunk and id(parameter) in trunk):
                shared.append((parameter, by_task))
            elif tasks:
                gradient = by_task[tasks[0]]
                assert gradient is not None
                own.append((parameter, gradient))
        return shared, own

    def _check_graph(
        self,
        several: Sequence[tuple[Tensor, Sequence[Tensor | None], list[int]]],
        losses: TaskLosses,
    ) -> None:
        """Makes sure of those parameters that several tasks reach in the graph.

        Args:
            several: the parameters, the gradients over them, and the tasks that reach them.
            losses: those of the batch.

        Raises:
            ValueError: one of them is a task's own.
        """
        several = [entry for entry in several if len(self._nonzero[id(entry[0])]) < 2]
        graph = LossGraph(losses)
        flags = _nonzero_flags([by_task for _, by_task, _ in several])
        columns = [list(by_task) for _, by_task, _ in several]
        for k in range(len(losses.tasks)):
            if several and not any(row[k] for row in flags):
                # Nothing of this task in the batch: what its losses would do, whatever the labels.
                probe = self._probe(graph, k, [parameter for parameter, _, _ in several])
                for column, row, gradient, flag in zip(
                    columns, flags, probe, _nonzero_flags([probe])[0], strict=True
                ):
                    column[k], row[k] = gradient, flag
        for (parameter, _, tasks), by_task, row in zip(several, columns, flags, strict=True):
            nonzero = self._nonzero[id(parameter)]
            nonzero |= {k for k, flag in enumerate(row) if flag}
            disjoint = len(nonzero) > 1 and _disjoint(by_task)
            if disjoint and graph.has_own_columns(sorted(nonzero), parameter):
                raise ValueError(
                    f"{self._name(parameter)} holds the heads of several tasks, each in a part of "
                    f"its own; {WAY_OUT}"
                )
            if len(nonzero) == 1:
                (owner,) = nonzero
                for other in set(tasks) - nonzero:
                    if graph.drops_gradient(other, parameter):
                        names = losses.tasks[owner], losses.tasks[other]
                        raise ValueError(self._message(parameter, *names))

    def _check_values(
        self,
        several: Sequence[tuple[Tensor, Sequence[Tensor | None], list[int]]],
        losses: TaskLosses,
    ) -> None:
        """The same where the graph has changed and is gone.

        Raises:
            ValueError: one of the parameters has one task's gradient only.
        """
        flags = _nonzero_flags([by_task for _, by_task, _ in several])
        for (parameter, _, tasks), row in zip(several, flags, strict=True):
            nonzero = self._nonzero[id(parameter)]
            nonzero |= {k for k, flag in enumerate(row) if flag}
            if len(nonzero) == 1:
                (owner,) = nonzero
                other = next(k for k in tasks if k != owner)
                names = losses.tasks[owner], losses.tasks[other]
                raise ValueError(self._message(parameter, *names))

    def _probe(self, graph: LossGraph, task: int, parameters: list[Tensor]) -> list[Tensor | None]:
        """The gradients of the sum of a task's losses; no `.grad` changes."""
        others = [*self._known, *self._outside, *leaves([graph.losses.vectors[task]])]
        tensors = list({id(tensor): tensor for tensor in [*parameters, *others]}.values())
        return gradients_of(tensors, lambda: graph.backward_sum(task))[: len(parameters)]

    def _message(self, parameter: Tensor, owner: str, other: str) -> str:
        return (
            f"the graph of the losses cannot tell heads from shared layers: tasks {owner!r} and "
            f"{other!r} both reach {self._name(parameter)}, but only the first has a gradient "
            "there, as where a network is compiled as a whole, losses are cut out of one tensor, "
            f"or something is multiplied by 0; keep the losses apart, or {WAY_OUT}"
        )

    def _name(self, parameter: Tensor) -> str:
        named = [] if self._model is None else self._model.named_parameters()
        names = {id(p): name for name, p in named}
        return names.get(id(parameter), f"a parameter of shape {tuple(parameter.shape)}")


def _parts(shared: nn.Module | Iterable[Any]) -> list[nn.Module | Tensor]:
    if isinstance(shared, nn.Module | Tensor):
        shared = [shared]
    parts: list[Any] = list(shared) if isinstance(shared, Iterable) else [shared]
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


def _nonzero_flags(rows: Sequence[Sequence[Tensor | None]]) -> list[list[bool]]:
    """A flag for each gradient that is not 0 throughout."""
    flags = iter(any_nonzero([gradient for row in rows for gradient in row]))
    return [[next(flags) for _ in row] for row in rows]


def _disjoint(by_task: Sequence[Tensor | None]) -> bool:
    """True where no two tasks' gradients are both other than 0 at any place."""
    places = [(g.to_dense() if g.is_sparse else g) != 0 for g in by_task if g is not None]
    return not bool((torch.stack(places).sum(0) > 1).any())
