"""Rotation matrices from the numbers that networks and body models speak, and back."""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize


def from_6d(x: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of 6D rotations [..., 6].

    The six numbers are the first two columns of the matrix, first column first. They need be
    neither of unit length nor orthogonal, but not parallel: Gram–Schmidt makes them so, and the
    third column is their cross product.

    Zhou, Barnes, Lu, Yang, Li: On the Continuity of Rotation Representations in Neural Networks,
    CVPR 2019, Section 4.2.
    """
    first, second = x[..., :3], x[..., 3:]
    first = normalize(first, dim=-1)
    second = normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), dim=-1)


def to_6d(rotations: Tensor) -> Tensor:
    """6D rotations [..., 6] of rotation matrices [..., 3, 3]: the inverse of `from_6d`."""
    return rotations[..., :2].transpose(-1, -2).flatten(-2)


def from_axis_angle(v: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of axes times angles [..., 3] (rad).

    Rodrigues' formula with K the cross-product matrix of v and θ = ‖v‖:

        R = I + sin θ / θ · K + (1 − cos θ) / θ² · K²

    Both factors are written with sinc(x) = sin πx / πx, which is smooth at 0, and so are R and its
    gradient: (1 − cos θ) / θ² = ½ sinc²(θ / 2π).
    """
    turns = torch.linalg.vector_norm(v, dim=-1)[..., None, None] / math.tau
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    k = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=v.dtype, device=v.device)
    return identity + torch.sinc(2 * turns) * k + torch.sinc(turns).square() / 2 * (k @ k)
