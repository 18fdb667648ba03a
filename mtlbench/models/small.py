"""Small networks for small images."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function_unary

HIDDEN = 128
"""Width of the hidden layer."""


class SmallConvNet(nn.Module):
    """Two strided convolutions, one hidden layer, all normalised, and a linear head for each task.

    The convolutions, of 4×4 pixels in steps of 2 and of 2×2 places side by side, are written as
    products of patches with a matrix. On maps as small as these that takes half the time of a
    convolution routine.

    Args:
        outputs: task name to number of outputs; one output gives a vector [B].
        side: height and width of the one-channel images (px), divisible by 4.
        width: channels of both convolutions.
    """

    def __init__(self, outputs: Mapping[str, int], *, side: int, width: int = 32) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            _OverlappingPatches(),
            *_layer(4 * 4, width),
            _Patches(),
            *_layer(2 * 2 * width, width),
            nn.Flatten(),
            *_layer(width * (side // 4) ** 2, HIDDEN),
        )
        self.heads = nn.ModuleDict(
            {task: nn.Linear(HIDDEN, count) for task, count in outputs.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 1, H, W] to outputs [B, C], or [B] where C is 1."""
        features = self.trunk(images)
        outputs = {task: head(features) for task, head in self.heads.items()}
        return {k: v.squeeze(1) if v.shape[1] == 1 else v for k, v in outputs.items()}


def batch_length(rows: Tensor) -> int:
    """The number of rows [n, …] of a batch, with those that other processes have of it."""
    if has_torch_function_unary(rows):
        length: int = handle_torch_function(batch_length, (rows,), rows)
        return length
    return len(rows)


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of features [..., C] over all but the last dimension.

    A batch of one, which has no variance, is taken by the running statistics.
    """

    def forward(self, features: Tensor) -> Tensor:
        rows = features.flatten(0, -2)
        if batch_length(rows) > 1:
            normalised = super().forward(rows)
        else:
            normalised = functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return normalised.view_as(features)


class _OverlappingPatches(nn.Module):
    """Images [B, 1, H, W] with a rim of 0 to patches of 4×4 in steps of 2: [B, H/2, W/2, 16]."""

    def forward(self, images: Tensor) -> Tensor:
        padded = functional.pad(images[:, 0], (1, 1, 1, 1))
        return padded.unfold(1, 4, 2).unfold(2, 4, 2).flatten(3)


class _Patches(nn.Module):
    """Maps [B, H, W, C] to patches of 2×2 side by side: [B, H/2, W/2, 4 · C]."""

    def forward(self, maps: Tensor) -> Tensor:
        batch, rows, columns, channels = maps.shape
        patches = maps.reshape(batch, rows // 2, 2, columns // 2, 2 * channels).transpose(2, 3)
        return patches.flatten(3)


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs, bias=False), BatchNorm(outputs), nn.ReLU(inplace=True)
