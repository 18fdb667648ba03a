"""Files that are there whole or not at all."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import filter as matching
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path beside this one, to write to; at the end it takes this one's place.

    It does so once it is on the disk, and not at all if the block raises. A process that is killed
    leaves the file that was there before.
    """
    # Of its own name: another process may be writing too, such as a worker that lost its driver.
    aside = path.with_name(f".{path.name}-{secrets.token_hex(4)}.tmp")
    try:
        yield aside
        sync(aside)
        aside.replace(path)
    except OSError as error:
        if error.errno and error.filename is None:  # of a write, as on a full disk
            error.filename = str(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


def below(folder: Path, *patterns: str) -> Iterator[Path]:
    """All that lies below a folder, by a pattern for each level, in the order of names.

    A folder that is there and cannot be listed, for want of permission, comes in the place of what
    it holds: who reads it can tell, where `Path.glob` passes it over.
    """
    if not patterns:
        yield folder
        return
    try:
        names = os.listdir(folder)
    except OSError as error:
        if _hides(error):
            yield folder
        return
    for name in sorted(matching(names, patterns[0])):
        yield from below(folder / name, *patterns[1:])


def unlisted(folder: Path) -> str:
    """Why a folder cannot be listed; empty where it can, and where there is none."""
    try:
        os.listdir(folder)
    except OSError as error:
        return str(error.strerror) if _hides(error) else ""
    return ""


def _hides(error: OSError) -> bool:
    """Whether a folder is there that could not be listed."""
    return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def read_regular(path: Path, most: int) -> bytes:
    """The content of a file that may be anything: a pipe would be waited for, a device never end.

    Args:
        path: where it is.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or too large.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("is not a file")
    if found.st_size > most:
        raise ValueError("is too large")
    return path.read_bytes()


def sync(path: Path) -> None:
    """Returns when a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Removes a file, or whatever stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
