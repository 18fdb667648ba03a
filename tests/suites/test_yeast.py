"""The suite of yeast genes: its file, its splits, its runs."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_mtlbench, trained
from packages import hide_package, write_package
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.study.plan import plan
from mtlbench.suites.yeast import Yeast

HEAD = [f"Att{i}" for i in range(1, 104)] + [f"Class{i}" for i in range(1, 15)]


def written(rows: np.ndarray, head: list[str] = HEAD) -> dict[str, bytes]:
    lines = [",".join(head), *(",".join(f"{value:g}" for value in row) for row in rows)]
    return {"datasets/yeast.csv.gz": gzip.compress("\n".join(lines).encode())}


def genes(count: int = 2417) -> np.ndarray:
    chance = np.random.default_rng(0)
    numbers = chance.normal(3, 2, (count, 103)).round(3)
    return np.hstack([numbers, chance.integers(0, 2, (count, 14))])


def test_genes_are_split_once_and_standardised_by_those_for_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = genes()
    write_package(monkeypatch, tmp_path, "river", written(rows))
    data = Yeast().data()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [1500, 417, 500]
    inputs = data.train.inputs
    assert isinstance(inputs, Tensor)
    assert inputs.mean(0).abs().max() < 1e-5
    assert (inputs.std(0) - 1).abs().max() < 1e-2
    again = Yeast().data().train
    assert torch.equal(inputs, again.inputs[torch.arange(1500)])  # type: ignore[index]
    # Every gene is in one split: the labels of all together are those of the file.
    counts = sum(
        int(part.targets[f"class{k}"][torch.arange(len(part))].sum())
        for part in (data.train, data.validation, data.test)
        for k in range(1, 15)
    )
    assert counts == rows[:, 103:].sum()


@pytest.mark.parametrize("fault", ["rows", "head", "labels", "text", "truncated"])
def test_another_file_is_refused_in_one_line(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, head = genes(2416 if fault == "rows" else 2417), list(HEAD)
    if fault == "labels":
        rows[5, 110] = 2
    if fault == "head":
        head[110] = "Class99"
    files = written(rows, head)
    name, content = next(iter(files.items()))
    if fault == "text":
        files[name] = gzip.compress(gzip.decompress(content).replace(b",1,", b",one,", 1))
    if fault == "truncated":
        files[name] = content[:-2000]
    write_package(monkeypatch, tmp_path, "river", files)
    with pytest.raises(UserError, match="is not the yeast data that is known"):
        Yeast().data()


def test_a_package_that_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide_package(monkeypatch, "river")
    with pytest.raises(UserError, match=r"needs 'river': pip install 'mtlbench\[yeast\]'"):
        plan("yeast")


def test_without_the_package_the_command_ends_with_one_line(tmp_path: Path) -> None:
    if find_spec("river") is not None:
        pytest.skip("river is installed")
    ended = run_mtlbench(["run", "yeast"], cwd=tmp_path)
    assert (ended.status, ended.out) == (2, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(find_spec("river") is None, reason="river is not installed")
def test_fourteen_tasks_learn_something() -> None:
    (spec,) = plan("yeast", strategies=["equal"], variants=["clean"], seeds=1)
    record = trained(spec)
    areas = [m["value"] for m in record.info["metrics"] if m["metric"] == "auroc"]
    assert len(areas) == 14
    assert np.mean(areas) > 65
