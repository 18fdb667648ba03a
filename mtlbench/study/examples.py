"""Training instances with their given labels, for people to look at."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtlbench.analysis.label_errors.sheet import Suspects
from mtlbench.data.rows import Rows
from mtlbench.data.splits import Split, each_input
from mtlbench.data.variants import Variant
from mtlbench.spec import RunSpec
from mtlbench.suites.base import Suite
from mtlbench.tasks.task import Task
from mtlbench.training.labels import training_labels


@dataclass(frozen=True)
class Examples:
    """Training inputs with their given labels."""

    suite: Suite
    split: Split
    tasks: Mapping[str, Task]

    @classmethod
    def load(cls, suite: Suite, spec: RunSpec) -> "Examples":
        """Examples of a spec's training split."""
        tasks = {task.name: task for task in suite.tasks()}
        variant = Variant.parse(spec.variant, suite.tasks())
        split, _ = training_labels(
            suite, spec.suite, variant, suite.data().checked(suite.tasks()), torch.device("cpu")
        )
        return cls(suite, split, tasks)

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
        return Suspects(info, rows, pictures, shown, mask, views, names)
