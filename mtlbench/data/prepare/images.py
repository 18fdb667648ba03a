"""Image files, as some datasets are published."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtlbench.data.prepare.reader import ProblemError
from mtlbench.errors import describe


@contextmanager
def open_image(path: Path, *formats: str) -> Iterator[Image.Image]:
    """An image of one of these formats, whose pixels are decoded when they are used.

    Raises:
        ProblemError: it is missing, not a regular file, of another format, broken, or larger than
            Pillow takes for harmless.
    """
    if not path.is_file():  # a pipe would be waited for
        raise ProblemError("missing file", path.name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged notes of a camera
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=formats) as image:
                yield image
    except (
        OSError, SyntaxError, ValueError,
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    ) as error:  # fmt: skip
        raise ProblemError("broken file", f"{path.name}: {describe(error)}") from error


def scaled(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """A whole image in RGB as [size, size, 3], by a bilinear filter whose support grows with the
    scale, as `torchvision`'s `Resize` does."""
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
