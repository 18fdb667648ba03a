"""The world of a scene: its classes, camera, light, street and panels.

A world has x to the right, y up and z ahead, in metres, with the origin on the ground below the
camera.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from mtlbench.suites.scenes.textures import Grid, Texture, Vector

CLASSES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
FLAT, CONSTRUCTION, OBJECT, NATURE, SKY, HUMAN, VEHICLE = range(len(CLASSES))
PALETTE = (
    (128, 64, 128),
    (70, 70, 70),
    (153, 153, 153),
    (107, 142, 35),
    (70, 130, 180),
    (220, 20, 60),
    (0, 0, 142),
)

LANE = 3.1  # m; width of a lane
FARTHEST = 160.0  # m; where the street ends in front of a backdrop

Metres = TypeVar("Metres", float, npt.NDArray[Any])


@dataclass(frozen=True)
class StreetCamera:
    """A pinhole camera looking along z; lengths on the image are in image heights."""

    elevation: float  # m above the road
    focal: float  # image heights
    horizon: float  # row of the horizon, image heights from the top
    vanishing: float  # column of the point straight ahead, image heights from the middle

    def project(self, points: Grid) -> tuple[Grid, Grid]:
        """Rows (from the top) and columns (from the middle) of points [..., 3] in metres."""
        x, y, z = np.moveaxis(points, -1, 0)
        rows = self.horizon + self.focal * (self.elevation - y) / z
        columns = self.vanishing + self.focal * x / z
        return rows, columns

    def rays(self, height: int, width: int) -> tuple[Grid, Grid]:
        """The inverse of `project` at the centres of the pixels.

        It gives (y - elevation) / z of each row [H] and x / z of each column [W].
        """
        rows = (np.arange(height, dtype=np.float32) + 0.5) / height
        columns = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / height
        return (self.horizon - rows) / self.focal, (columns - self.vanishing) / self.focal


@dataclass(frozen=True)
class Light:
    """The direction and the colours of the light, each as RGB with 1 for a fully lit white wall."""

    towards_sun: Vector  # unit length
    sun: Vector
    ambient: Vector
    zenith: Vector
    skyline: Vector
    cloud: Vector
    cloud_cover: float  # share of the sky
    visibility: float  # m; haze hides all but 1/e at this distance
    dusk: bool


# A scene has some 200 panels: as a tuple, each is made in 0.4 rather than 1.5 µs.
class Panel(NamedTuple):
    """A flat parallelogram, or a trapezium where `taper` narrows it towards its upper edge.

    It is seen only from the side from which `rise` points up when `side` points to the right.
    """

    corner: Vector
    side: Vector
    rise: Vector
    label: int
    texture: Texture
    taper: float = 0.0  # share of `side` cut off from either end at the upper edge


@dataclass(frozen=True)
class Street:
    """A street with a bend and a cross-street; `lateral` distances (m) are from its middle."""

    offset: float  # m; x of the middle of the street beside the camera
    slope: float  # m to the right for each metre ahead, beside the camera
    bend: float  # 1/m; by how much the slope grows with each metre ahead
    lanes: int  # in each direction
    parking: float  # m; width of the parking strip at either side
    pavements: tuple[float, float]  # m; left, right
    setbacks: tuple[float, float]  # m; between the pavement and the walls, left and right
    crossing: tuple[float, float]  # m; where the cross-street begins and ends
    zebra: float  # m; where the zebra crossing begins
    grassy: bool  # beyond the pavements
    marked: bool  # with lines between the lanes

    @property
    def kerb(self) -> float:
        return LANE * self.lanes + self.parking

    def middle(self, z: Metres) -> Metres:
        """x of the middle of the street, which follows a parabola."""
        return self.offset + (self.slope + self.bend * z / 2) * z

    def heading(self, z: float) -> float:
        """Metres that the street moves to the right for each metre ahead."""
        return self.slope + self.bend * z

    def wall(self, side: int) -> float:
        """The lateral distance of the walls at the left (-1) or the right (1)."""
        right = side > 0
        return side * (self.kerb + self.pavements[right] + self.setbacks[right])


@dataclass(frozen=True)
class World:
    """All there is to draw."""

    camera: StreetCamera
    street: Street
    light: Light
    panels: list[Panel]
    ground: tuple[Vector, ...]  # asphalt, paint, kerb, paving, grass, joints, parking strip
    exposure: Vector  # gain of red, green and blue
    phase: float  # where the clouds and stains begin on the noise tile
