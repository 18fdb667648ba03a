"""A suite: data, model, tasks, training recipe and default study."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.data.splits import Data, Inputs, Split, Targets, each_input
from mtlbench.data.variants import CLEAN, Variant
from mtlbench.registry import Registry
from mtlbench.space import Space, around
from mtlbench.tasks.epoch_rule import EpochRule
from mtlbench.tasks.task import Task

LOCATION = {"location": True}
"""Metadata of a suite's field that says where or how a machine reads its data, and is no part of
what a run is, so that the same run has the same hash on every machine: a path, made absolute, or a
number of processes."""

PAPER_STRATEGIES = ("equal", "mtu", "dwa", "gls", "ilt")


@dataclass(frozen=True, kw_only=True)
class Suite(ABC):
    """A benchmark. A subclass is a frozen dataclass whose fields `--set` can reach.

    Attributes:
        epochs: passes over the training data.
        batch_size: instances a step.
        lr: learning rate of the network.
        weight_decay: of all weights in a step, as a share of the learning rate (Loshchilov &
            Hutter 2019).
        epoch_rule: which epochs the final metrics are of: `last`, `best` on validation data, or
            `mean:N`, the mean over the last N; see `EpochRule`.
        precision: `bfloat16` trains under autocast.
        missing_labels: share of the training labels left out at random, in [0, 1).
        corruption_seed: decides which labels are corrupted or left out, and how.

    Raises:
        ValueError: a field out of its range.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.0
    epoch_rule: str = "last"
    precision: Literal["float32", "bfloat16"] = "float32"
    missing_labels: float = 0.0
    corruption_seed: int = 0

    default_variants: ClassVar[tuple[str, ...]] = (CLEAN,)
    default_strategies: ClassVar[tuple[str, ...]] = PAPER_STRATEGIES
    default_seeds: ClassVar[int] = 3
    searchable: ClassVar[tuple[str, ...]] = ("lr", "weight_decay", "batch_size", "precision")
    """Fields that decide only how the network is trained, or which: what a tuning may search."""
    channels_last: ClassVar[bool] = True
    """Whether networks and pictures are laid out with the channels of a pixel side by side.

    Measured on a CPU: 1.3 to 1.7 times faster than contiguous images; on a GPU more. The network
    must not `view` maps as if they were contiguous."""
    compiled: ClassVar[bool] = False
    """True where `torch.compile` pays; a suite may make it a field."""
    graphed: ClassVar[bool] = False
    """True where a GPU is to replay the network's passes as CUDA graphs, which run the same kernels
    without launching each. The network must not decide anything by its inputs."""
    gpu_share: ClassVar[float] = 1.0
    """What a run takes of one GPU, or how many, where nobody asks for anything else. A small
    network leaves most of a card idle: on an H100, 8 runs of `digits` at a time make 4.2 times as
    many an hour as one, and 16 only 4 % more, for twice the memory."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, but is {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, but is {self.weight_decay}")
        if EpochRule.parse(self.epoch_rule).count > self.epochs:
            raise ValueError(
                f"epoch_rule is {self.epoch_rule!r}, but there are {self.epochs} epochs"
            )
        if not 0 <= self.missing_labels < 1:
            raise ValueError(
                f"missing_labels must be at least 0 and below 1, but is {self.missing_labels}"
            )

        share = self.gpu_share
        if not (0 < share <= 1 or (share > 1 and share == int(share))):
            raise ValueError(f"gpu_share must be in (0, 1] or a whole number, but is {share}")

    def require_at_least_one(self, *names: str) -> None:
        """Raises ValueError where one of these fields, a size, is below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}")

    def check(self) -> None:  # noqa: B027 (most suites have nothing to check)
        """Makes sure that the data is there, before anything is trained.

        Raises:
            UserError: it is not.
        """

    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """The K tasks. Called often and before any data is there: keep it quick."""

    @abstractmethod
    def data(self) -> Data:
        """The splits, the same for the same fields."""

    @abstractmethod
    def model(self) -> nn.Module:
        """A new network, drawn from PyTorch's global generator, that takes a batch of inputs as
        `prepare` returns them and gives task name to output."""

    def prepare(self, inputs: Inputs) -> Inputs:
        """Inputs as stored to inputs of the network; 8-bit images go to [−1, 1]."""

        def scaled(values: Tensor) -> Tensor:
            return values.float() / 127.5 - 1 if values.dtype == torch.uint8 else values

        return each_input(inputs, scaled)

    def call(self, network: Callable[[Any], Any], inputs: Any) -> dict[str, Tensor]:
        """The outputs of the network, or of what replays it, by task [B, …]."""
        outputs: dict[str, Tensor] = network(inputs)
        return outputs

    def complete(self, targets: Targets) -> Targets:
        """Labels of a batch with those that follow from others, as the surface of a body from its
        shape and pose. They are wrong where those are, and cannot be corrupted by themselves."""
        return targets

    def augment(
        self, inputs: Any, targets: Targets, generator: torch.Generator
    ) -> tuple[Any, Targets]:
        """Training batch (prepared inputs, labels) to the same, changed at random; none here.

        The generator is on the CPU; draw from it alone, and always the same number of values.
        """
        return inputs, targets

    def order(self, train: Split, generator: torch.Generator) -> Tensor:
        """The row numbers of one epoch in the order of their visits: all once, at random.

        Where tasks have data of their own, `mtlbench.data.orders.even_order` gives each its share.
        The generator is on the CPU; draw from it alone.
        """
        return torch.randperm(len(train), generator=generator)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of the network, the same for every strategy."""
        return torch.optim.AdamW(
            model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )

    def representation(self, model: nn.Module) -> nn.Module | None:
        """The part of the network whose output all heads see, for gradient weightings on the
        representation; `model.trunk` where there is one."""
        return getattr(model, "trunk", None)

    def lr_factor(self, progress: float) -> float:
        """Factor of the learning rates at a share of the training in [0, 1);
        half a cosine from 1 to 0 (Loshchilov & Hutter 2017)."""
        return 0.5 * (1 + math.cos(math.pi * progress))

    def views(self, inputs: Any, values: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Pictures of labels or predictions that a label map does not show, for people to look at.

        Args:
            inputs: as stored [M, …].
            values: labels or predictions of each task, in the labels' units.

        Returns:
            Name to RGB images, uint8 [M, 3, H, W].
        """
        return {}

    def space(self) -> Space:
        """The values among which all strategies are tuned, by field: the learning rate, and weight
        decay where the recipe has it."""
        decay = {"weight_decay": around(self.weight_decay)} if self.weight_decay else {}
        return {"lr": around(self.lr), **decay}

    def strategy_parameters(self, variant: Variant) -> Mapping[str, Any]:
        """`STAGE.PARAMETER` to value, where this suite's recipe departs from the defaults."""
        return {}


suites = Registry("suite", Suite)
register_suite = suites.register
