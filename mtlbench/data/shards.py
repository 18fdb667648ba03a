"""The files of prepared datasets: shards of arrays, with an index.

    <directory>/
        prepare.json                  what is being prepared: dataset, settings, raw files
        index.json                    written last: arrays, shards of each split, problems
        <split>/shard-00012/
            <array>.npy               [rows, …]
            shard.json                number of rows, where each comes from, problems

A shard is written aside and renamed, so it is there whole or not at all. Nothing here is ever
unpickled: JSON and arrays without objects only. PyTorch is imported by `prepared`, which reads the
rows, so that the processes that write them start quickly.
"""

import json
import math
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlbench.files import replacing

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
    """The layout of an array: the NumPy name of its type, and the shape of one row."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)

    def header(self, rows: int) -> bytes:
        """The header of a `.npy` file of so many rows (format 1.0), always HEADER_BYTES long, so
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
    """The rows and problems of one raw item.

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
    """The content of `shard.json`."""

    sources: list[str]
    problems: list[Problem]


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


def read_shard(directory: Path, specs: Mapping[str, ArraySpec]) -> ShardInfo | None:
    """The content of a shard's file, or None where it is missing or an array is cut short."""
    try:
        info = json.loads((directory / SHARD_FILE).read_bytes())
        sources = info["sources"]
        problems = [Problem(**problem) for problem in info["problems"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if not all(is_whole(directory / f"{n}.npy", spec, len(sources)) for n, spec in specs.items()):
        return None
    return ShardInfo(sources, problems)


def is_whole(file: Path, spec: ArraySpec, rows: int) -> bool:
    """True of a file that is as long as it should be."""
    try:
        return file.stat().st_size == HEADER_BYTES + rows * spec.row_bytes
    except OSError:
        return False
