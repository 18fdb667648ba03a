"""SegNet: an encoder and a decoder that puts maxima back where they were."""

from collections.abc import Collection, Mapping

from torch import Tensor, nn
from torch.nn import functional

MULTIPLES = (1, 2, 4, 8, 8)
"""Channels of each level, in multiples of those of the first."""

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Convolutions of each level, in the encoder and again in the decoder."""

SHORTEST = 1e-3
"""A direction is divided by its length, or by this where that is less. In a corner of a new network
all features may be 0, where the published code has no number."""


def _block(channels_in: int, channels_out: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for position in range(convolutions):
        before = channels_out if position else channels_in
        layers += [
            # The bias has no effect before the normalisation, but is in the published code.
            nn.Conv2d(before, channels_out, 3, padding=1),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class _Trunk(nn.Module):
    """Encoder and decoder, at the resolution of the images in the end."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * multiple for multiple in MULTIPLES]
        levels = list(zip(widths, CONVOLUTIONS, strict=True))
        self.down = nn.ModuleList(
            _block(above, own, count)
            for above, (own, count) in zip([3, *widths[:-1]], levels, strict=True)
        )
        self.up = nn.ModuleList(
            _block(own, above, count)
            for above, (own, count) in zip([*widths[-2::-1], width], reversed(levels), strict=True)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] to features [B, width, H, W]."""
        features, maxima = images, []
        for block in self.down:
            features = block(features)
            size = features.shape[-2:]
            features, places = functional.max_pool2d(features, 2, return_indices=True)
            maxima.append((places, size))
        for block in self.up:
            places, size = maxima.pop()
            features = block(functional.max_unpool2d(features, places, (2, 2), output_size=size))
        return features


class SegNet(nn.Module):
    """SegNet (Badrinarayanan, Kendall, Cipolla 2017, arXiv 1511.00561), shared by all tasks.

    As the code of MTAN has it (Liu, Johns, Davison 2019; `model_segnet_split.py`, standard type):
    five levels of 2, 2, 3, 3 and 3 convolutions, each with batch normalisation, and the same
    upwards, where every maximum goes back to the place that it was taken from; and for each task a
    convolution of 3×3 and one of 1×1, with nothing between them. Weights start as Glorot & Bengio
    (2010) draw them from a normal distribution, biases at 0. With 13, 1 and 3 maps it has
    25,055,185 parameters.

    Args:
        outputs: task name to number of output maps; one map gives [B, H, W].
        directions: tasks whose maps are a vector of length 1 at each pixel.
        width: channels of the first level; 64 in the published code.
    """

    def __init__(
        self, outputs: Mapping[str, int], *, directions: Collection[str] = (), width: int = 64
    ) -> None:
        super().__init__()
        self.directions = frozenset(directions)
        self.trunk = _Trunk(width)
        self.heads = nn.ModuleDict(
            {
                task: nn.Sequential(
                    nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, count, 1)
                )
                for task, count in outputs.items()
            }
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to maps [B, C, H, W], or [B, H, W] where C is 1.

        H and W must be at least 32.
        """
        features = self.trunk(images)
        outputs = {task: head(features) for task, head in self.heads.items()}
        for task in self.directions:
            # In bfloat16 a direction would be off by tenths of a degree.
            outputs[task] = functional.normalize(outputs[task].float(), dim=1, eps=SHORTEST)
        return {k: v.squeeze(1) if v.shape[1] == 1 else v for k, v in outputs.items()}
