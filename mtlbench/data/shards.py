"""Prepared datasets: rows of arrays in memory-mapped files, with an index.

    <directory>/
        prepare.json                  what is being prepared: dataset, settings, raw files
        index.json                    written last: arrays, shards of each split, problems
        <split>/shard-00012/
            <array>.npy               [rows, …]
            shard.json                number of rows, where each comes from, problems

A shard is written aside and renamed, so it is there whole or not at all. Nothing here is ever
unpickled: JSON and arrays without objects only. PyTorch is imported by those who read rows, so that
the processes that write them start quickly.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mtlbench.errors import UserError
from mtlbench.files import replacing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SCHEMA_VERSION = 1
INDEX_FILE = "index.json"
PLAN_FILE = "prepare.json"
SHARD_FILE = "shard.json"
UNFINISHED = ".unfinished"

NPY_MAGIC = b"\x93NUMPY\x01\x00"
HEADER_BYTES = 128

Arrays = dict[str, npt.NDArray[Any]]
"""Array name to rows [n, …]."""


@dataclass(frozen=True)
class ArraySpec:
    """What an array holds: the NumPy name of its type, and the shape of one row."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)

    def header(self, rows: int) -> bytes:
        """What a `.npy` file of so many rows begins with (format 1.0), always HEADER_BYTES long, so
        that it can be written anew when the number of rows is known."""
        text = repr(
            {
                "descr": np.dtype(self.dtype).str,
                "fortran_order": False,
                "shape": (rows, *self.shape),
            }
        )
        length = HEADER_BYTES - len(NPY_MAGIC) - 2
        return NPY_MAGIC + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"


@dataclass(frozen=True)
class Problem:
    """Something in the raw files that is not as it should be.

    Attributes:
        source: the raw item: an image or a clip.
        kind: what is wrong, in words that every such problem shares.
        detail: which file or frame, and how.
        count: how often, such as the number of frames.
    """

    source: str
    kind: str
    detail: str = ""
    count: int = 1


@dataclass
class Part:
    """What one raw item gives.

    Attributes:
        arrays: its rows; empty where it gives none.
        sources: where each row comes from.
        problems: what was wrong with it.
    """

    arrays: Arrays = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class ShardInfo:
    """What `shard.json` holds."""

    sources: list[str]
    problems: list[Problem]


# --- writing ------------------------------------------------------------------------------------


class ShardWriter:
    """Appends rows to the arrays of one shard."""

    def __init__(self, directory: Path, specs: Mapping[str, ArraySpec]) -> None:
        self.directory, self.specs = directory, specs
        self.sources: list[str] = []
        self.problems: list[Problem] = []
        self._files = {name: (directory / f"{name}.npy").open("wb") for name in specs}
        for file in self._files.values():
            file.write(bytes(HEADER_BYTES))

    def append(self, part: Part) -> None:
        rows = len(part.sources)
        for name, spec in self.specs.items() if rows else ():
            values = part.arrays[name]
            if values.dtype != spec.dtype or values.shape != (rows, *spec.shape):
                raise ValueError(f"{name} is {values.dtype} {values.shape}, not {rows} × {spec}")
            np.ascontiguousarray(values).tofile(self._files[name])
        self.sources += part.sources
        self.problems += part.problems

    def finish(self) -> None:
        for name, file in self._files.items():
            file.seek(0)
            file.write(self.specs[name].header(len(self.sources)))
        self.close()
        info = {"sources": self.sources, "problems": [vars(problem) for problem in self.problems]}
        (self.directory / SHARD_FILE).write_text(json.dumps(info))

    def close(self) -> None:
        for file in self._files.values():
            file.close()


@contextmanager
def write_shard(
    root: Path, split: str, number: int, specs: Mapping[str, ArraySpec]
) -> Iterator[ShardWriter]:
    """Writes one shard of a prepared dataset; it appears when the block ends without an error."""
    target = shard_directory(root, split, number)
    aside = root / UNFINISHED / f"{split}-{target.name}-{secrets.token_hex(4)}"
    aside.mkdir(parents=True)
    writer = ShardWriter(aside, specs)
    try:
        yield writer
        writer.finish()
    finally:
        writer.close()
    target.parent.mkdir(exist_ok=True)
    aside.rename(target)


def shard_directory(root: Path, split: str, number: int) -> Path:
    return root / split / f"shard-{number:05d}"


def write_json(path: Path, value: object) -> None:
    """Writes a file that is there whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(json.dumps(value, indent=1))


# --- reading ------------------------------------------------------------------------------------


def read_shard(directory: Path, specs: Mapping[str, ArraySpec]) -> ShardInfo | None:
    """What a shard says of itself, or None where it is missing or its files are cut short."""
    try:
        info = json.loads((directory / SHARD_FILE).read_bytes())
        sources = info["sources"]
        problems = [Problem(**problem) for problem in info["problems"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if not all(_is_whole(directory / f"{n}.npy", spec, len(sources)) for n, spec in specs.items()):
        return None
    return ShardInfo(sources, problems)


def _is_whole(file: Path, spec: ArraySpec, rows: int) -> bool:
    """Whether a file is as long as it should be."""
    try:
        return file.stat().st_size == HEADER_BYTES + rows * spec.row_bytes
    except OSError:
        return False


class ShardedRows:
    """The rows of one array of a split, gathered from its shards (a `mtlbench.data.rows.Rows`).

    Attributes:
        shape: [N, …].
        dtype: of PyTorch.
        nbytes: of all rows.
    """

    def __init__(self, files: Sequence[Path], rows: Sequence[int], spec: ArraySpec) -> None:
        import torch

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
        import torch

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
        import torch

        values = torch.empty(self.shape, dtype=self.dtype)
        out = values.numpy()
        for number in range(len(self._files)):
            out[self._first[number] : self._first[number + 1]] = self._map(number)
        return values

    def _map(self, number: int) -> npt.NDArray[Any]:
        """The rows of a shard, mapped when they are first asked for."""
        rows = self._maps[number]
        if rows is None:
            import torch

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
        """Where each row comes from: image, or clip and frame."""
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
            if not _is_whole(file, spec, count):
                raise _DamagedError(str(file))
        arrays[name] = ShardedRows(files, rows, spec)
    return PreparedSplit(sum(rows), arrays, directories)
