"""A small suite in float64 with all that parts of a batch could get wrong: batch norm, dropout,
augmentation, absent labels, and batches of few."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

import mtlbench
from mtlbench.data.splits import Targets
from mtlbench.models.small import BatchNorm
from mtlbench.tasks.metrics import absolute_error, accuracy
from mtlbench.tasks.task import Task

INPUTS, CLASSES = 6, 3


class Net(nn.Module):
    """Inputs [B, 6] to logits [B, 3] of `kind` and numbers [B] of `height` and `width`."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(INPUTS, 8),
            nn.BatchNorm1d(8),
            nn.Tanh(),
            nn.Dropout(0.2),
            nn.Linear(8, 8),
            BatchNorm(8),
            nn.Tanh(),
        )
        self.heads = nn.ModuleDict({"kind": nn.Linear(8, CLASSES), "height": nn.Linear(8, 1)})
        self.heads["width"] = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        seen = self.trunk(inputs)
        outputs = {task: head(seen) for task, head in self.heads.items()}
        return {task: y if task == "kind" else y[:, 0] for task, y in outputs.items()}


class Alone(Net):
    """Draws by itself, so that parts of a batch draw other numbers than the whole."""

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return super().forward(inputs + torch.rand_like(inputs))


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return 0.1 + functional.cross_entropy(output, target, reduction="none")


def square(output: Tensor, target: Tensor) -> Tensor:
    return 0.1 + (output - target).square()


@mtlbench.register_suite("in-float64")
@dataclass(frozen=True, kw_only=True)
class InFloat64(mtlbench.Suite):
    """Attributes: `size` training instances, and whether the network draws by itself."""

    epochs: int = 2
    batch_size: int = 9
    lr: float = 1e-2
    missing_labels: float = 0.2
    size: int = 20
    draws: bool = False

    default_variants: ClassVar[tuple[str, ...]] = ("kind@0.4",)

    def tasks(self) -> tuple[Task, ...]:
        names = tuple("abc")
        return (
            Task("kind", "classification", cross_entropy, (accuracy(3),), ("shuffle",), names),
            Task("height", "regression", square, (absolute_error("m"),), ()),
            Task("width", "regression", square, (absolute_error("m"),), ()),
        )

    def data(self) -> mtlbench.Data:
        chance = torch.Generator().manual_seed(0)
        splits = []
        for count in (self.size, 20, 20):
            inputs = torch.randn(count, INPUTS, generator=chance, dtype=torch.float64)
            kind = inputs[:, :CLASSES].argmax(1)
            labels = {"kind": kind, "height": inputs[:, 0] + inputs[:, 1], "width": inputs[:, 2]}
            splits.append(mtlbench.Split(inputs, labels))
        return mtlbench.Data(*splits)

    def model(self) -> nn.Module:
        return (Alone if self.draws else Net)().double()

    def augment(
        self, inputs: Any, targets: Targets, generator: torch.Generator
    ) -> tuple[Any, Targets]:
        noise = torch.randn(inputs.shape, generator=generator, dtype=torch.float64)
        return inputs + 0.1 * noise, targets
