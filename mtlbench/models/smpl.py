"""The SMPL body model: shape and pose to the surface of a body, differentiably."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.errors import UserError
from mtlbench.models.smpl_files import read_arrays

JOINTS = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hand",
    "right_hand",
)
"""SMPL's joints in its order."""

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
"""The joint that each joint hangs on; -1 for the root, the pelvis."""

_SHAPES: dict[str, tuple[int | str, ...]] = {
    "v_template": ("V", 3),
    "shapedirs": ("V", 3, "S"),
    "posedirs": ("V", 3, 9 * 23),
    "J_regressor": (24, "V"),
    "weights": ("V", 24),
    "kintree_table": (2, 24),
    "f": ("F", 3),
}
"""The arrays of a body file and their shapes, for V vertices, S shape directions and F faces."""


@dataclass(frozen=True, eq=False)
class BodyModel:
    """The content of a body file, as float64 arrays in the official layout, for V vertices.

    Attributes:
        template: [V, 3], the mean body in the rest pose (m).
        shape_directions: [V, 3, S], what a unit of each shape parameter adds to it (m).
        pose_directions: [V, 3, 207], what a unit of each element of R − I adds to it (m), the 23
            joints after the root one after another, each row by row.
        joint_regressor: [24, V], the joints as weighted means of the vertices.
        weights: [V, 24], how much each vertex follows each joint.
        parents: of each joint, in order of their distance from the root, whose parent is -1.
        faces: [F, 3], int64, the triangles' vertices.
    """

    template: np.ndarray
    shape_directions: np.ndarray
    pose_directions: np.ndarray
    joint_regressor: np.ndarray
    weights: np.ndarray
    parents: tuple[int, ...]
    faces: np.ndarray

    @classmethod
    def load(cls, path: Path | str) -> "BodyModel":
        """Reads a body file: an official .pkl, of which no code is run, or an .npz of its arrays.

        Raises:
            UserError: it cannot be read, or is no body with SMPL's 24 joints.
        """
        path = Path(path)
        arrays = read_arrays(path, _SHAPES)
        sizes: dict[str, int] = {}
        for name, array in arrays.items():
            _check_array(f"{path}: {name}", array, _SHAPES[name], sizes)
        table, faces = (arrays[name].astype(np.int64) for name in ("kintree_table", "f"))
        # The official files write the root's parent as an unsigned -1.
        if (table[1] != range(24)).any() or tuple(table[0, 1:]) != PARENTS[1:]:
            raise UserError(f"{path}: kintree_table is not the tree of SMPL's 24 joints")
        if faces.size and not 0 <= faces.min() <= faces.max() < sizes["V"]:
            raise UserError(f"{path}: f names vertices outside 0 … {sizes['V'] - 1}")
        return cls(
            template=arrays["v_template"].astype(np.float64),
            shape_directions=arrays["shapedirs"].astype(np.float64),
            pose_directions=arrays["posedirs"].astype(np.float64),
            joint_regressor=arrays["J_regressor"].astype(np.float64),
            weights=arrays["weights"].astype(np.float64),
            parents=PARENTS,
            faces=faces,
        )

    def save(self, path: Path | str) -> None:
        """Writes an .npz that `load` reads, under the official names."""
        path = Path(path)
        if path.suffix != ".npz":
            raise UserError(f"{path}: a body is written as .npz")
        np.savez(
            path,
            v_template=self.template,
            shapedirs=self.shape_directions,
            posedirs=self.pose_directions,
            J_regressor=self.joint_regressor,
            weights=self.weights,
            kintree_table=np.array([self.parents, range(len(self.parents))]),
            f=self.faces,
        )


class Surface(NamedTuple):
    """A batch of bodies.

    Attributes:
        vertices: [B, V, 3] (m).
        joints: [B, 24, 3] (m).
    """

    vertices: Tensor
    joints: Tensor


class SMPL(nn.Module):
    """Shape blend shapes, pose blend shapes and linear blend skinning (Loper et al. 2015).

        t_i = t̄_i + B_S(β)_i + B_P(θ)_i,    J = 𝒥 (T̄ + B_S(β))                  (Eq. 6–10)
        v_i = Σ_k w_ki (R_k (t_i − J_k) + x_k)                                    (Eq. 2–4)

    with t̄_i a vertex of the template T̄, B_S linear in the shape β, B_P linear in the elements of
    the rotations less the identity, 𝒥 the joint regressor, and R_k, x_k the rotation and the place
    of joint k in the world, which follow from the joints between it and the root.

    Loper, Mahmood, Romero, Pons-Moll, Black: SMPL: A Skinned Multi-Person Linear Model,
    ACM Transactions on Graphics 34(6), 2015.

    The body's numbers are no part of `state_dict`: they come from the body's file.

    Args:
        body: what the file holds.
        shapes: S, how many of its shape directions are used, the first ones.
        dtype: what it computes with, under autocast, too: half precision is off by millimetres.

    Raises:
        UserError: the body has fewer shape directions.
        ValueError: the joints do not stand in order of their distance from the root.
    """

    template: Tensor
    directions: Tensor
    joint_template: Tensor
    joint_directions: Tensor
    weights: Tensor
    parents: Tensor
    paths: Tensor

    def __init__(
        self, body: BodyModel, *, shapes: int = 10, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        known = body.shape_directions.shape[-1]
        if shapes > known:
            raise UserError(f"{shapes} shape directions asked for, but the body has {known}")
        shape_directions = body.shape_directions[..., :shapes]
        directions = np.concatenate((shape_directions, body.pose_directions), axis=-1)
        # J is linear in β: with directions of their own, the joints need no vertex.
        joint_directions = np.einsum("jv,vcs->cjs", body.joint_regressor, shape_directions)
        paths = _paths(body.parents)
        depths = paths.sum(axis=1)
        if (np.diff(depths) < 0).any():
            raise ValueError(
                f"joints must stand in order of their depth, but parents are {body.parents}"
            )
        self.level_sizes = np.unique(depths, return_counts=True)[1].tolist()

        # Coordinates stand before vertices and joints, here and in `forward`, so that sums over
        # three coordinates run along rows of neighbouring numbers: skinning 64 bodies of 1,000
        # vertices, forwards and backwards on one core, takes 4 ms and not 15.
        arrays = {
            "template": body.template.T.reshape(-1),
            "directions": directions.transpose(2, 1, 0).reshape(directions.shape[-1], -1),
            "joint_template": (body.joint_regressor @ body.template).T.reshape(-1, 1),
            "joint_directions": joint_directions.reshape(-1, shapes),
            "weights": body.weights.T,
            "paths": paths,
        }
        for name, array in arrays.items():
            buffer = torch.tensor(np.ascontiguousarray(array), dtype=dtype)
            self.register_buffer(name, buffer, persistent=False)
        self.register_buffer("parents", torch.tensor(body.parents[1:]), persistent=False)

    def forward(self, shape: Tensor, rotations: Tensor) -> Surface:
        """The bodies of a batch, with the root joint where the shape puts it.

        Args:
            shape: β, [B, S].
            rotations: of each joint relative to its parent, and of the root in the world,
                [B, 24, 3, 3].
        """
        dtype = self.template.dtype
        with torch.autocast(shape.device.type, enabled=False):
            return self._surface(shape.to(dtype), rotations.to(dtype))

    def _surface(self, shape: Tensor, rotations: Tensor) -> Surface:
        identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        pose = (rotations[:, 1:] - identity).flatten(1)
        blend = torch.cat((shape, pose), dim=1)
        vertices = torch.addmm(self.template, blend, self.directions).unflatten(1, (3, -1))

        joints = torch.addmm(self.joint_template, self.joint_directions, shape.T)
        joints = joints.unflatten(0, (3, -1))  # [3, 24, B]
        turns = self._world_rotations(rotations.permute(2, 3, 1, 0).contiguous())
        bones = joints[:, 1:] - joints.index_select(1, self.parents)
        bones = _turn(turns.index_select(2, self.parents), bones)
        posed = self.paths @ torch.cat((joints[:, :1], bones), dim=1)

        moves = torch.cat((turns, (posed - _turn(turns, joints))[:, None]), dim=1)  # [3, 4, 24, B]
        moves = moves.permute(1, 3, 0, 2).reshape(-1, moves.shape[2]) @ self.weights
        x, y, z, move = moves.unflatten(0, (4, -1, 3))  # [B, 3, V] each
        for column, coordinate in zip((x, y, z), vertices.split(1, dim=1), strict=True):
            move = torch.addcmul(move, column, coordinate)
        return Surface(vertices=move.transpose(1, 2), joints=posed.permute(2, 1, 0))

    def _world_rotations(self, rotations: Tensor) -> Tensor:
        """From rotations relative to the parent to those in the world, both [3, 3, 24, B]."""
        root, *levels = rotations.split(self.level_sizes, dim=2)
        world, first = [root], 0
        for level, parents in zip(levels, self.parents.split(self.level_sizes[1:]), strict=True):
            above = world[-1].index_select(2, parents - first)
            first += world[-1].shape[2]
            world.append((above[:, :, None] * level).sum(1))
        return torch.cat(world, dim=2)


def _check_array(
    what: str, array: np.ndarray, shape: tuple[int | str, ...], sizes: dict[str, int]
) -> None:
    """Checks that an array holds numbers and has a shape, whose letters are given their sizes."""
    fits = len(array.shape) == len(shape) and all(
        size == (sizes.setdefault(letter, size) if isinstance(letter, str) else letter)
        for size, letter in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(sizes.get(str(letter), letter)) for letter in shape)
        raise UserError(f"{what} has shape {list(array.shape)}, but in an SMPL body [{wanted}]")
    if array.dtype.kind not in "fiu":
        raise UserError(f"{what} holds no numbers, but {array.dtype.name}")
    if not np.isfinite(array).all():
        raise UserError(f"{what} holds numbers that are not finite")


def _turn(rotations: Tensor, points: Tensor) -> Tensor:
    """Points [3, J, B] turned by rotations [3, 3, J, B]."""
    return (rotations * points).sum(1)


def _paths(parents: Sequence[int]) -> np.ndarray:
    """A mask of the joints between each joint and the root, both included: [J, J] of 0 and 1."""
    paths = np.eye(len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            paths[joint] += paths[parent]
    return paths
