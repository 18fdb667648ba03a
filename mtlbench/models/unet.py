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
        widths = [width * 2**level for level in range(depth + 1)]
        upwards = widths[-2::-1]
        self.stem = nn.Sequential(nn.PixelUnshuffle(patch), _block(3 * patch**2, width, 1))
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
                    nn.Conv2d(width, patch**2 * count, 1),
                    nn.PixelShuffle(patch),
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
