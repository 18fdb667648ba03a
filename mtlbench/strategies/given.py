"""What a training loop gives of a batch: made tensors of one shape, or refused in one line."""

import math
from collections.abc import Collection, Mapping, Sequence, Set
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from mtlbench.strategies.base import Setting


def loss_vectors(losses: Mapping[str, Tensor] | Sequence[Tensor], setting: Setting) -> list[Tensor]:
    """The losses [B] of each task, in the tasks' order, with their graphs.

    Raises:
        ValueError: they do not fit the tasks, or one another.
    """
    tasks = setting.tasks
    if isinstance(losses, Mapping):
        if set(losses) != set(tasks):
            raise ValueError(f"losses must name the tasks {tasks}, but name {tuple(losses)}")
        losses = [losses[task] for task in tasks]
    elif isinstance(losses, Tensor | Set) or not isinstance(losses, Collection):
        raise ValueError(
            f"losses must be a tensor for each task, by name or in the order {tasks}, but are "
            f"one {type(losses).__name__}"
        )
    given = [*losses]
    if len(given) != len(tasks):
        raise ValueError(f"losses must be one a task, {len(tasks)}, but are {len(given)}")
    like = next((loss for loss in given if isinstance(loss, Tensor)), None)
    if like is None:
        raise ValueError("losses must be tensors")
    vectors = [
        _loss_vector(task, loss, like, setting.dtype)
        for task, loss in zip(tasks, given, strict=True)
    ]
    for task, vector in zip(tasks, vectors, strict=True):
        if vector.shape != vectors[0].shape:
            raise ValueError(
                f"per-instance losses must all have one shape [B], but task {task!r} has "
                f"{tuple(vector.shape)} and {tasks[0]!r} {tuple(vectors[0].shape)}"
            )
    return vectors


def _loss_vector(task: str, loss: Any, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A task's losses [B]; a number, of a task without a label, as long as the other losses."""
    if isinstance(loss, Real):
        loss = torch.full_like(like, float(loss), requires_grad=False)
    if not isinstance(loss, Tensor):
        raise ValueError(
            f"the loss of task {task!r} must be a tensor, but is {type(loss).__name__}"
        )
    if loss.ndim > 1 or loss.is_complex():
        kind = str(loss.dtype).removeprefix("torch.")
        raise ValueError(
            "losses must be a real number for each instance, shape [B], but those of task "
            f"{task!r} are {kind} of shape {list(loss.shape)}"
        )
    if not loss.is_floating_point():
        loss = loss.to(dtype)
    return loss.reshape(1) if loss.ndim == 0 else loss


def loss_values(
    vectors: Sequence[Tensor], present: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The losses [B, K] without their graph, and which are present, all where not given.

    Raises:
        ValueError: the mask is none, or does not fit; an absent label's loss is not finite.
    """
    values = torch.stack([vector.detach() for vector in vectors], dim=1).to(dtype)
    if present is None:
        return values, torch.ones_like(values, dtype=torch.bool)
    present = _tensor(present, "present")
    if present.shape != values.shape or present.dtype != torch.bool:
        raise ValueError(
            f"present must be bool and have shape {tuple(values.shape)}, but is "
            f"{str(present.dtype).removeprefix('torch.')} and has {tuple(present.shape)}"
        )
    _require_finite(values, present)
    return values, present


def instance_numbers(index: Any, batch: int, num_instances: int) -> Tensor:
    """The dataset index [B] of each instance of a batch.

    Args:
        index: as given.
        batch: how many instances there are.
        num_instances: of the dataset; 0 if that is not known.

    Raises:
        ValueError: it has another shape, or something in it is no number of an instance.
    """
    index = _tensor(index, "index")
    if index.shape != (batch,):
        whole = batch == 1 and index.ndim == 1
        raise ValueError(
            f"index must have shape ({batch},), but has {tuple(index.shape)}"
            + ": keep the loss of each instance, reduction='none'" * whole
        )
    if index.dtype not in (torch.int64, torch.int32, torch.int16):
        kind = str(index.dtype).removeprefix("torch.")
        raise ValueError(f"index must be of whole numbers (int64), but is {kind}")
    # On another device it would be waited for.
    if num_instances and index.device.type == "cpu" and len(index):
        numbers = index.numpy()
        low, high = numbers.min(), numbers.max()
        if low < 0 or high >= num_instances:
            raise ValueError(
                f"index must be from 0 to {num_instances - 1}, below num_instances, but has "
                f"{low if low < 0 else high}"
            )
    return index


def _require_finite(values: Tensor, present: Tensor) -> None:
    """Makes sure that losses of absent labels are finite: 0 times NaN is NaN, in every weight."""
    wrong = (~values.isfinite() & ~present).any()
    if wrong.device.type != "cpu":
        torch._assert_async(~wrong)  # waiting for it would take longer than the step
    elif wrong.numpy():
        raise ValueError(
            "the loss of a label that is absent must be finite: put any valid label in its place"
        )


def require_scale(scale: Tensor | float | None) -> None:
    """Makes sure that what multiplies a gradient is a number above 0.

    Raises:
        ValueError: it is not.
    """
    if isinstance(scale, Tensor):
        right = scale.ndim == 0 and (scale.device.type != "cpu" or bool(0 < scale < math.inf))
    else:
        right = scale is None or (isinstance(scale, Real) and 0 < scale < math.inf)
    if not right:
        raise ValueError(f"scale must be a number above 0, but is {scale}")


def _tensor(value: Any, what: str) -> Tensor:
    """An array or list as a tensor; a tensor as it is.

    Raises:
        ValueError: it is none of these.
    """
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{what} must be a tensor, but is {type(value).__name__}") from None
