"""Prepared datasets: rows are gathered from many files, and what is damaged is never read."""

import json
import os
import resource
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.data.prepared import ShardedRows, open_prepared
from mtlbench.data.shards import (
    INDEX_FILE,
    PLAN_FILE,
    SCHEMA_VERSION,
    ArraySpec,
    Part,
    Problem,
    read_shard,
    shard_directory,
    write_json,
    write_shard,
)
from mtlbench.errors import UserError

SPECS = {
    "image": ArraySpec("uint8", (3, 4, 5)),
    "category": ArraySpec("int8", (4, 5)),
    "depth": ArraySpec("float32", (7,)),
    "gender": ArraySpec("uint8", ()),
}


def arrays(rows: int, seed: int = 0) -> dict[str, npt.NDArray]:
    generator = np.random.default_rng(seed)
    return {
        name: generator.integers(-100, 100, (rows, *spec.shape)).astype(spec.dtype)
        for name, spec in SPECS.items()
    }


def write_prepared(root: Path, sizes: list[int], split: str = "train") -> dict[str, npt.NDArray]:
    """A prepared dataset `toy` with shards of these sizes, and all its rows."""
    whole = arrays(sum(sizes))
    entries, first = [], 0
    for number, size in enumerate(sizes):
        with write_shard(root, split, number, SPECS) as writer:
            for row in range(first, first + size):  # one part each, to see that they are joined
                part = {name: values[row : row + 1] for name, values in whole.items()}
                writer.append(Part(part, [f"clip:{row}"]))
        entries.append({"name": f"shard-{number:05d}", "rows": size})
        first += size
    plan = {"schema_version": SCHEMA_VERSION, "dataset": "toy", "settings": {"size": 4}}
    index = {
        "arrays": {n: {"dtype": spec.dtype, "shape": spec.shape} for n, spec in SPECS.items()},
        "splits": {split: {"rows": sum(sizes), "shards": entries}},
        "problems": [vars(Problem("clip", "broken file", "it is", 2))],
    }
    write_json(root / PLAN_FILE, plan)
    write_json(root / INDEX_FILE, {**plan, **index})
    return whole


# --- rows ---------------------------------------------------------------------------------------


@given(data=st.data(), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_rows_are_gathered_in_the_order_asked_for_whichever_shards_they_are_in(
    data: st.DataObject, sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("prepared")
    whole = write_prepared(root, sizes)
    index = data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=20))
    split = open_prepared(root, "toy").splits["train"]
    assert split.keys() == SPECS.keys()
    for name, rows in split.items():
        expected = torch.from_numpy(whole[name])
        chosen = torch.tensor(index, dtype=torch.long)
        assert torch.equal(rows[chosen], expected[chosen])
        assert torch.equal(rows[chosen.numpy()], expected[chosen])
        assert torch.equal(rows.read_all(), expected)
        assert (rows.dtype, rows.shape, len(rows)) == (expected.dtype, expected.shape, sum(sizes))
        assert rows.nbytes == expected.nbytes


def test_a_gathered_row_can_be_changed_without_changing_the_files(tmp_path: Path) -> None:
    whole = write_prepared(tmp_path, [3])
    rows = open_prepared(tmp_path, "toy").splits["train"]["image"]
    rows[torch.tensor([1])].zero_()
    rows.read_all().zero_()
    assert torch.equal(rows[torch.tensor([1])], torch.from_numpy(whole["image"][[1]]))


@pytest.mark.parametrize("row", [-1, 5])
def test_a_row_that_is_not_there_is_refused(tmp_path: Path, row: int) -> None:
    write_prepared(tmp_path, [3, 2])
    rows = open_prepared(tmp_path, "toy").splits["train"]["image"]
    with pytest.raises(IndexError, match="of 5"):
        rows[torch.tensor([0, row])]


def test_numpy_reads_the_files_of_a_shard_by_itself(tmp_path: Path) -> None:
    whole = write_prepared(tmp_path, [3])
    for name, values in whole.items():
        file = shard_directory(tmp_path, "train", 0) / f"{name}.npy"
        np.testing.assert_array_equal(np.load(file, allow_pickle=False), values)


def test_every_row_keeps_where_it_comes_from(tmp_path: Path) -> None:
    write_prepared(tmp_path, [2, 3])
    assert open_prepared(tmp_path, "toy").splits["train"].sources == [
        f"clip:{row}" for row in range(5)
    ]


def test_more_shards_can_be_read_than_files_may_be_open(tmp_path: Path) -> None:
    whole = write_prepared(tmp_path, [1] * 60)
    rows = open_prepared(tmp_path, "toy").splits["train"]["depth"]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 10, limits[1])
    )
    try:
        gathered = rows[torch.arange(60)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert torch.equal(gathered, torch.from_numpy(whole["depth"]))


# --- shards -------------------------------------------------------------------------------------


def test_a_shard_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    def stop_halfway() -> None:
        with write_shard(tmp_path, "train", 0, SPECS) as writer:
            writer.append(Part(arrays(2), ["a", "b"]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert not (tmp_path / "train").exists()


def test_a_shard_keeps_its_problems_even_without_a_row(tmp_path: Path) -> None:
    problem = Problem("clip", "broken video", "it ends early")
    with write_shard(tmp_path, "train", 7, SPECS) as writer:
        writer.append(Part(problems=[problem]))
    info = read_shard(shard_directory(tmp_path, "train", 7), SPECS)
    assert info is not None
    assert (info.sources, info.problems) == ([], [problem])


def test_rows_of_another_type_or_size_are_not_written(tmp_path: Path) -> None:
    wrong = {**arrays(1), "depth": np.zeros((1, 7), np.float64)}
    with (
        pytest.raises(ValueError, match="depth is float64"),
        write_shard(tmp_path, "train", 0, SPECS) as writer,
    ):
        writer.append(Part(wrong, ["a"]))


def test_a_shard_with_a_file_cut_short_counts_as_missing(tmp_path: Path) -> None:
    write_prepared(tmp_path, [3])
    shard = shard_directory(tmp_path, "train", 0)
    assert read_shard(shard, SPECS) is not None
    os.truncate(shard / "gender.npy", (shard / "gender.npy").stat().st_size - 1)
    assert read_shard(shard, SPECS) is None


# --- directories that cannot be read --------------------------------------------------------------


def error_of(path: Path, dataset: str = "toy") -> str:
    with pytest.raises(UserError) as caught:
        open_prepared(path, dataset)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_directory_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    message = error_of(tmp_path / "none")
    assert "no directory at" in message
    assert f"mtlbench prepare toy --raw DIR --out {tmp_path / 'none'}" in message


def test_a_directory_of_something_else_is_no_prepared_dataset(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert "no prepared dataset in" in error_of(tmp_path)


def test_an_unfinished_directory_says_how_to_go_on(tmp_path: Path) -> None:
    write_prepared(tmp_path, [3])
    (tmp_path / INDEX_FILE).unlink()
    assert "is not complete; go on with: mtlbench prepare toy" in error_of(tmp_path)


def test_another_dataset_is_told_apart(tmp_path: Path) -> None:
    write_prepared(tmp_path, [3])
    assert "holds toy, not surreal" in error_of(tmp_path, "surreal")


@pytest.mark.parametrize("how", ["removed", "cut short"])
def test_a_damaged_file_is_named(tmp_path: Path, how: str) -> None:
    write_prepared(tmp_path, [3, 2])
    file = shard_directory(tmp_path, "train", 1) / "depth.npy"
    if how == "removed":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size - 4)
    message = error_of(tmp_path)
    assert str(file) in message
    assert "mtlbench prepare toy" in message


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema_version": 1}', '{"schema_version": 1, "dataset": "toy"}']
)
def test_a_damaged_index_is_named(tmp_path: Path, text: str) -> None:
    write_prepared(tmp_path, [3])
    (tmp_path / INDEX_FILE).write_text(text)
    assert INDEX_FILE in error_of(tmp_path)


def test_a_directory_of_another_release_is_refused(tmp_path: Path) -> None:
    write_prepared(tmp_path, [3])
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    (tmp_path / INDEX_FILE).write_text(json.dumps({**index, "schema_version": 99}))
    assert "schema version 99" in error_of(tmp_path)


def test_a_split_that_has_no_rows_is_named_with_those_that_have(tmp_path: Path) -> None:
    write_prepared(tmp_path, [3])
    prepared = open_prepared(tmp_path, "toy")
    assert isinstance(prepared.split("train")["depth"], ShardedRows)
    with pytest.raises(UserError, match="no 'test' split, only train"):
        prepared.split("test")


def test_problems_and_settings_are_kept_in_the_index(tmp_path: Path) -> None:
    write_prepared(tmp_path, [3])
    prepared = open_prepared(tmp_path, "toy")
    assert prepared.problems == [Problem("clip", "broken file", "it is", 2)]
    assert prepared.settings == {"size": 4}
