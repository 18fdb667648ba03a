"""The world of a scene: its data classes, and composing one at random.

A world has x to the right, y up and z ahead, in metres, with the origin on the ground below the
camera.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import cos, pi, sin
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from mtlbench.suites.scenes.coats import (
    Coat,
    Grid,
    Random,
    Tones,
    Vector,
    any_colour,
    bodywork_end,
    bodywork_side,
    clothes,
    disc,
    facade,
    foliage,
    glazing,
    noise,
    pick,
    plain,
    scaled,
)

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
_FARTHEST = 160.0  # m; where the street ends in front of a backdrop

Metres = TypeVar("Metres", float, npt.NDArray[Any])


@dataclass(frozen=True)
class Camera:
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
    """Where light comes from and its colours, each as RGB with 1 for a fully lit white wall."""

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
    coat: Coat
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
        """How far the street moves to the right for each metre ahead."""
        return self.slope + self.bend * z

    def wall(self, side: int) -> float:
        """The lateral distance of the walls at the left (-1) or the right (1)."""
        right = side > 0
        return side * (self.kerb + self.pavements[right] + self.setbacks[right])


@dataclass(frozen=True)
class World:
    """All there is to draw."""

    camera: Camera
    street: Street
    light: Light
    panels: list[Panel]
    ground: tuple[Vector, ...]  # asphalt, paint, kerb, paving, grass, joints, parking strip
    exposure: Vector  # gain of red, green and blue
    phase: float  # where the clouds and stains begin on the noise tile


def compose(random: Random) -> World:
    street = _compose_street(random)
    light = _compose_light(random)
    camera = Camera(
        elevation=random.uniform(1.15, 2.9),
        focal=random.uniform(0.85, 1.9),
        horizon=random.uniform(0.3, 0.62),
        vanishing=random.uniform(-0.3, 0.3),
    )
    panels = [
        *_compose_backdrop(random),
        *_compose_plots(random, street, -1, light.dusk),
        *_compose_plots(random, street, 1, light.dusk),
        *_compose_traffic(random, street, light.dusk),
        *_compose_street_furniture(random, street),
        *_compose_people(random, street),
    ]
    asphalt = scaled((0.42, 0.42, 0.44), random.uniform(0.55, 1.2))
    paving = scaled((0.62, 0.58, 0.55), random.uniform(0.7, 1.25))
    grass = scaled((0.33, 0.47, 0.14), random.uniform(0.7, 1.3))
    parking = scaled(asphalt, random.uniform(0.75, 1.25))
    paint, kerb, joint = (0.92, 0.92, 0.88), scaled(paving, 1.2), scaled(paving, 0.75)
    gain, warmth = random.uniform(0.85, 1.35), random.uniform(-0.06, 0.06)
    return World(
        camera,
        street,
        light,
        panels,
        ground=(asphalt, paint, kerb, paving, grass, joint, parking),
        exposure=(gain * (1 + warmth), gain, gain * (1 - warmth)),
        phase=random.uniform(0, 50),
    )


def _compose_street(random: Random) -> Street:
    lanes, parking = int(random.integers(1, 3)), 2.3 * int(random.integers(0, 2))
    kerb = LANE * lanes + parking
    # The camera is mostly in a lane at the right, sometimes anywhere on the road.
    place = LANE * (int(random.integers(1, lanes + 1)) - 0.5) + random.uniform(-0.8, 0.8)
    if random.random() < 0.3:
        place = random.uniform(-kerb, kerb + 1)
    crossing = random.uniform(8, 70)
    left, right = (random.exponential(2.5, 2) * random.integers(0, 2, 2)).tolist()
    return Street(
        offset=-place,
        slope=random.normal(0, 0.08),
        bend=random.normal(0, 0.003),
        lanes=lanes,
        parking=parking,
        pavements=(random.uniform(1.5, 5), random.uniform(1.5, 5)),
        setbacks=(left, right),
        crossing=(crossing, crossing + random.uniform(7, 14) * int(random.integers(0, 2))),
        zebra=max(crossing - 5.5, 6.0) if random.random() < 0.6 else 2 * _FARTHEST,
        grassy=random.random() < 0.55,
        marked=random.random() < 0.8,
    )


_DAY = Light(
    towards_sun=(0.0, 1.0, 0.0),
    sun=(0.75, 0.7, 0.6),
    ambient=(0.45, 0.48, 0.54),
    zenith=(0.22, 0.46, 0.85),
    skyline=(0.75, 0.84, 0.93),
    cloud=(0.97, 0.97, 0.98),
    cloud_cover=0.4,
    visibility=400.0,
    dusk=False,
)
_OVERCAST = replace(
    _DAY,
    sun=(0.2, 0.2, 0.2),
    ambient=(0.6, 0.62, 0.65),
    zenith=(0.72, 0.75, 0.8),
    skyline=(0.82, 0.83, 0.84),
    cloud=(0.58, 0.6, 0.64),
    visibility=150.0,
)
_DUSK = replace(
    _DAY,
    sun=(0.4, 0.24, 0.12),
    ambient=(0.34, 0.32, 0.4),
    zenith=(0.16, 0.18, 0.4),
    skyline=(0.95, 0.58, 0.36),
    cloud=(0.6, 0.36, 0.42),
    dusk=True,
)


def _compose_light(random: Random) -> Light:
    azimuth, height = random.uniform(0, 2 * pi), random.uniform(0.35, 1.1)
    sunlight = (cos(height) * sin(azimuth), sin(height), cos(height) * cos(azimuth))
    hour = pick(random, (_DAY, _OVERCAST, _DUSK), (0.55, 0.25, 0.2))
    return replace(
        hour,
        towards_sun=_OVERCAST.towards_sun if hour is _OVERCAST else sunlight,
        zenith=scaled(hour.zenith, random.uniform(0.75, 1.15)),
        skyline=scaled(hour.skyline, random.uniform(0.85, 1.1)),
        cloud_cover=random.uniform(0, 0.7),
        visibility=hour.visibility * random.uniform(0.4, 1.5),
    )


def _compose_backdrop(random: Random) -> Iterator[Panel]:
    """Roofs or tree tops in front of which the street ends."""
    wooded, height, phase = random.random() < 0.5, random.uniform(6, 24), random.uniform(0, 50)
    breadth = 0.5 if wooded else 12.0  # m; of a tree top or a house
    colour = (0.2, 0.28, 0.14) if wooded else scaled((0.5, 0.45, 0.42), random.uniform(0.6, 1.2))

    def paint(along: Grid, up: Grid) -> Tones:
        outline = 0.4 + 0.6 * noise(along // breadth * breadth + phase, 0 * up, 2.0)
        return (up < height * outline).astype(np.uint8)

    label = NATURE if wooded else CONSTRUCTION
    yield _upright(0.0, _FARTHEST, 0.0, 1000.0, height, label, Coat((colour,), paint))


def _compose_plots(random: Random, street: Street, side: int, dusk: bool) -> Iterator[Panel]:
    """Houses, hedges, walls and trees along one side of the street, from near to far."""
    shares = random.dirichlet([2.2, 0.6, 0.5, 0.7, 0.4]).tolist()
    storeys, closed = random.uniform(1.5, 6), random.random() < 0.5
    begin, end = street.crossing
    z = random.uniform(-10, 1)
    while z < _FARTHEST - 10:
        length = random.uniform(7, 20) * (1 + max(z, 0) / 60)
        if z < end and z + length > begin:
            length = begin - z
        if length < 3:
            z = end
            continue
        slope = street.heading(z + length / 2)
        front = street.middle(z) + street.wall(side)
        kind = pick(random, ("house", "hedge", "wall", "trees", "open"), shares)
        if kind == "house":
            height = 3.2 * max(storeys + random.normal(0, 1), 1)
            left = front if side > 0 else front - _HOUSE_DEPTH
            yield from _house(random, (left, 0.0, z), length, height, slope, dusk)
        elif kind in ("hedge", "wall"):
            label = NATURE if kind == "hedge" else CONSTRUCTION
            coat = foliage(random, _leaf(random))
            if kind == "wall":
                coat = plain(any_colour(random, 0.3, 0.7))
            size = (1.2, random.uniform(0.8, 3.2), length)
            left = front if side > 0 else front - size[0]
            yield from _box((left, 0.0, z), size, slope, label, (coat, coat, coat))
        if kind in ("hedge", "trees"):
            for _ in range(random.integers(1, 4)):
                along = max(z + random.uniform(0, length), 5.0)
                x = street.middle(along) + street.wall(side) + side * random.uniform(1.5, 7)
                yield from _tree(random, x, along, random.uniform(5, 13))
        z += length + (0.0 if closed else random.exponential(4))


_HOUSE_DEPTH = 14.0  # m; away from the street
_WALLS = ((0.64, 0.3, 0.22), (0.85, 0.75, 0.56), (0.85, 0.85, 0.82), (0.55, 0.55, 0.56))


def _house(
    random: Random, corner: Vector, length: float, height: float, slope: float, dusk: bool
) -> Iterator[Panel]:
    wall = scaled(pick(random, _WALLS), random.uniform(0.7, 1.15))
    if random.random() < 0.3:
        wall = any_colour(random, 0.4, 0.85)
    front_wall = facade(random, height, wall, dusk)
    size, coats = (_HOUSE_DEPTH, height, length), (front_wall, front_wall, plain(wall))
    yield from _box(corner, size, slope, CONSTRUCTION, coats)
    if random.random() < 0.6:
        tile = pick(random, ((0.55, 0.26, 0.18), (0.3, 0.3, 0.34)))
        roof = plain(scaled(tile, random.uniform(0.6, 1.3)))
        # A pitched roof is a box whose two sides lean inwards until they meet.
        lean = (_HOUSE_DEPTH / 2, 0.0)
        base, size = (corner[0], height, corner[2]), (*size[:1], random.uniform(2.5, 5.5), length)
        yield from _box(base, size, slope, CONSTRUCTION, (plain(wall), roof, roof), lean)


def _box(
    corner: Vector,
    size: Vector,
    slope: float,
    label: int,
    coats: tuple[Coat, Coat, Coat],
    lean: tuple[float, float] = (0.0, 0.0),
) -> Iterator[Panel]:
    """The faces of a box that can be seen from the origin, coated as (near, left and right, top).

    The box is (width, height, length) large, and moves to the right by `slope` for each metre
    ahead. Its walls lean inwards by `lean` m at either end of its width and of its length.
    """
    (width, height, length), (across, ahead), (near, beside, top) = size, lean, coats
    heading = (slope * length, 0.0, length)
    inset = (slope * ahead, height, ahead)
    taper = ahead / length
    yield Panel(corner, (width, 0.0, 0.0), inset, label, near, across / width)
    back = scaled(heading, -1)
    yield Panel(_sum(corner, heading), back, (across, height, 0.0), label, beside, taper)
    right = _sum(corner, (width, 0.0, 0.0))
    yield Panel(right, heading, (-across, height, 0.0), label, beside, taper)
    if width > 2 * across:
        lid, breadth = _sum(corner, _sum(inset, (across, 0.0, 0.0))), width - 2 * across
        yield Panel(lid, (breadth, 0.0, 0.0), scaled(heading, 1 - 2 * taper), label, top)


def _upright(
    x: float, z: float, bottom: float, width: float, height: float, label: int, coat: Coat
) -> Panel:
    """A panel across the line of sight, with its middle at x."""
    return Panel((x - width / 2, bottom, z), (width, 0.0, 0.0), (0.0, height, 0.0), label, coat)


def _shadow(x: float, z: float, width: float, heading: Vector) -> Panel:
    """A dark patch on the ground, just high enough to cover it."""
    return Panel((x, 1e-3, z), (width, 0.0, 0.0), heading, FLAT, plain((0.1, 0.1, 0.11)))


def _sum(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _leaf(random: Random) -> Vector:
    """Green, at times with the yellow of autumn."""
    return scaled((0.3 + 0.25 * random.random() ** 4, 0.5, 0.13), random.uniform(0.6, 1.1))


def _tree(random: Random, x: float, z: float, height: float) -> Iterator[Panel]:
    trunk, width = height * random.uniform(0.2, 0.35), height * random.uniform(0.4, 0.75)
    bark = plain(scaled((0.34, 0.25, 0.18), random.uniform(0.6, 1.2)))
    yield _upright(x, z, 0.0, 0.035 * height + 0.1, trunk + 0.3 * height, NATURE, bark)
    crown = foliage(random, _leaf(random), (width, height - trunk))
    yield _upright(x, z - 0.05, trunk, width, height - trunk, NATURE, crown)


def _compose_traffic(random: Random, street: Street, dusk: bool) -> Iterator[Panel]:
    """Traffic in each lane, parked cars at the kerbs and sometimes a car that crosses."""
    begin, end = street.crossing
    for lane in range(-street.lanes, street.lanes):
        z, gap = random.uniform(5, 30), random.uniform(8, 45)
        while z < 50:
            lateral = LANE * (lane + 0.5) + random.uniform(-0.3, 0.3)
            kind = pick(random, ("car", "van", "bus"), (0.8, 0.15, 0.05))
            shining = dusk or random.random() < 0.3
            yield from _vehicle(random, street, kind, lateral, z, lane >= 0, shining)
            z += 10 + random.exponential(gap)
    for side in (-1, 1) if street.parking else ():
        z, occupied = random.uniform(2, 8), random.uniform(0.2, 0.95)
        while z < 40:
            blocking = begin - 5 < z < end
            if random.random() < occupied and not blocking:
                lateral = side * (street.kerb - 1.15)
                yield from _vehicle(random, street, "car", lateral, z, side > 0, shining=False)
            z += random.uniform(6, 8)
    if begin < end and random.random() < 0.7:
        z = begin + random.uniform(1, 4)
        yield from _crossing_car(random, random.uniform(-0.9, 0.6) * z, z)


# Width, length and height of the lower part, height of the upper part, and by how much the upper
# part leans inwards at the sides and at the ends; in metres.
_VEHICLES = {
    "car": (1.8, 4.3, 0.88, 0.6, (0.2, 0.55)),
    "van": (2.0, 5.3, 1.15, 1.1, (0.1, 0.2)),
    "bus": (2.5, 11.0, 1.3, 1.8, (0.05, 0.05)),
}


def _vehicle(
    random: Random,
    street: Street,
    kind: str,
    lateral: float,
    z: float,
    receding: bool,
    shining: bool,
) -> Iterator[Panel]:
    """A vehicle that heads along the street, away from the camera or towards it."""
    width, length, waist, roof, lean = _VEHICLES[kind]
    length, roof = length * random.uniform(0.88, 1.1), roof * random.uniform(0.88, 1.15)
    body, slope = _paintwork(random), street.heading(z)
    x = street.middle(z) + lateral - width / 2
    lamp = (0.75, 0.05, 0.05) if receding else (1.0, 0.97, 0.85)
    around = length + 0.4
    yield _shadow(x - 0.15, z - 0.2, width + 0.3, (slope * around, 0.0, around))
    end = bodywork_end(width, waist, body, lamp, shining)
    coats = (end, bodywork_side(length, waist, body), plain(body))
    yield from _box((x, 0.0, z), (width, waist, length), slope, VEHICLE, coats)
    # Cars have a bonnet before the cabin: the cabin of an oncoming one begins further back.
    bonnet = 0.2 * length if kind == "car" else 0.0
    start = 0.1 if receding else bonnet
    cabin = (width - 0.1, roof, length - bonnet - 0.15)
    panes = max(2, int(length / 2.2))
    coats = glazing(cabin[0], roof, 1, body), glazing(cabin[2], roof, panes, body), plain(body)
    base = (x + 0.05 + slope * start, waist, z + start)
    yield from _box(base, cabin, slope, VEHICLE, coats, lean)


def _crossing_car(random: Random, x: float, z: float) -> Iterator[Panel]:
    """A car seen from the side, with its left end at x."""
    width, length, waist, roof, lean = _VEHICLES["car"]
    body = _paintwork(random)
    end = bodywork_end(width, waist, body, (0.75, 0.05, 0.05), False)
    yield _shadow(x - 0.15, z - 0.25, length + 0.3, (0.0, 0.0, width + 0.4))
    coats = (bodywork_side(length, waist, body), end, plain(body))
    yield from _box((x, 0.0, z), (length, waist, width), 0.0, VEHICLE, coats)
    cabin = (0.74 * length, roof, width - 0.1)
    coats = glazing(cabin[0], roof, 2, body), glazing(cabin[2], roof, 1, body), plain(body)
    base = (x + pick(random, (0.04, 0.22)) * length, waist, z + 0.05)
    yield from _box(base, cabin, 0.0, VEHICLE, coats, (lean[1], lean[0]))


def _paintwork(random: Random) -> Vector:
    """The colour of a car: as often white, silver or black as anything brighter."""
    if random.random() < 0.5:
        return scaled((0.9, 0.9, 0.92), pick(random, (1.0, 0.75, 0.45, 0.15)))
    return any_colour(random, 0.05, 0.9)


def _compose_street_furniture(random: Random, street: Street) -> Iterator[Panel]:
    """Lamp posts, signs, traffic lights and trees along both kerbs."""
    metal = plain(scaled((0.5, 0.52, 0.53), random.uniform(0.5, 1.2)))
    for side in (-1, 1):
        shares = random.dirichlet([0.8, 0.7, 0.2, 0.4, 0.6]).tolist()
        spacing, height = random.uniform(9, 22), random.uniform(5, 9)
        z = random.uniform(4.5, 14)
        while z < 60:
            x = street.middle(z) + side * (street.kerb + 0.5)
            kind = pick(random, ("lamp", "sign", "board", "signal", "tree"), shares)
            if kind == "tree":
                yield from _tree(random, x + side * 0.6, z, height * random.uniform(0.7, 1.1))
            elif kind == "lamp":
                yield _upright(x, z, 0.0, 0.2, height, OBJECT, metal)
                yield _upright(x - side * 0.9, z, height - 0.25, 2.0, 0.25, OBJECT, metal)
            else:
                yield from _post(random, kind, x, z, metal)
            z += spacing * random.uniform(0.5, 1.3)


_WHITE, _RED, _BLUE = (0.95, 0.95, 0.95), (0.85, 0.1, 0.1), (0.1, 0.3, 0.8)
_SIGNALS = ((0.1, 0.95, 0.5), (1.0, 0.75, 0.1), (1.0, 0.12, 0.1))  # from the lowest lamp up


def _post(random: Random, kind: str, x: float, z: float, metal: Coat) -> Iterator[Panel]:
    """A traffic sign, a direction board or a traffic light on its pole."""
    height, front = random.uniform(2.2, 3.2), z - 0.05
    yield _upright(x, z, 0.0, 0.14, height, OBJECT, metal)
    if kind == "signal":
        yield _upright(x, front, height - 0.3, 0.5, 1.35, OBJECT, plain((0.06, 0.07, 0.06)))
        shining = int(random.integers(3))
        lamp = disc(0.4, _SIGNALS[shining], _SIGNALS[shining], glowing=(1, 2))
        yield _upright(x, z - 0.1, height - 0.25 + 0.43 * shining, 0.4, 0.4, OBJECT, lamp)
    elif kind == "board":
        board = plain(pick(random, ((0.1, 0.25, 0.65), (0.9, 0.8, 0.15), (0.05, 0.4, 0.25))))
        yield _upright(x, front, height, random.uniform(1.5, 3.0), 1.2, OBJECT, board)
    elif random.random() < 0.6:
        coat = disc(0.9, pick(random, (_WHITE, _RED, _BLUE)), pick(random, (_WHITE, _RED)))
        yield _upright(x, front, height - 0.2, 0.9, 0.9, OBJECT, coat)
    else:
        warning = _upright(x, front, height - 0.1, 1.0, 0.9, OBJECT, plain((0.9, 0.25, 0.15)))
        yield warning._replace(taper=0.5)


def _compose_people(random: Random, street: Street) -> Iterator[Panel]:
    """People on the pavements, some of them in the street, alone or in pairs."""
    for _ in range(random.poisson(5)):
        z, side = 4.5 + random.exponential(11), pick(random, (-1, 1))
        lateral = side * (street.kerb + random.uniform(0.1, 0.9) * street.pavements[side > 0])
        if random.random() < 0.2:
            lateral = random.uniform(-1, 1) * street.kerb
        for companion in range(random.integers(1, 3)):
            grown = random.random() < 0.85
            height = random.uniform(1.5, 1.9) if grown else random.uniform(1.0, 1.4)
            width = 0.36 * height
            x = street.middle(z) + lateral + 0.65 * companion
            yield _shadow(x - width / 2, z, width, (0.4, 0.0, 0.5))
            coat = clothes(random, width, height)
            yield _upright(x, z, 0.0, width, height, HUMAN, coat)
