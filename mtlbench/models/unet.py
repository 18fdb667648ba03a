"""A small U-Net with one trunk and a head for each task."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


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


class SmallUNet(nn.Module):
    """Encoder and decoder with skip connections (Ronneberger et al. 2015), shared by all tasks.

    Works at half the resolution of the image: 2×2 pixels enter as channels and leave as channels
    (Shi et al. 2016), which costs a quarter of the time of convolutions at full resolution.

    Args:
        outputs: task name to number of output maps; one map gives [B, H, W].
        width: channels at half resolution; doubled at each of the lower ones.
        depth: how many times the resolution is halved after that; H and W must be divisible by
            2^(depth + 1).
    """

    def __init__(self, outputs: Mapping[str, int], *, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        upwards = widths[-2::-1]
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), _block(3 * 4, width, 1))
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), _block(w, 2 * w, 2)) for w in widths[:-1]
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in upwards)
        self.merge = nn.ModuleList(_block(2 * w, w, 1) for w in upwards)
        self.heads = nn.ModuleDict(
            {
                task: nn.Sequential(
                    nn.Conv2d(width, width, 3, padding=1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(width, 4 * count, 1),
                    nn.PixelShuffle(2),
                )
                for task, count in outputs.items()
            }
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to maps [B, C, H, W], or [B, H, W] where C is 1."""
        levels = [self.stem(images)]
        for down in self.down:
            levels.append(down(levels[-1]))
        features = levels.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat([up(features), levels.pop()], dim=1))
        outputs = {task: head(features) for task, head in self.heads.items()}
        return {k: v.squeeze(1) if v.shape[1] == 1 else v for k, v in outputs.items()}
