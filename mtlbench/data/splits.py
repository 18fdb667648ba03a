"""Splits: instances with their labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from mtlbench.data.rows import Rows

Targets = dict[str, Tensor]
"""Task name to labels [N, …]."""


@dataclass(frozen=True)
class Split:
    """Instances with their labels.

    Attributes:
        inputs: [N, …]; images as uint8 [N, C, H, W].
        targets: labels [N, …] of each task, except those that `Suite.complete` derives; any valid
            label where one is absent.
        present: which labels are present, bool [N, K], or None for all of them.
    """

    inputs: Rows
    targets: Mapping[str, Rows]
    present: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Data:
    """The three splits. Training labels are clean here; the trainer corrupts them."""

    train: Split
    validation: Split
    test: Split


def drawn_data(draw: Callable[[int, int], Split], *sizes: int) -> Data:
    """Splits of these sizes, drawn from one seed.

    Args:
        draw: number of the first instance, and how many, to a split.
        sizes: of training, validation and test. Their numbers are far apart, so that a larger
            split never reaches into the next.
    """
    return Data(*(draw(1_000_000 * place, size) for place, size in enumerate(sizes)))
