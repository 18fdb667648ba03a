"""Preparing Office-31 and Office-Home: what is recognised, what is counted, what is refused."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from offices import class_path, write_office, write_picture

from mtlbench.data.office import OFFICE_31, OFFICE_HOME, Office
from mtlbench.data.prepare import office, prepare
from mtlbench.data.prepared import PreparedSplit, open_prepared
from mtlbench.data.shards import Problem
from mtlbench.errors import UserError

ONE = dict.fromkeys(OFFICE_31.domains, 1)


def rows(out: Path) -> PreparedSplit:
    return open_prepared(out, "office").split("images")


def whole(root: Path, chosen: Office = OFFICE_31) -> Path:
    """One image of each class in each domain."""
    for folder in chosen.folders:
        for name in chosen.classes:
            write_picture(class_path(root, chosen, folder, name) / "frame_0001.jpg")
    return root


def error_of(raw: Path, out: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        prepare("office", raw, out, **{"workers": 1, **options})  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.isprintable()
    assert not out.exists()
    return message


# --- what is prepared -----------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [OFFICE_31, OFFICE_HOME])
def test_a_tree_is_recognised_by_its_folders(tmp_path: Path, chosen: Office) -> None:
    raw, out = whole(tmp_path / "raw", chosen), tmp_path / "out"
    report = prepare("office", raw, out, workers=1, size=64)
    domains, classes = len(chosen.folders), len(chosen.classes)
    assert (report.rows, report.problems) == ({"images": domains * classes}, [])
    assert open_prepared(out, "office").settings == {"dataset": chosen.name, "size": 64}
    split = rows(out)
    assert {name: (values.dtype, tuple(values.shape)) for name, values in split.items()} == {
        "image": (torch.uint8, (domains * classes, 3, 64, 64)),
        "domain": (torch.uint8, (domains * classes,)),
        "class": (torch.uint8, (domains * classes,)),
    }
    assert split["domain"].read_all().tolist() == [
        d for d in range(domains) for _ in range(classes)
    ]
    assert split["class"].read_all().tolist() == [*range(classes)] * domains
    path = class_path(Path(), chosen, chosen.folders[1], chosen.classes[2]) / "frame_0001.jpg"
    assert split.sources[classes + 2] == path.as_posix()


def test_there_are_as_many_classes_as_published() -> None:
    assert [len(set(each.classes)) for each in (OFFICE_31, OFFICE_HOME)] == [31, 65]


def test_images_are_224_pixels_wide_and_high_unless_asked_otherwise(tmp_path: Path) -> None:
    raw = write_office(tmp_path / "raw", classes=["mug"], counts=ONE)
    prepare("office", raw, tmp_path / "out", workers=1)
    assert rows(tmp_path / "out")["image"].shape == (3, 3, 224, 224)


def test_an_image_is_scaled_whole_in_red_green_and_blue(tmp_path: Path) -> None:
    raw = write_office(tmp_path / "raw", classes=["mug"], counts=ONE)
    pixels = np.zeros((96, 256, 3), np.uint8)
    pixels[:, :128, 0] = pixels[48:, 128:, 2] = 255  # red at the left, blue at the lower right
    write_picture(raw / "amazon" / "images" / "mug" / "frame_0001.jpg", pixels)
    prepare("office", raw, tmp_path / "out", workers=1, size=64)
    image = rows(tmp_path / "out")["image"].read_all()[0].float()
    quarters = image.unflatten(1, (2, 32)).unflatten(3, (2, 32)).mean((2, 4))  # [3, 2, 2]
    expected = torch.zeros(3, 2, 2)
    expected[0, :, 0] = expected[2, 1, 1] = 255
    # The filter reaches over the border between two quarters.
    torch.testing.assert_close(quarters, expected, atol=6, rtol=0)


@pytest.mark.parametrize(
    ("published", "copy"),
    [("Real World", "Real_World"), ("Art", "art"), ("Art/TV", "Art/tv"), ("Clipart", "CLIPART")],
)
def test_folders_of_copies_that_write_names_otherwise_are_known(
    tmp_path: Path, published: str, copy: str
) -> None:
    raw = whole(tmp_path / "raw", OFFICE_HOME)
    (raw / published).rename(raw / copy)
    report = prepare("office", raw, tmp_path / "out", workers=1, size=64)
    assert (report.rows, report.problems) == ({"images": 4 * 65}, [])
    labels = rows(tmp_path / "out")["class"].read_all()
    assert labels.tolist() == [*range(65)] * 4


def test_office_31_without_the_folders_images_is_known(tmp_path: Path) -> None:
    raw = whole(tmp_path / "raw")
    for folder in OFFICE_31.folders:
        (raw / folder / "images").rename(raw / "aside")
        (raw / folder).rmdir()
        (raw / "aside").rename(raw / folder)
    report = prepare("office", raw, tmp_path / "out", workers=1, size=64)
    assert (report.rows, report.problems) == ({"images": 3 * 31}, [])


@pytest.mark.parametrize("kind", ["L", "CMYK", "P", "PNG", "upper case"])
def test_images_of_other_kinds_are_made_rgb(tmp_path: Path, kind: str) -> None:
    from PIL import Image

    raw = write_office(tmp_path / "raw", classes=["mug"], counts=ONE)
    path = raw / "amazon" / "images" / "mug" / "frame_0001.jpg"
    if kind == "upper case":
        write_picture(path, np.full((9, 9, 3), 77, np.uint8))
        path.rename(path.with_suffix(".JPG"))
    else:
        image = Image.new("RGB", (70, 90), (77, 77, 77))
        if kind in ("L", "CMYK"):
            image.convert(kind).save(path, "JPEG")
        else:
            (image.quantize() if kind == "P" else image).save(path, "PNG")
    report = prepare("office", raw, tmp_path / "out", workers=1, size=64)
    assert set(report.counts) == {"class without images"}
    colours = rows(tmp_path / "out")["image"].read_all()[0].unique()
    assert (colours.int() - 77).abs().max() <= 2


# --- what is counted ------------------------------------------------------------------------------


def bomb() -> bytes:
    """A PNG whose header promises 60,000 × 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        ("a dead link", "missing file"),
        ("a directory", "missing file"),
        ("a pipe", "missing file"),
        ("cut short", "broken file"),
        ("text", "broken file"),
        ("empty", "broken file"),
        ("a TIFF", "broken file"),
        ("a bomb", "broken file"),
        ("100 million pixels", "broken file"),
    ],
)
def test_an_image_that_cannot_be_used_is_counted_and_the_rest_is_prepared(
    tmp_path: Path, damage: str, kind: str
) -> None:
    raw, out = whole(tmp_path / "raw"), tmp_path / "out"
    path = raw / "dslr" / "images" / "mug" / "frame_0001.jpg"
    whole_file = path.read_bytes()
    path.unlink()
    if damage == "a dead link":
        path.symlink_to(tmp_path / "nothing")
    elif damage == "a directory":
        path.mkdir()
    elif damage == "a pipe":
        os.mkfifo(path)
    elif damage == "a TIFF":
        write_picture(path, format="TIFF")
    elif damage == "100 million pixels":
        from PIL import Image

        Image.new("1", (10_000, 10_000)).save(path, "PNG")
    else:
        contents = {
            "cut short": whole_file[: len(whole_file) // 2],
            "text": b"not found",
            "empty": b"",
            "a bomb": bomb(),
        }
        path.write_bytes(contents[damage])
    report = prepare("office", raw, out, workers=1, size=64)
    assert (report.counts, report.rows) == ({kind: 1}, {"images": 3 * 31 - 1})
    assert report.problems[0].source == "dslr/images/mug/frame_0001.jpg"
    assert f"1 × {kind}" in str(report)
    assert report.problems[0].source not in rows(out).sources
    assert open_prepared(out, "office").problems == report.problems


def test_what_lies_beside_the_images_is_counted_and_left_out(tmp_path: Path) -> None:
    raw, out = whole(tmp_path / "raw"), tmp_path / "out"
    images = raw / "webcam" / "images"
    (images / "Thumbs.db").write_text("")
    (images / "teapot").mkdir()
    (images / "pen" / "list.txt").write_text("")
    (images / "pen" / "a\tb\x1b[2J.jpg").write_text("")
    (images / "mug" / "frame_0001.jpg").unlink()
    (raw / "readme.txt").write_text("")
    report = prepare("office", raw, out, workers=1, size=64)
    assert set(report.problems) == {
        Problem("webcam/images/Thumbs.db", "not a folder of a class"),
        Problem("webcam/images/teapot", "not a folder of a class"),
        Problem("webcam/images/pen/list.txt", "not an image by its name"),
        Problem(r"webcam/images/pen/a\tb\x1b[2J.jpg", "name that cannot be shown"),
        Problem("webcam/images/mug", "class without images"),
    }
    assert report.rows == {"images": 3 * 31 - 1}
    assert str(report).replace("\n", "").isprintable()


def test_a_link_to_an_image_elsewhere_is_read(tmp_path: Path) -> None:
    raw = whole(tmp_path / "raw")
    path = raw / "dslr" / "images" / "mug" / "frame_0001.jpg"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert not prepare("office", raw, tmp_path / "out", workers=1, size=64).problems


# --- going on -------------------------------------------------------------------------------------


def test_workers_give_the_same_files_as_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(office.Pictures, "items_per_shard", 40)
    raw, one, two = whole(tmp_path / "raw"), tmp_path / "one", tmp_path / "two"
    prepare("office", raw, one, workers=1, size=64)
    prepare("office", raw, two, workers=2, size=64)
    files = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(two) for path in two.rglob("*") if path.is_file()}
    assert len(files) == 2 + 3 * 4  # 93 images in shards of 40: three arrays and a list each
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file
    assert prepare("office", raw, one, workers=1, size=64).already_done


def test_a_damaged_shard_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office.Pictures, "items_per_shard", 40)
    raw, out = whole(tmp_path / "raw"), tmp_path / "out"
    prepare("office", raw, out, workers=1, size=64)
    file = out / "images" / "shard-00001" / "image.npy"
    before = file.read_bytes()
    os.truncate(file, len(before) // 2)
    assert not prepare("office", raw, out, workers=1, size=64).already_done
    assert file.read_bytes() == before


def test_a_directory_begun_otherwise_is_left_alone(tmp_path: Path) -> None:
    raw, out = whole(tmp_path / "raw"), tmp_path / "out"
    prepare("office", raw, out, workers=1, size=64)
    with pytest.raises(UserError, match="was begun with size 64 instead of 96"):
        prepare("office", raw, out, workers=1, size=96)
    home = whole(tmp_path / "home", OFFICE_HOME)
    with pytest.raises(UserError, match="was begun with dataset office-31 instead of office-home"):
        prepare("office", home, out, workers=1, size=64)
    (raw / "dslr" / "images" / "mug" / "frame_0001.jpg").unlink()
    with pytest.raises(UserError, match="was begun from other raw files"):
        prepare("office", raw, out, workers=1, size=64)
    assert len(rows(out)["class"]) == 93


# --- what is refused ------------------------------------------------------------------------------


def test_another_tree_is_told_what_was_expected(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    expected = "expected amazon/images/CLASS/*.jpg and the same below dslr and webcam, or Art/CLASS"
    assert expected in error_of(raw, out)
    write_picture(raw / "train" / "mug" / "1.jpg")  # classes without domains
    message = error_of(raw, out)
    assert message.startswith("no Office-31 or Office-Home in")
    assert expected in message


def test_a_missing_domain_is_named(tmp_path: Path) -> None:
    raw = whole(tmp_path / "raw")
    (raw / "dslr").rename(tmp_path / "elsewhere")
    assert error_of(raw, tmp_path / "out").startswith("only amazon and webcam, no dslr in")


def test_a_domain_that_is_a_file_is_missing(tmp_path: Path) -> None:
    raw = whole(tmp_path / "raw")
    (raw / "dslr").rename(tmp_path / "elsewhere")
    (raw / "dslr").write_text("")
    assert "no dslr in" in error_of(raw, tmp_path / "out")


def test_a_domain_without_folders_of_classes_is_named(tmp_path: Path) -> None:
    raw = whole(tmp_path / "raw")
    (raw / "dslr" / "images").rename(raw / "dslr" / "pictures")
    message = error_of(raw, tmp_path / "out")
    assert message.startswith("no folder of a class of Office-31, such as back_pack, in")
    assert "raw/dslr'" in message


def test_both_datasets_in_one_directory_are_refused(tmp_path: Path) -> None:
    raw = whole(whole(tmp_path / "raw"), OFFICE_HOME)
    assert "holds Office-31 and Office-Home: give a directory of one" in error_of(
        raw, tmp_path / "out"
    )


def test_two_folders_of_one_domain_are_refused(tmp_path: Path) -> None:
    raw = whole(tmp_path / "raw", OFFICE_HOME)
    (raw / "Real_World").mkdir()
    assert "has 'Real World' and 'Real_World'" in error_of(raw, tmp_path / "out")


def test_a_tree_without_a_single_usable_image_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for folder in OFFICE_31.folders:
        (raw / folder / "images" / "mug").mkdir(parents=True)
    assert "nothing usable in" in error_of(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 0}, "size must be at least 1, but is 0"),
        ({"size": 63}, "size must be from 64 to 1024, but is 63"),
        ({"size": 10**9}, "size must be from 64 to 1024"),
        ({"height": 64}, "office images are as wide as high: give a size"),
        ({"every": 2}, "office has no clips"),
    ],
)
def test_what_cannot_be_asked_for_is_named(
    tmp_path: Path, options: dict[str, int], expected: str
) -> None:
    assert expected in error_of(whole(tmp_path / "raw"), tmp_path / "out", **options)


def test_other_datasets_have_no_size_to_ask_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a size can be asked for office, not for celeba"):
        prepare("celeba", tmp_path, tmp_path / "out", size=64)
