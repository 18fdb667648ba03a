"""Prepared datasets: rows of memory-mapped arrays, read when they are asked for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlbench.data.shards import (
    HEADER_BYTES,
    INDEX_FILE,
    PLAN_FILE,
    SCHEMA_VERSION,
    SHARD_FILE,
    ArraySpec,
    Problem,
    is_whole,
)
from mtlbench.errors import UserError


class ShardedRows:
    """The rows of one array of a split, gathered from its shards (a `mtlbench.data.rows.Rows`).

    Attributes:
        shape: [N, …].
        dtype: of PyTorch.
        nbytes: of all rows.
    """

    def __init__(self, files: Sequence[Path], rows: Sequence[int], spec: ArraySpec) -> None:
        self._files, self._spec = files, spec
        self._first = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        self._maps: list[npt.NDArray[Any] | None] = [None] * len(files)
        self.shape = torch.Size((int(self._first[-1]), *spec.shape))
        self.dtype: torch.dtype = torch.from_numpy(np.empty(0, spec.dtype)).dtype
        self.nbytes = len(self) * spec.row_bytes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor | npt.NDArray[np.int64], /) -> Tensor:
        """The rows [n, …] with these numbers [n].

        Raises:
            IndexError: a number is below 0 or not below N.
        """
        wanted = np.asarray(index, np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {len(self)}")
        values = torch.empty((len(wanted), *self._spec.shape), dtype=self.dtype)
        out = values.numpy()
        shard = np.searchsorted(self._first, wanted, side="right") - 1
        order = np.argsort(shard, kind="stable")
        used, starts = np.unique(shard[order], return_index=True)
        # No rows are split into one group of none, for no shard.
        for number, places in zip(used.tolist(), np.split(order, starts[1:]), strict=False):
            out[places] = self._map(number)[wanted[places] - self._first[number]]
        return values

    def read_all(self) -> Tensor:
        """All rows [N, …]."""
        values = torch.empty(self.shape, dtype=self.dtype)
        out = values.numpy()
        for number in range(len(self._files)):
            out[self._first[number] : self._first[number + 1]] = self._map(number)
        return values

    def _map(self, number: int) -> npt.NDArray[Any]:
        """The rows of a shard, mapped when they are first asked for."""
        rows = self._maps[number]
        if rows is None:
            # np.memmap keeps a file open for each shard, and 1024 is the usual limit; this does not
            file = self._files[number]
            count = int(self._first[number + 1] - self._first[number])
            size = HEADER_BYTES + count * self._spec.row_bytes
            whole = torch.from_file(str(file), size=size, dtype=torch.uint8).numpy()
            rows = whole[HEADER_BYTES:].view(self._spec.dtype).reshape(count, *self._spec.shape)
            rows.flags.writeable = False
            self._maps[number] = rows
        return rows


@dataclass(frozen=True)
class PreparedSplit(Mapping[str, ShardedRows]):
    """The arrays of one split, by name.

    Attributes:
        rows: N.
    """

    rows: int
    _arrays: Mapping[str, ShardedRows]
    _shards: Sequence[Path]

    def __getitem__(self, name: str) -> ShardedRows:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @cached_property
    def sources(self) -> list[str]:
        """The origin of each row: image, or clip and frame."""
        infos = (json.loads((shard / SHARD_FILE).read_bytes()) for shard in self._shards)
        return [source for info in infos for source in info["sources"]]


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset.

    Attributes:
        path: its directory.
        settings: what it was prepared with.
        splits: those that have rows, by name.
        problems: what was wrong with the raw files.
    """

    path: Path
    settings: Mapping[str, Any]
    splits: Mapping[str, PreparedSplit]
    problems: Sequence[Problem]

    def split(self, name: str) -> PreparedSplit:
        """One split.

        Raises:
            UserError: nothing was found for it.
        """
        if name not in self.splits:
            raise UserError(
                f"{str(self.path)!r} has no {name!r} split, only {', '.join(self.splits)}: the raw "
                "dataset had no usable files for it"
            )
        return self.splits[name]


def open_prepared(path: str | Path, dataset: str) -> Prepared:
    """Opens a directory that `mtlbench prepare` has written; rows are read when asked for.

    Raises:
        UserError: it is not there, not complete, damaged, or holds something else.
    """
    path = Path(path)
    command = f"mtlbench prepare {dataset} --raw DIR --out {path}"
    if not (path / INDEX_FILE).is_file():
        if (path / PLAN_FILE).is_file():
            raise UserError(f"{str(path)!r} is not complete; go on with: {command}")
        what = "no prepared dataset in" if path.is_dir() else "no directory at"
        raise UserError(f"{what} {str(path)!r}; make one with: {command}")
    try:
        index = json.loads((path / INDEX_FILE).read_bytes())
        if index["schema_version"] != SCHEMA_VERSION:
            raise UserError(
                f"{str(path)!r} has schema version {index['schema_version']}, but this release "
                f"reads {SCHEMA_VERSION}; prepare it anew in another directory"
            )
        if index["dataset"] != dataset:
            raise UserError(
                f"{str(path)!r} holds {index['dataset']}, not {dataset}; make that with: "
                f"mtlbench prepare {dataset} --raw DIR --out DIR"
            )
        specs = {
            name: ArraySpec(array["dtype"], tuple(array["shape"]))
            for name, array in index["arrays"].items()
        }
        splits = {
            name: _open_split(path / name, split["shards"], specs)
            for name, split in index["splits"].items()
        }
        problems = [Problem(**problem) for problem in index["problems"]]
        return Prepared(path, index["settings"], splits, problems)
    except _DamagedError as error:
        raise UserError(f"{error} is missing or cut short; make it anew with: {command}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(
            f"{str(path / INDEX_FILE)!r} is damaged; remove it, then: {command}"
        ) from None


class _DamagedError(Exception):
    """A file of a shard that is not what the index says; the message names it."""


def _open_split(
    directory: Path, shards: Sequence[Mapping[str, Any]], specs: Mapping[str, ArraySpec]
) -> PreparedSplit:
    directories = [directory / shard["name"] for shard in shards]
    rows = [shard["rows"] for shard in shards]
    arrays = {}
    for name, spec in specs.items():
        files = [shard / f"{name}.npy" for shard in directories]
        for file, count in zip(files, rows, strict=True):
            if not is_whole(file, spec, count):
                raise _DamagedError(str(file))
        arrays[name] = ShardedRows(files, rows, spec)
    return PreparedSplit(sum(rows), arrays, directories)
