"""Temperatures of instances and of classes."""

import math
import typing
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from mtlbench.space import Range
from mtlbench.strategies.base import CLASSIFICATION, InstanceStage, Setting, register_strategy
from mtlbench.strategies.kept import LateTensor
from mtlbench.strategies.table import sum_repeats

Level = Literal["instance", "class", "joint"]


@register_strategy("data-parameters", label="Data Params")
class DataParameters(InstanceStage):
    """Learns temperatures of instances and classes (Saxena, Tuzel, DeCoste 2019).

        p = softmax(z / σ*),    σ* = σ_i + σ_y
        ∂CE/∂σ* = (z_y − Σ_j p_j z_j) / σ*²

    with the logits z of instance i and its label y; with `level=instance` σ* = σ_i, with
    `level=class` σ* = σ_y. A wrong label, whose logit is below the mean, heats its instance, and a
    hot instance gives small gradients. In a label map every pixel has the sum of its instance's
    and its own class's temperature, and its part in the mean over the labelled pixels (a label
    from 0 up to the number of classes). Outputs of the shape of their labels are logits of class 1
    against class 0. Outputs of regression tasks are left as they are.

    log σ is learned from the mean of the cross entropy over the present labels, whatever the task
    stage, with an L2 penalty on the log σ that take part in a batch, by sparse SGD with momentum:
    value and momentum of an instance or class that has no label in the batch do not move. σ
    starts at 1; where both are learned, σ_y at 1 and σ_i at 1 / bound. A step reads and writes
    only the batch's rows.

    The temperatures enter between the network and the losses, in `Strategy.transform`.

    Departs from the authors' code: a σ_i learned beside σ_y starts at the least value that the
    bound allows; there it starts at 0.001 and the bound, 1/20, takes hold after the first step.

    Saxena, Tuzel, DeCoste: Data Parameters: A New Family of Parameters for Learning a
    Differentiable Curriculum, NeurIPS 2019.

    Args:
        level: what has temperatures: `instance`, which is the authors' choice for wrong labels,
            `class` or `joint`.
        lr: learning rate of log σ_i, above 0; the default is the authors' for wrong labels in
            CIFAR-100. With `level=joint` they take 0.8 on ImageNet.
        class_lr: learning rate of log σ_y, above 0; the default is the authors' on ImageNet.
        momentum: at least 0 and below 1; the default is the authors'.
        weight_decay: strength of the penalty ½ (log σ_i)², at least 0; defaults as for `lr`.
        class_weight_decay: strength of the penalty ½ (log σ_y)², at least 0; as for `class_lr`.
        bound: σ stays between 1 / bound and bound, above 1; the default is the authors'.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"lr": Range(0.1, 100, log=True)}

    def __init__(
        self,
        level: Level = "instance",
        lr: float = 0.2,
        class_lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        class_weight_decay: float = 1e-4,
        bound: float = 20.0,
    ) -> None:
        super().__init__()
        if level not in typing.get_args(Level):
            raise ValueError(f"level must be 'instance', 'class' or 'joint', but is {level!r}")
        for name, value in (("lr", lr), ("class_lr", class_lr)):
            if value <= 0:
                raise ValueError(f"{name} must be above 0, but is {value}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, but is {momentum}")
        for name, value in (
            ("weight_decay", weight_decay),
            ("class_weight_decay", class_weight_decay),
        ):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, but is {value}")
        if bound <= 1:
            raise ValueError(f"bound must be above 1, but is {bound}")
        self.of_instances, self.of_classes = level != "class", level != "instance"
        self.needs_index = self.of_instances
        self.lr, self.class_lr, self.momentum = lr, class_lr, momentum
        self.weight_decay, self.class_weight_decay = weight_decay, class_weight_decay
        self.limit = math.log(bound)

    def start(self, setting: Setting) -> None:
        # What a batch teaches waits for its losses: a bad batch is to teach nothing.
        self._new_rows: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self._new_classes: list[tuple[int, Tensor]] = []
        self.tasks, self.dtype, self.ranks = setting.tasks, setting.dtype, setting.ranks
        self.columns = [k for k, kind in enumerate(setting.kinds) if kind == CLASSIFICATION]
        if self.of_instances:
            setting.require_instances("temperature")
            self.first = -self.limit if self.of_classes else 0.0
            self.table = setting.instance_table(2)  # log σ_i, less its first value, and velocity
        if self.of_classes:
            # log σ_y and its velocity [2, K, C]; C comes with the first batch.
            self.classes = LateTensor(setting.tensor([]).new_zeros(2, len(self.tasks), 0))

    def transform(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        index: Tensor,
        present: Tensor,
    ) -> Mapping[str, Tensor]:
        self._new_rows, self._new_classes = None, []
        if not self.columns:
            return outputs
        rows = self.table.read(index) if self.of_instances else None
        if self.of_classes:
            seen_by = [self.tasks[k] for k in self.columns]
            self._make_room(max(class_logits(outputs[t], targets[t]).shape[1] for t in seen_by))

        tempered = dict(outputs)
        slopes = torch.zeros_like(present, dtype=self.dtype)  # ∂(mean of CE)/∂σ_i [B, K]
        seen = torch.zeros_like(present)
        counts = self._over_ranks(present.sum(0))
        for k in self.columns:
            output, labels = outputs[self.tasks[k]], targets[self.tasks[k]].long()
            logits = class_logits(output, labels)
            each = (-1, *[1] * (labels.ndim - 1))  # from [B] to the shape of the labels
            labelled = (labels >= 0) & (labels < logits.shape[1]) & present[:, k].view(each)
            labels = torch.where(labelled, labels, 0)
            temperature = torch.zeros((), dtype=self.dtype, device=present.device)
            if rows is not None:
                temperature = temperature + torch.exp(self.first + rows[:, 0, k]).view(each)
            if self.of_classes:
                temperature = temperature + torch.exp(self.classes.values[0, k])[labels]
            cooled = logits / temperature.unsqueeze(1)
            tempered[self.tasks[k]] = cooled if logits is output else cooled[:, 1]

            with torch.no_grad():
                # Each pixel's part in its instance's mean, and an instance's in that of its task.
                part = labelled.to(self.dtype)
                part = part / _by_instance(part).sum(1).clamp(min=1).view(each)
                slope = _slope(cooled.to(self.dtype), labels) / temperature
                slope = slope * part / counts[k].clamp(min=1)
                slopes[:, k] = _by_instance(slope).sum(1)
                seen[:, k] = _by_instance(labelled).any(1)
                if self.of_classes:
                    new = self._classes_after(k, labels.flatten(), slope.flatten(), part.flatten())
                    self._new_classes.append((k, new))
        if rows is not None:
            if self.ranks is not None:
                (slopes, seen, index), _ = self.ranks.gather(slopes, seen, index)
                rows = self.table.read(index)
            self._new_rows = (index, rows, *self._rows_after(index, rows, slopes, seen))
        return tempered

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        learns = present.any()
        if self._new_rows is not None:
            of, before, new, moves = self._new_rows
            self.table.write(of, torch.where(moves & learns, new, before))
        for k, after in self._new_classes:
            rows = self.classes.values[:, k]
            rows.copy_(torch.where(learns, after, rows))
        self._new_rows, self._new_classes = None, []
        return super().weights(losses, index, present)

    def log_variances(self) -> Tensor | None:
        """2 log σ_i [N, K], NaN for a regression task; None where only classes are learned."""
        if not self.of_instances:
            return None
        log_variances = 2 * (self.first + self.table.column(0))
        log_variances[:, [k for k in range(len(self.tasks)) if k not in self.columns]] = math.nan
        return log_variances

    @torch.no_grad()
    def _rows_after(
        self, index: Tensor, rows: Tensor, slopes: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Rows of the table [B, 2, K] after a step, and which of them move [B, 1, K]."""
        log_sigma, velocity = self.first + rows[:, 0], rows[:, 1]
        gradient = torch.exp(log_sigma) * slopes
        gradient = gradient + torch.where(seen, self.weight_decay * log_sigma, 0)
        gradient, times = sum_repeats(index, gradient, seen)
        new = self._descend(log_sigma, velocity, gradient, self.lr)
        new[:, 0] -= self.first
        return new, times.unsqueeze(1) > 0

    @torch.no_grad()
    def _classes_after(self, k: int, labels: Tensor, slopes: Tensor, parts: Tensor) -> Tensor:
        """log σ_y and velocity of the classes of task k after a step, [2, C].

        Args:
            k: number of the task.
            labels: of all labels or pixels in the batch, [P].
            slopes: ∂(mean of CE)/∂σ* of each, [P]; 0 where it is not labelled.
            parts: its part in its instance's mean, [P]; 0 where it is not labelled.
        """
        rows = self.classes.values[:, k]
        of_batch = (torch.zeros_like(rows[0]).index_add_(0, labels, x) for x in (slopes, parts))
        gradient, count = map(self._over_ranks, of_batch)
        gradient = gradient * torch.exp(rows[0])
        gradient = gradient + self.class_weight_decay * count * rows[0]
        new = self._descend(rows[0], rows[1], gradient, self.class_lr, dim=0)
        return torch.where(count > 0, new, rows)

    def _over_ranks(self, values: Tensor) -> Tensor:
        return values if self.ranks is None else self.ranks.sum(values)

    def _descend(
        self, value: Tensor, velocity: Tensor, gradient: Tensor, lr: float, dim: int = 1
    ) -> Tensor:
        """Value and velocity after a step of SGD, stacked."""
        velocity = self.momentum * velocity + gradient
        value = (value - lr * velocity).clamp(-self.limit, self.limit)
        return torch.stack([value, velocity], dim=dim)

    def _make_room(self, classes: int) -> None:
        now = self.classes.values
        if now.shape[2] < classes:
            self.classes.values = functional.pad(now, (0, classes - now.shape[2]))


def class_logits(output: Tensor, labels: Tensor) -> Tensor:
    """Logits of the classes [B, C, …]; of 0 and 1 where an output is the logit of 1 [B, …]."""
    if output.ndim > labels.ndim:
        return output
    return torch.stack((torch.zeros_like(output), output), 1)


def _by_instance(values: Tensor) -> Tensor:
    """Values [B, …] as [B, P], with P = 1 where there is one an instance."""
    return values.flatten(1) if values.ndim > 1 else values[:, None]


def _slope(logits: Tensor, labels: Tensor) -> Tensor:
    """u_y − Σ_j p_j u_j [B, …] of logits u [B, C, …] with labels y [B, …]."""
    mean = (torch.softmax(logits, dim=1) * logits).sum(1)
    return logits.gather(1, labels.unsqueeze(1)).squeeze(1) - mean
