"""Task gradients over shared tensors: their Jacobian, its Gramian, one update in their place."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mtlbench.strategies.closure import Closure
from mtlbench.strategies.held_out import HeldOut, explaining_refusals
from mtlbench.strategies.ranks import Ranks

TaskGradients = tuple[Tensor, tuple[Tensor | None, ...]]
"""A tensor, and each task's gradient over it, None where the task does not reach it."""


@dataclass(frozen=True)
class TaskLosses:
    """The losses of a batch, as a task stage sees them.

    Attributes:
        tasks: the K task names.
        vectors: per-instance losses [B] of each task, in the network's graph.
        instance_weights: weights whose product with the losses, summed over the batch, gives the
            task losses [B, K].
        values: detached task losses [K]; 0 where the batch has no label of a task.
        present: which tasks have a label in the batch, bool [K].
        scale: what every gradient of the batch is multiplied by, None for 1.
        held_out: a batch of held-out data, where a stage looks at one.
        closure: the losses again, where a stage asks for them at other parameters.
    """

    tasks: Sequence[str]
    vectors: Sequence[Tensor]
    instance_weights: Tensor
    values: Tensor
    present: Tensor
    scale: Tensor | float | None = None
    held_out: HeldOut | None = None
    closure: Closure | None = None

    def weighed(self, instance_weights: Tensor) -> "TaskLosses":
        """The same with other weights of the instances."""
        return replace(self, instance_weights=instance_weights)

    def scaled(self, values: Tensor) -> Tensor:
        """Values times the scale."""
        return values if self.scale is None else values * self.scale

    def backward(self, task: int, *, retain_graph: bool) -> None:
        """Adds the gradient of one task's loss to `.grad` of all that it depends on."""
        self.vjp(task, self.scaled(self.instance_weights[:, task]), retain_graph=retain_graph)

    def gradients(self, task: int, tensors: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradient of one task's loss over each tensor, without the scale, None where it does
        not depend on one. The graph stays, and no `.grad` changes.

        Raises:
            ValueError: the network does not allow it.
        """
        vector = self.vectors[task]
        if not vector.requires_grad or not tensors:
            return [None] * len(tensors)
        weights = self.instance_weights[:, task].to(vector.dtype)
        with explaining_refusals():
            return list(
                torch.autograd.grad(
                    [vector], tensors, [weights], retain_graph=True, allow_unused=True
                )
            )

    def vjp(self, task: int, cotangent: Tensor, *, retain_graph: bool) -> None:
        """Adds the vector-Jacobian product of one task's losses with a cotangent [B] to `.grad`."""
        vector = self.vectors[task]
        if vector.requires_grad:  # a task without a label may have come as a constant
            torch.autograd.backward([vector], [cotangent.to(vector.dtype)], retain_graph)


def gradients_of(tensors: Sequence[Tensor], backward: Callable[[], object]) -> list[Tensor | None]:
    """The gradients that a backward pass adds to `.grad` of tensors, None where it reaches none.

    `.grad` is as before afterwards. A plain backward pass, unlike `torch.autograd.grad`, goes
    through reentrant checkpoints too, and gives other tensors the gradients that they are due.
    """
    before = [tensor.grad for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
    try:
        backward()
        return [tensor.grad for tensor in tensors]
    finally:
        for tensor, gradient in zip(tensors, before, strict=True):
            tensor.grad = gradient


def accumulate(tensor: Tensor, gradient: Tensor) -> None:
    """Adds to `.grad`, which gets the tensor's memory layout: fused optimisers pair up memory,
    not indices."""
    if gradient.is_sparse:
        tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
    elif tensor.grad is None:
        # A copy, because a gradient may share its memory with another one.
        tensor.grad = torch.empty_like(tensor).copy_(gradient)
    elif tensor.grad.is_sparse:
        tensor.grad = gradient + tensor.grad
    else:
        tensor.grad.add_(gradient)


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of gradients taken together, a scalar."""
    squares = [
        torch.linalg.vector_norm(g.coalesce().values() if g.is_sparse else g).square()
        for g in gradients
    ]
    return torch.stack([square.to(squares[0]) for square in squares]).sum().sqrt()


def exponents_of(sizes: Tensor) -> Tensor:
    """Whole numbers e for which sizes · 2⁻ᵉ are around 1; 0 for 0 and what is not finite."""
    most = math.frexp(torch.finfo(sizes.dtype).max)[1] - 2  # 2 to ±this has an inverse
    return torch.frexp(torch.where(sizes.isfinite(), sizes, 0)).exponent.clamp(-most, most)


def power_of_two(exponents: Tensor, dtype: torch.dtype) -> Tensor:
    """2ᵉ for whole numbers e, exact: `torch.ldexp` and `torch.exp2` may round."""
    if dtype == torch.float64:
        return ((exponents.long() + 1023) << 52).view(torch.float64)
    return ((exponents.int() + 127) << 23).view(torch.float32).to(dtype)


def units(rows: Tensor) -> Tensor:
    """The power of two [K] next above the largest number of each row [K, P]; 1 for a row of zeros.

    A row in this unit is as exact as before, and neither its squares nor their sum overflow or
    vanish.
    """
    if not rows.shape[1]:
        return rows.new_ones(len(rows))
    least, most = torch.aminmax(rows, dim=1)
    return power_of_two(exponents_of(torch.maximum(-least, most)), rows.dtype)


def readable(flag: Tensor) -> bool:
    """Whether a flag can be looked at without waiting for a device."""
    return flag.device.type == "cpu"


def all_finite(values: Tensor) -> Tensor:
    """Whether all numbers are finite, a scalar, without a mask as large as they are."""
    if not values.numel():
        return torch.ones((), dtype=torch.bool, device=values.device)
    least, most = torch.aminmax(values)  # NaN where one is
    return least.isfinite() & most.isfinite()


class Jacobian:
    """The tasks' gradients over tensors that they share, J [K, P], in blocks [K, P_t].

    For a Gramian each row is kept as numbers around 1 times a power of two. Such a factor changes
    no digit, and squares of gradients between 10⁻³⁸ and 10³⁸ neither vanish nor overflow. A
    complex tensor counts as its real and imaginary parts. Where all gradients of a tensor are
    sparse, its block holds only the rows that some task reaches.

    Args:
        shared: the tensors and the gradients over them, some task's at least.
        like: a tensor [K] with the precision and device of the matrix.
        as_matrix: the rows as they are, and all entries of sparse gradients, for `matrix`.
        scale: what the gradients are multiplied by, None for 1. The Jacobian is without it; what
            is made of it, `weighted` and `split`, is multiplied by it again.
        ranks: the processes that train together, or None. Gradients are sums over all of them, but
            for those over features, which are of a rank's own instances and are brought together
            here.
        features: ids of the tensors that are features.
        counts: whether this rank has an instance of the batch, so that its features are part of it.
    """

    def __init__(
        self,
        shared: Sequence[TaskGradients],
        like: Tensor,
        *,
        as_matrix: bool = False,
        scale: Tensor | float | None = None,
        ranks: Ranks | None = None,
        features: Collection[int] = (),
        counts: bool = True,
    ) -> None:
        self._ranks, self._features, self._counts = ranks, features, counts
        self._zeros = torch.zeros_like(like)
        self._scale = (
            None if scale is None else torch.as_tensor(scale, dtype=like.dtype, device=like.device)
        )
        self._blocks = [JacobianBlock(tensor, by_task, as_matrix) for tensor, by_task in shared]
        self._own_columns: dict[int, slice] = {}  # of the blocks over features, in `matrix`
        self._exponents = self._zeros.int()
        if self._blocks and not as_matrix:
            values = zip(*(block.values for block in self._blocks), strict=True)
            largest = [_largest(of_task).to(like) for of_task in values]
            sizes = torch.stack(largest)
            if self._ranks is not None:
                sizes = self._ranks.largest(sizes)
            self._exponents = exponents_of(sizes if self._scale is None else sizes / self._scale)
        factors = self._power(-1)
        if self._scale is not None:
            factors = factors / self._scale
        for block in self._blocks:
            block.fill(factors, like.dtype)

    def gramian(self, dtype: torch.dtype) -> Tensor:
        """J Jᵀ [K, K] in some precision, summed in that of the blocks."""
        gramian = torch.outer(self._zeros, self._zeros)
        of_features = gramian.clone()
        for block in self._blocks:
            part = of_features if self._is_of_features(block) else gramian
            part += (block.rows @ block.rows.T).to(gramian)
        if self._ranks is not None:
            gramian += self._ranks.sum(of_features)
        power = power_of_two(self._exponents, dtype)
        return power[:, None] * gramian.to(dtype) * power

    def matrix(self) -> Tensor:
        """J [K, P]."""
        rows = []
        for number, block in enumerate(self._blocks):
            columns = block.rows.to(self._zeros.device)
            if self._is_of_features(block):
                assert self._ranks is not None
                own = columns.T.contiguous() if self._counts else columns.T[:0]
                (gathered,), self._own_columns[number] = self._ranks.gather(own)
                columns = gathered.T
            rows.append(columns)
        self._widths = [columns.shape[1] for columns in rows]
        return torch.cat([self._zeros[:, None][:, :0], *rows], dim=1)

    def _is_of_features(self, block: "JacobianBlock") -> bool:
        return self._ranks is not None and id(block.tensor) in self._features

    def weighted(self, weights: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each tensor, and its part of wᵀ J in its shape."""
        # Of a weight and its row's power of two either alone may be beyond the range of float32.
        precise = torch.promote_types(weights.dtype, self._zeros.dtype)
        weights = weights.to(self._zeros.device, precise)
        scaled = weights * power_of_two(self._exponents, precise)
        if self._scale is not None:
            scaled = scaled * self._scale
        return [
            (block.tensor, block.shaped(scaled.to(block.rows) @ block.rows))
            for block in self._blocks
        ]

    def split(self, direction: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each tensor, and its part of a direction [P], made of `matrix`, in its shape."""
        if self._scale is not None:
            direction = direction * self._scale
        parts = direction.split(self._widths)
        own = [
            part[columns] if (columns := self._own_columns.get(n)) else part
            for n, part in enumerate(parts)
        ]
        if not self._counts:
            for n in self._own_columns:
                own[n] = torch.zeros_like(self._blocks[n].rows[0])
        return [
            (block.tensor, block.shaped(part))
            for block, part in zip(self._blocks, own, strict=True)
        ]

    def _power(self, sign: int) -> Tensor:
        """2 to the exponents of the rows [K], or its inverse."""
        return power_of_two(sign * self._exponents, self._zeros.dtype)


class JacobianBlock:
    """The tasks' gradients over one tensor, rows [K, P_t] of real numbers.

    Attributes:
        tensor: the tensor.
        values: the gradient of each task, dense and real, None for none.
        rows: the same in one matrix, once it is filled.
    """

    rows: Tensor

    def __init__(self, tensor: Tensor, by_task: Sequence[Tensor | None], dense: bool) -> None:
        self.tensor = tensor
        self._places: Tensor | None = None  # of a sparse gradient's values
        if not dense and _all_sparse([g for g in by_task if g is not None]):
            self._places, by_task = _on_common_places(by_task)
        self.values = [None if g is None else _dense(g) for g in by_task]
        self._shape = next(value.shape for value in self.values if value is not None)

    def fill(self, factors: Tensor, dtype: torch.dtype) -> None:
        """Makes the rows, each multiplied by its factor [K], and lets go of the values."""
        device, count = self.tensor.device, math.prod(self._shape)
        self.rows = torch.empty(len(self.values), count, dtype=dtype, device=device)
        for row, value, factor in zip(self.rows, self.values, factors.to(device), strict=True):
            if value is None:
                row.zero_()
            else:
                torch.mul(value.to(dtype), factor, out=row.view(self._shape))
        self.values = []

    def shaped(self, part: Tensor) -> Tensor:
        """A row as a gradient of the tensor."""
        part = part.to(self.tensor.device).view(self._shape)
        if self.tensor.is_complex():
            part = torch.view_as_complex(part.contiguous())
        if self._places is None:
            return part.to(self.tensor.dtype)
        return torch.sparse_coo_tensor(
            self._places,
            part.to(self.tensor.dtype),
            self.tensor.shape,
            check_invariants=False,  # the places come from gradients
            is_coalesced=True,
        )


def _largest(values: Sequence[Tensor | None]) -> Tensor:
    """The largest size of a number in some tensors, a scalar; 0 where there is none."""
    some = [value for value in values if value is not None and value.numel()]
    if not some:
        return torch.zeros(())
    if some[0].is_cuda:  # few kernels, whatever the number of tensors
        sizes = list(torch._foreach_norm(some, torch.inf))
    else:  # ten times as fast as a norm on a CPU
        sizes = [torch.maximum(-least, most) for least, most in map(torch.aminmax, some)]
    return torch.stack([size.to(sizes[0]) for size in sizes]).amax()


def _dense(gradient: Tensor) -> Tensor:
    """A gradient as a dense tensor of real numbers."""
    if gradient.layout != torch.strided:
        gradient = gradient.to_dense()
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient


def _all_sparse(gradients: Sequence[Tensor]) -> bool:
    return all(g.is_sparse and g.sparse_dim() == gradients[0].sparse_dim() for g in gradients)


def _on_common_places(by_task: Sequence[Tensor | None]) -> tuple[Tensor, list[Tensor | None]]:
    """The places of sparse gradients [D, U], and each task's values there."""
    gradients = [None if g is None else g.coalesce() for g in by_task]
    indices = [g.indices() for g in gradients if g is not None]
    places, where = torch.unique(torch.cat(indices, dim=1), dim=1, return_inverse=True)
    parts = iter(where.split([index.shape[1] for index in indices]))
    values: list[Tensor | None] = []
    for g in gradients:
        if g is None:
            values.append(None)
        else:
            all_values = g.values().new_zeros(places.shape[1], *g.values().shape[1:])
            values.append(all_values.index_copy(0, next(parts), g.values()))
    return places, values
