"""The two stages of a strategy: one weighs the instances inside each task, one the tasks."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtlbench.registry import Registry
from mtlbench.space import Space
from mtlbench.stages import GRADIENT, INSTANCE, LOSS
from mtlbench.strategies.gradients import Jacobian, TaskLosses, all_finite, readable
from mtlbench.strategies.kept import LateTensor
from mtlbench.strategies.network import Network
from mtlbench.strategies.optimizers import load_optimizer, optimizer_state
from mtlbench.strategies.ranks import Ranks
from mtlbench.strategies.table import ON_DEVICE, InstanceTable

CLASSIFICATION, REGRESSION = "classification", "regression"
KINDS = (CLASSIFICATION, REGRESSION)

STEEPEST = 1e15
"""Of a larger slope Adam's square would be infinite in float32."""


@dataclass(frozen=True)
class Setting:
    """The setting of a training, told to each stage at its start.

    Attributes:
        tasks: the K task names, in the order of every [K] tensor.
        kinds: `classification` or `regression` for each task.
        num_instances: N, the number of training instances.
        device, dtype: where and how a stage keeps its own tensors.
        generator: a CPU generator for the strategy's own randomness.
        instance_tables: where tables of instances lie: `device`, `cpu` or a directory.
        ranks: the processes that train together, None for a process by itself. Whatever a stage is
            given is of the whole batch, but for the outputs and labels of `transform`.
    """

    tasks: tuple[str, ...]
    kinds: tuple[str, ...]
    num_instances: int
    device: torch.device
    dtype: torch.dtype
    generator: torch.Generator
    instance_tables: str | Path = ON_DEVICE
    ranks: Ranks | None = None

    def require_instances(self, what: str) -> None:
        """Makes sure that it is known how many instances there are, each of which has such a thing.

        Raises:
            ValueError: it is not.
        """
        if self.num_instances < 1:
            raise ValueError(
                f"num_instances must be at least 1, but is {self.num_instances}: there is a {what} "
                "for each training instance"
            )

    def instance_table(self, columns: int) -> InstanceTable:
        """A table of `columns` numbers for each (instance, task), 0 at first."""
        shape = (self.num_instances, columns, len(self.tasks))
        return InstanceTable(shape, self.instance_tables, self.device, self.dtype)

    def per_task(self, values: Mapping[str, float], what: str, least: float = 0.0) -> Tensor:
        """The values by task name as [K], 1 where a task is not named.

        Raises:
            ValueError: a name that is no task, or a value below the least.
        """
        for task, value in values.items():
            if task not in self.tasks:
                raise ValueError(
                    f"{what} names the unknown task {task!r}; tasks: {', '.join(self.tasks)}"
                )
            if value < least:
                raise ValueError(
                    f"{what} of task {task!r} must be at least {least:g}, but is {value}"
                )
        return self.tensor([values.get(task, 1.0) for task in self.tasks])

    def per_kind(self, *, classification: float, regression: float) -> Tensor:
        """A constant for each task by its kind, as [K]."""
        by_kind = {CLASSIFICATION: classification, REGRESSION: regression}
        return self.tensor([by_kind[kind] for kind in self.kinds])

    def tensor(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self.device, dtype=self.dtype)


class Stage(nn.Module):
    """Base of both stages: a start, the end of an epoch, and a state to save.

    A stage with parameters of its own sets `self.optimizer` in `start`; everything it must
    remember between steps is a parameter or a buffer, so that `state_dict` holds it.

    Attributes:
        stage: what it weighs by: `instance`, `loss` or `gradient`.
        space: the values among which its own parameters are tuned, by name.
        held_out: whether it looks at a batch of held-out data in every step, see `look`.
        recomputes: whether it asks for the losses of the batch again, at other parameters: a task
            stage only.
        over_ranks: whether one that does either brings its gradients together over the processes
            that train together, `setting.ranks`; else it trains in one process alone.
    """

    stage: ClassVar[str]
    space: ClassVar[Space] = {}
    held_out: ClassVar[bool] = False
    recomputes: ClassVar[bool] = False
    over_ranks: ClassVar[bool] = False
    optimizer: torch.optim.Optimizer | None = None

    def start(self, setting: Setting) -> None:
        """Called once before training; makes parameters and buffers.

        Raises:
            ValueError: a parameter does not fit the tasks.
        """

    def look(self, losses: TaskLosses) -> None:
        """Called in every step before `weights`, if the stage says `held_out`.

        Args:
            losses: those of the batch, and with them `held_out`, a batch of held-out data. An
                instance stage sees the plain mean of each task, a task stage what that has become.
        """

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        """Called after each epoch.

        Args:
            losses: mean training loss of each task over the epoch [K], NaN for a task without a
                label in it.
            validation: `TASK/METRIC` to value; empty outside the harness unless given.
        """

    @contextmanager
    def kept_without(self, labels: Tensor) -> Iterator[None]:
        """Lets the stage keep what it remembers where a batch on a GPU has no labels, which is how
        it is told of a bad one. Elsewhere it is not asked then."""
        tensors: list[Tensor] = []
        if not readable(labels):
            late = [module.values for module in self.modules() if isinstance(module, LateTensor)]
            tensors = [*self.parameters(), *self.buffers(), *late]
        if tensors and self.optimizer is not None:
            states = chain.from_iterable(each.values() for each in self.optimizer.state.values())
            tensors += [value for value in states if isinstance(value, Tensor)]
        # Adam counts its steps on the CPU.
        before = [(each, each.detach().clone()) for each in tensors if each.device == labels.device]
        yield
        for tensor, value in before:
            tensor.copy_(torch.where(labels, tensor, value))

    def take_step(self, slopes: Sequence[Tensor], present: Tensor) -> None:
        """A step of `self.optimizer` on the stage's parameters, each [K, …], by slopes that are
        given; those of tasks without a label stay, and all where a slope is not finite or no task
        has a label.

        Args:
            slopes: of each parameter.
            present: which tasks have a label in the batch, bool [K].
        """
        assert self.optimizer is not None
        finite = torch.stack([slope.isfinite().all() for slope in slopes]).all()
        told = finite & present.any()
        if readable(told) and not told.numpy():
            return
        parameters = list(self.parameters())
        with torch.no_grad(), self.kept_without(told):
            before = [parameter.clone() for parameter in parameters]
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter.grad = torch.where(finite, slope.clamp(-STEEPEST, STEEPEST), 0)
            self.optimizer.step()
            for parameter, value in zip(parameters, before, strict=True):
                of_tasks = present.view(-1, *(1,) * (value.ndim - 1))
                parameter.copy_(torch.where(of_tasks, parameter, value))

    def get_extra_state(self) -> dict[str, Any]:
        return {
            "optimizer": optimizer_state(self.optimizer) if self.optimizer is not None else None
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        if self.optimizer is not None:
            load_optimizer(self.optimizer, state["optimizer"])


def brought_together(stage: Stage | type[Stage]) -> bool:
    """Whether several processes can train with a stage together."""
    return stage.over_ranks or not (stage.held_out or stage.recomputes)


strategies = Registry("strategy", Stage)
register_strategy = strategies.register


class InstanceStage(Stage):
    """Weighs the instances inside each task; this default gives the mean over present labels.

    Attributes:
        needs_index: whether it looks at the index of an instance; None for a stage that does not
            say: it is taken to do so if it has weights or a transformation of its own.
    """

    stage = INSTANCE
    needs_index: bool | None = None

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        """The weights v, relative to the mean: 1 everywhere is the plain mean.

        Args:
            losses: detached per-instance losses [B, K]; 0 where a label is absent.
            index: dataset index of each instance [B].
            present: which labels are present, bool [B, K]. Weights of absent labels are ignored.

        Returns:
            Weights [B, K].
        """
        return torch.ones_like(losses)

    def log_variances(self) -> Tensor | None:
        """The instance parameters log σ² [N, K], where the stage has them."""
        return None

    def transform(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        index: Tensor,
        present: Tensor,
    ) -> Mapping[str, Tensor]:
        """The network's outputs as the losses are to see them; unchanged unless overridden.

        Args:
            outputs: the network's, by task [B, …].
            targets: the labels, by task [B, …].
            index: dataset index of each instance [B].
            present: which labels are present, bool [B, K].
        """
        return outputs

    def penalties(self) -> Mapping[str, Tensor]:
        """What is added to the losses of this batch, by task [B], in the graph of the outputs that
        `transform` saw; of tasks that are not named, nothing. Asked for once in each step.

        Gradients have it in them, weighed as the losses are. The losses that stages see do not: a
        penalty may be below 0, where some task stages have no sense.
        """
        return {}


@dataclass(frozen=True)
class Member:
    """One of the networks of a run in one generation.

    Attributes:
        weights: of the tasks, by name.
        parent: number of the member of the generation before that it goes on from, itself or
            another; None in the first.
    """

    weights: Mapping[str, float]
    parent: int | None = None


class TaskStage(Stage):
    """Weighs the tasks. Derive from `LossWeighting` or `GradientWeighting`.

    Attributes:
        needs_representation: whether the graph is to be cut where the shared layers end.
        least_loss: the loss of a task below which the stage has no sense, as where it takes a
            logarithm: a number, a tensor [K], or None where any loss will do.
        network_per_task: whether a run trains a network for each task. Such a stage has a
            `set_task`, which makes it that of one of them, and goes with no instance stage.
        networks: how many a run trains side by side. A stage with more than one also has `every`,
            the epochs of a generation, a `generations` that says which they are, and a
            `set_weights` that makes it one of them.
    """

    stage = LOSS
    needs_representation: bool = False
    least_loss: Tensor | float | None = None
    networks: int = 1
    network_per_task: bool = False

    @property
    def gives_direction(self) -> bool:
        """Whether it gives an update and no weights."""
        return False

    def generations(
        self, tasks: Sequence[str], draws: Callable[[int, int], torch.Generator]
    ) -> Generator[list[Member], list[float], None]:
        """Yields the members of one generation after the other, and is sent their scores.

        Args:
            tasks: names of the tasks.
            draws: gives the generator for a generation, from 1, and the number of a member.
        """
        raise TypeError(f"{type(self).__name__} trains {self.networks} networks without saying how")

    def backward(self, losses: TaskLosses, network: Network) -> Tensor:
        """Adds the batch's gradient to the network's `.grad`.

        Returns:
            The weight of each task [K], NaN where there are no weights.

        Raises:
            ValueError: the network is not what the stage needs.
        """
        raise TypeError(f"{type(self).__name__} must define backward")


class LossWeighting(TaskStage):
    """Weighs the tasks by their losses alone. A subclass writes `weights` or `objective`."""

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        """The weight of each task.

        The default differentiates `objective`: for any objective F(L_1 … L_K) the network's
        gradient is Σ_k ∂F/∂L_k ∇L_k, so ∂F/∂L_k is the weight. Own parameters take a step of
        `self.optimizer` on the same F.

        Args:
            losses: detached task losses [K]; 0 where the batch has no label of a task.
            present: which tasks have a label in the batch, bool [K].

        Returns:
            Weights [K].
        """
        own = [p for p in self.parameters() if p.requires_grad]
        with torch.enable_grad():
            leaf = losses.detach().requires_grad_()
            weights, *own_grads = torch.autograd.grad(
                self.objective(leaf, present), [leaf, *own], allow_unused=True
            )
        if self.optimizer is not None:
            for parameter, grad in zip(own, own_grads, strict=True):
                parameter.grad = grad
            self.optimizer.step()
        return weights

    def objective(self, losses: Tensor, present: Tensor) -> Tensor:
        """A scalar to minimise, differentiable in `losses` [K]; see `weights`."""
        raise TypeError(f"{type(self).__name__} must define weights or objective")

    def backward(self, losses: TaskLosses, network: Network) -> Tensor:
        with torch.no_grad(), self.kept_without(losses.present.any()):
            weights = torch.where(losses.present, self.weights(losses.values, losses.present), 0)
            weights = weights if network.ranks is None else network.ranks.first(weights)
            cotangents = losses.scaled(weights * losses.instance_weights)
            if network.ranks is not None:  # whoever brings the ranks together takes their mean
                cotangents = cotangents * network.ranks.size
        by_task = [
            each.to(vector.dtype)
            for each, vector in zip(cotangents.unbind(1), losses.vectors, strict=True)
        ]
        # A task without a label may have come as a constant.
        learn = [k for k, vector in enumerate(losses.vectors) if vector.requires_grad]
        if learn:
            torch.autograd.backward([losses.vectors[k] for k in learn], [by_task[k] for k in learn])
        return weights


class GradientWeighting(TaskStage):
    """Weighs the tasks by their gradients over the shared parameters.

    A subclass writes `weights`, or `direction` where a weighted sum is not enough. Parameters
    that only one task reaches (its head) take that task's own gradient, unweighted, as in
    TorchJD's `mtl_backward` and in LibMTL. Where a gradient of the batch is not finite, the update
    is NaN and the strategy remembers nothing of it.

    Attributes:
        tracks_parameters: whether it remembers a number for each shared parameter.
        max_norm: the longest update of the shared parameters that the strategy allows, to which it
            cuts its own weights; 0 for any.
        gramian_in_float64: whether `weights` takes the Gramian in float64, which squares of any
            gradients fit in.
        own_gradients: whether it takes gradients of another kind than those of the task losses, so
            that a wrapper cannot take them for it.
    """

    stage = GRADIENT
    tracks_parameters: bool = False
    max_norm: float = 0.0
    gramian_in_float64: bool = False
    own_gradients: bool = False

    @property
    def gives_direction(self) -> bool:
        return type(self).direction is not GradientWeighting.direction

    def backward(self, losses: TaskLosses, network: Network) -> Tensor:
        shared = network.task_gradients(losses)
        with torch.no_grad():
            jacobian = Jacobian(
                shared,
                losses.values,
                as_matrix=self.gives_direction,
                scale=losses.scale,
                ranks=network.ranks,
            )
            weights, update = self.weighted_update(jacobian, losses)
            network.add_update(update)
        return weights

    def weighted_update(
        self, jacobian: Jacobian, losses: TaskLosses
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The weight of each task [K], NaN for a direction, and the update of each tensor."""
        if self.gives_direction:
            direction = where_finite(jacobian.matrix(), losses, self.direction)
            return torch.full_like(losses.values, float("nan")), jacobian.split(direction)
        dtype = torch.float64 if self.gramian_in_float64 else losses.values.dtype
        weights = where_finite(jacobian.gramian(dtype), losses, self.weights)
        if not isinstance(weights, Tensor) or weights.shape != losses.values.shape:
            found = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
            raise ValueError(
                f"{type(self).__name__}.weights must give a tensor of shape "
                f"{tuple(losses.values.shape)}, but gives {found}"
            )
        weights = torch.where(losses.present, weights, 0)
        return weights.to(losses.values), jacobian.weighted(weights)

    def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        """The weight of each task's gradient.

        Args:
            gramian: J Jᵀ [K, K] of the Jacobian J [K, P] of the task losses over the P shared
                parameters, or numbers of the representation; zero rows where the batch has no
                label of a task.
            losses: detached task losses [K]; 0 where the batch has no label of a task.
            present: which tasks have a label in the batch, bool [K].

        Returns:
            Weights [K].
        """
        raise TypeError(f"{type(self).__name__} must define weights or direction")

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        """The update of the shared parameters [P] from the Jacobian [K, P]."""
        raise NotImplementedError


def where_finite(
    given: Tensor, losses: TaskLosses, compute: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """What a weighting computes of a Gramian or Jacobian [K, M] and the losses, [M]; NaN where one
    number of it is not finite.

    Then the weighting keeps its state. On a CPU it is not asked at all; on a GPU, where to look
    would be to wait, it is told that the batch has no labels.
    """
    finite = all_finite(given)
    if readable(finite):
        if finite.numpy():
            return compute(given, losses.values, losses.present)
        return torch.full(given.shape[1:], float("nan"), dtype=losses.values.dtype)
    result = compute(torch.where(finite, given, 0), losses.values, losses.present & finite)
    return torch.where(finite, result, float("nan")) if isinstance(result, Tensor) else result
