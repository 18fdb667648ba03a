"""Metrics against values worked out by hand."""

import math
import subprocess
import sys

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.tasks.metrics import (
    Metric,
    absolute_error,
    accuracy,
    auroc,
    average_precision,
    binary_accuracy,
    f1,
    macro_f1,
    mean_iou,
    median_error,
    pixel_accuracy,
    r2,
    relative_error,
    root_mean_square_error,
)


def measure(metric: Metric, *batches: tuple[list[float], list[float]]) -> float:
    """The metric over batches of predictions and labels, in its unit."""
    meter = metric.make()
    for prediction, label in batches:
        meter.update(torch.tensor(prediction), torch.tensor(label))
    return meter.compute().item() * metric.scale


def measured(metric: Metric, seen: torch.Tensor, label: torch.Tensor) -> float:
    """The value over two batches, in the metric's unit."""
    meter = metric.make()
    half = len(label) // 2
    for some in (slice(0, half), slice(half, None)):
        meter.update(seen[some], label[some])
    return float(meter.compute()) * metric.scale


@pytest.mark.parametrize("metric", [accuracy(3), pixel_accuracy(3)], ids=lambda m: m.name)
def test_accuracy_is_the_share_of_right_classes_over_all_batches(metric: Metric) -> None:
    # Four of five, and not the mean of 100 % and 50 %.
    batches = (([0, 1, 2], [0, 1, 2]), ([0, 1], [0, 2]))
    assert measure(metric, *batches) == pytest.approx(80)


def test_pixel_accuracy_takes_label_maps() -> None:
    meter = pixel_accuracy(3).make()
    meter.update(torch.tensor([[[0, 1], [2, 2]]]), torch.tensor([[[0, 1], [2, 0]]]))
    assert meter.compute().item() == pytest.approx(0.75)


def test_mean_iou_averages_intersection_over_union_over_classes() -> None:
    # class 0: 1 of 2 pixels; class 1: 2 of 4; class 2: 1 of 2
    prediction, label = [0, 1, 1, 1, 2, 2], [0, 0, 1, 1, 1, 2]
    assert measure(mean_iou(3), (prediction, label)) == pytest.approx(
        100 * (1 / 2 + 2 / 4 + 1 / 2) / 3
    )


def test_mean_iou_pools_the_pixels_of_all_batches() -> None:
    # class 0: 3 of 4 pixels; class 1: 0 of 1. By batch it would be (1 + 0) / 2.
    batches = (([0, 0, 0], [0, 0, 0]), ([1], [0]))
    assert measure(mean_iou(2), *batches) == pytest.approx(100 * (3 / 4 + 0) / 2)


def test_mean_iou_leaves_out_a_class_that_is_neither_predicted_nor_labelled() -> None:
    assert measure(mean_iou(5), ([0, 1, 1], [0, 1, 0])) == pytest.approx(50)


def test_absolute_error_is_the_mean_over_all_values_of_all_batches() -> None:
    batches = (([1.0, 2.0, 3.0], [1.0, 4.0, 0.0]), ([2.0], [5.0]))
    assert measure(absolute_error("px"), *batches) == pytest.approx((0 + 2 + 3 + 3) / 4)


def test_relative_error_is_relative_to_the_label() -> None:
    assert measure(relative_error(), ([1.0, 3.0], [2.0, -4.0])) == pytest.approx(
        100 * (1 / 2 + 7 / 4) / 2
    )


@pytest.mark.parametrize(
    ("metric", "name", "unit", "direction"),
    [
        (accuracy(2), "accuracy", "%", "max"),
        (pixel_accuracy(2), "pixel_accuracy", "%", "max"),
        (mean_iou(2), "miou", "%", "max"),
        (absolute_error("mm"), "abs_err", "mm", "min"),
        (relative_error(), "rel_err", "%", "min"),
    ],
)
def test_a_metric_says_its_name_unit_and_which_way_is_better(
    metric: Metric, name: str, unit: str, direction: str
) -> None:
    assert (metric.name, metric.unit, metric.direction) == (name, unit, direction)


def test_torchmetrics_comes_without_signal_processing_which_can_still_be_imported() -> None:
    code = (
        "import sys\n"
        "from mtlbench.tasks.metrics import accuracy\n"
        "accuracy(3).make()\n"
        "assert not {'scipy.signal', 'scipy.stats'} & sys.modules.keys()\n"
        "import scipy.signal\n"
        "assert scipy.signal.windows.hamming(1) == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- labels of 0 and 1 ----------------------------------------------------------------------------

ZEROS_AND_ONES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=40
).filter(lambda pairs: 0 < sum(label for label, _ in pairs) < len(pairs))


@given(ZEROS_AND_ONES)
def test_metrics_of_zeros_and_ones_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, scores = (torch.tensor(column) for column in zip(*pairs, strict=True))
    probability = scores / 8
    expected = {
        auroc(): sklearn.metrics.roc_auc_score(labels, probability),
        average_precision(): sklearn.metrics.average_precision_score(labels, probability),
    }
    for metric, value in expected.items():
        assert metric.of_probabilities
        assert measured(metric, probability, labels) == pytest.approx(100 * value, abs=1e-3)
    seen = (probability > 0.5).long()
    for metric, value in {
        f1(): sklearn.metrics.f1_score(labels, seen),
        binary_accuracy(): sklearn.metrics.accuracy_score(labels, seen),
    }.items():
        assert measured(metric, seen, labels) == pytest.approx(100 * value, abs=1e-3)


def test_what_cannot_be_ranked_is_no_number() -> None:
    score = torch.tensor([0.1, 0.9])
    for label in (torch.zeros(2).long(), torch.ones(2).long()):
        assert math.isnan(measured(auroc(), score, label))
    for metric in (average_precision(), f1()):
        assert math.isnan(measured(metric, (score > 0.5).long(), torch.zeros(2).long()))


def test_f1_over_labels_side_by_side_is_the_mean_of_each() -> None:
    label = torch.tensor([[1, 0], [1, 1], [0, 1]])
    seen = torch.tensor([[1, 1], [0, 1], [0, 1]])
    assert measured(macro_f1(2), seen, label) == pytest.approx(100 * (2 / 3 + 4 / 5) / 2)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=3, max_size=30))
def test_errors_of_numbers_are_those_by_hand(pairs: list[tuple[float, float]]) -> None:
    seen, label = np.array(pairs, dtype=np.float64).T
    ours = [
        measured(metric, torch.tensor(seen), torch.tensor(label))
        for metric in (root_mean_square_error("m"), median_error("m"))
    ]
    assert ours[0] == pytest.approx(np.sqrt(np.mean((seen - label) ** 2)), abs=1e-4)
    assert ours[1] == pytest.approx(np.median(np.abs(seen - label)), abs=1e-4)
    if np.std(label) > 0.1:
        expected = sklearn.metrics.r2_score(label, seen)
        found = measured(r2(), torch.tensor(seen), torch.tensor(label))
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
