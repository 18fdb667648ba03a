"""Predictions held to what the network said of the same instance before."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import CLASSIFICATION, InstanceStage, Setting, register_strategy
from mtlbench.strategies.data_parameters import class_logits
from mtlbench.strategies.table import InstanceTable, sum_repeats

LEAST = 1e-4
"""Probabilities are kept so far from 0 and 1."""


@register_strategy("elr", label="ELR")
class EarlyLearningRegularization(InstanceStage):
    """Holds predictions to their running means, which wrong labels reach late (Liu et al. 2020).

        t ← β t + (1 − β) p
        loss = ℓ + λ log(1 − ⟨p, t⟩)

    with the probabilities p of the classes and their running mean t, one for each instance and
    classification task, 0 at first. The penalty falls as p comes to agree with t, and its gradient
    works against that of a label which t does not agree with. t is a constant of the penalty. An
    instance that is drawn twice into a batch brings the mean of both p; an absent label moves no
    t and has no penalty. Where an output has the shape of its labels, it is the logit of class 1
    against class 0. Regression tasks have the plain mean, and so have those whose labels are maps,
    or several an instance: a prediction would have to be kept for each pixel, which augmentation
    moves.

    The table has a column for each class of each task. In a composition the gradient of a task has
    the penalty in it, and the losses that the task stage sees do not, since with it they may be
    below 0.

    Liu, Niles-Weed, Razavian, Fernandez-Granda: Early-Learning Regularization Prevents
    Memorization of Noisy Labels, NeurIPS 2020, Eq. 6.

    Args:
        beta: β, at least 0 and below 1: how much of t stays; the default is the authors' on
            CIFAR-10.
        strength: λ, at least 0; the default is the authors' on CIFAR-10. On CIFAR-100 they take 7
            and β = 0.9.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"strength": Range(0.3, 10, log=True), "beta": Range(0.5, 0.99)}

    def __init__(self, beta: float = 0.7, strength: float = 3.0) -> None:
        super().__init__()
        if not 0 <= beta < 1:
            raise ValueError(f"beta must be at least 0 and below 1, but is {beta}")
        if strength < 0:
            raise ValueError(f"strength must be at least 0, but is {strength}")
        self.beta, self.strength = beta, strength

    def start(self, setting: Setting) -> None:
        self._setting = setting
        self.table: InstanceTable | None = None  # the number of classes comes with the first batch
        self._new_rows: tuple[Tensor, Tensor, Tensor] | None = None
        self._penalties: dict[str, Tensor] = {}
        kinds = zip(setting.tasks, setting.kinds, strict=True)
        self._of_classes = {n: k for n, (k, kind) in enumerate(kinds) if kind == CLASSIFICATION}
        self.needs_index = bool(self._of_classes)
        if self.needs_index:
            setting.require_instances("prediction")

    def transform(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        index: Tensor,
        present: Tensor,
    ) -> Mapping[str, Tensor]:
        self._new_rows, self._penalties = None, {}
        held = {k: task for k, task in self._of_classes.items() if targets[task].ndim == 1}
        if not held:
            return outputs
        probabilities, seen = [], []
        for k, task in held.items():
            label = targets[task]
            logits = class_logits(outputs[task], label).to(self._setting.dtype)
            probabilities.append(logits.softmax(1).clamp(LEAST, 1 - LEAST))
            there = present[:, k] & (label >= 0) & (label < logits.shape[1])
            seen.append(there[:, None].expand(logits.shape))
        sizes = [each.shape[1] for each in probabilities]
        means = self._means_after(probabilities, torch.cat(seen, 1), index).split(sizes, 1)
        for task, p, t, there in zip(held.values(), probabilities, means, seen, strict=True):
            penalty = self.strength * torch.log(1 - (p * t).sum(1))
            self._penalties[task] = torch.where(there[:, 0], penalty, 0)
        return outputs

    def penalties(self) -> Mapping[str, Tensor]:
        penalties, self._penalties = self._penalties, {}
        return penalties

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        if self._new_rows is not None and self.table is not None:
            of, before, new = self._new_rows
            self.table.write(of, torch.where(present.any(), new, before).unsqueeze(2))
        self._new_rows = None
        return super().weights(losses, index, present)

    @torch.no_grad()
    def _means_after(self, probabilities: list[Tensor], seen: Tensor, index: Tensor) -> Tensor:
        """The running means [B, ΣC] of this process's part of the batch, which they have in them.

        Args:
            probabilities: of the classes of each task [B, C].
            seen: which of them have a label, bool [B, ΣC].
            index: dataset index of each instance [B].
        """
        p = torch.cat([each / each.sum(1, keepdim=True) for each in probabilities], 1)
        mine = slice(None)
        if self._setting.ranks is not None:
            (p, seen, index), mine = self._setting.ranks.gather(p, seen, index)
        if self.table is None:
            self._make_table(p.shape[1])
        assert self.table is not None
        before = self.table.read(index).squeeze(2)
        total, times = sum_repeats(index, torch.where(seen, p, 0), seen)
        after = self.beta * before + (1 - self.beta) * total / times.clamp(min=1)
        new = torch.where(times > 0, after, before)
        self._new_rows = (index, before, new)
        return new[mine]

    def _make_table(self, columns: int) -> None:
        setting = self._setting
        shape = (setting.num_instances, columns, 1)
        self.table = InstanceTable(shape, setting.instance_tables, setting.device, setting.dtype)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *others: Any
    ) -> None:
        values = state_dict.get(prefix + "table.values")
        if values is not None and self.table is None and self._of_classes:
            self._make_table(values.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *others)
