"""One run: the same bits every time, paired between strategies, and honest about how it ended."""

import dataclasses
import os
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, tiny_spec, trained, training
from float64_suite import InFloat64
from torch import Tensor

import mtlbench
from mtlbench.errors import UserError
from mtlbench.store.runs import HISTORY_FILE, INSTANCE_FILE, RunRecord, Store, read_run
from mtlbench.strategies.base import GradientWeighting, InstanceStage, LossWeighting, strategies
from mtlbench.strategies.compose import Composition
from mtlbench.study.plan import plan
from mtlbench.suites.build import build_suite
from mtlbench.suites.digits import Digits
from mtlbench.tasks.metrics import Metric
from mtlbench.training import processor
from mtlbench.training import record as training_record
from mtlbench.training.checkpoint import load_tree
from mtlbench.training.processor import processor_name

STRATEGIES = [entry.name for entry in strategies.entries()]

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def history_bytes(record: RunRecord, root: Path) -> bytes:
    return (Store(root).write(record) / HISTORY_FILE).read_bytes()


def watching(seen: list[Tensor]) -> type[InstanceStage]:
    """An instance stage that notes the losses and indices of every batch."""

    class Watching(InstanceStage):
        def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
            seen.append(torch.cat([index[:, None].to(losses.dtype), losses], dim=1))
            return torch.ones_like(losses)

    return Watching


# --- the same bits ------------------------------------------------------------------------------


def test_the_same_spec_twice_gives_the_same_history_byte_for_byte(tmp_path: Path) -> None:
    spec = tiny_spec("ilt", "left@0.4")
    first, second = trained(spec), trained(spec)
    assert history_bytes(first, tmp_path / "a") == history_bytes(second, tmp_path / "b")
    assert first.info["metrics"] == second.info["metrics"]
    for name, array in first.instance_parameters.items():
        np.testing.assert_array_equal(array, second.instance_parameters[name])


@pytest.mark.parametrize("strategy", [*STRATEGIES, "ilt+pcgrad"])
def test_a_run_interrupted_after_any_epoch_ends_with_the_same_bits(
    strategy: str, tmp_path: Path
) -> None:
    spec = tiny_spec(strategy, "left@0.4", epochs=3)
    whole = trained(spec)
    checkpoint = tmp_path / "checkpoint.safetensors"
    for epoch in (1, 2):
        run = training(spec, checkpoint=checkpoint)
        assert next(run).epoch == epoch
        run.close()
    resumed = trained(spec, checkpoint=checkpoint)
    assert history_bytes(resumed, tmp_path / "a") == history_bytes(whole, tmp_path / "b")
    assert resumed.info["metrics"] == whole.info["metrics"]
    for name, array in whole.instance_parameters.items():
        np.testing.assert_array_equal(resumed.instance_parameters[name], array)


def test_a_pipe_in_place_of_a_checkpoint_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "checkpoint.safetensors")
    with pytest.raises(ValueError, match="cannot be read: it is not a file"):
        load_tree(tmp_path / "checkpoint.safetensors")


def test_a_damaged_checkpoint_is_not_used_and_the_run_starts_over(tmp_path: Path) -> None:
    spec = tiny_spec()
    checkpoint = tmp_path / "checkpoint.safetensors"
    run = training(spec, checkpoint=checkpoint)
    next(run)
    run.close()
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    record = trained(spec, checkpoint=checkpoint)
    assert record.info["error"] is None
    assert history_bytes(record, tmp_path / "a") == history_bytes(trained(spec), tmp_path / "b")


def test_draws_elsewhere_in_the_process_do_not_reach_a_run() -> None:
    torch.manual_seed(1)
    first = trained(tiny_spec("pcgrad"))
    torch.manual_seed(2)
    torch.rand(5)
    assert trained(tiny_spec("pcgrad")).history == first.history


# --- pairedness ---------------------------------------------------------------------------------


def test_every_task_stage_gets_the_same_first_batch_from_the_same_weights() -> None:
    seen: list[Tensor] = []
    mtlbench.register_strategy("watching")(watching(seen))
    first_batches = []
    for stage in ("equal", "gls", "dwa", "mtu", "pcgrad", "mgda"):
        seen.clear()
        trained(tiny_spec(f"watching+{stage}", "left@0.4"))
        first_batches.append(seen[0])
    for batch in first_batches[1:]:
        assert torch.equal(batch, first_batches[0])  # indices and losses, bit for bit


def test_every_strategy_sees_the_same_order_of_instances_in_all_epochs() -> None:
    seen: list[Tensor] = []
    mtlbench.register_strategy("watching")(watching(seen))
    orders = []
    for stage in ("equal", "pcgrad", "dwa"):
        seen.clear()
        trained(tiny_spec(f"watching+{stage}"))
        orders.append(torch.cat([batch[:, 0] for batch in seen]))
    assert len(orders[0]) == TINY["epochs"] * TINY["train_size"]
    assert not torch.equal(*orders[0].chunk(2))  # another order in each epoch
    assert torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])


def test_equal_and_static_weights_of_one_give_the_same_bits() -> None:
    equal, static = trained(tiny_spec("equal")), trained(tiny_spec("static"))
    assert static.history == equal.history
    assert static.info["metrics"] == equal.info["metrics"]


@pytest.mark.parametrize("on", ["parameters", "representation"])
def test_task_gradients_of_weight_one_train_as_the_sum_of_the_losses_does(on: str) -> None:
    """The whole way, with the suite's own optimiser and memory layouts; only rounding differs."""

    @mtlbench.register_strategy("ones", label="Ones")
    class Ones(GradientWeighting):
        """Every gradient as it is."""

        def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
            return torch.ones_like(losses)

    joint, apart = trained(tiny_spec()), trained(tiny_spec("ones", ones__on=on))
    for column, values in joint.history.items():
        np.testing.assert_allclose(apart.history[column], values, rtol=1e-3, err_msg=column)


def test_seeds_differ_in_weights_and_in_order() -> None:
    seen: list[Tensor] = []
    mtlbench.register_strategy("watching")(watching(seen))
    by_seed = []
    for seed in (0, 1):
        seen.clear()
        trained(tiny_spec("watching", seed=seed))
        by_seed.append(torch.cat(seen))
    assert not torch.equal(by_seed[0][:, 0], by_seed[1][:, 0])
    first, second = (batch[batch[:, 0].argsort()] for batch in by_seed)
    assert not torch.equal(first[:, 1:], second[:, 1:])


# --- labels -------------------------------------------------------------------------------------


class Recorder:
    """Wraps a metric and a loss, and keeps the labels that they are given."""

    def __init__(self) -> None:
        self.evaluated: list[Tensor] = []
        self.trained: list[Tensor] = []

    def metric(self, metric: Metric) -> Metric:
        def make() -> Any:
            meter = metric.make()
            update = meter.update

            def record(prediction: Tensor, target: Tensor) -> None:
                self.evaluated.append(target.clone())
                update(prediction, target)

            meter.update = record
            return meter

        return dataclasses.replace(metric, make=make)

    def loss(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        def record(output: Tensor, target: Tensor) -> Tensor:
            self.trained.append(target.clone())
            return loss(output, target)

        return record


def test_only_training_labels_are_corrupted() -> None:
    recorder = Recorder()

    class Recorded(Digits):
        """Digits whose labels of `left` are watched."""

        def tasks(self) -> tuple[Any, ...]:
            left, *others = super().tasks()
            metrics = tuple(recorder.metric(metric) for metric in left.metrics)
            left = dataclasses.replace(left, loss=recorder.loss(left.loss), metrics=metrics)
            return left, *others

    mtlbench.register_suite("recorded")(Recorded)
    overrides = {**TINY, "epochs": 1}
    (spec,) = plan(
        "recorded", strategies=["equal"], variants=["left@0.5"], seeds=1, overrides=overrides
    )
    recorder.evaluated.clear()  # on which the network was tried
    recorder.trained.clear()
    record = trained(spec)
    clean = build_suite("digits", overrides).data()
    validation, test = torch.cat(recorder.evaluated).split([64, 64])
    assert torch.equal(validation, clean.validation.targets["left"])
    assert torch.equal(test, clean.test.targets["left"])
    given = torch.cat(recorder.trained).bincount(minlength=10)
    assert record.labels["corrupted"][:, 0].sum() == 128
    assert not torch.equal(given, clean.train.targets["left"].bincount(minlength=10))


def test_the_corrupted_mask_is_the_same_for_every_strategy_and_seed(tmp_path: Path) -> None:
    masks = []
    for strategy, seed in (("equal", 0), ("ilt", 0), ("equal", 1), ("ilt", 1)):
        record = trained(tiny_spec(strategy, "left+offset@0.4", seed, epochs=1))
        run = read_run(Store(tmp_path).write(record))
        masks.append(run.labels()["corrupted"])
        if strategy == "ilt":
            masks.append(run.instance_parameters()["corrupted"])
    assert masks[0].sum(0).tolist() == [102, 0, 102]
    np.testing.assert_array_equal(masks[0][:, 0], masks[0][:, 2])
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_another_corruption_seed_corrupts_other_instances() -> None:
    masks = [
        trained(tiny_spec("equal", "left@0.4", epochs=1, corruption_seed=seed)).labels["corrupted"]
        for seed in (0, 1)
    ]
    assert (masks[0] != masks[1]).any()


def test_kept_examples_show_the_clean_label_beside_the_wrong_one() -> None:
    labels = trained(tiny_spec("equal", "left@0.4", epochs=1)).labels
    clean = build_suite("digits", TINY).data().train
    rows = labels["example_index"]
    assert labels["corrupted"][rows, 0].all()
    np.testing.assert_array_equal(labels["clean/left"], clean.targets["left"][rows])
    np.testing.assert_array_equal(labels["example_input"], clean.inputs[rows])
    assert (labels["given/left"] != labels["clean/left"]).all()


# --- how a run ends -----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("variant", Digits.default_variants)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_strategy_trains_with_missing_labels_in_both_precisions(
    strategy: str, variant: str, precision: str
) -> None:
    record = trained(tiny_spec(strategy, variant, missing_labels=0.3, precision=precision))
    assert record.info["status"] == "done", record.info["error"]
    task_stage = Composition.parse(strategy).task.cls()
    directed = isinstance(task_stage, GradientWeighting) and task_stage.gives_direction
    for name, column in record.history.items():
        assert len(column) == TINY["epochs"]
        no_weight = directed and name.startswith("weight/")
        assert (np.isnan(column) if no_weight else np.isfinite(column)).all(), name


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_as_diverged_with_its_history(
    weight: float, tmp_path: Path
) -> None:
    class Poison(LossWeighting):
        """Sound in the first epoch."""

        epoch = 0

        def weights(self, losses: Tensor, present: Tensor) -> Tensor:
            return torch.full_like(losses, 1.0 if self.epoch == 0 else weight)

        def end_epoch(self, losses: Tensor, validation: Any) -> None:
            self.epoch += 1

    mtlbench.register_strategy("poison")(Poison)
    record = trained(tiny_spec("poison", epochs=9))
    assert record.info["status"] == "diverged"
    assert record.info["metrics"] == []
    run = read_run(Store(tmp_path).write(record))
    history = run.history()
    assert 2 <= len(history["epoch"]) < 9
    assert np.isfinite(history["train_loss/left"][0])
    assert not np.isfinite([history[f"train_loss/{t}"][-1] for t in ("left", "offset")]).all()


def test_a_suite_whose_loss_overflows_ends_the_run_as_diverged() -> None:
    class Overflowing(Digits):
        """Digits with a loss without bounds."""

        def tasks(self) -> tuple[Any, ...]:
            left, *others = super().tasks()
            overflow = dataclasses.replace(left, loss=lambda output, _: (output[:, 0] + 1e4).exp())
            return overflow, *others

    mtlbench.register_suite("overflowing")(Overflowing)
    (spec,) = plan("overflowing", strategies=["equal"], variants=["clean"], seeds=1, overrides=TINY)
    record = trained(spec)
    assert record.info["status"] == "diverged", record.info["error"]
    assert not np.isfinite(record.history["train_loss/left"]).any()


@pytest.mark.parametrize("heals", [False, True], ids=["as they are", "replaced"])
@pytest.mark.parametrize("what", ["training", "validation", "test"])
def test_inputs_that_are_not_finite_are_named(what: str, heals: bool) -> None:
    @dataclasses.dataclass(frozen=True)
    class Spoiled(InFloat64):
        def tasks(self) -> tuple[Any, ...]:
            return super().tasks()[:1]  # a class is predicted of NaN, too

        def data(self) -> mtlbench.Data:
            data = super().data()
            split = data.train if what == "training" else getattr(data, what)
            split.inputs[7, 2] = torch.nan
            return data

        def prepare(self, inputs: Any) -> Any:
            return inputs.nan_to_num() if heals else inputs

    mtlbench.register_suite("spoiled")(Spoiled)
    (spec,) = plan("spoiled", strategies=["equal"], variants=["clean"], seeds=1)
    record = trained(spec)
    found = f"item 7 of the {what} data has inputs that are not finite"
    status = "done" if heals else "diverged" if what == "training" else "failed"
    assert record.info["status"] == status, record.info["error"]
    assert heals or record.info["error"].strip().endswith(found)


def test_a_network_that_the_last_step_ruined_is_diverged_too() -> None:
    class Late(LossWeighting):
        """Its only batch has a finite loss."""

        def weights(self, losses: Tensor, present: Tensor) -> Tensor:
            return torch.full_like(losses, float("nan"))

    mtlbench.register_strategy("late")(Late)
    record = trained(tiny_spec("late", epochs=1, batch_size=256))
    assert record.info["status"] == "diverged"


def test_an_exception_in_training_ends_the_run_as_failed_with_its_traceback() -> None:
    class Raising(LossWeighting):
        """Raises in the second epoch."""

        epoch = 0

        def weights(self, losses: Tensor, present: Tensor) -> Tensor:
            if self.epoch:
                raise ArithmeticError("no weights today")
            return torch.ones_like(losses)

        def end_epoch(self, losses: Tensor, validation: Any) -> None:
            self.epoch += 1

    mtlbench.register_strategy("raising")(Raising)
    record = trained(tiny_spec("raising"))
    assert record.info["status"] == "failed"
    assert record.info["error"].startswith("Traceback")
    last = record.info["error"].splitlines()[-1]  # which is what the command line shows
    assert re.fullmatch(r"ArithmeticError: no weights today \(.*test_runs\.py, line \d+\)", last)
    assert record.history["epoch"] == [1]


def broken(method: str) -> None:
    """Registers a suite with a method that raises."""

    def fail(*arguments: Any) -> Any:
        raise LookupError(f"broken {method}")

    suite = type("Broken", (Digits,), {method: fail, "__doc__": "Broken."})
    mtlbench.register_suite("broken")(suite)


@pytest.mark.parametrize("method", ["model", "optimizer", "prepare"])
def test_an_exception_where_a_network_is_tried_is_told_before_training(method: str) -> None:
    broken(method)
    with pytest.raises(UserError, match=rf"'broken': .*LookupError: broken {method} \(.*test_runs"):
        plan("broken", strategies=["equal"], seeds=1, overrides=TINY)


@pytest.mark.parametrize("method", ["data", "augment"])
def test_an_exception_in_a_suite_ends_the_run_as_failed(method: str, tmp_path: Path) -> None:
    broken(method)
    (spec,) = plan("broken", strategies=["equal"], variants=["left@0.4"], seeds=1, overrides=TINY)
    record = trained(spec)
    assert record.info["status"] == "failed"
    assert f"LookupError: broken {method}" in record.info["error"]
    assert read_run(Store(tmp_path).write(record)).info["status"] == "failed"


# --- where it was trained -----------------------------------------------------------------------


def test_a_run_records_its_processor_and_the_instructions_that_pytorch_uses(
    tmp_path: Path,
) -> None:
    info = read_run(Store(tmp_path).write(trained(tiny_spec(epochs=1)))).info
    assert info["processor"] == processor_name() != ""
    assert info["instruction_set"] == torch.backends.cpu.get_cpu_capability()


def test_the_processor_is_no_part_of_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    here = trained(tiny_spec(epochs=1)).info
    for name in ("processor_name", "instruction_set"):
        monkeypatch.setattr(training_record, name, lambda: "another")
    there = trained(tiny_spec(epochs=1)).info
    assert there["processor"] == there["instruction_set"] == "another"
    assert there["hash"] == here["hash"]


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("processor\t: 0\nmodel name\t: A: fast one\nmodel name\t: B\n", "A: fast one"),
        ("model name\t: unknown\n", platform.processor() or platform.machine()),
        ("Hardware\t: board\n", platform.processor() or platform.machine()),
    ],
)
def test_the_processor_is_the_first_model_that_the_system_names_or_its_architecture(
    told: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(told)
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(sys, "platform", "linux")
    assert processor_name.__wrapped__() == name


# --- on a GPU -----------------------------------------------------------------------------------


@cuda
@pytest.mark.parametrize(
    ("suite", "variant", "sizes"),
    [
        ("digits", "left@0.4", {"train_size": 256, "validation_size": 64, "test_size": 64}),
        ("streets", "depth@0.4", {"train_size": 32, "validation_size": 8, "test_size": 8}),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("strategy", ["equal", "ilt+pcgrad"])
def test_a_gpu_trains_both_suites_and_names_itself(
    suite: str, variant: str, sizes: dict[str, int], precision: str, strategy: str
) -> None:
    overrides = {**sizes, "epochs": 1, "precision": precision}
    (spec,) = plan(suite, strategies=[strategy], variants=[variant], seeds=1, overrides=overrides)
    record = trained(spec, device="cuda")
    assert record.info["status"] == "done", record.info["error"]
    assert record.info["device"] == torch.cuda.get_device_name()
    assert all(np.isfinite(column).all() for column in record.history.values())


@cuda
def test_a_gpu_run_interrupted_and_continued_keeps_its_epochs(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    spec = tiny_spec("ilt+pcgrad", "left@0.4")
    run = training(spec, device="cuda", checkpoint=checkpoint)
    next(run)
    run.close()
    record = trained(spec, device="cuda", checkpoint=checkpoint)
    assert record.info["status"] == "done", record.info["error"]
    assert record.history["epoch"] == [1, 2]
    assert record.instance_parameters["log_variance"].shape == (2, 256, 3)


def test_instance_parameters_are_stored_by_epoch_in_half_precision(tmp_path: Path) -> None:
    path = Store(tmp_path).write(trained(tiny_spec("ilt", "left@0.4")))
    assert (path / INSTANCE_FILE).is_file()
    table = read_run(path).instance_parameters()["log_variance"]
    assert table.dtype == np.float16
    assert table.shape == (TINY["epochs"], TINY["train_size"], 3)
    assert (table[-1] != 0).any()


def test_a_run_keeps_a_few_test_instances_with_their_predictions(tmp_path: Path) -> None:
    record = trained(tiny_spec("equal"))
    kept = read_run(Store(tmp_path).write(record)).predictions()
    test = build_suite("digits", TINY).data().test
    np.testing.assert_array_equal(kept["input"], test.inputs[:6].numpy())
    np.testing.assert_array_equal(kept["truth/left"], test.targets["left"][:6].numpy())
    assert kept["prediction/left"].shape == (6,)
    assert kept["prediction/left"].dtype == np.int16
    assert kept["prediction/offset"].dtype == np.float16
    assert np.abs(kept["prediction/offset"].astype(float)).max() > 0


def test_a_run_that_diverged_keeps_no_predictions() -> None:
    record = trained(tiny_spec("equal", lr=1e30))
    assert record.info["status"] == "diverged"
    assert not record.predictions


def test_a_suite_whose_views_fail_ends_its_run_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def views(*_: object) -> dict[str, np.ndarray]:
        raise RuntimeError("no picture of this")

    monkeypatch.setattr(Digits, "views", views)
    record = trained(tiny_spec("equal"))
    assert record.info["status"] == "failed"
    assert "no picture of this" in record.info["error"]
