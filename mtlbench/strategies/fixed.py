"""Weights that do not change: equal, set by hand, and found by another strategy."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.registry import Entry
from mtlbench.space import TaskWeights
from mtlbench.stages import INSTANCE
from mtlbench.strategies.base import (
    GradientWeighting,
    LossWeighting,
    Setting,
    register_strategy,
    strategies,
)


@register_strategy("equal", label="Eq. Weight")
class Equal(LossWeighting):
    """The sum of the task losses."""

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        return torch.ones_like(losses)


@register_strategy("static", label="Static")
class Static(LossWeighting):
    """Weights set by hand.

    Args:
        weights: task name to weight, at least 0; 1 for a task that is not named.
    """

    space: ClassVar = {"weights": TaskWeights()}

    def __init__(self, weights: dict[str, float] = {}) -> None:  # noqa: B006 (never changed)
        super().__init__()
        self.by_task: Mapping[str, float] = weights

    def start(self, setting: Setting) -> None:
        self.register_buffer("fixed", setting.per_task(self.by_task, "weight"))

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        return self.get_buffer("fixed")


@register_strategy("single", label="Single-task")
class SingleTask(LossWeighting):
    """One network for each task, trained by the loss of that task alone.

        w_k = 1 in the network of task k, else 0

    What the field holds multi-task learning against. In the harness a run of this strategy trains
    as many networks as there are tasks, each the suite's whole one with the same initial weights,
    batches and augmentation, and takes from each the metrics of its own task. So it costs as many
    times what another strategy does, and the same at inference.

    In a training loop of one's own this is one of the networks, of all tasks until `set_task`.
    """

    network_per_task = True

    def start(self, setting: Setting) -> None:
        self._setting = setting
        self.register_buffer("mine", setting.per_task({}, "weight"))

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        return self.get_buffer("mine")

    def set_task(self, task: str) -> None:
        """Makes this the network of one task.

        Raises:
            ValueError: there is no such task.
        """
        weights = dict.fromkeys(self._setting.tasks, 0.0) | {task: 1.0}
        self.get_buffer("mine").copy_(self._setting.per_task(weights, "weight"))


FROZEN = "frozen"


class Frozen(Static):
    """The mean weights that another strategy found, fixed.

        w_k = 1/E Σ_e w_ke    w_ke: mean weight of task k in epoch e of the other strategy's run

    Tells what a strategy's dynamics are worth beside the weights that they lead to (Gama & Grassi
    2025). In a study the weights are those of the other strategy's run with seed 0 on the same
    variant, and the same for all seeds.

    Args:
        weights: as for `static`.

    Attributes:
        of: the strategy whose run gives the parameters `taken`.
    """

    of: ClassVar[str] = ""
    taken: ClassVar = ("weights",)
    space: ClassVar = {}


@functools.cache
def frozen(name: str) -> Entry:
    """The entry of the frozen weights of a strategy.

    Raises:
        UserError: there is no such strategy, or it weighs no tasks in a network of all.
    """
    if not name:
        raise UserError(f"{FROZEN}: needs the name of a strategy, as in {FROZEN}:dwa")
    entry = strategies.get(name)
    cls: Any = entry.cls
    directs = (
        issubclass(cls, GradientWeighting) and cls.direction is not GradientWeighting.direction
    )
    if cls.stage == INSTANCE or cls.network_per_task or directs or issubclass(cls, Frozen):
        raise UserError(f"strategy {FROZEN}:{name}: {name!r} finds no weights of tasks to freeze")
    if getattr(cls, "of", ""):
        raise UserError(f"strategy {FROZEN}:{name}: {name!r} itself takes what other runs found")
    own = type("Frozen", (Frozen,), {"of": name, "__doc__": Frozen.__doc__})
    return Entry(f"{FROZEN}:{name}", own, f"Frozen {entry.label}", entry.source)


strategies.register_namespace(FROZEN, frozen)
