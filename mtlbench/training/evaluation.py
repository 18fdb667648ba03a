"""The network on a split: its outputs, its metrics, and predictions to be looked at."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.data.reading import Items
from mtlbench.data.splits import Inputs, Split, each_input, input_parts
from mtlbench.suites.base import Suite
from mtlbench.tasks.metrics import new_meter, update, value_of
from mtlbench.training.batches import Batch, Batches, take

EVALUATION_BATCH = 256
"""Most instances that are evaluated at a time."""

EVALUATION_VALUES = 2**22
"""Most input values that are evaluated at a time: of large pictures fewer fit into memory."""


Network = Callable[[Inputs], Any]
"""Takes inputs of a batch, as `Suite.prepare` returns them; `Suite.call` calls it."""


def forward(
    suite: Suite, network: Network, inputs: Inputs, device: torch.device
) -> dict[str, Tensor]:
    """The outputs of the network by task [B, …], in the suite's precision."""
    if suite.channels_last:
        inputs = each_input(inputs, pixels_last)
    half = suite.precision == "bfloat16"
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        return suite.call(network, inputs)


def pixels_last(values: Any) -> Any:
    """Pictures [B, C, H, W] with the channels of a pixel beside one another, as networks of
    convolutions are fastest; other values as they are."""
    if not isinstance(values, Tensor) or values.ndim != 4:
        return values
    return values.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def evaluate(
    suite: Suite, model: nn.Module, split: Split, device: torch.device
) -> dict[str, float]:
    """All metrics on a split, as `TASK/METRIC`; NaN where no label of the task is there, or an
    output of it is NaN, of which a class would be predicted all the same.

    Raises:
        UserError: an output is none for such labels, or a metric none for such a task.
    """
    tasks = suite.tasks()
    unknown = torch.zeros(len(tasks), dtype=torch.bool, device=device)
    model.eval()
    meters = {
        task.name: {metric.name: new_meter(metric, task).to(device) for metric in task.metrics}
        for task in tasks
    }
    for each in meters.values():
        for part in (part for meter in each.values() for part in meter.modules()):
            # Else it waits for processes that do not evaluate.
            setattr(part, "distributed_available_fn", _alone)  # noqa: B010 (as mypy sees it)
    for batch in _batches(suite, split, device):
        outputs = forward(suite, model, suite.prepare(batch.inputs), device)
        targets = suite.complete(batch.targets)
        for k, task in enumerate(tasks):
            task.require_fit(outputs[task.name], targets[task.name])
            output = outputs[task.name]
            here = None if batch.present is None else batch.present[:, k]
            unknown[k] |= (output if here is None else output[here]).isnan().any()
            update(meters[task.name], task, output, targets[task.name], here)
    values = {}
    for task, without in zip(tasks, unknown.tolist(), strict=True):
        for metric in task.metrics:
            meter = meters[task.name][metric.name]
            known = meter.update_called and not without
            values[f"{task.name}/{metric.name}"] = value_of(metric, meter) if known else math.nan
    return values


def first_bad_input(suite: Suite, split: Split) -> str | None:
    """What the first instance is called whose inputs are not finite; None where all are."""
    for batch in _batches(suite, split, torch.device("cpu")):
        for part in input_parts(batch.inputs):
            if not isinstance(part, Tensor) or part.isfinite().all():
                continue
            if not part.ndim or len(part) != len(batch.rows):  # of the whole batch together
                return f"one of the items {int(batch.rows[0])} to {int(batch.rows[-1])}"
            row = int(batch.rows[(~part.isfinite()).reshape(len(part), -1).any(1)][0])
            return f"item {row}" if split.names is None else split.names[row]
    return None


def _alone() -> bool:
    return False


@torch.no_grad()
def instance_losses(suite: Suite, model: nn.Module, split: Split, device: torch.device) -> Tensor:
    """The loss of each instance of a split and task, float32 [M, K]; NaN where there is no
    label."""
    model.eval()
    rows = []
    for batch in _batches(suite, split, device):
        found = batch_losses(suite, model, batch, device).values()
        columns = [torch.where(here, losses.float(), torch.nan) for losses, here in found]
        rows.append(torch.stack(columns, 1))
    return torch.cat(rows)


def batch_losses(
    suite: Suite, model: nn.Module, batch: Batch, device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Of each task, the losses of a batch [B], and which of its instances have a label, bool
    [B]."""
    outputs = forward(suite, model, suite.prepare(batch.inputs), device)
    targets = suite.complete(batch.targets)
    found = {}
    for k, task in enumerate(suite.tasks()):
        target = targets[task.name]
        present = None if batch.present is None else batch.present[:, k]
        here = task.any_labelled(target, present)
        found[task.name] = (task.losses(outputs[task.name], target), here)
    return found


def _batches(suite: Suite, split: Split, device: torch.device) -> Batches:
    """All of a split, in its order, as many at a time as fit into memory; networks that squeeze
    their outputs have no batch of one."""
    size = _evaluation_batch(suite, split)
    return Batches(split, torch.arange(len(split)), size, device, none_of_one=True)


def _evaluation_batch(suite: Suite, split: Split) -> int:
    """How many instances are evaluated at a time."""
    inputs: Any = split.inputs
    if isinstance(inputs, Items):
        if inputs.collated:  # of different size: what fits in training does here
            return suite.batch_size
        inputs = inputs[torch.zeros(1, dtype=torch.long)]
    shapes = [getattr(part, "shape", ()) for part in input_parts(inputs)]
    fit = EVALUATION_VALUES // max(1, sum(math.prod(shape[1:]) for shape in shapes))
    return max(1, min(EVALUATION_BATCH, fit))


@torch.no_grad()
def example_predictions(
    suite: Suite, model: nn.Module, split: Split, rows: Tensor, device: torch.device
) -> dict[str, np.ndarray]:
    """Predictions for some rows of a split beside the truth, as `prediction/NAME`, `truth/NAME`.

    Numbers and maps of each task, and the suite's views of what else there is.
    """
    batch = take(split, rows, device)
    model.eval()
    outputs = forward(suite, model, suite.prepare(batch.inputs), device)
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
