"""From bodies and looks to pictures: clothes, light, and the room behind."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from mtlbench.suites.people.looks import BLOCKS, MATERIALS, Looks, Outfit
from mtlbench.suites.people.raster import Samples

_SKIN, _HAIR, _SHIRT, _PATTERN, _TROUSERS, _SHOES, _BELT, _EYES, _LIPS = range(len(MATERIALS))


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Outward normals [B, V, 3] of meshes [B, V, 3] with faces [F, 3], of unit length."""
    a, b, c = (vertices[:, faces[:, k]] for k in range(3))
    across = torch.linalg.cross(b - a, c - a, dim=-1)  # as long as twice the face's area
    normals = torch.zeros_like(vertices)
    for k in range(3):
        normals.index_add_(1, faces[:, k], across)
    return normalize(normals, dim=-1)


def lit(normals: Tensor, sun: Tensor, sunlight: Tensor, skylight: Tensor) -> Tensor:
    """The light [N, 3] on surfaces with normals [N, 3]: Lambert's law, and from above more than
    from below; the terms are those of `Looks`, each [N, 3] or [3]."""
    sunny = (normals * sun).sum(-1, keepdim=True).clamp(min=0)
    above = 0.75 + 0.35 * normals[:, 1:2]
    return sunny * sunlight + above * skylight


def paint_people(
    samples: Samples, normals: Tensor, template: Tensor, weights: Tensor, looks: Looks
) -> Tensor:
    """The colours [N, 3] of what samples show.

    Args:
        samples: of the bodies in B pictures.
        normals: [B, V, 3].
        template: [V, 3], in the rest pose (m).
        weights: [V, 24], how much each vertex belongs to each part.
        looks: of the B pictures.
    """
    tints = looks.tints @ weights.T  # [B, V]
    surface = samples.mix(torch.cat((normals, tints[..., None]), -1).flatten(0, 1))
    picture = samples.picture
    place = samples.on_one_body(len(template)).mix(template)
    material = _materials(place, Outfit(*looks.outfit[picture].unbind(-1)))
    albedo = looks.palette.flatten(0, 1)[picture * len(MATERIALS) + material]
    light = lit(
        normalize(surface[:, :3], dim=-1), looks.sun[picture], looks.sunlight[picture],
        looks.skylight[picture],
    )  # fmt: skip
    return albedo * surface[:, 3:] * light


def _materials(place: Tensor, outfit: Outfit[Tensor]) -> Tensor:
    """The index into MATERIALS [N] at places [N, 3] of the template, for an Outfit of [N] each."""
    x, y, z = place.unbind(-1)
    out = x.abs()
    material = torch.full_like(x, _SKIN, dtype=torch.int64)
    cover = material.masked_fill_
    arm, head = (out > 0.14) & (y > 0.28), y > 0.525

    belt = ~arm & (y > outfit.waist) & (y < outfit.waist + outfit.belt)
    # Bare legs below a dress.
    leg = torch.where(outfit.hem < -0.2, outfit.hem, outfit.leg)
    cover(~arm & (y < outfit.waist + 0.02) & (y > leg), _TROUSERS)
    cover(belt, _BELT)

    dip = torch.where(z > -0.02, outfit.collar * (1 - out / 0.075).clamp(min=0), 0.0)
    collar = 0.502 - dip + 0.35 * (-z).clamp(min=0)
    shirt = ~head & torch.where(arm, out < outfit.sleeve, (y > outfit.hem) & (y < collar))
    around, along = torch.where(arm, out, y), torch.where(arm, y + z, x)
    wave = torch.sin(outfit.stripes * torch.where(outfit.upright > 0.5, along, around))
    open_front = (out < outfit.opening) & (z > 0) & (y > outfit.waist)
    cover(shirt, _SHIRT)
    cover(shirt & (open_front | (outfit.stripes > 0) & (wave > outfit.share)), _PATTERN)
    cover(belt & (outfit.hem < -0.03), _BELT)  # over a coat
    cover(y < outfit.shoe, _SHOES)

    crown = y > outfit.hairline - 0.4 * out.clamp(max=0.05)
    behind = (y > outfit.nape) & (z < outfit.sideburn - 0.25 * (0.64 - y).clamp(min=0))
    # Long hair falls onto the back.
    fallen = behind & (z < -0.03) & (out < 0.09)
    cover(head & (crown | behind & (y > 0.56)) | fallen, _HAIR)
    face = head & (z > 0.03)
    cover(face & (y < outfit.beard), _HAIR)
    cover(face & ((out - 0.033).abs() < 0.018) & ((y - 0.668).abs() < 0.004), _HAIR)  # brows
    cover(face & ((out - 0.032).abs() < 0.013) & ((y - 0.648).abs() < 0.007), _EYES)
    cover(face & (out < 0.024) & ((y - 0.578).abs() < 0.006), _LIPS)
    return material


def paint_rooms(looks: Looks, points: Tensor, size: int) -> Tensor:
    """Rooms [B, 3, H, W] with the shadows of the people in them.

    Args:
        looks: of the B pictures.
        points: [B, V, 2 or more], columns and rows of the bodies' vertices, as shares.
        size: H and W (px).
    """
    centres = (torch.arange(size) + 0.5) / size
    across, down = centres[None, None, :], centres[None, :, None]

    def spread(values: Tensor) -> Tensor:
        """[B, …] to […, B, 1, 1]."""
        return values.movedim(0, -1)[..., None, None]

    def gradient(colours: Tensor, share: Tensor) -> Tensor:
        """Colours [B, 2, 3] and shares [B, H, W] of the second to [B, 3, H, W]."""
        first, last = colours[..., None, None].unbind(1)
        return torch.lerp(first, last, share[:, None])

    def grooves(values: Tensor, across: Tensor, down: Tensor) -> Tensor:
        """Grooves [B, 4] to the factors [B, 1, H, W] that darken a surface."""
        per_width, per_height, phase, depth = spread(values)
        dark = torch.sin(per_width * across + per_height * down + phase) > 0.3
        return (1 - depth * dark)[:, None]

    column, row = points[..., 0], points[..., 1]
    ground = row.amax(1)
    left, right = spread(ground[:, None] - looks.depth)
    foot = left + (right - left) * across
    wall = gradient(looks.wall, down / foot) * grooves(looks.grooves[:, 0], across, down)
    depth = ((down - foot) / (1 - foot)).clamp(0, 1)
    # Boards run together towards the wall.
    aside = (across - 0.5) / (0.4 + 0.6 * depth)
    floor = gradient(looks.floor, depth) * grooves(looks.grooves[:, 1], aside, depth.sqrt())
    on_floor = (down > foot)[:, None]
    rooms = torch.where(on_floor, floor, wall)

    for k in range(BLOCKS):
        left, top, right, bottom = spread(looks.blocks[:, k])
        inside = (across > left) & (across < right) & (down > top) & (down < bottom)
        colours = gradient(looks.block_colours[:, k], (down - top) / (bottom - top).clamp(min=0.01))
        colours = colours * grooves(looks.block_grooves[:, k], across, down)
        rooms = torch.where(inside[:, None], colours, rooms)
    rooms += interpolate(looks.clouds, size=(size, size), mode="bilinear", align_corners=False)

    # A soft patch of shade around whatever of the body is lowest.
    low = row > (ground - 0.06)[:, None]
    leftmost = torch.where(low, column, 1.0).amin(1)
    rightmost = torch.where(low, column, 0.0).amax(1)
    middle, breadth = (leftmost + rightmost) / 2, (rightmost - leftmost) / 2 + 0.06
    offset = (across - spread(middle)) / spread(breadth)
    fall = (down - spread(ground - 0.015)) / spread(0.02 + 0.25 * breadth)
    shade = spread(looks.shadow) * torch.exp(-(offset**2) - fall**2)
    return rooms * (1 - shade)[:, None]
