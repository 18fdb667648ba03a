"""The share of corrupted labels that the largest variances find."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.tasks.detection import detection_accuracy


def of_one_task(log_variance: np.ndarray, corrupted: np.ndarray) -> float:
    return detection_accuracy(log_variance[:, None], corrupted[:, None])


def test_two_of_three_found_are_two_thirds() -> None:
    log_variance = np.array([3.0, 2.0, -1.0, 1.0, 0.0])
    corrupted = np.array([True, True, True, False, False])
    assert of_one_task(log_variance, corrupted) == pytest.approx(200 / 3)


def test_among_equal_variances_the_lower_index_comes_first() -> None:
    equal = np.zeros(4)
    assert of_one_task(equal, np.array([True, True, False, False])) == 100
    assert of_one_task(equal, np.array([False, False, True, True])) == 0


def test_there_is_no_accuracy_where_nothing_is_corrupted() -> None:
    assert math.isnan(of_one_task(np.zeros(3), np.zeros(3, dtype=bool)))


def test_a_variance_that_is_not_a_number_is_never_a_suspect() -> None:
    log_variance = np.array([np.nan, 0.0, -1.0])
    assert of_one_task(log_variance, np.array([False, True, False])) == 100


@given(st.lists(st.booleans(), min_size=1, max_size=50).filter(any))
def test_variances_that_separate_the_groups_find_all_and_reversed_ones_as_few_as_can_be(
    mask: list[bool],
) -> None:
    corrupted = np.array(mask)
    count = corrupted.sum()
    fewest = max(0, 2 * count - len(corrupted))
    assert of_one_task(corrupted.astype(np.float16), corrupted) == 100
    assert of_one_task(-corrupted.astype(float), corrupted) == pytest.approx(100 * fewest / count)


def test_tasks_corrupted_together_are_sorted_by_the_variance_of_all_their_labels() -> None:
    log_variance = np.array([[2.0, -3.0], [1.0, 1.0], [0.5, 0.0], [-1.0, 1.2]], np.float16)
    corrupted = np.array([[False] * 2, [True] * 2, [True] * 2, [False] * 2])
    assert detection_accuracy(log_variance, corrupted) == 100
    assert detection_accuracy(log_variance[:, :1], corrupted[:, :1]) == 50
    assert detection_accuracy(log_variance[:, 1:], corrupted[:, 1:]) == 50


def test_tasks_without_instance_parameters_are_left_out():
    log_variance = np.array([[1.0, np.nan], [3.0, np.nan], [2.0, np.nan]])
    corrupted = np.array([[False, False], [True, False], [False, True]])
    assert detection_accuracy(log_variance, corrupted) == 100.0
    assert np.isnan(detection_accuracy(log_variance[:, 1:], corrupted[:, 1:]))
