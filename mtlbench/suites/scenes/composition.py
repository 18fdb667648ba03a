"""Composing a world at random."""

from dataclasses import replace
from math import cos, pi, sin

from mtlbench.suites.scenes.buildings import compose_backdrop, compose_plots
from mtlbench.suites.scenes.pavements import compose_furniture, compose_pedestrians
from mtlbench.suites.scenes.textures import Random, pick, scaled
from mtlbench.suites.scenes.traffic import compose_traffic
from mtlbench.suites.scenes.world import FARTHEST, LANE, Light, Street, StreetCamera, World


def compose(random: Random) -> World:
    """A street with all that stands and moves there."""
    street = _compose_street(random)
    light = _compose_light(random)
    camera = StreetCamera(
        elevation=random.uniform(1.15, 2.9),
        focal=random.uniform(0.85, 1.9),
        horizon=random.uniform(0.3, 0.62),
        vanishing=random.uniform(-0.3, 0.3),
    )
    panels = [
        *compose_backdrop(random),
        *compose_plots(random, street, -1, light.dusk),
        *compose_plots(random, street, 1, light.dusk),
        *compose_traffic(random, street, light.dusk),
        *compose_furniture(random, street),
        *compose_pedestrians(random, street),
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
        zebra=max(crossing - 5.5, 6.0) if random.random() < 0.6 else 2 * FARTHEST,
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
