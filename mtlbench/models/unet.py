"""U-Net with one trunk and a full-resolution head for each task."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        layers += [
            nn.Conv2d(channels, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Encoder and decoder with skip connections (Ronneberger et al. 2015), shared by all tasks.

    Args:
        outputs: task name to number of output maps; one map gives [B, H, W].
        width: channels at full resolution; doubled at each of the lower ones.
        depth: how many times the resolution is halved; H and W must be divisible by 2^depth.
    """

    def __init__(self, outputs: Mapping[str, int], *, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            _block(before, after) for before, after in zip([3, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1])
        )
        self.decoder = nn.ModuleList(_block(2 * w, w) for w in reversed(widths[:-1]))
        self.pool = nn.MaxPool2d(2)
        self.heads = nn.ModuleDict(
            {
                task: nn.Sequential(
                    nn.Conv2d(width, width, 3, padding=1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(width, count, 1),
                )
                for task, count in outputs.items()
            }
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to maps [B, C, H, W], or [B, H, W] where C is 1."""
        features, skips = images, []
        for level, block in enumerate(self.encoder):
            features = block(features if level == 0 else self.pool(features))
            skips.append(features)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            features = block(torch.cat([up(features), skips.pop()], dim=1))
        outputs = {task: head(features) for task, head in self.heads.items()}
        return {k: v.squeeze(1) if v.shape[1] == 1 else v for k, v in outputs.items()}
