"""Two overlapping pictures in one: MultiMNIST and its kind."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from mtlbench.data.idx import idx_file, read_idx
from mtlbench.data.splits import Data, Split
from mtlbench.data.variants import CLEAN
from mtlbench.errors import UserError
from mtlbench.models.small import SmallConvNet
from mtlbench.randomness import derive_seed
from mtlbench.suites.base import LOCATION, Suite, register_suite
from mtlbench.suites.digits import HANDWRITING, handwriting
from mtlbench.tasks.metrics import accuracy
from mtlbench.tasks.task import Task, cross_entropy

SIDE, PICTURE = 36, 28
"""Height and width of an input, and of each of the two pictures in it (px)."""

HELD_OUT = 10_000
"""Of the published 60,000 pictures for training, for validation."""

CLOTHES = (
    "T-shirt", "trousers", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip

Source = Literal["small", "mnist", "fashion", "mnist+fashion"]
Pictures = dict[str, tuple[np.ndarray, np.ndarray]]
"""Of each split: uint8 [n, 28, 28], and their classes [n]."""


@register_suite("multimnist", label="MultiMNIST")
@dataclass(frozen=True, kw_only=True)
class MultiMnist(Suite):
    """Two pictures in one input: what stands at the upper left, and what at the lower right.

    Sabour, Frosst, Hinton: Dynamic Routing Between Capsules, NeurIPS 2017; as two tasks by Sener,
    Koltun: Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018, and with clothes by
    Lin et al.: Pareto Multi-Task Learning, NeurIPS 2019. A picture of 28×28 at the upper left of
    36×36, another at the lower right; where they overlap the brighter pixel counts.

    `source` says what is seen: `mnist` and `fashion` are MNIST and Fashion-MNIST in their published
    IDX files, `mnist+fashion` a digit at the left and clothes at the right. The files are in `data`
    or in its folders `mnist` and `fashion`, compressed or not. The default, `small`, needs no
    files: scikit-learn's handwritten digits of 8×8, enlarged. Pictures are split before they are
    paired: the published test pictures for the test, and of those for training 10,000 for
    validation.

    Tasks: `left` and `right` (10 classes each).

    Attributes:
        source: which pictures.
        data_dir: where their files are.
        train_size, validation_size, test_size: inputs to compose for each split.
    """

    graphed: ClassVar[bool] = True
    gpu_share: ClassVar[float] = 1 / 8

    epochs: int = 10
    batch_size: int = 128
    lr: float = 2e-3
    source: Source = "small"
    data_dir: str = field(default="mnist", metadata=LOCATION)
    train_size: int = 6000
    validation_size: int = 1000
    test_size: int = 2000

    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "left@0.4")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("train_size", "validation_size", "test_size")

    def tasks(self) -> tuple[Task, ...]:
        digits = tuple(map(str, range(10)))
        classes = {
            "left": CLOTHES if self.source == "fashion" else digits,
            "right": digits if self.source in ("small", "mnist") else CLOTHES,
        }
        return tuple(
            Task(
                name,
                "classification",
                loss=cross_entropy(),
                metrics=(accuracy(10),),
                corruptions=("other-class", "next-class", "shuffle"),
                classes=named,
            )
            for name, named in classes.items()
        )

    def check(self) -> None:
        for name in self._kinds():
            if name != "small":
                _files(Path(self.data_dir), name)

    def data(self) -> Data:
        left, right = (_pictures(name, self.data_dir) for name in self._kinds())
        sizes = {
            "train": self.train_size,
            "validation": self.validation_size,
            "test": self.test_size,
        }
        return Data(*(_compose(left[n], right[n], n, size) for n, size in sizes.items()))

    def model(self) -> nn.Module:
        return SmallConvNet({"left": 10, "right": 10}, side=SIDE)

    def _kinds(self) -> tuple[str, str]:
        """What stands at the left, and at the right."""
        first, _, second = self.source.partition("+")
        return first, second or first


def _files(folder: Path, name: str) -> dict[str, tuple[Path, Path]]:
    """Pictures and classes of the published parts, in the folder or one of this name in it.

    Raises:
        UserError: one is missing.
    """
    inside = folder / name
    folder = inside if inside.is_dir() else folder
    if not folder.is_dir():
        raise UserError(
            f"suite 'multimnist': there is no directory {str(folder)!r} with the files of "
            f"{name!r}; --set data_dir=DIR says where it is"
        )
    return {
        part: (
            idx_file(folder, f"{prefix}-images-idx3-ubyte"),
            idx_file(folder, f"{prefix}-labels-idx1-ubyte"),
        )
        for part, prefix in (("train", "train"), ("test", "t10k"))
    }


@functools.lru_cache(maxsize=2)
def _pictures(name: str, folder: str) -> Pictures:
    """Pictures by split, before they are paired."""
    if name == "small":
        return _small()
    parts = {}
    for part, (pictures, labels) in _files(Path(folder), name).items():
        images, classes = read_idx(pictures, 3), read_idx(labels, 1).astype(np.int64)
        if images.shape != (len(classes), PICTURE, PICTURE) or classes.max(initial=0) > 9:
            raise UserError(
                f"{str(pictures)!r} and {str(labels)!r} are not pictures of {PICTURE}×{PICTURE} "
                "and their classes from 0 to 9"
            )
        parts[part] = images, classes
    images, classes = parts["train"]
    held_out = min(HELD_OUT, len(classes) // 6)
    order = np.random.default_rng(derive_seed("multimnist", name)).permutation(len(classes))
    rows = {"validation": order[:held_out], "train": order[held_out:]}
    return {
        **{split: (images[some], classes[some]) for split, some in rows.items()},
        "test": parts["test"],
    }


def _small() -> Pictures:
    """The digits of `digits`, three times as large, in the same splits."""
    images, labels = handwriting()
    large = images.repeat(3, 1).repeat(3, 2) * (255 / 16)
    edge = (PICTURE - large.shape[1]) // 2
    large = np.pad(large, ((0, 0), (edge, edge), (edge, edge))).round().astype(np.uint8)
    return {
        name: (large[first:last], labels[first:last]) for name, (first, last) in HANDWRITING.items()
    }


def _compose(
    left: tuple[np.ndarray, np.ndarray],
    right: tuple[np.ndarray, np.ndarray],
    name: str,
    count: int,
) -> Split:
    """Pairs pictures into `count` inputs, uint8 [count, 1, 36, 36]."""
    chance = np.random.default_rng(derive_seed("multimnist", "pairs", name))
    first = chance.integers(len(left[1]), size=count)
    second = chance.integers(len(right[1]), size=count)
    inputs = np.zeros((count, 1, SIDE, SIDE), np.uint8)
    inputs[:, 0, :PICTURE, :PICTURE] = left[0][first]
    corner = inputs[:, 0, SIDE - PICTURE :, SIDE - PICTURE :]
    np.maximum(corner, right[0][second], out=corner)
    return Split(
        torch.from_numpy(inputs),
        {
            "left": torch.from_numpy(left[1][first]),
            "right": torch.from_numpy(right[1][second]),
        },
    )
