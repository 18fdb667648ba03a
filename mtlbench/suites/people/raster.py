"""Rasterising meshes: pinhole projection and a depth buffer."""

from typing import NamedTuple

import torch
from torch import Tensor

# How far (as a share of a face) a pixel's centre may lie outside of it and still show it. Two faces
# with one edge are each rounded on their own, and so leave no gap.
_MARGIN = 1e-4


class Camera(NamedTuple):
    """Pinhole cameras, one a picture.

    The axes are those of a body in the rest pose: x to the right in the picture, y up, z towards
    the camera, which stands at (0, 0, distance) and looks along −z. A body that faces it has its
    left on the right of the picture. A picture is a square cut out of what the camera sees:

        column / size = ½ + zoom · (x / (distance − z) − right)
        row / size    = ½ − zoom · (y / (distance − z) − up)

    Attributes:
        distance: from the origin (m).
        zoom: 1 over the side of the picture, at 1 m from the camera.
        right, up: the middle of the picture, at 1 m from the camera (m).
    """

    distance: Tensor  # [B], as the next three
    zoom: Tensor
    right: Tensor
    up: Tensor

    def project(self, points: Tensor) -> Tensor:
        """Points [B, V, 3] (m) to columns and rows, as shares of the picture's side, and inverse
        depths (1/m): [B, V, 3]."""
        distance, zoom, right, up = (field[:, None] for field in self)
        x, y, z = points.unbind(-1)
        inverse_depth = 1 / (distance - z)
        column = 0.5 + zoom * (x * inverse_depth - right)
        row = 0.5 - zoom * (y * inverse_depth - up)
        return torch.stack((column, row, inverse_depth), -1)


class Samples(NamedTuple):
    """The pixels that show a mesh, N in all, in the order of their places.

    Attributes:
        place: [N], (picture · size + row) · size + column.
        picture: [N].
        corners: [N, 3], the vertices of the face that is seen, counted over all pictures.
        shares: [N, 3], how the point that is seen is mixed from them.
    """

    place: Tensor
    picture: Tensor
    corners: Tensor
    shares: Tensor

    def mix(self, values: Tensor) -> Tensor:
        """Values at the vertices [M, C] to values at the samples [N, C]."""
        a, b, c = (values[self.corners[:, k]] * self.shares[:, k, None] for k in range(3))
        return a + b + c

    def on_one_body(self, vertices: int) -> "Samples":
        """The same with the corners counted over the vertices of one picture."""
        return self._replace(corners=self.corners - self.picture[:, None] * vertices)

    def some(self, which: Tensor) -> "Samples":
        """Some of the samples, by number or by a mask."""
        return Samples(*(field[which] for field in self))


def rasterise(points: Tensor, faces: Tensor, size: int) -> Samples:
    """Samples of meshes at the centres of the pixels of size × size pictures.

    Args:
        points: [B, V, 3], as `Camera.project` gives them.
        faces: [F, 3], seen from where they run counter-clockwise only.
        size: height and width (px).
    """
    pictures, vertices, _ = points.shape
    corners = (faces + vertices * torch.arange(pictures)[:, None, None]).reshape(-1, 3)
    column, row, inverse_depth = (points[..., k].flatten()[corners.T] for k in range(3))
    column, row = column * size, row * size  # [3, B · F], corner by corner
    area = (column[1] - column[0]) * (row[2] - row[0]) - (column[2] - column[0]) * (row[1] - row[0])
    left, columns = _centres_within(column, size)
    top, rows = _centres_within(row, size)
    # Rows count downwards, and so the area is negative where corners run counter-clockwise.
    seen = ((area < 0) & (columns > 0) & (rows > 0)).nonzero().squeeze(1)
    column, row, inverse_depth = column[:, seen], row[:, seen], inverse_depth[:, seen]
    left, top, columns, rows = left[seen], top[seen], columns[seen], rows[seen]
    corners, picture = corners[seen], seen // len(faces)

    # Every pixel whose centre is in the rectangle around a face, face by face.
    count = columns * rows
    face = torch.repeat_interleave(count)
    within = torch.arange(len(face)) - (count.cumsum(0) - count)[face]
    down = within // columns[face]
    across = within - down * columns[face]
    # The share of a corner is linear in column and row, which count from the rectangle's first
    # centre, lest small differences of large numbers cost accuracy.
    c, r, area = column - (left + 0.5), row - (top + 0.5), area[seen]
    planes = []
    for a, b in ((1, 2), (2, 0)):
        planes += [
            (r[a] - r[b]) / area, (c[b] - c[a]) / area, (c[a] * r[b] - c[b] * r[a]) / area
        ]  # fmt: skip
    plane = torch.stack(planes)[:, face]
    first = plane[0] * across + plane[1] * down + plane[2]
    second = plane[3] * across + plane[4] * down + plane[5]
    share = torch.stack((first, second, 1 - first - second))
    inside = (share.amin(0) >= -_MARGIN).nonzero().squeeze(1)
    face, share = face[inside], share[:, inside]
    place = ((picture * size + top) * size + left)[face] + (down * size + across)[inside]

    # Inverse depth, too, is linear in the picture. Positive floats are in the order of their bits,
    # and so the greatest key is that of the nearest face; the candidate's number tells which it is.
    nearness = (share * inverse_depth[:, face]).sum(0)
    key = nearness.view(torch.int32).long() << 32 | torch.arange(1, len(face) + 1)
    buffer = torch.zeros(pictures * size * size, dtype=torch.int64)
    buffer.scatter_reduce_(0, place, key, "amax")
    place = buffer.nonzero().squeeze(1)
    winner = (buffer[place] & 0xFFFFFFFF) - 1
    face = face[winner]
    weight = share[:, winner] * inverse_depth[:, face]
    return Samples(place, picture[face], corners[face], (weight / weight.sum(0)).T)


def _centres_within(places: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The first of the pixels 0 to size − 1 whose centre lies in the span of places [3, N] (px),
    and the number of such pixels, which may be negative: [N] each."""
    first = (places.amin(0) - 0.5).ceil().clamp(0, size)
    last = (places.amax(0) - 0.5).floor().clamp(-1, size - 1)
    return first.long(), (last - first).long() + 1
