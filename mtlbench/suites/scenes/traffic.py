"""Vehicles: in the lanes, parked, and crossing the street."""

from collections.abc import Iterator

from mtlbench.suites.scenes.panels import box, shadow
from mtlbench.suites.scenes.textures import (
    Random,
    Vector,
    any_colour,
    bodywork_end,
    bodywork_side,
    glazing,
    pick,
    plain,
    scaled,
)
from mtlbench.suites.scenes.world import LANE, VEHICLE, Panel, Street


def compose_traffic(random: Random, street: Street, dusk: bool) -> Iterator[Panel]:
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
    yield shadow(x - 0.15, z - 0.2, width + 0.3, (slope * around, 0.0, around))
    end = bodywork_end(width, waist, body, lamp, shining)
    textures = (end, bodywork_side(length, waist, body), plain(body))
    yield from box((x, 0.0, z), (width, waist, length), slope, VEHICLE, textures)
    # Cars have a bonnet before the cabin: the cabin of an oncoming one begins further back.
    bonnet = 0.2 * length if kind == "car" else 0.0
    start = 0.1 if receding else bonnet
    cabin = (width - 0.1, roof, length - bonnet - 0.15)
    panes = max(2, int(length / 2.2))
    textures = glazing(cabin[0], roof, 1, body), glazing(cabin[2], roof, panes, body), plain(body)
    base = (x + 0.05 + slope * start, waist, z + start)
    yield from box(base, cabin, slope, VEHICLE, textures, lean)


def _crossing_car(random: Random, x: float, z: float) -> Iterator[Panel]:
    """A car seen from the side, with its left end at x."""
    width, length, waist, roof, lean = _VEHICLES["car"]
    body = _paintwork(random)
    end = bodywork_end(width, waist, body, (0.75, 0.05, 0.05), False)
    yield shadow(x - 0.15, z - 0.25, length + 0.3, (0.0, 0.0, width + 0.4))
    textures = (bodywork_side(length, waist, body), end, plain(body))
    yield from box((x, 0.0, z), (length, waist, width), 0.0, VEHICLE, textures)
    cabin = (0.74 * length, roof, width - 0.1)
    textures = glazing(cabin[0], roof, 2, body), glazing(cabin[2], roof, 1, body), plain(body)
    base = (x + pick(random, (0.04, 0.22)) * length, waist, z + 0.05)
    yield from box(base, cabin, 0.0, VEHICLE, textures, (lean[1], lean[0]))


def _paintwork(random: Random) -> Vector:
    """The colour of a car: as often white, silver or black as anything brighter."""
    if random.random() < 0.5:
        return scaled((0.9, 0.9, 0.92), pick(random, (1.0, 0.75, 0.45, 0.15)))
    return any_colour(random, 0.05, 0.9)
