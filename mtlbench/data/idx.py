"""Arrays in IDX files, the format of MNIST: magic number, sizes, then bytes."""

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from mtlbench.errors import UserError

UNSIGNED_BYTES = 8
"""The third byte of the magic number, for the only type that MNIST's kind has."""

LARGEST = 1 << 30
"""Bytes of a file that is read: MNIST's largest has 47 million."""


def idx_file(folder: Path, name: str) -> Path:
    """A file of this name in a folder, or the same with `.gz`.

    Raises:
        UserError: there is neither.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UserError(f"there is no {name!r}, nor {name + '.gz'!r}, in {str(folder)!r}")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of an IDX file.

    Args:
        path: the file, compressed where its name ends in `.gz`.
        dimensions: how many the array has.

    Raises:
        UserError: it is no such file, or has fewer or more bytes than it says.
    """
    wrong = UserError(f"{str(path)!r} is not an IDX file of bytes with {dimensions} dimensions")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, EOFError) as error:
        raise UserError(f"{str(path)!r} cannot be read: {error}") from error
    head = 4 + 4 * dimensions
    if len(content) > LARGEST or len(content) < head:
        raise wrong
    if content[:4] != bytes((0, 0, UNSIGNED_BYTES, dimensions)):
        raise wrong
    shape = struct.unpack(f">{dimensions}I", content[4:head])
    if len(content) - head != math.prod(shape):
        raise wrong
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
