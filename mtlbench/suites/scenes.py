"""Street scenes drawn from a seed, with the class and the inverse depth of every pixel.

A scene is composed in world units before anything is drawn: a camera, a street, a light and a list
of flat panels (house fronts, car doors, tree crowns, ...). The world has x to the right, y up and z
ahead, in metres, with the origin on the ground below the camera. Panels are then cast into a depth
buffer, so that colour, class and depth come from the same geometry at whatever size is asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import cos, pi, sin
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

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
NEAREST = 5.0  # m; inverse depth stops growing here, so that it lies in [0, 0.2] 1/m

# Odd, so that the middle sample of each pixel is the pixel's centre: it gives class and depth,
# while the colour is the mean of all samples.
_SAMPLES = 3
_CLOSEST_DRAWN = 0.8  # m; what is nearer to the camera than this is cut away
_LANE = 3.1  # m; width of a lane
_FARTHEST = 160.0  # m; where the street ends in front of a backdrop
# How much the surfaces of each class vary in brightness from sample to sample.
_ROUGHNESS = np.array([0.05, 0.05, 0.03, 0.16, 0.0, 0.05, 0.03], dtype=np.float32)

Random = np.random.Generator
Vector = tuple[float, float, float]
Grid = npt.NDArray[np.floating]
Tones = npt.NDArray[np.uint8]
Paint = Callable[[Grid, Grid], Tones]
T = TypeVar("T")
Metres = TypeVar("Metres", float, npt.NDArray[Any])


@dataclass(frozen=True)
class Scenes:
    """Pictures with their labels, all of one size."""

    images: npt.NDArray[np.uint8]  # [N, 3, H, W], RGB
    segmentation: npt.NDArray[np.uint8]  # [N, H, W], an index into CLASSES
    inverse_depth: npt.NDArray[np.float32]  # [N, H, W], 1/m, in [0, 0.2]; 0 for the sky


@dataclass(frozen=True)
class _Camera:
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
class _Light:
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


@dataclass(frozen=True)
class _Coat:
    """What a panel looks like: `paint` gives each point a tone, where tone 0 is see-through."""

    tones: tuple[Vector, ...]  # RGB of tone 1, 2, ...
    paint: Paint  # from metres along the two edges, [K] each, to tones [K]
    glowing: tuple[int, ...] = ()  # tones that give light of their own


@dataclass(frozen=True)
class _Panel:
    """A flat parallelogram, or a trapezium where `taper` narrows it towards its upper edge.

    It is seen only from the side from which `rise` points up when `side` points to the right.
    """

    corner: Vector
    side: Vector
    rise: Vector
    label: int
    coat: _Coat
    taper: float = 0.0  # share of `side` cut off from either end at the upper edge


@dataclass(frozen=True)
class _Street:
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
        return _LANE * self.lanes + self.parking

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
class _World:
    """All there is to draw."""

    camera: _Camera
    street: _Street
    light: _Light
    panels: list[_Panel]
    ground: tuple[Vector, ...]  # colours of the tones from _ASPHALT to _PARKING
    exposure: Vector  # gain of red, green and blue
    phase: float  # where the clouds and stains begin on the noise tile


@dataclass(frozen=True)
class _View:
    """A panel as the camera sees it, in the terms of a frame."""

    panel: _Panel
    window: tuple[slice, slice]  # rows and columns around it
    brightness: Grid  # [3], of a white surface
    # Takes a ray to (1, m along `side`, m along `rise`) / z and to five values more, none of which
    # is negative where the ray (right, up, 1) meets the panel.
    planes: Grid  # [8, 3]


@dataclass(frozen=True)
class _Frame:
    """The buffers that panels are cast into."""

    up: Grid  # [H], (y - elevation) / z
    right: Grid  # [W], x / z
    colour: Grid  # [H, W, 3]
    labels: npt.NDArray[np.uint8]  # [H, W]
    inverse_depth: Grid  # [H, W], 1/m


def draw_scenes(
    count: int, height: int = 32, width: int = 64, *, seed: int, first: int = 0
) -> Scenes:
    """Draw the scenes `first` to `first + count - 1` of a seed.

    What a scene contains depends on the seed and its index only, neither on `count` nor on the
    size; only the grain of its surfaces is drawn anew for each size.
    """
    images = np.empty((count, 3, height, width), np.uint8)
    segmentation = np.empty((count, height, width), np.uint8)
    inverse_depth = np.empty((count, height, width), np.float32)
    for position in range(count):
        contents, grain = np.random.SeedSequence([seed, first + position]).spawn(2)
        world = _compose(np.random.default_rng(contents))
        images[position], segmentation[position], inverse_depth[position] = _render(
            world, height, width, np.random.default_rng(grain)
        )
    return Scenes(images, segmentation, inverse_depth)


# --- Casting panels into a frame ---------------------------------------------------------------


def _render(
    world: _World, height: int, width: int, grain: Random
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """The picture [3, H, W], the classes [H, W] and the inverse depth [H, W] of a world."""
    shape = (height * _SAMPLES, width * _SAMPLES)
    frame = _Frame(
        *world.camera.rays(*shape),
        colour=np.empty((*shape, 3), np.float32),
        labels=np.full(shape, SKY, np.uint8),
        inverse_depth=np.zeros(shape, np.float32),
    )
    _fill_sky(frame, world)
    _fill_ground(frame, world)
    for view in _views(world, *shape):
        _cast(view, frame)
    _weather(frame, world.light, grain)
    middle = slice(_SAMPLES // 2, None, _SAMPLES)
    inverse_depth = np.minimum(frame.inverse_depth[middle, middle], 1 / NEAREST)
    return _expose(frame.colour, world.exposure, grain), frame.labels[middle, middle], inverse_depth


def _views(world: _World, height: int, width: int) -> Iterator[_View]:
    """The panels that are seen in a frame of [height, width] samples, from near to far."""
    camera, light, panels = world.camera, world.light, world.panels
    corner = np.array([panel.corner for panel in panels])  # [P, 3], as the next two
    side = np.array([panel.side for panel in panels])
    rise = np.array([panel.rise for panel in panels])
    taper = np.array([panel.taper for panel in panels])[:, None]
    outline = corner[:, None] + np.stack([0 * side, side, rise, side + rise], 1)  # [P, 4, 3]
    closest, farthest = outline[..., 2].min(1), outline[..., 2].max(1)
    eye = (0.0, camera.elevation, 0.0)
    normal = np.cross(side, rise)  # points away from whoever sees the panel
    distance = (normal * (corner - eye)).sum(1)

    # A ray meets a panel where z * ray = corner + along * side + risen * rise, so the inverse of
    # the matrix (corner, side, rise) takes a ray to (1, along, risen) / z.
    seen = (distance > 1e-6) & (farthest > _CLOSEST_DRAWN)
    scale = 1 / np.where(seen, distance, 1)[:, None]
    inverse, along, risen = (
        scale * vector
        for vector in (normal, np.cross(rise, corner - eye), np.cross(corner - eye, side))
    )
    inside = (along - taper * risen, inverse - along - taper * risen, risen, inverse - risen)
    not_too_close = (0.0, 0.0, 1 / _CLOSEST_DRAWN) - inverse
    metres_along = along * np.linalg.norm(side, axis=1)[:, None]
    metres_risen = risen * np.linalg.norm(rise, axis=1)[:, None]
    planes = np.stack([inverse, metres_along, metres_risen, *inside, not_too_close], 1)

    # What reaches behind the camera has no outline on the image, so all of the image is tried.
    bounded = (closest > _CLOSEST_DRAWN)[:, None]
    rows, columns = camera.project(np.maximum(outline, (-np.inf, -np.inf, _CLOSEST_DRAWN)))
    rows = np.clip(np.where(bounded, rows, (0, 0, 1, 1)) * height, 0, height)
    columns = np.where(bounded, columns * height + width / 2, (0, 0, width, width)).clip(0, width)
    top, bottom = rows.min(1).astype(int), np.ceil(rows.max(1)).astype(int)
    left, right = columns.min(1).astype(int), np.ceil(columns.max(1)).astype(int)
    seen &= (top < bottom) & (left < right)

    sunshine = (normal @ light.towards_sun) / -np.linalg.norm(normal, axis=1)
    brightness = np.array(light.ambient) + np.maximum(sunshine, 0)[:, None] * light.sun
    # Near panels first: what they hide then needs no painting.
    for k in closest.argsort(kind="stable"):
        if seen[k]:
            window = slice(top[k], bottom[k]), slice(left[k], right[k])
            yield _View(panels[k], window, brightness[k], planes[k].astype(np.float32))


def _cast(view: _View, frame: _Frame) -> None:
    """Draw the part of a panel that is nearer than what the frame holds."""
    rows, columns = view.window
    across, down, ahead = view.planes.T[..., None]  # [8, 1] each
    across, down = across * frame.right[columns], down * frame.up[rows] + ahead
    projected = across[:, None] + down[..., None]  # [8, R, C]
    nearer = projected[0] > frame.inverse_depth[rows, columns]
    row, column = (nearer & (projected[3:].min(0) >= 0)).nonzero()
    if not len(row):
        return
    inverse, along, risen = projected[:3, row, column]
    coat = view.panel.coat
    tone = coat.paint(along / inverse, risen / inverse)
    painted = tone > 0
    target = row[painted] + rows.start, column[painted] + columns.start
    lit = _lit(coat.tones, view.brightness, coat.glowing)
    frame.colour[target] = lit[tone[painted]]
    frame.labels[target] = view.panel.label
    frame.inverse_depth[target] = inverse[painted]


def _lit(tones: tuple[Vector, ...], brightness: Grid, glowing: tuple[int, ...] = ()) -> Grid:
    """The colours [K + 1, 3] of tone 0 (unused), 1, ... in a light of brightness [3]."""
    colours = np.array((_BLACK, *tones), np.float32)
    lit = colours * brightness
    for tone in glowing:
        lit[tone] = colours[tone]
    return lit


def _fill_sky(frame: _Frame, world: _World) -> None:
    """A gradient from the skyline to the zenith, and clouds."""
    light = world.light
    right, up = frame.right, frame.up[frame.up > 0, None]
    blend = np.minimum(1.6 * up, 1)[..., None] ** 0.7
    sky = _row(light.skyline) * (1 - blend) + _row(light.zenith) * blend
    # Clouds are farther away towards the horizon, where they look smaller in both directions.
    noise = _noise(right / (up + 0.25) + world.phase, 2 * np.log(up + 0.25) + 9, 45.0)
    cloudy = np.clip((noise - 1 + light.cloud_cover) * 2, 0, 1)[..., None]
    frame.colour[: len(up)] = sky + (_row(light.cloud) - sky) * cloudy


def _fill_ground(frame: _Frame, world: _World) -> None:
    """The ground y = 0, which a ray meets where 1 / z = -up / elevation."""
    street, light = world.street, world.light
    below = frame.up <= 0
    inverse = np.maximum(-frame.up[below, None] / world.camera.elevation, 1e-4)  # [R, 1], 1/m
    z = 1 / inverse
    lateral = frame.right * z - street.middle(z)
    tone = _ground_tones(lateral, z, street)
    # Houses on the sunny side throw a shadow over their side of the street.
    towards, height = light.towards_sun[0], light.towards_sun[1]
    sunny = 1 if towards > 0 else -1
    reach = abs(towards) / height * 9 * (0.6 + 0.8 * _noise(z * 0 + world.phase, z // 14, 40.0))
    in_shadow = lateral * sunny > abs(street.wall(sunny)) - reach
    shaded = _lit(world.ground, _row(light.ambient))
    sunlit = _lit(world.ground, _row(light.ambient) + light.towards_sun[1] * _row(light.sun))
    colours = np.concatenate([sunlit, shaded])
    stains = 0.88 + 0.24 * _noise(lateral + world.phase, z, 4.0)
    frame.colour[below] = colours[tone + in_shadow * len(shaded)] * stains[..., None]
    frame.labels[below] = np.where(tone == _GRASS, NATURE, FLAT)
    frame.inverse_depth[below] = inverse


_ASPHALT, _PAINT, _KERB, _PAVING, _GRASS, _JOINT, _PARKING = range(1, 8)


def _ground_tones(lateral: Grid, z: Grid, street: _Street) -> Tones:
    """Tones [R, W] of the ground at lateral distances [R, W] and depths [R, 1]."""
    kerb = street.kerb
    outwards = np.abs(lateral)
    pavement = np.where(lateral > 0, street.pavements[1], street.pavements[0])
    across_joint = (outwards % 1.2 < 0.08) | (z % 1.2 < 0.08)
    tone = np.where(across_joint, _JOINT, _PAVING).astype(np.uint8)
    if street.grassy:
        tone[outwards > kerb + pavement] = _GRASS
    tone[outwards < kerb + 0.2] = _KERB
    crossing = (z > street.crossing[0]) & (z < street.crossing[1])
    tone[crossing | (outwards < kerb)] = _ASPHALT
    tone[(outwards < kerb) & (outwards > kerb - street.parking) & ~crossing] = _PARKING
    if street.marked:
        dashes = (z % 9 < 4) & ~crossing
        from_line = np.abs((lateral + _LANE / 2) % _LANE - _LANE / 2)
        tone[(from_line < 0.09) & (outwards < (street.lanes - 0.5) * _LANE) & dashes] = _PAINT
        tone[(np.abs(outwards - street.lanes * _LANE + 0.25) < 0.08) & ~crossing] = _PAINT
    zebra = (z > street.zebra) & (z < street.zebra + 3.5) & (outwards < kerb)
    tone[zebra & (lateral % 1.1 < 0.55)] = _PAINT
    return tone


def _weather(frame: _Frame, light: _Light, grain: Random) -> None:
    """Roughen the surfaces and let haze take over with distance."""
    noise = grain.standard_normal(frame.labels.shape, dtype=np.float32)
    roughness = 1 + _ROUGHNESS[frame.labels] * noise
    clarity = np.exp(-1 / (light.visibility * np.maximum(frame.inverse_depth, 1e-4)))
    clarity[frame.labels == SKY] = 1
    haze = _row(light.skyline)
    frame.colour[:] = (frame.colour * roughness[..., None] - haze) * clarity[..., None] + haze


def _expose(colour: Grid, exposure: Vector, grain: Random) -> npt.NDArray[np.uint8]:
    """Average the samples of each pixel and develop the picture [3, H, W]."""
    height, width = colour.shape[0] // _SAMPLES, colour.shape[1] // _SAMPLES
    pixels = colour.reshape(height, _SAMPLES, width, _SAMPLES, 3).mean((1, 3))
    pixels *= _row(exposure)
    pixels += 0.012 * grain.standard_normal(pixels.shape, dtype=np.float32)
    return (np.clip(pixels, 0, 1) ** 0.9 * 255).astype(np.uint8).transpose(2, 0, 1)


_BLACK: Vector = (0.0, 0.0, 0.0)


def _sum(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _scaled(vector: Vector, factor: float) -> Vector:
    return vector[0] * factor, vector[1] * factor, vector[2] * factor


def _row(colour: Vector) -> Grid:
    return np.array(colour, np.float32)


def _noise_tile(size: int = 256) -> npt.NDArray[np.float32]:
    """Periodic noise [size, size], spread evenly over [0, 1), with ever weaker fine detail."""
    frequency = np.fft.fftfreq(size) * size
    radius = np.hypot(frequency[:, None], frequency)
    radius[0, 0] = np.inf
    white = np.random.default_rng(0).standard_normal((size, size))
    cloudy = np.fft.ifft2(np.fft.fft2(white) / np.maximum(radius, 5) ** 1.3).real
    ranks = cloudy.ravel().argsort().argsort().reshape(size, size)
    return (ranks / size**2).astype(np.float32)


_NOISE = _noise_tile()


def _noise(across: Grid, up: Grid, scale: float) -> Grid:
    """Noise in [0, 1) at points in metres, with `scale` cells of the tile to the metre."""
    mask = len(_NOISE) - 1
    return _NOISE[(up * scale).astype(np.int32) & mask, (across * scale).astype(np.int32) & mask]


# --- Coats -------------------------------------------------------------------------------------


def _plain(colour: Vector) -> _Coat:
    return _Coat((colour,), lambda along, up: np.ones(along.shape, np.uint8))


def _facade(random: Random, height: float, wall: Vector, dusk: bool) -> _Coat:
    """A house front with storeys of windows over shops or doors."""
    storey, bay = random.uniform(2.8, 3.8), random.uniform(1.8, 3.6)
    wide, tall = random.uniform(0.35, 0.75), random.uniform(0.4, 0.65)
    shops, phase = random.random() < 0.4, random.uniform(0, 50)
    lights = random.uniform(0.1, 0.5) if dusk else 0.0
    glass = _scaled((0.22, 0.28, 0.36), random.uniform(0.5, 1.5))
    door = _colour(random, 0.15, 0.6)
    frame = _scaled(wall, _pick(random, (0.6, 1.25)))

    def paint(along: Grid, up: Grid) -> Tones:
        column, level = np.floor(along / bay), np.floor(up / storey)
        across = np.abs(along - (column + 0.5) * bay) / bay
        upwards = np.abs(up - (level + 0.55) * storey) / storey
        ground = level == 0
        shop, entrance = ground & shops, ground & (column % 3 == 1)
        tone = np.ones(along.shape, np.uint8)
        tone[(across < wide / 2 + 0.06) & (upwards < tall / 2 + 0.06)] = 2
        window = (across < wide / 2) & (upwards < tall / 2)
        tone[window] = 3
        tone[window & (_noise(column + phase, level, 37.0) < lights)] = 4
        tone[shop & (across < 0.46) & (up < 2.5)] = 4 if dusk else 3
        tone[entrance] = 1
        tone[(shop & (up >= 2.5)) | (entrance & (across < 0.25) & (up < 2.3))] = 5
        tone[up > height - 0.4] = 2
        return tone

    return _Coat((wall, frame, glass, (1.0, 0.82, 0.45), door), paint, glowing=(4,))


def _foliage(random: Random, leaf: Vector, size: tuple[float, float] | None = None) -> _Coat:
    """Leaves in lighter and darker tufts: a crown of a width and height (m), or else a hedge."""
    phase = random.uniform(0, 50)
    tones = tuple(_scaled(leaf, brightness) for brightness in (0.45, 0.75, 1.05, 1.4))

    def paint(along: Grid, up: Grid) -> Tones:
        tufts = _noise(along + phase, up, 14.0)
        if size is None:
            return (1 + 3.99 * tufts).astype(np.uint8)
        across, upwards = 2 * along / size[0] - 1, 2 * up / size[1] - 1
        radius = across * across + upwards * upwards
        tone = np.clip(1.4 + 2.4 * tufts + 1.0 * upwards, 1, 4).astype(np.uint8)
        tone[radius + 0.55 * tufts > 1.0] = 0
        return tone

    return _Coat(tones, paint)


def _bodywork_end(width: float, height: float, body: Vector, lamp: Vector, lit: bool) -> _Coat:
    """The front or the back of a vehicle, with its lamps, number plate and wheels."""

    def paint(along: Grid, up: Grid) -> Tones:
        outwards = np.abs(along - width / 2)
        tone = np.ones(along.shape, np.uint8)
        tone[up < 0.42] = 2
        tone[(outwards > width / 2 - 0.42) & (np.abs(up - 0.68 * height) < 0.14)] = 3
        tone[(outwards < 0.28) & (np.abs(up - 0.55) < 0.08)] = 4
        tone[(up < 0.2) & (outwards < width / 2 - 0.26)] = 0
        return tone

    return _Coat((body, (0.07, 0.07, 0.08), lamp, (0.9, 0.9, 0.85)), paint, (3,) if lit else ())


def _bodywork_side(length: float, height: float, body: Vector) -> _Coat:
    """The side of a vehicle, with two wheels and a line along the doors."""
    radius = 0.33 if height < 1.05 else 0.45

    def paint(along: Grid, up: Grid) -> Tones:
        from_axle = np.minimum(np.abs(along - 0.19 * length), np.abs(along - 0.8 * length))
        squared = (from_axle**2 + (up - radius) ** 2) / radius**2
        tone = np.ones(along.shape, np.uint8)
        tone[np.abs(up - 0.75 * height) < 0.04] = 4
        tone[up < 0.22] = 0
        tone[squared < 1.2] = 2
        tone[squared < 0.3] = 3
        return tone

    return _Coat((body, (0.05, 0.05, 0.06), (0.55, 0.55, 0.58), _scaled(body, 0.6)), paint)


def _glazing(length: float, height: float, panes: int, body: Vector) -> _Coat:
    """Windows in a row, in a frame of the body's colour."""
    glass = (0.12, 0.16, 0.2)
    pane = length / panes

    def paint(along: Grid, up: Grid) -> Tones:
        window = (np.abs(along % pane - pane / 2) < pane / 2 - 0.06) & (
            np.abs(up - height / 2) < height / 2 - 0.09
        )
        return (1 + window).astype(np.uint8)

    return _Coat((body, glass), paint)


def _clothes(random: Random, width: float, height: float) -> _Coat:
    """Somebody standing or walking: head, hair, arms, body and legs."""
    stride, lean = random.uniform(0.03, 0.13), random.uniform(0.8, 1.1)
    skin = _scaled((0.85, 0.62, 0.48), random.uniform(0.45, 1.1))
    hair = _scaled((0.35, 0.22, 0.12), random.uniform(0.2, 2.0))
    shirt, trousers = _colour(random, 0.1, 0.95), _scaled(_colour(random, 0.2, 0.6), 0.7)

    def paint(along: Grid, up: Grid) -> Tones:
        across, level = np.abs(along - width / 2) / height, up / height
        tone = np.zeros(along.shape, np.uint8)
        spread = stride * (1 - level / 0.48)
        tone[(np.abs(across - 0.045 - spread) < 0.04) & (level < 0.5)] = 4
        tone[(across < 0.12 * lean) & (np.abs(level - 0.66) < 0.19)] = 3
        tone[(np.abs(across - 0.13) < 0.03) & (np.abs(level - 0.64) < 0.17)] = 3
        tone[(np.abs(across - 0.14) < 0.03) & (np.abs(level - 0.45) < 0.03)] = 1
        head = (across / 0.06) ** 2 + ((level - 0.92) / 0.08) ** 2 < 1
        tone[head] = 1
        tone[head & (level > 0.94)] = 2
        return tone

    return _Coat((skin, hair, shirt, trousers), paint)


def _disc(width: float, colour: Vector, rim: Vector, glowing: tuple[int, ...] = ()) -> _Coat:
    def paint(along: Grid, up: Grid) -> Tones:
        radius = np.hypot(along - width / 2, up - width / 2) / (width / 2)
        return np.where(radius > 1, 0, np.where(radius > 0.72, 2, 1)).astype(np.uint8)

    return _Coat((colour, rim), paint, glowing)


def _pick(random: Random, options: Sequence[T], shares: Sequence[float] | None = None) -> T:
    """One of the options, each equally likely unless their shares of 1 are given."""
    if shares is None:
        return options[int(random.integers(len(options)))]
    chance = random.random()
    for option, share in zip(options, shares, strict=True):
        chance -= share
        if chance < 0:
            return option
    return options[-1]


def _colour(random: Random, darkest: float, brightest: float) -> Vector:
    """Any hue, from nearly grey to saturated."""
    grey, tint = random.uniform(darkest, brightest), random.uniform(0, 0.6)
    red, green, blue = (grey * (1 - tint) + brightest * tint * random.random(3)).tolist()
    return red, green, blue


# --- Composing a world -------------------------------------------------------------------------


def _compose(random: Random) -> _World:
    street = _compose_street(random)
    light = _compose_light(random)
    camera = _Camera(
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
    asphalt = _scaled((0.42, 0.42, 0.44), random.uniform(0.55, 1.2))
    paving = _scaled((0.62, 0.58, 0.55), random.uniform(0.7, 1.25))
    grass = _scaled((0.33, 0.47, 0.14), random.uniform(0.7, 1.3))
    parking = _scaled(asphalt, random.uniform(0.75, 1.25))
    paint, kerb, joint = (0.92, 0.92, 0.88), _scaled(paving, 1.2), _scaled(paving, 0.75)
    gain, warmth = random.uniform(0.85, 1.35), random.uniform(-0.06, 0.06)
    return _World(
        camera,
        street,
        light,
        panels,
        ground=(asphalt, paint, kerb, paving, grass, joint, parking),
        exposure=(gain * (1 + warmth), gain, gain * (1 - warmth)),
        phase=random.uniform(0, 50),
    )


def _compose_street(random: Random) -> _Street:
    lanes, parking = int(random.integers(1, 3)), 2.3 * random.integers(0, 2)
    kerb = _LANE * lanes + parking
    # The camera is mostly in a lane at the right, sometimes anywhere on the road.
    place: float = _LANE * (random.integers(1, lanes + 1) - 0.5) + random.uniform(-0.8, 0.8)
    if random.random() < 0.3:
        place = random.uniform(-kerb, kerb + 1)
    crossing = random.uniform(8, 70)
    setbacks = random.exponential(2.5, 2) * random.integers(0, 2, 2)
    return _Street(
        offset=-place,
        slope=random.normal(0, 0.08),
        bend=random.normal(0, 0.003),
        lanes=lanes,
        parking=parking,
        pavements=(random.uniform(1.5, 5), random.uniform(1.5, 5)),
        setbacks=(setbacks[0], setbacks[1]),
        crossing=(crossing, crossing + random.uniform(7, 14) * random.integers(0, 2)),
        zebra=max(crossing - 5.5, 6.0) if random.random() < 0.6 else 2 * _FARTHEST,
        grassy=random.random() < 0.55,
        marked=random.random() < 0.8,
    )


_DAY = _Light(
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


def _compose_light(random: Random) -> _Light:
    azimuth, height = random.uniform(0, 2 * pi), random.uniform(0.35, 1.1)
    sunlight = (cos(height) * sin(azimuth), sin(height), cos(height) * cos(azimuth))
    hour = _pick(random, (_DAY, _OVERCAST, _DUSK), (0.55, 0.25, 0.2))
    return replace(
        hour,
        towards_sun=_OVERCAST.towards_sun if hour is _OVERCAST else sunlight,
        zenith=_scaled(hour.zenith, random.uniform(0.75, 1.15)),
        skyline=_scaled(hour.skyline, random.uniform(0.85, 1.1)),
        cloud_cover=random.uniform(0, 0.7),
        visibility=hour.visibility * random.uniform(0.4, 1.5),
    )


def _compose_backdrop(random: Random) -> Iterator[_Panel]:
    """Roofs or tree tops in front of which the street ends."""
    wooded, height, phase = random.random() < 0.5, random.uniform(6, 24), random.uniform(0, 50)
    breadth = 0.5 if wooded else 12.0  # m; of a tree top or a house
    colour = (0.2, 0.28, 0.14) if wooded else _scaled((0.5, 0.45, 0.42), random.uniform(0.6, 1.2))

    def paint(along: Grid, up: Grid) -> Tones:
        outline = 0.4 + 0.6 * _noise(along // breadth * breadth + phase, 0 * up, 2.0)
        return (up < height * outline).astype(np.uint8)

    label = NATURE if wooded else CONSTRUCTION
    yield _upright(0.0, _FARTHEST, 0.0, 1000.0, height, label, _Coat((colour,), paint))


def _compose_plots(random: Random, street: _Street, side: int, dusk: bool) -> Iterator[_Panel]:
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
        kind = _pick(random, ("house", "hedge", "wall", "trees", "open"), shares)
        if kind == "house":
            height = 3.2 * max(storeys + random.normal(0, 1), 1)
            left = front if side > 0 else front - _HOUSE_DEPTH
            yield from _house(random, (left, 0.0, z), length, height, slope, dusk)
        elif kind in ("hedge", "wall"):
            label = NATURE if kind == "hedge" else CONSTRUCTION
            coat = _foliage(random, _leaf(random))
            if kind == "wall":
                coat = _plain(_colour(random, 0.3, 0.7))
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
) -> Iterator[_Panel]:
    wall = _scaled(_pick(random, _WALLS), random.uniform(0.7, 1.15))
    if random.random() < 0.3:
        wall = _colour(random, 0.4, 0.85)
    facade = _facade(random, height, wall, dusk)
    size, coats = (_HOUSE_DEPTH, height, length), (facade, facade, _plain(wall))
    yield from _box(corner, size, slope, CONSTRUCTION, coats)
    if random.random() < 0.6:
        tile = _pick(random, ((0.55, 0.26, 0.18), (0.3, 0.3, 0.34)))
        roof = _plain(_scaled(tile, random.uniform(0.6, 1.3)))
        # A pitched roof is a box whose two sides lean inwards until they meet.
        lean = (_HOUSE_DEPTH / 2, 0.0)
        base, size = (corner[0], height, corner[2]), (*size[:1], random.uniform(2.5, 5.5), length)
        yield from _box(base, size, slope, CONSTRUCTION, (_plain(wall), roof, roof), lean)


def _box(
    corner: Vector,
    size: Vector,
    slope: float,
    label: int,
    coats: tuple[_Coat, _Coat, _Coat],
    lean: tuple[float, float] = (0.0, 0.0),
) -> Iterator[_Panel]:
    """The faces of a box that can be seen from the origin, coated as (near, left and right, top).

    The box is (width, height, length) large, and moves to the right by `slope` for each metre
    ahead. Its walls lean inwards by `lean` m at either end of its width and of its length.
    """
    (width, height, length), (across, ahead), (near, beside, top) = size, lean, coats
    heading = (slope * length, 0.0, length)
    inset = (slope * ahead, height, ahead)
    taper = ahead / length
    yield _Panel(corner, (width, 0.0, 0.0), inset, label, near, across / width)
    back = _scaled(heading, -1)
    yield _Panel(_sum(corner, heading), back, (across, height, 0.0), label, beside, taper)
    right = _sum(corner, (width, 0.0, 0.0))
    yield _Panel(right, heading, (-across, height, 0.0), label, beside, taper)
    if width > 2 * across:
        lid, breadth = _sum(corner, _sum(inset, (across, 0.0, 0.0))), width - 2 * across
        yield _Panel(lid, (breadth, 0.0, 0.0), _scaled(heading, 1 - 2 * taper), label, top)


def _upright(
    x: float, z: float, bottom: float, width: float, height: float, label: int, coat: _Coat
) -> _Panel:
    """A panel across the line of sight, with its middle at x."""
    return _Panel((x - width / 2, bottom, z), (width, 0.0, 0.0), (0.0, height, 0.0), label, coat)


def _shadow(x: float, z: float, width: float, heading: Vector) -> _Panel:
    """A dark patch on the ground, just high enough to cover it."""
    return _Panel((x, 1e-3, z), (width, 0.0, 0.0), heading, FLAT, _plain((0.1, 0.1, 0.11)))


def _leaf(random: Random) -> Vector:
    """Green, at times with the yellow of autumn."""
    return _scaled((0.3 + 0.25 * random.random() ** 4, 0.5, 0.13), random.uniform(0.6, 1.1))


def _tree(random: Random, x: float, z: float, height: float) -> Iterator[_Panel]:
    trunk, width = height * random.uniform(0.2, 0.35), height * random.uniform(0.4, 0.75)
    bark = _plain(_scaled((0.34, 0.25, 0.18), random.uniform(0.6, 1.2)))
    yield _upright(x, z, 0.0, 0.035 * height + 0.1, trunk + 0.3 * height, NATURE, bark)
    crown = _foliage(random, _leaf(random), (width, height - trunk))
    yield _upright(x, z - 0.05, trunk, width, height - trunk, NATURE, crown)


def _compose_traffic(random: Random, street: _Street, dusk: bool) -> Iterator[_Panel]:
    """Traffic in each lane, parked cars at the kerbs and sometimes a car that crosses."""
    begin, end = street.crossing
    for lane in range(-street.lanes, street.lanes):
        z, gap = random.uniform(5, 30), random.uniform(8, 45)
        while z < 50:
            lateral = _LANE * (lane + 0.5) + random.uniform(-0.3, 0.3)
            kind = _pick(random, ("car", "van", "bus"), (0.8, 0.15, 0.05))
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
    street: _Street,
    kind: str,
    lateral: float,
    z: float,
    receding: bool,
    shining: bool,
) -> Iterator[_Panel]:
    """A vehicle that heads along the street, away from the camera or towards it."""
    width, length, waist, roof, lean = _VEHICLES[kind]
    length, roof = length * random.uniform(0.88, 1.1), roof * random.uniform(0.88, 1.15)
    body, slope = _paintwork(random), street.heading(z)
    x = street.middle(z) + lateral - width / 2
    lamp = (0.75, 0.05, 0.05) if receding else (1.0, 0.97, 0.85)
    around = length + 0.4
    yield _shadow(x - 0.15, z - 0.2, width + 0.3, (slope * around, 0.0, around))
    end = _bodywork_end(width, waist, body, lamp, shining)
    coats = (end, _bodywork_side(length, waist, body), _plain(body))
    yield from _box((x, 0.0, z), (width, waist, length), slope, VEHICLE, coats)
    # Cars have a bonnet before the cabin: the cabin of an oncoming one begins further back.
    bonnet = 0.2 * length if kind == "car" else 0.0
    start = 0.1 if receding else bonnet
    cabin = (width - 0.1, roof, length - bonnet - 0.15)
    panes = max(2, int(length / 2.2))
    coats = _glazing(cabin[0], roof, 1, body), _glazing(cabin[2], roof, panes, body), _plain(body)
    base = (x + 0.05 + slope * start, waist, z + start)
    yield from _box(base, cabin, slope, VEHICLE, coats, lean)


def _crossing_car(random: Random, x: float, z: float) -> Iterator[_Panel]:
    """A car seen from the side, with its left end at x."""
    width, length, waist, roof, lean = _VEHICLES["car"]
    body = _paintwork(random)
    end = _bodywork_end(width, waist, body, (0.75, 0.05, 0.05), False)
    yield _shadow(x - 0.15, z - 0.25, length + 0.3, (0.0, 0.0, width + 0.4))
    coats = (_bodywork_side(length, waist, body), end, _plain(body))
    yield from _box((x, 0.0, z), (length, waist, width), 0.0, VEHICLE, coats)
    cabin = (0.74 * length, roof, width - 0.1)
    coats = _glazing(cabin[0], roof, 2, body), _glazing(cabin[2], roof, 1, body), _plain(body)
    base = (x + _pick(random, (0.04, 0.22)) * length, waist, z + 0.05)
    yield from _box(base, cabin, 0.0, VEHICLE, coats, (lean[1], lean[0]))


def _paintwork(random: Random) -> Vector:
    """The colour of a car: as often white, silver or black as anything brighter."""
    if random.random() < 0.5:
        return _scaled((0.9, 0.9, 0.92), _pick(random, (1.0, 0.75, 0.45, 0.15)))
    return _colour(random, 0.05, 0.9)


def _compose_street_furniture(random: Random, street: _Street) -> Iterator[_Panel]:
    """Lamp posts, signs, traffic lights and trees along both kerbs."""
    metal = _plain(_scaled((0.5, 0.52, 0.53), random.uniform(0.5, 1.2)))
    for side in (-1, 1):
        shares = random.dirichlet([0.8, 0.7, 0.2, 0.4, 0.6]).tolist()
        spacing, height = random.uniform(9, 22), random.uniform(5, 9)
        z = random.uniform(4.5, 14)
        while z < 60:
            x = street.middle(z) + side * (street.kerb + 0.5)
            kind = _pick(random, ("lamp", "sign", "board", "signal", "tree"), shares)
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


def _post(random: Random, kind: str, x: float, z: float, metal: _Coat) -> Iterator[_Panel]:
    """A traffic sign, a direction board or a traffic light on its pole."""
    height, front = random.uniform(2.2, 3.2), z - 0.05
    yield _upright(x, z, 0.0, 0.14, height, OBJECT, metal)
    if kind == "signal":
        yield _upright(x, front, height - 0.3, 0.5, 1.35, OBJECT, _plain((0.06, 0.07, 0.06)))
        shining = int(random.integers(3))
        lamp = _disc(0.4, _SIGNALS[shining], _SIGNALS[shining], glowing=(1, 2))
        yield _upright(x, z - 0.1, height - 0.25 + 0.43 * shining, 0.4, 0.4, OBJECT, lamp)
    elif kind == "board":
        board = _plain(_pick(random, ((0.1, 0.25, 0.65), (0.9, 0.8, 0.15), (0.05, 0.4, 0.25))))
        yield _upright(x, front, height, random.uniform(1.5, 3.0), 1.2, OBJECT, board)
    elif random.random() < 0.6:
        coat = _disc(0.9, _pick(random, (_WHITE, _RED, _BLUE)), _pick(random, (_WHITE, _RED)))
        yield _upright(x, front, height - 0.2, 0.9, 0.9, OBJECT, coat)
    else:
        warning = _upright(x, front, height - 0.1, 1.0, 0.9, OBJECT, _plain((0.9, 0.25, 0.15)))
        yield replace(warning, taper=0.5)


def _compose_people(random: Random, street: _Street) -> Iterator[_Panel]:
    """People on the pavements, some of them in the street, alone or in pairs."""
    for _ in range(random.poisson(5)):
        z, side = 4.5 + random.exponential(11), _pick(random, (-1, 1))
        lateral = side * (street.kerb + random.uniform(0.1, 0.9) * street.pavements[side > 0])
        if random.random() < 0.2:
            lateral = random.uniform(-1, 1) * street.kerb
        for companion in range(random.integers(1, 3)):
            grown = random.random() < 0.85
            height = random.uniform(1.5, 1.9) if grown else random.uniform(1.0, 1.4)
            width = 0.36 * height
            x = street.middle(z) + lateral + 0.65 * companion
            yield _shadow(x - width / 2, z, width, (0.4, 0.0, 0.5))
            clothes = _clothes(random, width, height)
            yield _upright(x, z, 0.0, width, height, HUMAN, clothes)
