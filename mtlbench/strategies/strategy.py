"""A strategy: two stages composed into one update.

A batch gives, for each of the K tasks, a vector of B per-instance losses. The instance stage
weighs the instances inside each task, the task stage weighs the tasks:

    L_k = 1/n_k Σ_b v_bk ℓ_bk          instance weights v [B, K], n_k present labels of task k
    update = Σ_k w_k ∇L_k              task weights w [K]

Both stages work on detached copies of the losses. Their weights then enter the network's backward
pass as the vectors of one vector-Jacobian product, so the K loss vectors are never joined in the
network's graph: joining them would send zeros back through every other head (measured with three
full-resolution heads: 2.0× a plain step against 1.07×).
"""

import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.strategies.base import (
    GRADIENT,
    KINDS,
    InstanceStage,
    Setting,
    TaskStage,
    brought_together,
)
from mtlbench.strategies.closure import ANEW, Closure, LossClosure, require_same
from mtlbench.strategies.given import instance_numbers, loss_values, loss_vectors, require_scale
from mtlbench.strategies.gradients import TaskLosses, readable
from mtlbench.strategies.graph import has_reentrant_checkpoint, share_nodes
from mtlbench.strategies.held_out import HeldOut, HeldOutLosses
from mtlbench.strategies.modes import called_with, plain_modes
from mtlbench.strategies.network import Network, explaining_errors, keep_compiled_buffers
from mtlbench.strategies.origin import Origin, plain_values
from mtlbench.strategies.ranks import (
    expect_gradients_of,
    ranks_of,
    train_together,
    wrapper_around_forward,
)
from mtlbench.strategies.stand_in import stand_in
from mtlbench.strategies.table import ON_DEVICE

ROUNDING = 1e-6
"""A loss that cannot be negative may come out so far below 0, as 1 − cosine does."""


@dataclass(frozen=True)
class EpochSummary:
    """Means over one epoch, by task.

    Attributes:
        losses: unweighted training loss [K]; NaN for a task without a label.
        weights: weight that the task stage gave [K]; NaN where it gives a direction instead.
        bad_batches: how many had a loss, or gave a weighting of gradients a gradient, that was not
            finite; they are in no mean. Of strategies that give a direction, only the former count.
    """

    losses: Tensor
    weights: Tensor
    bad_batches: int


class Strategy(nn.Module):
    """An instance stage and a task stage that together turn per-instance losses into gradients.

    Works in any PyTorch loop: `backward` stands where `loss.backward()` stood, `end_epoch` after
    each epoch. Where a trainer calls `loss.backward()` itself, it gets `loss`.

    Args:
        instance: the instance stage.
        task: the task stage.
        tasks: task name to kind, `classification` or `regression`.
        num_instances: N, the number of training instances; the indices given to `backward` are
            below it. Needed only by stages with a table of instances.
        model: the network; needed only by gradient weightings, which find in the graph of the
            losses which of its parameters the tasks share, and by strategies that look at held-out
            data.
        shared: the shared parameters, or modules that hold them, for gradient weightings where
            the graph does not tell: a network that is compiled as a whole, losses that are cut
            out of one tensor, a layer that holds the heads of several tasks. All others take
            the sum of the tasks' gradients.
        representation: the part of the network whose output all heads see; needed only by gradient
            weightings on the representation, or that compute weights in every n-th step only.
        device, dtype: where and how the strategy keeps its own tensors.
        generator: for the strategy's own randomness.
        instance_tables: where tables of instances lie: `device` beside the model, `cpu` in the
            machine's memory, or a directory for memory-mapped files.
        process_group: the processes that train together, each on its part of every batch: those of
            `torch.distributed`, where it is in use; False for a process by itself.
        name, parameters: what the stages were made by, saved with their state: it is taken over by
            none that was made by something else.

    Raises:
        ValueError: an unknown kind, or a stage parameter or `shared` that does not fit.
    """

    @plain_modes()
    def __init__(
        self,
        instance: InstanceStage,
        task: TaskStage,
        *,
        tasks: Mapping[str, str],
        num_instances: int = 0,
        model: nn.Module | None = None,
        shared: nn.Module | Iterable[nn.Module | Tensor] | None = None,
        representation: nn.Module | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
        instance_tables: str | Path = ON_DEVICE,
        process_group: Any = None,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for named, kind in tasks.items():
            if kind not in KINDS:
                raise ValueError(f"kind of task {named!r} must be one of {KINDS}, but is {kind!r}")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(
                "dtype must be float32 or float64, in which small steps of a running mean count, "
                f"but is {str(dtype).removeprefix('torch.')}"
            )
        self.instance = instance
        self.task = task
        self.setting = Setting(
            tuple(tasks),
            tuple(tasks.values()),
            num_instances,
            torch.device(device),
            dtype,
            generator or torch.Generator().manual_seed(0),
            instance_tables,
            ranks_of(process_group),
        )
        if task.needs_representation and instance.held_out:
            raise ValueError(
                f"{type(instance).__name__} looks at held-out data: on must be 'parameters' and "
                "every 1, since both cut the network's graph"
            )
        if task.recomputes and _transforms(instance):
            raise ValueError(
                f"{type(task).__name__} takes the losses of each batch several times, and "
                f"{type(instance).__name__} learns by the network's outputs once a batch: take "
                "another instance stage, or another weighting of tasks"
            )
        if task.needs_representation and representation is None:
            raise ValueError(
                "representation is needed for on=representation and for every above 1: the "
                "module whose output all heads see"
            )
        self.held_out = instance.held_out or task.held_out
        for stage in (instance, task):
            if self.setting.ranks is not None and not brought_together(stage):
                raise ValueError(
                    f"{type(stage).__name__} does not say that it brings its gradients together "
                    "over processes (over_ranks): train in one, or take another strategy"
                )
        if task.stage == GRADIENT or self.held_out:
            keep_compiled_buffers()
        cut = representation if task.needs_representation else None
        ranks = self.setting.ranks
        self._alone = process_group is not None and ranks is None
        self._network = Network(model, shared, cut, ranks)
        if ranks is not None and model is not None:
            train_together(model, self._network, reduces=task.stage == GRADIENT)
        for stage in (instance, task):
            stage.start(self.setting)
            stage.to(self.setting.device)
        self._origin = Origin(
            name or f"{type(instance).__name__}+{type(task).__name__}",
            plain_values(parameters or {}),
            [*tasks],
            [*tasks.values()],
            num_instances if _needs_index(instance) else None,
        )
        shape = (5, len(self.setting.tasks))
        sums = torch.zeros(shape, device=self.setting.device, dtype=self.setting.dtype)
        self.register_buffer("sums_of_epoch", sums)
        self._steps = 0
        self._transformed = self._ranks_compared = self._graph_is_open = False
        self._goes_on = False
        self._closure_compared = self._warned = False
        self._own_parameters = [*self.parameters()]
        self.register_load_state_dict_post_hook(_keep_parameters)

    def transform(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        index: Tensor,
        present: Tensor | None = None,
    ) -> Mapping[str, Tensor]:
        """The network's outputs as the losses are to see them, before `backward`. Only few
        instance stages change them: see `InstanceStage.transform`."""
        if present is None:
            shape = (len(index), len(self.setting.tasks))
            present = torch.ones(shape, dtype=torch.bool, device=self.setting.device)
        self._transformed = True
        return self.instance.transform(outputs, targets, index, present)

    def backward(
        self,
        losses: Mapping[str, Tensor] | Sequence[Tensor],
        index: Tensor | None = None,
        present: Tensor | None = None,
        *,
        scale: Tensor | float | None = None,
        held_out: HeldOutLosses | None = None,
        closure: LossClosure | None = None,
    ) -> None:
        """Adds this batch's gradient to the network's `.grad` and updates the strategy itself.

        Where a loss of a label that is there is not finite, the gradient is NaN and the strategy
        stays as it was: a loop may skip the step, as `torch.amp.GradScaler` does, and go on.

        Args:
            losses: per-instance losses [B] of each task, by name or in the tasks' order. Kept
                apart: do not stack them. Without an instance stage scalars will do as well.
            index: dataset index of each instance [B]; needed by stages with a table of instances.
            present: bool [B, K], false where a label is absent; all present where not given. The
                loss of an absent label must be finite (put any valid label in its place); it
                adds nothing.
            scale: multiplies the gradient, above 0, and nothing else: `scaler.get_scale()` of a
                `GradScaler`, or 1 / n where the gradients of n batches are added up. The losses are
                to come without it.
            held_out: gives, by task name, the losses of a batch that is not trained on, by the
                network as it is when called; needed by the few strategies that look at such data.
            closure: gives the losses of this batch again, by the network as it is when called;
                needed by strategies that take them at other parameters (`samo`).

        Raises:
            ValueError: losses that do not fit the tasks, the indices or the mask; an index that is
                no number of an instance; the loss of an absent label that is not finite (on a GPU,
                CUDA's own error); a loss of a task below what the strategy has a sense for (the
                same); a scale that is no number above 0; an instance stage that weighs by outputs,
                without `transform` before the losses; a strategy that looks at held-out data,
                without `held_out`, or without a model; one that takes the losses again, without
                a `closure` that gives them.
        """
        with plain_modes() as around, explaining_errors():
            self._backward(
                losses,
                index,
                present,
                scale,
                None if held_out is None else called_with(around, held_out),
                None if closure is None else called_with(around, closure),
            )

    def _backward(
        self,
        losses: Mapping[str, Tensor] | Sequence[Tensor],
        index: Tensor | None,
        present: Tensor | None,
        scale: Tensor | float | None,
        held_out: HeldOutLosses | None,
        closure: LossClosure | None,
    ) -> None:
        self._require_ranks()
        with self._failing_together():
            vectors, values, index, present = self._checked(losses, index, present, scale)
        for parameter in self._own_parameters:  # also where all of a module around is frozen
            parameter.requires_grad_()
        batch_apart = self._held_out(held_out)
        again = self._closure(closure)
        self._require_open_graph(vectors)
        mine = slice(None)
        if self.setting.ranks is not None:
            (values, present, index), mine = self.setting.ranks.gather(values, present, index)
        vectors = self._with_penalties(vectors)
        self._steps += 1
        finite = (values.isfinite() | ~present).all()
        looked_at = readable(finite)
        if looked_at:
            if not finite.numpy():
                _backward_nan(vectors)
                return
        else:  # to look would be to wait: for the stages, a bad batch is one without labels
            present = present & finite
        if again is not None and not self._closure_compared:
            with self._failing_together():
                self._require_same_losses(again, vectors, values[mine], present[mine])
        with torch.no_grad():
            values = torch.where(present, values, 0)
            count = present.sum(0)
        if self.instance.held_out and len(values):
            means = present.to(values.dtype) / count.clamp(min=1)
            plain = (means * values).sum(0)
            self.instance.look(
                TaskLosses(
                    self.setting.tasks, vectors, means[mine], plain, count > 0, scale, batch_apart
                )
            )
        with torch.no_grad():
            instance_weights = values  # of no instances
            if len(values):
                instance_weights = self.instance.weights(values, index, present).to(values.dtype)
            instance_weights = torch.where(present, instance_weights, 0) / count.clamp(min=1)
            task_losses = (instance_weights * values).sum(0)
            self._require_least(task_losses, count > 0)
            if not looked_at:
                instance_weights = torch.where(finite, instance_weights, torch.nan)
        losses_of_tasks = TaskLosses(
            self.setting.tasks,
            vectors,
            instance_weights[mine],
            task_losses,
            count > 0,
            scale,
            batch_apart,
            again,
        )
        if self.task.held_out:
            self.task.look(losses_of_tasks)
        task_weights = self.task.backward(losses_of_tasks, self._network)
        # An optimiser with all parameters of a module around the strategy would learn them again.
        for parameter in self._own_parameters:
            parameter.grad = None
        weighted = task_losses * count
        sums = [values.sum(0), count.to(values.dtype), weighted, task_weights]
        sums.append(torch.ones_like(weighted))
        if not self.task.gives_direction:
            finite = finite & task_weights.isfinite().all()
        self.get_buffer("sums_of_epoch").add_(torch.where(finite, torch.stack(sums), 0))

    def loss(
        self,
        losses: Mapping[str, Tensor] | Sequence[Tensor],
        index: Tensor | None = None,
        present: Tensor | None = None,
        *,
        held_out: HeldOutLosses | None = None,
        closure: LossClosure | None = None,
    ) -> Tensor:
        """One number for trainers that call `backward` by themselves: its backward pass is
        `self.backward` of these losses.

        What the number is multiplied by before (accumulated gradients, a `GradScaler`) is the
        `scale`; what is added to it, such as a penalty, has its own gradient. Without gradients, as
        in an evaluation, it is a number and no more, and needs no index.

        Args:
            losses, index, present, held_out, closure: as for `backward`.

        Returns:
            The sum of the tasks' mean losses, unweighted, a scalar: to be shown.

        Raises:
            ValueError: losses or a mask that do not fit the tasks; the rest as for `backward`, and
                in its backward pass.
        """
        with self._failing_together() if torch.is_grad_enabled() else nullcontext():
            vectors = loss_vectors(losses, self.setting)
            values, there = loss_values(vectors, present, self.setting.dtype)
        total = (torch.where(there, values, 0).sum(0) / there.sum(0).clamp(min=1)).sum()
        if not torch.is_grad_enabled():
            return total
        around = wrapper_around_forward()

        def backward(scale: Tensor) -> None:
            expect_gradients_of(around, vectors)
            self.backward(vectors, index, present, scale=scale, held_out=held_out, closure=closure)

        return stand_in(total, backward)

    @plain_modes()
    def end_epoch(self, validation: Mapping[str, float] | None = None) -> EpochSummary:
        """Tells both stages that an epoch is over and returns its means."""
        loss_sum, count, weighted_loss_sum, weight_sum, good = self.get_buffer(
            "sums_of_epoch"
        ).clone()
        for stage in (self.instance, self.task):
            stage.end_epoch(weighted_loss_sum / count, validation or {})
        bad = self._steps - int(good[0])
        summary = EpochSummary(loss_sum / count, weight_sum / good, bad)
        self.get_buffer("sums_of_epoch").zero_()
        self._steps = 0
        return summary

    def _apply(self, fn: Any, recurse: bool = True) -> "Strategy":
        """Moves it to a device; in a module that changes its precision it keeps `dtype`."""

        def moved(tensor: Tensor) -> Tensor:
            new: Tensor = fn(tensor)
            return new if new.dtype == tensor.dtype else tensor.to(new.device)

        super()._apply(moved, recurse)
        return self

    def get_extra_state(self) -> dict[str, Any]:
        return {
            "generator": self.setting.generator.get_state(),
            "steps": self._steps,
            "origin": self._origin.state(),
        }

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *others: Any
    ) -> None:
        if (state := state_dict.get(f"{prefix}_extra_state")) is not None:
            self._origin.require_same(state.get("origin", {}))
            self._goes_on = True
        super()._load_from_state_dict(state_dict, prefix, *others)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.setting.generator.set_state(state["generator"].cpu())
        self._steps = state["steps"]

    def _require_ranks(self) -> None:
        """Makes sure that all ranks are known, and draw alike."""
        ranks = self.setting.ranks
        if ranks is None and not self._alone and ranks_of(None) is not None:
            raise ValueError(
                "the strategy was built before torch.distributed was in use: build it after "
                "init_process_group, or with process_group=False"
            )
        if ranks is not None and not self._ranks_compared:
            device, built = self.setting.device, repr((self._origin, self._goes_on))
            ranks.require_same(
                self.setting.generator.initial_seed(),
                device,
                "generator must have the same seed on all ranks: strategies draw for all of them",
            )
            ranks.require_same(
                zlib.crc32(built.encode()),
                device,
                "all ranks must build the strategy alike, with one name, the same parameters, "
                "tasks in one order and one num_instances, and load its state on all or none",
            )
            self._ranks_compared = True

    @contextmanager
    def _failing_together(self) -> Iterator[None]:
        """Lets all ranks raise a ValueError where one does, before they gather a batch."""
        try:
            yield
        except ValueError:
            if self.setting.ranks is not None:
                self.setting.ranks.cannot_go_on(self.setting.device)
            raise

    def _checked(
        self,
        losses: Mapping[str, Tensor] | Sequence[Tensor],
        index: Tensor | None,
        present: Tensor | None,
        scale: Tensor | float | None,
    ) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """The loss vectors; their values [B, K]; index and presence, as given or made up.

        Raises:
            ValueError: as for `backward`.
        """
        vectors = loss_vectors(losses, self.setting)
        values, present = loss_values(vectors, present, self.setting.dtype)
        self._require_learning(vectors, present & (values != 0))
        if index is None:
            self._require_instances(losses)
            index = self._no_index(len(values))
        else:
            index = instance_numbers(index, len(values), self.setting.num_instances)
        self._require_transform()
        require_scale(scale)
        return vectors, values, index, present

    def _held_out(self, losses: HeldOutLosses | None) -> HeldOut | None:
        """The held-out batch of a step, where a stage looks at one.

        Raises:
            ValueError: there is none, or no network.
        """
        if not self.held_out:
            return None
        if losses is None:
            raise ValueError(
                f"held_out is needed: {self._looking} looks at a batch that is not trained on, "
                "held_out=lambda: {task: loss, …} of it"
            )
        if self._network.model is None:
            raise ValueError(f"model is needed: {self._looking} looks at held-out data with it")
        return HeldOut(losses, self._network.model, self.setting.tasks, self.setting.ranks)

    def _closure(self, losses: LossClosure | None) -> Closure | None:
        """The losses of a step again, where the task stage asks for them.

        Raises:
            ValueError: there is nothing that gives them, or no network.
        """
        if not self.task.recomputes:
            return None
        name = type(self.task).__name__
        if losses is None:
            raise ValueError(
                f"closure is needed: {name} takes the losses of the batch at other parameters, "
                "closure=lambda: {task: loss, …}, which computes them anew"
            )
        if self._network.model is None:
            raise ValueError(f"model is needed: {name} takes the losses at other parameters of it")
        vectors = partial(loss_vectors, setting=self.setting)
        return Closure(losses, self._network.model, vectors)

    def _require_same_losses(
        self, closure: Closure, vectors: list[Tensor], values: Tensor, present: Tensor
    ) -> None:
        """Makes sure, in the first step, that a closure computes the losses of the batch."""
        with torch.enable_grad(), closure.losses() as again:
            if share_nodes(again, vectors):
                raise ValueError(ANEW)
            require_same(self.setting.tasks, values, again, present)
        self._closure_compared = True

    def _require_open_graph(self, vectors: list[Tensor]) -> None:
        """Makes sure, in the first step, that all parameters can be seen in the graph."""
        if (self.held_out or self.task.recomputes) and not self._graph_is_open:
            if has_reentrant_checkpoint(vectors):
                name = self._looking if self.held_out else type(self.task).__name__
                raise ValueError(
                    f"{name} takes gradients apart from the step, which parameters in a "
                    "reentrant activation checkpoint hide from: make it with use_reentrant=False"
                )
            self._graph_is_open = True

    @property
    def _looking(self) -> str:
        stage = self.instance if self.instance.held_out else self.task
        return type(stage).__name__

    def _with_penalties(self, vectors: list[Tensor]) -> list[Tensor]:
        """The loss vectors with the gradients of the instance stage's penalties, and their own
        values."""
        penalties = self.instance.penalties()
        return [
            vector + (penalties[task] - penalties[task].detach()).to(vector.dtype)
            if task in penalties and vector.requires_grad  # a constant has no label
            else vector
            for task, vector in zip(self.setting.tasks, vectors, strict=True)
        ]

    def _require_transform(self) -> None:
        if _transforms(self.instance) and not self._transformed:
            raise ValueError(
                f"{type(self.instance).__name__} weighs instances by the network's outputs: give "
                "them to strategy.transform before the losses of each batch"
            )
        self._transformed = False

    def _require_least(self, losses: Tensor, present: Tensor) -> None:
        """Makes sure that the task stage has a sense for the losses [K]."""
        least = self.task.least_loss
        if least is None:
            return
        below = present & (losses < least - ROUNDING)
        if not readable(below):
            torch._assert_async(~below.any())  # waiting for it would take longer than the step
        elif below.numpy().any():
            (k, *_) = below.nonzero().flatten().tolist()
            bound = torch.as_tensor(least).expand(len(losses))[k].item()
            raise ValueError(
                f"task {self.setting.tasks[k]!r} has a loss of {losses[k]:.3g}, and "
                f"{type(self.task).__name__} needs losses of at least {bound:g}: add a constant to "
                "it, or take another strategy"
            )

    def _require_learning(self, vectors: Sequence[Tensor], counts: Tensor) -> None:
        """Makes sure that losses can be learned from; warns, once, of a task's that cannot.

        Args:
            vectors: the losses [B] of each task.
            counts: where one is there and not 0, bool [B, K].
        """
        constant = [not vector.requires_grad for vector in vectors]
        if all(constant) and counts.any():
            raise ValueError(
                "no loss depends on a parameter that learns: they were computed under "
                "torch.no_grad or detached, or the whole network is frozen"
            )
        if any(constant) and not self._warned and readable(counts):
            tasks = [
                repr(task)
                for task, still, column in zip(
                    self.setting.tasks, constant, counts.any(0).tolist(), strict=True
                )
                if still and column
            ]
            if tasks:
                self._warned = True
                warnings.warn(
                    f"the loss of task {' and '.join(tasks)} depends on no parameter that learns: "
                    "it is weighed, and nothing is learned from it",
                    stacklevel=5,
                )

    def _require_instances(self, losses: Mapping[str, Tensor] | Sequence[Tensor]) -> None:
        """Makes sure that an instance stage gets more than means."""
        given = losses.values() if isinstance(losses, Mapping) else losses
        means = all(not isinstance(loss, Tensor) or loss.ndim == 0 for loss in given)
        if means and type(self.instance) is not InstanceStage:
            raise ValueError(
                f"{type(self.instance).__name__} weighs instances: keep the loss of each, "
                "reduction='none'"
            )

    def _no_index(self, batch: int) -> Tensor:
        if _needs_index(self.instance):
            raise ValueError(
                f"index is needed: {type(self.instance).__name__} looks at the index of each "
                "instance (needs_index)"
            )
        return torch.full((batch,), -1, device=self.setting.device)


def _keep_parameters(strategy: Strategy, _: object) -> None:
    """Lets the parameters stay the ones that optimisers have, with the values that were loaded:
    `load_state_dict(…, assign=True)` puts others in their place."""
    modules = [(m, name, p) for m in strategy.modules() for name, p in m._parameters.items()]
    loaded = [(m, name, p) for m, name, p in modules if p is not None]
    for (module, name, new), own in zip(loaded, strategy._own_parameters, strict=True):
        if new is not own:
            with torch.no_grad():
                own.copy_(new)
            module._parameters[name] = own


def _needs_index(instance: InstanceStage) -> bool:
    if instance.needs_index is not None:
        return instance.needs_index
    own, plain = (
        (instance.weights, instance.transform),
        (InstanceStage.weights, InstanceStage.transform),
    )
    return tuple(getattr(method, "__func__", None) for method in own) != plain


def _transforms(instance: InstanceStage) -> bool:
    own = getattr(instance.transform, "__func__", None)
    return own is not InstanceStage.transform


def _backward_nan(vectors: Sequence[Tensor]) -> None:
    """Adds NaN to `.grad` of all that the losses depend on."""
    learn = [vector for vector in vectors if vector.requires_grad]
    if learn:
        torch.autograd.backward(learn, [torch.full_like(vector, torch.nan) for vector in learn])
