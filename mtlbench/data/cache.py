"""Arrays that take long to make, kept in files named by what they were made from."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlbench.files import replacing

Arrays = dict[str, npt.NDArray]

_KEY = "__key__"


def cache_directory() -> Path:
    """`$MTLBENCH_CACHE`, or the system's place for caches: on Linux `~/.cache/mtlbench`."""
    if own := os.environ.get("MTLBENCH_CACHE"):
        return Path(own)
    from platformdirs import user_cache_path  # few suites need a cache, and so this package

    return user_cache_path("mtlbench", appauthor=False)


def cached_arrays(key: Mapping[str, object], make: Callable[[], Arrays]) -> Arrays:
    """The arrays that `make` gives, read from the cache where they were made before.

    Args:
        key: all that the arrays depend on, the version of the code that makes them included, as
            values that JSON can write. The file is named by its hash and holds it.
        make: called where the cache has no such file, or a damaged one. That the new file cannot be
            written is no error: they are made again the next time.
    """
    text = json.dumps(key, sort_keys=True)
    path = cache_directory() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"
    arrays = _read(path, text)
    if arrays is None:
        arrays = make()
        with suppress(OSError):
            _write(path, text, arrays)
    return arrays


def _read(path: Path, key: str) -> Arrays | None:
    """The arrays that `_write` wrote under this key, or None."""
    # A damaged file can raise anything.
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except Exception:
        return None
    stored = arrays.pop(_KEY, None)
    return arrays if stored is not None and str(stored) == key else None


def _write(path: Path, key: str, arrays: Arrays) -> None:
    """Writes a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Any] = {_KEY: np.array(key), **arrays}
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez(file, **contents)
