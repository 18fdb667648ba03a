"""Small networks for small images."""

from collections.abc import Mapping

from torch import Tensor, nn


class SmallConvNet(nn.Module):
    """Two normalised convolutions, one hidden layer, and a linear head for each task.

    Args:
        outputs: task name to number of outputs; one output gives a vector [B].
        side: height and width of the one-channel images (px).
        width: channels of the first convolution.
    """

    def __init__(self, outputs: Mapping[str, int], *, side: int, width: int = 16) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (side // 4) ** 2, 8 * width),
            nn.ReLU(),
        )
        self.heads = nn.ModuleDict(
            {task: nn.Linear(8 * width, count) for task, count in outputs.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 1, H, W] to outputs [B, C], or [B] where C is 1."""
        features = self.trunk(images)
        outputs = {task: head(features) for task, head in self.heads.items()}
        return {k: v.squeeze(1) if v.shape[1] == 1 else v for k, v in outputs.items()}
