"""One run: from a spec to all that it leaves behind. Knows nothing of Ray or of directories."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mtlbench.data.reading import Items
from mtlbench.data.splits import Inputs, Split, Targets, each_input
from mtlbench.data.variants import Variant
from mtlbench.errors import UserError, describe
from mtlbench.randomness import (
    derive_seed,
    global_draws_kept,
    named_generator,
    repeatable_kernels,
    seed_global_draws,
)
from mtlbench.spec import RunSpec
from mtlbench.store.runs import History, RunRecord
from mtlbench.store.schema import DIVERGED, DONE
from mtlbench.strategies.base import GRADIENT
from mtlbench.strategies.compose import Composition
from mtlbench.strategies.optimizers import load_optimizer, optimizer_state
from mtlbench.strategies.ranks import ranks_of
from mtlbench.strategies.strategy import Strategy
from mtlbench.strategies.table import ON_DEVICE
from mtlbench.suites.base import Suite
from mtlbench.suites.build import changed_parameters, suite_of
from mtlbench.suites.trial import require_untrained
from mtlbench.tasks.detection import detection_accuracy
from mtlbench.tasks.epoch_rule import BEST, MEAN, EpochRule, score
from mtlbench.tasks.task import Task
from mtlbench.training.batches import Batch, Batches, take
from mtlbench.training.checkpoint import load_tree
from mtlbench.training.evaluation import (
    Network,
    batch_losses,
    evaluate,
    example_predictions,
    first_bad_input,
    forward,
    instance_losses,
    pixels_last,
)
from mtlbench.training.graphed import GraphedNetwork, GraphedTasks
from mtlbench.training.job import Place
from mtlbench.training.labels import fingerprint, resident_data, training_labels
from mtlbench.training.record import (
    EXAMPLES,
    PARTS,
    detection_metric,
    final_metrics,
    label_arrays,
    run_info,
)
from mtlbench.training.traces import Traces
from mtlbench.training.whole_batch import WholeBatch, part_of, require_same_outputs
from mtlbench.version import package_version

Found = TypeVar("Found")


@dataclass
class Run:
    """The state of a run under way.

    Where several processes train it together, each has such a state, in which all is the same.

    Attributes:
        tested: whether the final metrics are those on test data; else they are those on validation
            data, and test data are not looked at.
        first, end: it is trained from this many epochs on, up to so many.
        epoch: how many are over.
        counted: what the rule of the epoch needs of the epochs so far: the `score` of the best one,
            its `epoch` and the `model` then, or final `metrics` of each epoch that the mean is of.
    """

    spec: RunSpec
    place: Place = field(default_factory=Place)
    keep_traces: bool = False
    tested: bool = True
    first: int = 0
    epoch: int = 0
    status: str = DONE
    error: str | None = None
    history: History = field(default_factory=dict)
    log_variances: list[Tensor] = field(default_factory=list)
    counted: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def __post_init__(self) -> None:
        self.ranks = None if self.place.workers == 1 else ranks_of(None)

    def start(self) -> None:
        spec = self.spec
        self.device = torch.device(self.place.device)
        if self.device.type == "cuda":
            repeatable_kernels()
        self.suite = suite_of(spec)
        self.end = self.suite.epochs
        self.tasks = self.suite.tasks()
        self.rule = EpochRule.parse(self.suite.epoch_rule)
        self.variant = Variant.parse(spec.variant, self.tasks)
        self.composition = Composition.parse(spec.strategy)
        started = time.perf_counter()
        self.data = resident_data(self.suite, self.device)
        self._require_same_data()
        self.train_split, self.corrupted = training_labels(
            self.suite, spec.suite, self.variant, self.data, self.device
        )
        self.seconds["data"] = time.perf_counter() - started
        with global_draws_kept():
            seed = derive_seed("initialisation", spec.suite, spec.seed)
            seed_global_draws(seed, of_devices=True)
            self.model = self.suite.model()
        require_untrained(self.model)
        self.model.to(self.device)
        if self.suite.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = self.suite.optimizer(self.model)
        kinds = {parameter.dtype for parameter in self.model.parameters()}
        self.strategy: Strategy = self.composition.build(
            spec.strategy_parameters,
            tasks={task.name: task.kind for task in self.tasks},
            num_instances=len(self.train_split),
            model=self.model,
            representation=self.suite.representation(self.model),
            device=self.device,
            dtype=torch.float64 if torch.float64 in kinds else torch.float32,
            generator=named_generator("strategy", spec.suite, spec.strategy, spec.seed),
            instance_tables=self.place.instance_tables,
            process_group=None if self.ranks is not None else False,
        )
        self.traces = (
            Traces(self.tasks, len(self.train_split), self.device, self.ranks)
            if self.keep_traces
            else None
        )
        self.network: Network = self.model  # as training calls it
        self.together: WholeBatch | None = None
        if self.ranks is not None:
            self._require_same_outputs()
            return
        task, held_out = self.strategy.task, self.strategy.held_out
        # A compiled pass, or one recorded whole, ties every parameter to every task, so that a
        # gradient weighting could no longer tell heads from shared layers. With held-out data a
        # step has passes of another kind.
        whole = task.stage != GRADIENT and not held_out
        by_task = not (whole or held_out or task.recomputes or task.needs_representation)
        full = self.suite.batch_size <= len(self.train_split)
        recorded = self.suite.graphed and full and self.device.type == "cuda"
        if whole and self.suite.compiled:
            self.model.compile()
        elif recorded and (whole or by_task):
            self.network = self._graphed(GraphedNetwork if whole else GraphedTasks)

    def _require_same_data(self) -> None:
        planned = self.spec.fingerprint
        if planned and fingerprint(self.suite, self.device) != planned:
            raise UserError(
                f"the data of suite {self.spec.suite!r} is not that with which this study was "
                "planned: it must be the same in every process, so what is drawn needs a seed"
            )

    def _require_same_outputs(self) -> None:
        """Makes sure that parts of a batch train the network as the whole does."""
        assert self.ranks is not None
        rows = torch.arange(min(self.suite.batch_size, len(self.train_split)))
        part = part_of(len(rows), self.ranks.rank, self.ranks.size)

        def outputs(some: slice) -> dict[str, Tensor]:
            inputs = self.suite.prepare(take(self.train_split, rows[some], self.device).inputs)
            if self.suite.channels_last:
                inputs = each_input(inputs, pixels_last)
            return self.suite.call(self.model, inputs)

        self.model.train()
        require_same_outputs(self.model, outputs, self.ranks, part, self.device)

    def _graphed(self, kind: type[GraphedNetwork | GraphedTasks]) -> GraphedNetwork | GraphedTasks:
        """The network, whose passes over full batches are CUDA graphs."""
        rows = torch.arange(self.suite.batch_size)
        inputs = self.suite.prepare(take(self.train_split, rows, self.device).inputs)
        self.model.train()
        return kind(
            self.model,
            each_input(inputs, pixels_last),
            half=self.suite.precision == "bfloat16",
        )

    # --- training ---------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """One pass over the training data, then the validation metrics."""
        started = time.perf_counter()
        names = self._names()
        order = self.order(named_generator("order", *names))
        augmentation = named_generator("augmentation", *names)
        # Dropout and the like.
        seed_global_draws(derive_seed("network", *names), of_devices=True)
        self.model.train()
        batches = Batches(
            self.train_split,
            order,
            self.suite.batch_size,
            self.device,
            none_of_one=True,
            draws=names,
            ranks=self.ranks,
            whole=self._augments,
        )
        held_out = self._held_out_batches(len(batches))
        for number, batch in enumerate(batches):
            self._set_learning_rate((self.epoch + number / len(batches)) / self.suite.epochs)
            self._step(batch, augmentation, next(held_out, None))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds["train"] += time.perf_counter() - started
        self.seconds["wait"] += batches.waited

        validation = self.of_first(lambda: self.evaluate(self.data.validation))
        summary = self.strategy.end_epoch(validation)
        # The means leave bad batches out, after which no training of ours goes on.
        losses = summary.losses if not summary.bad_batches else summary.losses * torch.nan
        if self.traces is not None:
            self.traces.end_epoch(
                self.of_first(
                    lambda: instance_losses(
                        self.suite, self.model, self.data.validation, self.device
                    )
                )
            )
        self.epoch += 1
        row: dict[str, float] = {"epoch": self.epoch}
        for task, loss, weight in zip(
            self.tasks, losses.tolist(), summary.weights.tolist(), strict=True
        ):
            row[f"train_loss/{task.name}"] = loss
            row[f"weight/{task.name}"] = weight
        row.update({f"validation/{key}": value for key, value in validation.items()})
        row.update(self._snapshot())
        for key, value in row.items():
            self.history.setdefault(key, []).append(value)
        self._count_epoch(validation)
        losses_finite = not summary.bad_batches and not losses.isinf().any()
        weights_finite = all(p.isfinite().all() for p in self.model.parameters())
        if not (losses_finite and weights_finite):
            self.status = DIVERGED

    def _names(self) -> tuple[object, ...]:
        """What the draws of the epoch under way depend on, for all strategies alike."""
        return self.spec.suite, self.spec.seed, self.epoch

    def scored(self) -> tuple[Task, ...]:
        """The tasks by which an epoch is judged."""
        return self.tasks

    def _count_epoch(self, validation: dict[str, float]) -> None:
        """Keeps of this epoch what the rule of the epoch needs."""
        if self.rule.kind == BEST:
            reached = score(self.scored(), validation)
            if reached > self.counted.get("score", -math.inf):
                weights = {name: t.detach().clone() for name, t in self.model.state_dict().items()}
                self.counted = {"score": reached, "epoch": self.epoch, "model": weights}
        elif self.rule.kind == MEAN and self.epoch > self.suite.epochs - self.rule.count:
            test = self.data.test
            values = self.of_first(lambda: self.evaluate(test)) if self.tested else validation
            self.counted.setdefault("metrics", []).append(values)

    def order(self, generator: torch.Generator) -> Tensor:
        """The row numbers of one epoch, in the order of their visits."""
        return self.suite.order(self.train_split, generator)

    def _set_learning_rate(self, progress: float) -> None:
        for group in self.optimizer.param_groups:
            start = group.setdefault("initial_lr", group["lr"])
            group["lr"] = start * self.suite.lr_factor(progress)

    def _held_out_batches(self, count: int) -> Iterator[Batch]:
        """As many batches of validation data as an epoch has steps, for a strategy that looks at
        such data: the data over and over, in an order that is new each time."""
        if not self.strategy.held_out:
            return iter(())
        split, generator = self.data.validation, named_generator("held out", *self._names())
        if isinstance(split.inputs, Items):
            split = replace(split, inputs=split.inputs.apart())
        size = min(self.suite.batch_size, len(split))
        rounds = math.ceil(count * size / len(split))
        orders = [torch.randperm(len(split), generator=generator) for _ in range(rounds)]
        return iter(Batches(split, torch.cat(orders)[: count * size], size, self.device))

    def _held_out_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The mean loss of each task over the labels of a batch of validation data, 0 where there
        is none."""
        devices = [self.device] if self.device.type == "cuda" else []
        same = nullcontext() if self.together is None else self.together.alone()
        # Dropout in the step draws as with other strategies.
        with global_draws_kept(devices), same:
            found = batch_losses(self.suite, self.model, batch, self.device)
        return {
            task: torch.where(here, losses, 0).sum() / here.sum().clamp(min=1)
            for task, (losses, here) in found.items()
        }

    def _step(
        self, batch: Batch, augmentation: torch.Generator, held_out: Batch | None = None
    ) -> None:
        inputs, targets = self.suite.augment(
            self.suite.prepare(batch.inputs), batch.targets, augmentation
        )
        if batch.part is not None and self._augments:
            own = batch.part.rows
            inputs, targets = each_input(inputs, lambda part: part[own]), _some(targets, own)
            batch = batch.some(own)
        if self.ranks is None or batch.part is None:
            self._train_on(batch, inputs, targets, held_out)
        else:
            with WholeBatch(self.ranks, batch.part) as self.together:
                self._train_on(batch, inputs, targets, held_out)
            if self.strategy.task.stage != GRADIENT:
                self.ranks.average_gradients(list(self.model.parameters()))
        self.optimizer.step()

    def _train_on(
        self, batch: Batch, inputs: Inputs, targets: Targets, held_out: Batch | None
    ) -> None:
        """Leaves the gradient of a batch, or of a part of it."""
        mine = None if batch.part is None or batch.part.count else slice(0, 0)
        targets = self.suite.complete(targets)
        closure = self._closure(inputs, targets, mine) if self.strategy.task.recomputes else None
        given = forward(self.suite, self.network, inputs, self.device)
        for task in self.tasks:
            task.require_fit(given[task.name], targets[task.name])
        index = batch.index if self.place.instance_tables == ON_DEVICE else batch.rows
        present = batch.present
        outputs: Mapping[str, Tensor] = given
        if mine is None:
            outputs = self.strategy.transform(given, targets, index, present)
        else:  # the row that the network was given is another process's
            index, present = index[mine], None if present is None else present[mine]
            self.strategy.transform(_some(given, mine), _some(targets, mine), index, present)
        losses = self._losses(outputs, targets)
        if self.traces is not None:
            self.traces.add(batch.index, given, targets, losses, batch.present, mine or slice(None))
        if mine is not None:
            losses = _some(losses, mine)
        self.optimizer.zero_grad(set_to_none=True)
        self.strategy.backward(
            losses,
            index,
            present,
            held_out=None if held_out is None else lambda: self._held_out_losses(held_out),
            closure=closure,
        )

    def _closure(
        self, inputs: Inputs, targets: Targets, mine: slice | None
    ) -> Callable[[], dict[str, Tensor]]:
        """Gives the losses of the pass that is about to be made once more, with what it draws."""
        on_cpu, on_gpu = torch.get_rng_state(), None
        devices = [self.device] if self.device.type == "cuda" else []
        if devices:
            on_gpu = torch.cuda.get_rng_state(self.device)

        def losses() -> dict[str, Tensor]:
            with global_draws_kept(devices):
                torch.set_rng_state(on_cpu)
                if on_gpu is not None:
                    torch.cuda.set_rng_state(on_gpu, self.device)
                outputs = forward(self.suite, self.network, inputs, self.device)
            found = self._losses(outputs, targets)
            return found if mine is None else _some(found, mine)

        return losses

    def _losses(self, outputs: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """The losses of each instance, by task [B]."""
        return {
            task.name: task.losses(outputs[task.name], targets[task.name]) for task in self.tasks
        }

    @property
    def _augments(self) -> bool:
        """Whether batches are changed at random, which is drawn for all parts together."""
        return type(self.suite).augment is not Suite.augment

    def _snapshot(self) -> dict[str, float]:
        """Keeps the instance parameters of this epoch; the share of corrupted labels they find."""
        table = self.strategy.instance.log_variances()
        if table is None:
            return {}
        values = table.to("cpu", torch.float16)
        if self.train_split.present is not None:  # what has no label has no σ
            values = torch.where(self.train_split.present.cpu(), values, math.nan)
        self.log_variances.append(values)
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
        """The final metrics by the rule of the epoch, and a few predictions of test instances."""
        if self.rule.kind == BEST:
            self.model.load_state_dict(self.counted["model"])
        test = self.data.test
        rows = torch.arange(min(EXAMPLES, len(test)))
        self.predictions = example_predictions(self.suite, self.model, test, rows, self.device)
        of_mean = self.rule.kind == MEAN
        self._take_metrics(self.counted["metrics"] if of_mean else [self.evaluate(test)])

    def _take_metrics(self, epochs: list[dict[str, float]]) -> None:
        """Takes the mean over epochs, of `TASK/METRIC`, as the final metrics."""
        mean = {key: math.fsum(each[key] for each in epochs) / len(epochs) for key in epochs[0]}
        self.metrics = final_metrics(self.tasks, mean)
        for name in self._corrupted_together() if self.tested else ():
            column = self.history.get(f"detection_accuracy/{name}")
            if column:
                self.metrics.append(detection_metric(name, column[-1]))

    def validation(self, epoch: int = 0) -> dict[str, float]:
        """The metrics on validation data after an epoch, the last one unless said, as
        `TASK/METRIC`."""
        names = [f"{task.name}/{metric.name}" for task in self.tasks for metric in task.metrics]
        return {name: self.history[f"validation/{name}"][epoch - 1] for name in names}

    def evaluate(self, split: Split) -> dict[str, float]:
        """All metrics on a split, as `TASK/METRIC`."""
        started = time.perf_counter()
        values = evaluate(self.suite, self.model, split, self.device)
        self.seconds["evaluate"] += time.perf_counter() - started
        return values

    def close(self) -> None:
        """Ends the processes that read its data, if there are any."""
        for split in self.data.splits if hasattr(self, "data") else ():
            if isinstance(split.inputs, Items):
                split.inputs.reader.close()

    # --- several processes ------------------------------------------------------------------

    @property
    def is_first(self) -> bool:
        """Whether this is the process that evaluates, and that has a result."""
        return self.ranks is None or self.ranks.rank == 0

    def of_first(self, find: Callable[[], Found]) -> Found:
        """What the first process finds, for all that train the run together."""
        return find() if self.ranks is None else self.ranks.of_first(find)

    def saved(self, checkpoint: Path) -> Any:
        """The state in a file, which the first process alone may see.

        Raises:
            ValueError: it cannot be read.
        """

        def read() -> tuple[Any, str]:
            try:
                return load_tree(checkpoint), ""
            except ValueError as error:
                return None, str(error)

        state, fault = self.of_first(read)
        if fault:
            raise ValueError(fault)
        return state

    # --- what is kept -----------------------------------------------------------------------

    def finish(self) -> Any:
        """The record, when all epochs are over or training diverged.

        Raises:
            UserError: no epoch is the best, or inputs are not finite, and therefore metrics.
        """
        if self.status == DIVERGED:
            self.error = self._bad_inputs("training", self.data.train)
            return self.record()
        self._require_good_inputs("validation", self.data.validation, self.validation().values())
        if self.rule.kind == BEST and not self.counted:
            raise UserError("no epoch is the best: none has finite metrics on validation data")
        if self.tested:
            self.test()
            found = [metric["value"] for metric in self.metrics]
            self._require_good_inputs("test", self.data.test, found)
        else:
            self._take_metrics(
                self.counted.get("metrics") or [self.validation(self.counted.get("epoch", 0))]
            )
        return self.record()

    def _require_good_inputs(self, what: str, split: Split, metrics: Iterable[float]) -> None:
        """Makes sure that metrics which are not finite have another cause than inputs.

        Raises:
            UserError: they have not.
        """
        if any(map(math.isnan, metrics)) and (error := self._bad_inputs(what, split)):
            raise UserError(error)

    def _bad_inputs(self, what: str, split: Split) -> str | None:
        """Says which inputs of a split are not finite, if any are."""
        name = first_bad_input(self.suite, split)
        return name and f"{name} of the {what} data has inputs that are not finite"

    def failure(self) -> Any:
        """The record, where something raised."""
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
            "counted": self.counted,
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
            self.log_variances, self.counted = state["log_variances"], state["counted"]
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
        """All that a state must have been made with to go on to the same bits."""
        return {
            "spec": self.spec.hash,
            "mtlbench": package_version(),
            "torch": torch.__version__,
            "device": self.place.device,
            "workers": self.place.workers,
            "data": self.spec.fingerprint,
            "traces": self.traces is not None,
        }

    def record(self) -> RunRecord:
        """The record that the store writes."""
        started = hasattr(self, "traces")
        composition = Composition.parse(self.spec.strategy)
        info = run_info(
            self.spec,
            composition.label,
            composition.stage,
            status=self.status,
            error=self.error,
            changed=changed_parameters(self.spec) if started else [],
            tasks=self.tasks if started else (),
            corrupted=self.variant.fractions() if started else {},
            metrics=self.metrics,
            seconds=self.seconds,
            device=torch.device(self.place.device),
            workers=self.place.workers,
        )
        record = RunRecord(info, self.history or {"epoch": []})
        if started and self.variant.clauses:
            record.labels = label_arrays(
                self.variant, self.corrupted, self.train_split, self.data.train, self.device
            )
        record.predictions = self.predictions
        if started and self.traces is not None:
            record.traces = self.traces.arrays()
        if self.log_variances:
            record.instance_parameters = {
                "log_variance": torch.stack(self.log_variances).numpy(),
                "corrupted": self.corrupted.numpy(),
            }
        return record


def _some(values: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in values.items()}
