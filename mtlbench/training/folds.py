"""Cross-validation: predictions for training instances by networks that have not seen them.

Each fold trains the suite's network by its recipe, with equal weights, on the instances of all
other folds and predicts its own. Folds are no runs: no comparison reads them.
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
from mtlbench.tasks.task import Task
from mtlbench.training.batches import Batches
from mtlbench.training.evaluation import forward
from mtlbench.training.run import Run


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
            "clean": not self.variant.clauses,
        }
        arrays = self.predict_held_out()
        arrays["rows"] = self.held_out.numpy()
        arrays["corrupted"] = self.corrupted[self.held_out].numpy()
        arrays["about"] = np.array(json.dumps(about))
        return npz_bytes(arrays)

    def failure(self) -> None:
        return None

    @torch.no_grad()
    def predict_held_out(self) -> dict[str, np.ndarray]:
        """Of each classification task the probabilities [n, C] of the held-out instances; of one
        with label maps their quality [n] instead, which needs less room."""
        self.model.eval()
        tasks = [(k, task) for k, task in enumerate(self.tasks) if task.kind == "classification"]
        parts: dict[str, list[np.ndarray]] = {}
        batches = Batches(self.train_split, self.held_out, self.suite.batch_size, self.device)
        for batch in batches:
            inputs = self.suite.prepare(batch.inputs)
            outputs = forward(self.suite, self.model, inputs, self.device)
            targets = self.suite.complete(batch.targets)
            for k, task in tasks:
                present = None if batch.present is None else batch.present[:, k].cpu().numpy()
                kept = _held_out(task, outputs[task.name], targets[task.name], present)
                for name, values in kept.items():
                    parts.setdefault(f"{name}/{task.name}", []).append(values)
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


def _held_out(
    task: Task, output: Tensor, target: Tensor, present: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Predictions that a fold keeps: `label` [n] and `probability` [n, C], or `quality`."""
    probability = task.logits(output).float().softmax(1).cpu().numpy()
    label, labelled = target.cpu().numpy(), task.labelled(target).cpu().numpy()
    if label.ndim == 1:
        here = labelled if present is None else labelled & present
        return {
            # Suites may store labels in 8 bits, without a sign.
            "label": np.where(here, label.astype(np.int32), NO_LABEL),
            "probability": probability,
        }
    if label.ndim != 3:
        return {}
    here = labelled.any(axis=(1, 2)) if present is None else labelled.any(axis=(1, 2)) & present
    quality = map_quality(label.astype(np.int64), probability, labelled)
    return {"quality": np.where(here, quality, np.nan)}


def map_quality(labels: np.ndarray, probabilities: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Quality [N] of label maps: the soft minimum of the self-confidence of their pixels.

    Args:
        labels: given classes [N, H, W].
        probabilities: of each class, by a network that has not seen the instance [N, C, H, W].
        labelled: which pixels have a label, bool [N, H, W]; the others count as right.
    """
    from cleanlab.segmentation.rank import get_label_quality_scores

    labels = np.where(labelled, labels, 0)
    probabilities = np.where(labelled[:, None], probabilities, 0)
    probabilities[:, 0][~labelled] = 1
    quality: np.ndarray = get_label_quality_scores(labels, probabilities, verbose=False)[0]
    return quality
