"""Preparing SURREAL: crops, labels in the camera's axes, and clips that are broken."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat
from trees import (
    FRAME,
    clip_stem,
    colours,
    labels,
    person,
    write_clip,
    write_info,
    write_masks,
    write_video,
)

from mtlbench.data.prepare import prepare
from mtlbench.data.prepare.surreal import MOST_CLIPS_PER_SHARD, Clips, rotations_6d
from mtlbench.data.prepared import PreparedSplit, open_prepared
from mtlbench.errors import UserError
from mtlbench.models.rotations import from_6d, from_axis_angle


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def rows(out: Path, split: str = "train") -> PreparedSplit:
    return open_prepared(out, "surreal").splits[split]


def first(out: Path, name: str) -> np.ndarray:
    return rows(out)[name].read_all()[0].numpy()


# --- pictures -----------------------------------------------------------------------------------


def test_every_frame_gives_a_row_with_all_its_labels(raw: Path, out: Path) -> None:
    write_clip(raw, "01_01_c0001", person(3))
    write_clip(raw, "01_01_c0002", person(2), run=2)
    write_clip(raw, "02_05_c0001", person(2), split="val")
    write_clip(raw, "03_01_c0001", person(2), labels(2, seed=1), split="test")
    report = prepare("surreal", raw, out, workers=1)
    assert report.rows == {"train": 5, "val": 2, "test": 2}
    assert not report.problems
    assert rows(out).sources == [
        *(f"train/run0/01_01/01_01_c0001:{frame}" for frame in range(3)),
        *(f"train/run2/01_01/01_01_c0002:{frame}" for frame in range(2)),
    ]
    assert {name: (values.dtype, tuple(values.shape)) for name, values in rows(out).items()} == {
        "image": (torch.uint8, (5, 3, 256, 256)),
        "segmentation": (torch.uint8, (5, 256, 256)),
        "pose": (torch.float32, (5, 144)),
        "shape": (torch.float32, (5, 10)),
        "gender": (torch.uint8, (5,)),
    }
    assert rows(out)["gender"].read_all().tolist() == [0] * 5
    assert rows(out, "test")["gender"].read_all().tolist() == [1, 1]
    expected = labels(3)["shape"].T
    np.testing.assert_array_equal(rows(out)["shape"].read_all()[:3].numpy(), expected)


PLACES = [
    {},
    {"left": 0, "top": 0, "width": 60, "height": 230},  # at the upper left edges
    {"left": 20, "top": 200, "width": 290, "height": 40},  # wider than the frame is high
    {"left": 301, "top": 101, "width": 15, "height": 33},
]


@pytest.mark.parametrize("place", PLACES)
def test_the_person_is_in_the_middle_of_the_crop_with_a_margin(
    raw: Path, out: Path, place: dict[str, int]
) -> None:
    masks = person(1, **place)
    write_clip(raw, "01_01_c0001", masks)
    prepare("surreal", raw, out, workers=1)
    segmentation = first(out, "segmentation")
    assert set(np.unique(segmentation)) == set(range(25))
    longer = max(np.ptp(inside) + 1 for inside in np.nonzero(masks[0]))
    square = -(-int(1.2 * longer) // 8) * 8  # a tenth to either side, in steps of 8 px
    for inside in np.nonzero(segmentation):
        # The middle is off by at most 1 px of the frame, as squares begin at even ones.
        assert abs((inside.min() + inside.max()) / 2 - 127.5) <= 256 / square + 1
    side = max(np.ptp(inside) + 1 for inside in np.nonzero(segmentation))
    assert side == pytest.approx(256 * longer / square, abs=1)


@pytest.mark.parametrize("place", PLACES)
def test_image_and_segmentation_show_the_same_place(
    raw: Path, out: Path, place: dict[str, int]
) -> None:
    masks = person(1, **place)
    bright = np.where(masks[..., None] > 0, 220, 40).repeat(3, -1).astype(np.uint8)
    write_clip(raw, "01_01_c0001", masks, video=bright)
    prepare("surreal", raw, out, workers=1)
    seen = first(out, "image").mean(0) > 130
    labelled = first(out, "segmentation") > 0

    def overlap(down: int, across: int) -> float:
        moved = np.roll(labelled, (down, across), (0, 1))
        return (seen & moved).sum() / (seen | moved).sum()

    # H.264 blurs edges by less than a pixel, which is a tenth of the smallest person here.
    assert overlap(0, 0) > 0.9
    for moved in ((-3, 0), (3, 0), (0, -3), (0, 3)):
        assert overlap(*moved) < overlap(0, 0)


def test_colours_are_those_of_the_video(raw: Path, out: Path) -> None:
    masks = person(1, left=100, top=20, width=100, height=200)
    video = colours(np.minimum(masks, 1) * 20)
    write_clip(raw, "01_01_c0001", masks, video=video)
    prepare("surreal", raw, out, workers=1)
    image = first(out, "image")
    # Converting to H.264's colours and back loses a few levels.
    assert np.abs(image[:, 128, 128] - np.array([200, 50, 120])).max() <= 4
    assert np.abs(image[:, 128, 30] - np.array([90, 90, 90])).max() <= 4


def test_what_is_beyond_the_frame_is_black_background(raw: Path, out: Path) -> None:
    write_clip(raw, "01_01_c0001", person(1, left=0, top=20, width=20, height=200))
    prepare("surreal", raw, out, workers=1)
    # 200 px high: a square of 240 px around x = 10 that begins 110 px left of the frame.
    beyond = 110 * 256 // 240 - 2
    assert first(out, "image")[:, :, :beyond].max() <= 3
    assert first(out, "segmentation")[:, :beyond].max() == 0
    assert first(out, "image")[:, :, beyond + 6 :].min() > 3


def test_frames_can_be_taken_at_a_distance(raw: Path, out: Path) -> None:
    write_clip(raw, "01_01_c0001", person(5))
    prepare("surreal", raw, out, workers=1, every=2)
    assert rows(out).sources == [f"train/run0/01_01/01_01_c0001:{frame}" for frame in (0, 2, 4)]
    expected = labels(5)["shape"].T[::2]
    np.testing.assert_array_equal(rows(out)["shape"].read_all().numpy(), expected)
    with pytest.raises(UserError, match="was begun with frames every 2 instead of 1"):
        prepare("surreal", raw, out, workers=1)


def test_the_frame_of_a_row_is_the_one_that_its_labels_are_of(raw: Path, out: Path) -> None:
    masks = person(4, width=60)
    video = colours(masks)
    for frame in range(4):
        video[frame][masks[frame] > 0] = 40 + 60 * frame  # brighter and brighter
    write_clip(raw, "01_01_c0001", masks, video=video)
    prepare("surreal", raw, out, workers=1, every=3)
    images, parts = rows(out)["image"].read_all(), rows(out)["segmentation"].read_all()
    for image, part, brightness in zip(images, parts, (40, 220), strict=True):
        assert image[:, part > 0].float().mean() == pytest.approx(brightness, abs=8)


# --- rotations ----------------------------------------------------------------------------------


def test_joints_but_the_root_keep_their_rotation(raw: Path, out: Path) -> None:
    write_clip(raw, "01_01_c0001", person(2))
    prepare("surreal", raw, out, workers=1)
    stored = from_6d(rows(out)["pose"].read_all().double().unflatten(-1, (24, 6)))
    published = torch.from_numpy(labels(2)["pose"].T.astype(np.float64)).unflatten(-1, (24, 3))
    # Stored as float32, whose rounding is 6e-8 of a number up to 1.
    torch.testing.assert_close(stored[:, 1:], from_axis_angle(published)[:, 1:], rtol=0, atol=5e-7)


def published_camera(camera_location: np.ndarray) -> np.ndarray:
    """The extrinsic matrix [3, 4] of `smpl_relations.py`: the world to the camera of a video."""
    world_to_blender = np.array([[0, 0, 1], [0, -1, 0], [-1, 0, 0]]).T
    rotation = np.diag([1, -1, -1]) @ world_to_blender
    return np.column_stack([rotation, -rotation @ camera_location])


@given(
    pelvis=st.tuples(*[st.floats(-3, 3)] * 3),
    turn=st.floats(-7, 7),
    point=st.tuples(*[st.floats(-1, 1)] * 3),
)
def test_the_root_turns_a_body_as_the_published_code_does_but_for_the_mirror(
    pelvis: tuple[float, ...], turn: float, point: tuple[float, ...]
) -> None:
    pose = np.zeros((1, 72))
    pose[0, :3] = pelvis
    stored = from_6d(torch.from_numpy(rotations_6d(pose, np.array([turn])))[0, :6]).numpy()

    cosine, sine = np.cos(turn), np.sin(turn)
    vertical = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    quarter = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # about the first axis
    published = from_axis_angle(torch.tensor(pelvis, dtype=torch.float64)).numpy()
    in_world = quarter @ vertical @ published @ point
    in_video = published_camera(np.zeros(3))[:, :3] @ in_world
    np.testing.assert_allclose(stored @ point, in_video * [-1, 1, 1], atol=1e-12)
    assert np.linalg.det(stored) == pytest.approx(1)


def test_somebody_who_stands_upright_is_upright_in_the_picture() -> None:
    up = np.zeros((1, 72))
    up[0, 0] = np.pi / 2  # from SMPL's second axis, which points up a body, to the third, up
    root = from_6d(torch.from_numpy(rotations_6d(up, np.zeros(1)))[0, :6]).numpy()
    np.testing.assert_allclose(root @ [0, 1, 0], [0, -1, 0], atol=1e-12)  # the camera's up


# --- clips that are not as they should be ---------------------------------------------------------


def beside(raw: Path) -> Path:
    """Writes a whole clip, so that there is something to prepare; says where another is to be."""
    write_clip(raw, "01_01_c0001", person(2))
    return clip_stem(raw, "01_01_c0002")


def counts(raw: Path, out: Path, **options: Any) -> dict[str, int]:
    """Problems of a tree with training clips alone, and that the whole clip was prepared."""
    report = prepare("surreal", raw, out, workers=1, **options)
    assert rows(out).sources[:2] == [f"train/run0/01_01/01_01_c0001:{n}" for n in range(2)]
    found = dict(report.counts)
    assert found.pop("split without files") == 2
    for problem in report.problems:
        assert "c0001" not in problem.source
    return found


def test_a_clip_of_one_frame_is_used_although_its_arrays_lack_an_axis(raw: Path, out: Path) -> None:
    stem = beside(raw)
    info = {
        name: np.squeeze(value, -1) if name in ("pose", "shape", "joints2D") else value
        for name, value in labels(1, seed=5).items()
    }
    write_clip(raw, stem.name, person(1), info)
    assert counts(raw, out) == {"clip of one frame (used)": 1}
    stored = rows(out)["shape"][torch.tensor([2])][0].numpy()
    np.testing.assert_array_equal(stored, labels(1, seed=5)["shape"][:, 0])


@pytest.mark.parametrize("shorter", ["video", "masks", "info"])
@pytest.mark.parametrize("every", [1, 2])
def test_of_files_of_different_length_the_common_frames_are_used(
    raw: Path, out: Path, shorter: str, every: int
) -> None:
    stem = beside(raw)
    masks = person(5)
    write_clip(
        raw,
        stem.name,
        masks,
        labels(4 if shorter == "info" else 5),
        video=colours(masks[: 4 if shorter == "video" else 5]),
    )
    if shorter == "masks":
        write_masks(stem, masks[:4])
    report = prepare("surreal", raw, out, workers=1, every=every)
    frames = [source for source in rows(out).sources if "c0002" in source]
    assert [int(source.rpartition(":")[2]) for source in frames] == [*range(0, 4, every)]
    assert report.counts["lengths that differ (common frames used)"] == 1


def test_frames_without_a_person_are_skipped_and_counted(raw: Path, out: Path) -> None:
    stem = beside(raw)
    masks = person(4)
    masks[[0, 2]] = 0
    write_clip(raw, stem.name, masks)
    assert counts(raw, out) == {"frame without a person": 2}
    assert [source[-1] for source in rows(out).sources[2:]] == ["1", "3"]


def test_a_clip_that_never_shows_the_person_gives_no_row(raw: Path, out: Path) -> None:
    stem = beside(raw)
    write_clip(raw, stem.name, np.zeros((3, *FRAME), np.uint8))
    assert counts(raw, out) == {"frame without a person": 3}
    assert len(rows(out)["pose"]) == 2


def test_frames_with_labels_that_are_not_finite_are_skipped_and_counted(
    raw: Path, out: Path
) -> None:
    stem = beside(raw)
    info = labels(3)
    info["pose"][7, 1] = np.nan
    write_clip(raw, stem.name, person(3), info)
    assert counts(raw, out) == {"frame with labels not finite": 1}
    assert [source[-1] for source in rows(out).sources[2:]] == ["0", "2"]


@pytest.mark.parametrize("end", [".mp4", "_info.mat", "_segm.mat"])
def test_a_clip_with_a_file_missing_is_skipped_and_the_file_is_named(
    raw: Path, out: Path, end: str
) -> None:
    stem = beside(raw)
    write_clip(raw, stem.name, person(2))
    stem.with_name(stem.name + end).unlink()
    assert counts(raw, out) == {"missing file": 1}
    problem = open_prepared(out, "surreal").problems[-1]
    assert (problem.source, problem.detail) == (f"train/run0/01_01/{stem.name}", stem.name + end)


@pytest.mark.parametrize("index_first", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_a_video_that_is_cut_short_is_skipped(
    raw: Path, out: Path, share: float, index_first: bool
) -> None:
    stem = beside(raw)
    masks = person(6)
    noise = np.random.default_rng(0).integers(0, 256, (6, *FRAME, 3), dtype=np.uint8)
    write_clip(raw, stem.name, masks)
    file = stem.with_name(f"{stem.name}.mp4")
    write_video(file, noise, index_first=index_first)
    os.truncate(file, int(share * file.stat().st_size))
    assert counts(raw, out) == {"broken video": 1}


@pytest.mark.parametrize(
    ("end", "share"),
    [
        *(("_info.mat", share) for share in (0.0, 0.02, 0.1)),
        *(("_segm.mat", share) for share in (0.0, 0.02, 0.5, 0.99)),
    ],
)
def test_a_label_file_that_is_cut_short_is_skipped(
    raw: Path, out: Path, end: str, share: float
) -> None:
    stem = beside(raw)
    write_clip(raw, stem.name, person(3))
    file = stem.with_name(stem.name + end)
    os.truncate(file, int(share * file.stat().st_size))
    found = counts(raw, out)
    assert sum(found.values()) == 1
    assert set(found) <= {"broken file", "missing label"}


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"pose": np.array([["a", "b"]], object)}, "labels that are not numbers"),
        ({"shape": "tall"}, "labels that are not numbers"),
        ({"pose": np.zeros((71, 2))}, "labels of another shape"),
        ({"gender": np.array([[0], [3]])}, "labels out of range"),
        ({"zrot": None}, "missing label"),
    ],
)
def test_labels_that_cannot_be_used_are_counted(
    raw: Path, out: Path, changed: dict[str, Any], kind: str
) -> None:
    stem = beside(raw)
    info = {name: value for name, value in {**labels(2), **changed}.items() if value is not None}
    write_clip(raw, stem.name, person(2), info)
    assert counts(raw, out) == {kind: 1}


@pytest.mark.parametrize(
    ("masks", "kind"),
    [
        (np.full((2, *FRAME), 25, np.uint8), "labels out of range"),
        (np.ones((2, 120, 160), np.uint8), "image of another size"),
        (np.full((2, *FRAME), "x"), "labels that are not numbers"),
    ],
)
def test_parts_that_cannot_be_used_are_counted(
    raw: Path, out: Path, masks: np.ndarray, kind: str
) -> None:
    stem = beside(raw)
    write_clip(raw, stem.name, person(2))
    write_masks(stem, masks)
    assert counts(raw, out) == {kind: 1}


def test_a_video_of_another_size_is_skipped(raw: Path, out: Path) -> None:
    stem = beside(raw)
    write_clip(raw, stem.name, person(2), video=np.zeros((2, 120, 160, 3), np.uint8))
    assert counts(raw, out) == {"image of another size": 1}


# --- the tree -------------------------------------------------------------------------------------


def test_workers_give_the_same_rows_as_one_process(raw: Path, tmp_path: Path) -> None:
    for clip in range(MOST_CLIPS_PER_SHARD + 1):
        write_clip(raw, f"01_01_c{clip:04d}", person(1, left=5 * clip))
    one = prepare("surreal", raw, tmp_path / "one", workers=1, every=4)
    two = prepare("surreal", raw, tmp_path / "two", workers=2, every=4)
    assert (one.rows, one.problems) == (two.rows, two.problems)
    assert rows(tmp_path / "one").sources == rows(tmp_path / "two").sources
    for name, values in rows(tmp_path / "one").items():
        assert torch.equal(values.read_all(), rows(tmp_path / "two")[name].read_all())


def test_depth_and_flow_beside_the_clips_are_no_clips(raw: Path, out: Path) -> None:
    stem = beside(raw)
    for other in ("_depth.mat", "_gtflow.mat"):
        savemat(stem.with_name(stem.name + other), {"depth_1": np.zeros(FRAME)})
    assert Clips(raw, 1).items("train").keys() == {"run0/01_01/01_01_c0001"}
    assert counts(raw, out) == {}


def test_a_tree_with_nothing_usable_says_why_and_leaves_nothing_behind(
    raw: Path, out: Path
) -> None:
    stem = write_clip(raw, "01_01_c0001", person(2))
    write_info(stem, {"pose": np.zeros((72, 2))})
    with pytest.raises(UserError, match=r"nothing usable in .* 1 × missing label"):
        prepare("surreal", raw, out, workers=1)
    assert not out.exists()


def test_a_directory_without_the_dataset_says_what_was_expected(raw: Path, out: Path) -> None:
    raw.mkdir()
    with pytest.raises(UserError, match="expected cmu/train, cmu/val and cmu/test"):
        prepare("surreal", raw, out, workers=1)
    (raw / "cmu" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="no clips of surreal in"):
        prepare("surreal", raw, out, workers=1)
    assert not out.exists()


def test_without_pyav_the_extra_to_install_is_named(
    raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(raw, "01_01_c0001", person(1))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'mtlbench\[surreal\]'"):
        prepare("surreal", raw, out, workers=1)


@pytest.mark.parametrize("option", ["height", "width"])
def test_the_size_of_images_cannot_be_chosen(raw: Path, out: Path, option: str) -> None:
    write_clip(raw, "01_01_c0001", person(1))
    with pytest.raises(UserError, match="always 256 × 256"):
        prepare("surreal", raw, out, workers=1, **{option: 128})
