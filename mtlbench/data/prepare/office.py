"""Office-31 and Office-Home, as their authors publish them: a folder of images for each class, in
one for each domain.

Saenko, Kulis, Fritz, Darrell: Adapting Visual Category Models to New Domains, ECCV 2010.
Venkateswara, Eusebio, Chakraborty, Panchanathan: Deep Hashing Network for Unsupervised Domain
Adaptation, CVPR 2017.

    amazon/images/<class>/<file>.jpg       and the same below dslr and webcam
    Art/<class>/<file>.jpg                 and the same below Clipart, Product and Real World

give

    image    uint8 [3, S, S], RGB
    domain   uint8 [], in the order above
    class    uint8 [], in the order of `mtlbench.data.office`

A whole image is scaled to S × S, without a crop and so out of shape where it is not square. Rows
are in the order of domains, classes and file names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mtlbench.data.office import LARGEST_SIZE, LEAST_SIZE, OFFICES, Office, plain
from mtlbench.data.prepare.images import open_image, scaled
from mtlbench.data.prepare.reader import ProblemError, Reader
from mtlbench.data.shards import Arrays, ArraySpec, Part, Problem
from mtlbench.errors import UserError, describe

ENDINGS = (".jpg", ".jpeg", ".png")

EXPECTED = (
    "expected amazon/images/CLASS/*.jpg and the same below dslr and webcam, or Art/CLASS/*.jpg and "
    "the same below Clipart, Product and Real World"
)


@dataclass(frozen=True)
class Pictures(Reader):
    """Images by domain and class.

    An item is the path of an image below the raw directory; or, of what cannot be used, the kind of
    problem, a tab, which no such path has, and the path.

    Attributes:
        root: the raw directory.
        office: which dataset it is.
        size: height and width of the images to write (px).
    """

    root: Path
    office: Office
    size: int

    dataset: ClassVar[str] = "office"
    splits: ClassVar[tuple[str, ...]] = ("images",)
    """One for all: which images are for what, the suite draws."""
    unit: ClassVar[str] = "images"
    items_per_shard: ClassVar[int] = 256

    @property
    def settings(self) -> dict[str, Any]:
        return {"dataset": self.office.name, "size": self.size}

    @property
    def specs(self) -> dict[str, ArraySpec]:
        return {
            "image": ArraySpec("uint8", (3, self.size, self.size)),
            "domain": ArraySpec("uint8", ()),
            "class": ArraySpec("uint8", ()),
        }

    def items(self, split: str) -> dict[str, int]:
        try:
            found = list(self._found())
        except OSError as error:
            raise UserError(f"{str(self.root)!r} cannot be read: {describe(error)}") from error
        return dict(found)

    def _found(self) -> Iterator[tuple[str, int]]:
        """Items with the bytes of their files; those that are problems at the end of each domain.

        Raises:
            OSError: a folder cannot be read.
        """
        known = [plain(name) for name in self.office.classes]
        for domain in domain_folders(self.root, self.office).values():
            problems: list[tuple[str, Path]] = []
            folders: dict[str, list[Path]] = {name: [] for name in known}
            for path in sorted(class_folder(domain).iterdir()):
                if plain(path.name) in folders and path.is_dir():
                    folders[plain(path.name)].append(path)
                else:
                    problems.append(("not a folder of a class", path))
            for name, paths in zip(self.office.classes, folders.values(), strict=True):
                files = [file for path in paths for file in sorted(path.iterdir())]
                if not files:
                    problems.append(("class without images", class_folder(domain) / name))
                for file in files:
                    if not file.name.isprintable():
                        problems.append(("name that cannot be shown", file))
                    elif not file.name.lower().endswith(ENDINGS):
                        problems.append(("not an image by its name", file))
                    else:
                        yield self._path(file), file.stat().st_size if file.is_file() else 0
            for kind, path in problems:
                yield f"{kind}\t{ascii(self._path(path))[1:-1]}", 0

    def _path(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()

    def read(self, split: str, item: str) -> Part:
        kind, of, name = item.partition("\t")
        if of:
            return Part(problems=[Problem(name, kind)])
        domain, *_, label, _ = item.split("/")
        try:
            with open_image(self.root / item, "JPEG", "PNG") as image:
                pixels = scaled(image, self.size)
        except ProblemError as problem:
            return Part(problems=[Problem(item, *problem.args)])
        classes = [plain(name) for name in self.office.classes]
        arrays: Arrays = {
            "image": pixels.transpose(2, 0, 1)[None],
            "domain": np.array([self.office.domains.index(plain(domain))], np.uint8),
            "class": np.array([classes.index(plain(label))], np.uint8),
        }
        return Part(arrays, [item])


def detect(root: Path, size: int) -> Pictures:
    """The reader for a directory.

    Raises:
        UserError: it does not hold one of the two datasets, or the size is out of range.
    """
    if not LEAST_SIZE <= size <= LARGEST_SIZE:
        raise UserError(f"size must be from {LEAST_SIZE} to {LARGEST_SIZE}, but is {size}")
    try:
        return Pictures(root, _recognise(root), size)
    except OSError as error:
        raise UserError(f"{str(root)!r} cannot be read: {describe(error)}") from error


def _recognise(root: Path) -> Office:
    """Which dataset a directory holds, by the folders of its domains and classes."""
    there = {office: domain_folders(root, office) for office in OFFICES}
    whole = [office for office in OFFICES if len(there[office]) == len(office.folders)]
    if len(whole) > 1:
        both = " and ".join(office.title for office in whole)
        raise UserError(f"{str(root)!r} holds {both}: give a directory of one of them")
    if not whole:
        office = max(OFFICES, key=lambda office: len(there[office]))
        found = " and ".join(path.name for path in there[office].values())
        missing = " and no ".join(f for f in office.folders if plain(f) not in there[office])
        what = f"only {found}, no {missing}" if found else "no Office-31 or Office-Home"
        raise UserError(f"{what} in {str(root)!r}; {EXPECTED}")
    (office,) = whole
    known = {plain(name) for name in office.classes}
    for domain in there[office].values():
        inside = class_folder(domain)
        if not any(plain(path.name) in known and path.is_dir() for path in inside.iterdir()):
            raise UserError(
                f"no folder of a class of {office.title}, such as {office.classes[0]}, in "
                f"{str(inside)!r}; {EXPECTED}"
            )
    return office


def domain_folders(root: Path, office: Office) -> dict[str, Path]:
    """The folders of the domains that are there, by the names of these, in their order.

    Raises:
        UserError: there are two of one.
        OSError: the directory cannot be read.
    """
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        domain = plain(path.name)
        if domain not in office.domains or not path.is_dir():
            continue
        if domain in found:
            raise UserError(f"{str(root)!r} has {found[domain].name!r} and {path.name!r}: which?")
        found[domain] = path
    return {domain: found[domain] for domain in office.domains if domain in found}


def class_folder(domain: Path) -> Path:
    """Where the folders of the classes are: in `images`, or in the domain itself."""
    inside = domain / "images"
    return inside if inside.is_dir() else domain
