"""Small trees in the formats that CityScapes and SURREAL are published in."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.io import savemat

FRAME = (240, 320)


# --- CityScapes ---------------------------------------------------------------------------------


def write_png(path: Path, pixels: npt.NDArray[Any]) -> None:
    """An image: RGB [H, W, 3], or grey of 8 or 16 bits [H, W]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def write_city_image(
    root: Path,
    split: str,
    name: str,
    *,
    image: npt.NDArray[np.uint8] | None = None,
    ids: npt.NDArray[np.uint8] | None = None,
    disparity: npt.NDArray[np.uint16] | None = None,
) -> None:
    """One image of CityScapes with its labels, such as `aachen/aachen_000000_000019`; black, void
    and not measured where nothing is given."""
    empty = np.zeros((1024, 2048), np.uint8)
    for kind, end, pixels in (
        ("leftImg8bit", "leftImg8bit", np.dstack([empty] * 3) if image is None else image),
        ("gtFine", "gtFine_labelIds", empty if ids is None else ids),
        ("disparity", "disparity", empty.astype(np.uint16) if disparity is None else disparity),
    ):
        write_png(root / kind / split / f"{name}_{end}.png", pixels)


def write_mtan_image(
    root: Path,
    split: str,
    number: int,
    *,
    image: npt.NDArray[Any] | None = None,
    label: npt.NDArray[Any] | None = None,
    depth: npt.NDArray[Any] | None = None,
) -> None:
    """One image of CityScapes as the authors of MTAN publish it."""
    for kind, values in (
        ("image", np.zeros((128, 256, 3)) if image is None else image),
        ("label", np.zeros((128, 256)) if label is None else label),
        ("depth", np.zeros((128, 256, 1)) if depth is None else depth),
    ):
        path = root / split / kind / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values)


# --- SURREAL ------------------------------------------------------------------------------------


def write_video(
    path: Path, frames: npt.NDArray[np.uint8], *, crf: int = 4, index_first: bool = False
) -> None:
    """Frames [T, H, W, 3] as H.264, of high quality unless `crf` is larger; with the index before
    the pictures, a file that is cut short can still be opened."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "faststart"} if index_first else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options={"crf": str(crf)})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def person(
    frames: int, *, left: int = 120, top: int = 60, width: int = 40, height: int = 120
) -> npt.NDArray[np.uint8]:
    """Parts [T, 240, 320] of somebody made of 24 stripes, from the head down, who does not move."""
    masks = np.zeros((frames, *FRAME), np.uint8)
    down, across = np.mgrid[:height, :width]
    along = down / height if height > width else across / width
    masks[:, top : top + height, left : left + width] = 1 + (24 * along).astype(int)
    return masks


def colours(masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Frames [T, 240, 320, 3] that show parts [T, 240, 320] in colours of their own on grey."""
    palette = np.array([(90, 90, 90), *((10 * p, 250 - 10 * p, 120) for p in range(1, 25))])
    return palette.astype(np.uint8)[masks]


def labels(frames: int, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """What `_info.mat` holds of that many frames, drawn at random."""
    generator = np.random.default_rng(seed)
    return {
        "pose": generator.normal(0, 0.5, (72, frames)).astype(np.float32),
        "shape": np.repeat(generator.normal(0, 1, (10, 1)), frames, 1).astype(np.float32),
        "gender": np.full((frames, 1), seed % 2, np.uint8),
        "zrot": np.full((frames, 1), generator.uniform(0, 6.28), np.float32),
        "joints2D": generator.uniform(0, 240, (2, 24, frames)).astype(np.float32),
        "joints3D": generator.normal(0, 1, (3, 24, frames)).astype(np.float32),
        "camDist": np.float32(7),
        "camLoc": np.array([[7], [-1], [0]], np.float32),
        "sequence": "01_01_c0001",
        "bg": np.array([f"room_{frame}.jpg" for frame in range(frames)], object)[None],
    }


def clip_stem(root: Path, clip: str, split: str = "train", run: int = 0) -> Path:
    """Where the files of a clip such as `01_01_c0001` are, without their endings."""
    return root / "cmu" / split / f"run{run}" / clip.rpartition("_")[0] / clip


def write_clip(
    root: Path,
    clip: str,
    masks: npt.NDArray[np.uint8],
    info: dict[str, npt.NDArray[Any]] | None = None,
    *,
    split: str = "train",
    run: int = 0,
    video: npt.NDArray[np.uint8] | None = None,
    crf: int = 4,
) -> Path:
    """One clip of SURREAL of parts [T, 240, 320], and where its files are (see `clip_stem`)."""
    stem = clip_stem(root, clip, split, run)
    write_video(stem.with_name(f"{clip}.mp4"), colours(masks) if video is None else video, crf=crf)
    write_masks(stem, masks)
    write_info(stem, labels(len(masks)) if info is None else info)
    return stem


def write_masks(stem: Path, masks: npt.NDArray[Any]) -> None:
    values = {f"segm_{number + 1}": mask for number, mask in enumerate(masks)}
    savemat(stem.with_name(f"{stem.name}_segm.mat"), values, do_compression=True)


def write_info(stem: Path, info: dict[str, npt.NDArray[Any]]) -> None:
    savemat(stem.with_name(f"{stem.name}_info.mat"), info, do_compression=True)
