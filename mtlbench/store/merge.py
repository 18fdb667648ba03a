"""Results directories of several machines joined into one.

Runs, folds of a cross-validation, trials and tunings are copied whole: aside first, then renamed
into their places. What is there already stays, so a merge that broke off can simply be done again.
"""

import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtlbench.errors import UnfinishedError, UserError
from mtlbench.files import below, remove, sync, unlisted
from mtlbench.store.folds import DIRECTORY as FOLDS
from mtlbench.store.folds import read_fold
from mtlbench.store.runs import (
    RUN_FILE,
    Places,
    Store,
    StoredRun,
    places,
    read_run,
)
from mtlbench.store.schema import FAILED
from mtlbench.store.sealed import DamagedRunError
from mtlbench.store.trials import TRIALS, TUNED, read_trial, read_tuning, write_tuning

LOCK = "merge"
"""In place of a job's hash."""


@dataclass
class Merged:
    """The outcome of a merge.

    Attributes:
        runs, folds, trials, tunings: how many were copied.
        there: how many were in the target already, or in a directory named before, and are equal.
        different: those that stayed out because there is another result of the same spec, as
            (path, path of the one that stays).
        damaged: those that stayed out because something is wrong with them, as (path, what).
        kept: those of the target that something is wrong with, as (path, what): they stay, and the
            same run of a source does not replace them.
    """

    runs: int = 0
    folds: int = 0
    trials: int = 0
    tunings: int = 0
    there: int = 0
    different: list[tuple[Path, Path]] = field(default_factory=list)
    damaged: list[tuple[Path, str]] = field(default_factory=list)
    kept: list[tuple[Path, str]] = field(default_factory=list)


def merge_results(sources: Places, into: str | Path) -> Merged:
    """Copies all runs, folds, trials and tunings of results directories into one.

    Every file is checked before. Of the same run in several sources, one that failed gives way to
    one that did not, then the source named first decides. Nothing that is in the target is
    changed, and nothing outside it; but a tuning that was there learns of the runs of more seeds.

    Args:
        sources: one results directory or several.
        into: the results directory that gets them; made where missing.

    Raises:
        UserError: a source is missing, holds nothing, or is the target; the target cannot be
            written to, lies inside a source, or another merge into it is under way. Nothing is
            written.
        UnfinishedError: a file cannot be copied, on a full disk for example.
    """
    target = Store(into)
    stores = _different(places(sources))
    if not stores:
        raise UserError("no results directory given to merge")
    for source in stores:
        _check(source, target)
    target.check_writable()
    merged = Merged()
    runs = _chosen_runs(stores, merged)
    files = [(kind, *found) for kind in KINDS for found in _readable(kind, stores, merged)]
    if not runs and not files:
        return merged
    target.require_way(
        target.root / path.relative_to(source.root)
        for source, path in (
            *((source, run.path) for source, run in runs),
            *((source, path) for _, source, path in files),
        )
    )
    try:
        with _alone(target) as aside:
            for source, run in runs:
                _merge_run(run, target.root / run.path.relative_to(source.root), aside, merged)
            for kind, source, path in files:
                final = target.root / path.relative_to(source.root)
                _merge_file(kind, path, final, aside, merged)
    except OSError as error:
        raise UnfinishedError(f"{str(into)!r} cannot be written: {error.strerror}") from error
    return merged


def _different(sources: Iterable[str | Path]) -> list[Store]:
    """Each results directory once."""
    found: dict[Path, Store] = {}
    for source in sources:
        store = Store(source).require()
        found.setdefault(_real(store.root), store)
    return list(found.values())


def _real(path: Path) -> Path:
    """The path without links; `Path.resolve` raises at a loop of them."""
    return Path(os.path.realpath(path))


def _check(source: Store, target: Store) -> None:
    here, there = _real(source.root), _real(target.root)
    if there == here:
        raise UserError(f"{str(target.root)!r} cannot be merged into itself")
    if here in there.parents:
        raise UserError(f"{str(target.root)!r} lies inside {str(source.root)!r}")
    if not any(source.run_directories()) and not any(kind.files(source) for kind in KINDS):
        raise UserError(f"{str(source.root)!r} holds nothing that can be merged")


@contextmanager
def _alone(target: Store) -> Iterator[Path]:
    """A folder for what is being copied, in which nobody else writes."""
    with target.lock(LOCK) as held:
        if not held:
            raise UserError(f"another merge into {str(target.root)!r} is under way")
        aside = target.root / ".unfinished" / LOCK / "copies"
        remove(aside)  # of a merge that was killed
        aside.mkdir()
        try:
            yield aside
        finally:
            target.clear_unfinished(LOCK)


# --- runs -----------------------------------------------------------------------------------------


def _chosen_runs(stores: Sequence[Store], merged: Merged) -> list[tuple[Store, StoredRun]]:
    """The runs to copy, each once; what is wrong with the others is noted."""
    found: dict[Path, list[tuple[Store, StoredRun]]] = {}
    for store in stores:
        for path in store.run_directories():
            try:
                run = read_run(path, thorough=True)
                place = store.place_of(run.info)
                if place != path:
                    raise DamagedRunError(f"{RUN_FILE} is that of {place}")
            except DamagedRunError as error:
                merged.damaged.append((path, str(error)))
                continue
            found.setdefault(path.relative_to(store.root), []).append((store, run))
    chosen = []
    for copies in found.values():
        first = min(copies, key=lambda copy: copy[1].info["status"] == FAILED)
        chosen.append(first)
        for _, run in copies:
            if run is not first[1]:
                _note(run, first[1], merged)
    return chosen


def _merge_run(run: StoredRun, final: Path, aside: Path, merged: Merged) -> None:
    if not os.path.lexists(final):
        copy = aside / secrets.token_hex(4)
        copy.mkdir()
        for name in (*run.info["files"], RUN_FILE):
            shutil.copyfile(run.path / name, copy / name)
            sync(copy / name)
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            copy.rename(final)
        except OSError:
            if not final.is_dir():
                raise
        else:
            merged.runs += 1
            return
    try:
        _note(run, read_run(final, thorough=True), merged)
    except DamagedRunError as error:
        merged.kept.append((final, str(error)))


def _note(run: StoredRun, stays: StoredRun, merged: Merged) -> None:
    """Notes a run that is not copied because there is one of the same spec."""
    if _same(run, stays):
        merged.there += 1
    else:
        merged.different.append((run.path, stays.path))


def _same(one: StoredRun, other: StoredRun) -> bool:
    """Whether two runs came to the same; their files may differ by the versions that wrote them."""
    if any(one.info[key] != other.info[key] for key in ("status", "metrics")):
        return False
    try:
        return _equal(one.history(), other.history())
    except UserError:
        return False


# --- files ----------------------------------------------------------------------------------------


class Kind(ABC):
    """Files of one kind.

    Attributes:
        counted: the field of `Merged` that counts them.
        pattern: of their paths.
    """

    counted: str
    pattern: str

    def files(self, store: Store) -> list[Path]:
        return list(below(store.root, *self.pattern.split("/")))

    @abstractmethod
    def read(self, path: Path) -> Any:
        """The content.

        Raises:
            DamagedRunError: it does not hold what it should.
        """

    def same(self, one: Any, other: Any) -> bool:
        return bool(one == other)

    def join(self, there: Any, more: Any, path: Path) -> None:  # noqa: B027 (most have nothing)
        """Adds to a file that is there what the same one of a source knows beyond it."""


class Folds(Kind):
    counted, pattern = "folds", f"{FOLDS}/*/fold-*.npz"

    def read(self, path: Path) -> Any:
        return read_fold(path)[1]

    def same(self, one: Any, other: Any) -> bool:
        return _equal(one, other)


class Trials(Kind):
    counted, pattern = "trials", f"{TRIALS}/*.json"

    def read(self, path: Path) -> Any:
        info = read_trial(path)
        return {name: info[name] for name in ("hash", "status", "metrics", "history")}


class Tunings(Kind):
    counted, pattern = "tunings", f"{TUNED}/*.json"

    def read(self, path: Path) -> Any:
        return read_tuning(path)

    def same(self, one: Any, other: Any) -> bool:
        return bool(replace(one, seeds=[]) == replace(other, seeds=[]))

    def join(self, there: Any, more: Any, path: Path) -> None:
        joined = there.with_seeds(more.seeds)
        if joined != there:
            write_tuning(path, joined)


KINDS = (Folds(), Trials(), Tunings())


def _readable(kind: Kind, stores: Sequence[Store], merged: Merged) -> list[tuple[Store, Path]]:
    found = []
    for store in stores:
        for path in kind.files(store):
            if _content(kind, path, merged.damaged) is not None:
                found.append((store, path))
    return found


def _merge_file(kind: Kind, path: Path, final: Path, aside: Path, merged: Merged) -> None:
    if not os.path.lexists(final):
        copy = aside / secrets.token_hex(4)
        shutil.copyfile(path, copy)
        sync(copy)
        final.parent.mkdir(parents=True, exist_ok=True)
        copy.rename(final)
        setattr(merged, kind.counted, getattr(merged, kind.counted) + 1)
        return
    mine = _content(kind, path, merged.damaged)
    theirs = _content(kind, final, merged.kept)
    if mine is None or theirs is None:
        return
    if kind.same(mine, theirs):
        merged.there += 1
        kind.join(theirs, mine, final)
    else:
        merged.different.append((path, final))


def _content(kind: Kind, path: Path, wrong: list[tuple[Path, str]]) -> Any:
    """The content of a file, or None; then it is noted."""
    try:
        if why := unlisted(path):
            raise DamagedRunError(f"it cannot be listed: {why}")
        return kind.read(path)
    except DamagedRunError as error:
        wrong.append((path, str(error)))
    return None


def _equal(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f")
        for name in one
    )
