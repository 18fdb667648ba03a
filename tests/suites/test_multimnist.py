"""Two pictures in one input, from IDX files or from small digits."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run_mtlbench, trained
from torch import Tensor

from mtlbench.data.idx import idx_file, read_idx
from mtlbench.errors import UserError
from mtlbench.study.plan import plan
from mtlbench.suites.multimnist import PICTURE, SIDE, MultiMnist


def idx(array: np.ndarray) -> bytes:
    """The content of an IDX file of bytes, as the format says it."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, seed: int = 0, *, compressed: bool = False, **change: Any) -> None:
    """Pictures whose upper left pixel is 100 + their class."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)
    for prefix, count in (("train", 60), ("t10k", 20)):
        labels = chance.integers(0, 10, count)
        images = chance.integers(0, 50, (count, PICTURE, PICTURE))
        images[:, 0, 0] = images[:, -1, -1] = 100 + labels
        files = {
            f"{prefix}-images-idx3-ubyte": idx(images),
            f"{prefix}-labels-idx1-ubyte": idx(labels),
        }
        for name, content in {**files, **{k: v for k, v in change.items() if k in files}}.items():
            path = folder / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(content) if compressed else content)


def sized(**fields: Any) -> MultiMnist:
    return MultiMnist(train_size=40, validation_size=20, test_size=30, **fields)


@pytest.mark.parametrize("compressed", [False, True])
def test_pictures_stand_at_the_upper_left_and_the_lower_right(
    compressed: bool, tmp_path: Path
) -> None:
    write_mnist(tmp_path, compressed=compressed)
    data = sized(source="mnist", data_dir=str(tmp_path)).data()
    for part, size in ((data.train, 40), (data.validation, 20), (data.test, 30)):
        inputs, left, right = part.inputs, part.targets["left"], part.targets["right"]
        assert isinstance(inputs, Tensor)
        assert isinstance(left, Tensor)
        assert isinstance(right, Tensor)
        assert inputs.shape == (size, 1, SIDE, SIDE)
        assert torch.equal(inputs[:, 0, 0, 0], (100 + left).byte())
        assert torch.equal(inputs[:, 0, -1, -1], (100 + right).byte())
        assert not inputs[:, 0, :8, PICTURE:].any()


def test_where_pictures_overlap_the_brighter_pixel_counts(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    labels = read_idx(tmp_path / "t10k-labels-idx1-ubyte", 1)
    images = read_idx(tmp_path / "t10k-images-idx3-ubyte", 3)
    test = sized(source="mnist", data_dir=str(tmp_path)).data().test
    assert isinstance(test.inputs, Tensor)
    seen = test.inputs[0, 0].numpy()
    made = []
    for i, first in enumerate(images):
        for j, second in enumerate(images):
            canvas = np.zeros((2, SIDE, SIDE), np.uint8)
            canvas[0, :PICTURE, :PICTURE] = first
            canvas[1, -PICTURE:, -PICTURE:] = second
            if (canvas.max(0) == seen).all():
                made.append((labels[i], labels[j]))
    rows = torch.arange(1)
    assert made == [(test.targets["left"][rows].item(), test.targets["right"][rows].item())]


def test_a_digit_stands_beside_clothes(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", 1)
    write_mnist(tmp_path / "fashion", 2)
    suite = sized(source="mnist+fashion", data_dir=str(tmp_path))
    left, right = suite.tasks()
    assert (left.classes[3], right.classes[3]) == ("3", "dress")
    suite.data()


def test_without_files_the_small_digits_are_enlarged() -> None:
    one, again = sized().data(), sized().data()
    assert isinstance(one.train.inputs, Tensor)
    assert isinstance(again.train.inputs, Tensor)
    assert torch.equal(one.train.inputs, again.train.inputs)
    assert one.train.inputs.max() == 255
    record = trained(
        plan(
            "multimnist", strategies=["ilt"], variants=["left@0.4"], seeds=1,
            overrides={"epochs": 1, "train_size": 256, "validation_size": 64, "test_size": 64},
        )[0]
    )  # fmt: skip
    assert record.info["status"] == "done"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        idx(np.zeros((20, PICTURE, PICTURE)))[:-1],
        idx(np.zeros((20, PICTURE, PICTURE))) + b"x",
        b"\0\0\x0d\x03" + idx(np.zeros((20, PICTURE, PICTURE)))[4:],
        idx(np.zeros(20)),
        struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 2**31),
    ],
)
def test_a_file_that_is_no_such_array_is_refused(content: bytes, tmp_path: Path) -> None:
    write_mnist(tmp_path, **{"train-images-idx3-ubyte": content})
    with pytest.raises(UserError, match="train-images-idx3-ubyte' is not an IDX file of bytes"):
        sized(source="mnist", data_dir=str(tmp_path)).data()


def test_broken_compression_and_wrong_counts_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, compressed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        sized(source="mnist", data_dir=str(tmp_path)).data()
    for wrong in (np.zeros(59), np.full(60, 10)):
        folder = tmp_path / f"wrong-{len(wrong)}"
        write_mnist(folder, **{"train-labels-idx1-ubyte": idx(wrong)})
        with pytest.raises(UserError, match="are not pictures of 28×28 and their classes"):
            sized(source="mnist", data_dir=str(folder)).data()


def test_missing_files_are_named_before_anything_is_trained(tmp_path: Path) -> None:
    ended = run_mtlbench(["run", "multimnist", "--set", "source=mnist"], cwd=tmp_path)
    assert (ended.status, ended.out) == (2, "")
    assert "--set data_dir=DIR says where it is" in ended.err
    assert not list(tmp_path.iterdir())
    (tmp_path / "mnist").mkdir()
    with pytest.raises(UserError, match="there is no 'train-images-idx3-ubyte'"):
        plan("multimnist", overrides={"source": "mnist", "data_dir": str(tmp_path / "mnist")})
    (tmp_path / "a.gz").write_bytes(b"")
    assert idx_file(tmp_path, "a").name == "a.gz"
