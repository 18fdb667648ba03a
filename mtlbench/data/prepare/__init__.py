"""Turns the raw files of real datasets into prepared ones (see `mtlbench.data.shards`)."""

import os
from pathlib import Path

from mtlbench.data.office import SIZE
from mtlbench.data.prepare import celeba, cityscapes, nyuv2, office, surreal
from mtlbench.data.prepare.reader import Reader
from mtlbench.data.prepare.runner import Report, run
from mtlbench.errors import UserError, unknown

__all__ = ["DATASETS", "Report", "prepare"]

DATASETS = ("celeba", "cityscapes", "nyuv2", "office", "surreal")


def prepare(
    dataset: str,
    raw: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    height: int | None = None,
    width: int | None = None,
    every: int | None = None,
    size: int | None = None,
) -> Report:
    """Prepares a dataset, or what is missing of it, and shows progress on standard error.

    Args:
        dataset: `celeba`, `cityscapes`, `nyuv2`, `office` or `surreal`.
        raw: the directory as downloaded and unpacked.
        out: the directory to write, new or begun before.
        workers: processes; one a core where None.
        height, width: of CityScapes images (px); 128 × 256 where None.
        every: take every so many frames of a SURREAL clip; all of them where None.
        size: height and width of Office's images (px); 224 where None.

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
        ("size", size),
    ):  # fmt: skip
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, but is {value}")
    if not raw.is_dir():
        raise UserError(f"no raw directory at {str(raw)!r}")
    reader: Reader
    if every is not None and dataset != "surreal":
        raise UserError(f"{dataset} has no clips to take every so many frames of")
    if size is not None and dataset != "office":
        raise UserError(f"a size can be asked for office, not for {dataset}")
    if dataset == "cityscapes":
        reader = cityscapes.detect(raw, height or cityscapes.HEIGHT, width or cityscapes.WIDTH)
    elif height is not None or width is not None:
        raise UserError(
            {
                "celeba": f"celeba images are always {celeba.SIZE} × {celeba.SIZE}",
                "nyuv2": "nyuv2 images have the size of the arrays that they come in",
                "office": "office images are as wide as high: give a size",
                "surreal": f"surreal images are always {surreal.SIZE} × {surreal.SIZE}",
            }[dataset]
        )
    elif dataset == "celeba":
        reader = celeba.detect(raw)
    elif dataset == "nyuv2":
        reader = nyuv2.detect(raw)
    elif dataset == "office":
        reader = office.detect(raw, size or SIZE)
    else:
        reader = surreal.detect(raw, every or 1)
    return run(reader, raw, out, workers=workers)
