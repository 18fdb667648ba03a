"""Street furniture and people."""

from collections.abc import Iterator

from mtlbench.suites.scenes.panels import shadow, upright
from mtlbench.suites.scenes.textures import Random, Texture, clothes, disc, pick, plain, scaled
from mtlbench.suites.scenes.vegetation import tree
from mtlbench.suites.scenes.world import HUMAN, OBJECT, Panel, Street


def compose_furniture(random: Random, street: Street) -> Iterator[Panel]:
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
                yield from tree(random, x + side * 0.6, z, height * random.uniform(0.7, 1.1))
            elif kind == "lamp":
                yield upright(x, z, 0.0, 0.2, height, OBJECT, metal)
                yield upright(x - side * 0.9, z, height - 0.25, 2.0, 0.25, OBJECT, metal)
            else:
                yield from _post(random, kind, x, z, metal)
            z += spacing * random.uniform(0.5, 1.3)


_WHITE, _RED, _BLUE = (0.95, 0.95, 0.95), (0.85, 0.1, 0.1), (0.1, 0.3, 0.8)
_SIGNALS = ((0.1, 0.95, 0.5), (1.0, 0.75, 0.1), (1.0, 0.12, 0.1))  # from the lowest lamp up


def _post(random: Random, kind: str, x: float, z: float, metal: Texture) -> Iterator[Panel]:
    """A traffic sign, a direction board or a traffic light on its pole."""
    height, front = random.uniform(2.2, 3.2), z - 0.05
    yield upright(x, z, 0.0, 0.14, height, OBJECT, metal)
    if kind == "signal":
        yield upright(x, front, height - 0.3, 0.5, 1.35, OBJECT, plain((0.06, 0.07, 0.06)))
        shining = int(random.integers(3))
        lamp = disc(0.4, _SIGNALS[shining], _SIGNALS[shining], glowing=(1, 2))
        yield upright(x, z - 0.1, height - 0.25 + 0.43 * shining, 0.4, 0.4, OBJECT, lamp)
    elif kind == "board":
        board = plain(pick(random, ((0.1, 0.25, 0.65), (0.9, 0.8, 0.15), (0.05, 0.4, 0.25))))
        yield upright(x, front, height, random.uniform(1.5, 3.0), 1.2, OBJECT, board)
    elif random.random() < 0.6:
        texture = disc(0.9, pick(random, (_WHITE, _RED, _BLUE)), pick(random, (_WHITE, _RED)))
        yield upright(x, front, height - 0.2, 0.9, 0.9, OBJECT, texture)
    else:
        warning = upright(x, front, height - 0.1, 1.0, 0.9, OBJECT, plain((0.9, 0.25, 0.15)))
        yield warning._replace(taper=0.5)


def compose_pedestrians(random: Random, street: Street) -> Iterator[Panel]:
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
            yield shadow(x - width / 2, z, width, (0.4, 0.0, 0.5))
            texture = clothes(random, width, height)
            yield upright(x, z, 0.0, width, height, HUMAN, texture)
