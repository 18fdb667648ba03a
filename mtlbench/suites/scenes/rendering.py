"""Drawing a world into a picture: projection, depth buffer, sky and ground, light and exposure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mtlbench.suites.scenes.textures import Grid, Random, Texture, Tones, Vector, noise, remainder
from mtlbench.suites.scenes.world import FLAT, LANE, NATURE, SKY, Light, Street, StreetCamera, World

NEAREST = 5.0  # m; inverse depth stops growing here, so that it lies in [0, 0.2] 1/m

# Odd, so that the middle sample of each pixel is the pixel's centre: it gives class and depth,
# while the colour is the mean of all samples.
_SAMPLES = 3
_CLOSEST_DRAWN = 0.8  # m; what is nearer to the camera than this is cut away
# How much the surfaces of each class vary in brightness from sample to sample.
_ROUGHNESS = np.array([0.05, 0.05, 0.03, 0.16, 0.0, 0.05, 0.03], dtype=np.float32)


@dataclass(frozen=True)
class _Frame:
    """The buffers that a world is drawn into; H and W count samples, not pixels."""

    up: Grid  # [H], (y - elevation) / z
    right: Grid  # [W], x / z
    colour: Grid  # [3, H, W]
    labels: npt.NDArray[np.uint8]  # [H, W]
    inverse_depth: Grid  # [H, W], 1/m
    # [H, W], the paint that is seen, counting the tones of all views from 1; 0 where no panel is.
    paints: npt.NDArray[np.intp]


class _View(NamedTuple):
    """A panel as the camera sees it, in the terms of a frame."""

    texture: Texture
    label: int
    brightness: Grid  # [3], of a white surface
    first_paint: int  # the texture's tone 1; the paints that follow are its tones 2, 3, ...
    window: tuple[slice, slice]  # rows and columns of the samples around it
    nearest: float  # 1/m; no point of it has a greater inverse depth
    # Their sum [8, R, C] at each sample of the window is (1, m along `side`, m along `rise`) / z
    # and five values more, none of which is negative where the panel is met.
    across: Grid  # [8, 1, C]
    down: Grid  # [8, R, 1]


def render(
    world: World, height: int, width: int, grain: Random
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """The picture [3, H, W], the classes [H, W] and the inverse depth [H, W] of a world."""
    shape = (height * _SAMPLES, width * _SAMPLES)
    frame = _Frame(
        *world.camera.rays(*shape),
        colour=np.empty((3, *shape), np.float32),
        labels=np.full(shape, SKY, np.uint8),
        inverse_depth=np.zeros(shape, np.float32),
        paints=np.zeros(shape, np.intp),
    )
    _fill_sky(frame, world)
    _fill_ground(frame, world)
    _fill_panels(frame, world)
    _weather(frame, world.light, grain)
    middle = slice(_SAMPLES // 2, None, _SAMPLES)
    inverse_depth = np.minimum(frame.inverse_depth[middle, middle], 1 / NEAREST)
    return _expose(frame.colour, world.exposure, grain), frame.labels[middle, middle], inverse_depth


def _fill_sky(frame: _Frame, world: World) -> None:
    """A gradient from the skyline to the zenith, and clouds."""
    light = world.light
    right, up = frame.right, frame.up[frame.up > 0, None]
    blend = np.minimum(1.6 * up, 1) ** 0.7
    sky = _column(light.skyline) * (1 - blend) + _column(light.zenith) * blend  # [3, R, 1]
    # Clouds are farther away towards the horizon, where they look smaller in both directions.
    cells = noise(right / (up + 0.25) + world.phase, 2 * np.log(up + 0.25) + 9, 45.0)
    cloudy = np.clip((cells - 1 + light.cloud_cover) * 2, 0, 1)
    frame.colour[:, : len(up)] = sky + (_column(light.cloud) - sky) * cloudy


def _fill_ground(frame: _Frame, world: World) -> None:
    """The ground y = 0, which a ray meets where 1 / z = -up / elevation."""
    street, light = world.street, world.light
    below = slice(int((frame.up > 0).sum()), None)
    inverse = np.maximum(-frame.up[below, None] / world.camera.elevation, 1e-4)  # [R, 1], 1/m
    z = 1 / inverse
    lateral = frame.right * z - street.middle(z)
    tone = _ground_tones(lateral, z, street)
    # Houses on the sunny side throw a shadow over their side of the street.
    towards, height = light.towards_sun[0], light.towards_sun[1]
    sunny = 1 if towards > 0 else -1
    reach = abs(towards) / height * 9 * (0.6 + 0.8 * noise(z * 0 + world.phase, z // 14, 40.0))
    in_shadow = lateral * sunny > abs(street.wall(sunny)) - reach
    ground = np.array((_BLACK, *world.ground), np.float32)
    ambient, sun = np.array(light.ambient, np.float32), np.array(light.sun, np.float32)
    shaded, sunlit = ground * ambient, ground * (ambient + light.towards_sun[1] * sun)
    colours = np.concatenate([sunlit, shaded]).T
    stains = 0.88 + 0.24 * noise(lateral + world.phase, z, 4.0)
    np.multiply(colours.take(tone + in_shadow * len(ground), 1), stains, out=frame.colour[:, below])
    frame.labels[below] = np.where(tone == _GRASS, NATURE, FLAT)
    frame.inverse_depth[below] = inverse


_ASPHALT, _PAINT, _KERB, _PAVING, _GRASS, _JOINT, _PARKING = range(1, 8)


def _ground_tones(lateral: Grid, z: Grid, street: Street) -> Tones:
    """Tones [R, W] of the ground at lateral distances [R, W] and depths [R, 1]."""
    outwards, kerb = np.abs(lateral), street.kerb
    crossing = (z > street.crossing[0]) & (z < street.crossing[1])
    road = outwards < kerb
    across_joint = (remainder(outwards, 1.2) < 0.08) | (remainder(z, 1.2) < 0.08)
    tone = np.where(across_joint, np.uint8(_JOINT), np.uint8(_PAVING))
    if street.grassy:
        pavement = np.where(lateral > 0, *reversed(street.pavements))
        np.putmask(tone, outwards > kerb + pavement, _GRASS)
    np.putmask(tone, outwards < kerb + 0.2, _KERB)
    np.putmask(tone, crossing | road, _ASPHALT)
    np.putmask(tone, road & (outwards > kerb - street.parking) & ~crossing, _PARKING)
    if street.marked:
        dashes = (remainder(z, 9) < 4) & ~crossing
        from_line = np.abs(remainder(lateral + LANE / 2, LANE) - LANE / 2)
        between = (from_line < 0.09) & (outwards < (street.lanes - 0.5) * LANE)
        np.putmask(tone, between & dashes, _PAINT)
        beside = np.abs(outwards - street.lanes * LANE + 0.25) < 0.08
        np.putmask(tone, beside & ~crossing, _PAINT)
    zebra = (z > street.zebra) & (z < street.zebra + 3.5)
    np.putmask(tone, zebra & road & (remainder(lateral, 1.1) < 0.55), _PAINT)
    return tone


def _fill_panels(frame: _Frame, world: World) -> None:
    """Draw the panels of a world, then give each sample the colour of the paint it shows."""
    views = list(_views(world, frame))
    for view in views:
        _draw_panel(view, frame)
    tones = [_BLACK, *(tone for view in views for tone in view.texture.tones)]
    count = [1, *(len(view.texture.tones) for view in views)]
    light = np.repeat([np.ones(3), *(view.brightness for view in views)], count, axis=0)
    light[[view.first_paint + tone - 1 for view in views for tone in view.texture.glowing]] = 1
    colours = (np.array(tones, np.float32) * light).astype(np.float32)
    labels = np.repeat([SKY, *(view.label for view in views)], count).astype(np.uint8)
    covered = frame.paints > 0
    frame.colour[:] = np.where(covered, colours.T.take(frame.paints, 1), frame.colour)
    frame.labels[:] = np.where(covered, labels.take(frame.paints), frame.labels)


def _views(world: World, frame: _Frame) -> Iterator[_View]:
    """The panels that are seen, from near to far: what the near ones hide needs no painting."""
    camera, light, panels = world.camera, world.light, world.panels
    corner = np.array([panel.corner for panel in panels])  # [P, 3], as the next two
    side = np.array([panel.side for panel in panels])
    rise = np.array([panel.rise for panel in panels])
    taper = np.array([panel.taper for panel in panels])[:, None]
    normal = np.cross(side, rise)  # points away from whoever sees the panel
    eye = (0.0, camera.elevation, 0.0)
    distance = (normal * (corner - eye)).sum(1)
    windows, closest = _windows(camera, frame, corner, side, rise, taper)

    order = closest.argsort(kind="stable")
    top, bottom, left, right = windows.T
    seen = (distance > 1e-6) & (top < bottom) & (left < right)
    order = order[seen[order]]
    corner, side, rise, taper = corner[order], side[order], rise[order], taper[order]
    normal, distance = normal[order], distance[order]

    # A ray meets a panel where z * ray = corner + along * side + risen * rise, so the inverse of
    # the matrix (corner, side, rise) takes a ray to (1, along, risen) / z.
    scale = 1 / distance[:, None]
    inverse, along, risen = (
        scale * vector
        for vector in (normal, np.cross(rise, corner - eye), np.cross(corner - eye, side))
    )
    inside = (along - taper * risen, inverse - along - taper * risen, risen, inverse - risen)
    not_too_close = (0.0, 0.0, 1 / _CLOSEST_DRAWN) - inverse
    metres_along = along * np.linalg.norm(side, axis=1)[:, None]
    metres_risen = risen * np.linalg.norm(rise, axis=1)[:, None]
    planes = np.stack([inverse, metres_along, metres_risen, *inside, not_too_close], 1)
    x, y, z = planes.astype(np.float32).transpose(2, 0, 1)  # [P, 8] each
    across, down = x[..., None] * frame.right, y[..., None] * frame.up + z[..., None]
    # More than any point has, however it is rounded.
    nearest = 1.0001 / np.maximum(closest[order], _CLOSEST_DRAWN)

    sunshine = (normal @ light.towards_sun) / -np.linalg.norm(normal, axis=1)
    brightness = np.array(light.ambient) + np.maximum(sunshine, 0)[:, None] * light.sun
    paint = 1
    for k, window in enumerate(windows[order].tolist()):
        panel = panels[order[k]]
        rows, columns = slice(*window[:2]), slice(*window[2:])
        yield _View(
            panel.texture,
            panel.label,
            brightness[k],
            paint,
            (rows, columns),
            nearest[k],
            across[k, :, None, columns],
            down[k, :, rows, None],
        )
        paint += len(panel.texture.tones)


def _windows(
    camera: StreetCamera, frame: _Frame, corner: Grid, side: Grid, rise: Grid, taper: Grid
) -> tuple[npt.NDArray[np.int_], Grid]:
    """The ends of each panel in rows, then in columns [P, 4], and its closest z (m) [P].

    Rows and columns are those whose centres the part of the panel that is drawn spans.
    """
    start = corner[:, None] + np.stack(
        [0 * side, side, side - taper * side + rise, taper * side + rise], 1
    )  # [P, 4, 3], the corners in turn
    step = np.roll(start, -1, 1) - start
    # What is too close is cut off, which adds a corner to each edge that is cut.
    ahead = start[..., 2] >= _CLOSEST_DRAWN
    cut = ahead != np.roll(ahead, -1, 1)
    share = (_CLOSEST_DRAWN - start[..., 2]) / np.where(cut, step[..., 2], 1)
    outline = np.concatenate([start, start + share[..., None] * step], 1)  # [P, 8, 3]
    drawn = np.concatenate([ahead, cut], 1)
    height, width = len(frame.up), len(frame.right)
    with np.errstate(divide="ignore", invalid="ignore"):
        rows, columns = camera.project(outline)
    edges = []
    for place, size in ((rows * height, height), (columns * height + width / 2, width)):
        least = np.where(drawn, place, np.inf).min(1)
        most = np.where(drawn, place, -np.inf).max(1)
        edges += [np.ceil(least - 0.5).clip(0, size), np.ceil(most - 0.5).clip(0, size)]
    return np.stack(edges, 1).astype(int), start[..., 2].min(1)


def _draw_panel(view: _View, frame: _Frame) -> None:
    """Draw the part of a panel that is nearer than what the frame holds."""
    held, paints = frame.inverse_depth[view.window], frame.paints[view.window]
    if held.min() > view.nearest:
        return
    values = view.across + view.down
    visible = values[3:].min(0) >= 0
    visible &= values[0] > held
    if view.texture.paint is None:
        np.copyto(held, values[0], where=visible)
        np.copyto(paints, view.first_paint, where=visible)
        return
    inverse, along, risen = (value[visible] for value in values[:3])
    if not len(inverse):
        return
    tone = view.texture.paint(along / inverse, risen / inverse)
    painted = tone > 0
    visible[visible] = painted
    held[visible] = inverse[painted]
    paints[visible] = np.add(tone[painted], view.first_paint - 1, dtype=np.intp)


def _weather(frame: _Frame, light: Light, grain: Random) -> None:
    """Roughen the surfaces and let haze take over with distance."""
    deviation = grain.standard_normal(frame.labels.shape, dtype=np.float32)
    roughness = 1 + _ROUGHNESS[frame.labels] * deviation
    clarity = np.exp(-1 / (light.visibility * np.maximum(frame.inverse_depth, 1e-4)))
    clarity[frame.labels == SKY] = 1
    haze = _column(light.skyline)
    frame.colour[:] = (frame.colour * roughness - haze) * clarity + haze


def _expose(colour: Grid, exposure: Vector, grain: Random) -> npt.NDArray[np.uint8]:
    """Average the samples of each pixel and develop the picture [3, H, W]."""
    samples = range(_SAMPLES)
    pixels = sum(
        colour[:, row::_SAMPLES, column::_SAMPLES] for row in samples for column in samples
    )
    pixels = pixels / _SAMPLES**2 * _column(exposure)
    deviation = grain.standard_normal((*pixels.shape[1:], 3), dtype=np.float32)
    pixels += 0.012 * deviation.transpose(2, 0, 1)
    return (np.clip(pixels, 0, 1) ** 0.9 * 255).astype(np.uint8)


_BLACK: Vector = (0.0, 0.0, 0.0)


def _column(colour: Vector) -> Grid:
    """A colour as [3, 1, 1]."""
    return np.array(colour, np.float32)[:, None, None]
