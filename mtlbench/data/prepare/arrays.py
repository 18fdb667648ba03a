"""Arrays in NumPy's format, as some datasets are published. Nothing is unpickled."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlbench.data.prepare.reader import ProblemError
from mtlbench.errors import describe


def load_array(
    root: Path, name: str, shape: tuple[int, ...], least: float, most: float
) -> npt.NDArray[Any]:
    """An array of this shape with numbers in this range, both ends included.

    Args:
        root: the raw directory.
        name: of the file, below it.
        shape, least, most: what it must be.

    Raises:
        ProblemError: it is something else, or cannot be read.
    """
    try:
        values = open_array(root / name)
    except FileNotFoundError:
        raise ProblemError("missing file", name) from None
    except (OSError, ValueError, EOFError) as error:
        raise ProblemError("broken file", f"{name}: {describe(error)}") from error
    if values.dtype.kind not in "fiu":
        raise ProblemError("broken file", f"{name} holds no numbers")
    if values.shape != shape:
        raise ProblemError("image of another size", f"{name} is {values.shape}, not {shape}")
    if not ((values >= least) & (values <= most)).all():
        raise ProblemError("labels out of range", f"{name} is not in [{least:g}, {most:g}]")
    return values


def open_array(path: Path) -> npt.NDArray[Any]:
    """An array of a file whose values are read when they are used.

    So a file whose header promises more than there is is refused before memory is taken for it.

    Raises:
        OSError, ValueError, EOFError: it is no such file.
    """
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(values, np.ndarray):
        values.close()
        raise ValueError("it is an archive")
    return values
