"""From a name such as `ilt+log+pcgrad` and its parameters to a strategy."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.errors import UserError
from mtlbench.registry import Entry, resolve, settable
from mtlbench.stages import SEES_VALIDATION
from mtlbench.strategies.base import (
    GRADIENT,
    INSTANCE,
    InstanceStage,
    Stage,
    brought_together,
    strategies,
)
from mtlbench.strategies.fewer_passes import FewerPasses
from mtlbench.strategies.logarithm import OfLogLosses
from mtlbench.strategies.modes import plain_modes
from mtlbench.strategies.strategy import Strategy
from mtlbench.strategies.table import ON_DEVICE

DEFAULT_TASK_STAGE = "equal"

LOGARITHM, SHARPNESS = "log", "samo"
"""The task stages that may also stand in front of a gradient weighting."""


def stage_of(entry: Entry) -> str:
    """The quantity that a registered stage weighs by: `instance`, `loss` or `gradient`."""
    stage: str = entry.cls.stage  # type: ignore[attr-defined]
    return stage


def wrapper_parameters(entry: Entry) -> dict[str, inspect.Parameter]:
    """Those parameters of a stage that are the wrapper's around all of its kind."""
    if stage_of(entry) != GRADIENT:
        return {}
    own, options = entry.parameters(), settable(FewerPasses)
    return {name: options[name] for name in options if name != "inner" and name not in own}


def build_stage(entry: Entry, values: Mapping[str, Any]) -> Stage:
    """A stage with these parameters, in its wrapper where one of them is the wrapper's.

    Raises:
        ValueError: a parameter out of its range.
    """
    options = wrapper_parameters(entry)
    stage: Any = entry.cls(**{k: v for k, v in values.items() if k not in options})
    chosen = {k: values[k] for k, option in options.items() if values.get(k) != option.default}
    return FewerPasses(stage, **chosen) if chosen else stage


@dataclass(frozen=True)
class Composition:
    """The stages that a strategy's name stands for.

    Attributes:
        instance: the instance stage, or None for the mean over present labels.
        task: the task stage.
        before: what stands in front of it: `log`, which has it see the logarithms of the losses, or
            `samo`, which has it see the gradients elsewhere; None for nothing.
    """

    instance: Entry | None
    task: Entry
    before: Entry | None = None

    @classmethod
    def parse(cls, name: str) -> "Composition":
        """Reads `INSTANCE`, `TASK`, `INSTANCE+TASK`, each `TASK` also as `log+TASK` or
        `samo+TASK`, in any order.

        Raises:
            UserError: an unknown name, two stages of one kind, or two that do not go together.
        """
        entries = [strategies.get(part.strip()) for part in name.split("+")]
        instances = [entry for entry in entries if stage_of(entry) == INSTANCE]
        tasks = [entry for entry in entries if stage_of(entry) != INSTANCE]
        in_front = [entry for entry in tasks if entry.name in (LOGARITHM, SHARPNESS)]
        behind = [entry for entry in tasks if entry not in in_front]
        before = None
        if len(in_front) == 1 and any(stage_of(entry) == GRADIENT for entry in behind):
            (before,), tasks = in_front, behind
        for kind, found in (("instance", instances), ("task", tasks)):
            if len(found) > 1:
                raise UserError(f"strategy {name!r} has two {kind} stages; one is the most")
        instance = instances[0] if instances else None
        task = tasks[0] if tasks else strategies.get(DEFAULT_TASK_STAGE)
        if instance and task.cls.network_per_task:  # type: ignore[attr-defined]
            raise UserError(f"strategy {name!r}: {task.name!r} goes with no instance stage")
        if before and task.cls.least_loss is not None:  # type: ignore[attr-defined]
            raise UserError(f"strategy {name!r}: {task.name!r} takes the logarithm by itself")
        return cls(instance, task, before)

    @property
    def stages(self) -> list[Entry]:
        """The stages that the name mentions: without the default task stage beside another."""
        found = [self.instance] if self.instance else []
        if self.before:
            found.append(self.before)
        if not found or self.task.name != DEFAULT_TASK_STAGE:
            found.append(self.task)
        return found

    @property
    def name(self) -> str:
        """The one name of this composition: the stages in order, nothing implied named."""
        return "+".join(entry.name for entry in self.stages)

    @property
    def stage(self) -> str:
        """What it weighs by: compositions with an instance stage are apart from weightings of
        tasks alone."""
        return stage_of(self.instance or self.task)

    @property
    def held_out(self) -> bool:
        """Whether a stage looks at held-out data."""
        return any(entry.cls.held_out for entry in self.stages)  # type: ignore[attr-defined]

    @property
    def recomputes(self) -> bool:
        """Whether a stage asks for the losses of a batch again, at other parameters."""
        return any(entry.cls.recomputes for entry in self.stages)  # type: ignore[attr-defined]

    @property
    def over_ranks(self) -> bool:
        """Whether several processes can train it together."""
        return all(brought_together(entry.cls) for entry in self.stages)

    @property
    def label(self) -> str:
        return " + ".join(entry.label for entry in self.stages) + SEES_VALIDATION * self.held_out

    def resolve(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters as `STAGE.PARAMETER`: the defaults, overridden by `values`.

        Raises:
            UserError: a name that is no parameter, or a value of the wrong type.
        """
        resolved: dict[str, Any] = {}
        for entry in self.stages:
            own = {
                key.removeprefix(f"{entry.name}."): value
                for key, value in values.items()
                if key.startswith(f"{entry.name}.")
            }
            parameters = entry.parameters() | wrapper_parameters(entry)
            for key, value in resolve(parameters, own, prefix=f"{entry.name}.").items():
                resolved[f"{entry.name}.{key}"] = value
        for key in values:
            if key not in resolved:
                known = ", ".join(resolved) or "it has none"
                raise UserError(f"strategy {self.name!r} has no parameter {key!r}; {known}")
        return resolved

    @plain_modes()
    def build(self, parameters: Mapping[str, Any], **setting: Any) -> Strategy:
        """The strategy itself; `setting` as for `Strategy`.

        Raises:
            UserError: a parameter out of its range or not fitting the tasks.
        """
        try:
            instance = self._stage(self.instance, parameters) if self.instance else InstanceStage()
            task, resolved = self.task_stage(parameters), self.resolve(parameters)
            return Strategy(instance, task, name=self.name, parameters=resolved, **setting)
        except ValueError as error:
            raise UserError(f"strategy {self.name!r}: {error}") from error

    def task_stage(self, parameters: Mapping[str, Any]) -> Any:
        """The task stage by itself.

        Raises:
            ValueError: a parameter out of its range.
        """
        stage = self._stage(self.task, parameters)
        if self.before is None:
            return stage
        if self.before.name == LOGARITHM:
            return OfLogLosses(stage)
        around = self._stage(self.before, parameters)
        around.stand_before(stage)
        return around

    def _stage(self, entry: Entry, parameters: Mapping[str, Any]) -> Any:
        prefix = f"{entry.name}."
        own = {k: v for k, v in self.resolve(parameters).items() if k.startswith(prefix)}
        return build_stage(entry, {k.removeprefix(prefix): v for k, v in own.items()})


def build_strategy(
    name: str,
    *,
    tasks: Mapping[str, str],
    num_instances: int = 0,
    model: nn.Module | None = None,
    shared: nn.Module | Iterable[nn.Module | Tensor] | None = None,
    representation: nn.Module | None = None,
    parameters: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
    instance_tables: str | Path = ON_DEVICE,
    process_group: Any = None,
) -> Strategy:
    """A strategy by name, for a training loop of one's own.

    Examples:
        >>> strategy = build_strategy(
        ...     "ilt", tasks={"segmentation": "classification", "depth": "regression"},
        ...     num_instances=600, parameters={"ilt.lr": 2.0})

    Args:
        name: `ilt`, `pcgrad`, `ilt+pcgrad`, `log+pcgrad`, `samo+pcgrad` …
        tasks: task name to kind, `classification` or `regression`.
        num_instances: number of training instances; needed by instance stages such as `ilt`.
        model: the network; needed by gradient weightings.
        shared: the shared parameters, or modules that hold them, where a gradient weighting is
            not to find them in the graph of the losses; needed where the network is compiled as a
            whole, or the losses are cut out of one tensor.
        representation: the part of the network whose output all heads see; needed by gradient
            weightings with the option `on=representation` or `every` above 1.
        parameters: `STAGE.PARAMETER` to value.
        device, dtype, generator, instance_tables, process_group: as for `Strategy`.

    Raises:
        UserError: an unknown name or parameter, or a value out of its range.
    """
    return Composition.parse(name).build(
        parameters or {},
        tasks=tasks,
        num_instances=num_instances,
        model=model,
        shared=shared,
        representation=representation,
        device=device,
        dtype=dtype,
        generator=generator,
        instance_tables=instance_tables,
        process_group=process_group,
    )
