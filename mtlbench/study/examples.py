"""Training instances with their given labels, for people to look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtlbench.analysis.label_errors.sheet import Suspects
from mtlbench.data.rows import Rows
from mtlbench.data.splits import Split, each_input
from mtlbench.data.variants import Variant
from mtlbench.spec import RunSpec
from mtlbench.store.runs import Store, read_run
from mtlbench.suites.base import Suite
from mtlbench.tasks.task import Task
from mtlbench.training.labels import training_labels


@dataclass(frozen=True)
class Examples:
    """Training inputs with their given labels, and what the networks predicted."""

    suite: Suite
    split: Split
    tasks: Mapping[str, Task]
    predictions: np.ndarray | None

    @classmethod
    def load(cls, suite: Suite, spec: RunSpec, results: str | Path, hashes: set[str]) -> "Examples":
        """Examples of a spec's training split, with what the runs of these hashes predicted."""
        tasks = {task.name: task for task in suite.tasks()}
        variant = Variant.parse(spec.variant, suite.tasks())
        split, _ = training_labels(
            suite, spec.suite, variant, suite.data().checked(suite.tasks()), torch.device("cpu")
        )
        seen = []
        for path in Store(results).require().run_directories():
            if path.name.rpartition("-")[2] in hashes:
                traces = read_run(path).traces()
                if traces is not None:
                    seen.append(traces["prediction"])
        predictions = np.concatenate(seen) if seen else None
        return cls(suite, split, tasks, predictions)

    def take(self, name: str, rows: np.ndarray, corrupted: np.ndarray | None) -> Suspects:
        """The instances in these rows [M], with their labels of a task; see `found.Take`."""
        index = torch.from_numpy(rows)

        def of(values: Rows) -> Tensor:
            return values[index]

        inputs = each_input(self.split.inputs, of)
        labels = self.suite.complete({k: of(v) for k, v in self.split.targets.items()})
        task, label = self.tasks[name], labels[name]
        shown = label.numpy()
        if task.kind == "classification":
            shown = np.where(task.labelled(label).numpy(), shown, -1).astype(np.int64)
        elif label.ndim > 1:
            shown = np.where(task.labelled(label).numpy(), shown, np.nan)
        views = self.suite.views(inputs, labels) if label.ndim not in (1, 3) else {}
        k = list(self.tasks).index(name)
        suggestions = None
        if self.predictions is not None and task.kind == "classification":
            suggestions = _most_frequent(self.predictions[:, rows, k])
        info = {
            "name": name,
            "kind": task.kind,
            "unit": task.unit,
            "classes": list(task.classes),
            "palette": [list(colour) for colour in task.palette] or None,
        }
        mask = None if corrupted is None else corrupted[rows]
        # Inputs of several parts are no pictures: there is nothing of them to show.
        pictures = inputs.numpy() if isinstance(inputs, Tensor) else np.empty((len(rows), 0))
        known = self.split.names
        names = None if known is None else [known[i] for i in rows]
        return Suspects(info, rows, pictures, shown, suggestions, mask, views, names)


def _most_frequent(predictions: np.ndarray) -> np.ndarray:
    """The class predicted most often [n], of predictions [E, n]; -1 where there is none."""
    found = np.full(predictions.shape[1], -1)
    for i, column in enumerate(predictions.T):
        seen = column[column >= 0]
        if len(seen):
            found[i] = np.bincount(seen).argmax()
    return found
