"""The gradients of all tasks over what they share, and one gradient put in their place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Cut:
    """Outputs of the shared layers, and the leaves that the heads got in their place."""

    outputs: list[Tensor] = field(default_factory=list)
    leaves: list[Tensor] = field(default_factory=list)

    def output_of(self, tensor: Tensor) -> Tensor | None:
        """The output in whose place a leaf stands; None of any other tensor."""
        pairs = zip(self.outputs, self.leaves, strict=True)
        return next((output for output, leaf in pairs if leaf is tensor), None)


class Representation:
    """What the shared layers give to the heads, cut off from what made it.

    Whenever the module runs in training, its outputs are put aside, and the heads go on from
    copies without a history. The backward pass of a task ends there, so that the tasks'
    gradients can be joined before one backward pass through the shared layers.

    Args:
        module: the part of the network whose output all heads see: a tensor, or tuples, lists and
            dictionaries of tensors.
    """

    def __init__(self, module: nn.Module) -> None:
        self.cut = Cut()
        module.register_forward_hook(self._cut)

    def take(self) -> "Cut":
        """Where the last forward pass was cut, which is then forgotten.

        Raises:
            ValueError: there was none.
        """
        if not self.cut.leaves:
            raise ValueError(
                "the module of the representation has not run in training since the last step"
            )
        taken, self.cut = self.cut, Cut()
        return taken

    def _cut(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if not (module.training and torch.is_grad_enabled()):
            return output
        self.cut = Cut()
        return _for_each_tensor(self._cut_tensor, output)

    def _cut_tensor(self, output: Tensor) -> Tensor:
        if not output.requires_grad:
            return output
        leaf = output.detach().requires_grad_()
        self.cut.outputs.append(output)
        self.cut.leaves.append(leaf)
        return leaf


def _for_each_tensor(change: Callable[[Tensor], Tensor], values: Any) -> Any:
    if isinstance(values, Tensor):
        return change(values)
    if isinstance(values, dict):
        return {key: _for_each_tensor(change, value) for key, value in values.items()}
    if isinstance(values, tuple) and hasattr(values, "_fields"):  # a named tuple
        return type(values)(*(_for_each_tensor(change, value) for value in values))
    if isinstance(values, list | tuple):
        return type(values)(_for_each_tensor(change, value) for value in values)
    return values


Pass = tuple[Sequence[Tensor], Sequence[Tensor]]
"""Where a backward pass starts: tensors, and the gradients over them."""

Reached = tuple[Tensor, tuple[Tensor | None, ...]]
"""A tensor, and each task's gradient over it, None where the task does not reach it."""


def gradients_by_task(passes: Sequence[Pass], inputs: Sequence[Tensor]) -> list[Reached]:
    """The gradients over each of the inputs, a backward pass for each task."""
    by_task = [
        torch.autograd.grad(
            outputs,
            inputs,
            grad_outputs=gradients,
            retain_graph=k < len(passes) - 1,
            allow_unused=True,
        )
        for k, (outputs, gradients) in enumerate(passes)
    ]
    return list(zip(inputs, zip(*by_task, strict=True), strict=True))


def keep_shared(reached: Sequence[Reached]) -> list[Reached]:
    """Those parameters that several tasks reach; one that a single task reaches takes that task's
    gradient right away."""
    shared = []
    for parameter, by_task in reached:
        gradients = [gradient for gradient in by_task if gradient is not None]
        if len(gradients) == 1:
            accumulate(parameter, gradients[0])
        elif gradients:
            shared.append((parameter, by_task))
    return shared


class Jacobian:
    """The tasks' gradients over tensors that they share, J [K, P], in blocks [K, P_t].

    Args:
        shared: the tensors and the gradients over them, some task's at least.
        tasks: K.
        dtype, device: of the blocks.
    """

    def __init__(
        self, shared: Sequence[Reached], tasks: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.nothing = torch.zeros(tasks, 0, dtype=dtype, device=device)
        self.tensors = [tensor for tensor, _ in shared]
        self.blocks = [
            torch.stack([torch.zeros_like(tensor) if g is None else g for g in by_task])
            .flatten(1)
            .to(dtype)
            for tensor, by_task in shared
        ]

    def gramian(self) -> Tensor:
        """J Jᵀ [K, K]."""
        gramian = self.nothing @ self.nothing.T
        for block in self.blocks:
            gramian += block @ block.T
        return gramian

    def matrix(self) -> Tensor:
        """J [K, P]."""
        return torch.cat([self.nothing, *self.blocks], dim=1)

    def weighted(self, weights: Tensor) -> list[Tensor]:
        """wᵀ J, in the tensors' shapes."""
        return self._shaped([weights @ block for block in self.blocks])

    def split(self, direction: Tensor) -> list[Tensor]:
        """A direction [P], in the tensors' shapes."""
        return self._shaped(direction.split([block.shape[1] for block in self.blocks]))

    def _shaped(self, parts: Sequence[Tensor]) -> list[Tensor]:
        return [
            part.view_as(tensor).to(tensor.dtype)
            for part, tensor in zip(parts, self.tensors, strict=True)
        ]


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Adds to `.grad`, which gets the parameter's memory layout: fused optimisers pair up memory,
    not indices."""
    if parameter.grad is None:
        # A copy: autograd.grad may hand one tensor, or an expanded one, to several parameters.
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
    else:
        parameter.grad.add_(gradient)
