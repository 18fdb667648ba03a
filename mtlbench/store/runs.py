"""The results directory: where runs are written, whole or not at all, and read back.

    <results>/<suite>/<variant>/<strategy>/seed-<n>-<hash>/
        run.json                  spec, status, final metrics, timings, versions, device
        history.parquet           one row an epoch: training losses, weights, validation metrics
        labels.npz                corrupted variants: the mask and a few labels, clean and as given
        predictions.npz           a few test instances: input, truth and prediction
        instance_parameters.npz   strategies that have them: log σ² by epoch, and the mask
        traces.npz                where asked for: loss and margin of each instance by epoch
    <results>/.folds/<hash>/      cross-validation: what each fold's network predicts
    <results>/.unfinished/<hash>/ the checkpoint and the lock of what is being trained
    <results>/.trials/, .tuned/   what was tried for a strategy, and chosen; see `trials`
    <results>/.set-aside/         what was found damaged or failed, kept for a person to see

Nothing here is ever unpickled: JSON, Parquet, safetensors and arrays without objects only.
"""

import hashlib
import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from mtlbench.errors import UserError
from mtlbench.files import below, sync
from mtlbench.store.schema import RUN
from mtlbench.store.sealed import DamagedRunError, read_sealed, sealed

RUN_FILE = "run.json"
HISTORY_FILE = "history.parquet"
LABELS_FILE = "labels.npz"
PREDICTIONS_FILE = "predictions.npz"
INSTANCE_FILE = "instance_parameters.npz"
TRACES_FILE = "traces.npz"
UNFINISHED, LOCK, SET_ASIDE = ".unfinished", "lock", ".set-aside"
SMALL_ARRAYS, MOST_COMPRESSED = 2**26, 100
"""Bytes that arrays may unpack to whatever their file has, and times what it has: those of a run
are numbers that scatter, and masks, which shrink to a hundredth at most."""

LAYOUTS: dict[str, dict[str, tuple[str, str]]] = {
    LABELS_FILE: {"corrupted": ("?", "NK")},
    INSTANCE_FILE: {"log_variance": ("e", "ENK"), "corrupted": ("?", "NK")},
    TRACES_FILE: {
        "loss": ("e", "ENK"),
        "margin": ("e", "ENK"),
        "prediction": ("h", "ENK"),
        "validation_loss": ("e", "EMK"),
        "value": ("f", "NK"),
    },
}
"""Arrays that are read, by file: NumPy's letter of their type and their axes: E epochs, N training
and M validation instances, K tasks."""

Places = str | Path | Iterable[str | Path]
"""One results directory or several."""

History = dict[str, list[float]]
"""Column name to one value an epoch: `epoch`, `train_loss/TASK`, `weight/TASK`,
`validation/TASK/METRIC`."""


@dataclass
class RunRecord:
    """All that one run leaves behind.

    Attributes:
        info: what `run.json` holds, except the list of files. Non-finite numbers become null.
        history: one list a column, each as long as the number of epochs.
        labels: arrays of `labels.npz`; empty for the clean variant.
        instance_parameters: arrays of `instance_parameters.npz`; empty where there are none.
        predictions: arrays of `predictions.npz`; empty where the run did not get that far.
        traces: arrays of `traces.npz`; empty unless asked for.
    """

    info: dict[str, Any]
    history: History
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    instance_parameters: dict[str, np.ndarray] = field(default_factory=dict)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    traces: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredRun:
    """A run directory whose `run.json` was read; the other files are read when asked for.

    All that reads one raises UserError where it is damaged. `read_run(…, thorough=True)` finds that
    before.
    """

    path: Path
    info: dict[str, Any]

    def history(self) -> dict[str, np.ndarray]:
        """The columns of `history.parquet`, each [E]."""
        with self._readable(HISTORY_FILE) as file:
            table = pq.read_table(file)
            return {name: table.column(name).to_numpy() for name in table.column_names}

    def labels(self) -> dict[str, np.ndarray] | None:
        """The arrays of `labels.npz`, or None for a run on clean labels."""
        return self._arrays(LABELS_FILE)

    def predictions(self) -> dict[str, np.ndarray] | None:
        """The arrays of `predictions.npz`, or None for a run that did not get that far."""
        return self._arrays(PREDICTIONS_FILE)

    def instance_parameters(self) -> dict[str, np.ndarray] | None:
        """`log_variance` float16 [E, N, K] (NaN: no label) and `corrupted` bool [N, K], or None."""
        return self._arrays(INSTANCE_FILE)

    @property
    def has_traces(self) -> bool:
        return TRACES_FILE in self.info["files"]

    def traces(self) -> dict[str, np.ndarray] | None:
        """`loss` and `margin` float16 and `prediction` int16, each [E, N, K], `validation_loss`
        float16 [E, M, K], and `value` float32 [N, K], or None; see `training.traces`."""
        return self._arrays(TRACES_FILE)

    def _arrays(self, name: str) -> dict[str, np.ndarray] | None:
        if name not in self.info["files"]:
            return None
        with self._readable(name) as file:
            arrays = read_npz(file)
            _require_layout(arrays, LAYOUTS.get(name, {}), len(self.info["tasks"]))
            return arrays

    @contextmanager
    def _readable(self, name: str) -> Iterator[Path]:
        """The file; that it cannot be read is told in one line, whatever the reader raises."""
        file = self.path / name
        try:
            yield file
        except Exception as error:  # NumPy, its zip reader and Arrow raise all kinds
            raise UserError(f"{str(file)!r} is damaged, or not a file of a run") from error


def places(results: Places) -> list[str | Path]:
    """One results directory or several as a list.

    Raises:
        UserError: it is neither.
    """
    if isinstance(results, str | Path):
        return [results]
    if not isinstance(results, Iterable):
        raise UserError(f"results directories are paths, not {results!r}")
    return list(results)


class Store:
    """One results directory."""

    def __init__(self, root: str | Path) -> None:
        if not isinstance(root, str | Path):
            raise UserError(f"a results directory is a path, not {root!r}")
        if root == "":  # an unset variable would mean the working directory
            raise UserError("the results directory has no name")
        self.root = Path(root)

    # --- places -----------------------------------------------------------------------------

    def run_directory(self, suite: str, variant: str, strategy: str, seed: int, hash: str) -> Path:
        return self.root / suite / variant / strategy / f"seed-{seed}-{hash}"

    def place_of(self, info: Mapping[str, Any]) -> Path:
        """The directory of a run by what its `run.json` holds."""
        spec = info["spec"]
        return self.run_directory(
            spec["suite"], spec["variant"], spec["strategy"], spec["seed"], info["hash"]
        )

    def checkpoint_file(self, hash: str) -> Path:
        return self.root / UNFINISHED / hash / "checkpoint.safetensors"

    # --- reading ----------------------------------------------------------------------------

    def require(self) -> "Store":
        """This store, if its directory exists.

        Raises:
            UserError: there is no such directory.
        """
        if not self.root.is_dir():
            raise UserError(f"no results directory at {str(self.root)!r}")
        return self

    def run_directories(self) -> Iterator[Path]:
        """Every finished run's directory, in the order of their names, and every folder in which
        others may be hidden: one that cannot be listed."""
        yield from below(self.root, "[!.]*", "*", "*", "seed-*")

    def load(self, *, thorough: bool = False) -> tuple[list[StoredRun], list[tuple[Path, str]]]:
        """All runs that can be read, and the damaged ones as (directory, what is wrong).

        Args:
            thorough: as for `read_run`.
        """
        runs: list[StoredRun] = []
        damaged: list[tuple[Path, str]] = []
        for path in self.run_directories():
            try:
                run = read_run(path, thorough=thorough)
                self._check_place(run)
                runs.append(run)
            except DamagedRunError as error:
                damaged.append((path, str(error)))
        return runs, damaged

    def _check_place(self, run: StoredRun) -> None:
        """A run that was copied beside itself has its place in the first words of its name."""
        place = self.place_of(run.info)
        if run.path.parent != place.parent or not run.path.name.startswith(place.name):
            raise DamagedRunError(f"{RUN_FILE} is that of {place}")

    # --- writing ----------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Makes sure that runs can be written here; writes nothing.

        Raises:
            UserError: the path is a file, or cannot be written to.
        """
        check_writable(self.root, "results path")

    def require_way(self, paths: Iterable[Path]) -> None:
        """Makes sure that nothing but directories leads to places in here.

        Args:
            paths: of files or directories to be; what stands there itself may be anything.

        Raises:
            UserError: something else is in the way.
        """
        folders = {part for path in paths for part in path.relative_to(self.root).parents}
        for folder in sorted(self.root / part for part in folders - {Path()}):
            if os.path.lexists(folder) and not folder.is_dir():
                raise UserError(f"{str(folder)!r} is in the way: it is not a directory")

    def write(self, record: RunRecord) -> Path:
        """Writes a run whole: aside first, then renamed into its place.

        If the same run was finished meanwhile by another process, that one stays.
        """
        final = self.place_of(record.info)
        contents = {HISTORY_FILE: _parquet_bytes(record.history)}
        if record.labels:
            contents[LABELS_FILE] = npz_bytes(record.labels)
        if record.predictions:
            contents[PREDICTIONS_FILE] = npz_bytes(record.predictions)
        if record.instance_parameters:
            contents[INSTANCE_FILE] = npz_bytes(record.instance_parameters)
        if record.traces:
            contents[TRACES_FILE] = npz_bytes(record.traces)
        files = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in contents.items()
        }
        contents[RUN_FILE] = sealed({**record.info, "files": files}, indent=1)
        aside = self.root / UNFINISHED / record.info["hash"] / secrets.token_hex(4)
        try:
            aside.mkdir(parents=True)
            for name, data in contents.items():
                (aside / name).write_bytes(data)
                sync(aside / name)
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                aside.rename(final)
            except OSError:
                if not final.is_dir():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return final

    def set_aside(self, path: Path) -> Path:
        """Moves a run directory or a file out of the way, so that it is neither read nor lost."""
        target = self.root / SET_ASIDE / path.relative_to(self.root)
        target = target.with_name(f"{target.name}-{secrets.token_hex(2)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        return target

    @contextmanager
    def lock(self, hash: str) -> Iterator[bool]:
        """Holds the right to train one job, against other processes on this directory.

        Gives False, without waiting, where another process holds it. The system lets go of the
        lock when its holder dies, so a killed process never blocks a job.
        """
        path = self.root / UNFINISHED / hash / LOCK
        lock = FileLock(path, blocking=False, thread_local=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (Timeout, FileNotFoundError):  # the latter: its holder cleared the folder just now
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def clear_unfinished(self, hash: str) -> None:
        """Removes the checkpoint and the lock of a job that is finished."""
        shutil.rmtree(self.root / UNFINISHED / hash, ignore_errors=True)
        with suppress(OSError):  # other runs are under way
            (self.root / UNFINISHED).rmdir()


def check_writable(folder: Path, what: str) -> None:
    """Makes sure that files can be written to a folder, which may be missing; writes nothing.

    Args:
        folder: which.
        what: it is called.

    Raises:
        UserError: the path is a file, or cannot be written to.
    """
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            folder.stat()  # fails on a name that no file system takes
        for part in (folder, *folder.absolute().parents):
            if part.is_dir():
                with TemporaryDirectory(dir=part, prefix=".mtlbench-"):
                    return
            if os.path.lexists(part):
                kind = "a broken link" if part.is_symlink() else "a file"
                raise UserError(f"{what} {str(part)!r} is {kind}, not a directory")
    except OSError as error:
        raise UserError(f"{what} {str(folder)!r} is not writable: {error.strerror}") from error


def job_folder(checkpoint: Path) -> Path:
    """The folder of the job, with its lock, that a checkpoint or that of a part belongs to."""
    return next(folder for folder in checkpoint.parents if folder.parent.name == UNFINISHED)


def read_run(path: str | Path, *, thorough: bool = False) -> StoredRun:
    """Reads one run directory.

    Args:
        path: the run's directory.
        thorough: check the content of every file, not only its length.

    Raises:
        DamagedRunError: a file is missing, truncated, altered or not what it should be.
    """
    path = Path(path)
    info = read_sealed(path / RUN_FILE, RUN)
    files = info["files"]
    if HISTORY_FILE not in files:
        raise DamagedRunError(f"{RUN_FILE} does not list {HISTORY_FILE}")
    for name, entry in files.items():
        if "/" in name:
            raise DamagedRunError(f"{RUN_FILE} lists {name!r}, which is no file of a run")
        try:
            found = os.stat(f"{path}/{name}")
        except OSError:
            raise DamagedRunError(f"{name} is missing") from None
        if not stat.S_ISREG(found.st_mode):
            raise DamagedRunError(f"{name} is missing")
        if found.st_size != entry["bytes"]:
            raise DamagedRunError(f"{name} is truncated or was altered")
        if thorough and _digest(path / name) != entry["sha256"]:
            raise DamagedRunError(f"{name} was altered")
    return StoredRun(path, info)


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DamagedRunError(f"{file.name} cannot be read: {error.strerror}") from None


def _parquet_bytes(history: Mapping[str, list[float]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(history)), buffer)
    return buffer.getvalue()


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, all at once. Raises what NumPy does where it is damaged, and ValueError
    where it is no regular file, or would unpack to far more than such files do."""
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path.name} is not a file")
    with np.load(path, allow_pickle=False) as archive:
        unpacked = sum(member.file_size for member in archive.zip.infolist())
        if unpacked > SMALL_ARRAYS + MOST_COMPRESSED * path.stat().st_size:
            raise ValueError(f"{path.name} unpacks to {unpacked / 1e9:.1f} GB")
        return dict(archive)


def _require_layout(
    arrays: Mapping[str, np.ndarray], layout: Mapping[str, tuple[str, str]], tasks: int
) -> None:
    """Raises ValueError or KeyError where arrays are not laid out as those of so many tasks."""
    sizes = {"K": tasks}
    for name, (kind, axes) in layout.items():
        values = arrays[name]
        same = values.dtype.char == kind and values.ndim == len(axes)
        if not same or any(
            sizes.setdefault(a, n) != n for a, n in zip(axes, values.shape, strict=True)
        ):
            raise ValueError(f"{name} is {values.dtype} {values.shape}")


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
