"""Leaderboards get drawn, and the same one gives the same files."""

from pathlib import Path

import matplotlib as mpl
import pytest
from test_leaderboard import frame, many, run

from mtlbench.analysis.figures.ranks import (
    critical_difference_figure,
    draw_rank_figures,
    interval_figure,
)
from mtlbench.analysis.figures.style import STYLE
from mtlbench.analysis.leaderboard import leaderboard


@pytest.fixture(autouse=True)
def style() -> object:
    with mpl.rc_context(STYLE):
        yield


def test_every_scope_gets_its_figures(tmp_path: Path) -> None:
    board = leaderboard(many({"equal": 50, "mtu": 52, "dwa": 48}, seeds=3, suites=1))
    files = draw_rank_figures(board, tmp_path / "new")
    assert {file.name for file in files} == {
        f"leaderboard_{scope}_{figure}.{kind}"
        for scope in ("all", "clean", "corrupted")
        for figure in ("intervals", "critical_difference")
        for kind in ("png", "svg")
    }
    assert all(file.stat().st_size > 1000 for file in files)
    again = draw_rank_figures(board, tmp_path / "again")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]


def test_a_single_strategy_has_no_figure(tmp_path: Path) -> None:
    assert draw_rank_figures(leaderboard(frame(run("equal", 50.0))), tmp_path) == []


def test_without_a_baseline_only_ranks_are_drawn() -> None:
    figure = interval_figure(leaderboard(many({"mtu": 50, "dwa": 51}, seeds=2)), "all")
    assert figure is not None
    assert [axes.get_xlabel() for axes in figure.axes] == ["mean rank ↓"]


def test_the_best_is_on_top_of_the_intervals_and_left_of_the_critical_differences() -> None:
    board = leaderboard(many({"equal": 50, "mtu": 60, "dwa": 40}, seeds=4))
    intervals = interval_figure(board, "all")
    assert intervals is not None
    names = [tick.get_text() for tick in intervals.axes[0].get_yticklabels()]
    assert names == ["MTU", "EQUAL", "DWA"]
    assert intervals.axes[0].yaxis_inverted()

    figure = critical_difference_figure(board.friedman["all"], board.labels, "all")
    texts = [text.get_text().strip() for text in figure.axes[0].texts]
    assert "MTU  1.00" in texts
    assert "3.00  DWA" in texts
    assert any("critical difference 1.17" in text for text in texts)


def test_where_friedman_shows_nothing_one_bar_joins_all() -> None:
    board = leaderboard(many({"equal": 50, "mtu": 50, "dwa": 50}, seeds=4))
    test = board.friedman["all"]
    assert not test.rejected
    assert len(test.groups()) == 1
    figure = critical_difference_figure(test, board.labels, "all")
    assert any("no difference shown" in text.get_text() for text in figure.axes[0].texts)
