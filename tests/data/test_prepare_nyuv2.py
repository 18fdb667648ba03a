"""Preparing NYUv2."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from indoor_trees import scene, write_scene, write_tree

from mtlbench.data.prepare import prepare
from mtlbench.data.prepare.nyuv2 import CLASSES, directions
from mtlbench.data.prepared import open_prepared
from mtlbench.errors import UserError
from mtlbench.suites import nyuv2

SIZE = (32, 48)


def error_of(raw: Path, out: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        prepare("nyuv2", raw, out, workers=1, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_prepared_scene_has_all_its_labels(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_scene(raw, "train", 10)
    written = write_scene(raw, "train", 2)
    write_scene(raw, "val", 0)
    report = prepare("nyuv2", raw, out, workers=1)
    assert (report.rows, report.problems) == ({"train": 2, "val": 1}, [])
    split = open_prepared(out, "nyuv2").split("train")
    assert split.sources == ["train/2", "train/10"]
    assert {name: (values.dtype, tuple(values.shape)) for name, values in split.items()} == {
        "image": (torch.uint8, (2, 3, *SIZE)),
        "segmentation": (torch.int8, (2, *SIZE)),
        "depth": (torch.float32, (2, *SIZE)),
        "normal": (torch.float32, (2, 3, *SIZE)),
    }
    first = {name: values.read_all()[0].numpy() for name, values in split.items()}
    assert np.abs(first["image"].transpose(1, 2, 0) / 255 - written["image"]).max() <= 0.5 / 255
    np.testing.assert_array_equal(first["segmentation"], written["label"])
    np.testing.assert_array_equal(first["depth"], written["depth"][..., 0].astype(np.float32))
    normal = first["normal"].transpose(1, 2, 0)
    np.testing.assert_allclose(normal, written["normal"], atol=1e-6)
    assert ((normal == 0).all(-1) == (written["normal"] == 0).all(-1)).all()


def test_normals_have_length_1_or_none_at_all() -> None:
    raw = np.array([[[0.3, 0, 0.4], [0, 0, 0], [0.004, -0.004, 0.004], [0, -1.0005, 0]]])
    expected = [[[0.6, 0, 0.8], [0, 0, 0], [0, 0, 0], [0, -1, 0]]]
    np.testing.assert_allclose(directions(raw), expected, atol=1e-6)
    assert directions(raw).dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "kind"),
    [
        ({"image": np.full((*SIZE, 3), 200.0)}, "labels out of range"),
        ({"image": np.zeros((3, *SIZE))}, "image of another size"),
        ({"label": np.full(SIZE, 13.0)}, "labels out of range"),
        ({"label": np.full(SIZE, -2)}, "labels out of range"),
        ({"label": np.full(SIZE, 0.5)}, "labels out of range"),
        ({"depth": np.full((*SIZE, 1), np.nan)}, "labels out of range"),
        ({"depth": np.full((*SIZE, 1), -1.0)}, "labels out of range"),
        ({"depth": np.full((*SIZE, 1), 2500)}, "labels out of range"),
        ({"depth": np.zeros(SIZE)}, "image of another size"),
        ({"normal": np.full((*SIZE, 3), np.inf)}, "labels out of range"),
        ({"normal": np.zeros((16, 48, 3))}, "image of another size"),
        ({"normal": np.array([["a"]])}, "broken file"),
        ({"label": np.array([{"not": "numbers"}])}, "broken file"),
    ],
)
def test_an_array_that_cannot_be_used_is_counted_and_its_scene_left_out(
    tmp_path: Path, arrays: dict[str, np.ndarray], kind: str
) -> None:
    raw = write_tree(tmp_path / "raw", train=2, val=1)
    write_scene(raw, "train", 1, **arrays)
    report = prepare("nyuv2", raw, tmp_path / "out", workers=1)
    assert (report.counts, report.rows) == ({kind: 1}, {"train": 1, "val": 1})
    assert report.problems[0].source == "train/1"
    assert report.problems[0] in open_prepared(tmp_path / "out", "nyuv2").problems


@pytest.mark.parametrize("damage", ["missing", "cut short", "text", "archive", "too long a header"])
@pytest.mark.parametrize("name", ["image", "normal"])
def test_a_damaged_file_is_counted_and_its_scene_left_out(
    tmp_path: Path, name: str, damage: str
) -> None:
    raw = write_tree(tmp_path / "raw", train=3, val=1)
    file = raw / "train" / name / "0.npy"
    if damage == "missing":
        file = raw / "train" / "depth" / "0.npy"
        file.unlink()
    elif damage == "cut short":
        os.truncate(file, file.stat().st_size // 2)
    elif damage == "text":
        file.write_text("not found")
    elif damage == "archive":
        with file.open("wb") as handle:
            np.savez(handle, values=np.zeros(3))
    else:
        whole = file.read_bytes()
        file.write_bytes(whole.replace(b"(32, 48, 3)", b"(1000000000000, 48, 3)", 1))
    report = prepare("nyuv2", raw, tmp_path / "out", workers=1)
    kind = "missing file" if damage == "missing" else "broken file"
    assert (report.counts, report.rows) == ({kind: 1}, {"train": 2, "val": 1})


def test_a_broken_scene_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    raw = write_tree(tmp_path / "raw", train=2, val=1)
    write_scene(raw, "train", 0, label=np.array([Trap()], dtype=object))
    report = prepare("nyuv2", raw, tmp_path / "out", workers=1)
    assert report.counts == {"broken file": 1}
    assert not (tmp_path / "sprung").exists()


def test_scenes_have_the_size_that_most_of_them_have(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_scene(raw, "train", 0, **scene(0, 64, 64))
    for number in (1, 2):
        write_scene(raw, "train", number, **scene(number, 40, 56))
    write_scene(raw, "val", 0, **scene(0, 40, 56))
    report = prepare("nyuv2", raw, tmp_path / "out", workers=1)
    assert report.counts == {"image of another size": 1}
    assert open_prepared(tmp_path / "out", "nyuv2").settings == {"height": 40, "width": 56}


def test_workers_give_the_same_files_as_one_process(tmp_path: Path) -> None:
    raw, one, two = write_tree(tmp_path / "raw", train=4), tmp_path / "one", tmp_path / "two"
    prepare("nyuv2", raw, one, workers=1)
    prepare("nyuv2", raw, two, workers=2)
    files = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(two) for path in two.rglob("*") if path.is_file()}
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file
    assert prepare("nyuv2", raw, one, workers=1).already_done


def test_a_directory_without_the_dataset_says_what_was_expected(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    expected = "expected train/image, train/label, train/depth, train/normal"
    assert expected in error_of(raw, out)
    (raw / "train" / "image").mkdir(parents=True)
    assert "has train/image, but no train/label" in error_of(raw, out)
    for kind in ("label", "depth", "normal"):
        (raw / "train" / kind).mkdir()
    assert "no images of nyuv2 in" in error_of(raw, out)
    (raw / "train" / "image" / "0.npy").write_text("not found")
    assert "nothing usable in" in error_of(raw, out)
    assert not out.exists()


def test_what_cannot_be_asked_for_is_named(tmp_path: Path) -> None:
    raw, out = write_tree(tmp_path / "raw", train=1, val=1), tmp_path / "out"
    assert "nyuv2 images have the size of the arrays" in error_of(raw, out, height=64)
    assert "nyuv2 has no clips" in error_of(raw, out, every=2)


def test_the_suite_knows_as_many_classes() -> None:
    assert len(nyuv2.CLASSES) == len(set(nyuv2.PALETTE)) == CLASSES
