"""The record of a run, in the form that the store writes."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlbench.data.reading import Items
from mtlbench.data.splits import Split
from mtlbench.data.variants import Variant
from mtlbench.spec import RunSpec
from mtlbench.tasks.detection import DETECTION
from mtlbench.tasks.task import Task
from mtlbench.training.batches import take
from mtlbench.training.processor import instruction_set, processor_name
from mtlbench.version import package_version

EXAMPLES = 6
"""The number of corrupted instances, and of test instances, that a run keeps to be looked at."""

PARTS = ("data", "train", "wait", "evaluate")
"""Of a run's time: making data, training, waiting for files while training, evaluating."""


def run_info(
    spec: RunSpec,
    label: str,
    stage: str,
    *,
    status: str,
    error: str | None,
    changed: Sequence[str] = (),
    tasks: Sequence[Task] = (),
    corrupted: Mapping[str, float] | None = None,
    metrics: Sequence[Mapping[str, Any]] = (),
    seconds: Mapping[str, float] | None = None,
    device: torch.device | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """The content of `run.json`.

    Args:
        spec: the run.
        label, stage: of its strategy.
        status, error: how it ended.
        changed: parameters that differ from their defaults; none where the run did not start, and
            so of all that follow.
        tasks, corrupted: the tasks, and the share of wrong labels by task.
        metrics: the final ones.
        seconds: by part of the training, see `PARTS`.
        device: where it was trained; None where nobody knows.
        workers: processes that trained it together.
    """
    name = str(device or "")
    if device is not None and device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    seconds = dict.fromkeys(PARTS, 0.0) | dict(seconds or {})
    return {
        "status": status,
        "hash": spec.hash,
        "spec": asdict(spec),
        "changed": changed,
        "label": label,
        "stage": stage,
        "tasks": [_task(task) for task in tasks],
        "corrupted": corrupted or {},
        "metrics": metrics,
        "timings": {f"{name}_seconds": value for name, value in seconds.items()},
        "versions": {
            "mtlbench": package_version(),
            "torch": str(torch.__version__),  # of a class that only PyTorch has
            "python": platform.python_version(),
        },
        "device": name,
        "workers": workers,
        "processor": processor_name() if name else "",
        "instruction_set": instruction_set() if name else "",
        "error": error,
    }


def final_metrics(tasks: Sequence[Task], values: Mapping[str, float]) -> list[dict[str, Any]]:
    """The metrics of all tasks, from their values by `TASK/METRIC`."""
    return [
        {
            "metric": metric.name,
            "label": metric.label,
            "task": task.name,
            "unit": metric.unit,
            "direction": metric.direction,
            "value": values[f"{task.name}/{metric.name}"],
        }
        for task in tasks
        for metric in task.metrics
    ]


def detection_metric(task: str, value: float) -> dict[str, Any]:
    """The share (%) of a task's corrupted labels that the instance parameters find."""
    return {
        "metric": DETECTION,
        "label": "Detection",
        "task": task,
        "unit": "%",
        "direction": "max",
        "value": value,
    }


def label_arrays(
    variant: Variant, corrupted: Tensor, given: Split, clean: Split, device: torch.device
) -> dict[str, np.ndarray]:
    """The corrupted mask [N, K], and a few corrupted labels beside the clean ones."""
    arrays = {"corrupted": corrupted.numpy()}
    rows = corrupted.any(1).nonzero()[:, 0][:EXAMPLES]
    arrays["example_index"] = rows.numpy()
    if len(rows) or not isinstance(given.inputs, Items):  # items make no batch of none
        inputs = take(given, rows, device).inputs
        if isinstance(inputs, Tensor):
            arrays["example_input"] = inputs.cpu().numpy()
    for task in variant.fractions():
        arrays[f"clean/{task}"] = clean.targets[task][rows].cpu().numpy()
        arrays[f"given/{task}"] = given.targets[task][rows].cpu().numpy()
    return arrays


def _task(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "kind": task.kind,
        "classes": list(task.classes),
        "palette": [list(colour) for colour in task.palette] or None,
        "unit": task.unit,
    }
