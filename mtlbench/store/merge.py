"""Results directories of several machines joined into one.

Runs and folds of a cross-validation are copied whole: aside first, then renamed into their places.
What is there already stays, bit for bit, so a merge that broke off can simply be done again.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtlbench.errors import UnfinishedError, UserError
from mtlbench.files import remove, sync
from mtlbench.store.folds import fold_files
from mtlbench.store.runs import (
    RUN_FILE,
    DamagedRunError,
    Places,
    Store,
    StoredRun,
    places,
    read_npz,
    read_run,
)
from mtlbench.store.schema import FAILED

LOCK = "merge"
"""In place of a job's hash."""


@dataclass
class Merged:
    """The outcome of a merge.

    Attributes:
        runs, folds: how many were copied.
        there: how many were in the target already, or in a directory named before, and are equal.
        different: those that stayed out because there is another result of the same spec, as
            (path, path of the one that stays).
        damaged: those that stayed out because something is wrong with them, as (path, what).
        kept: those of the target that something is wrong with, as (path, what): they stay, and the
            same run of a source does not replace them.
    """

    runs: int = 0
    folds: int = 0
    there: int = 0
    different: list[tuple[Path, Path]] = field(default_factory=list)
    damaged: list[tuple[Path, str]] = field(default_factory=list)
    kept: list[tuple[Path, str]] = field(default_factory=list)


def merge_results(sources: Places, into: str | Path) -> Merged:
    """Copies all runs and all folds of results directories into one.

    Every file is checked before. Of the same run in several sources, one that failed gives way to
    one that did not, then the source named first decides. Nothing that is in the target is
    changed, and nothing outside it.

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
    runs, folds = _chosen_runs(stores, merged), _readable_folds(stores, merged)
    if not runs and not folds:
        return merged
    for source, path in (*((source, run.path) for source, run in runs), *folds):
        _check_way(target, path.relative_to(source.root))
    try:
        with _alone(target) as aside:
            for source, run in runs:
                _merge_run(run, target.root / run.path.relative_to(source.root), aside, merged)
            for source, path in folds:
                _merge_fold(path, target.root / path.relative_to(source.root), aside, merged)
    except OSError as error:
        raise UnfinishedError(f"{str(into)!r} cannot be written: {error.strerror}") from error
    return merged


def _different(sources: Iterable[str | Path]) -> list[Store]:
    """Each results directory once."""
    found: dict[Path, Store] = {}
    for source in sources:
        store = Store(source).require()
        found.setdefault(store.root.resolve(), store)
    return list(found.values())


def _check(source: Store, target: Store) -> None:
    here, there = source.root.resolve(), target.root.resolve()
    if there == here:
        raise UserError(f"{str(target.root)!r} cannot be merged into itself")
    if here in there.parents:
        raise UserError(f"{str(target.root)!r} lies inside {str(source.root)!r}")
    if not any(source.run_directories()) and not any(fold_files(source)):
        raise UserError(f"{str(source.root)!r} holds neither runs nor folds")


def _check_way(target: Store, place: Path) -> None:
    """Makes sure that nothing but directories leads to a place inside the target."""
    for part in [target.root / each for each in place.parents]:
        if os.path.lexists(part) and not part.is_dir():
            raise UserError(f"{str(part)!r} is in the way: it is not a directory")


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
                spec = run.info["spec"]
                place = store.run_directory(
                    spec["suite"], spec["variant"], spec["strategy"], spec["seed"], run.info["hash"]
                )
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


# --- folds ----------------------------------------------------------------------------------------


def _readable_folds(stores: Sequence[Store], merged: Merged) -> list[tuple[Store, Path]]:
    found = []
    for store in stores:
        for path in fold_files(store):
            if _arrays(path, merged.damaged) is not None:
                found.append((store, path))
    return found


def _merge_fold(path: Path, final: Path, aside: Path, merged: Merged) -> None:
    if not os.path.lexists(final):
        copy = aside / secrets.token_hex(4)
        shutil.copyfile(path, copy)
        sync(copy)
        final.parent.mkdir(parents=True, exist_ok=True)
        copy.rename(final)
        merged.folds += 1
        return
    mine, theirs = _arrays(path, merged.damaged), _arrays(final, merged.kept)
    if mine is None or theirs is None:
        return
    if _equal(mine, theirs):
        merged.there += 1
    else:
        merged.different.append((path, final))


def _arrays(path: Path, wrong: list[tuple[Path, str]]) -> dict[str, np.ndarray] | None:
    """The arrays of a file, or None; then it is noted."""
    try:
        return read_npz(path)
    except Exception:  # NumPy and its zip reader raise all kinds, and give advice not to follow
        wrong.append((path, "is not a file of arrays, or damaged"))
        return None


def _equal(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f")
        for name in one
    )
