"""Drawing people in batches, from random numbers to pictures with labels."""

from functools import cache
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from mtlbench.models.body import make_body
from mtlbench.models.rotations import from_6d, to_6d
from mtlbench.models.smpl import SMPL
from mtlbench.suites.people.looks import Looks, draw_looks
from mtlbench.suites.people.painting import paint_people, paint_rooms, vertex_normals
from mtlbench.suites.people.poses import Array, Random, draw_pose, rotations
from mtlbench.suites.people.raster import Camera, rasterise

T = TypeVar("T")

BATCH = 32
"""Number of people drawn at a time. The last bits of a sum may depend on the size of a batch
and on the place in it. A batch is always drawn whole, and so nobody depends on who else is asked
for."""

# Odd, so that the middle sample of each pixel is the pixel's centre: it gives the part, while the
# colour is the mean of all samples.
_SAMPLES = 3
_GREATEST_SHAPE = 2.5
# Pixels painted at a time, which takes some 150 MB.
_PIXELS = 2**16


class Framing(NamedTuple, Generic[T]):
    """The place of the camera and its aim, for one picture or for many."""

    distance: T  # m
    fill: T  # the share of the picture's side that the body takes in its longer direction
    right: T  # where in the room that this leaves the body is, from −½ to ½
    up: T


class PeopleBatch(NamedTuple):
    """BATCH people."""

    images: Tensor  # uint8 [BATCH, 3, H, W], RGB
    parts: Tensor  # uint8 [BATCH, H, W]
    shape: Tensor  # float32 [BATCH, 10]
    pose: Tensor  # float32 [BATCH, 144]
    cameras: Tensor  # float32 [BATCH, 4]


class _Body(NamedTuple):
    layer: SMPL
    faces: Tensor  # [F, 3]
    template: Tensor  # [V, 3]
    weights: Tensor  # [V, 24]


@cache
def _body() -> _Body:
    body = make_body()
    template, weights = (
        torch.tensor(array, dtype=torch.float32) for array in (body.template, body.weights)
    )
    return _Body(SMPL(body), torch.tensor(body.faces), template, weights)


@torch.no_grad()
def draw_batch(seed: int, first: int, size: int) -> PeopleBatch:
    """The people `first` to `first + BATCH - 1` of a seed, in pictures of size × size pixels."""
    shape, angles, framings, looks, grains = zip(
        *(_draw_person(seed, first + k, size) for k in range(BATCH)), strict=True
    )
    shapes = torch.tensor(np.array(shape), dtype=torch.float32)
    pose = to_6d(torch.tensor(rotations(np.array(angles)), dtype=torch.float32))
    body = _body()
    vertices = body.layer(shapes, from_6d(pose)).vertices
    normals = vertex_normals(vertices, body.faces)
    camera = point_camera(vertices, Framing(*torch.tensor(framings).T))
    all_looks = Looks(*(torch.stack(field) for field in zip(*looks, strict=True)))
    step = max(1, _PIXELS // size**2)
    pictures = [
        _paint(
            vertices[k : k + step],
            normals[k : k + step],
            Camera(*(field[k : k + step] for field in camera)),
            Looks(*(field[k : k + step] for field in all_looks)),
            size,
        )
        for k in range(0, BATCH, step)
    ]
    images, parts = (torch.cat(each) for each in zip(*pictures, strict=True))
    grainy = 255 * images + torch.tensor(np.array(grains))
    return PeopleBatch(
        grainy.round().clamp(0, 255).to(torch.uint8),
        parts,
        shapes,
        pose.flatten(1),
        torch.stack(camera, 1),
    )


def _draw_person(
    seed: int, index: int, size: int
) -> tuple[Array, Array, Framing[float], Looks, np.ndarray]:
    """Shape [10], angles [24, 3] (°), framing, looks and grain [3, H, W] of one picture."""
    generators = np.random.SeedSequence([seed, index]).spawn(5)
    shape, pose, framing, looks, grain = map(np.random.default_rng, generators)
    return (
        np.clip(shape.standard_normal(10), -_GREATEST_SHAPE, _GREATEST_SHAPE),
        draw_pose(pose),
        _draw_framing(framing),
        draw_looks(looks),
        grain.uniform(0.5, 5) * grain.standard_normal((3, size, size), dtype=np.float32),
    )


def _draw_framing(random: Random) -> Framing[float]:
    return Framing(*random.uniform((3.0, 0.82, -0.5, -0.5), (6.0, 0.97, 0.5, 0.5)).tolist())


def point_camera(vertices: Tensor, framing: Framing[Tensor] | Framing[float]) -> Camera:
    """Cameras that show meshes [B, V, 3] as framed, each in its own way [B] or all in one."""
    zero = torch.zeros(len(vertices))
    distance = framing.distance + zero
    # With a zoom of 1 in the middle, places in the picture are the tangents themselves.
    tangents = Camera(distance, zero + 1, zero, zero).project(vertices)[..., :2] - 0.5
    low, high = tangents.amin(1), tangents.amax(1)
    zoom = framing.fill / (high - low).amax(1)
    right, down = (low + high).T / 2
    room = (1 - framing.fill) / zoom
    return Camera(distance, zoom, right - framing.right * room, -down - framing.up * room)


def _paint(
    vertices: Tensor, normals: Tensor, camera: Camera, looks: Looks, size: int
) -> tuple[Tensor, Tensor]:
    """Images [B, 3, H, W] in [0, 1], or a little beyond, and parts [B, H, W]."""
    body, count, fine = _body(), len(vertices), size * _SAMPLES
    points = camera.project(vertices)
    samples = rasterise(points, body.faces, fine)
    row, column = samples.place // fine, samples.place % fine  # rows of all pictures
    pixel = row // _SAMPLES * size + column // _SAMPLES
    colours = paint_people(samples, normals, body.template, body.weights, looks)
    # Colours and, in the fourth place, how many samples of a pixel show the body.
    total = torch.zeros(count * size * size, 4)
    total.index_add_(0, pixel, torch.nn.functional.pad(colours, (0, 1), value=1.0))
    people, share = (total / _SAMPLES**2).view(count, size, size, 4).movedim(-1, 1).split((3, 1), 1)
    images = people + (1 - share) * paint_rooms(looks, points, size)

    middle = _SAMPLES // 2
    central = (row % _SAMPLES == middle) & (column % _SAMPLES == middle)
    shown = samples.some(central).on_one_body(vertices.shape[1])
    parts = torch.zeros(count * size * size, dtype=torch.uint8)
    parts[pixel[central]] = (1 + shown.mix(body.weights).argmax(1)).to(torch.uint8)
    return images, parts.view(count, size, size)
