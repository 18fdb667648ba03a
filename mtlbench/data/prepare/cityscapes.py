"""CityScapes, as its authors or as the authors of MTAN publish it.

Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016.
Liu, Johns, Davison: End-to-End Multi-Task Learning with Attention, CVPR 2019 (MTAN).

Both layouts give the same arrays:

    image          uint8 [3, H, W], RGB
    segmentation   int8 [H, W], one of the 7 CATEGORIES, or −1 where none is to be learned
    inverse_depth  float32 [H, W], 0 where it was not measured

Inverse depth is in the unit of MTAN's arrays, so that errors compare with published ones: the value
p of the 16-bit disparity image as a share of the largest there can be, p / 65535. (The largest in
the disparity images is 32257, and in those arrays 0.4922: github.com/lorenmt/mtan/issues/25.) With
the disparity (p − 1) / 256 px, a focal length of 2262.52 px and a baseline of 0.209313 m, a value d
is (65535 d − 1) / 256 / (2262.52 · 0.209313), that is about 0.54 d, in 1/m.

Raw images are made smaller by a whole factor. Colours are means over blocks of pixels. Category and
disparity are those of the pixel at the centre of the block, the same for both: a mean would give
edges a depth where nothing is, and mix measured values with the zeros of those that are not.
"""

import functools
from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtlbench.data.prepare.arrays import load_array
from mtlbench.data.prepare.reader import ProblemError, Reader
from mtlbench.data.shards import Arrays, ArraySpec, Part
from mtlbench.errors import UserError, describe

CATEGORIES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
FIRST_IDS = (7, 11, 17, 21, 23, 24, 26, 34)
"""The first label id of each category, and the one after the last; the others are void."""

IGNORED = -1
HEIGHT, WIDTH = 128, 256
RAW_HEIGHT, RAW_WIDTH = 1024, 2048
LARGEST_DISPARITY = 65535

CATEGORY_OF_ID = np.full(256, IGNORED, np.int8)
for _category, (_first, _end) in enumerate(pairwise(FIRST_IDS)):
    CATEGORY_OF_ID[_first:_end] = _category


@dataclass(frozen=True)
class _CityScapes(Reader):
    """Base of both layouts.

    Attributes:
        root: the raw directory.
        height, width: of the images to write (px).
    """

    root: Path
    height: int
    width: int

    dataset: ClassVar[str] = "cityscapes"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")  # the labels of test are not public
    unit: ClassVar[str] = "images"
    items_per_shard: ClassVar[int] = 64
    layout: ClassVar[str]

    @property
    def settings(self) -> dict[str, Any]:
        return {"layout": self.layout, "height": self.height, "width": self.width}

    @property
    def specs(self) -> dict[str, ArraySpec]:
        size = (self.height, self.width)
        return {
            "image": ArraySpec("uint8", (3, *size)),
            "segmentation": ArraySpec("int8", size),
            "inverse_depth": ArraySpec("float32", size),
        }

    def read(self, split: str, item: str) -> Part:
        image, segmentation, inverse_depth = self._read(split, item)
        arrays: Arrays = {
            "image": image.transpose(2, 0, 1)[None],
            "segmentation": segmentation[None],
            "inverse_depth": inverse_depth[None],
        }
        return Part(arrays, [f"{split}/{item}"])

    @abstractmethod
    def _read(
        self, split: str, item: str
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """Image [H, W, 3], segmentation [H, W] and inverse depth [H, W]."""


class Published(_CityScapes):
    """PNG images of 2048 × 1024: `leftImg8bit`, `gtFine` and `disparity`."""

    layout: ClassVar[str] = "published"

    def items(self, split: str) -> dict[str, int]:
        end = "_leftImg8bit.png"
        files = sorted((self.root / "leftImg8bit" / split).glob(f"*/*{end}"))
        return {
            f"{file.parent.name}/{file.name.removesuffix(end)}": file.stat().st_size
            for file in files
        }

    def _read(
        self, split: str, item: str
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        image = self._open("leftImg8bit", split, f"{item}_leftImg8bit.png", "RGB")
        ids = self._open("gtFine", split, f"{item}_gtFine_labelIds.png", "L")
        # I is what releases of Pillow before 11 made of 16 bits.
        disparity = self._open("disparity", split, f"{item}_disparity.png", "I;16", "I")
        down, across = RAW_HEIGHT // self.height, RAW_WIDTH // self.width
        centres = np.s_[down // 2 :: down, across // 2 :: across]
        return (
            np.asarray(image.reduce((across, down))),
            CATEGORY_OF_ID[np.asarray(ids)[centres]],
            np.asarray(disparity)[centres] / np.float32(LARGEST_DISPARITY),
        )

    def _open(self, kind: str, split: str, name: str, *modes: str) -> Image.Image:
        """A decoded image of one of these modes."""
        path = self.root / kind / split / name
        try:
            with Image.open(path, formats=["PNG"]) as image:
                if image.size != (RAW_WIDTH, RAW_HEIGHT):
                    raise ProblemError(
                        "image of another size", f"{path.name} is {image.width} × {image.height}"
                    )
                if image.mode not in modes:
                    raise ProblemError(
                        "image of another kind", f"{path.name} is {image.mode}, not {modes[0]}"
                    )
                image.load()
                return image
        except FileNotFoundError:
            raise ProblemError("missing file", f"{kind}/{split}/{name}") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ProblemError("broken file", f"{path.name}: {describe(error)}") from error


class Preprocessed(_CityScapes):
    """The `.npy` arrays of the MTAN authors, 128 × 256."""

    layout: ClassVar[str] = "mtan"

    def items(self, split: str) -> dict[str, int]:
        files = [f for f in (self.root / split / "image").glob("*.npy") if f.stem.isdecimal()]
        return {file.stem: file.stat().st_size for file in sorted(files, key=lambda f: int(f.stem))}

    def _read(
        self, split: str, item: str
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        size = (self.height, self.width)
        # Resizing may have left values that are a little beyond.
        read = functools.partial(load_array, self.root)
        image = read(f"{split}/image/{item}.npy", (*size, 3), -0.01, 1.01).clip(0, 1)
        label = read(f"{split}/label/{item}.npy", size, IGNORED, len(CATEGORIES) - 1)
        depth = read(f"{split}/depth/{item}.npy", (*size, 1), 0, 1)
        category = label.astype(np.int8)
        if (category != label).any():
            raise ProblemError("labels out of range", f"label/{item}.npy has fractions")
        return (
            np.round(image * 255).astype(np.uint8),
            category,
            depth[..., 0].astype(np.float32),
        )


def detect(root: Path, height: int, width: int) -> Published | Preprocessed:
    """The reader for the layout that a directory has.

    Raises:
        UserError: it has neither, not all of it, or not this size.
    """
    if (root / "leftImg8bit").is_dir():
        for name in ("gtFine", "disparity"):
            if not (root / name).is_dir():
                raise UserError(f"{str(root)!r} has leftImg8bit, but no {name}")
        if RAW_HEIGHT % height or RAW_WIDTH % width:
            raise UserError(
                f"height must divide {RAW_HEIGHT} and width {RAW_WIDTH}, but they are {height} and "
                f"{width}"
            )
        return Published(root, height, width)
    if any((root / split / "image").is_dir() for split in Preprocessed.splits):
        if (height, width) != (HEIGHT, WIDTH):
            raise UserError(
                f"the arrays in {str(root)!r} are {HEIGHT} × {WIDTH}; other sizes need CityScapes "
                "as its authors publish it"
            )
        return Preprocessed(root, height, width)
    raise UserError(
        f"no CityScapes in {str(root)!r}: expected leftImg8bit, gtFine and disparity, or "
        "train/image, train/label and train/depth as the authors of MTAN publish them"
    )
