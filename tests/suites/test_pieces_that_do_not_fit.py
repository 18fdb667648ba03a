"""Tasks, metrics, networks, data and parameters of one's own that cannot be right: each is refused
in one line, before anything is trained, and none gives a wrong number unsaid."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional

import mtlbench
from mtlbench import Data, Metric, Split, Suite, Task
from mtlbench.data.corruption import corrupt, require_known
from mtlbench.data.items import copied
from mtlbench.data.reading import Items, Part, Reader
from mtlbench.data.variants import Variant
from mtlbench.errors import UserError, describe
from mtlbench.plugins import PluginFile
from mtlbench.registry import Registry, convert
from mtlbench.study.plan import plan
from mtlbench.suites.base import suites
from mtlbench.suites.datasets import outputs_by_task
from mtlbench.tasks.metrics import (
    absolute_error,
    accuracy,
    binary_accuracy,
    macro_f1,
    median_error,
    new_meter,
    value_of,
)
from mtlbench.tasks.task import binary_cross_entropy, cross_entropy, l1, squared_l2
from mtlbench.training.evaluation import evaluate

CPU = torch.device("cpu")


def classes(**fields: Any) -> Task:
    known: dict[str, Any] = {
        "name": "kind", "kind": "classification", "loss": cross_entropy(),
        "metrics": (accuracy(3),), "corruptions": ("other-class",), "classes": ("x", "y", "z"),
    }  # fmt: skip
    return Task(**{**known, **fields})


def numbers(**fields: Any) -> Task:
    known: dict[str, Any] = {
        "name": "size", "kind": "regression", "loss": l1(), "metrics": (absolute_error("m"),),
        "corruptions": ("uniform", "shuffle"),
    }  # fmt: skip
    return Task(**{**known, **fields})


def metric(make: Callable[[], Any], **fields: Any) -> Metric:
    return Metric(
        **{**{"name": "m", "label": "M", "unit": "", "direction": "min"}, **fields}, make=make
    )


# --- tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: classes(kind="classify"), "'classification' or 'regression', not 'classify'"),
        (lambda: classes(scale=2.0), "are of numbers"),
        (lambda: classes(center=1.0), "are of numbers"),
        (lambda: classes(log=True), "are of numbers"),
        (lambda: numbers(scale=0), "scale must be above 0, but is 0"),
        (lambda: numbers(scale=math.nan), "scale must be a number"),
        (lambda: numbers(center=math.inf), "center must be a number"),
        (lambda: numbers(ignore=math.nan), "ignore must be a number"),
        (lambda: numbers(noise=(1.0, 1.0)), "the lower first"),
        (lambda: numbers(noise=3), "the lower first"),
        (lambda: classes(classes="xyz"), "classes= is a tuple of them, not 'xyz'"),
        (lambda: classes(classes=(0, 1, 2)), "a class .* of task 'kind' must be text"),
        (lambda: classes(corruptions="other-class"), "corruptions= is a tuple"),
        (lambda: classes(metrics=accuracy(3)), "metrics= is a tuple of them"),
        (lambda: classes(metrics=("accuracy",)), r"tuple of Metric\(…\)"),
        (lambda: classes(palette=((0, 0, 0),)), "1 colours for 3 classes"),
    ],
)  # fmt: skip
def test_a_task_that_cannot_be_is_refused(make: Callable[[], Task], message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        make()


def test_lists_of_a_task_are_as_good_as_tuples() -> None:
    task = classes(metrics=[accuracy(3)], corruptions=["other-class"], classes=["x", "y", "z"],
                   palette=[[0, 0, 0]] * 3)  # fmt: skip
    assert hash(task)
    assert task.classes == ("x", "y", "z")


# --- outputs beside labels ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "label"),
    [
        ((4,), (4, 1)),
        ((4, 1), (4,)),
        ((4, 1, 5, 6), (4, 5, 6)),
        ((4, 5, 6), (4, 1, 5, 6)),
        ((), (1,)),
    ],
)
def test_numbers_that_would_be_held_against_all_others_are_refused(
    output: tuple[int, ...], label: tuple[int, ...]
) -> None:
    with pytest.raises(UserError, match="the network gives"):
        numbers().require_fit(torch.zeros(output), torch.zeros(label))


@pytest.mark.parametrize("loss", [l1(), squared_l2()])
def test_differences_of_other_shapes_are_refused_where_a_batch_makes_them_fit(loss: Any) -> None:
    with pytest.raises(UserError, match=re.escape("one shape, but are [2] and [2, 2]")):
        loss(torch.zeros(2), torch.zeros(2, 2))


def test_names_of_tasks_that_a_tuple_has_as_methods_do_not_hide_its_order() -> None:
    one, other = torch.zeros(1), torch.ones(1)
    assert outputs_by_task((one, other), ["index", "count"]) == {"index": one, "count": other}


# --- metrics --------------------------------------------------------------------------------------


class Vector(torchmetrics.MeanMetric):
    def compute(self) -> Tensor:
        return torch.zeros(3)


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        (numbers(), accuracy(3), "is one of classes"),
        (numbers(), dataclasses.replace(absolute_error(""), of_probabilities=True), "of classes"),
        (classes(), accuracy(2), "is of 2 classes, and the task has 3"),
        (classes(), binary_accuracy(), "is of two classes .*, and the task has 3"),
        (classes(binary=True, classes=("n", "y"), ignore=-1), macro_f1(3), "takes whole labels"),
        (numbers(), metric(torchmetrics.MeanAbsoluteError()), "cannot be made: TypeError"),
        (numbers(), metric(lambda: 3), "gives a int, and no torchmetrics.Metric"),
    ],
)
def test_a_metric_that_would_give_a_wrong_number_is_refused(
    task: Task, given: Metric, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        new_meter(given, task)


def test_a_metric_that_keeps_what_it_has_seen_is_refused() -> None:
    kept = torchmetrics.MeanAbsoluteError()
    given = metric(lambda: kept)
    new_meter(given, numbers()).update(torch.zeros(2), torch.ones(2))
    with pytest.raises(UserError, match="the same object each time"):
        new_meter(given, numbers())


def test_a_metric_of_several_numbers_is_refused() -> None:
    with pytest.raises(UserError, match=re.escape("a Tensor of shape [3], and not one number")):
        value_of(metric(Vector), Vector())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": 0}, "scale must be above 0"),
        ({"scale": math.nan}, "scale must be above 0"),
        ({"name": "detection_accuracy"}, "has a meaning of its own"),
        ({"make": "MeanAbsoluteError"}, "make= gives a new metric"),
    ],
)
def test_a_metric_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(absolute_error("m"), **fields)


# --- labels ---------------------------------------------------------------------------------------


def test_a_label_that_is_ignored_whole_is_no_label() -> None:
    task = classes(ignore=-1)
    split = Split(torch.zeros(4, 2), {"kind": torch.tensor([-1, 2, 1, -1])}).checked([task])
    assert split.present is not None
    assert split.present[:, 0].tolist() == [False, True, True, False]
    assert split.targets["kind"].tolist() == [2, 2, 1, 2]  # type: ignore[attr-defined]


def test_a_map_that_is_ignored_in_a_part_is_a_label() -> None:
    task = classes(ignore=255)
    maps = torch.tensor([[0, 255], [255, 255]])
    split = Split(torch.zeros(2, 2), {"kind": maps}).checked([task])
    assert split.present is not None
    assert split.present[:, 0].tolist() == [True, False]


def test_yes_or_no_labels_that_are_ignored_have_no_loss() -> None:
    logits, labels = torch.tensor([[0.5, 9.0], [-1.0, 2.0]]), torch.tensor([[1, -1], [0, 1]])
    losses = binary_cross_entropy(ignore=-1)(logits, labels)
    first = functional.binary_cross_entropy_with_logits(torch.tensor(0.5), torch.tensor(1.0))
    assert losses[0] == first


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": ["one"]}, "1 names for 4 instances"),
        ({"present": torch.ones(4, 3, dtype=torch.bool)}, "4 instances and 1 tasks"),
        ({"present": torch.ones(4, 1)}, "not torch.float32"),
        ({"inputs": torch.zeros(4, 2).numpy()}, "torch.from_numpy"),
        ({"inputs": {"x": torch.zeros(4, 2), "y": torch.zeros(3)}}, "have 4 and 3 instances"),
    ],
)
def test_a_split_whose_parts_do_not_belong_together_is_refused(
    changed: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"inputs": torch.zeros(4, 2), "targets": {"size": torch.ones(4)}}
    with pytest.raises(UserError, match=message):
        Split(**{**given, **changed}).checked([numbers()])


def test_data_without_a_label_to_be_validated_by_is_refused() -> None:
    there = Split(torch.zeros(4, 2), {"size": torch.ones(4)})
    without = Split(torch.zeros(4, 2), {"size": torch.full((4,), math.nan)})
    with pytest.raises(UserError, match="'size' has no label in the validation data"):
        Data(there, without, there).checked([numbers()])


@pytest.mark.parametrize("kind", ["other-class", "next-class"])
def test_a_wrong_class_is_never_the_one_that_is_ignored(kind: str) -> None:
    task = classes(ignore=1, classes=tuple("abcd"), corruptions=(kind,))
    labels = torch.tensor([0, 2, 3]).repeat(50)
    given, mask = corrupt(
        Variant.parse("kind@1", [task]), [task], {"kind": labels}, names=("toy", 0)
    )
    wrong = given["kind"][torch.arange(150)]
    assert mask.all()
    assert (wrong != labels).all()
    assert set(wrong.tolist()) == {0, 2, 3}
    if kind == "next-class":
        assert wrong[:3].tolist() == [2, 3, 0]


def test_a_shuffle_of_equal_labels_is_refused() -> None:
    variant = Variant.parse("size@0.5:shuffle", [numbers()])
    with pytest.raises(UserError, match="corrupts no label"):
        corrupt(variant, [numbers()], {"size": torch.ones(20)}, names=("toy", 0))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (classes(corruptions=("flip",)), "'flip'; known: "),
        (classes(corruptions=("uniform",)), "'uniform' is for a regression"),
        (numbers(corruptions=("permute",)), "'permute' is for a classification"),
        (classes(classes=()), "needs two classes or more"),
    ],
)
def test_a_kind_of_corruption_that_is_for_other_labels_is_refused(task: Task, message: str) -> None:
    with pytest.raises(UserError, match=message):
        require_known([task])


# --- items ----------------------------------------------------------------------------------------


class Stored:
    """Items whose inputs are parts of what it has."""

    def __init__(self, change: bool = False) -> None:
        self.x, self.change = torch.ones(6, 2), change

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Any:
        if self.change:
            self.x[i] += 1
        return self.x[i], float(i)


def test_a_dataset_that_changes_by_being_read_is_refused() -> None:
    items = Items(Reader([Part("training", Stored(change=True))], [numbers()]), 0, torch.arange(6))
    with pytest.raises(UserError, match="not the same each time"):
        items.require_repeatable()


def test_a_transform_that_changes_its_input_in_place_leaves_the_dataset_as_it_is() -> None:
    def shake(x: Tensor, labels: Any) -> Any:
        return x.mul_(2), labels

    data = Stored()
    items = Items(
        Reader([Part("training", data)], [numbers()], transform=shake), 0, torch.arange(6)
    )
    rows = torch.arange(6)
    for _ in range(2):
        ((x, _),) = items.batches([rows], ("epoch",), {"size": torch.arange(6.0)})
        assert (x == 2).all()
    assert (data.x == 1).all()


def test_a_copy_has_the_form_of_what_it_is_of() -> None:
    given = {"a": torch.zeros(2), "b": (torch.ones(1).numpy(), "text", [3])}
    made = copied(given)
    given["a"] += 1  # type: ignore[operator]
    assert made["a"].tolist() == [0, 0]
    assert made["b"][1:] == ("text", [3])


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("none", float | None, None),
        (None, float | None, None),
        ("0.2", float | None, 0.2),
        ("none", str, "none"),
        ("3", Literal["3"] | None, "3"),
    ],
)  # fmt: skip
def test_a_parameter_may_be_a_value_or_none(value: Any, annotation: Any, expected: Any) -> None:
    assert convert("drop", value, annotation) == expected


class Base:
    pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry("toy", Base)
    yield made
    Registry.all.remove(made)


@pytest.mark.parametrize("kind", [tuple[int, ...], Path, list, float | str])
def test_a_parameter_that_cannot_be_kept_is_refused(registry: Registry, kind: Any) -> None:
    class Odd(Base):
        def __init__(self, odd: Any = None) -> None: ...

    Odd.__init__.__annotations__["odd"] = kind
    with pytest.raises(UserError, match="parameter 'odd' is of type"):
        registry.register("odd")(Odd)


def test_a_parameter_without_a_type_has_that_of_its_default(registry: Registry) -> None:
    class Bare(Base):
        def __init__(self, power=1.5, name=None): ...  # type: ignore[no-untyped-def]

    registry.register("bare")(Bare)
    assert registry.get("bare").resolve({"power": "2"}) == {"power": 2.0, "name": None}


@dataclasses.dataclass(frozen=True)
class Recipe(Base):
    width: int = 3
    free: ClassVar[int] = 5


def test_a_default_that_a_dataclass_does_not_know_is_refused(registry: Registry) -> None:
    class Wider(Recipe):
        free = 6
        width = 9

    with pytest.raises(UserError, match="width = 9 is no field and would change nothing"):
        registry.register("wider")(Wider)


def test_a_dataclass_without_words_has_no_summary(registry: Registry) -> None:
    registry.register("recipe")(Recipe)
    assert registry.get("recipe").summary == ""


# --- suites ---------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.size = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Any:
        return {"size": self.size(x).squeeze(1)}


class Wide(Net):
    def forward(self, x: Tensor) -> Any:
        return {"size": self.size(x)}


class Bare(Net):
    def forward(self, x: Tensor) -> Any:
        return (self.size(x).squeeze(1),)


class Complex(Net):
    def forward(self, x: Tensor) -> Any:
        return {"size": super().forward(x)["size"].to(torch.complex64)}


class Maps(Net):
    def forward(self, x: Tensor) -> Any:
        return {"size": self.size(x).expand(-1, 2)}


class Counting:
    """A loss that is another one each time."""

    calls = 0

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return (output - target).abs() * self.calls


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).abs() * self.factor


class Failing(torchmetrics.MeanMetric):
    def update(self, *given: Any) -> None:
        raise RuntimeError("no such thing")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(Suite):
    epochs: int = 1
    batch_size: int = 4
    lr: float = 0.1

    task: ClassVar[Task] = numbers()
    network: ClassVar[type[nn.Module]] = Net
    label: ClassVar[Tensor] = torch.ones(())

    def tasks(self) -> tuple[Task, ...]:
        return (self.task,)

    def data(self) -> Data:
        x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
        split = Split(x, {"size": self.label.expand(9, *self.label.shape).clone()})
        return Data(split, split, split)

    def model(self) -> nn.Module:
        return self.network()


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Own]]:
    class Mine(Own):
        pass

    suites.register("mine")(Mine)
    yield Mine
    del suites._entries["mine"]


def test_a_suite_that_fits_is_planned(own: type[Own]) -> None:
    assert plan("mine", strategies=["equal"], seeds=1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": Wide}, "squeeze them"),
        ({"data": lambda suite: ()}, "gives a tuple, and no mtlbench.Data"),
        ({"network": Bare}, "gives a tuple, and not a mapping"),
        ({"network": Complex}, "complex numbers for task 'size'"),
        ({"task": numbers(name="other")}, "no labels of task 'other'"),
        ({"task": numbers(loss=Counting())}, "another one each time"),
        ({"task": numbers(loss=Scaled())}, "which no optimiser trains"),
        ({"task": numbers(metrics=(metric(Failing),))}, "fails on predictions .*: no such thing"),
        ({"task": numbers(metrics=(metric(Vector),))}, "fails on|not one number"),
        ({"label": torch.ones(2), "network": Maps, "task": numbers(ignore=-9.0)},
         "does not leave out what the task ignores"),
        ({"label": torch.tensor(math.inf)}, "infinite label"),
    ],
)  # fmt: skip
def test_what_does_not_fit_in_a_suite_is_told_before_training(
    own: type[Own], changed: dict[str, Any], message: str
) -> None:
    for name, value in changed.items():
        setattr(own, name, value)
    with pytest.raises(UserError, match=message):
        plan("mine", strategies=["equal"], seeds=1)


def test_a_study_without_a_metric_is_refused(own: type[Own], tmp_path: Path) -> None:
    own.task = numbers(metrics=())
    with pytest.raises(UserError, match="no metric by which its runs could be compared"):
        mtlbench.run("mine", strategies=["equal"], seeds=1, results=tmp_path / "runs")
    assert not list(tmp_path.iterdir())


def test_what_is_ignored_by_task_and_loss_alike_is_planned(own: type[Own]) -> None:
    own.label, own.network = torch.ones(2), Maps
    own.task = numbers(ignore=-9.0, loss=l1(-9.0), metrics=(median_error(""),))
    assert plan("mine", strategies=["equal"], seeds=1)


class Squeezing(Net):
    def forward(self, x: Tensor) -> Any:
        return {"size": self.size(x).squeeze()}


def test_a_network_that_squeezes_is_never_evaluated_on_one_instance_of_many(own: type[Own]) -> None:
    split = Split(torch.ones(257, 2), {"size": torch.ones(257)})
    values = evaluate(own(), Squeezing(), split, CPU)
    assert math.isfinite(values["size/abs_err"])


def test_a_metric_of_no_labels_is_not_a_number(own: type[Own]) -> None:
    split = Split(torch.ones(3, 2), {"size": torch.ones(3)}, torch.zeros(3, 1, dtype=torch.bool))
    assert math.isnan(evaluate(own(), Net(), split, CPU)["size/abs_err"])


# --- errors of one's own code ---------------------------------------------------------------------


def test_an_error_is_told_with_the_last_line_of_code_that_is_no_packages() -> None:
    with pytest.raises(RuntimeError) as raised:
        functional.linear(torch.zeros(2, 3), torch.zeros(4, 5))
    where = r"\(.*test_pieces_that_do_not_fit\.py, line \d+\)$"
    assert re.search(where, describe(raised.value))
    assert describe(ValueError("bare")) == "ValueError: bare"


def test_a_plugin_that_changes_the_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "moving.py").write_text("import os\nos.chdir('there')\n")
    with pytest.raises(UserError, match="changes the working directory"):
        PluginFile.read("moving.py").load()
    assert Path.cwd() == tmp_path
