"""The network of the CelebA benchmark."""

from collections.abc import Iterable

from torch import Tensor, nn

from mtlbench.models.small import BatchNorm


class FaceNet(nn.Module):
    """Nine layers and a linear head for each task.

    Seven convolutions of 3×3 in four stages, of width, 2, 4 and 8 times width channels, with
    maximum pooling between them and the mean over all places at the end; then two fully connected
    layers. All are without bias and followed by batch norm and a ReLU. With a width of 64, that is
    the network of FAMO (Liu et al. 2023) and FairGrad (Ban & Ji 2024) for CelebA.

    The heads are separate layers, applied one by one. One product with all their weights would
    need 1 operation in place of 40, but each task's output would be a slice of one tensor, from
    which the graph leads to all heads: a gradient weighting could no longer tell them from the
    trunk.

    Args:
        tasks: names of the yes-or-no tasks.
        width: channels of the first convolution.
    """

    def __init__(self, tasks: Iterable[str], *, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage, convolutions in enumerate((1, 2, 2, 2)):
            if stage:
                layers.append(nn.MaxPool2d(2))
            for _ in range(convolutions):
                channels = width * 2**stage
                layers += [
                    nn.Conv2d(before, channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(inplace=True),
                ]
                before = channels
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        for _ in range(2):
            layers += [
                nn.Linear(before, before, bias=False), BatchNorm(before), nn.ReLU(inplace=True)
            ]  # fmt: skip
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({task: nn.Linear(before, 1) for task in tasks})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to a logit for each [B]."""
        features = self.trunk(images)
        return {task: head(features).squeeze(1) for task, head in self.heads.items()}
