"""U-Nets (Ronneberger et al. 2015) with one trunk and a head for each task."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtlbench.models.rotations import from_6d, to_6d
from mtlbench.models.small import BatchNorm

JOINTS = 24

SHAPES = 10
"""Coefficients β of a body's shape."""

BODY_CLASSES = 25
"""Background and a part of the body for each joint."""

GRID = 4
"""The fully connected layers see the deepest features averaged on a grid of 4×4 cells: a single
cell would no longer say where the limbs are."""

HIDDEN = 256
"""Width of the fully connected layers."""


def _block(channels_in: int, channels_out: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for position in range(convolutions):
        before = channels_out if position else channels_in
        layers += [
            nn.Conv2d(before, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class _Trunk(nn.Module):
    """Encoder and decoder with skip connections; the arguments of the networks below, and how many
    convolutions stand in the first block and in each block of the decoder (two in the paper)."""

    def __init__(self, *, patch: int, width: int, depth: int, convolutions: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        upwards = widths[-2::-1]
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(patch), _block(3 * patch**2, width, convolutions)
        )
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), _block(w, 2 * w, 2)) for w in widths[:-1]
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in upwards)
        self.merge = nn.ModuleList(_block(2 * w, w, convolutions) for w in upwards)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] to features of the patches [B, width, H/P, W/P], and to the deepest
        ones [B, width · 2^depth, …], at the lowest resolution."""
        levels = [self.stem(images)]
        for down in self.down:
            levels.append(down(levels[-1]))
        deepest = features = levels.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat([up(features), levels.pop()], dim=1))
        return features, deepest


class SmallUNet(nn.Module):
    """A U-Net for small images, shared by all tasks.

    Works on patches: P×P pixels enter as channels and leave as channels (Shi et al. 2016), which
    costs a fraction of the time of convolutions at full resolution.

    Args:
        outputs: task name to number of output maps; one map gives [B, H, W].
        patch: P, height and width of a patch (px).
        width: channels of a patch; doubled each time that the resolution is halved.
        depth: how many times it is halved; H and W must be divisible by P · 2^depth.
    """

    def __init__(
        self, outputs: Mapping[str, int], *, patch: int = 4, width: int = 32, depth: int = 2
    ) -> None:
        super().__init__()
        self.trunk = _Trunk(patch=patch, width=width, depth=depth, convolutions=1)
        self.heads = nn.ModuleDict(
            {
                task: nn.Sequential(
                    nn.Conv2d(width, width, 3, padding=1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(width, patch**2 * count, 1),
                    nn.PixelShuffle(patch),
                )
                for task, count in outputs.items()
            }
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to maps [B, C, H, W], or [B, H, W] where C is 1."""
        features, _ = self.trunk(images)
        outputs = {task: head(features) for task, head in self.heads.items()}
        return {k: v.squeeze(1) if v.shape[1] == 1 else v for k, v in outputs.items()}


class MultiTaskUNet(nn.Module):
    """Body parts, shape, pose and surface of a person (Vasu et al. 2021).

    The decoder of a U-Net ends in a part of the body for each pixel. From its deepest features,
    averaged on a grid, two branches of three fully connected layers give the shape β and the pose
    Θ, and a body model, which is differentiable, makes a surface of both. The paper gives neither
    the widths nor what the branches see: a U-Net of the published widths (31 million parameters)
    with these branches has 39.6 million, and the paper tells of 40.

    The pose starts near the identity rotation of every joint.

    Args:
        body: shape [B, 10] and rotations [B, 24, 3, 3] to `vertices` [B, V, 3] and `joints`
            [B, 24, 3], whose first is the root (m); see `mtlbench.models.smpl.SMPL`.
        patch: P, height and width of the patches that the convolutions work on (px); see
            `SmallUNet`.
        width: channels of a patch; doubled each time that the resolution is halved.
        depth: how many times it is halved; H and W must be divisible by P · 2^depth.
        convolutions: how many stand in the first block and in each block of the decoder.
    """

    def __init__(
        self,
        body: nn.Module,
        *,
        patch: int = 1,
        width: int = 64,
        depth: int = 4,
        convolutions: int = 2,
    ) -> None:
        super().__init__()
        self.trunk = _Trunk(patch=patch, width=width, depth=depth, convolutions=convolutions)
        self.segmentation = _PatchHead(width, BODY_CLASSES, patch)
        shape, pose = nn.Linear(HIDDEN, SHAPES), nn.Linear(HIDDEN, 6 * JOINTS)
        with torch.no_grad():
            pose.weight.mul_(0.01)
            pose.bias.copy_(to_6d(torch.eye(3)).repeat(JOINTS))
        self.shape = _branch(width * 2**depth, shape)
        self.pose = _branch(width * 2**depth, pose)
        self.body = body

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to the four outputs.

        Returns:
            `segmentation` [B, 25, H, W]: logits; `shape` [B, 10]: β; `pose` [B, 144]: the first
            two columns of each joint's rotation, not yet orthonormal (Zhou et al. 2019);
            `vertices` [B, V, 3]: relative to the root joint (m).
        """
        features, deepest = self.trunk(images)
        # In bfloat16 rotations would be off by up to 0.002, which is millimetres at a hand.
        with torch.autocast(images.device.type, enabled=False):
            cells = _cell_means(deepest.float()).flatten(1)
            shape, pose = self.shape(cells), self.pose(cells)
            surface = self.body(shape, from_6d(pose.unflatten(1, (JOINTS, 6))))
        return {
            "segmentation": self.segmentation(features),
            "shape": shape,
            "pose": pose,
            "vertices": surface.vertices - surface.joints[:, :1],
        }


def _cell_means(features: Tensor) -> Tensor:
    """Features [B, C, H, W] averaged on the grid, [B, C, 4, 4]."""
    height, width = features.shape[2:]
    if height % GRID or width % GRID:
        return functional.adaptive_avg_pool2d(features, GRID)
    # The same bits; on a GPU only this one's gradient is the same each time.
    return functional.avg_pool2d(features, (height // GRID, width // GRID))


class _PatchHead(nn.Module):
    """Features [B, width, H/P, W/P] to maps [B, C, H, W], P×P pixels from each place.

    What a 1×1 convolution and a pixel shuffle do, with one copy less, into planes that lie one
    after the other, as cross entropy likes them: with 25 classes at 64×64, head and loss take 2.2
    and not 3.7 ms a picture on one core, forwards and backwards.
    """

    def __init__(self, width: int, maps: int, patch: int) -> None:
        super().__init__()
        self.maps, self.patch = maps, patch
        self.logits = nn.Linear(width, patch**2 * maps)

    def forward(self, features: Tensor) -> Tensor:
        batch, _, rows, columns = features.shape
        logits = self.logits(features.permute(0, 2, 3, 1))
        logits = logits.reshape(batch, rows, columns, self.patch, self.patch, self.maps)
        logits = logits.permute(0, 5, 1, 3, 2, 4)
        return logits.reshape(batch, self.maps, rows * self.patch, columns * self.patch)


def _branch(channels: int, last: nn.Linear) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels * GRID**2, HIDDEN, bias=False),
        BatchNorm(HIDDEN),
        nn.ReLU(inplace=True),
        nn.Linear(HIDDEN, HIDDEN, bias=False),
        BatchNorm(HIDDEN),
        nn.ReLU(inplace=True),
        last,
    )
