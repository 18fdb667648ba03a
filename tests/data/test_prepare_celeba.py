"""Preparing CelebA: what becomes of an image, what is counted, what is refused."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from faces import write_face, write_faces, write_lists

from mtlbench.data.celeba import ATTRIBUTES
from mtlbench.data.prepare import celeba, prepare
from mtlbench.data.prepared import PreparedSplit, open_prepared
from mtlbench.errors import UserError

IMAGES = "img_align_celeba"


def rows(out: Path, split: str = "train") -> PreparedSplit:
    return open_prepared(out, "celeba").splits[split]


def error_of(raw: Path, out: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        prepare("celeba", raw, out, **{"workers": 1, **options})  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert not out.exists()
    return message


def numbered(*numbers: int) -> list[str]:
    return [f"{number:06d}.jpg" for number in numbers]


def tree(root: Path, parts: dict[str, int]) -> dict[str, np.ndarray]:
    """Grey images in these splits, and the labels that they were given."""
    chance = np.random.default_rng(1)
    labels = {name: chance.integers(0, 2, 40) for name in parts}
    for name in parts:
        write_face(root / IMAGES / name)
    write_lists(root, labels, parts)
    return labels


def test_a_prepared_image_has_its_attributes_and_is_in_its_split(tmp_path: Path) -> None:
    # The lists need not be in order.
    names = numbered(5, 1, 3, 2, 4)
    labels = tree(tmp_path / "raw", dict(zip(names, (0, 0, 2, 1, 0), strict=True)))
    report = prepare("celeba", tmp_path / "raw", tmp_path / "out", workers=1)
    assert report.rows == {"train": 3, "val": 1, "test": 1}
    assert not report.problems
    split = rows(tmp_path / "out")
    assert {name: (values.dtype, tuple(values.shape)) for name, values in split.items()} == {
        "image": (torch.uint8, (3, 3, 64, 64)),
        "attributes": (torch.uint8, (3, 40)),
    }
    assert split.sources == ["train/000001.jpg", "train/000004.jpg", "train/000005.jpg"]
    expected = np.stack([labels[name] for name in numbered(1, 4, 5)])
    np.testing.assert_array_equal(split["attributes"].read_all().numpy(), expected)
    assert rows(tmp_path / "out", "val").sources == ["val/000002.jpg"]
    assert rows(tmp_path / "out", "test").sources == ["test/000003.jpg"]


def triangle(size: int, to: int) -> np.ndarray:
    """The weights [to, size] of a bilinear filter that is as wide as the scale is large."""
    scale = size / to
    centres = (np.arange(to) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / scale
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(1, keepdims=True)


def test_an_image_is_scaled_whole_by_a_bilinear_filter(tmp_path: Path) -> None:
    from matplotlib.image import imread  # the oracle does not go through the code under test

    tree(tmp_path / "raw", {"000001.jpg": 0})
    path = tmp_path / "raw" / IMAGES / "000001.jpg"
    write_face(path, np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8))
    prepare("celeba", tmp_path / "raw", tmp_path / "out", workers=1)
    image = rows(tmp_path / "out")["image"].read_all()[0].permute(1, 2, 0).double().numpy()
    pixels = imread(path).astype(float)
    by_hand = np.einsum("yh,xw,hwc->yxc", triangle(218, 64), triangle(178, 64), pixels)
    # Pillow rounds to whole levels twice, after each direction.
    assert np.abs(image - by_hand).max() <= 1.1


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    tree(tmp_path / "raw", {"000001.jpg": 0})
    red = np.zeros((218, 178, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    write_face(tmp_path / "raw" / IMAGES / "000001.jpg", red)
    prepare("celeba", tmp_path / "raw", tmp_path / "out", workers=1)
    means = rows(tmp_path / "out")["image"].read_all()[0].float().mean((1, 2))
    torch.testing.assert_close(means, torch.tensor([255.0, 0, 0]), atol=2, rtol=0)


def test_the_directories_of_the_authors_are_found(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    tree(raw, {"000001.jpg": 0, "000002.jpg": 1, "000003.jpg": 2})
    for directory, name in celeba.FILES.items():
        (raw / directory).mkdir()
        (raw / name).rename(raw / directory / name)
    assert prepare("celeba", raw, tmp_path / "out", workers=1).rows == {
        "train": 1, "val": 1, "test": 1,
    }  # fmt: skip


def test_lists_with_windows_line_ends_are_read(tmp_path: Path) -> None:
    raw, parts = tmp_path / "raw", {"000001.jpg": 0, "000002.jpg": 1, "000003.jpg": 2}
    labels = tree(raw, parts)
    write_lists(raw, labels, parts, end="\r\n")
    assert not prepare("celeba", raw, tmp_path / "out", workers=1).problems


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        ("missing", "missing file"),
        ("a directory", "missing file"),
        ("cut short", "broken file"),
        ("text", "broken file"),
        ("empty", "broken file"),
        ("a PNG", "broken file"),
        ("small", "image of another size"),
        ("huge", "image of another size"),
        ("a bomb", "broken file"),
        ("CMYK", "image of another kind"),
    ],
)
def test_an_image_that_cannot_be_used_is_counted_and_the_rest_is_prepared(
    tmp_path: Path, damage: str, kind: str
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    tree(raw, dict(zip(numbered(1, 2, 3, 4), (0, 0, 1, 2), strict=True)))
    path = raw / IMAGES / "000002.jpg"
    if damage == "missing":
        path.unlink()
    elif damage == "a directory":
        path.unlink()
        path.mkdir()
    elif damage == "cut short":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "text":
        path.write_text("not found")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "a PNG":
        from PIL import Image

        Image.new("RGB", (178, 218)).save(path, "PNG")
    elif damage == "small":
        write_face(path, np.zeros((64, 64, 3), np.uint8))
    elif damage in ("huge", "a bomb"):
        claim_size(path, *((218, 20_000) if damage == "huge" else (60_000, 60_000)))
    elif damage == "CMYK":
        from PIL import Image

        Image.new("CMYK", (178, 218)).save(path, "JPEG")
    report = prepare("celeba", raw, out, workers=1)
    assert report.counts == {kind: 1}
    assert report.problems[0].source == "train/000002.jpg"
    assert f"1 × {kind}" in str(report)
    assert rows(out).sources == ["train/000001.jpg"]
    assert open_prepared(out, "celeba").problems == report.problems


def claim_size(path: Path, height: int, width: int) -> None:
    """Writes another size into the header of a JPEG."""
    data = bytearray(path.read_bytes())
    place = data.index(b"\xff\xc0") + 5  # start of frame: length, precision, then the size
    data[place : place + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    path.write_bytes(data)


def test_a_grey_image_gets_three_equal_channels(tmp_path: Path) -> None:
    from PIL import Image

    tree(tmp_path / "raw", {"000001.jpg": 0})
    Image.new("L", (178, 218), 77).save(tmp_path / "raw" / IMAGES / "000001.jpg", "JPEG")
    prepare("celeba", tmp_path / "raw", tmp_path / "out", workers=1)
    assert set(rows(tmp_path / "out")["image"].read_all().unique().tolist()) == {77}


def test_what_stands_in_one_list_or_in_none_is_counted_and_left_out(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    labels = tree(raw, dict(zip(numbered(1, 2, 3, 4, 5), (0, 0, 1, 2, 0), strict=True)))
    write_face(raw / IMAGES / "000009.jpg")
    (raw / IMAGES / "Thumbs.db\x1b[2J").write_text("")
    parts = dict(zip(numbered(1, 3, 4, 5), (0, 1, 2, 0), strict=True))
    del labels["000005.jpg"]
    write_lists(raw, labels, parts)
    report = prepare("celeba", raw, out, workers=1)
    assert report.counts == {
        "file in no list": 2, "image without a split": 1, "image without attributes": 1,
    }  # fmt: skip
    assert {problem.source for problem in report.problems} == {
        *numbered(2, 5, 9), r"Thumbs.db\x1b[2J",
    }  # fmt: skip
    assert str(report).replace("\n", "").isprintable()
    assert report.rows == {"train": 1, "val": 1, "test": 1}


def test_other_labels_are_other_raw_files(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    parts = {"000001.jpg": 0, "000002.jpg": 1}
    labels = tree(raw, parts)
    prepare("celeba", raw, out, workers=1)
    assert prepare("celeba", raw, out, workers=1).already_done
    labels["000001.jpg"] = 1 - labels["000001.jpg"]
    write_lists(raw, labels, parts)
    with pytest.raises(UserError, match="was begun from other raw files"):
        prepare("celeba", raw, out, workers=1)


def test_workers_give_the_same_files_as_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celeba.Faces, "items_per_shard", 3)
    write_faces(tmp_path / "raw")
    one, two = tmp_path / "one", tmp_path / "two"
    prepare("celeba", tmp_path / "raw", one, workers=1)
    prepare("celeba", tmp_path / "raw", two, workers=2)
    files = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(two) for path in two.rglob("*") if path.is_file()}
    assert len(files) == 2 + (3 + 2 + 2) * 3
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_what_goes_to_the_workers_is_small(tmp_path: Path) -> None:
    write_faces(tmp_path / "raw", train=50)
    reader = celeba.detect(tmp_path / "raw")
    before = len(pickle.dumps(reader))
    assert len(reader.items("train")) == 50
    assert len(pickle.dumps(reader)) == before


# --- lists that are refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../000001.jpg", "/etc/000001.jpg", "a/000001.jpg", "000001.png", "1.jpg", "..", "\x1b"],
)
@pytest.mark.parametrize("list_", ["list_attr_celeba.txt", "list_eval_partition.txt"])
def test_a_name_that_is_no_image_of_the_directory_is_refused(
    tmp_path: Path, name: str, list_: str
) -> None:
    raw, parts = tmp_path / "raw", {"000001.jpg": 0, "000002.jpg": 1}
    tree(raw, parts)
    path = raw / list_
    path.write_text(path.read_text().replace("000002.jpg", name))
    message = error_of(raw, tmp_path / "out")
    assert list_ in message
    assert "is no name of an image such as 000001.jpg" in message
    assert f"line {4 if list_ == 'list_attr_celeba.txt' else 2}:" in message


@pytest.mark.parametrize("count", [1, 3, -2, 10**30])
def test_a_list_that_is_not_as_long_as_it_says_is_refused(tmp_path: Path, count: int) -> None:
    raw, parts = tmp_path / "raw", {"000001.jpg": 0, "000002.jpg": 1}
    write_lists(raw, tree(raw, parts), parts, count=count)
    assert "line 1: expected the number of images, 2, but found" in error_of(raw, tmp_path / "out")


@pytest.mark.parametrize(
    "names", [ATTRIBUTES[:39], [*ATTRIBUTES[1:], ATTRIBUTES[0]], [*ATTRIBUTES[:39], "Old"], []]
)
def test_other_attributes_are_refused(tmp_path: Path, names: list[str]) -> None:
    raw, parts = tmp_path / "raw", {"000001.jpg": 0}
    write_lists(raw, tree(raw, parts), parts, names=names)
    assert "line 2: expected the names of CelebA's 40" in error_of(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (" 1", " 2", "line 3: expected 40 times 1 or -1"),
        (" 1", " 0", "line 3: expected 40 times 1 or -1"),
        (" 1", "", "line 3: expected 40 times 1 or -1"),
        (" 1", " 1 1", "line 3: expected 40 times 1 or -1"),
        (" 1", " nan", "line 3: expected 40 times 1 or -1"),
        ("000002.jpg", "000001.jpg", "line 4: 000001.jpg stands there twice"),
        ("000002.jpg", "\n000002.jpg", "line 4: '' is no name"),
        ("000002.jpg", "000002\udcff.jpg", "cannot be read"),
    ],
)
def test_a_damaged_list_of_attributes_is_refused(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    raw = tmp_path / "raw"
    tree(raw, {"000001.jpg": 0, "000002.jpg": 1})
    path = raw / "list_attr_celeba.txt"
    head, row = path.read_text().split("000001.jpg", 1)
    text = head + "000001.jpg" + row.replace(old, new, 1)
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert expected in error_of(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("000001.jpg 3\n", "line 1: expected 0, 1 or 2"),
        ("000001.jpg -1\n", "line 1: expected 0, 1 or 2"),
        ("000001.jpg\n", "line 1: expected 0, 1 or 2"),
        ("000001.jpg 0 0\n", "line 1: expected 0, 1 or 2"),
        ("000001.jpg 0\n000001.jpg 1\n", "line 2: 000001.jpg stands there twice"),
        ("", "line 1: '' is no name"),
    ],
)
def test_a_damaged_list_of_splits_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    raw = tmp_path / "raw"
    tree(raw, {"000001.jpg": 0})
    (raw / "list_eval_partition.txt").write_text(text)
    assert expected in error_of(raw, tmp_path / "out")


@pytest.mark.parametrize("name", celeba.FILES.values())
def test_a_directory_without_all_of_it_says_what_is_missing(tmp_path: Path, name: str) -> None:
    raw = tmp_path / "raw"
    tree(raw, {"000001.jpg": 0})
    (raw / name).rename(tmp_path / "elsewhere")
    assert f"no {name} in it" in error_of(raw, tmp_path / "out")


def test_an_archive_in_place_of_the_images_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    tree(raw, {"000001.jpg": 0})
    (raw / IMAGES).rename(tmp_path / "elsewhere")
    (raw / IMAGES).write_bytes(b"PK")
    assert "is a file, not the directory of the images" in error_of(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"height": 64}, "are always 64 × 64"), ({"every": 2}, "celeba has no clips")],
)
def test_what_cannot_be_asked_for_is_named(
    tmp_path: Path, options: dict[str, int], expected: str
) -> None:
    tree(tmp_path / "raw", {"000001.jpg": 0})
    assert expected in error_of(tmp_path / "raw", tmp_path / "out", **options)
