"""One run: from a spec to all that it leaves behind. Knows nothing of Ray or of directories."""

import functools
import math
import platform
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlbench.data.corruption import corrupt
from mtlbench.data.rows import Rows, to_device
from mtlbench.data.splits import Data, Split
from mtlbench.data.variants import Variant
from mtlbench.errors import describe
from mtlbench.randomness import derive_seed, named_generator
from mtlbench.spec import RunSpec
from mtlbench.store.runs import DIVERGED, DONE, History, RunRecord
from mtlbench.strategies.base import GRADIENT, Strategy
from mtlbench.strategies.compose import Composition
from mtlbench.strategies.optimizers import load_optimizer, optimizer_state
from mtlbench.strategies.table import ON_DEVICE
from mtlbench.suites.base import Suite
from mtlbench.tasks.detection import detection_accuracy
from mtlbench.tasks.task import Task
from mtlbench.training.batches import Batch, Batches
from mtlbench.training.job import Place
from mtlbench.training.processor import instruction_set, processor_name
from mtlbench.training.traces import Traces
from mtlbench.version import package_version

EVALUATION_BATCH = 256
"""Most instances that are evaluated at a time."""

EVALUATION_VALUES = 2**22
"""Most input values that are evaluated at a time: of large pictures fewer fit into memory."""

RESIDENT_SHARE = 0.5
"""Of a GPU's free memory, how much a suite's data may take; if it is more, it stays in files."""

EXAMPLES = 6
"""How many corrupted instances, and how many test instances, a run keeps to be looked at."""


@functools.lru_cache(maxsize=2)
def _resident_data(suite: Suite, device: torch.device) -> Data:
    """The suite's data, as tensors on the device where it fits, kept from run to run."""
    data = suite.data()

    splits = (data.train, data.validation, data.test)
    files = sum(
        values.nbytes
        for split in splits
        for values in (split.inputs, *split.targets.values())
        if not isinstance(values, Tensor)
    )
    # Files are read by the batch on a CPU, whose page cache all workers share.
    stay = device.type == "cpu" or files > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]

    def move(values: Rows) -> Rows:
        return values if stay and not isinstance(values, Tensor) else to_device(values, device)

    return Data(
        *(
            Split(
                move(split.inputs),
                {name: move(target) for name, target in split.targets.items()},
                None if split.present is None else split.present.to(device),
            )
            for split in splits
        )
    )


def training_labels(
    suite: Suite, name: str, variant: Variant, data: Data, device: torch.device
) -> tuple[Split, Tensor]:
    """The training split with this variant's labels, and the corrupted mask [N, K]."""
    clean = {
        task: target.cpu() if isinstance(target, Tensor) else target
        for task, target in data.train.targets.items()
    }
    given, mask = corrupt(variant, suite.tasks(), clean, names=(name, suite.corruption_seed))
    present = data.train.present
    if suite.missing_labels:
        chance = named_generator("missing labels", name, suite.corruption_seed)
        kept = torch.rand(mask.shape, generator=chance) >= suite.missing_labels
        present = kept.to(device) if present is None else present & kept.to(device)
    if present is not None:
        mask &= present.cpu()
    targets = {
        task: target.to(device) if isinstance(target, Tensor) else target
        for task, target in given.items()
    }
    return Split(data.train.inputs, targets, present), mask


@dataclass
class Run:
    """The state of a run under way.

    Attributes:
        first, end: it is trained from this many epochs on, up to so many.
        epoch: how many are over.
    """

    spec: RunSpec
    place: Place = field(default_factory=Place)
    keep_traces: bool = False
    first: int = 0
    epoch: int = 0
    status: str = DONE
    error: str | None = None
    history: History = field(default_factory=dict)
    log_variances: list[Tensor] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"data": 0.0, "train": 0.0, "wait": 0.0, "evaluate": 0.0}
    )

    def start(self) -> None:
        spec = self.spec
        self.device = torch.device(self.place.device)
        self.suite = spec.build_suite()
        self.end = self.suite.epochs
        self.tasks = self.suite.tasks()
        self.variant = Variant.parse(spec.variant, self.tasks)
        self.composition = Composition.parse(spec.strategy)
        started = time.perf_counter()
        self.data = _resident_data(self.suite, self.device)
        self.train_split, self.corrupted = training_labels(
            self.suite, spec.suite, self.variant, self.data, self.device
        )
        self.seconds["data"] = time.perf_counter() - started
        present = self.train_split.present
        self.labelled_tasks = (
            torch.ones(len(self.tasks), dtype=torch.bool) if present is None else present.any(0)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed("initialisation", spec.suite, spec.seed))
            self.model = self.suite.model()
        self.model.to(self.device)
        # Measured on a CPU: 1.3 to 1.7 times faster than contiguous images; on a GPU more.
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = self.suite.optimizer(self.model)
        self.strategy: Strategy = self.composition.build(
            spec.strategy_parameters,
            tasks={task.name: task.kind for task in self.tasks},
            num_instances=len(self.train_split),
            model=self.model,
            representation=self.suite.representation(self.model),
            device=self.device,
            generator=named_generator("strategy", spec.suite, spec.strategy, spec.seed),
            instance_tables=self.place.instance_tables,
        )
        self.traces = (
            Traces(self.tasks, len(self.train_split), self.device) if self.keep_traces else None
        )
        # A compiled graph ties every parameter to every task, so that a gradient weighting could
        # no longer tell heads from shared layers.
        if self.suite.compiled and self.strategy.task.stage != GRADIENT:
            self.model.compile()

    # --- training ---------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """One pass over the training data, then the validation metrics."""
        started = time.perf_counter()
        names = (self.spec.suite, self.spec.seed, self.epoch)
        order = self.order(named_generator("order", *names))
        augmentation = named_generator("augmentation", *names)
        torch.manual_seed(derive_seed("network", *names))  # dropout and the like
        self.model.train()
        batches = Batches(self.train_split, order, self.suite.batch_size, self.device)
        for number, batch in enumerate(batches):
            self._set_learning_rate((self.epoch + number / len(batches)) / self.suite.epochs)
            self._step(batch, augmentation)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds["train"] += time.perf_counter() - started
        self.seconds["wait"] += batches.waited

        validation = self.evaluate(self.data.validation)
        summary = self.strategy.end_epoch(validation)
        if self.traces is not None:
            self.traces.end_epoch()
        self.epoch += 1
        row: dict[str, float] = {"epoch": self.epoch}
        for task, loss, weight in zip(
            self.tasks, summary.losses.tolist(), summary.weights.tolist(), strict=True
        ):
            row[f"train_loss/{task.name}"] = loss
            row[f"weight/{task.name}"] = weight
        row.update({f"validation/{key}": value for key, value in validation.items()})
        row.update(self._snapshot())
        for key, value in row.items():
            self.history.setdefault(key, []).append(value)
        losses_finite = summary.losses[self.labelled_tasks].isfinite().all()
        weights_finite = all(p.isfinite().all() for p in self.model.parameters())
        if not (losses_finite and weights_finite):
            self.status = DIVERGED

    def order(self, generator: torch.Generator) -> Tensor:
        """The row numbers of one epoch, in the order of their visits."""
        return torch.randperm(len(self.train_split), generator=generator)

    def _set_learning_rate(self, progress: float) -> None:
        for group in self.optimizer.param_groups:
            start = group.setdefault("initial_lr", group["lr"])
            group["lr"] = start * self.suite.lr_factor(progress)

    def _step(self, batch: Batch, augmentation: torch.Generator) -> None:
        inputs, targets = self.suite.augment(
            self.suite.prepare(batch.inputs), batch.targets, augmentation
        )
        targets = self.suite.complete(targets)
        index = batch.index if self.place.instance_tables == ON_DEVICE else batch.rows
        given = self.forward(inputs)
        outputs = self.strategy.transform(given, targets, index, batch.present)
        losses = {
            task.name: task.losses(outputs[task.name], targets[task.name]) for task in self.tasks
        }
        if self.traces is not None:
            self.traces.add(batch.index, given, targets, losses, batch.present)
        self.optimizer.zero_grad(set_to_none=True)
        self.strategy.backward(losses, index, batch.present)
        self.optimizer.step()

    def _snapshot(self) -> dict[str, float]:
        """Keeps the instance parameters of this epoch; the share of corrupted labels they find."""
        table = self.strategy.instance.log_variances()
        if table is None:
            return {}
        self.log_variances.append(table.to("cpu", torch.float16))
        log_variance, corrupted = self.log_variances[-1].numpy(), self.corrupted.numpy()
        found = {
            f"detection_accuracy/{name}": detection_accuracy(
                log_variance[:, columns], corrupted[:, columns]
            )
            for name, columns in self._corrupted_together().items()
        }
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def _corrupted_together(self) -> dict[str, list[int]]:
        """The columns of each corrupted task, and of tasks that are corrupted on the same
        instances, as `pose+shape`."""
        column = {task.name: k for k, task in enumerate(self.tasks)}
        single = {name: [k] for name, k in column.items() if name in self.variant.fractions()}
        together = {"+".join(c.tasks): [column[t] for t in c.tasks] for c in self.variant.clauses}
        return single | together

    # --- evaluation -------------------------------------------------------------------------

    def test(self) -> None:
        """The final metrics, and a few predictions: on the test split, from the last epoch."""
        self.predictions = self._predictions()
        values = self.evaluate(self.data.test)
        self.metrics = [
            _metric(metric, task, values[f"{task.name}/{metric.name}"])
            for task in self.tasks
            for metric in task.metrics
        ]
        for name in self._corrupted_together():
            column = self.history.get(f"detection_accuracy/{name}")
            if column:
                self.metrics.append(
                    {
                        "metric": "detection_accuracy",
                        "label": "Detection",
                        "task": name,
                        "unit": "%",
                        "direction": "max",
                        "value": column[-1],
                    }
                )

    @torch.no_grad()
    def evaluate(self, split: Split) -> dict[str, float]:
        """All metrics on a split, as `TASK/METRIC`."""
        started = time.perf_counter()
        self.model.eval()
        meters = {
            (task, metric): metric.make().to(self.device)
            for task in self.tasks
            for metric in task.metrics
        }
        fit = EVALUATION_VALUES // max(1, math.prod(split.inputs.shape[1:]))
        size = max(1, min(EVALUATION_BATCH, fit))
        for batch in Batches(split, torch.arange(len(split)), size, self.device):
            outputs = self.forward(self.suite.prepare(batch.inputs))
            targets = self.suite.complete(batch.targets)
            for k, task in enumerate(self.tasks):
                prediction, target = task.predict(outputs[task.name].float()), targets[task.name]
                if task.kind == "classification":
                    target = target.long()  # suites may store them in 8 bits
                if batch.present is not None:
                    here = batch.present[:, k]
                    prediction, target = prediction[here], target[here]
                if task.ignore is not None:
                    where = task.labelled(target)
                    prediction, target = prediction[where], target[where]
                for metric in task.metrics:
                    meters[task, metric].update(prediction, target)
        values = {
            f"{task.name}/{metric.name}": meter.compute().item() * metric.scale
            for (task, metric), meter in meters.items()
        }
        self.seconds["evaluate"] += time.perf_counter() - started
        return values

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        half = self.suite.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            outputs: dict[str, Tensor] = self.model(inputs)
        return outputs

    # --- what is kept -----------------------------------------------------------------------

    def finish(self) -> Any:
        """What is left behind when all epochs are over, or training diverged."""
        if self.status == DONE:
            self.test()
        return self.record()

    def failure(self) -> Any:
        """What is left behind where something raised."""
        return self.record()

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        state = {
            "identity": self.identity(),
            "epoch": self.epoch,
            "status": self.status,
            "history": self.history,
            "seconds": self.seconds,
            "log_variances": self.log_variances,
            "model": dict(self.model.state_dict()),
            "optimizer": optimizer_state(self.optimizer),
            "strategy": dict(self.strategy.state_dict()),
        }
        return state | ({} if self.traces is None else {"traces": self.traces.state()})

    def load_state(self, state: Any) -> None:
        """Takes over what `state` gave.

        Raises:
            ValueError: it is not of such a run; this one is then of no use any more.
        """
        try:
            identity = self.identity()
            for name, mine in identity.items():
                if state["identity"][name] != mine:
                    found = state["identity"][name]
                    raise ValueError(f"its {name} is {found!r}, and not {mine!r}")
            if set(state) != set(self.state()):
                raise ValueError("it lacks something, or has more than it should")
            lengths = {len(column) for column in state["history"].values()}
            if not 0 < state["epoch"] <= self.suite.epochs or lengths != {state["epoch"]}:
                raise ValueError(f"epoch {state['epoch']} is not what its history says")
            if state["status"] not in (DONE, DIVERGED) or set(state["seconds"]) != set(
                self.seconds
            ):
                raise ValueError("its status or its timings are not those of a run")
            self.epoch, self.status = state["epoch"], state["status"]
            self.history, self.seconds = state["history"], state["seconds"]
            self.log_variances = state["log_variances"]
            kept = self.strategy.instance.log_variances()
            shapes = [] if kept is None else [kept.shape] * state["epoch"]
            if [values.shape for values in state["log_variances"]] != shapes:
                raise ValueError("its instance parameters are not those of its epochs")
            if self.traces is not None:
                self.traces.load_state(state["traces"], state["epoch"])
            self.model.load_state_dict(state["model"])
            self.strategy.load_state_dict(state["strategy"])
            load_optimizer(self.optimizer, state["optimizer"])
        except ValueError as error:
            raise ValueError(f"the checkpoint is not of this run: {error}") from error
        except Exception as error:  # keys, shapes and types of all kinds
            raise ValueError(f"the checkpoint is damaged: {describe(error)}") from error

    def identity(self) -> dict[str, Any]:
        """What a state must have been made with to go on to the same bits."""
        return {
            "spec": self.spec.hash,
            "mtlbench": package_version(),
            "torch": torch.__version__,
            "device": self.place.device,
            "traces": self.traces is not None,
        }

    def record(self) -> RunRecord:
        """What the store writes."""
        started = hasattr(self, "traces")
        composition = Composition.parse(self.spec.strategy)
        info = {
            "status": self.status,
            "hash": self.spec.hash,
            "spec": asdict(self.spec),
            "changed": self.spec.changed() if started else [],
            "label": composition.label,
            "stage": composition.stage,
            "tasks": [_task(task) for task in self.tasks] if started else [],
            "corrupted": self.variant.fractions() if started else {},
            "metrics": self.metrics,
            "timings": {f"{name}_seconds": value for name, value in self.seconds.items()},
            "versions": {
                "mtlbench": package_version(),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "device": _device_name(torch.device(self.place.device)),
            "processor": processor_name(),
            "instruction_set": instruction_set(),
            "error": self.error,
        }
        record = RunRecord(info, self.history or {"epoch": []})
        if started and self.variant.clauses:
            record.labels = self._labels()
        record.predictions = self.predictions
        if started and self.traces is not None:
            record.traces = self.traces.arrays()
        if self.log_variances:
            record.instance_parameters = {
                "log_variance": torch.stack(self.log_variances).numpy(),
                "corrupted": self.corrupted.numpy(),
            }
        return record

    def _labels(self) -> dict[str, np.ndarray]:
        """The corrupted mask, and a few corrupted labels beside the clean ones."""
        arrays = {"corrupted": self.corrupted.numpy()}
        rows = self.corrupted.any(1).nonzero()[:, 0][:EXAMPLES]
        arrays["example_index"] = rows.numpy()
        given, clean = self._take(self.train_split, rows), self._take(self.data.train, rows)
        arrays["example_input"] = given.inputs.cpu().numpy()
        for task in self.variant.fractions():
            arrays[f"clean/{task}"] = clean.targets[task].cpu().numpy()
            arrays[f"given/{task}"] = given.targets[task].cpu().numpy()
        return arrays

    def _take(self, split: Split, rows: Tensor) -> Batch:
        return next(iter(Batches(split, rows, max(1, len(rows)), self.device)))

    @torch.no_grad()
    def _predictions(self) -> dict[str, np.ndarray]:
        """What the network makes of a few test instances, beside the truth."""
        batch = self._take(self.data.test, torch.arange(min(EXAMPLES, len(self.data.test))))
        self.model.eval()
        outputs = self.forward(self.suite.prepare(batch.inputs))
        seen = {
            "truth": self.suite.complete(batch.targets),
            "prediction": {
                task.name: task.predict(outputs[task.name].float()) for task in self.tasks
            },
        }
        arrays = {"input": batch.inputs.cpu().numpy()}
        for kind, values in seen.items():
            views = self.suite.views(batch.inputs, values)
            arrays |= {f"{kind}/{name}": picture for name, picture in views.items()}
            for task in self.tasks:
                value = values[task.name]
                # Numbers and maps; what else there is, views show.
                if value.shape[1:] in (torch.Size(), batch.inputs.shape[2:]):
                    small = torch.float16 if task.kind == "regression" else torch.int16
                    arrays[f"{kind}/{task.name}"] = value.to("cpu", small).numpy()
        return arrays


def _metric(metric: Any, task: Task, value: float) -> dict[str, Any]:
    return {
        "metric": metric.name,
        "label": metric.label,
        "task": task.name,
        "unit": metric.unit,
        "direction": metric.direction,
        "value": value,
    }


def _task(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "kind": task.kind,
        "classes": list(task.classes),
        "palette": [list(colour) for colour in task.palette] or None,
        "unit": task.unit,
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
