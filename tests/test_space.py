"""Spaces: points inside them, the same ones for all that begin alike."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.space import (
    MOST_COORDINATES,
    Choice,
    Range,
    TaskWeights,
    around,
    dimension,
    points,
)

LR = around(4e-3)


@given(st.floats(0, 1, exclude_max=True), st.booleans())
def test_a_range_gives_values_between_its_ends(share: float, log: bool) -> None:
    assert 0.01 <= Range(0.01, 10, log=log).at([share]) <= 10


@pytest.mark.parametrize(
    ("share", "linear", "log", "whole"),
    [(0, 1, 1, 1), (0.5, 50.5, 10, 51), (0.999, 99.9, 99.54, 100)],
)
def test_values_by_hand(share: float, linear: float, log: float, whole: int) -> None:
    assert Range(1, 100).at([share]) == linear
    assert Range(1, 100, log=True).at([share]) == log
    assert Range(1, 100, whole=True).at([share]) == whole


def test_a_choice_gives_each_of_its_values_an_equal_share() -> None:
    assert [Choice(("a", "b")).at([share]) for share in (0, 0.49, 0.5, 0.99)] == [
        "a",
        "a",
        "b",
        "b",
    ]


def test_around_a_value_lie_as_many_orders_of_magnitude_below_as_above() -> None:
    assert (LR.low, LR.high) == (5e-4, 3.2e-2)
    assert LR.at([0.5]) == 4e-3


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Range(2, 1),
        lambda: Range(1, 1),
        lambda: Range(0, 1, log=True),
        lambda: Range(-1, 1, log=True),
        lambda: Range(float("nan"), 1),
        lambda: Range(0, float("inf")),
        lambda: Range(1, 10**400),
        lambda: Range(0.5, 8, whole=True),
        lambda: Choice(("one",)),
        lambda: Choice((0.1, 0.2, 0.1)),
    ],
)
def test_what_is_no_space_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"range|choice"):
        wrong()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 2**40))
def test_more_points_begin_with_the_same_ones(few: int, more: int, seed: int) -> None:
    space = {"lr": LR, "alpha": Range(0, 2)}
    assert points(space, few + more, seed)[:few] == points(space, few, seed)


@given(st.integers(1, 20), st.integers(1, MOST_COORDINATES - 1))
def test_spaces_that_begin_alike_have_the_same_values_there(count: int, own: int) -> None:
    longer = {"lr": LR, **{str(number): Range(0, 1) for number in range(own)}}
    shared = [{"lr": point["lr"]} for point in points(longer, count, 7)]
    assert shared == points({"lr": LR}, count, 7)


def test_points_cover_the_space_evenly() -> None:
    shares = sorted(point["x"] for point in points({"x": Range(0, 1)}, 16, 3))
    assert [int(16 * share) for share in shares] == list(range(16))


def test_a_space_of_nothing_has_points_that_change_nothing() -> None:
    assert points({}, 3, 0) == [{}, {}, {}]


def test_a_space_with_too_many_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match="65 dimensions are more than 64"):
        points({str(number): Range(0, 1) for number in range(65)}, 1, 0)


TASKS = ("left", "right", "offset")


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=3, max_size=3))
def test_weights_of_tasks_have_the_mean_1(shares: list[float]) -> None:
    weights = TaskWeights().at(shares, TASKS)
    assert list(weights) == list(TASKS)
    assert all(weight >= 0 for weight in weights.values())
    if any(shares):
        assert sum(weights.values()) == pytest.approx(3, rel=1e-3)


def test_weights_of_tasks_are_spread_over_all_of_the_simplex() -> None:
    drawn = [point["w"] for point in points({"w": TaskWeights()}, 512, 1, TASKS)]
    for task in TASKS:  # of a flat Dirichlet distribution: beta(1, 2), times 3
        values = sorted(weights[task] / 3 for weights in drawn)
        quartiles = [values[128], values[256], values[384]]
        assert quartiles == pytest.approx([1 - 0.75**0.5, 1 - 0.5**0.5, 0.5], abs=0.03)


# --- in words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-4:1e-2:log", Range(1e-4, 1e-2, log=True)),
        ("0.1:0.9", Range(0.1, 0.9)),
        ("1:64:log:whole", Range(1, 64, log=True, whole=True)),
        ("-1:1", Range(-1, 1)),
        ("last, best", Choice(("last", "best"))),
        ("1,2.5,many", Choice((1, 2.5, "many"))),
    ],
)
def test_values_to_search_can_be_typed(text: str, expected: Any) -> None:
    assert dimension(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "a:b", "1:", ":2", "2:1", "1:1", "1:2:3", "1:2:log:log", "0:1:log", "1:nan"]
)
def test_what_is_no_set_of_values_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"values are|a range|the ends"):
        dimension(text)
