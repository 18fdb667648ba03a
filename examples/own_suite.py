"""A suite of one's own, as a plugin: data, network, tasks and recipe.

mtlbench run ink --plugin examples/own_suite.py --strategies equal,ilt
"""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mtlbench import Data, Split, Suite, Task, register_suite
from mtlbench.tasks.metrics import absolute_error, accuracy
from mtlbench.tasks.task import cross_entropy, l1


class TwoHeads(nn.Module):
    """A trunk that both tasks share, and a head for each."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
        self.digit, self.ink = nn.Linear(128, 10), nn.Linear(128, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.trunk(images)
        return {"digit": self.digit(features), "ink": self.ink(features).squeeze(1)}


@register_suite("ink")
@dataclass(frozen=True, kw_only=True)
class Ink(Suite):
    """Digits of 8×8 pixels: which digit it is, and how much ink it takes."""

    epochs: int = 15
    batch_size: int = 64
    lr: float = 2e-3

    default_variants = ("clean", "digit@0.3")

    def tasks(self) -> tuple[Task, ...]:
        digit = Task(
            "digit",
            "classification",
            loss=cross_entropy(),
            metrics=(accuracy(10),),
            corruptions=("other-class", "next-class"),
            classes=tuple("0123456789"),
        )
        ink = Task(
            "ink",
            "regression",
            loss=l1(),
            metrics=(absolute_error("%"),),
            corruptions=("uniform",),
            unit="%",
            scale=10.0,
        )
        return digit, ink

    def data(self) -> Data:
        images, digits = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
        images = images.float() / 16
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))

        def split(rows: Tensor) -> Split:
            return Split(images[rows], {"digit": digits[rows], "ink": 100 * images[rows].mean(1)})

        return Data(*(split(rows) for rows in order.split([1197, 300, 300])))

    def model(self) -> nn.Module:
        return TwoHeads()
