"""SURREAL: clips of synthetic people.

Varol et al.: Learning from Synthetic Humans, CVPR 2017.

A frame gives one row:

    image         uint8 [3, 256, 256], RGB, a square around the person; black beyond the frame
    segmentation  uint8 [256, 256], 0 background, 1–24 parts in the order of SMPL's joints
    pose          float32 [144], 6D rotations of the 24 joints (`mtlbench.models.rotations`)
    shape         float32 [10], SMPL's
    gender        uint8 [], 0 female, 1 male

The square's side is the larger side of the person's bounding box with a tenth of it to either side,
rounded up to whole 8 px; its middle is the box's. Frames that show no person give no row.

The published pose leaves out how the whole body was turned about the vertical, `zrot`, and is in
axes whose third is up. The rotation of the root is stored in axes of the camera, which is always
the same one: down is the second, away from the camera the third,

    R_root = C R_z(zrot) R_published,   C = [[0, 1, 0], [0, 0, −1], [−1, 0, 0]].

The matrix that the published code gives for the camera has determinant −1: images are mirror
images, where a person's left hand looks like a right one. They are kept as they are, so the first
axis points to the left of the image, and a point (x, y, z) is seen at −f x / z, f y / z. Where the
root's axes point changes no distance between poses or surfaces.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mtlbench.data.prepare.crops import (
    FRAME_HEIGHT,
    FRAME_WIDTH,
    SIZE,
    bounding_box,
    cut_image,
    cut_mask,
    frames,
    square_around,
)
from mtlbench.data.prepare.reader import ProblemError, Reader
from mtlbench.data.shards import Arrays, ArraySpec, Part, Problem
from mtlbench.errors import UserError, describe

PARTS = 24
SHAPES = 10

CAMERA = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])
"""C above: R90, the camera's matrix and the mirror of `datageneration/misc/smpl_relations` in
https://github.com/gulvarol/surreal, multiplied."""

FILES = (".mp4", "_info.mat", "_segm.mat")
CLIPS_PER_SHARD = 8
MOST_CLIPS_PER_SHARD = 32


@dataclass(frozen=True)
class Clips(Reader):
    """Clips of `cmu/{train,val,test}/run{0,1,2}/<sequence>`.

    Attributes:
        root: the directory that holds `cmu`.
        every: the distance of the frames to take.
    """

    root: Path
    every: int

    dataset: ClassVar[str] = "surreal"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    unit: ClassVar[str] = "clips"

    @property
    def settings(self) -> dict[str, Any]:
        return {"frames every": self.every}

    @property
    def specs(self) -> dict[str, ArraySpec]:
        return {
            "image": ArraySpec("uint8", (3, SIZE, SIZE)),
            "segmentation": ArraySpec("uint8", (SIZE, SIZE)),
            "pose": ArraySpec("float32", (6 * PARTS,)),
            "shape": ArraySpec("float32", (SHAPES,)),
            "gender": ArraySpec("uint8", ()),
        }

    @property
    def items_per_shard(self) -> int:
        return min(CLIPS_PER_SHARD * self.every, MOST_CLIPS_PER_SHARD)

    def items(self, split: str) -> dict[str, int]:
        clips: dict[str, int] = {}
        for file in sorted((self.root / "cmu" / split).glob("run[0-2]/*/*_c[0-9]*")):
            end = next((end for end in FILES if file.name.endswith(end)), None)
            if end is not None:  # not the depth nor the flow
                clip = f"{file.parent.parent.name}/{file.parent.name}/{file.name.removesuffix(end)}"
                size = file.stat().st_size if end == ".mp4" else 0
                clips[clip] = clips.get(clip, 0) + size
        return clips

    def read(self, split: str, item: str) -> Part:
        stem = self.root / "cmu" / split / item
        source = f"{split}/{item}"
        pose, shape, gender, turn = _labels(stem.with_name(f"{stem.name}_info.mat"))
        length = len(pose)
        usable = np.isfinite(np.column_stack([pose, shape, turn])).all(1)
        masks = _masks(stem.with_name(f"{stem.name}_segm.mat"), length, self.every)

        most = -(-length // self.every)
        images = np.empty((most, 3, SIZE, SIZE), np.uint8)
        segmentations = np.empty((most, SIZE, SIZE), np.uint8)
        rows: list[int] = []
        empty: list[int] = []
        decoded = 0
        for number, frame in enumerate(frames(stem.with_name(f"{stem.name}.mp4"))):
            decoded = number + 1
            if number not in masks or number >= length or not usable[number]:
                continue
            box = bounding_box(masks[number])
            if box is None:
                empty.append(number)
                continue
            left, top, side = square_around(*box)
            cut_image(frame, left, top, side, out=images[len(rows)])
            segmentations[len(rows)] = cut_mask(masks[number], left, top, side)
            rows.append(number)

        problems = []
        if length == 1:
            problems.append(Problem(source, "clip of one frame (used)"))
        common = range(0, min(length, decoded), self.every)
        masks_fit = length not in masks and masks.keys() >= set(common)
        if decoded != length or not masks_fit:
            lengths = f"video {decoded}, labels {length}"
            lengths += "" if masks_fit else f", segmentation not {length}"
            problems.append(Problem(source, "lengths that differ (common frames used)", lengths))
        for numbers, kind in (
            ([number for number in common if not usable[number]], "frame with labels not finite"),
            (empty, "frame without a person"),
        ):
            if numbers:
                detail = "frames " + ", ".join(map(str, numbers))
                problems.append(Problem(source, kind, detail, len(numbers)))

        arrays: Arrays = {
            "image": images[: len(rows)],
            "segmentation": segmentations[: len(rows)],
            "pose": rotations_6d(pose[rows], turn[rows]).astype(np.float32),
            "shape": shape[rows].astype(np.float32),
            "gender": gender[rows].astype(np.uint8),
        }
        return Part(arrays, [f"{source}:{number}" for number in rows], problems)


def detect(root: Path, every: int) -> Clips:
    """The reader for a directory.

    Raises:
        UserError: it is not SURREAL's, or the package that decodes video is missing.
    """
    if not any((root / "cmu" / split).is_dir() for split in Clips.splits):
        raise UserError(f"no SURREAL in {str(root)!r}: expected cmu/train, cmu/val and cmu/test")
    try:
        import av  # noqa: F401
    except ImportError:
        raise UserError("SURREAL's videos need PyAV: pip install 'mtlbench[surreal]'") from None
    return Clips(root, every)


# --- labels -------------------------------------------------------------------------------------


def _load(path: Path, names: list[str]) -> dict[str, npt.NDArray[Any]]:
    """Those of these variables that a .mat file has, all of them numbers."""
    from scipy.io import loadmat

    try:
        with path.open("rb") as file:
            found = loadmat(file, variable_names=names)
    except FileNotFoundError:
        raise ProblemError("missing file", path.name) from None
    except Exception as error:  # for a damaged file SciPy raises almost anything
        raise ProblemError("broken file", f"{path.name}: {describe(error)}") from error
    values = {name: found[name] for name in names if name in found}
    for name, value in values.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            raise ProblemError("labels that are not numbers", f"{name} in {path.name}")
    return values


def _labels(path: Path) -> tuple[npt.NDArray[Any], ...]:
    """Pose [T, 72], shape [T, 10], gender [T] and turn about the vertical [T] (rad)."""
    sizes = {"pose": 3 * PARTS, "shape": SHAPES, "gender": 1, "zrot": 1}
    found = _load(path, list(sizes))
    labels = []
    for name, size in sizes.items():
        if name not in found:
            raise ProblemError("missing label", f"{name} in {path.name}")
        values = found[name]
        if size == 1:
            values = values.reshape(1, -1)
        elif values.size == size:  # a single frame, whose axis may be gone
            values = values.reshape(size, 1)
        if values.ndim != 2 or len(values) != size:
            raise ProblemError("labels of another shape", f"{name} in {path.name}: {values.shape}")
        labels.append(values.T)
    length = min(len(values) for values in labels)
    pose, shape, gender, turn = (values[:length].astype(np.float64) for values in labels)
    if not np.isin(gender, (0, 1)).all():
        raise ProblemError("labels out of range", f"gender in {path.name}")
    return pose, shape, gender[:, 0], turn[:, 0]


def _masks(path: Path, length: int, every: int) -> dict[int, npt.NDArray[np.uint8]]:
    """Number of each frame to take, and of the one after the last, to its parts [240, 320]."""
    numbers = [*range(0, length, every), length]
    found = _load(path, [f"segm_{number + 1}" for number in numbers])
    masks = {}
    for number in numbers:
        name = f"segm_{number + 1}"
        if name not in found:
            continue
        mask = found[name]
        if mask.shape != (FRAME_HEIGHT, FRAME_WIDTH):
            raise ProblemError("image of another size", f"{name} in {path.name} is {mask.shape}")
        if not 0 <= mask.min() <= mask.max() <= PARTS:
            raise ProblemError("labels out of range", f"{name} in {path.name}")
        masks[number] = mask.astype(np.uint8, copy=False)
    return masks


def rotations_6d(
    pose: npt.NDArray[np.float64], turn: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """6D rotations [n, 144] of axes times angles [n, 72] (rad), the root turned about the vertical
    by so much [n] (rad) and in axes of the camera."""
    from scipy.spatial.transform import Rotation

    joints = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(-1, PARTS, 3, 3)
    vertical = Rotation.from_rotvec(turn[:, None] * [0.0, 0, 1]).as_matrix()
    joints[:, 0] = CAMERA @ vertical @ joints[:, 0]
    return joints[..., :2].swapaxes(-1, -2).reshape(-1, 6 * PARTS)
