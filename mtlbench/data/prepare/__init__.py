"""Turns the raw files of real datasets into prepared ones (see `mtlbench.data.shards`)."""

import os
from pathlib import Path

from mtlbench.data.prepare import celeba, cityscapes, nyuv2, surreal
from mtlbench.data.prepare.reader import Reader
from mtlbench.data.prepare.runner import Report, run
from mtlbench.errors import UserError, unknown

__all__ = ["DATASETS", "Report", "prepare"]

DATASETS = ("celeba", "cityscapes", "nyuv2", "surreal")


def prepare(
    dataset: str,
    raw: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    height: int | None = None,
    width: int | None = None,
    every: int | None = None,
) -> Report:
    """Prepares a dataset, or what is missing of it, and shows progress on standard error.

    Args:
        dataset: `celeba`, `cityscapes`, `nyuv2` or `surreal`.
        raw: the directory as downloaded and unpacked.
        out: the directory to write, new or begun before.
        workers: processes; one a core where None.
        height, width: of CityScapes images (px); 128 × 256 where None.
        every: take every so many frames of a SURREAL clip; all of them where None.

    Raises:
        UserError: anything in it that does not exist or is out of range, no usable file in `raw`,
            or an `out` that holds something else or cannot be written.
    """
    if dataset not in DATASETS:
        raise unknown("dataset", dataset, DATASETS)
    raw, out = Path(raw), Path(out)
    workers = (os.cpu_count() or 1) if workers is None else workers
    for name, value in (
        ("workers", workers), ("height", height), ("width", width), ("frames every", every),
    ):  # fmt: skip
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, but is {value}")
    if not raw.is_dir():
        raise UserError(f"no raw directory at {str(raw)!r}")
    reader: Reader
    if every is not None and dataset != "surreal":
        raise UserError(f"{dataset} has no clips to take every so many frames of")
    if dataset == "cityscapes":
        reader = cityscapes.detect(raw, height or cityscapes.HEIGHT, width or cityscapes.WIDTH)
    elif dataset == "nyuv2":
        if height is not None or width is not None:
            raise UserError("nyuv2 images have the size of the arrays that they come in")
        reader = nyuv2.detect(raw)
    else:
        if height is not None or width is not None:
            size = celeba.SIZE if dataset == "celeba" else surreal.SIZE
            raise UserError(f"{dataset} images are always {size} × {size}")
        reader = celeba.detect(raw) if dataset == "celeba" else surreal.detect(raw, every or 1)
    return run(reader, raw, out, workers=workers)
