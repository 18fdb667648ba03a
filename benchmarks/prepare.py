"""How fast datasets are prepared, against how fast their images are decoded.

    python benchmarks/prepare.py [--clips 96] [--images 128]

Writes raw trees of CityScapes and SURREAL (a few generated images and clips under many names), then
prints images/s of decoding alone, in one process, and of preparing with one and with two workers,
from the first file to the index, start of the workers included. Decoding CityScapes is opening and
decompressing the three PNG files of an image; decoding SURREAL is decoding the video to RGB arrays,
without any label file. Of the clips, all frames count, also where only some are taken: those
between have to be decoded.

The last columns are the CPU time of all processes an image, which other people's work on the
machine disturbs less.
"""

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image

from mtlbench.data.prepare import prepare

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from trees import FRAME, clip_stem, person, write_city_image, write_clip

# The workers import this file, too: PyTorch, which scenes need, is imported only to draw them.

DIFFERENT = 4
FRAMES = 100
REPEATS = 2


def write_cities(root: Path, images: int) -> None:
    """Generated streets of 2048 × 1024, with the noise that gives a PNG of CityScapes' 2 MB."""
    from mtlbench.suites.scenes import draw_scenes

    generator = np.random.default_rng(0)
    ids = np.array([7, 11, 17, 21, 23, 24, 26], np.uint8)
    scenes = draw_scenes(DIFFERENT, 512, 1024, seed=0)

    def enlarge(pixels: np.ndarray) -> np.ndarray:
        return pixels.repeat(2, 0).repeat(2, 1)

    for number in range(DIFFERENT):
        image = enlarge(scenes.images[number].transpose(1, 2, 0))
        noise = generator.normal(0, 1.5, image.shape)
        write_city_image(
            root,
            "train",
            f"aachen/aachen_{number:06d}_000019",
            image=(image + noise).clip(0, 255).astype(np.uint8),
            ids=enlarge(ids[scenes.segmentation[number]]),
            disparity=enlarge((scenes.inverse_depth[number] * 121_000).astype(np.uint16)),
        )
    for path in list(root.glob("*/train/aachen/*.png")):
        first = int(path.name.split("_")[1])
        for number in range(first + DIFFERENT, images, DIFFERENT):
            os.link(path, path.with_name(path.name.replace(f"{first:06d}", f"{number:06d}")))


def write_clips(root: Path, clips: int) -> None:
    """Somebody with a coat of noise who walks in front of a generated street."""
    from mtlbench.suites.scenes import draw_scenes

    generator = np.random.default_rng(0)
    streets = draw_scenes(DIFFERENT, *FRAME, seed=0).images.transpose(0, 2, 3, 1)
    coat = generator.integers(60, 200, (25, 3))
    for number in range(DIFFERENT):
        masks = person(FRAMES, left=40, top=20, width=70, height=190)
        masks = np.stack([np.roll(mask, t, 1) for t, mask in enumerate(masks)])
        video = np.where(masks[..., None] > 0, coat[masks], streets[number])
        noise = generator.normal(0, 3, (FRAMES, *FRAME, 1))
        video = (video + noise).clip(0, 255).astype(np.uint8)
        stem = write_clip(root, f"01_01_c{number:04d}", masks, video=video, crf=23)
        for other in range(number + DIFFERENT, clips, DIFFERENT):
            name = clip_stem(root, f"01_01_c{other:04d}").name
            for path in list(stem.parent.glob(f"{stem.name}[._]*")):
                os.link(path, path.with_name(path.name.replace(stem.name, name)))


def decode_cities(root: Path) -> int:
    count = 0
    for path in root.glob("*/train/aachen/*.png"):
        with Image.open(path) as image:
            image.load()
        count += path.parts[-4] == "leftImg8bit"
    return count


def decode_clips(root: Path) -> int:
    count = 0
    for path in root.glob("cmu/train/run0/*/*.mp4"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                frame.to_ndarray(format="rgb24")
                count += 1
    return count


@dataclass(frozen=True)
class Speed:
    """Images/s, and CPU time an image (ms)."""

    rate: float
    cpu: float


def fastest(work: Callable[[], int]) -> Speed:
    """The best of a few times: others use the machine, too."""
    speeds = []
    for _ in range(REPEATS):
        before, started = sum(os.times()[:4]), time.perf_counter()
        count = work()
        seconds, cpu = time.perf_counter() - started, sum(os.times()[:4]) - before
        speeds.append(Speed(count / seconds, 1000 * cpu / count))
    return Speed(max(speed.rate for speed in speeds), min(speed.cpu for speed in speeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--images", type=int, default=128)
    options = parser.parse_args()

    print("| dataset | decoding alone | 1 worker | 2 workers | ratios | CPU ms an image |")
    print("| --- | --: | --: | --: | --: | --: |")
    for dataset, write, size, decode, distances in (
        ("cityscapes", write_cities, options.images, decode_cities, (None,)),
        ("surreal", write_clips, options.clips, decode_clips, (1, 10)),
    ):
        with tempfile.TemporaryDirectory() as directory:
            raw = Path(directory, "raw")
            write(raw, size)

            def prepared(
                workers: int, every: int | None, dataset: str = dataset, raw: Path = raw
            ) -> int:
                with (
                    tempfile.TemporaryDirectory(dir=raw.parent) as out,
                    redirect_stderr(io.StringIO()),
                ):
                    rows = prepare(dataset, raw, out, workers=workers, every=every).rows["train"]
                return rows * (every or 1)

            alone = fastest(lambda decode=decode, raw=raw: decode(raw))
            for every in distances:
                one, two = (fastest(partial(prepared, workers, every)) for workers in (1, 2))
                name = dataset if every in (None, 1) else f"{dataset}, every {every}th frame"
                print(
                    f"| {name} | {alone.rate:.1f} images/s | {one.rate:.1f} images/s "
                    f"| {two.rate:.1f} images/s "
                    f"| {one.rate / alone.rate:.2f}, {two.rate / alone.rate:.2f} "
                    f"| {alone.cpu:.2f}, {one.cpu:.2f}, {two.cpu:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
