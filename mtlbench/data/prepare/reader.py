"""The contract of a dataset's reader: raw items to rows."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from mtlbench.data.shards import ArraySpec, Part


class ProblemError(Exception):
    """A raw item that cannot be used; `args` are the kind of problem and its detail."""


class Reader(ABC):
    """Reads the raw files of one dataset. Frozen and small: it goes to the worker processes."""

    dataset: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]
    unit: ClassVar[str]
    """Name of an item, in the plural."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that decides what is made of an item."""

    @property
    @abstractmethod
    def specs(self) -> dict[str, ArraySpec]:
        """The arrays that rows have."""

    @property
    @abstractmethod
    def items_per_shard(self) -> int: ...

    @abstractmethod
    def items(self, split: str) -> dict[str, int]:
        """Name of each item of a split, in order, and the bytes of its image or video."""

    @abstractmethod
    def read(self, split: str, item: str) -> Part:
        """The rows and problems of one item.

        Raises:
            ProblemError: nothing, because of this.
        """
