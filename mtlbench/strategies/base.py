"""The two stages of a strategy, and their composition into one update.

A batch gives, for each of the K tasks, a vector of B per-instance losses. The instance stage
weighs the instances inside each task, the task stage weighs the tasks:

    L_k = 1/n_k Σ_b v_bk ℓ_bk          instance weights v [B, K], n_k present labels of task k
    update = Σ_k w_k ∇L_k              task weights w [K]

Both stages work on detached copies of the losses. Their weights then enter the network's backward
pass as the vectors of one vector-Jacobian product, so the K loss vectors are never joined in the
network's graph: joining them would send zeros back through every other head (measured with three
full-resolution heads: 2.0× a plain step against 1.07×).
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtlbench.registry import Registry
from mtlbench.stages import GRADIENT, INSTANCE, LOSS
from mtlbench.strategies.gradients import Jacobian, TaskLosses
from mtlbench.strategies.network import Network, keep_compiled_buffers
from mtlbench.strategies.optimizers import load_optimizer, optimizer_state
from mtlbench.strategies.table import ON_DEVICE, InstanceTable

CLASSIFICATION, REGRESSION = "classification", "regression"
KINDS = (CLASSIFICATION, REGRESSION)


@dataclass(frozen=True)
class Setting:
    """What a stage is told at the start of training.

    Attributes:
        tasks: the K task names, in the order of every [K] tensor.
        kinds: `classification` or `regression` for each task.
        num_instances: N, the number of training instances.
        device, dtype: where and how a stage keeps its own tensors.
        generator: a CPU generator for the strategy's own randomness.
        instance_tables: where tables of instances lie: `device`, `cpu` or a directory.
    """

    tasks: tuple[str, ...]
    kinds: tuple[str, ...]
    num_instances: int
    device: torch.device
    dtype: torch.dtype
    generator: torch.Generator
    instance_tables: str | Path = ON_DEVICE

    def instance_table(self, columns: int) -> InstanceTable:
        """A table of `columns` numbers for each (instance, task), 0 at first."""
        shape = (self.num_instances, columns, len(self.tasks))
        return InstanceTable(shape, self.instance_tables, self.device, self.dtype)

    def per_task(self, values: Mapping[str, float], what: str) -> Tensor:
        """The values by task name as [K], 1 where a task is not named.

        Raises:
            ValueError: a name that is no task, or a negative value.
        """
        for task, value in values.items():
            if task not in self.tasks:
                raise ValueError(
                    f"{what} names the unknown task {task!r}; tasks: {', '.join(self.tasks)}"
                )
            if value < 0:
                raise ValueError(f"{what} of task {task!r} must be at least 0, but is {value}")
        return self.tensor([values.get(task, 1.0) for task in self.tasks])

    def per_kind(self, *, classification: float, regression: float) -> Tensor:
        """A constant for each task by its kind, as [K]."""
        by_kind = {CLASSIFICATION: classification, REGRESSION: regression}
        return self.tensor([by_kind[kind] for kind in self.kinds])

    def tensor(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self.device, dtype=self.dtype)


class Stage(nn.Module):
    """What both stages have in common: a start, the end of an epoch, and a state to save.

    A stage with parameters of its own sets `self.optimizer` in `start`; everything it must
    remember between steps is a parameter or a buffer, so that `state_dict` holds it.

    Attributes:
        stage: what it weighs by: `instance`, `loss` or `gradient`.
    """

    stage: ClassVar[str]
    optimizer: torch.optim.Optimizer | None = None

    def start(self, setting: Setting) -> None:
        """Called once before training; makes parameters and buffers.

        Raises:
            ValueError: a parameter does not fit the tasks.
        """

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        """Called after each epoch.

        Args:
            losses: mean training loss of each task over the epoch [K], NaN for a task without a
                label in it.
            validation: `TASK/METRIC` to value; empty outside the harness unless given.
        """

    def get_extra_state(self) -> dict[str, Any]:
        return {
            "optimizer": optimizer_state(self.optimizer) if self.optimizer is not None else None
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        if self.optimizer is not None:
            load_optimizer(self.optimizer, state["optimizer"])


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
        networks: how many a run trains side by side. A stage with more than one also has `every`,
            the epochs of a generation, a `generations` that says which they are, and a
            `set_weights` that makes it one of them.
    """

    stage = LOSS
    needs_representation: bool = False
    networks: int = 1

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
        with torch.no_grad():
            weights = torch.where(losses.present, self.weights(losses.values, losses.present), 0)
            cotangents = weights * losses.instance_weights
        by_task = cotangents.to(losses.vectors[0].dtype).unbind(1)
        # A task without a label may have come as a constant.
        learn = [k for k, vector in enumerate(losses.vectors) if vector.requires_grad]
        if learn:
            torch.autograd.backward([losses.vectors[k] for k in learn], [by_task[k] for k in learn])
        return weights


class GradientWeighting(TaskStage):
    """Weighs the tasks by their gradients over the shared parameters.

    A subclass writes `weights`, or `direction` where a weighted sum is not enough. Parameters
    that only one task reaches (its head) take that task's own gradient, unweighted, as in
    TorchJD's `mtl_backward` and in LibMTL.

    Attributes:
        tracks_parameters: whether it remembers a number for each shared parameter.
        max_norm: the longest update of the shared parameters that the strategy allows, to which it
            cuts its own weights; 0 for any.
        gramian_in_float64: whether `weights` takes the Gramian in float64, which squares of any
            gradients fit in.
    """

    stage = GRADIENT
    tracks_parameters: bool = False
    max_norm: float = 0.0
    gramian_in_float64: bool = False

    @property
    def gives_direction(self) -> bool:
        return type(self).direction is not GradientWeighting.direction

    def backward(self, losses: TaskLosses, network: Network) -> Tensor:
        shared = network.gradients(losses)
        with torch.no_grad():
            jacobian = Jacobian(shared, losses.values, as_matrix=self.gives_direction)
            weights, update = self.join(jacobian, losses)
            network.put(update)
        return weights

    def join(
        self, jacobian: Jacobian, losses: TaskLosses
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The weight of each task [K], NaN for a direction, and the update of each tensor."""
        if self.gives_direction:
            direction = self.direction(jacobian.matrix(), losses.values, losses.present)
            return torch.full_like(losses.values, float("nan")), jacobian.split(direction)
        dtype = torch.float64 if self.gramian_in_float64 else losses.values.dtype
        weights = self.weights(jacobian.gramian(dtype), losses.values, losses.present)
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


@dataclass(frozen=True)
class EpochSummary:
    """Means over one epoch, by task.

    Attributes:
        losses: unweighted training loss [K]; NaN for a task without a label.
        weights: weight that the task stage gave [K]; NaN where it gives a direction instead.
    """

    losses: Tensor
    weights: Tensor


class Strategy(nn.Module):
    """An instance stage and a task stage that together turn per-instance losses into gradients.

    Works in any PyTorch loop: `backward` stands where `loss.backward()` stood, `end_epoch` after
    each epoch.

    Args:
        instance: the instance stage.
        task: the task stage.
        tasks: task name to kind, `classification` or `regression`.
        num_instances: N, the number of training instances; the indices given to `backward` are
            below it. Needed only by stages with a table of instances.
        model: the network; needed only by gradient weightings, which find in the graph of the
            losses which of its parameters the tasks share.
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

    Raises:
        ValueError: an unknown kind, or a stage parameter or `shared` that does not fit.
    """

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
    ) -> None:
        super().__init__()
        for name, kind in tasks.items():
            if kind not in KINDS:
                raise ValueError(f"kind of task {name!r} must be one of {KINDS}, but is {kind!r}")
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
        )
        if task.needs_representation and representation is None:
            raise ValueError(
                "representation is needed for on=representation and for every above 1: the "
                "module whose output all heads see"
            )
        if task.stage == GRADIENT:
            keep_compiled_buffers()
        cut = representation if task.needs_representation else None
        self._network = Network(model, shared, cut)
        for stage in (instance, task):
            stage.start(self.setting)
            stage.to(self.setting.device)
        shape = (4, len(self.setting.tasks))
        sums = torch.zeros(shape, device=self.setting.device, dtype=self.setting.dtype)
        self.register_buffer("sums_of_epoch", sums)
        self._steps = 0

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
        return self.instance.transform(outputs, targets, index, present)

    def backward(
        self,
        losses: Mapping[str, Tensor] | Sequence[Tensor],
        index: Tensor | None = None,
        present: Tensor | None = None,
    ) -> None:
        """Adds this batch's gradient to the network's `.grad` and updates the strategy itself.

        Args:
            losses: per-instance losses [B] of each task, by name or in the tasks' order. Kept
                apart: do not stack them. Without an instance stage scalars will do as well.
            index: dataset index of each instance [B]; needed by stages with a table of instances.
            present: bool [B, K], false where a label is absent; all present where not given. The
                loss of an absent label must be finite (put any valid label in its place); it
                adds nothing.

        Raises:
            ValueError: losses that do not fit the tasks, the indices or the mask.
        """
        vectors = self._loss_vectors(losses)
        values = torch.stack([vector.detach() for vector in vectors], dim=1).to(self.setting.dtype)
        if present is None:
            present = torch.ones_like(values, dtype=torch.bool)
        elif present.shape != values.shape or present.dtype != torch.bool:
            raise ValueError(
                f"present must be bool and have shape {tuple(values.shape)}, but is "
                f"{str(present.dtype).removeprefix('torch.')} and has {tuple(present.shape)}"
            )
        if index is None:
            index = self._no_index(len(values))
        elif index.shape != (len(values),):
            raise ValueError(
                f"index must have shape ({len(values)},), but has {tuple(index.shape)}"
            )
        with torch.no_grad():
            values = torch.where(present, values, 0)
            count = present.sum(0)
            instance_weights = self.instance.weights(values, index, present).to(values.dtype)
            instance_weights = torch.where(present, instance_weights, 0) / count.clamp(min=1)
            task_losses = (instance_weights * values).sum(0)
        task_weights = self.task.backward(
            TaskLosses(self.setting.tasks, vectors, instance_weights, task_losses, count > 0),
            self._network,
        )
        self.get_buffer("sums_of_epoch").add_(
            torch.stack([values.sum(0), count.to(values.dtype), task_losses * count, task_weights])
        )
        self._steps += 1

    def end_epoch(self, validation: Mapping[str, float] | None = None) -> EpochSummary:
        """Tells both stages that an epoch is over and returns its means."""
        loss_sum, count, weighted_loss_sum, weight_sum = self.get_buffer("sums_of_epoch").clone()
        for stage in (self.instance, self.task):
            stage.end_epoch(weighted_loss_sum / count, validation or {})
        summary = EpochSummary(loss_sum / count, weight_sum / self._steps)
        self.get_buffer("sums_of_epoch").zero_()
        self._steps = 0
        return summary

    def get_extra_state(self) -> dict[str, Any]:
        return {"generator": self.setting.generator.get_state(), "steps": self._steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.setting.generator.set_state(state["generator"].cpu())
        self._steps = state["steps"]

    def _loss_vectors(self, losses: Mapping[str, Tensor] | Sequence[Tensor]) -> list[Tensor]:
        tasks = self.setting.tasks
        if isinstance(losses, Mapping):
            if set(losses) != set(tasks):
                raise ValueError(f"losses must name the tasks {tasks}, but name {tuple(losses)}")
            losses = [losses[task] for task in tasks]
        if len(losses) != len(tasks):
            raise ValueError(f"losses must be one a task, {len(tasks)}, but are {len(losses)}")
        given = [loss for loss in losses if isinstance(loss, Tensor)]
        if not given:
            raise ValueError("losses must be tensors")
        losses = [x if isinstance(x, Tensor) else torch.full_like(given[0], x) for x in losses]
        vectors = [loss.reshape(1) if loss.ndim == 0 else loss for loss in losses]
        for task, vector in zip(tasks, vectors, strict=True):
            if vector.shape != vectors[0].shape or vector.ndim != 1:
                raise ValueError(
                    f"per-instance losses must all have one shape [B], but task {task!r} has "
                    f"{tuple(vector.shape)} and {tasks[0]!r} {tuple(vectors[0].shape)}"
                )
        return vectors

    def _no_index(self, batch: int) -> Tensor:
        needs = self.instance.needs_index
        own = self.instance.weights, self.instance.transform
        if needs is None:
            plain = InstanceStage.weights, InstanceStage.transform
            needs = tuple(getattr(method, "__func__", None) for method in own) != plain
        if needs:
            raise ValueError(
                f"index is needed: {type(self.instance).__name__} looks at the index of each "
                "instance (needs_index)"
            )
        return torch.full((batch,), -1, device=self.setting.device)
