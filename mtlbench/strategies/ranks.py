"""The processes that train one network together, each on its part of every batch."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Gradients = Sequence[Tensor | None]
Found = TypeVar("Found")

ON_THE_WAY = {torch.bool: torch.uint8, torch.int16: torch.int32}
"""What stands for types that cannot be sent."""


class Ranks:
    """Processes of `torch.distributed`, each with a copy of the network and of the strategy.

    What a strategy decides, it decides by the whole batch, the parts of all ranks in their order.
    So it decides the same everywhere, and remembers the same.

    Args:
        group: the processes; the default group where not given.
    """

    def __init__(self, group: Any = None) -> None:
        self.group, self.size = group, dist.get_world_size(group)
        self.rank = dist.get_rank(group)

    def gather(self, *parts: Tensor) -> tuple[list[Tensor], slice]:
        """Tensors with a row for each instance, [b, …], over the whole batch [B, …], each on its
        device; and which rows are this rank's.

        Raises:
            ValueError: another rank has said that it cannot go on.
        """
        device = parts[0].device
        sizes = self.gather_numbers(len(parts[0]), device)
        if failed := [str(rank) for rank, size in enumerate(sizes) if size < 0]:
            raise ValueError(f"rank {' and '.join(failed)} cannot go on: see what it says")
        longest = max(sizes)
        gathered = []
        for part in parts:
            own = part.to(device, ON_THE_WAY.get(part.dtype, part.dtype))
            padded = own.new_zeros(longest, *own.shape[1:])
            padded[: len(own)] = own
            received = [torch.empty_like(padded) for _ in sizes]
            dist.all_gather(received, padded, self.group)
            rows = [each[:size] for each, size in zip(received, sizes, strict=True)]
            gathered.append(torch.cat(rows).to(part))
        first = sum(sizes[: self.rank])
        return gathered, slice(first, first + sizes[self.rank])

    def cannot_go_on(self, device: torch.device) -> None:
        """Tells the others, which gather by now or will, that this rank does not."""
        self.gather_numbers(-1, device)

    def require_same(self, number: int, device: torch.device, message: str) -> None:
        """Makes sure that all ranks have one number.

        Raises:
            ValueError: they have not; with this message.
        """
        if len(set(self.gather_numbers(number % 2**62, device))) > 1:
            raise ValueError(message)

    def __deepcopy__(self, memo: object) -> "Ranks":
        return self  # a process group is one of a kind

    def gather_numbers(self, number: int, device: torch.device) -> list[int]:
        """One whole number of each rank."""
        own = torch.tensor([number], device=device)
        received = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(received, own, self.group)
        return [int(each) for each in torch.cat(received).tolist()]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, in a new tensor."""
        total = values.clone()
        dist.all_reduce(total, dist.ReduceOp.SUM, self.group)
        return total

    def largest(self, values: Tensor) -> Tensor:
        """The largest over ranks, in a new tensor."""
        most = values.clone()
        dist.all_reduce(most, dist.ReduceOp.MAX, self.group)
        return most

    def first(self, values: Tensor) -> Tensor:
        """Those of the first rank, in a new tensor: processors may round apart."""
        values = values.clone()
        source = 0 if self.group is None else dist.get_global_rank(self.group, 0)
        dist.broadcast(values, source, self.group)
        return values

    def of_first(self, find: Callable[[], Found]) -> Found:
        """What the first rank finds, which alone looks."""
        found = [find() if self.rank == 0 else None]
        dist.broadcast_object_list(found, group=self.group, group_src=0)
        return found[0]  # type: ignore[return-value]

    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Puts the mean over ranks into `.grad`."""
        (summed,) = self.sum_gradients(parameters, [[p.grad for p in parameters]])
        for parameter, gradient in zip(parameters, summed, strict=True):
            parameter.grad = None if gradient is None else gradient.div_(self.size)

    def sum_gradients(
        self, parameters: Sequence[Tensor], by_task: Sequence[Gradients]
    ) -> list[list[Tensor | None]]:
        """Gradients over parameters, one a task, summed over ranks; None where no rank has one.

        Raises:
            ValueError: ranks have other numbers of parameters, or gradients are sparse.
        """
        if not parameters:
            return [list(gradients) for gradients in by_task]
        device = parameters[0].device
        if len(set(self.gather_numbers(len(parameters), device))) > 1:
            raise ValueError("the ranks have different parameters in the graphs of their losses")
        some = [[gradient is not None for gradient in gradients] for gradients in by_task]
        somewhere = self.largest(torch.tensor(some, dtype=torch.uint8, device=device)).tolist()
        summed = [list(gradients) for gradients in by_task]
        kinds: dict[torch.dtype, list[tuple[int, int]]] = {}
        for task, row in enumerate(somewhere):
            for number, there in enumerate(row):
                if not there:
                    continue
                gradient = summed[task][number]
                if gradient is not None and gradient.layout != torch.strided:
                    raise ValueError(
                        "gradients of a sparse layer cannot be weighed over several processes: "
                        "make it with sparse=False"
                    )
                kinds.setdefault(parameters[number].dtype, []).append((task, number))
        for dtype, places in kinds.items():
            flat = torch.cat(
                [
                    torch.zeros_like(parameters[n]).flatten().to(dtype)
                    if (gradient := summed[k][n]) is None
                    else gradient.flatten()
                    for k, n in places
                ]
            )
            dist.all_reduce(flat, dist.ReduceOp.SUM, self.group)
            parts = flat.split([parameters[n].numel() for _, n in places])
            for (k, n), part in zip(places, parts, strict=True):
                # A tensor of its own: what is added to one must not change another.
                summed[k][n] = torch.empty_like(parameters[n]).copy_(part.view(parameters[n].shape))
        return summed


def ranks_of(group: Any) -> Ranks | None:
    """The ranks of a group, None where a process trains by itself.

    Args:
        group: a process group; None for the default one where `torch.distributed` is in use; False
            for none.

    Raises:
        ValueError: this process is not in the group.
    """
    if group is False or not (dist.is_available() and dist.is_initialized()):
        return None
    if dist.get_rank(group) < 0:
        raise ValueError("process_group must be one that this process is in")
    return Ranks(group) if dist.get_world_size(group) > 1 else None


_stopped: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()
"""Wrappers that were kept from bringing gradients together in their last forward pass."""

_owners: weakref.WeakKeyDictionary[nn.Module, tuple[weakref.ref[object], bool]] = (
    weakref.WeakKeyDictionary()
)
"""Networks that are trained by ranks together: the newest owner, and whether it brings their
gradients together by itself."""


def train_together(model: nn.Module, owner: object, *, reduces: bool) -> None:
    """Says who brings the gradients of a network together for as long as the owner is the newest.

    Args:
        model: the network, also in `DistributedDataParallel`.
        owner: what trains it.
        reduces: whether the owner does it by itself: `DistributedDataParallel` is kept from it.
    """
    model = model.module if isinstance(model, DistributedDataParallel) else model
    if _before_forward not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(_before_forward)
    _owners[model] = weakref.ref(owner), reduces


def wrapper_around_forward() -> DistributedDataParallel | None:
    """The wrapper whose forward pass is under way."""
    return DistributedDataParallel._get_active_ddp_module()


def expect_gradients_of(wrapper: DistributedDataParallel | None, losses: Sequence[Tensor]) -> None:
    """Tells a wrapper, whose forward pass gave a number that stands for losses, in whose graph to
    look for the parameters that are to have gradients."""
    if (
        wrapper is not None
        and wrapper.find_unused_parameters
        and wrapper.require_backward_grad_sync
    ):
        wrapper.reducer.prepare_for_backward(list(losses))


def _before_forward(module: nn.Module, inputs: object) -> None:
    around = wrapper_around_forward()
    if around is None:
        return
    owner, reduces = _owners.get(module, (None, False))
    alive = owner is not None and owner() is not None
    if alive and around._join_config.enable:
        raise ValueError(
            "DistributedDataParallel.join() lets a rank end before others, and strategies decide "
            "by the batches of all: give every rank as many batches"
        )
    if alive and reduces:
        if around.static_graph:
            raise ValueError(
                "DistributedDataParallel with static_graph=True expects one backward pass a step, "
                "and a strategy that weighs gradients takes one for each task: leave it out"
            )
        if around.require_backward_grad_sync:  # looked at again after the forward pass
            around.require_backward_grad_sync = False
            _stopped[around] = True
    elif _stopped.pop(around, False):
        around.require_backward_grad_sync = True
