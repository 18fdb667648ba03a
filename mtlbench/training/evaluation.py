"""The network on a split: its outputs, its metrics, and predictions to be looked at."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.data.splits import Inputs, Split, each_input, input_parts
from mtlbench.suites.base import Suite
from mtlbench.tasks.metrics import require_probabilities
from mtlbench.training.batches import Batches, take

EVALUATION_BATCH = 256
"""Most instances that are evaluated at a time."""

EVALUATION_VALUES = 2**22
"""Most input values that are evaluated at a time: of large pictures fewer fit into memory."""


Network = Callable[[Inputs], dict[str, Tensor]]
"""Inputs of a batch, as `Suite.prepare` returns them, to the outputs of each task [B, …]."""


def forward(suite: Suite, network: Network, inputs: Inputs) -> dict[str, Tensor]:
    """The outputs of the network by task [B, …], in the suite's precision."""
    inputs = each_input(inputs, pixels_last)
    half = suite.precision == "bfloat16"
    with torch.autocast(input_parts(inputs)[0].device.type, torch.bfloat16, enabled=half):
        return network(inputs)


def pixels_last(values: Tensor) -> Tensor:
    """Pictures [B, C, H, W] with the channels of a pixel beside one another, as networks of
    convolutions are fastest; other values as they are."""
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


@torch.no_grad()
def evaluate(
    suite: Suite, model: nn.Module, split: Split, device: torch.device
) -> dict[str, float]:
    """All metrics on a split, as `TASK/METRIC`."""
    tasks = suite.tasks()
    model.eval()
    meters = {(task, metric): metric.make().to(device) for task in tasks for metric in task.metrics}
    for (task, metric), meter in meters.items():
        if task.kind == "classification":
            require_probabilities(metric, meter)
    for batch in _batches(split, device):
        outputs = forward(suite, model, suite.prepare(batch.inputs))
        targets = suite.complete(batch.targets)
        for k, task in enumerate(tasks):
            output, target = outputs[task.name].float(), targets[task.name]
            if task.kind == "classification":
                target = target.long()  # suites may store them in 8 bits
            if batch.present is not None:
                here = batch.present[:, k]
                output, target = output[here], target[here]
                if not len(target):
                    continue
            where = ... if task.ignore is None else task.labelled(target)
            target = target[where]
            seen = {
                kind: (task.probabilities if kind else task.predict)(output)[where]
                for kind in {metric.of_probabilities for metric in task.metrics}
            }
            for metric in task.metrics:
                meters[task, metric].update(seen[metric.of_probabilities], target)
    return {
        f"{task.name}/{metric.name}": meter.compute().item() * metric.scale
        for (task, metric), meter in meters.items()
    }


@torch.no_grad()
def instance_losses(suite: Suite, model: nn.Module, split: Split, device: torch.device) -> Tensor:
    """The loss of each instance of a split and task, float32 [M, K]; NaN where there is no
    label."""
    model.eval()
    rows = []
    for batch in _batches(split, device):
        outputs = forward(suite, model, suite.prepare(batch.inputs))
        targets = suite.complete(batch.targets)
        columns = []
        for k, task in enumerate(suite.tasks()):
            target = targets[task.name]
            here = task.any_labelled(target)
            if batch.present is not None:
                here = here & batch.present[:, k]
            losses = task.losses(outputs[task.name], target).float()
            columns.append(torch.where(here, losses, torch.nan))
        rows.append(torch.stack(columns, 1))
    return torch.cat(rows)


def _batches(split: Split, device: torch.device) -> Batches:
    """All of a split, in its order, as many at a time as fit into memory."""
    values = sum(math.prod(part.shape[1:]) for part in input_parts(split.inputs))
    size = max(1, min(EVALUATION_BATCH, EVALUATION_VALUES // max(1, values)))
    return Batches(split, torch.arange(len(split)), size, device)


@torch.no_grad()
def example_predictions(
    suite: Suite, model: nn.Module, split: Split, rows: Tensor, device: torch.device
) -> dict[str, np.ndarray]:
    """Predictions for some rows of a split beside the truth, as `prediction/NAME`, `truth/NAME`.

    Numbers and maps of each task, and the suite's views of what else there is.
    """
    batch = take(split, rows, device)
    model.eval()
    outputs = forward(suite, model, suite.prepare(batch.inputs))
    seen = {
        "truth": suite.complete(batch.targets),
        "prediction": {
            task.name: task.predict(outputs[task.name].float()) for task in suite.tasks()
        },
    }
    picture = batch.inputs if isinstance(batch.inputs, Tensor) else None
    # Inputs of several parts are no pictures, and nothing draws them.
    arrays = {} if picture is None else {"input": picture.cpu().numpy()}
    for kind, values in seen.items():
        views = suite.views(batch.inputs, values)
        arrays |= {f"{kind}/{name}": picture for name, picture in views.items()}
        for task in suite.tasks():
            value = values[task.name]
            # Numbers and maps; what else there is, views show.
            maps = torch.Size() if picture is None else picture.shape[2:]
            if value.shape[1:] in (torch.Size(), maps):
                small = torch.float16 if task.kind == "regression" else torch.int16
                arrays[f"{kind}/{task.name}"] = value.to("cpu", small).numpy()
    return arrays
