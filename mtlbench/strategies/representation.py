"""The graph of the losses, cut where the shared layers hand over to the heads."""

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


class HandOver(torch.autograd.Function):
    """Hands a leaf to the heads as a tensor that they may change in place, in the same memory."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor) -> Tensor:
        return leaf.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


@dataclass
class Call:
    """One forward pass of the shared layers.

    Attributes:
        outputs: what they gave, with its history.
        leaves: what the heads got in its place, without one; weak, so that a pass whose losses
            nobody keeps is forgotten.
    """

    outputs: list[Tensor]
    leaves: list[TensorWeakRef]

    @property
    def alive(self) -> bool:
        """Whether a loss that depends on it can still come."""
        return any(leaf() is not None for leaf in self.leaves)

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Each output with the leaf in its place, where that is still used."""
        both = [(o, leaf()) for o, leaf in zip(self.outputs, self.leaves, strict=True)]
        return [(output, leaf) for output, leaf in both if leaf is not None]


class Representation:
    """What the shared layers give to the heads, cut off from what made it.

    Whenever the module runs in training, its outputs are put aside, and the heads go on from
    the same numbers without a history. While the strategy holds back, the backward pass of a
    task ends there, so that the tasks' gradients can be joined before one backward pass through
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
        self._calls: list[Call] = []
        self._ran = self._holds_back = False
        self.cut_uncompiled = torch.compiler.disable(self.cut)  # a compiled graph has no leaves
        _attach(self, module)

    def take(self) -> list[Call]:
        """The calls whose losses have not come yet, in the order that they were made.

        Raises:
            ValueError: there is none, or another strategy cuts the module's output by now.
        """
        newest = _newest(self._modules[0])
        if newest is None:
            raise ValueError("a copy of a strategy does not notice its module; make one for it")
        if newest is not self:
            raise ValueError(
                "a strategy made later has the same module as its representation; make this one "
                "anew to go on with it"
            )
        self._calls = [call for call in self._calls if call.alive]
        if not self._calls and not self._ran:
            raise ValueError(NOT_RUN)
        self._ran = False
        return list(self._calls)

    @contextmanager
    def holding_back(self) -> Iterator[None]:
        """Lets backward passes end where the heads began."""
        self._holds_back = True
        try:
            yield
        finally:
            self._holds_back = False

    def backward(self, calls: Sequence[Call], *, retain_graph: bool) -> None:
        """Passes on what stands in `.grad` of the leaves, and takes it from there.

        From the last call to the first: the module may have seen its own output.
        """
        for number, call in enumerate(reversed(calls), 1):
            reached = [(o, leaf) for o, leaf in call.pairs() if leaf.grad is not None]
            if not reached:
                continue
            gradients = [leaf.grad for _, leaf in reached]
            for _, leaf in reached:
                leaf.grad = None
            torch.autograd.backward(
                [output for output, _ in reached],
                gradients,
                retain_graph=retain_graph or number < len(calls),
            )
            if not retain_graph:
                self._calls = [other for other in self._calls if other is not call]

    def _pass_on(self, output: Tensor, leaf: Tensor) -> None:
        """Goes on through the shared layers in a backward pass that is not the strategy's."""
        if not self._holds_back:
            gradient, leaf.grad = leaf.grad, None
            # Whether the pass keeps its graph is not known here; this one lives as the losses do.
            torch.autograd.backward([output], [gradient], retain_graph=True)

    def cut(self, output: Any) -> Any:
        """Puts outputs aside and gives the heads the same numbers without a history."""
        if not (torch.is_grad_enabled() and any(module.training for module in self._modules)):
            return output
        self._calls = [call for call in self._calls if call.alive]
        call = Call([], [])

        def cut_tensor(tensor: Tensor) -> Tensor:
            if not tensor.requires_grad:
                return tensor
            leaf = tensor.detach().requires_grad_()
            leaf.register_post_accumulate_grad_hook(functools.partial(self._pass_on, tensor))
            call.outputs.append(tensor)
            call.leaves.append(TensorWeakRef(leaf))
            handed_over: Tensor = HandOver.apply(leaf)
            return handed_over

        changed, tensors = _for_each_tensor(cut_tensor, output)
        if not tensors:
            raise ValueError(
                "the module of the representation must give tensors, or containers of them, but "
                f"gives {type(output).__name__}"
            )
        self._ran = True
        if call.outputs:
            self._calls.append(call)
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
    return output if representation is None else representation.cut_uncompiled(output)


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
