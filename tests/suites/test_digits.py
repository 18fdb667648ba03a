"""Two digits in one image: reproducible, and no handwriting in two splits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mtlbench.data.splits import Data, Split
from mtlbench.randomness import derive_seed
from mtlbench.suites.digits import HANDWRITING, Digits, handwriting

SIZES = {"train": 60, "validation": 40, "test": 50}


def small() -> Digits:
    return Digits(**{f"{name}_size": size for name, size in SIZES.items()})


@pytest.fixture(scope="module")
def data() -> Data:
    return small().data()


def placed(digits: np.ndarray, columns: slice) -> np.ndarray:
    """These columns of each digit at each of the five heights, [digit, height, 12, 4]."""
    canvas = np.zeros((len(digits), 5, 12, 4))
    for row in range(5):
        canvas[:, row, row : row + 8] = digits[:, :, columns]
    return canvas.round()


def test_the_handwriting_is_that_of_scikit_learn() -> None:
    images, labels = handwriting()
    order = np.random.default_rng(derive_seed("digits", "split")).permutation(1797)
    np.testing.assert_array_equal(images, load_digits().images[order])
    np.testing.assert_array_equal(labels, load_digits().target[order])


def test_the_digits_of_two_splits_have_no_handwriting_in_common() -> None:
    taken = [i for first, last in HANDWRITING.values() for i in range(first, last)]
    assert len(taken) == len(set(taken)) == len(load_digits().images)


@pytest.mark.parametrize("name", SIZES)
def test_every_image_is_made_of_two_digits_of_its_own_split(data: Data, name: str) -> None:
    """The outer four columns of an image show one digit each; together they tell the rest."""
    digits = load_digits()
    order = np.random.default_rng(derive_seed("digits", "split")).permutation(1797)
    own = order[slice(*HANDWRITING[name])]
    images, labels = digits.images[own] * (255 / 16), digits.target[own]
    left_parts, right_parts = placed(images, slice(0, 4)), placed(images, slice(4, 8))
    left_rest, right_rest = placed(images, slice(4, 8)), placed(images, slice(0, 4))
    split: Split = getattr(data, name)
    for i, image in enumerate(split.inputs[:, 0].numpy()):
        found = False
        lefts = np.argwhere((left_parts == image[:, :4]).all((2, 3)))
        rights = np.argwhere((right_parts == image[:, 8:]).all((2, 3)))
        for left, left_row in lefts:
            for right, right_row in rights:
                middle = np.maximum(left_rest[left, left_row], right_rest[right, right_row])
                found |= (
                    (middle == image[:, 4:8]).all()
                    and labels[left] == split.targets["left"][i].item()
                    and labels[right] == split.targets["right"][i].item()
                    and right_row - left_row == split.targets["offset"][i].item()
                )
        assert found


@pytest.mark.parametrize("name", SIZES)
def test_splits_have_the_sizes_types_and_label_ranges_that_are_promised(
    data: Data, name: str
) -> None:
    split: Split = getattr(data, name)
    assert len(split) == SIZES[name]
    assert split.inputs.shape == (SIZES[name], 1, 12, 12)
    assert split.inputs.dtype == torch.uint8
    assert split.inputs.max() == 255
    assert split.present is None
    for task in ("left", "right"):
        assert split.targets[task].shape == (SIZES[name],)
        assert split.targets[task].dtype == torch.int64
        assert set(split.targets[task].tolist()) <= set(range(10))
    assert split.targets["offset"].shape == (SIZES[name],)
    assert split.targets["offset"].dtype == torch.float32
    assert set(split.targets["offset"].tolist()) <= set(range(-4, 5))


def test_all_digits_and_offsets_occur() -> None:
    train = Digits(validation_size=1, test_size=1).data().train
    for task in ("left", "right"):
        assert set(train.targets[task].tolist()) == set(range(10))
    assert set(train.targets["offset"].tolist()) == set(range(-4, 5))


def test_the_same_fields_give_the_same_data(data: Data) -> None:
    again = small().data()
    for name in SIZES:
        one, other = getattr(data, name), getattr(again, name)
        assert torch.equal(one.inputs, other.inputs)
        assert all(torch.equal(one.targets[task], other.targets[task]) for task in one.targets)


def test_network_losses_and_metrics_fit_the_data(data: Data) -> None:
    suite = small()
    outputs = suite.model()(suite.prepare(data.test.inputs))
    for task in suite.tasks():
        output, target = outputs[task.name], data.test.targets[task.name]
        assert task.loss(output, target).shape == (len(data.test),)
        for metric in task.metrics:
            meter = metric.make()
            meter.update(task.predict(output), target)
            assert meter.compute().isfinite()


@pytest.mark.parametrize("field", ["train_size", "validation_size", "test_size"])
def test_an_empty_split_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be at least 1, but is 0"):
        Digits(**{field: 0})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs must be above 0, but is 0"),
        ("batch_size", -1, "batch_size must be above 0, but is -1"),
        ("lr", 0.0, "lr must be above 0, but is 0.0"),
        ("missing_labels", 1.0, "missing_labels must be at least 0 and below 1, but is 1.0"),
    ],
)
def test_a_recipe_out_of_its_range_is_refused(field: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Digits(**{field: value})
