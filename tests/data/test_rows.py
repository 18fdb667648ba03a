"""Data that lies in files: the same batches, labels and results as in memory."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, tiny_spec, trained
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mtlbench
from mtlbench.data.corruption import corrupt, label_range
from mtlbench.data.rows import CHUNK, Overlay, to_device
from mtlbench.data.splits import Data, Split
from mtlbench.data.variants import Variant
from mtlbench.errors import UserError
from mtlbench.study.plan import plan
from mtlbench.suites.base import LOCATION, suites
from mtlbench.suites.digits import Digits
from mtlbench.suites.streets import Streets
from mtlbench.tasks.task import Task, squared_l2
from mtlbench.training.batches import Batches


class FileRows:
    """A tensor that cannot be had but by the row, as those in files."""

    def __init__(self, values: Tensor) -> None:
        self._values = values
        self.dtype, self.shape, self.nbytes = values.dtype, values.shape, values.nbytes

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        assert index.device.type == "cpu"
        return self._values[index].clone()


def in_files(split: Split) -> Split:
    targets = {name: FileRows(target) for name, target in split.targets.items()}
    return Split(FileRows(split.inputs), targets, split.present)


# --- rows of which some are replaced ------------------------------------------------------------


@given(
    count=st.integers(1, 40),
    replaced=st.sets(st.integers(0, 39)),
    asked=st.lists(st.integers(0, 39), max_size=60),
)
def test_replaced_rows_stand_in_the_place_of_the_others(
    count: int, replaced: set[int], asked: list[int]
) -> None:
    base = torch.arange(2 * count).view(count, 2)
    rows = torch.tensor(sorted(i for i in replaced if i < count), dtype=torch.long)
    expected = base.clone()
    expected[rows] = -base[rows] - 1
    values = Overlay(FileRows(base), rows, lambda some: -some - 1)
    index = torch.tensor([i for i in asked if i < count], dtype=torch.long)
    assert torch.equal(values[index], expected[index])
    assert torch.equal(to_device(values, torch.device("cpu")), expected)


def test_rows_are_replaced_in_chunks_none_of_which_has_a_single_row() -> None:
    chunks = []

    def note(some: Tensor) -> Tensor:
        chunks.append(len(some))
        return some

    count = CHUNK + 1
    Overlay(FileRows(torch.zeros(count, 1)), torch.arange(count), note)
    assert sum(chunks) == count
    assert max(chunks) <= CHUNK
    assert min(chunks) > 1


# --- corruption ---------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["segmentation@0.5", "depth@0.3", "segmentation@0.4:shuffle"])
def test_labels_in_files_are_corrupted_as_those_in_memory(variant: str) -> None:
    suite = Streets(train_size=20, validation_size=1, test_size=1)
    split, tasks = suite.data().train, suite.tasks()
    parsed = Variant.parse(variant, tasks)
    expected, mask = corrupt(parsed, tasks, split.targets, names=("streets", 0))
    given, same_mask = corrupt(parsed, tasks, in_files(split).targets, names=("streets", 0))
    assert torch.equal(mask, same_mask)
    for name, labels in expected.items():
        assert torch.equal(to_device(given[name], torch.device("cpu")), labels)


def test_the_label_range_leaves_out_what_is_not_labelled() -> None:
    task = Task("depth", "regression", squared_l2(0.0), (), ("uniform",), ignore=0.0)
    labels = torch.zeros(CHUNK + 5, 3)
    labels[2, 1], labels[CHUNK + 2, 0] = 0.25, 1.5
    assert label_range(FileRows(labels), task) == (0.25, 1.5)


# --- batches and runs ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_read_ahead_are_those_of_memory_in_the_same_order(size: int) -> None:
    split = Digits(**TINY).data().train
    present = torch.rand(len(split), 3, generator=torch.Generator().manual_seed(0)) < 0.8
    split = dataclasses.replace(split, present=present)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    cpu = torch.device("cpu")
    files, memory = Batches(in_files(split), order, size, cpu), Batches(split, order, size, cpu)
    assert len(files) == len(memory) == -(-100 // size)
    for one, other in zip(files, memory, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.present, other.present)
        for name, target in other.targets.items():
            assert torch.equal(one.targets[name], target)
    assert memory.waited == 0


def test_what_cannot_be_read_ends_the_epoch_with_its_error() -> None:
    class Broken(FileRows):
        def __getitem__(self, index: Tensor, /) -> Tensor:
            raise OSError("the disk is gone")

    split = Split(Broken(torch.zeros(4, 1)), {})
    with pytest.raises(OSError, match="the disk is gone"):
        list(Batches(split, torch.arange(4), 2, torch.device("cpu")))


@dataclass(frozen=True, kw_only=True)
class DigitsInFiles(Digits):
    place: str = dataclasses.field(default="digits", metadata=LOCATION)

    def data(self) -> Data:
        data = super().data()
        return Data(in_files(data.train), in_files(data.validation), in_files(data.test))

    def check(self) -> None:
        if "missing" in self.place:
            raise UserError(f"nothing at {self.place!r}")


def test_a_run_on_files_has_the_bits_of_a_run_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    mtlbench.register_suite("digits-in-files")(DigitsInFiles)
    spec = tiny_spec("ilt", "left@0.4")
    memory = trained(spec)
    # Under the same name, which decides what is drawn.
    entries = suites._entries
    monkeypatch.setitem(entries, "digits", entries["digits-in-files"])
    record = trained(spec)
    assert record.info["status"] == "done", record.info["error"]
    assert record.history == memory.history
    assert record.info["metrics"] == memory.info["metrics"]
    for name, array in memory.labels.items():
        np.testing.assert_array_equal(record.labels[name], array)
    assert record.info["timings"]["wait_seconds"] > 0
    assert memory.info["timings"]["wait_seconds"] == 0


def test_where_data_lies_is_made_absolute_and_does_not_change_what_a_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mtlbench.register_suite("digits-in-files")(DigitsInFiles)
    monkeypatch.chdir(tmp_path)
    (here,) = plan("digits-in-files", strategies=["equal"], variants=["clean"], seeds=1)
    overrides = {"place": "/elsewhere"}
    (there,) = plan(
        "digits-in-files", strategies=["equal"], variants=["clean"], seeds=1, overrides=overrides
    )
    assert here.locations == {"place": str(tmp_path / "digits")}
    assert there.locations == {"place": "/elsewhere"}
    assert here.hash == there.hash
    assert there.build_suite().place == "/elsewhere"


def test_a_suite_without_its_data_is_refused_before_anything_is_trained() -> None:
    mtlbench.register_suite("digits-in-files")(DigitsInFiles)
    with pytest.raises(UserError, match="nothing at '/missing'"):
        plan("digits-in-files", overrides={"place": "/missing"})
