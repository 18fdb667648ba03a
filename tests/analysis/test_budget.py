"""The expected best of n trials: the estimator, by hand and by all subsets; table, figure, page."""

import json
import math
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from synthetic_runs import metric, tuned, write_run

from mtlbench.analysis.aggregate import Comparison, compare
from mtlbench.analysis.budget import (
    BUDGET_COLUMNS,
    SPREAD,
    budgets,
    budgets_shown,
    expected_best,
    tunings_of,
)
from mtlbench.analysis.budget_tables import BUDGET_FORMATS, build_budgets, render_budgets
from mtlbench.analysis.figures.budget import BANDS, budget_figure
from mtlbench.analysis.figures.panels import COLOURED, CROWD, OTHERS
from mtlbench.analysis.figures.runs import draw_figures
from mtlbench.analysis.figures.style import PAPER_LINES
from mtlbench.analysis.report import render_report
from mtlbench.analysis.tables import render
from mtlbench.cli.main import main
from mtlbench.errors import UserError

Scores = list[float | None]

scores_of_trials = st.lists(
    st.none() | st.floats(-1e3, 1e3) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=9
)
"""With failed trials and with ties."""

# --- the estimator ------------------------------------------------------------------------------


def test_the_best_of_four_trials_by_hand() -> None:
    # Default 2; others 1, 4, 8. Two trials: (2 + 4 + 8) / 3; three: the best of {1, 4}, {1, 8}
    # and {4, 8} is 4, 8, 8.
    best = expected_best([2.0, 8.0, 1.0, 4.0])
    np.testing.assert_allclose(best.expected, [2, 14 / 3, 20 / 3, 8], rtol=1e-15)
    assert list(best.low) == [2, 2, 4, 8]
    assert list(best.high) == [2, 8, 8, 8]


def test_a_failed_trial_uses_up_its_place_and_is_never_the_best() -> None:
    # Two trials: the default with the failed one, with 4, or with 8.
    best = expected_best([2.0, None, 4.0, 8.0])
    np.testing.assert_allclose(best.expected, [2, 14 / 3, 20 / 3, 8], rtol=1e-15)


def test_there_is_no_mean_where_all_trials_may_have_failed() -> None:
    # One of the three others failed, too: from three trials on, one is sure to count.
    best = expected_best([None, None, 3.0, 1.0])
    np.testing.assert_allclose(best.expected, [math.nan, math.nan, 7 / 3, 3], rtol=1e-15)
    assert np.isnan(best.low[:2]).all()
    assert np.isnan(best.high[:2]).all()
    best = expected_best([None, None])
    assert np.isnan([best.expected, best.low, best.high]).all()


def test_ties_count_as_often_as_they_are_there() -> None:
    best = expected_best([0.0, 5.0, 5.0, 0.0])
    np.testing.assert_allclose(best.expected, [0, 10 / 3, 5, 5], rtol=1e-15)


def test_one_trial_is_the_default_one() -> None:
    best = expected_best([-1.5])
    assert [*best.expected, *best.low, *best.high] == [-1.5] * 3


def test_of_twenty_others_one_in_twenty_is_the_end_of_the_interval() -> None:
    # P(M_2 ≤ v_1) is 1 / 20 and P(M_2 ≤ v_19) is 19 / 20, to the last bit.
    best = expected_best([0.0, *map(float, range(1, 21))])
    assert (best.low[1], best.high[1]) == (1, 19)


@given(scores_of_trials)
def test_it_is_the_maximum_over_all_subsets_with_the_default_trial(scores: Scores) -> None:
    default, *others = [-math.inf if score is None else score for score in scores]
    best = expected_best(scores)
    for n in range(1, len(scores) + 1):
        maxima = sorted(max([default, *some]) for some in combinations(others, n - 1))
        if maxima[0] == -math.inf:
            assert math.isnan(best.expected[n - 1])
            continue
        # Sums of up to 70 numbers below 1,000, each of them rounded.
        assert best.expected[n - 1] == pytest.approx(np.mean(maxima), rel=1e-12, abs=1e-10)
        low, high = (maxima[math.ceil(share * len(maxima) - 1e-9) - 1] for share in SPREAD)
        assert (best.low[n - 1], best.high[n - 1]) == (low, high)


@given(scores_of_trials)
def test_more_trials_are_never_worse(scores: Scores) -> None:
    best = expected_best(scores)
    for values in (best.expected, best.low, best.high):
        known = values[~np.isnan(values)]
        assert (np.diff(known) >= 0).all()


@given(scores_of_trials)
def test_it_begins_at_the_default_and_ends_at_the_maximum(scores: Scores) -> None:
    best, known = expected_best(scores), [score for score in scores if score is not None]
    if scores[0] is not None:
        assert best.expected[0] == pytest.approx(scores[0], rel=1e-12, abs=1e-10)
        assert best.low[0] == best.high[0] == scores[0]
    if known:
        assert best.expected[-1] == best.low[-1] == best.high[-1] == max(known)
        assert np.nanmin(best.expected) >= min(known) - 1e-10  # it is a rounded sum


@given(scores_of_trials, st.randoms(use_true_random=False))
def test_the_order_of_the_others_does_not_matter(scores: Scores, random: object) -> None:
    first, *others = scores
    random.shuffle(others)  # type: ignore[attr-defined]
    one, other = expected_best(scores), expected_best([first, *others])
    for name in ("expected", "low", "high"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_over_independent_trials_the_mean_is_unbiased() -> None:
    # Uniform scores, no default to hold them: the best of n − 1 has the mean (n − 1) / n. Over
    # 4,000 tunings of 8 trials its standard error is below 0.005 at every n.
    draws = np.random.default_rng(0).uniform(0, 1, (4000, 7))
    means = np.mean([expected_best([0.0, *others]).expected for others in draws], axis=0)
    np.testing.assert_allclose(means, [(n - 1) / n for n in range(1, 9)], atol=0.015)


# --- rows ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tunings of eight trials on two variants, in no order; one strategy that was not tuned."""
    root = tmp_path_factory.mktemp("runs")
    tuned(root, 1.0, 2.5, None, 4.0, -3.0, 4.0, 0.0, 7.0, strategy="ilt")
    tuned(root, 0.0, 1.0, 2.0, -1.0, -2.0, 3.0, None, None)
    tuned(root, *[None] * 2, *[1.0] * 6, strategy="gls", networks=3)
    tuned(root, 0.0, 1.0, variant="depth@0.4")
    write_run(root, metric(40.0), strategy="mtu")
    return root


@pytest.fixture(scope="module")
def comparison(results: Path) -> Comparison:
    return compare(results, "streets")


def test_rows_are_by_variant_strategy_and_number_of_trials(comparison: Comparison) -> None:
    rows = budgets(comparison)
    assert list(rows) == BUDGET_COLUMNS
    clean = rows[rows["variant"] == "clean"]
    assert list(clean["strategy"].unique()) == ["equal", "gls", "ilt"]
    for key, of in clean.groupby("strategy"):
        scores = [trial.score for trial in tunings_of(comparison, "clean")[str(key)].trials]
        np.testing.assert_array_equal(of["expected"], expected_best(scores).expected)
        assert list(of["trials"]) == list(range(1, 9))
    gls = clean[clean["strategy"] == "gls"]
    assert list(gls["networks"]) == [3 * n for n in range(1, 9)]
    assert len(rows[rows["variant"] == "depth@0.4"]) == 2


def test_without_tunings_there_are_no_rows(tmp_path: Path) -> None:
    write_run(tmp_path, metric(50.0))
    comparison = compare(tmp_path, "streets")
    assert budgets(comparison).empty
    assert render_budgets(comparison) == ""
    assert budget_figure(comparison, "clean") is None


def test_one_trial_alone_is_no_curve(tmp_path: Path) -> None:
    tuned(tmp_path, 0.0)
    assert budgets(compare(tmp_path, "streets")).empty


def test_only_the_strategies_asked_for_have_curves(results: Path) -> None:
    rows = budgets(compare(results, "streets", ["clean"], ["ilt", "mtu"]))
    assert set(rows["strategy"]) == {"ilt"}


def test_without_a_row_of_the_default_parameters_a_curve_is_that_of_the_tuned_ones(
    results: Path,
) -> None:
    tuned_alone = "ilt[tuned, 8 trials]"
    rows = budgets(compare(results, "streets", ["clean"], [tuned_alone]))
    assert set(rows["strategy"]) == {tuned_alone}


def test_a_tuning_that_a_larger_one_continues_is_no_curve_of_its_own(tmp_path: Path) -> None:
    tuned(tmp_path, 0.0, 2.0)
    tuned(tmp_path, 0.0, 2.0, 1.0, 5.0)
    rows = budgets(compare(tmp_path, "streets"))
    assert list(rows["strategy"]) == ["equal"] * 4


def test_tunings_of_other_parameters_are_curves_of_their_own(tmp_path: Path) -> None:
    tuned(tmp_path, 0.0, 2.0)
    tuned(tmp_path, 0.0, 3.0, searched="batch_size")
    comparison = compare(tmp_path, "streets")
    labels = [comparison.labels[key] for key in budgets(comparison)["strategy"].unique()]
    assert labels == ["Eq. Weight (tuned, of batch_size)", "Eq. Weight (tuned, of lr)"]


def test_budgets_are_shown_by_powers_of_two_and_at_their_ends() -> None:
    assert budgets_shown([8]) == [1, 2, 4, 8]
    assert budgets_shown([12, 2]) == [1, 2, 4, 8, 12]


# --- table --------------------------------------------------------------------------------------


def test_a_table_has_a_row_for_each_strategy_and_a_column_for_each_budget(
    comparison: Comparison,
) -> None:
    clean, corrupted = build_budgets(comparison)
    assert clean.title == "streets: clean, best of n trials"
    assert [column.name for column in clean.columns] == ["1", "2", "4", "8", "Networks"]
    assert [[row.label, *(cell.text for cell in row.cells)] for row in clean.rows] == [
        ["Eq. Weight", "+0.0", "+0.9 (+0.0 to +3.0)", "+2.0 (+0.0 to +3.0)", "+3.0", "1"],
        ["GLS", "", "", "+1.0", "+1.0", "3"],
        ["ILT Params", "+1.0", "+2.9 (+1.0 to +7.0)", "+5.1 (+2.5 to +7.0)", "+7.0", "1"],
    ]
    assert clean.notes[-2:] == [
        "trials that did not end well are drawn like the others and never the best: "
        "Eq. Weight 2 of 8, GLS 2 of 8, ILT Params 1 of 8",
        "among them are the default parameters of GLS: no number until one of n trials is sure to "
        "have ended well",
    ]
    assert [column.name for column in corrupted.columns] == ["1", "2"]
    assert len(corrupted.notes) == 2


def test_a_strategy_with_fewer_trials_has_a_shorter_row(tmp_path: Path) -> None:
    tuned(tmp_path, 0.0, 1.0, 2.0, 3.0)
    tuned(tmp_path, 0.0, 5.0, strategy="ilt", networks=2)
    comparison = compare(tmp_path, "streets")
    (table,) = build_budgets(comparison)
    assert [cell.text for cell in table.rows[1].cells] == ["+0.0", "+5.0", "", "2"]
    assert table.notes[-1] == "– at the end of a row: so many were not tried"
    ends = [line.get_xdata()[-1] for line in drawn(comparison).axes[0].lines[1:]]
    assert ends == [4, 2]


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main(["compare", "streets", *map(str, arguments)])
    return capsys.readouterr().out


@pytest.mark.parametrize("format", BUDGET_FORMATS)
def test_tables_for_people_end_with_the_budgets(
    format: str, results: Path, comparison: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, "--results", results, "--format", format)
    assert out == f"{render(comparison, format)}\n{render_budgets(comparison, format)}"
    assert out.count("best of n trials") == 2


@pytest.mark.parametrize("format", ["csv", "json"])
def test_formats_for_machines_hold_means_over_runs_alone(
    format: str, results: Path, comparison: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, "--results", results, "--format", format)
    assert out.strip() == render(comparison, format).strip()
    if format == "json":
        json.loads(out)
    with pytest.raises(UserError, match=f"unknown format '{format}'"):
        render_budgets(comparison, format)


# --- figure -------------------------------------------------------------------------------------


def drawn(comparison: Comparison, variant: str = "clean") -> Figure:
    figure = budget_figure(comparison, variant)
    assert figure is not None
    return figure


def names_in(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_each_strategy_has_its_line_in_a_band(comparison: Comparison) -> None:
    figure = drawn(comparison)
    assert names_in(figure) == [
        "Eq. Weight",
        "GLS (3 networks)",
        "ILT Params",
        "5 to 95 % of draws",
    ]
    (axes,) = figure.axes
    rows = budgets(comparison)
    zero, *curves = axes.lines
    assert set(zero.get_ydata()) == {0}
    for key, curve, band in zip(("equal", "gls", "ilt"), curves, axes.collections, strict=True):
        of = rows[(rows["variant"] == "clean") & (rows["strategy"] == key)].dropna()
        assert curve.get_color() == PAPER_LINES[key]["color"]
        np.testing.assert_array_equal(curve.get_xdata(), of["trials"])
        np.testing.assert_array_equal(curve.get_ydata(), of["expected"])
        edge = band.get_paths()[0].vertices
        for n, low, high in zip(of["trials"], of["low"], of["high"], strict=True):
            there = edge[edge[:, 0] == n, 1]
            assert [there.min(), there.max()] == [low, high]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "4", "8"]


def many(root: Path, count: int, worst: float = -1.0) -> Comparison:
    """Tuned strategies, the last of them best, the first with such default parameters."""
    for i in range(count):
        tuned(root, worst if i == 0 else 0.0, 1.0 + i, strategy=f"strategy{i:02}")
    return compare(root, "streets")


def test_more_bands_than_can_be_told_apart_are_not_drawn(tmp_path: Path) -> None:
    figure = drawn(many(tmp_path, BANDS + 1))
    assert not figure.axes[0].collections
    assert len(names_in(figure)) == BANDS + 1


def test_of_many_strategies_the_best_have_lines_of_their_own(tmp_path: Path) -> None:
    tuned(tmp_path, 0.0, 0.5)
    figure = drawn(many(tmp_path, CROWD))
    best = [f"strategy{i:02}" for i in range(CROWD - COLOURED + 1, CROWD)]
    assert names_in(figure) == ["Eq. Weight", *best, f"{CROWD - COLOURED + 1} others"]
    grey = [line for line in figure.axes[0].lines if line.get_color() == OTHERS["color"]]
    assert len(grey) == CROWD - COLOURED + 1


def test_default_parameters_that_are_far_off_do_not_flatten_the_others(tmp_path: Path) -> None:
    assert drawn(many(tmp_path / "near", 3)).axes[0].get_yscale() == "linear"
    assert drawn(many(tmp_path / "far", 3, -400.0)).axes[0].get_yscale() == "symlog"


def test_each_variant_with_tunings_gets_files(results: Path, tmp_path: Path) -> None:
    found = {path.name for path in draw_figures(results, "streets", tmp_path)}
    stems = ("streets_clean_budget", "streets_depth-0.4_budget")
    assert found == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    again = draw_figures(results, "streets", tmp_path / "again")
    assert all(path.read_bytes() == (tmp_path / path.name).read_bytes() for path in again)


# --- page ---------------------------------------------------------------------------------------


def test_the_page_has_the_curves_of_each_variant(results: Path, comparison: Comparison) -> None:
    page = render_report(results)
    assert page.count("<figcaption>best of n trials: Δm (%) ↑, validation</figcaption>") == 2
    rows = budgets(comparison)
    for key, label in (("equal", "Eq. Weight"), ("gls", "GLS"), ("ilt", "ILT Params")):
        of = rows[(rows["variant"] == "clean") & (rows["strategy"] == key)]["expected"]
        text = " ".join("n" if math.isnan(value) else f"{value:.4g}" for value in of)
        assert re.search(rf'data-label="{label}" data-y="{text}"', page)
