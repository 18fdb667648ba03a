"""A storage that all machines reach, where checkpoints are kept beside the disk that trains.

<URI>/<hash>/                 the checkpoints of a job, as below `.unfinished` in a store
"""

import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import ArrowException
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from mtlbench.errors import UserError, describe, shortened
from mtlbench.files import replacing
from mtlbench.training.job import Ended, Notice

CHECKPOINT = ".safetensors"
"""Ends the names of the files that are kept."""


class Storage:
    """A folder of any file system that pyarrow or fsspec knows by a URI.

    Files are written aside and moved into their place. What fails raises OSError, or whatever else
    the file system raises.

    Args:
        uri: as `s3://bucket/path`, `file:///shared/dir` or `fsspec+PROTOCOL://…`.

    Raises:
        UserError: no such file system.
    """

    def __init__(self, uri: str) -> None:
        self.name = _without_password(uri)
        try:
            self._files, self._root = FileSystem.from_uri(uri)
        except (ArrowException, OSError, ValueError, TypeError, ImportError) as error:
            raise self._useless(error) from error

    def prepare(self, finished: Collection[str]) -> None:
        """Makes sure that checkpoints can be kept here; leaves nothing but the folder.

        Args:
            finished: hashes of jobs that are over. What a command that was killed has not removed
                of theirs, is.

        Raises:
            UserError: no checkpoints can be kept.
        """
        name = f".{secrets.token_hex(4)}.tmp"
        try:
            self._files.create_dir(self._root, recursive=True)
            with self._files.open_output_stream(self._at(name)) as file:
                file.write(b"mtlbench")
            self._files.delete_file(self._at(name))
            for info in self.files(""):
                if info.base_name in finished:
                    self.remove(info.base_name)
        except Exception as error:  # of file systems of all kinds
            raise self._useless(error) from error

    def files(self, folder: str) -> list[FileInfo]:
        """What there is in a folder; nothing where there is no such folder."""
        there = FileSelector(self._at(folder), allow_not_found=True)
        found: list[FileInfo] = self._files.get_file_info(there)
        return sorted(found, key=lambda info: info.path)

    def put(self, path: Path, name: str) -> None:
        """Keeps a file under a name, in place of what is there."""
        target = PurePosixPath(name)
        aside = self._at(str(target.with_name(f".{target.name}-{secrets.token_hex(4)}.tmp")))
        self._files.create_dir(self._at(str(target.parent)), recursive=True)
        try:
            with path.open("rb") as file, self._files.open_output_stream(aside) as stream:
                shutil.copyfileobj(file, stream)
            self._files.move(aside, self._at(name))
        except BaseException:
            with suppress(Exception):
                self._files.delete_file(aside)
            raise

    def get(self, name: str, path: Path) -> None:
        """Brings a file here, in place of what is there."""
        with (
            replacing(path) as aside,
            self._files.open_input_stream(self._at(name)) as stream,
            aside.open("wb") as file,
        ):
            shutil.copyfileobj(stream, file)

    def remove(self, name: str) -> None:
        """Removes a file, or a folder with all that it has, if it is there."""
        with suppress(FileNotFoundError):
            if self._files.get_file_info(self._at(name)).type == FileType.Directory:
                self._files.delete_dir(self._at(name))
            else:
                self._files.delete_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if self._root else name

    def _useless(self, error: Exception) -> UserError:
        reason = _without_password(describe(error))
        return UserError(f"no checkpoints can be kept at {shortened(repr(self.name))}: {reason}")


def _without_password(text: str) -> str:
    """The same, where a URI has one."""
    return re.sub(r"//[^/@]*@", "//…@", str(text))


def kept(messages: Iterator[Any], checkpoint: Path, storage: Storage, root: Path) -> Iterator[Any]:
    """Training that goes on from a storage, and whose checkpoint is kept there.

    Training does not wait for it: of two checkpoints that follow soon, it may keep the later alone.
    A storage that fails is a notice, one in a row.

    Args:
        messages: what the training says, not begun yet.
        checkpoint: its file here.
        storage: where it is kept, too.
        root: the folder here that the storage is a copy of.
    """
    folder = str(checkpoint.parent.relative_to(root))
    there: list[str] = []
    try:
        there = _fetch(checkpoint, storage, folder)
    except Exception as error:  # of file systems of all kinds
        yield Notice(f"cannot look for its state in {storage.name}: {describe(error)}")
    with ThreadPoolExecutor(1) as thread:
        upload = _Upload(checkpoint, storage, f"{folder}/{checkpoint.name}", thread)
        for message in messages:
            if isinstance(message, Ended):
                yield from upload.collect(wait=True)
                upload.begin()
                yield from upload.collect(wait=True)
                with suppress(Exception):  # all of it goes when the run has ended
                    for name in there:
                        if not checkpoint.with_name(name).exists():
                            storage.remove(f"{folder}/{name}")
            else:
                yield from upload.collect(wait=False)
                upload.begin()
            yield message


class _Upload:
    """Takes a file into a storage whenever it has changed, one time after the other."""

    def __init__(self, path: Path, storage: Storage, name: str, thread: ThreadPoolExecutor) -> None:
        self._path, self._storage, self._name, self._thread = path, storage, name, thread
        self._saved = self._taken = _stamp(path)
        self._running: Future[None] | None = None
        self._failed = False

    def begin(self) -> None:
        """Takes it, unless it is as before or still on its way."""
        now = _stamp(self._path)
        if self._running is None and now not in (None, self._saved):
            self._taken = now
            self._running = self._thread.submit(self._storage.put, self._path, self._name)

    def collect(self, *, wait: bool) -> Iterator[Notice]:
        """Gives a notice where it has failed, and did not the time before."""
        if self._running is None or not (wait or self._running.done()):
            return
        error = self._running.exception()
        self._running = None
        if error is None:
            self._saved = self._taken
        elif not self._failed:
            yield Notice(f"cannot save its state in {self._storage.name}: {describe(error)}")
        self._failed = error is not None


def _fetch(checkpoint: Path, storage: Storage, folder: str) -> list[str]:
    """Brings here what a storage has: the checkpoint in any case, since another machine may have
    gone on from it, and what lies beside it where it is not here or older; gives all their names.
    """
    names = []
    for info in storage.files(folder):
        if not info.base_name.endswith(CHECKPOINT) or info.base_name.startswith("."):
            continue
        names.append(info.base_name)
        path = checkpoint.with_name(info.base_name)
        here = _stamp(path)
        if path == checkpoint or here is None or here < (info.mtime_ns or 0, 0):
            path.parent.mkdir(parents=True, exist_ok=True)
            storage.get(f"{folder}/{info.base_name}", path)
    return names


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        there = path.stat()
    except OSError:
        return None
    return there.st_mtime_ns, there.st_ino
