"""CelebA, the aligned and cropped faces, as its authors publish them.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015.

    image       uint8 [3, 64, 64], RGB
    attributes  uint8 [40], 1 where the face has it; the order is that of `ATTRIBUTES`

A whole image of 178 × 218 is scaled to 64 × 64, without a crop and so a little flattened, by
Pillow's bilinear filter, whose support grows with the scale. That is what `torchvision`'s `Resize`
does in the code of FAMO and FairGrad. Rows are in the order of the images' numbers.
"""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mtlbench.data.celeba import ATTRIBUTES, SIZE
from mtlbench.data.prepare.images import open_image, scaled
from mtlbench.data.prepare.reader import ProblemError, Reader
from mtlbench.data.shards import ArraySpec, Part, Problem
from mtlbench.errors import UserError, describe

RAW_HEIGHT, RAW_WIDTH = 218, 178
SPLITS = {"0": "train", "1": "val", "2": "test"}
NAME = re.compile(r"[0-9]{6}\.jpg")
LABELS = {"1": "1", "-1": "0"}

FILES = {
    "Img": "img_align_celeba",
    "Anno": "list_attr_celeba.txt",
    "Eval": "list_eval_partition.txt",
}
"""What is read, by the directory in which the authors keep it."""


@dataclass(frozen=True)
class Faces(Reader):
    """Images by the lists of their attributes and of their splits.

    An item is the name of an image and its 40 labels as digits, so that whoever reads it needs no
    list; or, of what cannot be used, the kind of problem and the name.

    Attributes:
        images: the directory of the images.
        attributes, partition: the lists.
    """

    images: Path
    attributes: Path
    partition: Path

    dataset: ClassVar[str] = "celeba"
    splits: ClassVar[tuple[str, ...]] = tuple(SPLITS.values())
    unit: ClassVar[str] = "images"
    items_per_shard: ClassVar[int] = 2048

    @property
    def settings(self) -> dict[str, Any]:
        return {"size": SIZE}

    @property
    def specs(self) -> dict[str, ArraySpec]:
        return {
            "image": ArraySpec("uint8", (3, SIZE, SIZE)),
            "attributes": ArraySpec("uint8", (len(ATTRIBUTES),)),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.images, self.attributes, self.partition)  # without what was found

    def items(self, split: str) -> dict[str, int]:
        return self._found[split]

    @cached_property
    def _found(self) -> dict[str, dict[str, int]]:
        """The items of each split; those in no split stand at the end of the first."""
        labels, parts = read_attributes(self.attributes), read_partition(self.partition)
        try:
            entries = [entry for entry in os.scandir(self.images) if entry.is_file()]
            sizes = {entry.name: entry.stat().st_size for entry in entries}
        except OSError as error:
            raise UserError(f"{str(self.images)!r} cannot be read: {describe(error)}") from error
        found: dict[str, dict[str, int]] = {split: {} for split in self.splits}
        for name in sorted(labels.keys() & parts.keys()):
            found[parts[name]][f"{name} {labels[name]}"] = sizes.get(name, 0)
        for kind, names in (
            ("image without a split", labels.keys() - parts.keys()),
            ("image without attributes", parts.keys() - labels.keys()),
            ("file in no list", sizes.keys() - labels.keys() - parts.keys()),
        ):
            for name in sorted(names):
                found[self.splits[0]][f"{kind}: {ascii(name)[1:-1]}"] = sizes.get(name, 0)
        return found

    def read(self, split: str, item: str) -> Part:
        kind, of, name = item.partition(": ")
        if of:
            return Part(problems=[Problem(name, kind)])
        name, _, digits = item.partition(" ")
        source = f"{split}/{name}"
        try:
            image = small_image(self.images / name)
        except ProblemError as problem:
            return Part(problems=[Problem(source, *problem.args)])
        attributes = np.array([[int(digit) for digit in digits]], np.uint8)
        return Part({"image": image.transpose(2, 0, 1)[None], "attributes": attributes}, [source])


def small_image(path: Path) -> npt.NDArray[np.uint8]:
    """An image [64, 64, 3].

    Raises:
        ProblemError: it is missing, broken, or not of CelebA's size and kind.
    """
    with open_image(path, "JPEG") as image:
        # Before a pixel is decoded: an image may claim to be of any size.
        if image.size != (RAW_WIDTH, RAW_HEIGHT):
            raise ProblemError(
                "image of another size", f"{path.name} is {image.width} × {image.height}"
            )
        if image.mode not in ("RGB", "L"):
            raise ProblemError("image of another kind", f"{path.name} is {image.mode}, not RGB")
        return scaled(image, SIZE)


def detect(root: Path) -> Faces:
    """The reader for a directory.

    Raises:
        UserError: it does not hold CelebA.
    """
    places = []
    for directory, name in FILES.items():
        there = [path for path in (root / name, root / directory / name) if path.exists()]
        if not there:
            raise UserError(
                f"no CelebA in {str(root)!r}: no {name} in it, nor in {directory}; expected are "
                f"{', '.join(FILES.values())}"
            )
        places.append(there[0])
    images, attributes, partition = places
    if not images.is_dir():
        raise UserError(f"{str(images)!r} is a file, not the directory of the images")
    return Faces(images, attributes, partition)


# --- lists --------------------------------------------------------------------------------------


def read_attributes(path: Path) -> dict[str, str]:
    """Name of each image to its labels as digits, 1 where it has the attribute.

    Raises:
        UserError: the list is not of the published form.
    """
    lines = _lines(path)
    count, names = [*lines, ""][:2]
    if names.split() != list(ATTRIBUTES):
        raise _malformed(path, 2, "expected the names of CelebA's 40 attributes in their order")
    labels: dict[str, str] = {}
    for number, row in enumerate(lines[2:], 3):
        name, *values = row.split() or [""]
        _check_name(path, number, name, labels)
        labels[name] = "".join(LABELS.get(value, "?") for value in values)
        if len(values) != len(ATTRIBUTES) or "?" in labels[name]:
            raise _malformed(path, number, f"expected {len(ATTRIBUTES)} times 1 or -1")
    if count.strip() != str(len(labels)):
        told = f"expected the number of images, {len(labels)}, but found {ascii(count)[1:41]}"
        raise _malformed(path, 1, told)
    return labels


def read_partition(path: Path) -> dict[str, str]:
    """Name of each image to its split.

    Raises:
        UserError: the list is not of the published form.
    """
    parts: dict[str, str] = {}
    for number, row in enumerate(_lines(path), 1):
        name, *values = row.split() or [""]
        _check_name(path, number, name, parts)
        if len(values) != 1 or values[0] not in SPLITS:
            raise _malformed(path, number, "expected 0, 1 or 2 after the name")
        parts[name] = SPLITS[values[0]]
    return parts


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} cannot be read: {describe(error)}") from error


def _check_name(path: Path, number: int, name: str, known: dict[str, str]) -> None:
    """Refuses a name that is none, such as one that leads out of the directory, or comes again."""
    if not NAME.fullmatch(name):
        told = f"{ascii(name)[:40]} is no name of an image such as 000001.jpg"
        raise _malformed(path, number, told)
    if name in known:
        raise _malformed(path, number, f"{name} stands there twice")


def _malformed(path: Path, number: int, what: str) -> UserError:
    return UserError(f"{str(path)!r}, line {number}: {what}")
