"""Small trees in the formats that Office-31 and Office-Home are published in."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mtlbench.data.office import OFFICE_31, Office, plain

SIDE = 64


def write_picture(
    path: Path, pixels: np.ndarray | None = None, *, format: str = "JPEG", **options: object
) -> None:
    """An image as JPEG of the best quality; grey, of no square shape, where nothing is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((48, 80, 3), 128, np.uint8) if pixels is None else pixels
    if format == "JPEG":
        options = {"quality": 100, "subsampling": 0, **options}
    Image.fromarray(pixels).save(path, format, **options)


def class_path(root: Path, office: Office, folder: str, name: str) -> Path:
    inside = "images/" if office is OFFICE_31 else ""
    return root / folder / f"{inside}{name}"


def write_office(
    root: Path,
    office: Office = OFFICE_31,
    *,
    classes: Sequence[str] | None = None,
    counts: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Path:
    """Images whose colour tells their class.

    Args:
        root: where to write.
        office: which dataset.
        classes: which of its classes; the first three where None.
        counts: images of each class by domain; five in the first and ten in each other where None.
        seed: of the noise.
    """
    chance = np.random.default_rng(seed)
    for folder in office.folders:
        domain = plain(folder)
        count = counts[domain] if counts else 5 if domain == office.domains[0] else 10
        for name in office.classes[:3] if classes is None else classes:
            channel = office.classes.index(name) % 3
            for number in range(count):
                pixels = chance.integers(0, 60, (SIDE, SIDE, 3), np.uint8)
                pixels[..., channel] += 150
                path = class_path(root, office, folder, name) / f"frame_{number + 1:04d}.jpg"
                write_picture(path, pixels)
    return root
