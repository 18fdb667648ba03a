"""Cross-validations in a results directory: what each fold's network predicts.

<results>/.folds/<hash>/fold-<k>.npz
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from mtlbench.store.runs import Store, read_npz

DIRECTORY = ".folds"

NO_LABEL = -1
"""In place of a class that is absent."""


def fold_file(store: Store, group: str, fold: int) -> Path:
    """The file of a fold of the cross-validation with the hash `group`."""
    return store.root / DIRECTORY / group / f"fold-{fold}.npz"


def stored_folds(store: Store) -> Iterator[list[dict[str, np.ndarray]]]:
    """The arrays of the folds of each cross-validation, without damaged ones."""
    for directory in sorted((store.root / DIRECTORY).glob("*")):
        parts = []
        for path in sorted(directory.glob("fold-*.npz")):
            with suppress(Exception):  # damaged
                parts.append(read_npz(path))
        if parts:
            yield parts
