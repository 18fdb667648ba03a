"""The real datasets end to end: from small trees in the published formats to a trained run."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import here, trained
from trees import person, write_city_image, write_clip, write_mtan_image

from mtlbench.data.prepare import prepare
from mtlbench.data.rows import to_device
from mtlbench.errors import UserError
from mtlbench.models.body import make_body
from mtlbench.store.runs import RunRecord
from mtlbench.study.plan import plan
from mtlbench.suites.build import build_suite


def mtan_tree(root: Path, *, train: int = 10, val: int = 3) -> Path:
    chance = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            write_mtan_image(
                root,
                split,
                number,
                image=chance.random((128, 256, 3)),
                label=chance.integers(-1, 7, (128, 256)).astype(float),
                depth=chance.uniform(0, 0.2, (128, 256, 1)),
            )
    return root


def city_tree(root: Path) -> Path:
    chance = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            write_city_image(
                root,
                split,
                f"aachen/aachen_{number:06d}_000019",
                image=np.kron(
                    chance.integers(0, 255, (8, 16, 3), np.uint8), np.ones((128, 128, 1), np.uint8)
                ),
                ids=np.kron(
                    chance.integers(0, 34, (8, 16), np.uint8), np.ones((128, 128), np.uint8)
                ),
                disparity=np.full((1024, 2048), 1 + 256 * 40, np.uint16),
            )
    return root


def surreal_tree(root: Path) -> Path:
    for clip, split in (("01_01_c0001", "train"), ("02_05_c0001", "val"), ("03_c0001", "test")):
        write_clip(root, clip, person(3), split=split)
    return root


def run_of(suite: str, variant: str, **overrides: object) -> RunRecord:
    """One epoch of ILT, to its end."""
    texts = {name: str(value) for name, value in overrides.items()}
    (spec,) = plan(
        suite, strategies=["ilt"], variants=[variant], seeds=1, overrides={"epochs": 1, **texts}
    )
    record = trained(spec)
    assert record.info["status"] == "done", record.info["error"]
    return record


@pytest.mark.parametrize("tree", [mtan_tree, city_tree])
def test_cityscapes_goes_from_raw_files_to_a_trained_run(tree: object, tmp_path: Path) -> None:
    prepare("cityscapes", tree(tmp_path / "raw"), tmp_path / "out", workers=1)  # type: ignore[operator]
    record = run_of(
        "cityscapes", "segmentation@0.5", prepared=tmp_path / "out", width=18, batch_size=4
    )
    assert record.info["timings"]["wait_seconds"] < record.info["timings"]["train_seconds"]
    kept = record.labels
    assert (kept["clean/segmentation"] == -1).sum() == (kept["given/segmentation"] == -1).sum()
    assert (kept["clean/segmentation"] != kept["given/segmentation"]).any()


def test_cityscapes_holds_out_a_tenth_of_the_training_images(tmp_path: Path) -> None:
    prepare("cityscapes", mtan_tree(tmp_path / "raw"), tmp_path / "out", workers=1)
    suite = build_suite("cityscapes", {"prepared": str(tmp_path / "out")})
    data = suite.data()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [9, 1, 3]
    images = [to_device(split.inputs, "cpu") for split in (data.train, data.validation)]
    assert not any((images[1][0] == image).all() for image in images[0])


def test_surreal_goes_from_clips_to_a_trained_run(tmp_path: Path) -> None:
    prepare("surreal", surreal_tree(tmp_path / "raw"), tmp_path / "out", workers=1)
    make_body().save(tmp_path / "smpl.npz")
    record = run_of(
        "surreal",
        "segmentation@0.4",
        prepared=tmp_path / "out",
        smpl=tmp_path / "smpl.npz",
        channels=2,
        batch_size=3,
    )
    assert record.labels["clean/segmentation"].shape == (1, 256, 256)
    assert record.predictions["prediction/mesh"].shape == (3, 3, 256, 256)


def test_the_command_prepares_and_says_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = mtan_tree(tmp_path / "raw"), tmp_path / "out"
    (raw / "train" / "label" / "3.npy").unlink()
    command = ["prepare", "cityscapes", "--raw", str(raw), "--out", str(out), "--workers", "1"]
    ended = here(command, capsys)
    assert ended.status == 0, ended.err
    assert "missing" in ended.out
    assert "train/3" in ended.out
    index = json.loads((out / "index.json").read_text())
    assert sum(shard["rows"] for shard in index["splits"]["train"]["shards"]) == 9
    again = here(command, capsys)
    assert again.status == 0
    assert "is already prepared" in again.out


def test_a_suite_whose_data_is_not_prepared_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "cityscapes", "--set", f"prepared={tmp_path}", "--results", f"{tmp_path}/r"]
    ended = here(command, capsys)
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "mtlbench prepare cityscapes" in ended.err
    assert not (tmp_path / "r").exists()


def test_an_unknown_width_of_hrnet_is_refused() -> None:
    with pytest.raises(UserError, match="width must be 18 or 32 or 48"):
        build_suite("cityscapes", {"width": 20})
