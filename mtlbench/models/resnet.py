"""ResNet-18 with a head for each task."""

from collections.abc import Mapping

from torch import Tensor, nn

from mtlbench.models.residual import basic_block, convolution
from mtlbench.models.small import BatchNorm

BLOCKS = 2
"""Residual blocks of each of the four stages."""

DROPOUT = 0.5


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016, arXiv 1512.03385), a shared fully connected layer, linear heads.

    A convolution of 7×7 in steps of 2, maximum pooling, and four stages of two residual blocks, of
    width, 2, 4 and 8 times width channels; the mean over all places. With a width of 64 that has
    the 11,176,512 parameters of torchvision's `resnet18` before its classifier. Then, as in the
    code of LibMTL for Office (`examples/office/main.py`), a fully connected layer as wide, batch
    norm, a ReLU and dropout of one half. Its weights start with a standard deviation of 0.005, as
    there; it has no bias, which has no effect before the normalisation.

    Args:
        outputs: task name to number of outputs.
        width: channels of the first convolution.
    """

    def __init__(self, outputs: Mapping[str, int], *, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            convolution(3, width, 7, stride=2),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        channels = width
        for stage in range(4):
            for block in range(BLOCKS):
                after = width * 2**stage
                layers.append(basic_block(channels, after, stride=2 if stage and not block else 1))
                channels = after
        connected = nn.Linear(channels, channels, bias=False)
        nn.init.normal_(connected.weight, std=0.005)
        self.trunk = nn.Sequential(
            *layers,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            connected,
            BatchNorm(channels),
            nn.ReLU(inplace=True),
            nn.Dropout(DROPOUT),
        )
        self.heads = nn.ModuleDict(
            {task: nn.Linear(channels, count) for task, count in outputs.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to logits [B, C] of each task."""
        features = self.trunk(images)
        return {task: head(features) for task, head in self.heads.items()}
