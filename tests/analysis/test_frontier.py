"""Fronts of fixed weights: dominance by hand and by brute force; trials read from directories."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import abs_err, metric, tried

from mtlbench.analysis.aggregate import compare
from mtlbench.analysis.frontier import FEWEST, Frontier, attained, frontier, pareto_front
from mtlbench.store.runs import Store
from mtlbench.store.trials import trial_file

Points = list[tuple[float, ...]]


def front(points: Points, *directions: str) -> Points:
    mask = pareto_front(np.array(points), directions)
    return [point for point, kept in zip(points, mask, strict=True) if kept]


# --- dominance ----------------------------------------------------------------------------------


def test_a_point_is_dominated_by_one_that_is_better_in_both() -> None:
    assert front([(1, 5), (2, 4), (1, 3), (3, 1)], "max", "max") == [(1, 5), (2, 4), (3, 1)]


def test_less_is_better_where_the_direction_says_so() -> None:
    points: Points = [(1, 5), (2, 4), (1, 3), (3, 1)]
    assert front(points, "max", "min") == [(3, 1)]
    assert front(points, "min", "min") == [(1, 3), (3, 1)]
    assert front(points, "min", "max") == [(1, 5)]


def test_as_good_in_one_and_better_in_the_other_dominates() -> None:
    assert front([(1, 1), (1, 2), (2, 2), (2, 1)], "max", "max") == [(2, 2)]


def test_points_that_are_the_same_do_not_dominate_one_another() -> None:
    assert front([(1, 2), (1, 2), (0, 2)], "max", "max") == [(1, 2), (1, 2)]


def test_points_that_are_not_finite_are_neither_in_the_front_nor_in_the_way() -> None:
    points: Points = [(math.nan, 9), (9, math.inf), (1, 1)]
    assert front(points, "max", "max") == [(1, 1)]


def test_one_point_is_its_own_front() -> None:
    assert front([(1, 2)], "max", "min") == [(1, 2)]
    assert not pareto_front(np.empty((0, 2)), ["max", "min"]).size


def test_a_point_is_attained_by_one_that_is_as_good_in_everything() -> None:
    others = np.array([(1, 5), (3, 1), (math.nan, 9)])
    points = np.array([(1, 5), (1, 4), (2, 4), (3, 2), (0, 6), (math.nan, 0)])
    mask = attained(points, others, ["max", "max"])
    assert mask.tolist() == [True, True, False, False, False, False]
    assert attained(points[:1], others, ["max", "min"]).tolist() == [True]
    assert not attained(points, np.empty((0, 2)), ["max", "max"]).any()


values = st.sampled_from([0.0, 1.0, 2.0, math.nan]) | st.floats(-1e3, 1e3)
directions_of_three = st.lists(st.sampled_from(["max", "min"]), min_size=3, max_size=3)
points_of_three = st.lists(st.tuples(values, values, values), min_size=1, max_size=12)


def at_least(one: tuple[float, ...], other: tuple[float, ...], directions: list[str]) -> bool:
    pairs = zip(one, other, directions, strict=True)
    return all(a >= b if way == "max" else a <= b for a, b, way in pairs)


@given(points_of_three, directions_of_three)
def test_the_front_is_what_nothing_dominates(points: Points, directions: list[str]) -> None:
    def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return at_least(one, other, directions) and not at_least(other, one, directions)

    known = [point for point in points if not any(map(math.isnan, point))]
    expected = [point for point in known if not any(dominates(o, point) for o in known)]
    assert front(points, *directions) == expected


@given(points_of_three, directions_of_three)
def test_the_front_attains_all_that_its_points_do(points: Points, directions: list[str]) -> None:
    array = np.array(points)
    by = array[pareto_front(array, directions)]
    known = ~np.isnan(array).any(axis=1)
    np.testing.assert_array_equal(attained(array, by, directions), known)


# --- of a comparison ----------------------------------------------------------------------------


def at(miou: float | None, error: float | None) -> list[dict[str, Any]]:
    """What a trial measures; of segmentation the first metric counts."""
    return [metric(miou), metric(99.0, "pixel_accuracy", label="Pix. Acc."), abs_err(error)]


def of(*roots: Path, variant: str = "clean") -> Frontier:
    found = frontier(compare(roots, "streets"), variant, roots)
    assert found is not None
    return found


FIXED = at(50, 0.03), at(60, 0.04), at(40, 0.02)


def test_it_has_all_fixed_weights_and_the_chosen_trial_of_the_others(tmp_path: Path) -> None:
    tried(tmp_path, *FIXED, strategy="static", chosen=1)
    tried(tmp_path, at(50, 0.03), at(55, 0.025), at(10, 0.9), strategy="ilt", chosen=1)
    tried(tmp_path, at(52, 0.03), at(51, 0.05), strategy="gls")
    found = of(tmp_path)
    assert [measure.label for measure in found.measures] == [
        "segmentation mIoU (%) ↑",
        "depth Abs. Err. (1/m) ↓",
    ]
    assert found.fixed.tolist() == [[50, 0.03], [60, 0.04], [40, 0.02]]
    assert list(found.others) == ["gls", "ilt"]
    ilt, gls = found.others["ilt"], found.others["gls"]
    assert ilt.chosen.tolist() == [55, 0.025]
    assert ilt.default is not None
    assert ilt.default.tolist() == [50, 0.03]
    assert gls.chosen.tolist() == [52, 0.03]
    assert gls.default is None, "it was chosen"


def test_trials_that_diverged_or_have_no_number_are_left_out(tmp_path: Path) -> None:
    tried(tmp_path, *FIXED, [], at(None, 0.01), strategy="static")
    tried(tmp_path, [], at(55, 0.025), strategy="ilt", chosen=1)
    tried(tmp_path, [], [], strategy="gls")
    found = of(tmp_path)
    assert found.fixed.tolist() == [[50, 0.03], [60, 0.04], [40, 0.02]]
    assert list(found.others) == ["ilt"]
    assert found.others["ilt"].default is None


def test_trials_that_are_missing_or_damaged_are_left_out(tmp_path: Path) -> None:
    fixed = tried(tmp_path, *FIXED, at(1, 1), at(2, 2), strategy="static")
    ilt = tried(tmp_path, at(50, 0.03), at(55, 0.025), strategy="ilt", chosen=1)
    files = [trial_file(Store(tmp_path), trial.hash) for trial in fixed.trials[3:]]
    files[0].unlink()
    files[1].write_text("{")
    trial_file(Store(tmp_path), ilt.chosen.hash).unlink()
    found = of(tmp_path)
    assert len(found.fixed) == 3
    assert not found.others


def test_trials_are_found_in_any_of_the_directories(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    kept = [tried(root, *FIXED, strategy="static") for root in (one, two)]
    for root, numbers in ((one, [0, 1]), (two, [2])):
        for number in numbers:
            trial_file(Store(root), kept[0].trials[number].hash).unlink()
    assert of(one, two).fixed.tolist() == [[50, 0.03], [60, 0.04], [40, 0.02]]


def test_tunings_held_against_another_trial_are_left_out(tmp_path: Path) -> None:
    tried(tmp_path, *FIXED, strategy="static")
    tried(tmp_path, *FIXED, strategy="ilt")
    comparison = compare(tmp_path, "streets")
    for key, tuning in comparison.tunings.items():
        if tuning.strategy == "ilt":
            comparison.tunings[key] = replace(tuning, against="f" * 12)
    found = frontier(comparison, "clean", [tmp_path])
    assert found is not None
    assert not found.others


@pytest.mark.parametrize("strategy", ["static", "ilt"])
def test_there_is_none_without_enough_fixed_weights(tmp_path: Path, strategy: str) -> None:
    tried(tmp_path, *FIXED[: FEWEST - 1], [], strategy="static")
    tried(tmp_path, *FIXED, strategy="ilt")
    comparison = compare(tmp_path, "streets", strategies=[strategy])
    assert frontier(comparison, "clean", [tmp_path]) is None
    assert frontier(comparison, "clean", []) is None
