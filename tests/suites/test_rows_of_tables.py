"""Suites without pictures: inputs of several parts, yes-or-no labels, labels that are missing."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import trained
from torch import Tensor, nn

from mtlbench.analysis.figures.runs import draw_figures
from mtlbench.analysis.label_errors.sheet import Suspects, sheet_figure
from mtlbench.analysis.report import write_report
from mtlbench.data.corruption import corrupt
from mtlbench.data.splits import Data, Split
from mtlbench.data.variants import Variant
from mtlbench.errors import UserError
from mtlbench.spec import RunSpec
from mtlbench.store.runs import Store
from mtlbench.strategies.base import strategies
from mtlbench.strategies.compose import build_strategy
from mtlbench.study.examples import Examples
from mtlbench.study.plan import plan
from mtlbench.suites.base import Suite, register_suite, suites
from mtlbench.suites.build import suite_of
from mtlbench.tasks.detection import detection_accuracy
from mtlbench.tasks.metrics import absolute_error, auroc, average_precision, f1, r2
from mtlbench.tasks.task import Task, binary_cross_entropy, l1
from mtlbench.training import labels
from mtlbench.training.folds import FoldRun
from mtlbench.training.job import Place
from mtlbench.training.jobs import RunJob
from mtlbench.training.traces import margins

COUNT, GONE = 96, 10


@dataclass(frozen=True, kw_only=True)
class People(Suite):
    """Numbers and a category of made-up people; two yes-or-no questions, and a weight."""

    epochs: int = 2
    batch_size: int = 16
    lr: float = 0.01

    def tasks(self) -> tuple[Task, ...]:
        yes = [
            Task(
                name, "classification", loss=binary_cross_entropy(), binary=True,
                metrics=(auroc(), average_precision(), f1()), corruptions=("other-class",),
                classes=("no", "yes"),
            )
            for name in ("tall", "old")
        ]  # fmt: skip
        weight = Task(
            "weight", "regression", loss=l1(), metrics=(absolute_error("kg"), r2()),
            corruptions=("shuffle", "uniform"), unit="kg", log=True, center=4.0, scale=0.5,
        )  # fmt: skip
        return (*yes, weight)

    def data(self) -> Data:
        generator = torch.Generator().manual_seed(0)
        splits = []
        for _ in range(3):
            numbers = torch.randn(COUNT, 4, generator=generator)
            kind = torch.randint(3, (COUNT,), generator=generator)
            weight = (4 + 0.5 * numbers[:, 2]).exp()
            weight[:GONE] = torch.nan
            targets = {
                "tall": (numbers[:, 0] > 0).long(),
                "old": (numbers[:, 1] + kind > 1).long(),
                "weight": weight,
            }
            names = [f"person {i}" for i in range(COUNT)]
            splits.append(Split({"numbers": numbers, "kind": kind}, targets, names=names))
        return Data(*splits)

    def model(self) -> nn.Module:
        return Net()


@dataclass(frozen=True, kw_only=True)
class HalfOfThem(People):
    """The same, of which an epoch visits the second half alone."""

    def order(self, train: Split, generator: torch.Generator) -> Tensor:
        return torch.arange(COUNT // 2, COUNT)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kind = nn.Embedding(3, 4)
        self.trunk = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.heads = nn.ModuleDict({n: nn.Linear(16, 1) for n in ("tall", "old", "weight")})

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        seen = self.trunk(torch.cat((inputs["numbers"], self.kind(inputs["kind"])), 1))
        return {name: head(seen).squeeze(1) for name, head in self.heads.items()}


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    register_suite("made-up-people", label="People")(People)
    register_suite("half-of-them")(HalfOfThem)
    yield
    for name in ("made-up-people", "half-of-them"):
        del suites._entries[name]


def spec(strategy: str = "equal", variant: str = "clean", **overrides: Any) -> RunSpec:
    (found,) = plan(
        "made-up-people",
        strategies=[strategy],
        variants=[variant],
        seeds=1,
        overrides=overrides,
        found_by=lambda spec: {},
    )
    return found


@pytest.mark.parametrize("strategy", ["equal", "ilt", "pcgrad", "graddrop", "ilt+mgda"])
def test_inputs_of_several_parts_are_trained_on(strategy: str) -> None:
    record = trained(spec(strategy, "tall@0.4", epochs=4))
    assert record.info["status"] == "done"
    values = {(m["task"], m["metric"]): m["value"] for m in record.info["metrics"]}
    assert values["old", "auroc"] > 80
    assert "example_input" not in record.labels
    assert "input" not in record.predictions


def test_a_label_that_is_nan_counts_as_absent() -> None:
    for strategy in ("equal", "ilt", "pcgrad", "mgda", "mtu"):
        record = trained(spec(strategy))
        assert record.info["status"] == "done"
        assert all(np.isfinite(metric["value"]) for metric in record.info["metrics"])
    sigma = trained(spec("ilt")).instance_parameters
    mask = People().data().checked(People().tasks()).train.present
    assert mask is not None
    assert (~mask).nonzero().tolist() == [[i, 2] for i in range(GONE)]
    last = next(iter(sigma.values()))[-1]
    assert np.isnan(last[:GONE, 2]).all()  # what has no label has no σ
    assert np.isfinite(last[GONE:]).all()


def test_an_absent_label_is_neither_corrupted_nor_given_to_others() -> None:
    data = People().data().checked(People().tasks())
    split, mask = labels.training_labels(
        People(), "people", Variant.parse("weight@0.5", People().tasks()), data, torch.device("cpu")
    )
    assert not mask[:GONE].any()
    assert mask[:, 2].any()
    clean = People().data().train.targets["weight"]
    assert isinstance(clean, Tensor)
    given = split.targets["weight"]
    assert isinstance(given, Tensor)
    assert sorted(given[GONE:].tolist()) == sorted(clean[GONE:].tolist())
    # Where all labels are there, the draws are those of a suite that knows no missing ones.
    whole = {"weight": torch.arange(8.0), "tall": torch.ones(8), "old": torch.ones(8)}
    options: Any = {"names": ("people", 0)}
    variant = Variant.parse("weight@0.5", People().tasks())
    one, _ = corrupt(variant, People().tasks(), whole, **options)
    other, _ = corrupt(
        variant, People().tasks(), whole, **options, present=torch.ones(8, 3, dtype=torch.bool)
    )
    assert torch.equal(one["weight"][torch.arange(8)], other["weight"][torch.arange(8)])


def test_detection_is_of_the_labels_that_are_there() -> None:
    log_variance = np.array([[0.0], [3.0], [np.nan], [np.nan], [1.0]], dtype=np.float16)
    corrupted = np.array([[False], [True], [False], [False], [True]])
    # Of the three labels the two largest σ are the corrupted ones.
    assert detection_accuracy(log_variance, corrupted) == 100
    both = np.hstack([log_variance, [[0], [0], [9], [0], [np.nan]]])
    # Instances that have one label of two count by that one.
    assert detection_accuracy(both, np.hstack([corrupted, corrupted])) == 50
    assert math.isnan(detection_accuracy(log_variance[2:4], corrupted[2:4]))


def test_a_label_that_is_nan_in_a_part_needs_a_value_that_stands_for_it() -> None:
    def task(ignore: float | None) -> Task:
        return Task("t", "regression", l1(ignore), (absolute_error(""),), (), ignore=ignore)

    split = Split(
        torch.zeros(3, 1), {"t": torch.tensor([[1.0, torch.nan], [2, 3], [torch.nan] * 2])}
    )
    with pytest.raises(UserError, match="NaN in a part: the task needs an 'ignore' value"):
        split.checked([task(None)])
    filled = split.checked([task(-1.0)])
    assert filled.targets["t"][torch.arange(2)].tolist() == [[1, -1], [2, 3]]
    assert filled.present is not None
    assert filled.present.tolist() == [[True], [True], [False]]


def test_a_regression_on_a_log_scale_is_measured_in_the_unit_of_its_label() -> None:
    task = People().tasks()[2]
    label = torch.tensor([20.0, 80.0])
    output = (label.log() - 4) / 0.5
    assert torch.allclose(task.predict(output), label)
    assert torch.allclose(task.losses(output + 1, label), torch.ones(2))


def test_a_binary_task_has_the_margins_and_probabilities_of_two_classes() -> None:
    task = People().tasks()[0]
    output, label = torch.tensor([2.0, -3.0, 0.5]), torch.tensor([1, 1, 0])
    assert task.predict(output).tolist() == [1, 0, 1]
    assert margins(task, output, label).tolist() == [2.0, -3.0, -0.5]
    assert torch.allclose(task.logits(output).softmax(1)[:, 1], output.sigmoid())
    losses = task.losses(output, label)
    assert torch.allclose(losses, -torch.where(label == 1, output, -output).sigmoid().log())


def test_figures_report_and_suspects_do_without_pictures(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    for strategy in ("equal", "ilt"):
        job = RunJob(spec(strategy, "tall@0.4,weight@0.4"), traces=True)
        *_, ended = job.train(Place(), None)
        job.write(store, ended)
    drawn = draw_figures(store.root, "made-up-people", tmp_path / "figures")
    assert drawn
    write_report([store.root], tmp_path / "report.html")
    one = spec("ilt", "tall@0.4,weight@0.4")
    examples = Examples.load(suite_of(one), one)
    suspects = examples.take("tall", np.arange(5), None)
    assert suspects.names == [f"person {i}" for i in range(5)]
    assert isinstance(suspects, Suspects)
    sheet_figure(suspects, "title")


def test_a_fold_keeps_the_probabilities_of_both_classes() -> None:
    run = FoldRun(spec(), fold=0, folds=3)
    run.start()
    run.train_epoch()
    kept = run.predict_held_out()
    assert kept["probability/tall"].shape == (COUNT // 3, 2)
    assert np.allclose(kept["probability/tall"].sum(1), 1)


@pytest.mark.parametrize(
    "strategy", [e.name for e in strategies.entries() if e.name not in ("single", "evolution")]
)
def test_missing_labels_poison_no_strategy(strategy: str) -> None:
    record = trained(spec(strategy, epochs=1))
    assert record.info["status"] == "done", record.info["error"]
    assert all(np.isfinite(metric["value"]) for metric in record.info["metrics"])
    # Some have no weights of tasks, which is NaN.
    assert all(
        np.isfinite(column).all()
        for name, column in record.history.items()
        if not name.startswith("weight/")
    )


def test_temperatures_of_a_logit_are_those_of_the_two_classes_it_stands_for() -> None:
    index, label = torch.arange(6), torch.tensor([0, 1, 1, 0, 1, 0])
    output = torch.tensor([0.5, -2.0, 3.0, 1.0, 0.1, -0.7])
    stages = []
    for level in ("instance", "joint"):
        for outputs in (output, torch.stack((torch.zeros(6), output), 1)):
            stage = build_strategy(
                "data-parameters", tasks={"t": "classification"}, num_instances=6,
                parameters={"data-parameters.level": level},
            )  # fmt: skip
            for _ in range(3):
                seen = stage.transform({"t": outputs}, {"t": label}, index)["t"]
                stage.backward({"t": torch.ones(6, requires_grad=True)}, index)
            stages.append(seen if seen.ndim == 1 else seen[:, 1])
    assert torch.equal(stages[0], stages[1])
    assert torch.equal(stages[2], stages[3])
    assert not torch.equal(stages[0], output)


def test_a_suite_says_which_instances_an_epoch_visits() -> None:
    (one,) = plan("half-of-them", strategies=["ilt"], variants=["clean"], seeds=1)
    moved = trained(one).instance_parameters["log_variance"][-1][:, 0] != 0
    assert not moved[: COUNT // 2].any()
    assert moved[COUNT // 2 :].all()
