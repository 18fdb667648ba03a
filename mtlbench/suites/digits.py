"""Two overlapping handwritten digits in one image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from mtlbench.data.packaged import packaged_file
from mtlbench.data.splits import Data, Split
from mtlbench.data.variants import CLEAN
from mtlbench.models.small import SmallConvNet
from mtlbench.randomness import derive_seed
from mtlbench.suites.base import Suite, register_suite
from mtlbench.tasks.metrics import absolute_error, accuracy
from mtlbench.tasks.task import Task, cross_entropy, squared_l2

SIDE = 12
"""Height and width of an image (px); a digit has 8."""

HANDWRITING = {"train": (0, 1000), "validation": (1000, 1300), "test": (1300, 1797)}
"""Range of the shuffled 1,797 digits that each split is composed of: no handwriting is in two."""


@register_suite("digits", label="Digits")
@dataclass(frozen=True, kw_only=True)
class Digits(Suite):
    """Real handwriting: which digit is left, which is right, and how much lower is the right one.

    Two of scikit-learn's 8×8 digits (UCI Optical Recognition of Handwritten Digits) in a 12×12
    image: the left one at the left edge, the right one at the right edge, so that they share four
    columns, each at a random height; where they overlap the brighter pixel counts. The 1,797
    digits are split before composing.

    Tasks: `left` and `right` (class 0–9), `offset` (rows that the right digit lies lower, −4 to 4
    px).

    Attributes:
        train_size, validation_size, test_size: images to compose for each split.
    """

    graphed: ClassVar[bool] = True
    gpu_share: ClassVar[float] = 1 / 8

    epochs: int = 20
    batch_size: int = 128
    lr: float = 4e-3
    train_size: int = 6000
    validation_size: int = 1000
    test_size: int = 2000

    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "left@0.4")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("train_size", "validation_size", "test_size")

    def tasks(self) -> tuple[Task, ...]:
        classes = tuple(str(digit) for digit in range(10))
        which = [
            Task(
                name,
                "classification",
                loss=cross_entropy(),
                metrics=(accuracy(10),),
                corruptions=("other-class", "next-class", "shuffle"),
                classes=classes,
            )
            for name in ("left", "right")
        ]
        offset = Task(
            "offset",
            "regression",
            loss=squared_l2(),
            metrics=(absolute_error("px"),),
            corruptions=("uniform", "shuffle"),
            unit="px",
        )
        return (*which, offset)

    def data(self) -> Data:
        images, labels = handwriting()
        images = images * (255 / 16)

        def split(name: str, size: int) -> Split:
            first, last = HANDWRITING[name]
            chance = np.random.default_rng(derive_seed("digits", name))
            return _compose(images[first:last], labels[first:last], size, chance)

        return Data(
            split("train", self.train_size),
            split("validation", self.validation_size),
            split("test", self.test_size),
        )

    def model(self) -> nn.Module:
        return SmallConvNet({"left": 10, "right": 10, "offset": 1}, side=SIDE)


def handwriting() -> tuple[np.ndarray, np.ndarray]:
    """The digits [1797, 8, 8], of 0 to 16, and which they are [1797], in the order in which
    `HANDWRITING` divides them, from scikit-learn's files.

    The package itself is not imported: that takes a second in every worker, the file 10 ms.
    """
    file = packaged_file(
        "sklearn", "datasets", "data", "digits.csv.gz", suite="digits", install="scikit-learn"
    )
    rows = np.loadtxt(file, delimiter=",")
    rows = rows[np.random.default_rng(derive_seed("digits", "split")).permutation(len(rows))]
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)


def _compose(
    images: np.ndarray, labels: np.ndarray, count: int, chance: np.random.Generator
) -> Split:
    """Pairs digits [n, 8, 8] into `count` images, uint8 [count, 1, 12, 12]."""
    pairs = chance.integers(len(images), size=(count, 2))
    rows = chance.integers(SIDE - 8 + 1, size=(count, 2))
    canvas = np.zeros((count, 2, SIDE, SIDE))
    for side, column in ((0, 0), (1, SIDE - 8)):
        for row in range(SIDE - 8 + 1):
            here = rows[:, side] == row
            canvas[here, side, row : row + 8, column : column + 8] = images[pairs[here, side]]
    return Split(
        torch.from_numpy(canvas.max(1, keepdims=True).round().astype(np.uint8)),
        {
            "left": torch.from_numpy(labels[pairs[:, 0]]),
            "right": torch.from_numpy(labels[pairs[:, 1]]),
            "offset": torch.from_numpy((rows[:, 1] - rows[:, 0]).astype(np.float32)),
        },
    )
