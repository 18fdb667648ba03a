"""Layers over several processes, each with its part of a batch, that act as on the whole batch.

Batch norm takes the mean and the variance over all parts, and dropout draws for all and takes its
part, so that the network trains as in one process. (PyTorch's own `SyncBatchNorm` works on GPUs
only, and counts every instance that a process runs.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mtlbench.errors import UserError
from mtlbench.models.small import batch_length
from mtlbench.strategies.ranks import Ranks

ROUNDING = 1e-2
"""Of the outputs' norm. Rounding is an order of magnitude less, also with TF32; instances that know
nothing of the other parts, or other draws, are an order of magnitude more."""


@dataclass(frozen=True)
class Part:
    """The part of a process in a batch: rows that follow one another.

    Attributes:
        first, count: of its rows; the last processes have none of a batch of few.
        whole: rows of the batch.
    """

    first: int
    count: int
    whole: int

    @property
    def rows(self) -> slice:
        """What the process gives to the network: one row of another's where it has none, since
        few networks take a batch of none. It is then left out of all that follows."""
        return slice(self.first, self.first + self.count) if self.count else slice(0, 1)


def part_of(whole: int, rank: int, size: int) -> Part:
    """The part of one of `size` processes; the first ones have a row more where it does not divide
    evenly."""
    least, more = divmod(whole, size)
    return Part(rank * least + min(rank, more), least + (rank < more), whole)


class WholeBatch(TorchFunctionMode):
    """While it lasts, batch norm and dropout in training act on the whole batch.

    Args:
        ranks: the processes. All must run the same layers in the same order.
        part: this one's.
    """

    def __init__(self, ranks: Ranks, part: Part) -> None:
        super().__init__()
        self.ranks, self.part = ranks, part
        self._alone = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lets layers act on what a process has, which is the same in all of them."""
        self._alone = True
        try:
            yield
        finally:
            self._alone = False

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        over_all = None if self._alone else OVER_ALL.get(function)
        if over_all is None:
            return function(*args, **(kwargs or {}))
        return over_all(self, function, *args, **(kwargs or {}))


def _batch_norm(
    over: WholeBatch,
    function: Callable[..., Tensor],
    features: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` over the whole batch."""
    if not training:
        return function(features, running_mean, running_var, weight, bias, False, momentum, eps)
    counts = over.part.count > 0
    count, mean, squares = _moments(features.detach() if counts else features[:0], over.ranks)
    if count < 2:
        raise ValueError("Expected more than 1 value per channel when training")
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((squares / (count - 1)).to(running_var), momentum)
    normalised: Tensor = _BatchNorm.apply(
        features, weight, bias, mean, squares / count, count, eps, over.ranks, counts
    )
    return normalised


def _moments(features: Tensor, ranks: Ranks) -> tuple[int, Tensor, Tensor]:
    """Of all processes' features [n, C, …] the number of values a channel, their mean [C], and the
    sum of squared distances from it [C]."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    channels = wide.shape[1]
    own = wide.new_zeros(2, channels)
    number = wide.numel() // channels
    if number:
        dims = [d for d in range(wide.ndim) if d != 1]
        variance, own[0] = torch.var_mean(wide, dims, correction=0)
        own[1] = variance * number
    numbers = ranks.gather_numbers(number, torch.device("cpu"))
    received = [torch.empty_like(own) for _ in numbers]
    dist.all_gather(received, own, ranks.group)
    count = sum(numbers)
    means, squares = torch.stack(received).unbind(1)
    shares = wide.new_tensor(numbers)[:, None]
    mean = (means * shares).sum(0) / max(1, count)
    return count, mean, (squares + shares * (means - mean).square()).sum(0)


class _BatchNorm(torch.autograd.Function):
    """Normalises by moments of the whole batch, in whose gradient all processes have a part.

    The gradient can be differentiated in turn by what comes from above, in which it is linear: as
    by the weights of the losses. By features and parameters it is taken for a constant.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: int,
        eps: float,
        ranks: Ranks,
        counts: bool,
    ) -> Tensor:
        ctx.save_for_backward(features, weight, mean, torch.rsqrt(variance + eps))
        ctx.count, ctx.ranks, ctx.counts = count, ranks, counts
        return functional.batch_norm(features, mean, variance, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        features, weight, mean, inverse = ctx.saved_tensors
        features, weight = features.detach(), None if weight is None else weight.detach()
        shape = (-1, *[1] * (features.ndim - 2))
        dims = [d for d in range(features.ndim) if d != 1]
        wide = gradient.to(mean.dtype)
        normalised = (features.to(mean.dtype) - mean.view(shape)) * inverse.view(shape)
        own = torch.stack([wide.sum(dims), (wide * normalised).sum(dims)])
        through_mean, through_variance = _SumOverRanks.apply(own, ctx.ranks) / ctx.count
        of_features = wide
        if ctx.counts:
            of_features = (
                wide - through_mean.view(shape) - normalised * through_variance.view(shape)
            )
        factor = inverse if weight is None else inverse * weight
        of_features = (of_features * factor.view(shape)).to(features.dtype)
        of_weight, of_bias = (None, None) if weight is None else (own[1].to(weight), own[0])
        return of_features, of_weight, of_bias, *[None] * 6


class _SumOverRanks(torch.autograd.Function):
    """The sum over ranks, which every rank's part of a product has a part in."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.sum(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _SumOverRanks.apply(gradient, ctx.ranks), None


def _dropout(
    over: WholeBatch,
    function: Callable[..., Tensor],
    features: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Tensor:
    """A dropout that multiplies, with the numbers that it draws for the whole batch."""
    if not training or not p:
        return function(features, p, training, inplace)
    count = len(features) if over.part.count else 0
    counts = over.ranks.gather_numbers(count, torch.device("cpu"))
    first = sum(counts[: over.ranks.rank])
    ones = features.new_ones(sum(counts), *features.shape[1:])
    if features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last):
        ones = ones.contiguous(memory_format=torch.channels_last)
    drawn = function(ones, p, True, False)
    return features * (drawn[first : first + count] if count else drawn[: len(features)])


def _batch_length(over: WholeBatch, function: Any, features: Tensor) -> int:
    return over.part.whole


OVER_ALL: dict[Any, Callable[..., Any]] = {
    functional.batch_norm: _batch_norm,
    functional.dropout: _dropout,
    functional.dropout1d: _dropout,
    functional.dropout2d: _dropout,
    functional.dropout3d: _dropout,
    batch_length: _batch_length,
}
"""What looks at the whole batch, and what stands in its place."""


@torch.no_grad()
def require_same_outputs(
    model: nn.Module,
    call: Callable[[slice], dict[str, Tensor]],
    ranks: Ranks,
    part: Part,
    device: torch.device,
) -> None:
    """Makes sure that the parts of a batch have the outputs, and draw the numbers, that the whole
    has. The network and the generators are as before afterwards.

    Args:
        model: the network, in training mode.
        call: gives its outputs for some rows of a batch.
        ranks, part: the processes, and this one's part of the batch.
        device: where it is.

    Raises:
        UserError: they have not; by all processes.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    seed = 0

    def attempt(rows: slice) -> tuple[dict[str, Tensor], list[Tensor]]:
        torch.manual_seed(seed)
        outputs = call(rows)
        for buffer, value in buffers:
            buffer.copy_(value)
        on_cpu = torch.get_rng_state()
        on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        return outputs, [on_cpu, *on_gpu]

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        expected, states = attempt(slice(None))
        with WholeBatch(ranks, part):
            found, own_states = attempt(part.rows)
    same = all(map(torch.equal, states, own_states)) and all(
        _close(found[task], outputs[part.rows]) for task, outputs in expected.items()
    )
    if not all(ranks.gather_numbers(int(same), torch.device("cpu"))):
        raise UserError(
            "the network has other outputs for a part of a batch than for the whole: it looks at "
            "other instances, or draws, in another way than by batch norm and dropout; train with "
            "--workers-per-run 1"
        )


def _close(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    distance, size = (torch.linalg.vector_norm(x.double()) for x in (found - expected, expected))
    return bool(distance <= ROUNDING * size) or not bool(size.isfinite())
