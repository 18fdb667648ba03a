"""What suites of one's own can have wrong is refused in one line, or made right."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mtlbench.data.corruption import corrupt
from mtlbench.data.splits import Data, Split
from mtlbench.data.variants import Variant
from mtlbench.errors import UserError
from mtlbench.store.runs import Store
from mtlbench.study.plan import plan
from mtlbench.suites.base import Suite, register_suite, suites
from mtlbench.tasks.metrics import Metric, absolute_error, accuracy, auroc
from mtlbench.tasks.task import Task, binary_cross_entropy, cross_entropy, squared_l2
from mtlbench.training.batches import Batches
from mtlbench.training.evaluation import evaluate
from mtlbench.training.job import Place
from mtlbench.training.jobs import RunJob
from mtlbench.training.labels import fingerprint, resident_data


def classes(name: str = "cls", **fields: Any) -> Task:
    known: dict[str, Any] = {
        "loss": cross_entropy(), "metrics": (accuracy(2),), "corruptions": ("other-class",),
        "classes": ("n", "y"),
    }  # fmt: skip
    return Task(name, "classification", **{**known, **fields})


def numbers(**fields: Any) -> Task:
    known: dict[str, Any] = {
        "loss": squared_l2(), "metrics": (absolute_error("m"),),
        "corruptions": ("uniform", "offset", "shuffle"),
    }  # fmt: skip
    return Task("reg", "regression", **{**known, **fields})


# --- tasks and metrics ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a/b", "../x", "..", ".", "", "a@b", "a+b", "a,b", "a:b", "a\\b"])
def test_a_name_that_a_file_or_a_variant_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="a task cannot be called"):
        classes(name)


@pytest.mark.parametrize("direction", ["maximize", "", "MAX", None])
def test_a_direction_that_does_not_exist_is_refused(direction: Any) -> None:
    with pytest.raises(UserError, match="direction is 'max' or 'min', not"):
        Metric("acc", "Acc.", "%", direction, lambda: None)  # type: ignore[arg-type, return-value]


def test_two_metrics_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two metrics of one name"):
        numbers(metrics=(absolute_error("m"), absolute_error("m")))


@pytest.mark.parametrize(
    ("fields", "output", "target", "message"),
    [
        ({}, torch.zeros(4, 1), torch.zeros(4), "one logit is always class 0; .* binary=True"),
        ({}, torch.zeros(4, 1, 5, 5), torch.zeros(4, 5, 5), "one logit is always class 0"),
        ({"binary": True}, torch.zeros(4, 1), torch.zeros(4), "a logit for each label, but"),
        ({}, torch.zeros(3, 2), torch.zeros(4), "gives .3, 2. for labels .4."),
    ],
)
def test_an_output_that_is_none_for_such_labels_is_refused(
    fields: dict[str, Any], output: Tensor, target: Tensor, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        classes(**fields).require_fit(output, target)
    classes().require_fit(torch.zeros(4, 2), torch.zeros(4))
    classes(binary=True).require_fit(torch.zeros(4, 3), torch.zeros(4, 3))


class Scores(nn.Module):
    """Gives what it is given, as the output of the task `cls`."""

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"cls": inputs}


def evaluated(task: Task, inputs: Tensor, labels: Tensor) -> dict[str, float]:
    class One(Suite):
        def tasks(self) -> tuple[Task, ...]:
            return (task,)

        data = model = None  # type: ignore[assignment]

    suite = One(epochs=1, batch_size=1, lr=1.0)
    return evaluate(suite, Scores(), Split(inputs, {"cls": labels}), torch.device("cpu"))


def bare(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import torchmetrics.classification

        return getattr(torchmetrics.classification, name)()

    return make


@pytest.mark.parametrize("name", ["BinaryAUROC", "BinaryAveragePrecision", "BinaryROC"])
def test_what_ranks_scores_is_not_given_classes(name: str) -> None:
    metric = Metric("rank", "Rank", "%", "max", bare(name), 100.0)
    with pytest.raises(UserError, match=f"is of {name}, which needs probabilities"):
        evaluated(classes(metrics=(metric,)), torch.randn(8, 2), torch.tensor([0, 1] * 4))


def test_the_area_under_the_curve_is_that_of_the_scores_of_two_classes_or_of_one_logit() -> None:
    chance = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 2, generator=chance)
    labels = (logits[:, 1] - logits[:, 0] + torch.randn(50, generator=chance) > 0).long()
    ours = evaluated(classes(metrics=(auroc(),)), logits, labels)["cls/auroc"]
    difference = logits[:, 1] - logits[:, 0]
    wins = (difference[labels == 1][:, None] > difference[labels == 0]).float().mean()
    assert ours == pytest.approx(100 * wins.item(), abs=1e-3)
    one = classes(metrics=(auroc(),), binary=True, loss=binary_cross_entropy())
    assert evaluated(one, difference, labels)["cls/auroc"] == pytest.approx(ours, abs=1e-3)


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, -1]), "label -1; if -1 stands for 'not labelled', give the task ign"),
        (torch.tensor([0, 1, 2]), "has 2 classes, from 0 on, but instance 2 has label 2$"),
        (torch.tensor([0, 255, 1], dtype=torch.uint8), "label 255; if 255 stands for"),
        (torch.tensor([0, 1]), "has 2 labels for 3 instances"),
    ],
)
def test_labels_that_are_no_classes_of_the_task_are_refused(labels: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Split(torch.zeros(3, 1), {"cls": labels}).checked([classes()])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (numbers(), "task 'reg' has an infinite label; NaN stands for none"),
        (numbers(log=True), r"learned by its logarithm \(log=True\), but a label is -3"),
    ],
)
def test_labels_that_no_loss_takes_are_refused(task: Task, message: str) -> None:
    labels = torch.tensor([1.0, torch.nan, -3.0 if task.log else torch.inf])
    with pytest.raises(UserError, match=message):
        Split(torch.zeros(3, 1), {"reg": labels}).checked([task])


def test_a_class_that_is_nan_counts_as_absent() -> None:
    split = Split(torch.zeros(3, 1), {"cls": torch.tensor([0.0, torch.nan, 1.0])})
    checked = split.checked([classes()])
    assert checked.present is not None
    assert checked.present[:, 0].tolist() == [True, False, True]
    assert checked.targets["cls"].tolist() == [0, 0, 1]


def test_labels_that_are_absent_or_ignored_may_be_anything() -> None:
    labels = torch.tensor([0, 1, -1])
    Split(torch.zeros(3, 1), {"cls": labels}).checked([classes(ignore=-1)])
    present = torch.tensor([[True], [True], [False]])
    Split(torch.zeros(3, 1), {"cls": labels}, present).checked([classes()])


@pytest.mark.parametrize("kind", ["uniform", "offset", "shuffle"])
def test_whole_numbers_can_be_corrupted_as_others(kind: str) -> None:
    split = Split(torch.zeros(20, 1), {"reg": torch.arange(20)}).checked([numbers()])
    variant = Variant.parse(f"reg@0.5:{kind}", [numbers()])
    given, mask = corrupt(variant, [numbers()], split.targets, names=("x", 0))
    assert mask.sum() == 10
    changed = given["reg"][torch.arange(20)] != torch.arange(20)
    assert torch.equal(changed, mask[:, 0])


def test_a_variant_whose_name_no_directory_can_have_is_refused() -> None:
    tasks = [classes(f"attribute_{k:02d}") for k in range(40)]
    text = "+".join(task.name for task in tasks)
    with pytest.raises(UserError, match="has 40 tasks: its name is too long"):
        Variant.parse(f"{text}@0.4", tasks)


# --- data -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OfFile(Suite):
    """Two numbers to their sum, from a file, or anew each time where it is not there."""

    epochs: int = 1
    batch_size: int = 16
    lr: float = 0.1
    file: ClassVar[Path]

    def tasks(self) -> tuple[Task, ...]:
        return (numbers(),)

    def data(self) -> Data:
        inputs = torch.load(self.file) if self.file.exists() else torch.rand(32, 2)
        return Data(*(Split(inputs, {"reg": inputs.sum(1)}) for _ in range(3)))

    def model(self) -> nn.Module:
        class Net(nn.Linear):
            def forward(self, input: Tensor) -> dict[str, Tensor]:
                return {"reg": super().forward(input).squeeze(1)}

        return Net(2, 1)


@pytest.fixture
def of_file(tmp_path: Path) -> Iterator[type[OfFile]]:
    before = dict(suites._entries)
    OfFile.file = tmp_path / "data.pt"
    register_suite("of-file")(OfFile)
    yield OfFile
    suites._entries = before


def planned() -> RunJob:
    fingerprint.cache_clear()
    resident_data.cache_clear()  # as in another process
    return RunJob(plan("of-file", strategies=["equal"], variants=["clean"], seeds=1)[0])


def test_a_run_on_other_data_than_its_study_was_planned_with_fails(of_file: type[OfFile]) -> None:
    job = planned()
    planned()
    *_, ended = job.train(Place(), None)
    assert ended.status == "failed"
    assert "is not that with which this study was planned" in ended.error
    assert "what is drawn needs a seed" in ended.error


def test_a_run_is_trained_anew_when_the_file_of_its_data_has_changed(
    of_file: type[OfFile], tmp_path: Path
) -> None:
    torch.save(torch.rand(32, 2, generator=torch.Generator().manual_seed(0)), of_file.file)
    store, job = Store(tmp_path / "runs"), planned()
    *_, ended = job.train(Place(), None)
    job.write(store, ended)
    assert planned().found(store) is not None
    torch.save(torch.rand(32, 2, generator=torch.Generator().manual_seed(1)), of_file.file)
    assert planned().hash == job.hash
    assert planned().found(store) is None


def test_what_is_wrong_with_the_data_is_told_by_the_run(of_file: type[OfFile]) -> None:
    of_file.file.write_bytes(b"nothing")
    *_, ended = planned().train(Place(), None)
    assert ended.status == "failed"
    assert ", in data\n" in ended.error


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(65, 16, [16, 16, 16, 17]), (64, 16, [16] * 4), (3, 1, [1, 1, 1]), (1, 16, [1])],
)
def test_a_last_batch_of_one_joins_the_one_before_it(
    count: int, size: int, sizes: list[int]
) -> None:
    split = Split(torch.zeros(count, 1), {})
    batches = Batches(split, torch.arange(count), size, torch.device("cpu"), none_of_one=True)
    assert [len(batch.index) for batch in batches] == sizes
    assert len(batches) == len(sizes)
