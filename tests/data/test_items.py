"""Items of datasets are taken apart as people write them."""

from collections import OrderedDict, namedtuple
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mtlbench.data.items import Labels, as_label, by_task, same, take_apart
from mtlbench.errors import UserError
from mtlbench.tasks.task import Task, cross_entropy, l1

TASKS = ("cls", "reg")
CLS = Task("cls", "classification", cross_entropy(), (), ("other-class",), classes=("a", "b", "c"))
REG = Task("reg", "regression", l1(), (), ("uniform",))
Pair = namedtuple("Pair", "reg cls")
Item = namedtuple("Item", "image reg cls")


@pytest.mark.parametrize(
    ("item", "inputs"),
    [
        (("x", (1, 2.0)), "x"),
        (["x", [1, 2.0]], "x"),
        (("x", 1, 2.0), "x"),
        (("x", {"reg": 2.0, "cls": 1, "other": 3}), "x"),
        (("x", Pair(2.0, 1)), "x"),
        ((("x", "z"), (1, 2.0)), ("x", "z")),
        (({"x": 0, "z": 1}, (1, 2.0)), {"x": 0, "z": 1}),
        ({"image": "x", "cls": 1, "reg": 2.0}, "x"),
        ({"ids": 5, "mask": 6, "cls": 1, "reg": 2.0}, {"ids": 5, "mask": 6}),
        ({"image": "x", "targets": (1, 2.0)}, "x"),
        ({"image": "x", "labels": {"cls": 1, "reg": 2.0}}, "x"),
        (OrderedDict(image="x", y=[1, 2.0]), "x"),
        (Item("x", 2.0, 1), "x"),
    ],
    ids=str,
)
def test_inputs_and_targets_are_found_in_items_of_the_usual_forms(item: Any, inputs: Any) -> None:
    found, targets = take_apart(item, TASKS)
    assert found == inputs
    assert by_task(targets, TASKS) == {"cls": 1, "reg": 2.0}


def test_a_vector_has_a_target_for_each_task() -> None:
    _, targets = take_apart((0, torch.tensor([3.0, 4.0])), TASKS)
    assert by_task(targets, TASKS) == {"cls": 3.0, "reg": 4.0}


def test_one_task_takes_the_target_as_it_is() -> None:
    label = torch.zeros(5)
    assert by_task(take_apart((0, label), ["cls"])[1], ["cls"])["cls"] is label
    assert by_task(take_apart((0, (7,)), ["cls"])[1], ["cls"]) == {"cls": 7}


def test_the_only_input_of_a_mapping_keeps_its_name_where_it_is_asked_to() -> None:
    item = {"ids": 5, "cls": 1, "reg": 2.0}
    assert take_apart(item, TASKS, keep_names=True)[0] == {"ids": 5}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            torch.zeros(3),
            r"is Tensor \[3\], and not \(input, targets\) of 'cls', 'reg': give unpack",
        ),
        ((1, 2, 3, 4), r"is a tuple of 4 \(int, int, int, int\), and not"),
        ({"cls": 1, "reg": 2}, "is a mapping of 'cls', 'reg', and not"),
        ({"image": 0, "seg": 1}, "is a mapping of 'image', 'seg', and not"),
    ],
)
def test_an_item_of_another_form_is_refused(item: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        take_apart(item, TASKS)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"cls": 1, "depth": 2}, "has no target 'reg', but 'cls', 'depth'"),
        ((1, 2, 3), r"its targets are a tuple of 3 .*, and not those of 'cls', 'reg'"),
        (5, "its targets are int, and not those of"),
    ],
)
def test_a_task_without_a_target_is_refused(targets: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        by_task(targets, TASKS)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (2, torch.tensor(2)),
        (2.0, torch.tensor(2)),
        (True, torch.tensor(1)),
        (np.int64(2), torch.tensor(2)),
        (np.uint16(2), torch.tensor(2)),
        (np.array([[0, 2]], np.uint8), torch.tensor([[0, 2]], dtype=torch.uint8)),
        ([0, 1], torch.tensor([0, 1])),
    ],
    ids=repr,
)
def test_classes_are_whole_numbers(value: Any, label: Tensor) -> None:
    found = as_label(value, CLS)
    assert found is not None
    assert found.dtype == label.dtype
    assert torch.equal(found, label)


@pytest.mark.parametrize("value", [3, 3.0, np.float64(3), torch.tensor(3), np.float32(3)])
def test_numbers_are_float32(value: Any) -> None:
    found = as_label(value, REG)
    assert found is not None
    assert found.dtype == torch.float32
    assert found == 3


@pytest.mark.parametrize("task", [CLS, REG], ids=["class", "number"])
@pytest.mark.parametrize("value", [None, float("nan"), np.array([np.nan, np.nan])])
def test_a_label_that_is_none_or_nan_is_absent(value: Any, task: Task) -> None:
    assert as_label(value, task) is None


def test_nan_in_a_part_of_a_label_is_what_the_task_ignores() -> None:
    for task in (replace(CLS, ignore=-1), replace(REG, ignore=-1.0)):
        label = as_label([1.0, float("nan")], task)
        assert label is not None
        assert label.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("inf"), "is infinite as a float32; NaN stands for none"),
        (-1e300, "is infinite as a float32"),
        ([0.5, float("nan")], "is NaN in a part: the task needs an 'ignore' value"),
    ],
)
def test_what_is_no_label_of_a_regression_is_refused(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_label(value, REG)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, "is a classification, but a label is 0.5"),
        (float("inf"), "is a classification, but a label is inf"),
        ([0.0, float("nan")], "is NaN in a part: the task needs an 'ignore' value"),
        ("cat", "is str, and not a number or an array of numbers"),
        (Image.new("L", (2, 2)), "is Image, and not a number"),
        ([[1], [2, 3]], "is a list of 2"),
        (1j, "is a complex number"),
    ],
    ids=lambda value: "image" if isinstance(value, Image.Image) else repr(value),
)
def test_what_is_no_label_of_a_classification_is_refused(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_label(value, CLS)


def test_labels_that_are_absent_get_the_first_of_their_task() -> None:
    labels = Labels([CLS, REG], 3)
    for row, (cls, reg) in enumerate([(None, 1.0), (2, None), (0, float("nan"))]):
        labels.add(row, {"cls": as_label(cls, CLS), "reg": as_label(reg, REG)})
    values, present = labels.gathered()
    assert values["cls"].tolist() == [2, 2, 0]
    assert values["reg"].tolist() == [1, 1, 1]
    assert present is not None
    assert present.tolist() == [[False, True], [True, False], [True, False]]


def test_labels_of_several_shapes_are_refused() -> None:
    labels = Labels([REG], 2)
    labels.add(0, {"reg": torch.zeros(3)})
    with pytest.raises(UserError, match=r"has shape \[4\], and that of the item before has \[3\]"):
        labels.add(1, {"reg": torch.zeros(4)})


def test_a_wider_type_among_labels_keeps_all_of_them() -> None:
    labels = Labels([CLS], 2)
    labels.add(0, {"cls": torch.tensor(200, dtype=torch.uint8)})
    labels.add(1, {"cls": torch.tensor(1000)})
    assert labels.gathered()[0]["cls"].tolist() == [200, 1000]


def test_readings_are_compared_in_all_their_parts() -> None:
    nan = float("nan")
    one = {"a": torch.tensor([1.0, nan]), "b": (np.array([1]), nan, "x")}
    assert same(one, {"a": torch.tensor([1.0, nan]), "b": (np.array([1]), nan, "x")})
    assert not same(one, {"a": torch.tensor([1.0, 2.0]), "b": (np.array([1]), nan, "x")})
    assert not same(one, {"a": torch.tensor([1.0, nan]), "b": (np.array([2]), nan, "x")})
    assert not same(one, {"a": torch.tensor([1.0, nan])})
    assert not same(None, torch.tensor(1.0))


@pytest.mark.parametrize(
    "kind",
    [Tensor.bfloat16, Tensor.to_sparse, lambda x: x.requires_grad_(), lambda x: x + 0j],
    ids=["bfloat16", "sparse", "learned", "complex"],
)
def test_readings_of_tensors_that_numpy_does_not_know_are_compared(kind: Any) -> None:
    def reading(value: float) -> Any:
        return kind(torch.tensor([1.0, 0.0, value]))

    assert same(reading(2.0), reading(2.0))
    assert same(reading(float("nan")), reading(float("nan")))
    assert not same(reading(2.0), reading(3.0))
