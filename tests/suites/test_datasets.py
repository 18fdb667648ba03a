"""Suites of datasets as they are: read the same by any number of processes, and trained as suites
of tensors are."""

import io
import multiprocessing
import random
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import trained, training
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import mtlbench
from mtlbench import Data, Split, Suite, Task, suite_from
from mtlbench.errors import UserError
from mtlbench.spec import RunSpec
from mtlbench.store.runs import RunRecord, Store
from mtlbench.strategies.base import InstanceStage
from mtlbench.study.plan import plan
from mtlbench.suites.base import suites
from mtlbench.suites.datasets import outputs_by_task
from mtlbench.tasks.metrics import absolute_error, accuracy
from mtlbench.tasks.task import cross_entropy, l1
from mtlbench.training.job import Place
from mtlbench.training.jobs import RunJob, cross_validations

SIZES = {"train": 96, "validation": 32, "test": 32}


def task(name: str, **fields: Any) -> Task:
    if name == "reg":
        known: dict[str, Any] = {
            "kind": "regression", "loss": l1(), "metrics": (absolute_error(""),),
            "corruptions": ("uniform",),
        }  # fmt: skip
    else:
        known = {
            "kind": "classification", "loss": cross_entropy(), "metrics": (accuracy(4),),
            "corruptions": ("other-class",), "classes": tuple("abcd"),
        }  # fmt: skip
    return Task(name, **{**known, **fields})


TASKS = [task("cls"), task("reg")]


def points(split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Points of the plane, their quadrant and their distance from the origin."""
    seed = list(SIZES).index(split)
    x = torch.randn(SIZES[split], 2, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long(), x.norm(dim=1)


class Points(Dataset[Any]):
    """Points whose inputs are shaken by all three generators, if asked."""

    def __init__(self, split: str, shaken: bool = False) -> None:
        self.x, self.quadrant, self.distance = points(split)
        self.shaken = shaken

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        x = self.x[i]
        if self.shaken:
            x = x + 0.1 * torch.randn(2) + 0.1 * float(np.random.rand()) + 0.1 * random.random()
        return x, (int(self.quadrant[i]), float(self.distance[i]))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.2))
        self.cls, self.reg = nn.Linear(16, 4), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x)
        return self.cls(features), self.reg(features).squeeze(1)


def register(name: str = "mine", **changed: Any) -> None:
    suites._entries.pop(name, None)
    given: dict[str, Any] = {
        **{split: Points(split) for split in SIZES},
        "model": Net,
        "tasks": TASKS,
        "epochs": 3,
        "batch_size": 16,
        "lr": 1e-2,
        **changed,
    }
    suite_from(name, **given)


def spec(
    strategy: str = "ilt", variant: str = "cls@0.4", name: str = "mine", **overrides: Any
) -> RunSpec:
    (found,) = plan(name, strategies=[strategy], variants=[variant], seeds=1, overrides=overrides)
    return found


def done(*args: Any, **overrides: Any) -> RunRecord:
    record = trained(spec(*args, **overrides), keep_traces=True)
    assert record.info["status"] == "done", record.info["error"]
    return record


def same_bits(one: RunRecord, other: RunRecord) -> bool:
    groups = ("labels", "predictions", "traces", "instance_parameters")
    return (
        one.history == other.history
        and one.info["metrics"] == other.info["metrics"]
        and all(
            set(getattr(one, group)) == set(getattr(other, group))
            and all(
                np.array_equal(array, getattr(other, group)[name], equal_nan=True)
                for name, array in getattr(one, group).items()
            )
            for group in groups
        )
    )


# --- the same numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_suite_of_datasets_has_the_bits_of_one_of_tensors(workers: int) -> None:
    class Named(Net):
        def forward(self, x: Tensor) -> Any:
            return dict(zip(("cls", "reg"), super().forward(x), strict=True))

    @dataclass(frozen=True, kw_only=True)
    class OfTensors(Suite):
        epochs: int = 3
        batch_size: int = 16
        lr: float = 1e-2

        def tasks(self) -> tuple[Task, ...]:
            return tuple(TASKS)

        def data(self) -> Data:
            def split(name: str) -> Split:
                x, quadrant, distance = points(name)
                return Split(x, {"cls": quadrant, "reg": distance})

            return Data(*map(split, SIZES))

        def model(self) -> nn.Module:
            return Named()

    mtlbench.register_suite("mine")(OfTensors)
    by_hand = done()
    register(workers=workers)
    assert same_bits(done(), by_hand)


def test_random_transforms_of_items_do_not_depend_on_who_reads_them() -> None:
    register(train=Points("train", shaken=True))
    here = done()
    assert same_bits(done(workers=2), here)
    assert same_bits(done(), here)
    register()
    assert done().history != here.history


def test_the_number_of_processes_is_no_part_of_what_a_run_is() -> None:
    register()
    assert spec(workers=2).hash == spec().hash
    assert spec(workers=2).locations == {"workers": "2"}


def seen_by(strategy: str, **changed: Any) -> Tensor:
    """The inputs of the network in all training batches [E, N, 2]."""
    seen: list[Tensor] = []

    class Watching(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            if self.training:
                seen.append(x.clone())
            return super().forward(x)

    register(model=Watching, **changed)
    planned = spec(strategy)
    seen.clear()  # the network was tried
    trained(planned)
    return torch.cat(seen).view(3, SIZES["train"], 2)


def test_strategies_see_the_same_random_transforms_and_another_epoch_others() -> None:
    shaken = Points("train", shaken=True)
    equal, dwa = (seen_by(strategy, train=shaken) for strategy in ("equal", "dwa"))
    assert torch.equal(equal, dwa)
    plain = seen_by("equal")
    moved = torch.stack([(equal - plain)[e][plain[e, :, 0].argsort()] for e in range(3)])
    assert len(moved.unique()) == moved.numel()  # of every item and epoch another one


def flip(x: Tensor, targets: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """A joint transform: either the point is moved out by 1 and its label with it, or neither."""
    if random.random() < 0.5:
        return x, targets
    return x * (1 + 1 / x.norm()), {**targets, "reg": targets["reg"] + 1}


def test_a_run_on_items_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    register(train=Points("train", shaken=True), transform=flip)
    whole = done()
    messages = training(spec(workers=2), checkpoint=tmp_path / "checkpoint", keep_traces=True)
    next(messages)
    messages.close()
    *progress, ended = training(spec(), checkpoint=tmp_path / "checkpoint", keep_traces=True)
    assert len(progress) == 2  # the epochs that were missing
    assert same_bits(ended.result, whole)


def test_no_process_stays_when_a_run_ends(tmp_path: Path) -> None:
    register(workers=2)
    messages = training(spec())
    next(messages)
    assert len(multiprocessing.active_children()) == 2  # and not for each split
    messages.close()
    assert not multiprocessing.active_children()
    done()
    assert not multiprocessing.active_children()


def test_inputs_are_batched_by_a_function_of_the_users() -> None:
    def padded(inputs: list[Tensor]) -> dict[str, Tensor]:
        return {"x": nn.utils.rnn.pad_sequence(inputs, batch_first=True)}

    class Words(Points):
        def __getitem__(self, i: int) -> Any:
            x, targets = super().__getitem__(i)
            return x.repeat(1 + i % 3), targets

    class Summed(Net):
        def forward(self, x: Tensor) -> Any:
            summed = nn.functional.pad(x, (0, 6 - x.shape[1])).view(-1, 3, 2).sum(1)
            return super().forward(summed)

    register(
        **{split: Words(split) for split in SIZES},
        model=Summed,
        collate_fn=padded,
        unpack_inputs=True,
        workers=1,
    )
    assert "input" not in done().predictions  # no picture


# --- labels ---------------------------------------------------------------------------------------


class Seen(InstanceStage):
    """Notes the labels that reach the losses."""

    labels: dict[int, tuple[int, float]]

    def transform(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        index: Tensor,
        present: Tensor | None,
    ) -> Mapping[str, Tensor]:
        rows = zip(index.tolist(), targets["cls"].tolist(), targets["reg"].tolist(), strict=True)
        self.labels.update({row: (cls, reg) for row, cls, reg in rows})
        return outputs


@pytest.mark.parametrize("transform", [None, flip])
def test_corrupted_labels_reach_the_losses_in_place_of_the_items_own(
    transform: Callable[..., Any] | None,
) -> None:
    seen: dict[int, tuple[int, float]] = {}
    mtlbench.register_strategy("seen")(type("Seen", (Seen,), {"labels": seen}))
    register(transform=transform)
    record = done("seen", "cls+reg@0.4")
    x, quadrant, distance = points("train")
    wrong = torch.from_numpy(record.labels["corrupted"][:, 0])
    assert wrong.sum() == round(0.4 * len(x))
    given = torch.tensor([seen[row][0] for row in range(len(x))])
    assert torch.equal(given != quadrant, wrong)
    moved = torch.tensor([seen[row][1] for row in range(len(x))]) - distance
    right = moved[~wrong]
    if transform is None:
        assert (right == 0).all()
    else:
        assert ((right.abs() < 1e-5) | ((right - 1).abs() < 1e-5)).all()
        assert 0.2 < (right > 0.5).float().mean() < 0.8
    np.testing.assert_array_equal(record.labels["clean/cls"], quadrant[wrong][:6])


def test_labels_that_are_none_or_nan_are_absent() -> None:
    class Gaps(Points):
        def __getitem__(self, i: int) -> Any:
            x, (cls, reg) = super().__getitem__(i)
            return x, (None if i % 2 else cls, float("nan") if i % 3 else reg)

    register(train=Gaps("train"))
    traces = done().traces
    there = np.stack([np.arange(96) % 2 == 0, np.arange(96) % 3 == 0], 1)
    np.testing.assert_array_equal(np.isfinite(traces["loss"][-1]), there)


def test_labels_can_be_had_without_reading_inputs() -> None:
    read: list[int] = []

    class Slow(Points):
        def __getitem__(self, i: int) -> Any:
            read.append(i)
            return super().__getitem__(i)

    dataset = Slow("train")
    register(train=dataset, labels_of=lambda data, i: (data.quadrant[i], data.distance[i]))
    with_labels_of = done()
    assert len(set(read[:40])) <= 8  # those few that are looked at closely
    register()
    assert same_bits(with_labels_of, done())


def test_validation_data_is_drawn_from_training_data_where_there_is_none() -> None:
    register(validation=None)
    suite = suites.get("mine").cls()
    data = suite.data()
    assert (len(data.train), len(data.validation)) == (86, 10)
    items = [data.train.inputs.rows, data.validation.inputs.rows]
    assert torch.cat(items).sort().values.tolist() == list(range(96))
    assert data.train.names is not None
    assert data.train.names[0] == f"item {items[0][0]}"
    assert "drawn from the training data, a share of 0.1" in suites.get("mine").summary
    assert len(suites.get("mine").cls(validation_share=0.5).data().validation) == 48
    done("equal", "clean")


def test_folds_predict_the_items_that_they_have_not_seen() -> None:
    register()
    fold = cross_validations([spec("equal", workers=workers) for workers in (0, 2)])[::5]
    found = []
    for job in fold:
        *_, ended = job.train(Place(), None)
        assert ended.status == "done", ended.error
        found.append(np.load(io.BytesIO(ended.result)))
    here, there = found
    assert len(here["rows"]) == 20
    for name in ("rows", "probability/cls", "label/cls"):
        np.testing.assert_array_equal(here[name], there[name])
    rows = here["rows"][~here["corrupted"][:, 0]]
    np.testing.assert_array_equal(
        points("train")[1][rows], here["label/cls"][~here["corrupted"][:, 0]]
    )


def test_data_that_is_not_the_same_in_each_process_ends_the_run() -> None:
    calls = iter(range(100))

    def drawn() -> Dataset[Any]:
        x, quadrant, distance = points("train")
        return TensorDataset(x, (quadrant + next(calls)) % 4, distance)

    register(train=drawn)
    planned = spec()
    register(train=drawn)  # as another process would do
    record = trained(planned)
    assert record.info["status"] == "failed"
    assert "is not that with which this study was planned" in record.info["error"]


def test_runs_on_data_that_has_changed_since_are_trained_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    register()
    job = RunJob(spec())
    *_, ended = job.train(Place(), None)
    job.write(store, ended)
    assert job.found(store) is not None
    changed = Points("train")
    changed.quadrant[0] += 1
    changed.quadrant %= 4
    register(train=changed)
    other = RunJob(spec())
    assert other.hash == job.hash
    assert other.found(store) is None
    store.set_aside(job.path(store))
    *_, ended = other.train(Place(), None)
    other.write(store, ended)
    assert other.found(store) is not None


def test_a_label_that_was_taken_out_is_a_change_of_the_data() -> None:
    fingerprints = set()
    for labels in ([1.0, 1.0, 2.0], [1.0, None, 2.0]):  # what is absent gets the first of its task
        register(tasks=[task("reg")], train=[(torch.zeros(2), label) for label in labels],
                 test=[(torch.zeros(2), 1.0)], validation=[(torch.zeros(2), 1.0)],
                 model=lambda: nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)))  # fmt: skip
        fingerprints.add(spec("equal", "clean").fingerprint)
    assert len(fingerprints) == 2


def test_a_study_may_name_one_strategy_and_one_variant_by_itself() -> None:
    register(strategies="equal", variants="cls@0.4", seeds=1)
    (planned,) = plan("mine")
    assert (planned.strategy, planned.variant) == ("equal", "cls@0.4")


def test_a_share_that_is_no_instance_ends_the_run() -> None:
    register()
    record = trained(spec("equal", "cls@0.004"))
    assert record.info["status"] == "failed"
    assert "'cls@0.004' corrupts none of 96 training instances" in record.info["error"]


# --- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outputs",
    [
        {"reg": 2, "cls": 1, "hidden": 3},
        (1, 2),
        [1, 2],
        SimpleNamespace(cls=1, reg=2),
    ],
    ids=str,
)
def test_outputs_of_networks_belong_to_tasks_by_name_or_in_order(outputs: Any) -> None:
    assert outputs_by_task(outputs, ["cls", "reg"]) == {"cls": 1, "reg": 2}


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"cls": 1, "depth": 2}, "gives 'cls', 'depth' for the tasks 'cls', 'reg'"),
        ((1, 2, 3), "gives 3 outputs for the tasks"),
        (torch.zeros(4, 5), "gives one Tensor for the tasks"),
    ],
)
def test_outputs_of_other_tasks_are_refused(outputs: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        outputs_by_task(outputs, ["cls", "reg"])


def test_networks_may_view_maps_as_contiguous_and_get_pictures_as_they_are() -> None:
    class Pictures(Points):
        def __getitem__(self, i: int) -> Any:
            x, targets = super().__getitem__(i)
            return (50 * x.abs().view(2, 1, 1).expand(2, 3, 3)).byte(), targets

    class Convolving(Net):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(2, 2, 3, padding=1)
            self.squeeze = nn.Linear(18, 2)

        def forward(self, x: Tensor) -> Any:
            assert x.max() > 2
            return super().forward(self.squeeze(self.convolution(x).view(len(x), -1)))

    pictures: dict[str, Any] = {split: Pictures(split) for split in SIZES}
    register(**pictures, model=Convolving, prepare=lambda x: x.float() / 10)
    record = done()
    assert record.predictions["input"].dtype == np.uint8
    register(**pictures, model=Convolving)
    with pytest.raises(UserError, match="the network fails on training items: RuntimeError: Input"):
        spec()


def test_optimizer_and_schedule_are_the_users() -> None:
    rates: list[float] = []

    class Noting(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            rates.append(self.param_groups[0]["lr"])
            super().step(closure)

    register(
        optimizer=lambda model, lr, decay: Noting(model.parameters(), lr, weight_decay=decay),
        lr_factor=lambda progress: 1 - progress,
    )
    done(lr=0.25)
    assert rates == pytest.approx([0.25 * (1 - step / 18) for step in range(18)])


# --- what cannot be right -------------------------------------------------------------------------


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": Stream()}, r"the training data \(Stream\) has no items by number.*list\(…\)"),
        ({"test": 5}, r"the test data \(int\) has no items by number"),
        ({"tasks": []}, "suite 'mine' has no tasks"),
        ({"tasks": [TASKS[0], TASKS[0]]}, "has two tasks of one name: cls, cls"),
        ({"tasks": [task("cls", classes=())]}, "task 'cls' of suite 'mine' needs classes="),
        ({"model": Net()}, "model= makes a new network each time it is called.*; it is Net"),
        ({"epochs": 0}, "suite 'mine': epochs must be above 0"),
        ({"workers": -1}, "workers must not be negative"),
        ({"validation": None, "validation_share": 1.5}, "validation_share must be above 0 and"),
        ({"epochs": "two"}, "suite 'mine': epochs must be a whole number, but is 'two'"),
        ({"lr": None}, "suite 'mine': lr must be a number, but is None"),
        ({"seeds": 0}, "suite 'mine': seeds must be at least 1"),
        ({"tasks": ["cls", "reg"]}, r"suite 'mine': tasks= is a list of Task\(…\)"),
        ({"tasks": None}, r"suite 'mine': tasks= is a list of Task\(…\)"),
        ({"channels_last": "yes"}, "suite 'mine': channels_last must be true or false"),
        ({"summary": None}, "suite 'mine': summary= is a line of text, and no NoneType"),
        ({"variants": ["depth@0.4"]}, "unknown task in variant 'depth@0.4': 'depth'"),
    ],
)
def test_what_cannot_be_is_refused_as_a_suite_is_made(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        register(**changed)


def test_settings_may_be_text_or_numbers_of_other_libraries() -> None:
    register(epochs="2", batch_size=np.int64(8), lr=torch.tensor(0.5))
    parameters = spec().suite_parameters
    assert [parameters[name] for name in ("epochs", "batch_size", "lr")] == [2, 8, 0.5]


def items(change: Callable[[Any, int], Any]) -> Dataset[Any]:
    class Changed(Points):
        def __getitem__(self, i: int) -> Any:
            return change(super().__getitem__(i), i)

    return Changed("train")


def broken(item: Any, i: int) -> Any:
    if i == 17:
        raise OSError("the disk is gone")
    return item


def leaving(item: Any, i: int) -> Any:
    return sys.exit("gone") if i == 17 else item


class Endless(Points):
    def __init__(self) -> None:
        super().__init__("test")

    def __len__(self) -> int:
        raise TypeError("endless")


def restless(item: Any, i: int) -> Any:
    return item[0], (torch.randint(4, ()), item[1][1])


def own_draws(item: Any, i: int) -> Any:
    return item[0] + float(np.random.default_rng().random()), item[1]


def of_outputs(change: Callable[[Any], Any]) -> type[Net]:
    class Changed(Net):
        def forward(self, x: Tensor) -> Any:
            return change(super().forward(x))

    return Changed


TRAINED = Net()


def of_draws(draw: Callable[[], float]) -> Callable[[], nn.Module]:
    """Networks whose weights are moved by a draw."""

    def model() -> nn.Module:
        net = Net()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter += draw()
        return net

    return model


def test_weights_may_be_drawn_from_any_global_generator() -> None:
    for draw in (np.random.rand, random.random):
        register(model=of_draws(draw))
        assert same_bits(done(), done())


def test_a_network_that_an_earlier_run_has_trained_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where nobody tried the network beforehand, as of a suite that is a class."""
    monkeypatch.setattr("mtlbench.suites.datasets.try_network", lambda *given: None)
    register(model=lambda: TRAINED)
    assert done().info["status"] == "done"
    with pytest.raises(AssertionError, match="an earlier run has trained"):
        done("mtu")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": Stream}, r"the training data \(Stream\) has no items by number"),
        ({"train": lambda: 1 / 0}, "training data cannot be made: ZeroDivisionError"),
        ({"train": lambda: sys.exit("no files")}, "data cannot be made: SystemExit: no files"),
        ({"train": items(leaving)}, "item 17 of the training data: SystemExit: gone"),
        ({"test": Endless()}, "the test data has no length: TypeError: endless"),
        ({"names": lambda data: data.files}, "names= fails: AttributeError"),
        ({"names": lambda data: ["one"]}, "names= gives 1 names for 96 items"),
        ({"optimizer": torch.optim.SGD}, "optimizer= fails: TypeError"),
        ({"optimizer": lambda *_: None}, "optimizer= gives a NoneType, and not an opt"),
        ({"lr_factor": lambda progress: "1"}, "lr_factor= gives a str, and not a number"),
        ({"representation": lambda model: model.body}, "representation= fails: AttributeError"),
        ({"train": items(lambda item, i: (item[0], (0, np.inf)))}, "task 'reg' is infinite"),
        ({"test": []}, "the test data has no items"),
        ({"train": items(lambda item, i: (item[0], (0, None)))}, "'reg' has no label in the train"),
        ({"test": items(lambda item, i: (item[0], (np.nan, 0)))}, "'cls' has no label in the test"),
        ({"train": items(lambda item, i: item[0])}, r"item 0 of the training data: it is Tensor"),
        ({"tasks": [task("cls"), task("reg"), task("z")]}, "its targets are a tuple of 2"),
        ({"train": items(broken)}, "item 17 of the training data: OSError: the disk is gone"),
        (
            {"train": items(restless)},
            "item 0 of the training data: it has other labels .*transform",
        ),
        ({"train": items(own_draws)}, "item 0 of the training data: it is not the same each time"),
        (
            {"train": items(lambda item, i: (item[0], (0.5, 1.0)))},
            "task 'cls' is a classification, but a label is 0.5",
        ),
        (
            {"train": items(lambda item, i: (item[0], (0, torch.zeros(1 + i // 5))))},
            r"item 5 of the training data: its label of task 'reg' has shape \[2\]",
        ),
        (
            {"train": items(lambda item, i: (item[0].repeat(1 + i), item[1]))},
            r"inputs of items 0, 1 of the training data make no batch \(.* give collate_fn=\)",
        ),
        (
            {"train": items(lambda item, i: (Image.new("L", (2, 2)), item[1]))},
            "inputs of the training data are no tensors, arrays or numbers: TypeError",
        ),
        (
            {"labels_of": lambda data, i: (data.quadrant[i], i)},
            "item 0 of the training data: labels_of= has another label of task 'reg'",
        ),
        ({"collate_fn": max}, "collate_fn= fails on the inputs of items 0, 1: RuntimeError"),
        ({"transform": lambda x, t: (x, {"cls": 1})}, "item 0 of .*: it has no target 'reg'"),
        ({"model": lambda: Net}, "model= gives a type, and no torch.nn.Module"),
        ({"model": of_outputs(lambda out: out[:1])}, "the network gives 1 outputs for the tasks"),
        (
            {"model": of_outputs(lambda out: (out[0][:, :3], out[1]))},
            r"task 'cls' has 4 classes, but the network gives \[2, 3\] for labels \[2\]",
        ),
        (
            {"model": of_outputs(lambda out: (out[0], out[1][:, None]))},
            r"task 'reg': numbers have the shape of their labels .* gives \[2, 1\] for labels",
        ),
        (
            {"model": of_outputs(lambda out: (out[1], out[1]))},
            r"task 'cls': logits of each class are \[B, C\] for labels \[B\], but",
        ),
        (
            {"tasks": [task("cls", loss=nn.CrossEntropyLoss()), task("reg")]},
            r"the loss of task 'cls' gives \[\] for 2 instances.*reduction='none'",
        ),
        ({"train": items(lambda item, i: (item[0], (7, 1.0)))}, "has 4 classes, .*has label 7"),
        ({"model": lambda: TRAINED}, r"model= gives the same \S+ each time: it must make all"),
        ({"model": of_draws(lambda: secrets.randbelow(9))}, "gives another .* global generators"),
        (
            {"model": of_outputs(lambda out: (out[0].detach(), out[1]))},
            "the loss of task 'cls' depends on no parameter that learns",
        ),
        (
            {"model": of_outputs(lambda out: out if not out[0].requires_grad else out[:1])},
            "the network gives 1 outputs",
        ),
        ({"model": of_outputs(lambda out: (None, out[1]))}, "gives a NoneType for task 'cls'"),
        (
            {"tasks": [task("cls", loss=lambda out, label: 0.5), task("reg")]},
            "the loss of task 'cls' gives a float, and no tensor",
        ),
    ],
)
def test_what_data_and_network_have_wrong_is_told_before_anything_is_trained(
    changed: dict[str, Any], message: str, workers: int
) -> None:
    register(**changed, workers=workers)
    with pytest.raises(UserError, match=f"^suite 'mine': .*{message}") as caught:
        spec()
    assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()


def test_held_out_batches_are_read_beside_those_of_training() -> None:
    register()
    assert same_bits(done("auto-lambda", workers=2), done("auto-lambda"))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_that_fails_in_training_ends_the_run_with_its_number(workers: int) -> None:
    class Failing(Points):
        def __getitem__(self, i: int) -> Any:
            x, targets = super().__getitem__(i)
            return self.spoil(x, i), targets

        def spoil(self, x: Tensor, i: int) -> Tensor:
            if i == 17:
                raise ValueError("no such thing")
            return x

    register(train=Failing("train"), labels_of=lambda data, i: (data.quadrant[i], data.distance[i]))
    record = trained(spec(workers=workers))
    assert record.info["status"] == "failed"
    error = record.info["error"]
    assert "in spoil" in error
    where = r"\(.*test_datasets\.py, line \d+\)"
    assert re.search(rf"item 17 of the training data: ValueError: no such thing {where}\n$", error)
    assert not multiprocessing.active_children()
