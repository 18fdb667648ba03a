"""Preparing CityScapes, and what every `prepare` does: resume, refuse, count problems."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from trees import write_city_image, write_mtan_image

from mtlbench.data.prepare import cityscapes, prepare
from mtlbench.data.prepare.cityscapes import CATEGORIES, CATEGORY_OF_ID, Preprocessed
from mtlbench.data.prepared import PreparedSplit, open_prepared
from mtlbench.data.shards import INDEX_FILE, PLAN_FILE, UNFINISHED
from mtlbench.errors import UserError

CHECKOUT = Path(__file__).parents[2]


def rows(out: Path, split: str = "train") -> PreparedSplit:
    return open_prepared(out, "cityscapes").splits[split]


def error_of(*arguments: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        prepare(*arguments, **{"workers": 1, **options})
    message = str(caught.value)
    assert "\n" not in message
    return message


def files_below(root: Path) -> dict[str, int]:
    """Path to time of the last change, of everything in a directory."""
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}


# --- as its authors publish it --------------------------------------------------------------------


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training images and one to validate on; the first is drawn at random."""
    root = tmp_path_factory.mktemp("cityscapes")
    generator = np.random.default_rng(0)
    write_city_image(
        root,
        "train",
        "aachen/aachen_000000_000019",
        image=generator.integers(0, 256, (1024, 2048, 3), dtype=np.uint8),
        ids=generator.integers(0, 34, (1024, 2048), dtype=np.uint8),
        disparity=generator.integers(0, 32258, (1024, 2048), dtype=np.uint16),
    )
    write_city_image(root, "train", "bochum/bochum_000000_000313")
    write_city_image(root, "val", "lindau/lindau_000000_000019")
    return root


@pytest.fixture(scope="module")
def prepared_city(city: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "city"
    prepare("cityscapes", city, out, workers=1)
    return out


def source(city: Path, kind: str, end: str) -> np.ndarray:
    from matplotlib.image import imread  # the oracle does not go through the code under test

    return imread(city / kind / "train" / "aachen" / f"aachen_000000_000019_{end}.png")


def test_a_prepared_image_has_all_its_labels_at_128_by_256(prepared_city: Path) -> None:
    split = rows(prepared_city)
    assert {name: (values.dtype, tuple(values.shape)) for name, values in split.items()} == {
        "image": (torch.uint8, (2, 3, 128, 256)),
        "segmentation": (torch.int8, (2, 128, 256)),
        "inverse_depth": (torch.float32, (2, 128, 256)),
    }
    assert split.sources == [
        "train/aachen/aachen_000000_000019",
        "train/bochum/bochum_000000_000313",
    ]
    assert rows(prepared_city, "val").sources == ["val/lindau/lindau_000000_000019"]


def test_a_colour_is_the_mean_of_its_block(city: Path, prepared_city: Path) -> None:
    pixels = source(city, "leftImg8bit", "leftImg8bit") * 255.0
    means = pixels.reshape(128, 8, 256, 8, 3).mean((1, 3))
    image = rows(prepared_city)["image"].read_all()[0].permute(1, 2, 0).double().numpy()
    assert np.abs(image - means).max() <= 0.5 + 1e-3  # rounded to whole levels


def test_a_category_is_that_of_the_pixel_at_the_centre_of_its_block(
    city: Path, prepared_city: Path
) -> None:
    ids = np.round(source(city, "gtFine", "gtFine_labelIds") * 255)[4::8, 4::8]
    segmentation = rows(prepared_city)["segmentation"].read_all()[0].numpy()
    for category, (first, last) in enumerate(
        [(7, 10), (11, 16), (17, 20), (21, 22), (23, 23), (24, 25), (26, 33)]
    ):
        np.testing.assert_array_equal(segmentation == category, (ids >= first) & (ids <= last))
    np.testing.assert_array_equal(segmentation == -1, ids <= 6)


def test_every_id_without_a_category_is_ignored() -> None:
    assert len(CATEGORIES) == 7
    for void in (*range(7), *range(34, 256)):
        assert CATEGORY_OF_ID[void] == -1
    assert set(CATEGORY_OF_ID[7:34].tolist()) == set(range(7))


def test_inverse_depth_is_the_disparity_in_the_unit_of_mtan(
    city: Path, prepared_city: Path
) -> None:
    # Matplotlib, too, makes 65535 of a 16-bit image 1.
    disparity = source(city, "disparity", "disparity")[4::8, 4::8]
    inverse_depth = rows(prepared_city)["inverse_depth"].read_all()[0].numpy()
    np.testing.assert_allclose(inverse_depth, disparity, rtol=1e-6)
    assert inverse_depth.max() == pytest.approx(0.4922, abs=1e-3)


def test_what_was_not_measured_stays_0_and_does_not_reach_its_neighbours(tmp_path: Path) -> None:
    disparity = np.zeros((1024, 2048), np.uint16)
    disparity[4::8, 4::16] = 1  # the least that is measured, in every other block
    write_city_image(tmp_path / "raw", "train", "aachen/aachen_0", disparity=disparity)
    prepare("cityscapes", tmp_path / "raw", tmp_path / "out", workers=1)
    inverse_depth = rows(tmp_path / "out")["inverse_depth"].read_all()[0]
    assert (inverse_depth[:, 0::2] == torch.tensor(1 / 65535)).all()
    assert (inverse_depth[:, 1::2] == 0).all()


def test_images_of_another_size_can_be_asked_for(city: Path, tmp_path: Path) -> None:
    prepare("cityscapes", city, tmp_path / "out", workers=1, height=64, width=256)
    assert rows(tmp_path / "out")["segmentation"].shape == (2, 64, 256)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        ("label missing", "missing file"),
        ("image cut short", "broken file"),
        ("image is text", "broken file"),
        ("image small", "image of another size"),
        ("disparity of 8 bits", "image of another kind"),
    ],
)
def test_an_image_that_cannot_be_used_is_counted_and_the_rest_is_prepared(
    tmp_path: Path, damage: str, kind: str
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_city_image(raw, "train", "aachen/aachen_0")
    small = np.zeros((512, 1024, 3), np.uint8) if damage == "image small" else None
    grey = np.zeros((1024, 2048), np.uint8) if damage == "disparity of 8 bits" else None
    write_city_image(raw, "train", "aachen/aachen_1", image=small, disparity=grey)
    image = raw / "leftImg8bit/train/aachen/aachen_1_leftImg8bit.png"
    if damage == "label missing":
        (raw / "gtFine/train/aachen/aachen_1_gtFine_labelIds.png").unlink()
    elif damage == "image cut short":
        os.truncate(image, image.stat().st_size // 2)
    elif damage == "image is text":
        image.write_text("not found")
    report = prepare("cityscapes", raw, out, workers=1)
    assert report.counts == {kind: 1, "split without files": 1}
    problem = next(problem for problem in report.problems if problem.kind == kind)
    assert problem.source == "train/aachen/aachen_1"
    assert f"1 × {kind}" in str(report)
    assert rows(out).sources == ["train/aachen/aachen_0"]
    assert problem in open_prepared(out, "cityscapes").problems


# --- as the authors of MTAN publish it ------------------------------------------------------------


def test_arrays_of_the_mtan_authors_give_the_same_layout(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    raw, out = tmp_path / "raw", tmp_path / "out"
    image = generator.random((128, 256, 3))
    label = generator.integers(-1, 7, (128, 256)).astype(float)
    depth = generator.uniform(0, 0.5, (128, 256, 1)).astype(np.float32)
    write_mtan_image(raw, "train", 2, image=image, label=label, depth=depth)
    write_mtan_image(raw, "train", 10)
    write_mtan_image(raw, "val", 0)
    report = prepare("cityscapes", raw, out, workers=1)
    assert report.rows == {"train": 2, "val": 1}
    split = rows(out)
    assert split.sources == ["train/2", "train/10"]
    first = {name: values.read_all()[0].numpy() for name, values in split.items()}
    assert np.abs(first["image"].transpose(1, 2, 0) / 255 - image).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_array_equal(first["segmentation"], label)
    np.testing.assert_array_equal(first["inverse_depth"], depth[..., 0])


@pytest.mark.parametrize(
    ("arrays", "kind"),
    [
        ({"label": np.full((128, 256), 7.0)}, "labels out of range"),
        ({"label": np.full((128, 256), 0.5)}, "labels out of range"),
        ({"depth": np.full((128, 256, 1), np.nan)}, "labels out of range"),
        ({"depth": np.zeros((64, 256, 1))}, "image of another size"),
        ({"image": np.array([["a"]])}, "broken file"),
        ({"image": np.array([{"not": "numbers"}])}, "broken file"),
    ],
)
def test_an_array_that_cannot_be_used_is_counted(
    tmp_path: Path, arrays: dict[str, np.ndarray], kind: str
) -> None:
    for split in ("train", "val"):
        write_mtan_image(tmp_path / "raw", split, 0)
    write_mtan_image(tmp_path / "raw", "train", 1, **arrays)
    report = prepare("cityscapes", tmp_path / "raw", tmp_path / "out", workers=1)
    assert (report.counts, report.rows) == ({kind: 1}, {"train": 1, "val": 1})


# --- the same for every dataset -------------------------------------------------------------------


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cityscapes._CityScapes, "items_per_shard", 2)


@pytest.fixture
def mtan(tmp_path: Path) -> Path:
    """Seven images whose depth is all one tenth of their number."""
    for number in range(7):
        depth = np.full((128, 256, 1), number / 10)
        write_mtan_image(tmp_path / "mtan", "train" if number < 5 else "val", number, depth=depth)
    return tmp_path / "mtan"


def test_workers_give_the_same_files_as_one_process(
    mtan: Path, tmp_path: Path, small_shards: None
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    prepare("cityscapes", mtan, one, workers=1)
    prepare("cityscapes", mtan, two, workers=2)
    files = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(two) for path in two.rglob("*") if path.is_file()}
    assert len(files) == 2 + 4 * 4  # three arrays and a description of 3 + 1 shards
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_the_same_command_again_does_nothing(mtan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare("cityscapes", mtan, out, workers=1)
    before = files_below(out)
    again = prepare("cityscapes", mtan, out, workers=1)
    assert (first.already_done, again.already_done) == (False, True)
    assert "already prepared" in str(again)
    assert again.rows == first.rows
    assert {**files_below(out), str(out / UNFINISHED): 0} == {**before, str(out / UNFINISHED): 0}


def test_a_raw_tree_may_move_between_two_commands(mtan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare("cityscapes", mtan, out, workers=1)
    assert prepare("cityscapes", mtan.rename(tmp_path / "moved"), out, workers=1).already_done


def test_what_was_interrupted_goes_on_from_the_shards_that_are_there(
    mtan: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    read = Preprocessed.read

    def interrupted(self: Preprocessed, split: str, item: str):
        if item == "3":
            raise KeyboardInterrupt
        return read(self, split, item)

    monkeypatch.setattr(Preprocessed, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare("cityscapes", mtan, out, workers=1)
    there = files_below(out / "train")
    assert {path.name for path in out.iterdir()} == {PLAN_FILE, "train"}
    assert [path.name for path in (out / "train").iterdir()] == ["shard-00000"]

    monkeypatch.setattr(Preprocessed, "read", read)
    report = prepare("cityscapes", mtan, out, workers=1)
    assert not report.already_done
    assert report.rows == {"train": 5, "val": 2}
    after = files_below(out / "train")
    assert {path: after[path] for path in there} == there, "the first shard was written again"
    depth = rows(out)["inverse_depth"].read_all()[:, 0, 0]
    torch.testing.assert_close(depth, torch.arange(5) / 10)


SCRIPT = """
import os, signal, sys, time
from mtlbench.data.prepare import cityscapes, prepare
cityscapes._CityScapes.items_per_shard = 2
read = cityscapes.Preprocessed.read
def changed(self, split, item):
    {change}
    return read(self, split, item)
cityscapes.Preprocessed.read = changed
if __name__ == "__main__":  # the workers get here, too
    prepare("cityscapes", sys.argv[1], sys.argv[2], workers=int(sys.argv[3]))
"""
SAY_AND_WAIT = 'os.write(1, f"{os.getpid()}\\n".encode()); time.sleep(%s)'


def start(change: str, raw: Path, out: Path, *, workers: int) -> subprocess.Popen[str]:
    """Prepares in a process group of its own, with a line of code before each image is read."""
    script = out.with_suffix(".py")
    script.write_text(SCRIPT.format(change=change))
    return subprocess.Popen(
        [sys.executable, str(script), str(raw), str(out), str(workers)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def two_workers_of(process: subprocess.Popen[str]) -> set[int]:
    """Waits for two workers that say who they are."""
    assert process.stdout is not None
    workers: set[int] = set()
    while len(workers) < 2:
        workers.add(int(process.stdout.readline()))
    return workers


def test_what_was_killed_goes_on_and_leaves_nothing_of_the_shard_it_was_at(
    mtan: Path, tmp_path: Path, small_shards: None
) -> None:
    out = tmp_path / "out"
    change = 'if item == "3": os.kill(os.getpid(), signal.SIGKILL)'
    killed = start(change, mtan, out, workers=1)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((out / UNFINISHED).glob("train-shard-00001-*"))) == 1
    assert prepare("cityscapes", mtan, out, workers=1).rows == {"train": 5, "val": 2}
    assert {path.name for path in out.iterdir()} == {PLAN_FILE, INDEX_FILE, "train", "val"}


def test_workers_do_not_outlive_a_killed_parent(mtan: Path, tmp_path: Path) -> None:
    parent = start(SAY_AND_WAIT % 600, mtan, tmp_path / "out", workers=2)
    workers = two_workers_of(parent)
    parent.kill()
    parent.communicate(timeout=60)
    wait_until_gone(workers)


def test_an_interrupt_stops_the_workers_and_leaves_what_is_done(
    mtan: Path, tmp_path: Path, small_shards: None
) -> None:
    out = tmp_path / "out"
    parent = start(SAY_AND_WAIT % 0.3, mtan, out, workers=2)
    workers = two_workers_of(parent)
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does, to the workers, too
    error = parent.communicate(timeout=60)[1]
    assert error.count("Traceback") == 1, "the workers are to be quiet"
    assert error.rstrip().endswith("KeyboardInterrupt")
    wait_until_gone(workers)
    assert {path.name for path in out.iterdir()} <= {PLAN_FILE, "train", "val"}
    assert prepare("cityscapes", mtan, out, workers=1).rows == {"train": 5, "val": 2}


def test_a_worker_that_dies_ends_it_with_one_line(
    mtan: Path, tmp_path: Path, small_shards: None
) -> None:
    out = tmp_path / "out"
    change = 'if item == "3": os.kill(os.getpid(), signal.SIGKILL)'
    error = start(change, mtan, out, workers=2).communicate(timeout=60)[1]
    assert "UserError: a worker process was killed" in error.splitlines()[-1]
    assert not (out / UNFINISHED).exists()
    assert prepare("cityscapes", mtan, out, workers=1).rows == {"train": 5, "val": 2}


def wait_until_gone(processes: set[int]) -> None:
    end = time.monotonic() + 60
    while any(is_running(process) for process in processes):
        assert time.monotonic() < end, "a worker is still there"
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_damaged_shard_is_written_again(mtan: Path, tmp_path: Path, small_shards: None) -> None:
    out = tmp_path / "out"
    prepare("cityscapes", mtan, out, workers=1)
    whole = (out / "train/shard-00001/image.npy").read_bytes()
    (out / "train/shard-00001/image.npy").write_bytes(whole[:1000])
    assert not prepare("cityscapes", mtan, out, workers=1).already_done
    assert (out / "train/shard-00001/image.npy").read_bytes() == whole


def test_other_raw_files_or_settings_are_refused_and_nothing_is_overwritten(
    mtan: Path, city: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    prepare("cityscapes", mtan, out, workers=1)
    before = files_below(out)
    assert "was begun with layout mtan instead of published" in error_of("cityscapes", city, out)
    write_mtan_image(mtan, "train", 99)
    assert "was begun from other raw files; choose another" in error_of("cityscapes", mtan, out)
    assert files_below(out) == before


@pytest.mark.parametrize("what", ["a file", "full of other things"])
def test_an_output_that_is_something_else_is_left_alone(
    mtan: Path, tmp_path: Path, what: str
) -> None:
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("notes")
    else:
        out.mkdir()
        (out / "notes.txt").write_text("notes")
    before = files_below(tmp_path)
    assert str(out) in error_of("cityscapes", mtan, out)
    assert files_below(tmp_path) == before


def test_two_at_once_on_one_directory_do_not_harm_each_other(
    mtan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    read = Preprocessed.read
    messages = []

    def meanwhile(self: Preprocessed, split: str, item: str):
        if not messages:
            messages.append(error_of("cityscapes", mtan, out))
        return read(self, split, item)

    monkeypatch.setattr(Preprocessed, "read", meanwhile)
    assert prepare("cityscapes", mtan, out, workers=1).rows == {"train": 5, "val": 2}
    assert "is being prepared by another process" in messages[0]


def test_a_tree_with_nothing_usable_leaves_nothing_behind(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for number in range(3):
        write_mtan_image(raw, "train", number, label=np.full((128, 256), 99))
    message = error_of("cityscapes", raw, out)
    assert "nothing usable in" in message
    assert "3 × labels out of range" in message
    assert not out.exists()
    out.mkdir()
    error_of("cityscapes", raw, out)
    assert not list(out.iterdir())


def test_a_directory_without_the_dataset_says_what_was_expected(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    assert "expected leftImg8bit, gtFine and disparity" in error_of(
        "cityscapes", raw, tmp_path / "out"
    )
    (raw / "leftImg8bit").mkdir()
    (raw / "gtFine").mkdir()
    assert "has leftImg8bit, but no disparity" in error_of("cityscapes", raw, tmp_path / "out")
    (raw / "disparity").mkdir()
    assert "no images of cityscapes in" in error_of("cityscapes", raw, tmp_path / "out")
    assert "no raw directory at" in error_of("cityscapes", tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"dataset": "cityscape"}, "did you mean 'cityscapes'"),
        ({"workers": 0}, "workers must be at least 1, but is 0"),
        ({"every": 2}, "no clips"),
        ({"height": 100}, "height must divide 1024"),
    ],
)
def test_what_cannot_be_asked_for_is_named(
    city: Path, tmp_path: Path, arguments: dict[str, object], expected: str
) -> None:
    options = {"dataset": "cityscapes", **arguments}
    assert expected in error_of(options.pop("dataset"), city, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_sizes_of_the_mtan_arrays_cannot_be_chosen(mtan: Path, tmp_path: Path) -> None:
    assert "are 128 × 256" in error_of("cityscapes", mtan, tmp_path / "out", height=64)


def test_workers_need_not_wait_for_pytorch_nor_for_what_other_datasets_need() -> None:
    code = "import sys, mtlbench.data.prepare; print({'torch', 'av', 'scipy'} & set(sys.modules))"
    out = subprocess.check_output(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, text=True
    )
    assert out.strip() == "set()"


def test_progress_goes_to_standard_error_as_plain_lines(
    mtan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare("cityscapes", mtan, tmp_path / "out", workers=1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("[7/7 images] ")


def test_the_index_is_plain_json_with_what_a_reader_needs(mtan: Path, tmp_path: Path) -> None:
    prepare("cityscapes", mtan, tmp_path / "out", workers=1)
    index = json.loads((tmp_path / "out" / INDEX_FILE).read_text())
    assert index["dataset"] == "cityscapes"
    assert index["settings"] == {"layout": "mtan", "height": 128, "width": 256}
    assert index["arrays"]["segmentation"] == {"dtype": "int8", "shape": [128, 256]}
    assert index["splits"]["val"] == {"rows": 2, "shards": [{"name": "shard-00000", "rows": 2}]}
