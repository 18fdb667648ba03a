"""Cross-validation: predictions for training instances by networks that have not seen them.

Each fold trains the suite's network by its recipe, with equal weights, on the instances of all
other folds, and keeps what it predicts for its own, and its losses there and on validation data.
Folds are no runs: no comparison reads them.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlbench.data.reading import Items
from mtlbench.data.rows import RowSubset
from mtlbench.data.splits import Split, each_input
from mtlbench.errors import UserError
from mtlbench.randomness import named_generator
from mtlbench.store.folds import NO_LABEL
from mtlbench.store.runs import npz_bytes
from mtlbench.store.schema import DONE
from mtlbench.suites.build import changed_parameters
from mtlbench.tasks.task import Task
from mtlbench.training.batches import Batches
from mtlbench.training.evaluation import forward, instance_losses
from mtlbench.training.run import Run

TEMPERATURE = 0.1
"""Of the soft minimum over the pixels of a label map; cleanlab's."""


@dataclass(kw_only=True)
class FoldRun(Run):
    """A run on the instances of all folds but one; `held_out` are the rows [n] of that one.

    Its last epoch counts, whatever the suite's rule: no choice is made on the validation data.
    """

    fold: int
    folds: int

    def start(self) -> None:
        super().start()
        names = (self.spec.suite, self.folds)
        order = torch.randperm(len(self.train_split), generator=named_generator("folds", *names))
        if len(order) < self.folds:
            raise UserError(f"{len(order)} training instances are too few for {self.folds} folds")
        member = torch.empty_like(order)
        member[order] = torch.arange(len(order)) % self.folds
        self.held_out = (member == self.fold).nonzero()[:, 0]
        self.others = (member != self.fold).nonzero()[:, 0]

    def order(self, generator: torch.Generator) -> Tensor:
        return self.others[self.suite.order(_part(self.train_split, self.others), generator)]

    def evaluate(self, split: Any) -> dict[str, float]:
        return {}

    def _count_epoch(self, validation: dict[str, float]) -> None:
        pass

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"fold": self.fold, "folds": self.folds}

    def finish(self) -> bytes | None:
        """The content of the fold's file; None where training diverged."""
        if self.status != DONE:
            return None
        about = {
            "spec": asdict(self.spec),
            "hash": self.spec.hash,
            "tasks": [task.name for task in self.tasks],
            "folds": self.folds,
            "fold": self.fold,
            "clean": not self.variant.clauses,
            "changed": changed_parameters(self.spec),
        }
        arrays = self.predict_held_out()
        arrays["rows"] = self.held_out.numpy()
        arrays["corrupted"] = self.corrupted[self.held_out].numpy()
        losses = instance_losses(self.suite, self.model, self.data.validation, self.device)
        arrays["validation_loss"] = losses.cpu().numpy()
        arrays["about"] = np.array(json.dumps(about))
        return npz_bytes(arrays)

    def failure(self) -> None:
        return None

    @torch.no_grad()
    def predict_held_out(self) -> dict[str, np.ndarray]:
        """Of the held-out instances `loss` [n, K] and, of regressions to one number, `value`
        [n, K], NaN where there is no label; of each classification task `label/TASK` [n] and
        `probability/TASK` [n, C], of one with label maps `quality/TASK` [n] instead, which needs
        less room. A task that the network saw no label of counts as one without labels."""
        self.model.eval()
        learned = [
            not np.isnan(self.history[f"train_loss/{task.name}"]).all() for task in self.tasks
        ]
        parts: dict[str, list[np.ndarray]] = {}
        batches = Batches(self.train_split, self.held_out, self.suite.batch_size, self.device)
        for batch in batches:
            inputs = self.suite.prepare(batch.inputs)
            outputs = forward(self.suite, self.model, inputs, self.device)
            targets = self.suite.complete(batch.targets)
            loss, value = torch.full((2, len(batch.index), len(self.tasks)), torch.nan)
            kept = {"loss": loss, "value": value}
            for k, task in enumerate(self.tasks):
                output, target = outputs[task.name], targets[task.name]
                present = None if batch.present is None else batch.present[:, k]
                here = task.any_labelled(target, present) & learned[k]
                loss[:, k] = torch.where(here, task.losses(output, target).float(), torch.nan)
                if task.kind == "classification":
                    kept |= _classes(task, output, target, here)
                elif output.ndim == 1:
                    value[:, k] = torch.where(here, task.predict(output.float()), torch.nan)
            for name, values in kept.items():
                parts.setdefault(name, []).append(values.cpu().numpy())
        return {name: np.concatenate(values) for name, values in parts.items()}


def _part(split: Split, rows: Tensor) -> Split:
    """Some instances of a split."""

    def of(values: Any) -> Any:
        return values.some(rows) if isinstance(values, Items) else RowSubset(values, rows)

    return Split(
        each_input(split.inputs, of),
        {name: of(labels) for name, labels in split.targets.items()},
        None if split.present is None else split.present[rows.to(split.present.device)],
    )


def _classes(task: Task, output: Tensor, target: Tensor, here: Tensor) -> dict[str, Tensor]:
    """What a fold keeps of a classification task: `label` [n] and `probability` [n, C], or
    `quality` [n].

    Args:
        output: the network's [n, C, …].
        target: given classes [n, …].
        here: which instances have a label, bool [n].
    """
    probability = task.logits(output).float().softmax(1)
    if target.ndim > 1:
        quality = map_quality(target, probability, task.labelled(target))
        return {f"quality/{task.name}": torch.where(here, quality, torch.nan)}
    return {
        # Suites may store labels in 8 bits, without a sign.
        f"label/{task.name}": torch.where(here, target.to(torch.int32), NO_LABEL),
        f"probability/{task.name}": probability,
    }


def map_quality(labels: Tensor, probabilities: Tensor, labelled: Tensor) -> Tensor:
    """Quality [N] of label maps: the soft minimum of the self-confidence of their pixels (Lad and
    Mueller 2023).

    Args:
        labels: given classes [N, …].
        probabilities: of each class, by a network that has not seen the instance [N, C, …].
        labelled: which pixels have a label, bool [N, …]; the others count as right.
    """
    given = torch.where(labelled, labels, 0).long().unsqueeze(1)
    confidence = probabilities.gather(1, given).squeeze(1)
    confidence = torch.where(labelled, confidence, 1).flatten(1)
    return (confidence * ((1 - confidence) / TEMPERATURE).softmax(1)).sum(1)
