"""A number that stands for the losses of a batch where somebody else calls `backward`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def stand_in(value: Tensor, backward: Callable[[Tensor], None]) -> Tensor:
    """A scalar with this value, whose backward pass calls a function once.

    The function gets the gradient of the scalar, and may take backward passes of its own: autograd
    is entered anew, as for reentrant checkpoints. Nothing flows on from the scalar.
    """
    origin = torch.zeros((), device=value.device, requires_grad=True)  # or there is no graph
    number: Tensor = _StandIn.apply(value, origin, [backward])
    return number


class _StandIn(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, origin: Tensor, todo: list[Callable[[Tensor], None]]
    ) -> Tensor:
        ctx.todo = todo
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        if not ctx.todo:
            raise RuntimeError("the losses of this batch have gone through backward already")
        backward = ctx.todo.pop()
        with torch.enable_grad():
            backward(gradient)
        return None, None, None
