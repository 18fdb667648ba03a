"""Base of suites of people: four tasks on one picture, and the network for them."""

import functools
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.data.splits import Targets
from mtlbench.data.variants import CLEAN
from mtlbench.models.rotations import from_6d
from mtlbench.models.smpl import SMPL, BodyModel
from mtlbench.suites.augmentation import choose, draw_half
from mtlbench.suites.base import Suite
from mtlbench.suites.people import CLASSES, PALETTE, render_mesh
from mtlbench.tasks.metrics import joint_error, pixel_accuracy, surface_error
from mtlbench.tasks.task import Task, cross_entropy, squared_l2

VIEW_SIZE = 128
"""Least height and width of a drawn surface (px)."""

PARAMETER_NOISE = (-2.0, 2.0)
"""Noise that is added to shape and pose, as in the paper."""

POSE_UNIT = 0.25
SURFACE_UNIT = 0.1
"""Units of the elements of a rotation, and of coordinates (m), in the losses: about their spread,
so that the four losses are of one size, and log σ² of clean and of wrong labels lies between ±4."""


@dataclass(frozen=True, kw_only=True)
class PeopleSuite(Suite):
    """Pictures of one person each, after SURREAL as the paper uses it.

    Tasks: `segmentation` (background and 24 parts of the body, mean cross entropy over the pixels),
    `pose` (rotations of 24 joints as 6 numbers each, Zhou et al. 2019), `shape` (10 coefficients)
    and `vertices`, the surface that the body model makes of shape and pose, relative to the root
    joint (m). The last three have squared errors, averaged over the numbers of an instance.

    The labels of `vertices` follow from those of `pose` and `shape`: where these are corrupted, the
    surface is that of the wrong body. The paper does not say; a person with wrong parameters in a
    dataset has a wrong surface in it, too. Surface and joints are compared with the root joints on
    one place, since a crop does not show where in space a person stands.
    """

    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "segmentation@0.4", "pose+shape@0.4")

    view_axes: ClassVar[tuple[float, float, float]] = (1.0, 1.0, 1.0)
    """Factors of x, y and z with which they point right, up and to the camera."""

    @abstractmethod
    def body(self) -> BodyModel:
        """The body that shape and pose belong to."""

    def tasks(self) -> tuple[Task, ...]:
        segmentation = Task(
            "segmentation",
            "classification",
            loss=cross_entropy(),
            metrics=(pixel_accuracy(len(CLASSES)),),
            corruptions=("permute", "shuffle"),
            classes=CLASSES,
            palette=PALETTE,
        )
        pose, shape = (
            Task(
                name,
                "regression",
                loss=squared_l2(unit=unit),
                metrics=(),
                corruptions=("uniform", "shuffle"),
                noise=PARAMETER_NOISE,
            )
            for name, unit in (("pose", POSE_UNIT), ("shape", 1.0))
        )
        vertices = Task(
            "vertices",
            "regression",
            loss=squared_l2(unit=SURFACE_UNIT),
            metrics=(surface_error(), joint_error(self._joint_regressor)),
            corruptions=(),
            unit="m",
        )
        return segmentation, pose, shape, vertices

    def _joint_regressor(self) -> Tensor:
        return torch.tensor(self.body().joint_regressor)

    def complete(self, targets: Targets) -> Targets:
        """With the surface [B, V, 3] that follows from shape and pose."""
        shape, pose = targets["shape"], targets["pose"]
        smpl = _smpl(self, shape.device)
        with torch.no_grad():
            surface = smpl(shape, from_6d(pose.unflatten(1, (-1, 6))))
        return {**targets, "vertices": surface.vertices - surface.joints[:, :1]}

    def augment(
        self, inputs: Tensor, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, Targets]:
        """Contrast and brightness of each colour change at random by up to a fifth, and each
        picture is mirrored with probability one half, left and right limbs changing places."""
        change = torch.rand(2, len(inputs), 3, 1, 1, generator=generator) * 0.4 - 0.2
        change = change.to(inputs, non_blocking=True)
        mirrored = draw_half(len(inputs), generator, inputs.device)
        inputs = (inputs * (1 + change[0]) + change[1]).clamp(-1, 1)
        parts, pose = targets["segmentation"], targets["pose"]
        return choose(mirrored, inputs.flip(-1), inputs), {
            **targets,
            "segmentation": choose(
                mirrored, _other_side(parts.device)[parts.long()].to(parts.dtype).flip(-1), parts
            ),
            "pose": choose(mirrored, mirror_pose(pose), pose),
        }

    def views(self, inputs: Tensor, values: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """`mesh`: the surface in plain light, filling the picture."""
        faces, size = self.body().faces, max(VIEW_SIZE, inputs.shape[-1])
        axes = np.array(self.view_axes, np.float32)
        if axes.prod() < 0:  # a mirror image turns its triangles inside out
            faces = faces[:, ::-1].copy()
        vertices = values["vertices"].cpu().numpy() * axes
        meshes = [render_mesh(each, size, faces=faces) for each in vertices]
        coloured, alpha = np.split(np.stack(meshes).transpose(0, 3, 1, 2) / 255, [3], axis=1)
        return {"mesh": (255 * (coloured * alpha + 1 - alpha)).round().astype(np.uint8)}


def mirror_pose(pose: Tensor) -> Tensor:
    """The pose [B, 144] of the mirror image: joints change sides, and a rotation R becomes M R M
    with M = diag(−1, 1, 1)."""
    joints = pose.unflatten(1, (-1, 6))[:, _other_side(pose.device)[1:] - 1]
    return (joints * _signs(pose.device)).flatten(1)


# Kept on each device: to bring them there in every step would wait for all that it has still to do.


@functools.cache
def _signs(device: torch.device) -> Tensor:
    """Factors by which M R M changes the 6 numbers of a rotation R."""
    return torch.tensor([1, -1, -1, -1, 1, 1], device=device)


@functools.cache
def _other_side(device: torch.device) -> Tensor:
    """The class, background or part, that each class is in a mirror."""
    swapped = [
        name.replace("left", "*").replace("right", "left").replace("*", "right") for name in CLASSES
    ]
    return torch.tensor([CLASSES.index(name) for name in swapped], device=device)


@functools.lru_cache(maxsize=4)
def _smpl(suite: PeopleSuite, device: torch.device) -> nn.Module:
    return SMPL(suite.body()).to(device)
