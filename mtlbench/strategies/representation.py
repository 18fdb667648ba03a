"""The representation: features that the shared layers give, detached before the heads."""

import copy
import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import TensorWeakRef

NOT_RUN = (
    "the module of the representation has not run in training since the last step, as far as the "
    "losses show (a network that was compiled before the strategy was built hides it, and so does "
    "a reentrant checkpoint around it)"
)


class LeafView(torch.autograd.Function):
    """A view of a leaf for the heads, which they may change in place, in the same memory."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor) -> Tensor:
        return leaf.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


@dataclass
class DetachedFeatures:
    """The features of one forward pass of the shared layers.

    Attributes:
        features: outputs of the shared layers, with their history.
        leaves: the detached features that the heads got in their place; weak, so that a pass
            whose losses nobody keeps is forgotten.
    """

    features: list[Tensor]
    leaves: list[TensorWeakRef]

    @property
    def alive(self) -> bool:
        """True while a loss that depends on them can still come."""
        return any(leaf() is not None for leaf in self.leaves)

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Each feature with the leaf in its place, where that is still used."""
        both = [(f, leaf()) for f, leaf in zip(self.features, self.leaves, strict=True)]
        return [(feature, leaf) for feature, leaf in both if leaf is not None]


class Representation:
    """The output of the shared layers, detached from its history before the heads.

    Whenever the module runs in training, its outputs are put aside, and the heads go on from
    the same numbers without a history. In `stopping_at_features` the backward pass of a task ends
    there, so that the tasks' gradients can be joined before one backward pass through
    the shared layers; any other backward pass goes on through them as ever. The module may run
    several times before the losses come: for each loader, for both halves of a pair, on its own
    outputs.

    Args:
        module: the part of the network whose output all heads see: a tensor, or tuples, lists,
            dictionaries and dataclasses of tensors.
        model: the network. The graph is cut while it or the module is in training mode.
    """

    def __init__(self, module: nn.Module, model: nn.Module | None) -> None:
        self._modules = [module] if model is None else [module, model]
        self._pending: list[DetachedFeatures] = []
        self._ran = self._stops_at_features = False
        # A compiled graph has no leaves. Not as a decorator, which would import the compiler, half
        # as large as PyTorch, into every command.
        self._detach_outside_graphs = torch.compiler.disable(Representation.detach)
        _attach(self, module)

    def __reduce__(self) -> tuple[type["Representation"], tuple[nn.Module | None, ...]]:
        """For copies and pickles: one of the module's own copy, from its next pass on."""
        module, *model = self._modules
        return Representation, (module, model[0] if model else None)

    def pending(self) -> list[DetachedFeatures]:
        """The features whose losses have not come yet, in the order that they were made.

        Raises:
            ValueError: there is none, or another strategy cuts the module's output by now.
        """
        if _newest(self._modules[0]) is not self:
            raise ValueError(
                "a strategy made later has the same module as its representation; make this one "
                "anew to go on with it"
            )
        self._pending = [each for each in self._pending if each.alive]
        if not self._pending and not self._ran:
            raise ValueError(NOT_RUN)
        self._ran = False
        return list(self._pending)

    @contextmanager
    def stopping_at_features(self) -> Iterator[None]:
        """Lets backward passes end at the detached features."""
        self._stops_at_features = True
        try:
            yield
        finally:
            self._stops_at_features = False

    def backward(self, passes: Sequence[DetachedFeatures], *, retain_graph: bool) -> None:
        """Passes on what stands in `.grad` of the leaves, and takes it from there.

        From the last pass to the first: the module may have seen its own output.
        """
        for number, each in enumerate(reversed(passes), 1):
            reached = [(o, leaf) for o, leaf in each.pairs() if leaf.grad is not None]
            if not reached:
                continue
            gradients = [leaf.grad for _, leaf in reached]
            for _, leaf in reached:
                leaf.grad = None
            torch.autograd.backward(
                [output for output, _ in reached],
                gradients,
                retain_graph=retain_graph or number < len(passes),
            )
            if not retain_graph:
                self._pending = [other for other in self._pending if other is not each]

    def _go_on_through_trunk(self, output: Tensor, leaf: Tensor) -> None:
        """Goes on through the shared layers in a backward pass that is not the strategy's."""
        if not self._stops_at_features:
            gradient, leaf.grad = leaf.grad, None
            # Whether the pass keeps its graph is not known here; this one lives as the losses do.
            torch.autograd.backward([output], [gradient], retain_graph=True)

    def detach(self, output: Any) -> Any:
        """Puts outputs aside and gives the heads the same numbers without a history."""
        if not (torch.is_grad_enabled() and any(module.training for module in self._modules)):
            return output
        self._pending = [each for each in self._pending if each.alive]
        new = DetachedFeatures([], [])

        def detach_tensor(tensor: Tensor) -> Tensor:
            if not tensor.requires_grad:
                return tensor
            leaf = tensor.detach().requires_grad_()
            go_on = functools.partial(self._go_on_through_trunk, tensor)
            leaf.register_post_accumulate_grad_hook(go_on)
            new.features.append(tensor)
            new.leaves.append(TensorWeakRef(leaf))
            view: Tensor = LeafView.apply(leaf)
            return view

        changed, tensors = _for_each_tensor(detach_tensor, output)
        if not tensors:
            raise ValueError(
                "the module of the representation must give tensors, or containers of them, but "
                f"gives {type(output).__name__}"
            )
        self._ran = True
        if new.features:
            self._pending.append(new)
        return changed


_representations: weakref.WeakKeyDictionary[nn.Module, "weakref.ref[Representation]"] = (
    weakref.WeakKeyDictionary()
)
"""The newest of each module: where two cut its output, nothing would come back from the first."""


def _newest(module: nn.Module) -> Representation | None:
    reference = _representations.get(module)
    return None if reference is None else reference()


def _attach(representation: Representation, module: nn.Module) -> None:
    if _hook not in module._forward_hooks.values():
        module.register_forward_hook(_hook)
    _representations[module] = weakref.ref(representation)


def _hook(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Cuts the output of a module that is a representation; a copy of it is none."""
    representation = _newest(module)
    if representation is None:
        return output
    return representation._detach_outside_graphs(representation, output)


def _for_each_tensor(change: Callable[[Tensor], Tensor], values: Any) -> tuple[Any, int]:
    """A copy of nested containers with each tensor in them changed, and how many there were."""
    if isinstance(values, Tensor):
        return change(values), 1
    if isinstance(values, dict):
        items: dict[Any, Any] = dict(values)
    elif isinstance(values, list | tuple):
        items = dict(enumerate(values))
    elif dataclasses.is_dataclass(values) and not isinstance(values, type):
        items = {f.name: getattr(values, f.name) for f in dataclasses.fields(values)}
    else:
        return values, 0
    changed = {key: _for_each_tensor(change, value) for key, value in items.items()}
    new = {key: value for key, (value, _) in changed.items()}
    count = sum(number for _, number in changed.values())
    if isinstance(values, tuple) and hasattr(values, "_fields"):  # a named tuple
        return type(values)(*new.values()), count
    if isinstance(values, list | tuple):
        return type(values)(new.values()), count
    copied = copy.copy(values)
    for key, value in new.items():
        if isinstance(values, dict):
            copied[key] = value
        else:
            object.__setattr__(copied, key, value)
    return copied, count
