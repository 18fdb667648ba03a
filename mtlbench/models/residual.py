"""Parts of residual networks (He et al. 2016, arXiv 1512.03385)."""

from torch import Tensor, nn
from torch.nn import functional


def convolution(
    channels_in: int,
    channels_out: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    bias: bool = False,
    relu: bool = True,
) -> nn.Sequential:
    """A convolution with batch norm and, unless told not to, a ReLU. Weights start as He et al.
    (2015) draw them, by fan-out."""
    layer = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=bias)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    layers = [layer, nn.BatchNorm2d(channels_out)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class Residual(nn.Module):
    """The ReLU of a sum of two paths."""

    def __init__(self, residual: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.residual(features) + self.shortcut(features), inplace=True)


def basic_block(channels_in: int, channels_out: int, *, stride: int = 1) -> Residual:
    """Two convolutions of 3×3; the shortcut is a convolution of 1×1 where the shape changes."""
    residual = nn.Sequential(
        convolution(channels_in, channels_out, stride=stride),
        convolution(channels_out, channels_out, relu=False),
    )
    if stride == 1 and channels_in == channels_out:
        return Residual(residual, nn.Identity())
    shortcut = convolution(channels_in, channels_out, 1, stride=stride, relu=False)
    return Residual(residual, shortcut)
