"""HRNetV2: a network that keeps a high-resolution branch from its stem to its heads."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtlbench.models.residual import Residual, basic_block, convolution

EXPANSION = 4
"""Output channels of a bottleneck for each channel of its 3×3 convolution (He et al. 2016)."""

STEM = 64
"""Channels of the stem and of the 3×3 convolutions of stage 1."""

MODULES = (1, 4, 3)
"""Modules of stages 2, 3 and 4, which have 2, 3 and 4 branches."""

BLOCKS = 4
"""Residual blocks of stage 1, and of each branch of a module."""


def _bottleneck(channels_in: int, channels: int) -> Residual:
    channels_out = EXPANSION * channels
    convolutions = nn.Sequential(
        convolution(channels_in, channels, 1),
        convolution(channels, channels),
        convolution(channels, channels_out, 1, relu=False),
    )
    if channels_in == channels_out:
        return Residual(convolutions, nn.Identity())
    return Residual(convolutions, convolution(channels_in, channels_out, 1, relu=False))


def _path(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """From one branch to the resolution and the channels of another, before the sum."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            convolution(widths[source], widths[target], 1, relu=False),
            nn.Upsample(scale_factor=2.0 ** (source - target), mode="bilinear"),
        )
    halvings = [
        convolution(widths[source], widths[source], stride=2) for _ in range(target - source - 1)
    ]
    return nn.Sequential(
        *halvings, convolution(widths[source], widths[target], stride=2, relu=False)
    )


class _Fusion(nn.Module):
    """The sum of all branches, brought to one of them."""

    def __init__(self, widths: Sequence[int], target: int) -> None:
        super().__init__()
        sources = range(len(widths))
        self.paths = nn.ModuleList(_path(widths, source, target) for source in sources)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        first, *others = (path(each) for path, each in zip(self.paths, features, strict=True))
        return functional.relu(sum(others, start=first))


class _Module(nn.Module):
    """Basic blocks in each branch, then a fusion for each."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(basic_block(width, width) for _ in range(BLOCKS))) for width in widths
        )
        self.fusions = nn.ModuleList(_Fusion(widths, target) for target in range(len(widths)))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        features = [branch(each) for branch, each in zip(self.branches, features, strict=True)]
        return [fusion(features) for fusion in self.fusions]


class _Stage(nn.Module):
    """Opens one more branch, at half the resolution of the last, then applies its modules."""

    def __init__(self, channels_in: Sequence[int], widths: Sequence[int], modules: int) -> None:
        super().__init__()
        self.transitions = nn.ModuleList(
            nn.Identity() if before == width else convolution(before, width)
            for before, width in zip(channels_in, widths, strict=False)
        )
        self.opening = convolution(channels_in[-1], widths[-1], stride=2)
        self.fused = nn.Sequential(*(_Module(widths) for _ in range(modules)))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        opened = self.opening(features[-1])
        features = [step(each) for step, each in zip(self.transitions, features, strict=True)]
        fused: list[Tensor] = self.fused([*features, opened])
        return fused


class HRNet(nn.Module):
    """HRNetV2 (Sun et al. 2019, arXiv 1904.04514; Wang et al. 2020, arXiv 1908.07919).

    A stem quarters the resolution. Then branches at 1/4, 1/8, 1/16 and 1/32 of it, with C, 2C, 4C
    and 8C channels, open one after the other and run side by side, and each module ends with an
    exchange between all of them. The shared representation is the concatenation of all branches
    upsampled to the first: 15C channels. Each task has a head of two 1×1 convolutions, whose maps
    are upsampled to the size of the images. Upsampling is bilinear.

    Trained from scratch: convolutions start as He et al. (2015) draw them, by fan-out, which is
    how the authors start their ImageNet models, and the last one of a head as PyTorch draws it
    (by fan-out, a single map would start with outputs far above 1).

    Args:
        outputs: task name to number of output maps; one map gives [B, H, W].
        width: C; the published networks have 18, 32, 40 and 48.
    """

    def __init__(self, outputs: Mapping[str, int], *, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            convolution(3, STEM, stride=2),
            convolution(STEM, STEM, stride=2),
            _bottleneck(STEM, STEM),
            *(_bottleneck(EXPANSION * STEM, STEM) for _ in range(BLOCKS - 1)),
        )
        channels = [EXPANSION * STEM]
        stages = []
        for branches, modules in enumerate(MODULES, start=2):
            widths = [width * 2**branch for branch in range(branches)]
            stages.append(_Stage(channels, widths, modules))
            channels = widths
        self.stages = nn.Sequential(*stages)
        representation = sum(channels)
        self.heads = nn.ModuleDict(
            {
                task: nn.Sequential(
                    # The bias has no effect before the normalisation, but is in the published code.
                    convolution(representation, representation, 1, bias=True),
                    nn.Conv2d(representation, count, 1),
                )
                for task, count in outputs.items()
            }
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to maps [B, C, H, W], or [B, H, W] where C is 1.

        H and W must be divisible by 32.
        """
        first, *others = self.stages([self.stem(images)])
        upsampled = [
            functional.interpolate(each, size=first.shape[-2:], mode="bilinear") for each in others
        ]
        representation = torch.cat([first, *upsampled], dim=1)
        outputs = {
            task: functional.interpolate(
                head(representation), size=images.shape[-2:], mode="bilinear"
            )
            for task, head in self.heads.items()
        }
        return {k: v.squeeze(1) if v.shape[1] == 1 else v for k, v in outputs.items()}
