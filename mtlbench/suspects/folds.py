"""Predictions for training instances by networks that have not seen them: cross-validation.

    <results>/.folds/<hash>/fold-<k>.npz

Each fold trains the suite's network by its recipe, with equal weights, on the instances of all
other folds and predicts its own. Folds are no runs: no comparison reads them.
"""

import hashlib
import io
import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlbench.batches import Batches
from mtlbench.errors import UserError
from mtlbench.executor import Event, Resources
from mtlbench.files import replacing
from mtlbench.randomness import named_generator
from mtlbench.registry import PluginFile
from mtlbench.store import DONE, FAILED, Store, npz_bytes
from mtlbench.study import RunSpec
from mtlbench.suspects.confident import label_quality, map_quality, wrong_share
from mtlbench.suspects.scores import CLEANLAB, Scores
from mtlbench.tasks import Task
from mtlbench.trainer import Run
from mtlbench.worker import Workplace

FOLDS = 5
"""A network then trains on four fifths of the labels."""

DIRECTORY = ".folds"
NO_LABEL = -1


@dataclass(frozen=True)
class FoldSpec:
    """One fold of a run's training data.

    Attributes:
        spec: the run with equal weights whose suite, variant and seed the fold has.
        fold: its number, from 0.
        folds: how many there are.
    """

    spec: RunSpec
    fold: int
    folds: int = FOLDS

    @property
    def group(self) -> str:
        """The hash that all folds of one cross-validation have."""
        text = f"{self.spec.hash}/{self.folds}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def hash(self) -> str:
        return f"{self.group}-{self.fold}"

    def __str__(self) -> str:
        spec = self.spec
        return f"{spec.suite}/{spec.variant}/seed-{spec.seed}/fold-{self.fold + 1}-of-{self.folds}"


def fold_file(store: Store, fold: FoldSpec) -> Path:
    return store.root / DIRECTORY / fold.group / f"fold-{fold.fold}.npz"


# --- one fold -----------------------------------------------------------------------------------


class FoldRun(Run):
    """A run on the instances of all folds but one; `held_out` are the rows [n] of that one."""

    def hold_out(self, fold: FoldSpec) -> None:
        names = (fold.spec.suite, fold.folds)
        order = torch.randperm(len(self.train_split), generator=named_generator("folds", *names))
        if len(order) < fold.folds:
            raise UserError(f"{len(order)} training instances are too few for {fold.folds} folds")
        member = torch.empty_like(order)
        member[order] = torch.arange(len(order)) % fold.folds
        self.held_out = (member == fold.fold).nonzero()[:, 0]
        self.others = (member != fold.fold).nonzero()[:, 0]

    def order(self, generator: torch.Generator) -> Tensor:
        return self.others[torch.randperm(len(self.others), generator=generator)]

    def evaluate(self, split: Any) -> dict[str, float]:
        """Nothing: no choice is made on the validation data."""
        return {}

    @torch.no_grad()
    def predict_held_out(self) -> dict[str, np.ndarray]:
        """Of each classification task the probabilities [n, C] of the held-out instances; of one
        with label maps their quality [n] instead, which needs less room."""
        self.model.eval()
        tasks = [(k, task) for k, task in enumerate(self.tasks) if task.kind == "classification"]
        parts: dict[str, list[np.ndarray]] = {}
        batches = Batches(self.train_split, self.held_out, self.suite.batch_size, self.device)
        for batch in batches:
            outputs = self.forward(self.suite.prepare(batch.inputs))
            targets = self.suite.complete(batch.targets)
            for k, task in tasks:
                present = None if batch.present is None else batch.present[:, k].cpu().numpy()
                kept = _held_out(task, outputs[task.name], targets[task.name], present)
                for name, values in kept.items():
                    parts.setdefault(f"{name}/{task.name}", []).append(values)
        return {name: np.concatenate(values) for name, values in parts.items()}


def _held_out(
    task: Task, output: Tensor, target: Tensor, present: np.ndarray | None
) -> dict[str, np.ndarray]:
    """What a fold keeps of some instances: `label` [n] and `probability` [n, C], or `quality`."""
    probability = output.float().softmax(1).cpu().numpy()
    label, labelled = target.cpu().numpy(), task.labelled(target).cpu().numpy()
    if label.ndim == 1:
        here = labelled if present is None else labelled & present
        return {
            "label": np.where(here, label, NO_LABEL).astype(np.int32),
            "probability": probability,
        }
    if label.ndim != 3:
        return {}
    here = labelled.any(axis=(1, 2)) if present is None else labelled.any(axis=(1, 2)) & present
    quality = map_quality(label.astype(np.int64), probability, labelled)
    return {"quality": np.where(here, quality, np.nan)}


def train_fold(fold: FoldSpec, *, device: str = "cpu") -> Iterator[Event | bytes]:
    """Trains one fold: an event after each epoch, at the end the content of its file.

    A fold that fails or diverges ends with an event of that kind instead.
    """
    started = time.monotonic()

    def event(kind: str, **more: Any) -> Event:
        seconds = time.monotonic() - started
        return Event(fold, kind, seconds=seconds, **more)

    try:
        run = FoldRun(fold.spec, torch.device(device))
        run.start()
        run.hold_out(fold)
        while run.epoch < run.suite.epochs and run.status == DONE:
            run.train_epoch()
            yield event("epoch", epoch=run.epoch, epochs=run.suite.epochs)
        if run.status != DONE:
            yield event(run.status)
            return
        about = {
            "spec": asdict(fold.spec),
            "hash": fold.spec.hash,
            "tasks": [task.name for task in run.tasks],
            "folds": fold.folds,
            "clean": not run.variant.clauses,
        }
        arrays = run.predict_held_out()
        arrays["rows"] = run.held_out.numpy()
        arrays["corrupted"] = run.corrupted[run.held_out].numpy()
        arrays["about"] = np.array(json.dumps(about))
        yield npz_bytes(arrays)
    except Exception as error:
        last = traceback.format_exception_only(error)[-1].strip()
        yield event(FAILED, error=last.partition("\n")[0])


# --- all folds ----------------------------------------------------------------------------------


def missing_folds(specs: Sequence[RunSpec], store: Store) -> list[FoldSpec]:
    """The folds of these runs that are not in the store, or cannot be read."""
    folds = [FoldSpec(spec, fold) for spec in specs for fold in range(FOLDS)]
    return [fold for fold in folds if _read(fold_file(store, fold)) is None]


def train_folds(
    folds: Sequence[FoldSpec],
    store: Store,
    parallel: int,
    *,
    plugins: Sequence[PluginFile],
    resources: Resources,
    report: Callable[[Event], None],
) -> None:
    """Trains folds on a cluster's workers and writes each file as its fold ends.

    Args:
        folds: none of which is in the store.
        store: where files go.
        parallel: how many at a time.
        plugins: loaded in every worker.
        resources: what a fold takes.
        report: told of everything that happens, in this process.
    """
    import ray

    actor: Any = ray.remote(_Worker).options(**resources.of_worker, max_restarts=0)
    workplace = resources.workplace(plugins)
    queue = list(folds)
    busy: dict[Any, tuple[FoldSpec, Any]] = {}

    def hand_out(worker: Any) -> None:
        if queue:
            fold = queue.pop(0)
            report(Event(fold, "started"))
            busy[worker.train.remote(fold)] = fold, worker

    for _ in range(min(parallel, len(queue))):
        hand_out(actor.remote(workplace))
    while busy:
        stream: Any = ray.wait(list(busy), num_returns=1)[0][0]
        fold, worker = busy[stream]
        message: Any
        try:
            message = ray.get(next(stream))
        except ray.exceptions.RayError as error:
            reason = f"the worker process died: {error}".partition("\n")[0]
            message = Event(fold, FAILED, error=reason)
            worker = actor.remote(workplace)
        if isinstance(message, bytes):
            path = fold_file(store, fold)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as aside:
                aside.write_bytes(message)
            message = Event(fold, DONE)
        report(message)
        if message.kind != "epoch":
            del busy[stream]
            hand_out(worker)


class _Worker:
    """Lives in a process of its own and trains one fold after the other."""

    def __init__(self, workplace: Workplace) -> None:
        workplace.set_up()
        self.device = workplace.device

    def train(self, fold: FoldSpec) -> Iterator[Event | bytes]:
        yield from train_fold(fold, device=self.device)


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a fold; None where there is no such file, or it is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            return dict(archive)
    except Exception:
        return None


# --- scores -------------------------------------------------------------------------------------


def fold_scores(store: Store, suite: str) -> list[tuple[dict[str, Any], list[Scores]]]:
    """Confident learning's scores of every cross-validation of a suite that is complete.

    The score of a label is 1 less its quality: see `label_quality` and `map_quality`.

    Returns:
        For each its `about` (the run's spec and hash among others) and a score per task.
    """
    found = []
    for directory in sorted((store.root / DIRECTORY).glob("*")):
        parts = [part for path in sorted(directory.glob("fold-*.npz")) if (part := _read(path))]
        if not parts:
            continue
        about = json.loads(str(parts[0]["about"]))
        if about["spec"]["suite"] == suite and len(parts) == about["folds"]:
            found.append((about, _scores(about, parts)))
    return found


def _scores(about: dict[str, Any], parts: Sequence[dict[str, np.ndarray]]) -> list[Scores]:
    rows = np.concatenate([part["rows"] for part in parts])
    place = np.argsort(rows)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([part[name] for part in parts])[place]

    corrupted = joined("corrupted")
    found = []
    for k, task in enumerate(about["tasks"]):
        estimate = float("nan")
        if f"quality/{task}" in parts[0]:
            score = 1 - joined(f"quality/{task}")
        elif f"label/{task}" in parts[0]:
            label, probability = joined(f"label/{task}"), joined(f"probability/{task}")
            here = label != NO_LABEL
            score = np.full(len(label), np.nan)
            if here.any():
                score[here] = 1 - label_quality(label[here], probability[here])
                estimate = wrong_share(label[here], probability[here])
        else:
            continue
        trace = np.empty((0, len(rows)), np.float32)
        mask = None if about["clean"] else corrupted[:, k]
        seed = about["spec"]["seed"]
        found.append(Scores(task, CLEANLAB, seed, trace, score, mask, estimate))
    return found
