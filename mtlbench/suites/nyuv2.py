"""NYUv2, the real dataset."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtlbench.data.prepared import Prepared, PreparedSplit, open_prepared
from mtlbench.data.rows import RowSubset
from mtlbench.data.splits import Data, Split, Targets
from mtlbench.data.variants import CLEAN
from mtlbench.errors import UserError
from mtlbench.models.segnet import SegNet
from mtlbench.randomness import named_generator
from mtlbench.suites.base import LOCATION, Suite, register_suite
from mtlbench.tasks.metrics import absolute_error, mean_iou, pixel_accuracy, relative_error
from mtlbench.tasks.normals import (
    cosine_distance,
    has_direction,
    mean_angle,
    median_angle,
    within_angle,
)
from mtlbench.tasks.task import Task, cross_entropy, l1

CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects",
    "painting", "sofa", "table", "TV", "wall", "window",
)  # fmt: skip
PALETTE = (
    (0, 0, 255), (233, 89, 48), (0, 218, 0), (149, 0, 240), (222, 241, 24), (255, 206, 206),
    (0, 224, 229), (106, 136, 204), (117, 29, 41), (240, 35, 235), (0, 167, 156), (249, 139, 0),
    (225, 229, 194),
)  # fmt: skip
"""Names in the order of the labels, and colours, of those who chose the 13 classes:
github.com/ankurhanda/SceneNetv1.0."""

IGNORED_CLASS = -1
NO_DEPTH = 0.0
NO_DIRECTION = 230
"""Colour of a pixel without a normal; none with one is as light a grey."""

LIMITS = (11.25, 22.5, 30.0)
"""Angles (°) below which shares of the pixels are counted."""

SCALES = (1.0, 1.2, 1.5)
"""By how much a training image is enlarged, each equally likely."""

HELD_OUT = 0.1
"""Share of the published training images that hyper-parameters are chosen on."""

LEAST_SIZE = 32
"""Height and width that the network can halve five times (px)."""


@register_suite("nyuv2", label="NYUv2")
@dataclass(frozen=True, kw_only=True)
class NYUv2(Suite):
    """Indoor scenes of NYUv2: 13 classes, depth (m) and surface normals.

    Silberman, Hoiem, Kohli, Fergus: Indoor Segmentation and Support Inference from RGBD Images,
    ECCV 2012; as three tasks with a SegNet by Liu, Johns, Davison: End-to-End Multi-Task Learning
    with Attention, CVPR 2019 (MTAN). From a directory that `mtlbench prepare nyuv2` has written.

    Tasks: `segmentation` (mean cross entropy over the pixels), `depth` (m; mean absolute error) and
    `normal` (mean of 1 − cosine), each over the pixels that have a label.

    The recipe of MTAN's code, which later works took over: Adam at 1e-4, halved after half of 200
    epochs, batches of 2; and of Nash-MTL's (Navon et al. 2022): images enlarged by 1, 1.2 or 1.5,
    cut and mirrored at random. As in their tables, the final metrics are means over the last ten
    epochs. Tests are on the 654 published validation images. Different from them: a tenth of the
    795 training images, drawn at random, is held out for validation, and metrics are over all
    pixels, not means over batches. docs/nyuv2.md has the rest.

    Attributes:
        prepared: the prepared dataset.
        channels: of the network's first level; 64 in the published code.
        compiled: whether to compile the network, which takes minutes.
    """

    epochs: int = 200
    batch_size: int = 2
    lr: float = 1e-4
    epoch_rule: str = "mean:10"
    channels: int = 64
    compiled: bool = False  # type: ignore[misc]
    prepared: str = field(default="prepared/nyuv2", metadata=LOCATION)

    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "depth@0.4", "segmentation@0.4")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("channels")

    def tasks(self) -> tuple[Task, ...]:
        segmentation = Task(
            "segmentation",
            "classification",
            loss=cross_entropy(IGNORED_CLASS),
            metrics=(mean_iou(len(CLASSES)), pixel_accuracy(len(CLASSES))),
            corruptions=("permute", "shuffle"),
            classes=CLASSES,
            palette=PALETTE,
            ignore=IGNORED_CLASS,
        )
        depth = Task(
            "depth",
            "regression",
            loss=l1(NO_DEPTH),
            metrics=(absolute_error("m"), relative_error()),
            corruptions=("uniform", "offset", "shuffle"),
            unit="m",
            ignore=NO_DEPTH,
        )
        normal = Task(
            "normal",
            "regression",
            loss=cosine_distance(),
            metrics=(mean_angle(), median_angle(), *map(within_angle, LIMITS)),
            # Noise would leave no direction of length 1, and make one where there is none.
            corruptions=("shuffle",),
            # Not used; without it all labels would be read for their range.
            noise=(-1.0, 1.0),
        )
        return segmentation, depth, normal

    def check(self) -> None:
        self._open()

    def data(self) -> Data:
        prepared = self._open()
        train, test = prepared.split("train"), prepared.split("val")
        order = torch.randperm(train.rows, generator=named_generator("nyuv2", "held out"))
        held_out = max(1, round(HELD_OUT * train.rows))
        return Data(
            _split(train, order[held_out:].sort().values),
            _split(train, order[:held_out].sort().values),
            _split(test, torch.arange(test.rows)),
        )

    def _open(self) -> Prepared:
        prepared = open_prepared(self.prepared, "nyuv2")
        height, width = prepared.settings["height"], prepared.settings["width"]
        if min(height, width) < LEAST_SIZE:
            raise UserError(
                f"images in {self.prepared!r} are {height} × {width}, but the network needs at "
                f"least {LEAST_SIZE} × {LEAST_SIZE}"
            )
        return prepared

    def model(self) -> nn.Module:
        return SegNet(
            {"segmentation": len(CLASSES), "depth": 1, "normal": 3},
            directions=("normal",),
            width=self.channels,
        )

    def lr_factor(self, progress: float) -> float:
        """One half from half of the training on."""
        return 1.0 if progress < 0.5 else 0.5

    def augment(
        self, inputs: Tensor, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, Targets]:
        """Each scene is enlarged by 1, 1.2 or 1.5 and cut to its size at a random place, so that
        it seems nearer: its depth is divided by as much. With probability one half it is mirrored,
        and its normals with it."""
        # As numbers of Python, so that nothing waits for what the device has still to do.
        draws = torch.rand(len(inputs), 4, generator=generator).tolist()
        changed = [
            _change(image, {name: labels[i] for name, labels in targets.items()}, *draws[i])
            for i, image in enumerate(inputs)
        ]
        return torch.stack([image for image, _ in changed]), {
            name: torch.stack([labels[name] for _, labels in changed]) for name in targets
        }

    def views(self, inputs: Any, values: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """`normal`: x, y and z from −1 to 1 as red, green and blue."""
        normals = values["normal"].float()
        colours = torch.where(
            has_direction(normals).unsqueeze(1), 127.5 * (normals + 1), NO_DIRECTION
        )
        return {"normal": colours.round().clamp(0, 255).to("cpu", torch.uint8).numpy()}


def _change(
    image: Tensor, labels: Targets, scale: float, down: float, across: float, mirrored: float
) -> tuple[Tensor, Targets]:
    """An image [3, H, W] and its labels, enlarged, cut and mirrored by four numbers in [0, 1).

    Colours are interpolated. Labels are those of the nearest pixel, normals too: between two walls
    there is no third direction.
    """
    height, width = image.shape[-2:]
    factor = SCALES[int(scale * len(SCALES))]
    high, wide = int(height / factor), int(width / factor)
    top, left = int(down * (height - high + 1)), int(across * (width - wide + 1))
    rows = top + _nearest(high, height, image.device).unsqueeze(1)
    columns = left + _nearest(wide, width, image.device)
    image = functional.interpolate(
        image[None, :, top : top + high, left : left + wide],
        (height, width),
        mode="bilinear",
        align_corners=True,
    )[0]
    labels = {name: label[..., rows, columns] for name, label in labels.items()}
    labels["depth"] = labels["depth"] / factor
    if mirrored < 0.5:
        image = image.flip(-1)
        labels = {name: label.flip(-1) for name, label in labels.items()}
        x, y, z = labels["normal"]
        labels["normal"] = torch.stack((-x, y, z))
    return image, labels


def _nearest(count: int, size: int, device: torch.device) -> Tensor:
    """Of each of so many places [size] the nearest among `count`, where the first and the last of
    both are the same."""
    places = torch.arange(size, device=device)
    return (2 * places * (count - 1) + size - 1) // (2 * (size - 1))


def _split(prepared: PreparedSplit, rows: Tensor) -> Split:
    return Split(
        RowSubset(prepared["image"], rows),
        {name: RowSubset(prepared[name], rows) for name in ("segmentation", "depth", "normal")},
    )
