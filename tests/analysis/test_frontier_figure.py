"""Figures of fronts: what is drawn, named and shown."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETLEFT, CARETUP
from synthetic_runs import abs_err, metric, tried, tuned

from mtlbench.analysis.aggregate import compare
from mtlbench.analysis.figures.frontier import (
    CARETS,
    DOTS,
    FRONT,
    frontier_figure,
    limits,
    staircase,
)
from mtlbench.analysis.figures.panels import COLOURED, CROWD, OTHERS
from mtlbench.analysis.figures.runs import draw_figures
from mtlbench.analysis.figures.style import DOUBLE, PAPER_LINES, SINGLE


def at(miou: float, error: float, *more: float) -> list[dict[str, Any]]:
    normals = [metric(value, "angle", "normals", label="Angle", unit="°") for value in more]
    return [metric(miou), abs_err(error), *normals]


FIXED = at(50, 0.03), at(60, 0.04), at(40, 0.02), at(45, 0.035)
FRONT_OF_FIXED = [(40, 0.02), (50, 0.03), (60, 0.04)]


def drawn(root: Path) -> Figure:
    figure = frontier_figure(compare(root, "streets"), "clean", [root])
    assert figure is not None
    return figure


def names_in(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points(axes: Axes, **properties: Any) -> list[tuple[float, float]]:
    """Of all lines with these properties."""
    return [
        (float(x), float(y))
        for line in axes.lines
        if all(getattr(line, f"get_{name}")() == value for name, value in properties.items())
        for x, y in line.get_xydata()
    ]


def test_fixed_weights_are_dots_whose_front_is_a_line(tmp_path: Path) -> None:
    tried(tmp_path, *FIXED, strategy="static")
    figure = drawn(tmp_path)
    (axes,) = figure.axes
    assert figure.get_figwidth() == SINGLE
    assert names_in(figure) == ["4 fixed weights", "their front"]
    assert points(axes, marker=DOTS["marker"]) == [(50, 0.03), (60, 0.04), (40, 0.02), (45, 0.035)]
    corners = points(axes, linewidth=FRONT["linewidth"], linestyle="-")
    assert [corner for corner in corners if corner in FRONT_OF_FIXED] == FRONT_OF_FIXED
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "segmentation mIoU (%) ↑",
        "depth Abs. Err. (1/m) ↓",
    )
    assert axes.get_title() == "validation data, one seed"


def test_each_strategy_stands_at_its_chosen_trial_and_open_at_the_default_one(
    tmp_path: Path,
) -> None:
    tried(tmp_path, *FIXED, strategy="static")
    tried(tmp_path, at(50, 0.03), at(55, 0.025), strategy="ilt", chosen=1)
    tried(tmp_path, at(48, 0.028), at(51, 0.05), strategy="gls")
    figure = drawn(tmp_path)
    (axes,) = figure.axes
    names = ["GLS", "ILT Params", "default parameters", "4 fixed weights", "their front"]
    assert names_in(figure) == names
    ilt, gls = PAPER_LINES["ilt"], PAPER_LINES["gls"]
    assert points(axes, marker=ilt["marker"], markerfacecolor="white") == [(50, 0.03)]
    assert points(axes, marker=ilt["marker"], color=ilt["color"])[-1] == (55, 0.025)
    assert points(axes, marker=gls["marker"], color=gls["color"]) == [(48, 0.028)]
    assert points(axes, marker="None", color=ilt["color"]) == [(50, 0.03), (55, 0.025)]


def test_each_pair_of_three_tasks_has_a_panel(tmp_path: Path) -> None:
    tried(tmp_path, at(50, 0.03, 9), at(60, 0.04, 8), at(40, 0.02, 7), strategy="static")
    figure = drawn(tmp_path)
    assert figure.get_figwidth() == DOUBLE
    labels = ["segmentation mIoU (%) ↑", "depth Abs. Err. (1/m) ↓", "normals Angle (°) ↑"]
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes] == [
        (labels[0], labels[1]),
        (labels[0], labels[2]),
        (labels[1], labels[2]),
    ]
    assert [axes.get_title() for axes in figure.axes] == ["", "validation data, one seed", ""]


@pytest.mark.parametrize("tasks", [1, 4])
def test_one_task_and_four_have_no_figure(tmp_path: Path, tasks: int) -> None:
    measured = [metric(50.0, "miou", f"task{k}") for k in range(tasks)]
    tried(tmp_path, *[measured] * 3, strategy="static")
    assert frontier_figure(compare(tmp_path, "streets"), "clean", [tmp_path]) is None


def test_of_many_strategies_the_papers_and_those_beyond_the_front_are_named(
    tmp_path: Path,
) -> None:
    tried(tmp_path, *FIXED, strategy="static")
    tried(tmp_path, at(41, 0.038), at(42, 0.037), strategy="equal", chosen=1)
    for i in range(CROWD):
        here = at(55, 0.031 + 0.0001 * i) if i < 2 else at(41, 0.03)
        tried(tmp_path, at(40, 0.04), here, strategy=f"strategy{i:02}", chosen=1)
    figure = drawn(tmp_path)
    assert names_in(figure) == [
        "Eq. Weight", "strategy00", "strategy01", f"{CROWD - 2} others",
        "default parameters", "6 fixed weights", "their front",
    ]  # fmt: skip
    assert len(points(figure.axes[0], color=OTHERS["color"])) == CROWD - 2


def test_no_more_are_named_than_have_room(tmp_path: Path) -> None:
    tried(tmp_path, *FIXED, strategy="static")
    for i in range(CROWD):
        tried(tmp_path, at(40, 0.04), at(70 + i, 0.01), strategy=f"strategy{i:02}", chosen=1)
    figure = drawn(tmp_path)
    assert len(names_in(figure)) == COLOURED + 4 <= CROWD
    assert figure.get_figwidth() == SINGLE


def test_what_is_far_off_is_a_caret_at_the_edge(tmp_path: Path) -> None:
    tried(tmp_path, *FIXED, at(51, 9.0), at(-900, 9.0), strategy="static")
    (axes,) = drawn(tmp_path).axes
    left, top = axes.get_xlim()[0], axes.get_ylim()[1]
    assert top < 0.1
    assert points(axes, marker=CARETUP) == [(51, top)]
    assert points(axes, marker=CARETLEFT) == [(left, top)]
    assert len(points(axes, marker=DOTS["marker"])) == len(FIXED)


def test_a_panel_shows_all_that_counts_and_what_is_near() -> None:
    core = np.array([(0.0, 0.0), (1.0, 10.0)])
    low, high = limits(core, np.array([(2.5, 5.0), (4.0, 5.0), (0.5, 31.0)]))
    np.testing.assert_allclose(low, [-0.15, -0.6])
    np.testing.assert_allclose(high, [2.65, 10.6])


def test_one_point_that_dominates_all_does_not_hide_the_others(tmp_path: Path) -> None:
    tried(tmp_path, at(50, 0.01), at(40, 0.02), at(45, 0.03), strategy="static")
    (axes,) = drawn(tmp_path).axes
    assert not any(points(axes, marker=caret) for caret in CARETS.values())
    tried(tmp_path / "same", *[at(50, 0.01)] * 3, strategy="static")
    (axes,) = drawn(tmp_path / "same").axes
    assert axes.get_xlim()[0] < 50 < axes.get_xlim()[1]


@pytest.mark.parametrize(
    ("directions", "corners"),
    [
        (("max", "max"), [(0, 3), (1, 3), (1, 2), (2, 2), (2, 0)]),
        (("min", "min"), [(9, 2), (2, 2), (2, 3), (1, 3), (1, 9)]),
    ],
)
def test_a_staircase_falls_at_each_point_and_ends_at_the_edges(
    directions: tuple[str, str], corners: list[tuple[float, float]]
) -> None:
    front = np.array([(2.0, 2.0), (1.0, 3.0)])
    found = staircase(front, directions, (np.zeros(2), np.full(2, 9.0)))
    assert list(map(tuple, found.tolist())) == corners


def test_each_variant_with_enough_fixed_weights_gets_files(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    tried(root, *FIXED, strategy="static")
    tried(root, *FIXED[:2], strategy="static", variant="depth@0.4")
    tried(root, at(55, 0.025), strategy="ilt")
    tuned(root, 0.0, 1.0, 2.0, strategy="static", variant="depth@0.8")
    files = draw_figures(root, "streets", tmp_path / "a")
    found = [path for path in files if "frontier" in path.name]
    assert [path.name for path in found] == [
        "streets_clean_frontier.png",
        "streets_clean_frontier.svg",
    ]
    draw_figures(root, "streets", tmp_path / "b")
    assert all(path.read_bytes() == (tmp_path / "b" / path.name).read_bytes() for path in found)
