"""Frames of SURREAL's videos, and the square around the person in each."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mtlbench.data.prepare.reader import ProblemError
from mtlbench.errors import describe

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.plane import VideoPlane
    from av.video.reformatter import VideoReformatter

SIZE = 256
FRAME_HEIGHT, FRAME_WIDTH = 240, 320

MARGIN = 0.1
"""Of the larger side of a person's bounding box, to either side of it."""

STEP = 8
"""Crops are so many pixels wide, or a multiple: to scale another width takes a preparation."""

BLACK = (16, 128, 128)
"""In the video's colours: Y, U, V."""


def frames(path: Path) -> Iterator["VideoFrame"]:
    """All frames of a video.

    Raises:
        ProblemError: it is missing, broken, cut short, or not of SURREAL's size.
    """
    import av

    count = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # the other cores have other clips
            size = (stream.width, stream.height)
            if size != (FRAME_WIDTH, FRAME_HEIGHT):
                raise ProblemError("image of another size", f"{path.name} is {size[0]} × {size[1]}")
            promised = stream.frames
            for frame in container.decode(stream):
                yield frame
                count += 1
    except FileNotFoundError:
        raise ProblemError("missing file", path.name) from None
    except (av.FFmpegError, IndexError) as error:
        raise ProblemError("broken video", f"{path.name}: {describe(error)}") from error
    if count < max(promised, 1):
        raise ProblemError("broken video", f"{path.name} ends after {count} of {promised} frames")


def bounding_box(mask: npt.NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom (px, the last two beyond) of what is not 0, if there is any."""
    rows, columns = np.flatnonzero(mask.max(1)), np.flatnonzero(mask.max(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def square_around(left: int, top: int, right: int, bottom: int) -> tuple[int, int, int]:
    """Left, top and side of the square to cut out (px), which may reach beyond the frame.

    All are even, as two pixels each way share a colour in the video.
    """
    side = max(right - left, bottom - top) * (1 + 2 * MARGIN)
    side = -(-int(np.ceil(side)) // STEP) * STEP
    return round((left + right - side) / 4) * 2, round((top + bottom - side) / 4) * 2, side


def cut_image(
    frame: "VideoFrame", left: int, top: int, side: int, *, out: npt.NDArray[np.uint8]
) -> None:
    """Writes the square as RGB to `out` [3, 256, 256].

    It is cut out before it is scaled and its colours are converted, which FFmpeg does in one go:
    0.3 ms a frame, against 1.1 ms for converting the whole frame and scaling with Pillow.
    """
    from av import VideoFrame
    from av.video.reformatter import Interpolation

    frame = frame.reformat(format="yuv420p")
    cut = VideoFrame(side, side, "yuv420p")
    cut.colorspace, cut.color_range = frame.colorspace, frame.color_range
    for whole, part, black, scale in zip(frame.planes, cut.planes, BLACK, (1, 2, 2), strict=True):
        _copy_square(_pixels(whole), _pixels(part), left // scale, top // scale, black)
    scaled = _reformatter(side).reformat(
        cut, SIZE, SIZE, "gbrp", interpolation=Interpolation.BILINEAR, threads=1
    )
    green, blue, red = map(_pixels, scaled.planes)
    np.stack([red, green, blue], out=out)


def _pixels(plane: "VideoPlane") -> npt.NDArray[np.uint8]:
    """The pixels of one colour [height, width], not copied."""
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: plane.height, : plane.width]


@lru_cache(maxsize=64)
def _reformatter(side: int) -> "VideoReformatter":
    """Prepared for squares of one size once it has been used."""
    from av.video.reformatter import VideoReformatter

    return VideoReformatter()


def _copy_square(
    whole: npt.NDArray[np.uint8], part: npt.NDArray[np.uint8], left: int, top: int, beyond: int
) -> None:
    """Copies the square of `whole` at this place to `part`, with a value beyond the edges."""
    (height, width), side = whole.shape, len(part)
    rows = slice(max(top, 0), min(top + side, height))
    columns = slice(max(left, 0), min(left + side, width))
    if (rows.stop - rows.start, columns.stop - columns.start) != part.shape:
        part[:] = beyond
    part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = whole[
        rows, columns
    ]


def cut_mask(mask: npt.NDArray[np.uint8], left: int, top: int, side: int) -> npt.NDArray[np.uint8]:
    """The square as parts [256, 256], each from the pixel that its middle lies on."""
    # Row by row of the transpose: the arrays of .mat files lie column by column.
    square = np.empty((side, side), np.uint8)
    _copy_square(mask.T, square, top, left, 0)
    nearest = (2 * np.arange(SIZE) + 1) * side // (2 * SIZE)
    return np.ascontiguousarray(square.take(nearest, 0).T).take(nearest, 0)
