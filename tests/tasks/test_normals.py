"""Loss and metrics of directions, against values by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.tasks.metrics import Metric
from mtlbench.tasks.normals import (
    BIN,
    angles,
    cosine_distance,
    has_direction,
    mean_angle,
    median_angle,
    within_angle,
)

METRICS = (mean_angle(), median_angle(), within_angle(11.25), within_angle(22.5), within_angle(30))


def turned(*degrees: float) -> Tensor:
    """A map [1, 3, 1, W] of directions turned from z towards x by so much."""
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack((angle.sin(), torch.zeros_like(angle), angle.cos())).float()[None, :, None]


def ahead(count: int) -> Tensor:
    """A map of labels that are all z: two of their three components are 0."""
    return turned(*[0.0] * count)


def measured(metric: Metric, *batches: tuple[Tensor, Tensor]) -> float:
    meter = metric.make()
    for prediction, label in batches:
        meter.update(prediction, label)
    return meter.compute().item() * metric.scale


# --- loss -----------------------------------------------------------------------------------------


def test_the_loss_is_one_minus_the_cosine_over_the_labelled_pixels_of_each_instance() -> None:
    output = torch.cat((turned(60, 90, 10), turned(180, 0, 0)))
    label = torch.cat((ahead(3), ahead(3)))
    label[0, :, :, 2] = 0
    expected = torch.tensor([(0.5 + 1) / 2, 2 / 3])
    torch.testing.assert_close(cosine_distance()(output, label), expected)


def test_the_loss_of_one_instance_is_that_of_mtan() -> None:
    chance = torch.Generator().manual_seed(0)
    output, label = (
        torch.nn.functional.normalize(torch.randn(1, 3, 4, 5, generator=chance), dim=1)
        for _ in range(2)
    )
    label[:, :, 1:3, 2:] = 0
    labelled = 4 * 5 - 2 * 3
    expected = 1 - (output * label).sum() / labelled
    torch.testing.assert_close(cosine_distance()(output, label), expected[None])


def test_pixels_without_a_direction_have_no_gradient_at_all() -> None:
    raw = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    label = ahead(4).reshape(1, 3, 2, 2).repeat(2, 1, 1, 1)
    label[0, :, 0, 1] = 0
    label[1] = 0
    losses = cosine_distance()(torch.nn.functional.normalize(raw, dim=1), label)
    losses.sum().backward()
    assert losses[1] == 0
    assert raw.grad is not None
    empty = ~has_direction(label)[:, None].expand_as(raw)
    assert (raw.grad[empty] == 0).all()
    assert raw.grad[~empty].any()


# --- metrics --------------------------------------------------------------------------------------


def test_metrics_of_directions_are_over_all_labelled_pixels_of_all_batches() -> None:
    first, second = ahead(4), ahead(2)
    first[..., 3] = 0
    batches = (turned(0, 40, 10, 170), first), (turned(90, 20), second)
    values = [measured(metric, *batches) for metric in METRICS]
    expected = [(0 + 40 + 10 + 90 + 20) / 5, 20, 100 * 2 / 5, 100 * 3 / 5, 100 * 3 / 5]
    assert values == pytest.approx(expected, abs=BIN / 2 + 1e-4)


def test_an_angle_at_the_limit_is_not_within_it() -> None:
    exact = math.degrees(math.atan2(3, 4))
    prediction = torch.tensor([3.0, 0, 4]).reshape(1, 3, 1, 1)
    at = angles(prediction, ahead(1)).item()
    assert at == pytest.approx(exact)
    assert measured(within_angle(at), (prediction, ahead(1))) == 0
    assert measured(within_angle(at + 1e-4), (prediction, ahead(1))) == 100


def test_the_median_of_an_even_number_of_angles_is_the_mean_of_the_two_in_the_middle() -> None:
    found = measured(median_angle(), (turned(5, 10, 30, 100), ahead(4)))
    assert found == pytest.approx(20, abs=BIN / 2 + 1e-4)


@given(st.lists(st.floats(0, 180), min_size=1, max_size=30))
def test_the_median_is_off_by_no_more_than_half_a_bin(degrees: list[float]) -> None:
    prediction, label = turned(*degrees), ahead(len(degrees))
    true = np.median(angles(prediction, label).numpy())
    found = measured(median_angle(), (prediction, label))
    assert found == pytest.approx(true, abs=BIN / 2 + 1e-4)


def test_small_angles_are_exact_and_lengths_do_not_matter() -> None:
    chance = torch.Generator().manual_seed(0)
    label = torch.nn.functional.normalize(torch.randn(1, 3, 8, 8, generator=chance), dim=1)
    assert angles(3 * label, label).max() < 1e-4
    assert angles(-0.2 * label, label).min() > 180 - 1e-4
    assert angles(turned(0.01), ahead(1)).item() == pytest.approx(0.01, rel=1e-3)


def test_a_prediction_without_a_direction_is_at_a_right_angle() -> None:
    assert angles(torch.zeros(1, 3, 1, 2), ahead(2)).tolist() == [90, 90]


def test_without_any_label_there_is_no_number() -> None:
    nothing = torch.zeros(1, 3, 2, 2)
    for metric in METRICS:
        assert math.isnan(measured(metric, (nothing, nothing)))


def test_predictions_that_are_no_numbers_give_no_mean_and_no_good_share() -> None:
    lost = torch.full((1, 3, 1, 4), math.nan)
    mean, median, *within = (measured(metric, (lost, ahead(4))) for metric in METRICS)
    assert math.isnan(mean)
    assert median == pytest.approx(180, abs=BIN)
    assert within == [0, 0, 0]


def test_metrics_of_directions_say_their_name_unit_and_which_way_is_better() -> None:
    assert [(m.name, m.unit, m.direction) for m in METRICS] == [
        ("mean_angle", "°", "min"),
        ("median_angle", "°", "min"),
        ("within_11.25", "%", "max"),
        ("within_22.5", "%", "max"),
        ("within_30", "%", "max"),
    ]
