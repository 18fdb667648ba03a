"""Base of gradient weightings that need no more than the Gramian of the gradients."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlbench.strategies.base import GradientWeighting, Setting

Array = NDArray[np.float64]


class GramianWeighting(GradientWeighting):
    """Weighs the tasks by the Gramian of their gradients. A subclass writes `solve`.

    Tasks without a label in the batch are left out: their zero gradient would otherwise count as
    a gradient (MGDA would give it all the weight). The Gramian is brought to the CPU once and
    weighed there in float64: for a handful of tasks a solver in NumPy takes less time than the
    launch of its kernels on a GPU. A Gramian that is not finite gives weights that are not, and
    leaves the state alone.

    Attributes:
        needs_directions: whether a task whose gradient is zero is left out too, and gets weight 0.
        here: the places among all K tasks of the m that `solve` sees.
        resolution: rounding error of the Gramian relative to the gradients' lengths, from the
            precision that it was summed in.
    """

    gramian_in_float64 = True
    needs_directions = False
    here: NDArray[np.intp]
    resolution: float

    def start(self, setting: Setting) -> None:
        self.resolution = torch.finfo(setting.dtype).eps

    def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        rows = torch.cat([gramian, losses[None], present[None]]).double().cpu().numpy()
        full, of_losses, counted = rows[:-2], rows[-2], rows[-1] > 0
        if self.needs_directions:
            counted &= full.diagonal() != 0
        (self.here,) = counted.nonzero()
        weights = np.zeros(len(full))
        if self.here.size:
            block = full[self.here][:, self.here]
            block = (block + block.T) / 2  # a product of matrices rounds ⟨g, h⟩ and ⟨h, g⟩ apart
            finite = np.isfinite(block).all()
            weights[self.here] = self.solve(block, of_losses[self.here]) if finite else np.nan
        return torch.from_numpy(weights).to(gramian, non_blocking=True)

    def solve(self, gramian: Array, losses: Array) -> Array:
        """The weights [m] of the tasks that have a label in the batch.

        Args:
            gramian: of their gradients [m, m], finite.
            losses: theirs [m].
        """
        raise TypeError(f"{type(self).__name__} must define solve")

    def regularize(self, cosines: Array) -> Array:
        """Cosines [m, m] on a diagonal raised by what rounding may have taken from it.

        The result is positive definite, and for dependent gradients too there is one solution.
        """
        return cosines + max(4 * len(cosines) * self.resolution, 1e-12) * np.eye(len(cosines))

    def _apply(self, fn: Any, recurse: bool = True) -> "GramianWeighting":
        return self  # `.to(device)` leaves the state where `solve` needs it


def lengths_and_cosines(gramian: Array) -> tuple[Array, Array]:
    """The gradients' lengths [m] and their cosines [m, m], 0 where a length is 0."""
    lengths = np.sqrt(gramian.diagonal())
    inverse = invert(lengths)
    return lengths, inverse[:, None] * gramian * inverse


def invert(values: Array) -> Array:
    """1 / x, and 0 for 0."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values != 0)
