"""Functions of yeast genes: fourteen yes-or-no questions about each."""

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from mtlbench.data.packaged import packaged_file
from mtlbench.data.splits import Data, Split
from mtlbench.data.variants import CLEAN
from mtlbench.errors import UserError
from mtlbench.models.tables import SharedBottom
from mtlbench.randomness import derive_seed
from mtlbench.suites.base import Suite, register_suite
from mtlbench.tasks.metrics import auroc, average_precision
from mtlbench.tasks.task import Task, binary_cross_entropy

FEATURES, CLASSES = 103, 14

SIZES = {"train": 1500, "validation": 417, "test": 500}
"""Genes of each split; the published one has 1500 for training and 917 for the test."""


@register_suite("yeast", label="Yeast")
@dataclass(frozen=True, kw_only=True)
class Yeast(Suite):
    """The classic small multi-label set: 2,417 genes, each with some of 14 functions.

    Elisseeff, Weston: A Kernel Method for Multi-Labelled Classification, NeurIPS 2001. Inputs are
    103 numbers a gene, of its expression in micro-arrays and its phylogenetic profile, standardised
    by the training genes. The file is that of the package river (`pip install 'mtlbench[yeast]'`).
    Its order is not that of the published split, so 1,500 genes for training, 417 for validation
    and 500 for the test are drawn once.

    Tasks: `class1` to `class14`, each whether a gene has that function; 1.4 % (class 14) to 75 %
    (class 12) do. Metrics are areas under the ROC curve and average precision: with functions as
    rare as these, F1 at a threshold of 0.5 is 0 for some of them whatever the network has learnt.

    Attributes:
        dropout: share of the hidden units left out in training.
    """

    graphed: ClassVar[bool] = True
    gpu_share: ClassVar[float] = 1 / 8

    epochs: int = 30
    batch_size: int = 50
    lr: float = 1e-3
    weight_decay: float = 0.1
    dropout: float = 0.3

    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "class2@0.4")
    searchable: ClassVar[tuple[str, ...]] = (*Suite.searchable, "dropout")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, but is {self.dropout}")

    def tasks(self) -> tuple[Task, ...]:
        return tuple(
            Task(
                f"class{number}",
                "classification",
                loss=binary_cross_entropy(),
                metrics=(auroc(), average_precision()),
                corruptions=("other-class", "shuffle"),
                classes=("no", "yes"),
                binary=True,
            )
            for number in range(1, CLASSES + 1)
        )

    def check(self) -> None:
        _file()

    def data(self) -> Data:
        rows = _rows(_file())
        order = np.random.default_rng(derive_seed("yeast", "split")).permutation(len(rows))
        train, validation, test = np.split(rows[order], np.cumsum(list(SIZES.values()))[:2])
        mean, std = train[:, :FEATURES].mean(0), train[:, :FEATURES].std(0)

        def split(part: np.ndarray) -> Split:
            numbers = (part[:, :FEATURES] - mean) / std
            labels = torch.from_numpy(part[:, FEATURES:].astype(np.int64))
            targets = {f"class{k + 1}": labels[:, k].contiguous() for k in range(CLASSES)}
            return Split(torch.from_numpy(numbers.astype(np.float32)), targets)

        return Data(split(train), split(validation), split(test))

    def model(self) -> nn.Module:
        outputs = {task.name: 1 for task in self.tasks()}
        return SharedBottom(outputs, numbers=FEATURES, hidden=(128, 64), dropout=self.dropout)


def _file() -> Path:
    return packaged_file(
        "river", "datasets", "yeast.csv.gz", suite="yeast", install="'mtlbench[yeast]'"
    )


def _rows(file: Path) -> np.ndarray:
    """Features and labels of all genes, float64 [2417, 117].

    Raises:
        UserError: the file is another one.
    """
    try:
        with gzip.open(file, "rt", newline="") as text:
            lines: Iterator[list[str]] = csv.reader(text)
            head = next(lines)
            rows = np.array([[float(value) for value in line] for line in lines])
        whole = rows.shape == (sum(SIZES.values()), FEATURES + CLASSES)
        known = [*islice(head, FEATURES, None)] == [f"Class{k + 1}" for k in range(CLASSES)]
        if not (whole and known and np.isin(rows[:, FEATURES:], (0, 1)).all()):
            raise ValueError
    except (OSError, EOFError, ValueError, StopIteration) as error:
        raise UserError(f"{str(file)!r} is not the yeast data that is known") from error
    return rows
