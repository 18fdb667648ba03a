"""Metrics against values worked out by hand."""

import subprocess
import sys

import pytest
import torch

from mtlbench.tasks.metrics import (
    Metric,
    absolute_error,
    accuracy,
    mean_iou,
    pixel_accuracy,
    relative_error,
)


def measure(metric: Metric, *batches: tuple[list[float], list[float]]) -> float:
    """The metric over batches of predictions and labels, in its unit."""
    meter = metric.make()
    for prediction, label in batches:
        meter.update(torch.tensor(prediction), torch.tensor(label))
    return meter.compute().item() * metric.scale


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
