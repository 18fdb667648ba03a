"""Prepares a dataset: raw items to shards, in several processes, from where the last run stopped.

A dataset brings a `Reader`, and the rest is the same for all.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.synchronize import Event
from pathlib import Path
from textwrap import shorten
from typing import Any

from rich.console import Console

from mtlbench.data.prepare.progress import show_progress
from mtlbench.data.prepare.reader import ProblemError, Reader
from mtlbench.data.shards import (
    INDEX_FILE,
    PLAN_FILE,
    SCHEMA_VERSION,
    UNFINISHED,
    Part,
    Problem,
    read_shard,
    shard_directory,
    write_json,
    write_shard,
)
from mtlbench.errors import UserError


@dataclass(frozen=True)
class Report:
    """The outcome of preparing.

    Attributes:
        dataset, out: what was prepared, and where.
        rows: split to number of rows.
        problems: what was wrong with the raw files.
        already_done: nothing was left to do.
    """

    dataset: str
    out: Path
    rows: Mapping[str, int]
    problems: Sequence[Problem]
    already_done: bool = False

    @property
    def counts(self) -> Counter[str]:
        """Kind of problem to how often there was one."""
        counts: Counter[str] = Counter()
        for problem in self.problems:
            counts[problem.kind] += problem.count
        return counts

    def __str__(self) -> str:
        rows = ", ".join(f"{count:,} {split}" for split, count in self.rows.items())
        verb = "is already prepared" if self.already_done else "is prepared"
        lines = [f"{self.dataset} {verb} in {self.out}: {rows}"]
        for kind, count in self.counts.most_common():
            first = next(problem for problem in self.problems if problem.kind == kind)
            example = shorten(f"{first.source} {first.detail}", 120, placeholder=" …")
            lines.append(f"  {count:,} × {kind}, such as {example}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Shard:
    """The work of one shard."""

    split: str
    number: int
    items: Sequence[str]

    def directory(self, root: Path) -> Path:
        return shard_directory(root, self.split, self.number)


def run(reader: Reader, raw: Path, out: Path, *, workers: int) -> Report:
    """Prepares what is not prepared yet.

    Raises:
        UserError: nothing usable in `raw`, something else in `out`, or `out` cannot be written.
    """
    items = {split: reader.items(split) for split in reader.splits}
    if not any(items.values()):
        raise UserError(f"no {reader.unit} of {reader.dataset} in {str(raw)!r}")
    plan = {
        "schema_version": SCHEMA_VERSION,
        "dataset": reader.dataset,
        "settings": reader.settings,
        "raw_files": hashlib.sha256(repr(items).encode()).hexdigest(),
    }
    size = reader.items_per_shard
    shards = [
        _Shard(split, first // size, list(found)[first : first + size])
        for split, found in items.items()
        for first in range(0, len(found), size)
    ]
    new = not os.path.lexists(out)
    try:
        _check_output(out, plan)
        out.mkdir(parents=True, exist_ok=True)
        with _lock(out):
            return _prepare(reader, raw, out, plan, shards, workers)
    except OSError as error:
        raise UserError(f"cannot write to {str(out)!r}: {error.strerror or error}") from error
    finally:
        if new:
            with suppress(OSError):  # something was prepared
                out.rmdir()


def _prepare(
    reader: Reader,
    raw: Path,
    out: Path,
    plan: Mapping[str, Any],
    shards: Sequence[_Shard],
    workers: int,
) -> Report:
    missing = [shard for shard in shards if not read_shard(shard.directory(out), reader.specs)]
    already_done = not missing and (out / INDEX_FILE).is_file()
    if not already_done:
        (out / INDEX_FILE).unlink(missing_ok=True)
        write_json(out / PLAN_FILE, plan)
        for shard in missing:  # one that was damaged
            if shard.directory(out).exists():
                shutil.rmtree(shard.directory(out))
        if there := len(shards) - len(missing):
            message = f"{there} of {len(shards)} shards are there already"
            Console(stderr=True).print(message, style="bold")
        with show_progress(sum(len(shard.items) for shard in missing), reader.unit) as advance:
            _write(missing, reader, out, workers, advance)

    index: dict[str, dict[str, Any]] = {}
    problems = [
        Problem(split, "split without files")
        for split in reader.splits
        if split not in {shard.split for shard in shards}
    ]
    for shard in shards:
        info = read_shard(shard.directory(out), reader.specs)
        assert info is not None
        problems += info.problems
        if info.sources:
            entry = index.setdefault(shard.split, {"rows": 0, "shards": []})
            entry["rows"] += len(info.sources)
            entry["shards"].append({"name": shard.directory(out).name, "rows": len(info.sources)})
    rows = {split: entry["rows"] for split, entry in index.items()}
    report = Report(reader.dataset, out, rows, problems, already_done)
    if not rows:
        for split in reader.splits:
            shutil.rmtree(out / split, ignore_errors=True)
        (out / PLAN_FILE).unlink()
        counts = ", ".join(f"{count} × {kind}" for kind, count in report.counts.most_common())
        raise UserError(f"nothing usable in {str(raw)!r}: {counts}")
    if not already_done:
        arrays = {
            name: {"dtype": spec.dtype, "shape": spec.shape} for name, spec in reader.specs.items()
        }
        write_json(
            out / INDEX_FILE,
            {**plan, "arrays": arrays, "splits": index, "problems": [vars(p) for p in problems]},
        )
    return report


# --- the output directory -----------------------------------------------------------------------


def _check_output(out: Path, plan: Mapping[str, Any]) -> None:
    """Makes sure that what is in the directory was begun from the same files and settings."""
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise UserError(f"output {str(out)!r} is a file, not a directory")
    if not (out / PLAN_FILE).is_file():
        if any(path.name != UNFINISHED for path in out.iterdir()):
            raise UserError(f"output {str(out)!r} is not empty and holds no prepared dataset")
        return
    try:
        begun = json.loads((out / PLAN_FILE).read_bytes())
        settings = begun["settings"]
        if begun["dataset"] != plan["dataset"]:
            what = f"holds {begun['dataset']}"
        elif begun["schema_version"] != plan["schema_version"]:
            what = f"has schema version {begun['schema_version']}"
        elif settings != plan["settings"]:
            what = "was begun with " + ", ".join(
                f"{key} {settings.get(key)} instead of {value}"
                for key, value in plan["settings"].items()
                if settings.get(key) != value
            )
        elif begun["raw_files"] != plan["raw_files"]:
            what = "was begun from other raw files"
        else:
            return
    except (ValueError, TypeError, KeyError, AttributeError):
        what = f"has a damaged {PLAN_FILE}"
    raise UserError(f"output {str(out)!r} {what}; choose another directory")


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Holds the right to write here; the kernel takes it back from a process that dies."""
    aside = out / UNFINISHED
    aside.mkdir(exist_ok=True)
    with (aside / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"output {str(out)!r} is being prepared by another process") from None
        try:
            yield
        finally:
            shutil.rmtree(aside, ignore_errors=True)


# --- the work -----------------------------------------------------------------------------------


class _StoppedError(Exception):
    """The parent was interrupted."""


_stop: Event | None = None
"""In a worker process: set when it is to stop."""


def _write(
    shards: Sequence[_Shard],
    reader: Reader,
    out: Path,
    workers: int,
    advance: Callable[[int, int], None],
) -> None:
    """Writes shards, here or in worker processes, and tells of the items and rows of each."""
    if workers == 1 or len(shards) < 2:
        for shard in shards:
            advance(len(shard.items), _write_one(reader, out, shard))
        return
    context = get_context("spawn")  # fork would copy the threads of whoever calls
    stop = context.Event()
    try:
        with ProcessPoolExecutor(
            min(workers, len(shards)), context, initializer=_start_worker, initargs=(stop,)
        ) as pool:
            futures = {pool.submit(_write_one, reader, out, shard): shard for shard in shards}
            try:
                for future in as_completed(futures):
                    advance(len(futures[future].items), future.result())
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, perhaps because memory ran out; the same command goes on "
            "from here"
        ) from None


def _start_worker(stop: Event) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop

    def follow_parent() -> None:
        parent = parent_process()
        assert parent is not None
        wait([parent.sentinel])
        os._exit(1)  # it was killed; nobody waits for this process any more

    threading.Thread(target=follow_parent, daemon=True).start()


def _write_one(reader: Reader, out: Path, shard: _Shard) -> int:
    """Writes a shard and gives its number of rows."""
    with write_shard(out, shard.split, shard.number, reader.specs) as writer:
        for item in shard.items:
            if _stop is not None and _stop.is_set():
                raise _StoppedError
            try:
                part = reader.read(shard.split, item)
            except ProblemError as problem:
                part = Part(problems=[Problem(f"{shard.split}/{item}", *problem.args)])
            writer.append(part)
    return len(writer.sources)
