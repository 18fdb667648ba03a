"""Runs as a trainer would leave them, made up from a formula, for the tests of the analysis."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mtlbench.spec import RunSpec
from mtlbench.store.runs import RunRecord, Store
from mtlbench.store.schema import DIVERGED, DONE
from mtlbench.store.trials import (
    TRIAL_SEED,
    TrialScore,
    Tuning,
    tuning_file,
    write_trial,
    write_tuning,
)
from mtlbench.tasks.detection import detection_accuracy

LABELS = {
    "equal": "Eq. Weight",
    "mtu": "MTU",
    "dwa": "DWA",
    "gls": "GLS",
    "ilt": "ILT Params",
}
Metric = tuple[str, str, str, str, str, float]  # metric, label, task, unit, direction, value

TASKS = [
    {
        "name": "segmentation",
        "kind": "classification",
        "classes": ["road", "building", "vegetation", "sky", "car", "person", "pole"],
        "palette": [
            [128, 64, 128], [70, 70, 70], [107, 142, 35], [70, 130, 180],
            [0, 0, 142], [220, 20, 60], [190, 190, 110],
        ],
        "unit": "",
    },
    {"name": "depth", "kind": "regression", "classes": [], "palette": None, "unit": "1/m"},
]  # fmt: skip


def metric(
    value: float | None,
    name: str = "miou",
    task: str = "segmentation",
    *,
    label: str = "mIoU",
    unit: str = "%",
    direction: str = "max",
) -> dict[str, Any]:
    """One entry of the list of metrics of a run."""
    return {
        "metric": name, "label": label, "task": task,
        "unit": unit, "direction": direction, "value": value,
    }  # fmt: skip


def abs_err(value: float | None) -> dict[str, Any]:
    return metric(value, "abs_err", "depth", label="Abs. Err.", unit="1/m", direction="min")


def detection(value: float | None, task: str = "depth") -> dict[str, Any]:
    return metric(value, "detection_accuracy", task, label="Detection")


def _stage(strategy: str) -> str:
    parts = strategy.split("+")
    kinds = (("instance", {"ilt"}), ("gradient", {"pcgrad", "cagrad"}), ("loss", set(LABELS)))
    return next((kind for kind, names in kinds if names & set(parts)), "")


def write_run(
    root: Path,
    *metrics: dict[str, Any],
    suite: str = "streets",
    variant: str = "clean",
    strategy: str = "equal",
    seed: int = 0,
    status: str = DONE,
    label: str | None = None,
    suite_parameters: dict[str, Any] | None = None,
    strategy_parameters: dict[str, Any] | None = None,
    sources: dict[str, str] | None = None,
    tasks: Sequence[dict[str, Any]] = TASKS,
    corrupted: dict[str, float] | None = None,
    history: dict[str, list[float]] | None = None,
    labels: dict[str, np.ndarray] | None = None,
    instance_parameters: dict[str, np.ndarray] | None = None,
    predictions: dict[str, np.ndarray] | None = None,
    more: dict[str, Any] | None = None,
) -> Path:
    """Writes one run into the store at `root` and returns its directory.

    Its record says `more`, too, or instead.
    """
    spec = {
        "suite": suite,
        "suite_parameters": suite_parameters or {},
        "variant": variant,
        "strategy": strategy,
        "strategy_parameters": strategy_parameters or {},
        "seed": seed,
        "sources": sources or {},
    }
    info = {
        "status": status,
        "hash": hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12],
        "spec": spec,
        "label": label or LABELS.get(strategy, strategy),
        "stage": _stage(strategy),
        "tasks": list(tasks),
        "corrupted": corrupted or {},
        "metrics": list(metrics),
        "timings": {"train_seconds": 1.0},
        "versions": {"mtlbench": "0.1.0"},
        "device": "cpu",
        "error": None,
        **(more or {}),
    }
    record = RunRecord(
        info,
        history or {"epoch": []},
        labels or {},
        instance_parameters or {},
        predictions or {},
    )
    return Store(root).write(record)


def tuned(
    root: Path,
    *scores: float | None,
    variant: str = "clean",
    strategy: str = "equal",
    networks: int = 1,
    searched: str = "lr",
) -> Tuning:
    """Writes a tuning whose trials have these scores, and one run before and one after it."""
    defaults: dict[str, Any] = {"suite_parameters": {}, "strategy_parameters": {}, "sources": {}}
    changes: list[dict[str, Any]] = [{}, *({searched: n} for n in range(1, len(scores)))]
    trials = []
    for change, score in zip(changes, scores, strict=True):
        spec = RunSpec("streets", change, variant, strategy, {}, TRIAL_SEED, {})
        trials.append(TrialScore(spec.hash, change, score))
    tuning = Tuning("streets", variant, strategy, defaults, "0" * 12, trials, [0], networks)
    path = tuning_file(Store(root), tuning.hash)
    write_tuning(path, tuning)
    for parameters in {json.dumps(change): change for change in ({}, tuning.chosen.parameters)}:
        write_run(
            root, metric(50.0), variant=variant, strategy=strategy,
            suite_parameters=json.loads(parameters),
        )  # fmt: skip
    return tuning


def tried(root: Path, *trials: Sequence[dict[str, Any]], chosen: int = 0, **options: Any) -> Tuning:
    """Writes a tuning with a file for each trial: its metrics, none where it diverged."""
    scores = [float(i == chosen) if metrics else None for i, metrics in enumerate(trials)]
    tuning = tuned(root, *scores, **options)
    for trial, metrics in zip(tuning.trials, trials, strict=True):
        info = {
            "status": DONE if metrics else DIVERGED,
            "hash": trial.hash,
            "spec": asdict(tuning.spec(trial, TRIAL_SEED)),
            "label": LABELS.get(tuning.strategy, tuning.strategy),
            "tasks": TASKS,
            "metrics": list(metrics),
        }
        write_trial(Store(root), info, {})
    return tuning


DIGIT_TASKS = [
    {"name": name, "kind": "classification", "classes": [], "palette": None, "unit": ""}
    for name in ("left", "right")
]


def study(
    root: Path,
    *,
    variants: Sequence[str] = ("clean", "depth@0.4"),
    strategies: Sequence[str] = tuple(LABELS),
    seeds: int = 3,
    epochs: int = 15,
    instances: int = 600,
) -> None:
    """Writes a study of generated street scenes: segmentation and depth."""
    for variant in variants:
        for strategy in strategies:
            for seed in range(seeds):
                _street_run(root, variant, strategy, seed, epochs, instances)


def _street_run(
    root: Path, variant: str, strategy: str, seed: int, epochs: int, instances: int
) -> None:
    generator = np.random.default_rng([seed, *map(ord, strategy + variant)])
    corrupted = _corrupted(variant, instances, [task["name"] for task in TASKS])
    skill = list(LABELS).index(strategy) if strategy in LABELS else 2
    epoch = np.arange(1, epochs + 1)
    miou = (45 + 2 * skill) * (1 - np.exp(-epoch / 4)) + generator.normal(0, 0.7, epochs)
    error = 0.03 - 0.003 * skill + 0.05 * np.exp(-epoch / 3) + generator.normal(0, 4e-4, epochs)
    history = {
        "epoch": epoch.tolist(),
        "train_loss/segmentation": np.exp(-epoch / 5).tolist(),
        "validation/segmentation/miou": miou.tolist(),
        "validation/segmentation/pixel_accuracy": (60 + 0.6 * miou).tolist(),
        "validation/depth/abs_err": error.tolist(),
    }
    final = [
        metric(float(miou[-1])),
        metric(60 + 0.6 * float(miou[-1]), "pixel_accuracy", label="Pix. Acc."),
        abs_err(float(error[-1])),
    ]
    arrays = {}
    if strategy.startswith("ilt"):
        arrays = instance_arrays(corrupted, epochs, seed)
        for k, task in enumerate(TASKS):
            if corrupted[:, k].any():
                found = [
                    detection_accuracy(s, corrupted[:, [k]])
                    for s in arrays["log_variance"][:, :, [k]]
                ]
                history[f"detection_accuracy/{task['name']}"] = found
                final.append(detection(found[-1], task["name"]))
    fractions = {
        task["name"]: float(c.mean()) for task, c in zip(TASKS, corrupted.T, strict=True) if c.any()
    }
    write_run(
        root, *final, variant=variant, strategy=strategy, seed=seed, corrupted=fractions,
        history=history, labels=street_labels(corrupted) if fractions else {},
        instance_parameters=arrays,
    )  # fmt: skip


def _corrupted(variant: str, instances: int, tasks: Sequence[str]) -> np.ndarray:
    """The mask of a variant, bool [N, K]."""
    mask = np.zeros((instances, len(tasks)), dtype=bool)
    if variant != "clean":
        names, fraction = variant.split("@")
        chosen = np.random.default_rng(0).permutation(instances)[: int(instances * float(fraction))]
        for name in names.split("+"):
            mask[chosen, tasks.index(name)] = True
    return mask


def instance_arrays(corrupted: np.ndarray, epochs: int, seed: int = 0) -> dict[str, np.ndarray]:
    """log σ² that drifts up for corrupted instances and down for clean ones, [E, N, K]."""
    generator = np.random.default_rng(seed)
    target = np.where(corrupted, 1.0, -2.5) + generator.normal(0, 0.6, corrupted.shape)
    ramp = 1 - np.exp(-np.arange(1, epochs + 1) / 4)
    noise = generator.normal(0, 0.25, (epochs, *corrupted.shape))
    log_variance = np.clip(ramp[:, None, None] * target + noise, -4, 4)
    return {"log_variance": log_variance.astype(np.float16), "corrupted": corrupted}


def street_labels(corrupted: np.ndarray, examples: int = 4) -> dict[str, np.ndarray]:
    """Pictures of streets with clean and given labels of the corrupted tasks."""
    generator = np.random.default_rng(1)
    pictures, clean = _streets(generator, examples)
    permutation = np.array([*generator.permutation(7), -1])
    given = {
        "segmentation": permutation[clean["segmentation"]],
        "depth": clean["depth"] + generator.uniform(0, 0.2, clean["depth"].shape),
    }
    arrays = {
        "corrupted": corrupted,
        "example_index": np.flatnonzero(corrupted.any(axis=1))[:examples],
        "example_input": pictures,
    }
    for task, column in zip(TASKS, corrupted.T, strict=True):
        if column.any():
            name = task["name"]
            arrays |= {f"clean/{name}": clean[name], f"given/{name}": given[name]}
    return arrays


def _streets(
    generator: np.random.Generator, count: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pictures uint8 [N, 3, 64, 128], and the labels [N, 64, 128] of each task."""
    rows, columns = np.mgrid[0:64, 0:128]
    scenes = np.full((count, 64, 128), 3)
    for scene in scenes:
        scene[rows > 36] = 0
        for left in generator.integers(0, 110, 5):
            top = generator.integers(8, 30)
            block = (columns >= left) & (columns < left + 22) & (rows > top) & (rows <= 36)
            scene[block] = generator.choice([1, 2])
        left = generator.integers(10, 90)
        scene[38:52, left : left + 24] = 4
        scene[:, :2] = -1
    palette = np.array([*TASKS[0]["palette"], [0, 0, 0]])
    pictures = palette[scenes] + generator.normal(0, 8, (count, 64, 128, 3))
    depth = np.broadcast_to(0.02 + 0.1 * np.clip(rows - 30, 0, None) / 34, scenes.shape)
    pictures = pictures.clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2)
    return pictures, {"segmentation": scenes, "depth": depth}


def street_predictions(seed: int = 0, instances: int = 6) -> dict[str, np.ndarray]:
    """Pictures of streets, the same for all seeds, with truth and what a network makes of them."""
    generator = np.random.default_rng([2, seed])
    pictures, truth = _streets(np.random.default_rng(1), instances)
    classes, depth = truth["segmentation"], truth["depth"]
    wrong = generator.random(classes.shape) < 0.2
    return {
        "input": pictures,
        "truth/segmentation": classes.astype(np.int16),
        "truth/depth": depth.astype(np.float16),
        "prediction/segmentation": np.where(
            wrong | (classes < 0), generator.integers(0, 7, classes.shape), classes
        ).astype(np.int16),
        "prediction/depth": (depth + generator.normal(0, 0.02, depth.shape)).astype(np.float16),
    }


def digits_run(
    root: Path, *, strategy: str = "ilt", epochs: int = 30, instances: int = 600
) -> Path:
    """Writes a run on pairs of digits, whose labels of the left one are corrupted."""
    generator = np.random.default_rng(3)
    corrupted = np.zeros((instances, 2), dtype=bool)
    corrupted[: instances * 2 // 5, 0] = True
    found = np.linspace(45, 97, epochs).tolist()
    clean = generator.integers(0, 10, 6)
    return write_run(
        root,
        metric(91.5, "accuracy", "left", label="Accuracy"),
        metric(93.5, "accuracy", "right", label="Accuracy"),
        detection(97.0, "left"),
        suite="digits",
        variant="left@0.4",
        strategy=strategy,
        tasks=DIGIT_TASKS,
        corrupted={"left": 0.4},
        history={
            "epoch": list(range(1, epochs + 1)),
            "validation/left/accuracy": np.linspace(30, 91, epochs).tolist(),
            "validation/right/accuracy": np.linspace(35, 93, epochs).tolist(),
            "detection_accuracy/left": found,
        },
        labels={
            "corrupted": corrupted,
            "example_index": np.arange(6),
            "example_input": generator.random((6, 1, 16, 32)).astype(np.float32),
            "clean/left": clean,
            "given/left": (clean + 3) % 10,
        },
        instance_parameters=instance_arrays(corrupted, epochs),
    )
