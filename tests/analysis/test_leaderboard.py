"""Strategies ranked over suites, variants and metrics, by hand and against SciPy."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import CHECKOUT
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from synthetic_runs import abs_err, detection, metric, tuned, write_run

from mtlbench.analysis.leaderboard import Leaderboard, leaderboard
from mtlbench.analysis.leaderboard_tables import render_leaderboard
from mtlbench.analysis.results import RESULT_COLUMNS, load_results
from mtlbench.analysis.scope import LEADERBOARD_COLUMNS
from mtlbench.analysis.table import FORMATS
from mtlbench.errors import UserError

NAN, INFINITE = float("nan"), float("inf")
METRICS = {
    "miou": ("segmentation", "max"),
    "accuracy": ("segmentation", "max"),
    "abs_err": ("depth", "min"),
}
STAGES = {"ilt": "instance", "pcgrad": "gradient"}


def run(
    strategy: str,
    values: Mapping[str, float] | float,
    seed: int = 0,
    variant: str = "clean",
    suite: str = "streets",
    **others: Any,
) -> list[dict[str, Any]]:
    """The rows of one run."""
    if isinstance(values, float | int):
        values = {"miou": values}
    run = {
        "suite": suite, "variant": variant, "strategy": strategy, "label": strategy.upper(),
        "stage": STAGES.get(strategy, "loss"), "seed": seed, "settings": "", "status": "done",
        "unit": "", "hash": f"{suite}{variant}{strategy}{seed}", "path": "",
    }  # fmt: skip
    return [
        {
            **run, "metric": name, "metric_label": name, "task": METRICS[name][0],
            "direction": METRICS[name][1], "value": value, **others,
        }
        for name, value in values.items()
    ]  # fmt: skip


def frame(*runs: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([row for rows in runs for row in rows], columns=RESULT_COLUMNS)


def many(strategies: Mapping[str, float], seeds: int, suites: int = 2) -> pd.DataFrame:
    """Noisy results around a level for each strategy."""
    generator = np.random.default_rng(0)
    return frame(
        *(
            run(
                strategy,
                {
                    "miou": level + generator.normal(),
                    "accuracy": 2 * level + generator.normal(),
                    "abs_err": 1 / level + 0.001 * generator.normal(),
                },
                seed,
                variant,
                f"suite-{suite}",
            )
            for strategy, level in strategies.items()
            for suite in range(suites)
            for variant in ("clean", "depth@0.4")
            for seed in range(seeds)
        )
    )


def row_of(board: Leaderboard, strategy: str, scope: str = "all") -> pd.Series:
    rows = board.table[(board.table["scope"] == scope) & (board.table["strategy"] == strategy)]
    assert len(rows) == 1
    return rows.iloc[0]


# --- by hand --------------------------------------------------------------------------------------


@pytest.fixture
def by_hand() -> pd.DataFrame:
    same = {"miou": 50, "accuracy": 80, "abs_err": 0.2}
    return frame(
        run("equal", {"miou": 40, "accuracy": 80, "abs_err": 0.2}, 0),
        run("equal", {"miou": 60, "accuracy": 80, "abs_err": 0.2}, 1),
        run("ilt", {"miou": 50, "accuracy": 76, "abs_err": 0.1}, 0),
        run("ilt", {"miou": 70, "accuracy": 76, "abs_err": 0.1}, 1),
        *(run(name, same, seed, "depth@0.4") for name in ("equal", "ilt") for seed in (0, 1)),
    )


def test_ranks_weigh_variants_tasks_and_metrics_alike(by_hand: pd.DataFrame) -> None:
    board = leaderboard(by_hand)
    # clean: segmentation (1 + 2) / 2, depth 1; corrupted: all tied at 1.5.
    assert row_of(board, "ilt")["mean_rank"] == pytest.approx((1.25 + 1.5) / 2)
    assert row_of(board, "equal")["mean_rank"] == pytest.approx((1.75 + 1.5) / 2)


def test_delta_m_is_the_mean_relative_improvement_by_direction(by_hand: pd.DataFrame) -> None:
    board = leaderboard(by_hand)
    # clean: segmentation (20 - 5) / 2 %, depth 50 %; corrupted: 0.
    clean = (7.5 + 50) / 2
    assert row_of(board, "ilt")["delta_m"] == pytest.approx(clean / 2)
    assert row_of(board, "ilt", "clean")["delta_m"] == pytest.approx(clean)
    assert row_of(board, "ilt", "corrupted")["delta_m"] == 0
    assert row_of(board, "equal")["delta_m"] == 0


def test_improvement_counts_pairs_of_runs_and_wins_count_cells(by_hand: pd.DataFrame) -> None:
    row = row_of(leaderboard(by_hand), "ilt")
    # clean: 3 of 4 pairs of mIoU, none of accuracy, all of depth; corrupted: ties.
    clean = (0.75 / 2 + 1) / 2
    assert row["improvement"] == pytest.approx((clean + 0.5) / 2)
    assert (row["wins"], row["ties"], row["losses"]) == (2, 3, 1)


def test_the_baseline_is_not_held_against_itself(by_hand: pd.DataFrame) -> None:
    row = row_of(leaderboard(by_hand), "equal")
    empty = ["improvement", "wins", "ties", "losses", "p_value", "effect_size"]
    assert row[empty].isna().all()


def test_another_strategy_can_be_the_baseline(by_hand: pd.DataFrame) -> None:
    board = leaderboard(by_hand, baseline="ilt")
    # 50 from 60, 80 from 76, 0.2 from 0.1.
    segmentation = (-100 / 6 + 100 * 4 / 76) / 2
    assert row_of(board, "equal", "clean")["delta_m"] == pytest.approx((segmentation - 100) / 2)


# --- tests and intervals --------------------------------------------------------------------------


def test_p_values_are_those_of_scipy_over_suites_and_seeds_corrected_by_holm() -> None:
    results = many({"equal": 50, "ilt": 51, "mtu": 50.3}, seeds=4)
    board = leaderboard(results)
    p = {}
    for strategy in ("ilt", "mtu"):
        differences = []
        for (suite, _), unit in results.groupby(["suite", "seed"]):
            whole = results[results["suite"] == suite]
            score = 0.0
            for (variant, name), cell in unit.groupby(["variant", "metric"]):
                of = cell.set_index("strategy")["value"]
                same = whole[(whole["variant"] == variant) & (whole["metric"] == name)]
                size = same[same["strategy"].isin(["equal", strategy])]["value"].mean()
                sign = -1 if name == "abs_err" else 1
                weight = {"miou": 0.25, "accuracy": 0.25, "abs_err": 0.5}[name] / 2
                score += weight * sign * (of[strategy] - of["equal"]) / size
            differences.append(score)
        assert len(differences) == 8
        p[strategy] = stats.wilcoxon(differences).pvalue
    low, high = sorted(p, key=p.__getitem__)
    adjusted = {low: 2 * p[low], high: max(p[high], 2 * p[low])}
    for strategy, expected in adjusted.items():
        assert row_of(board, strategy)["p_value"] == pytest.approx(min(1, expected))


def test_three_seeds_of_a_suite_are_said_to_be_too_few_instead_of_a_p_value() -> None:
    board = leaderboard(many({"equal": 50, "ilt": 60, "mtu": 40}, seeds=3, suites=1))
    assert board.table["p_value"].isna().all()
    assert (
        "3 units: too few for any of 2 tests against EQUAL to reject at 5 %; 7 are needed"
        in board.notes["all"]
    )


def test_friedman_ranks_strategies_inside_every_unit() -> None:
    results = many({"equal": 50, "ilt": 52, "mtu": 48}, seeds=4)
    test = leaderboard(results).friedman["all"]
    scores = []
    for _, unit in results.groupby(["suite", "seed"]):
        score = dict.fromkeys(test.strategies, 0.0)
        for (_, name), cell in unit.groupby(["variant", "metric"]):
            values = cell.set_index("strategy")["value"].loc[test.strategies]
            places = stats.rankdata(values if name == "abs_err" else -values)
            for strategy, place in zip(test.strategies, places, strict=True):
                score[strategy] += {"abs_err": 2}.get(name, 1) * place
        scores.append(list(score.values()))
    assert test.units == 8
    assert test.statistic == pytest.approx(stats.friedmanchisquare(*np.transpose(scores)).statistic)


def test_intervals_hold_the_estimate_and_are_those_of_the_seed_given() -> None:
    results = many({"equal": 50, "ilt": 50.5, "mtu": 50.2}, seeds=5)
    one, same, other = (leaderboard(results, seed=seed).table for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, same)
    assert not one["rank_low"].equals(other["rank_low"])
    for name, ends in (("mean_rank", "rank"), ("delta_m", "delta_m")):
        assert (one[f"{ends}_low"] <= one[name]).all()
        assert (one[name] <= one[f"{ends}_high"]).all()
    assert (one["delta_m_low"] < one["delta_m_high"]).sum() > 0


@pytest.mark.parametrize("count", [2, 5, 9])
def test_identical_strategies_tie_in_every_resample(count: int) -> None:
    results = many({"equal": 50}, seeds=7)
    twins = [results.assign(strategy=f"twin-{i}", label=f"Twin {i}") for i in range(1, count)]
    table = leaderboard(pd.concat([results, *twins], ignore_index=True)).table
    assert (table[["mean_rank", "rank_low", "rank_high"]] == (count + 1) / 2).all().all()


def test_a_single_seed_has_no_interval_and_says_so() -> None:
    board = leaderboard(many({"equal": 50, "ilt": 51}, seeds=1, suites=1))
    assert board.table[["rank_low", "delta_m_high"]].isna().all().all()
    assert "no intervals: a single seed of suite-0 clean, depth@0.4" in board.notes["all"]


def test_permuting_the_rows_changes_nothing() -> None:
    results = many({"equal": 50, "ilt": 51, "mtu": 49}, seeds=3)
    expected = leaderboard(results)
    for state in range(3):
        shuffled = results.sample(frac=1, random_state=state, ignore_index=True)
        board = leaderboard(shuffled)
        pd.testing.assert_frame_equal(board.table, expected.table)
        assert board.notes == expected.notes


# --- scopes ---------------------------------------------------------------------------------------


def test_scopes_divide_the_runs_by_kind_suite_and_stage() -> None:
    board = leaderboard(many({"equal": 50, "ilt": 51, "mtu": 49, "pcgrad": 48}, seeds=2))
    assert board.scopes == [
        "all", "clean", "corrupted", "suite:suite-0", "suite:suite-1",
        "stage:instance", "stage:loss", "stage:gradient",
    ]  # fmt: skip
    assert list(board.table.columns) == LEADERBOARD_COLUMNS
    inside = board.table[board.table["scope"] == "stage:gradient"]
    assert set(inside["strategy"]) == {"equal", "pcgrad"}


def test_a_scope_that_would_be_all_again_is_left_out() -> None:
    results = many({"equal": 50, "mtu": 51}, seeds=2, suites=1)
    assert leaderboard(results[results["variant"] == "clean"]).scopes == ["all"]


def test_runs_are_ranked_without_loading_torch_or_ray() -> None:
    code = (
        "import sys; from mtlbench import leaderboard, load_results, render_leaderboard; "
        "render_leaderboard(leaderboard(load_results(reference=True))); "
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)


def test_a_failed_run_decides_neither_label_nor_stage() -> None:
    results = frame(
        run("ilt", NAN, 0, status="failed", metric=None, label="A", stage=""),
        run("ilt", 1.0, 1, label="ILT Params"),
    )
    row = row_of(leaderboard(results), "ilt")
    assert (row["label"], row["stage"]) == ("ILT Params", "instance")


# --- missing runs ---------------------------------------------------------------------------------


def test_a_strategy_that_misses_runs_is_not_averaged_and_says_what_it_misses() -> None:
    results = many({"equal": 50, "ilt": 51, "mtu": 49}, seeds=2)
    gone = (results["strategy"] == "ilt") & (results["suite"] == "suite-1")
    gone |= (
        (results["strategy"] == "mtu") & (results["seed"] == 1) & (results["variant"] == "clean")
    )
    board = leaderboard(results[~gone])
    ilt, mtu = row_of(board, "ilt"), row_of(board, "mtu")
    assert not ilt["complete"]
    assert ilt["missing"] == "no runs: suite-1 clean, depth@0.4"
    assert mtu["missing"] == "seed 1 missing: suite-0 clean, suite-1 clean"
    averaged = ["mean_rank", "rank_low", "rank_high", "delta_m", "delta_m_low", "delta_m_high"]
    averaged += ["flat_rank", "drop", "p_value", "effect_size"]
    assert ilt[averaged].isna().all()
    assert mtu[averaged].isna().all()
    assert (ilt["cells"], row_of(board, "equal")["cells"]) == (6, 12)
    assert row_of(board, "ilt", "suite:suite-0")["complete"]
    assert row_of(board, "equal")["mean_rank"] == 1, "ranked among the complete ones"


def test_diverged_runs_and_values_that_are_not_finite_make_a_strategy_incomplete() -> None:
    results = frame(
        *(run("equal", 50.0 + seed, seed) for seed in range(2)),
        run("mtu", 51.0, 0),
        run("mtu", 52.0, 1, status="diverged"),
        run("dwa", 51.0, 0),
        run("dwa", INFINITE, 1),
        run("gls", NAN, 0),
        run("gls", 50.0, 1),
    )
    board = leaderboard(results)
    assert row_of(board, "mtu")["missing"] == "seed 1 diverged: streets clean"
    infinite = "miou of segmentation not finite in seed 1: streets clean"
    assert row_of(board, "dwa")["missing"] == infinite
    assert row_of(board, "gls")["missing"] == infinite.replace("1", "0")
    assert f"incomplete: DWA ({infinite})" in board.notes["all"]


def test_incomplete_strategies_come_last_by_their_rating() -> None:
    results = many({"equal": 50, "mtu": 49, "ilt": 48, "dwa": 53, "gls": 30}, seeds=3)
    gone = results["strategy"].isin(["ilt", "dwa", "gls"]) & (results["suite"] == "suite-1")
    rows = leaderboard(results[~gone]).table
    rows = rows[rows["scope"] == "all"]
    assert list(rows["strategy"]) == ["equal", "mtu", "dwa", "ilt", "gls"]
    assert rows["elo"].notna().all()
    assert rows["elo"].iloc[2] > 1000, "it wins more often than the one that is ranked first"
    assert list(rows["coverage"]) == [1, 1, 0.5, 0.5, 0.5]
    assert (rows["elo_low"] <= rows["elo"]).all()
    assert (rows["elo"] <= rows["elo_high"]).all()


def test_an_incomplete_strategy_is_held_against_the_baseline_where_both_have_results() -> None:
    results = frame(
        run("equal", {"miou": 50, "abs_err": 0.2}, 0),
        run("equal", {"miou": 52, "abs_err": 0.2}, 1),
        run("equal", {"miou": 90, "abs_err": 0.9}, 0, "depth@0.4"),
        run("equal", {"miou": 90, "abs_err": 0.9}, 1, "depth@0.4"),
        run("ilt", {"miou": 51, "abs_err": NAN}, 0),
        run("mtu", {"miou": 10, "abs_err": 0.9}, 2),
    )
    board = leaderboard(results)
    # Seed 0 of miou is all that they share, which ilt wins, though equal's mean is as high.
    ilt, mtu = row_of(board, "ilt"), row_of(board, "mtu")
    assert (ilt["wins"], ilt["ties"], ilt["losses"], ilt["improvement"]) == (1, 0, 0, 1)
    assert mtu[["wins", "ties", "losses", "improvement", "elo"]].isna().all()
    assert board.win_shares["all"].loc["ilt", "equal"] == 1
    assert np.isnan(board.win_shares["all"].loc["mtu", "equal"])
    assert any(note.startswith("no Elo of MTU:") for note in board.notes["all"])


def test_a_baseline_that_misses_runs_is_still_held_against_where_it_has_them() -> None:
    results = many({"equal": 50, "ilt": 51, "mtu": 49}, seeds=3)
    gone = (results["strategy"] == "equal") & (results["suite"] == "suite-1")
    board, alone = leaderboard(results[~gone]), leaderboard(results, suites=["suite-0"])
    for strategy in ("ilt", "mtu"):
        row, same = row_of(board, strategy), row_of(alone, strategy)
        compared = ["improvement", "wins", "ties", "losses"]
        assert list(row[compared]) == pytest.approx(list(same[compared]))
        assert np.isnan(row["delta_m"])
    assert row_of(board, "equal")["elo"] == 1000
    assert any(note.startswith("EQUAL is incomplete: no Δm") for note in board.notes["all"])


def test_a_variant_that_one_strategy_alone_has_takes_no_interval_from_the_ratings() -> None:
    results = many({"equal": 50, "ilt": 51, "mtu": 49}, seeds=3)
    more = frame(run("ilt", 50.0, variant="x@0.1", suite="suite-0"))
    board = leaderboard(pd.concat([results, more], ignore_index=True))
    note = "no intervals of mean rank and Δm: a single seed of suite-0 x@0.1"
    assert note in board.notes["all"]
    assert row_of(board, "mtu")["elo_low"] < row_of(board, "mtu")["elo"]
    without = leaderboard(results)
    for strategy in ("equal", "ilt", "mtu"):
        same = row_of(without, strategy)["elo"]
        assert row_of(board, strategy)["elo"] == pytest.approx(same)


def test_win_shares_of_two_strategies_add_up_and_weigh_variants_alike() -> None:
    results = frame(
        *(run("equal", 50.0, seed) for seed in range(2)),
        *(run("ilt", 49.0 + seed, seed) for seed in range(2)),
        *(run("equal", 50.0, seed, "depth@0.4") for seed in range(4)),
        *(run("ilt", 60.0, seed, "depth@0.4") for seed in range(4)),
    )
    shares = leaderboard(results).win_shares["all"]
    assert shares.loc["ilt", "equal"] == pytest.approx((0.25 + 1) / 2)
    assert shares.loc["equal", "ilt"] == pytest.approx((0.75 + 0) / 2)


def test_one_that_wins_all_is_rated_and_named() -> None:
    board = leaderboard(frame(*(run("equal", 1.0, s) for s in (0, 1)), run("ilt", 2.0, 0)))
    assert 1100 < row_of(board, "ilt")["elo"] < 1600
    assert any(note.startswith("ILT won every comparison:") for note in board.notes["all"])
    assert "no interval of the Elo of ILT: in some variant a single seed" in board.notes["all"]


def test_the_seeds_of_a_baseline_that_is_not_rated_make_no_interval() -> None:
    singles = [run("single", 50.0 + seed, seed) for seed in range(3)]
    results = frame(*singles, run("equal", 50.0), run("mtu", 51.0))
    board = leaderboard(results, baseline="single")
    assert np.isfinite(row_of(board, "mtu")["elo"])
    assert board.table[["elo_low", "elo_high"]].isna().all().all()


def test_variants_that_only_some_strategies_have_are_named() -> None:
    results = many({"equal": 50, "ilt": 51, "mtu": 49}, seeds=2, suites=1)
    results = results[(results["strategy"] != "mtu") | (results["variant"] == "clean")]
    notes = leaderboard(results).notes["all"]
    assert "3 strategies are complete without suite-0 depth@0.4" in notes
    results = many({"equal": 50, "ilt": 51, "mtu": 49}, seeds=2)
    here = (results["suite"] == "suite-0") & (results["variant"] == "clean")
    notes = leaderboard(results[(results["strategy"] == "equal") | here]).notes["all"]
    assert "3 strategies are complete on only suite-0 clean" in notes


def test_detection_is_no_cell() -> None:
    results = frame(run("equal", 50.0), run("ilt", 51.0))
    found = results.tail(1).assign(metric="detection_accuracy", task="depth", value=99.0)
    board = leaderboard(pd.concat([results, found], ignore_index=True))
    assert row_of(board, "equal")["complete"]
    assert row_of(board, "ilt")["cells"] == 1


def test_a_baseline_of_zero_leaves_its_cell_out_of_delta_m_by_name() -> None:
    results = frame(
        *(run("equal", {"miou": 50, "abs_err": 0.0}, seed) for seed in range(2)),
        *(run("ilt", {"miou": 55, "abs_err": 0.1}, seed) for seed in range(2)),
    )
    board = leaderboard(results)
    row = row_of(board, "ilt")
    assert row["delta_m"] == pytest.approx(10)
    assert row["mean_rank"] == 1.5, "its rank counts"
    note = "Δm leaves out abs_err of depth in streets clean, where EQUAL is 0"
    assert note in board.notes["all"]


# --- little to rank -------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "results",
    [
        frame(run("equal", 50.0)),
        frame(run("mtu", 50.0)),
        frame(run("equal", 50.0), run("mtu", 51.0)),
        frame(*(run("mtu", 50.0 + seed, seed) for seed in range(3))),
        frame(run("equal", NAN), run("ilt", INFINITE)),
        frame(run("equal", NAN, status="diverged", metric=None), run("ilt", 1.0, variant="x@0.4")),
        frame(*(run(name, NAN, status="diverged", metric=None) for name in ("equal", "ilt"))),
        frame(run("equal", 0.0, 0), run("equal", 0.0, 1), run("mtu", 1.0, 0), run("mtu", 2.0, 1)),
    ],
)
def test_little_to_rank_makes_a_partial_table(results: pd.DataFrame, format: str) -> None:
    text = render_leaderboard(leaderboard(results), format)
    assert "nan" not in text.lower()
    assert "inf" not in text.lower()


def test_without_its_baseline_a_board_says_so_and_ranks() -> None:
    board = leaderboard(many({"mtu": 50, "ilt": 60}, seeds=2, suites=1))
    assert board.notes["all"][1].startswith("the baseline 'equal' has no runs")
    assert row_of(board, "ilt")["mean_rank"] == 1
    assert board.table["delta_m"].isna().all()


def test_a_baseline_with_settings_has_to_be_named_with_them() -> None:
    results = frame(
        run("equal", 50.0, settings="epochs=2"),
        run("equal", 60.0, settings="epochs=9", hash="other"),
    )
    notes = leaderboard(results).notes["all"]
    assert any("stands for equal[epochs=2], equal[epochs=9]" in note for note in notes)
    board = leaderboard(results, baseline="equal[epochs=2]")
    assert row_of(board, "equal[epochs=9]")["delta_m"] == pytest.approx(20)


def test_an_empty_directory_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no runs to rank"):
        leaderboard(tmp_path)


def test_runs_of_another_schema_version_are_left_out_and_named(tmp_path: Path) -> None:
    write_run(tmp_path, metric(50.0), abs_err(0.1), strategy="equal")
    write_run(tmp_path, metric(51.0), abs_err(0.2), detection(99.0), strategy="ilt")
    other = write_run(tmp_path, metric(52.0), strategy="mtu")
    info = json.loads((other / "run.json").read_text()) | {"schema_version": 99}
    (other / "run.json").write_text(json.dumps(info))
    results = load_results(tmp_path)
    assert "schema version 99" in results.attrs["damaged"][0][1]
    assert set(leaderboard(results).table["strategy"]) == {"equal", "ilt"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"suites": ["suite0"]}, "unknown suite 'suite0'; did you mean 'suite-0'"),
        ({"variants": ["claen"]}, "unknown variant 'claen'; did you mean 'clean'?"),
        ({"strategies": ["equall"]}, "unknown strategy 'equall'; did you mean 'equal'?"),
        ({"baseline": "mtuu"}, "unknown baseline 'mtuu'; did you mean 'mtu'?"),
    ],
)
def test_an_unknown_name_gets_the_nearest_known_one(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        leaderboard(many({"equal": 50, "mtu": 51}, seeds=1), **asked)
    assert message in str(error.value)


def test_asking_for_strategies_keeps_the_baseline() -> None:
    results = many({"equal": 50, "ilt": 51, "mtu": 49}, seeds=2)
    assert set(leaderboard(results, strategies=["mtu"]).table["strategy"]) == {"equal", "mtu"}


# --- formats --------------------------------------------------------------------------------------


def test_the_table_shows_estimates_with_intervals_and_what_is_incomplete() -> None:
    results = many({"equal": 50, "ilt": 60, "mtu": 40}, seeds=6, suites=1)
    results = results[(results["strategy"] != "mtu") | (results["seed"] != 3)]
    text = render_leaderboard(leaderboard(results))
    lines = text.splitlines()
    assert lines[0] == "Leaderboard: all runs (1 of 2)"
    ilt = next(line for line in lines if line.startswith("  ILT"))
    assert "1.00 [1.00, 1.00]" in ilt
    assert "0.031" in ilt, "the one test that is left, of six pairs"
    assert any(line.startswith("  EQUAL (baseline)") for line in lines)
    below = lines[lines.index("Leaderboard: all runs, incomplete") + 3]
    assert below.split()[:2] == ["MTU", "83"], "five of six seeds"
    assert "incomplete: MTU (seed 3 missing: suite-0 clean, depth@0.4)" in text


def test_strategies_with_the_same_gaps_are_named_together_below_the_table() -> None:
    levels = {"equal": 50, "ilt": 60} | {f"s{number}": 40 for number in range(6)}
    results = many(levels, seeds=2, suites=1)
    lacking = results["strategy"].str.startswith("s") & (results["seed"] == 1)
    lines = render_leaderboard(leaderboard(results[~lacking])).splitlines()
    assert "2 of 8 complete" in lines
    below = lines.index("Leaderboard: all runs, incomplete") + 3
    assert {line.split()[0] for line in lines[below : below + 6]} == {f"S{i}" for i in range(6)}
    assert any(line.startswith("incomplete: S0, S1, S2, S3, S4, S5 (seed 1") for line in lines)


def test_csv_and_json_hold_exactly_the_promised_columns() -> None:
    board = leaderboard(many({"equal": 50, "ilt": 51}, seeds=2))
    rows = list(csv.DictReader(io.StringIO(render_leaderboard(board, "csv"))))
    records = json.loads(render_leaderboard(board, "json"))
    assert list(rows[0]) == list(records[0]) == LEADERBOARD_COLUMNS
    assert len(rows) == len(records) == len(board.table)
    first = board.table.iloc[0]
    assert float(rows[0]["delta_m"]) == records[0]["delta_m"] == first["delta_m"]
    assert rows[0]["wins"] == str(records[0]["wins"]) == str(first["wins"])
    baseline = next(record for record in records if record["strategy"] == "equal")
    assert baseline["p_value"] is None


def test_names_cannot_break_a_table() -> None:
    results = frame(run("equal", 1.0), run("mtu", 2.0, label="a|b <i>_x_ 50% &\n{z}"))
    board = leaderboard(results)
    assert r"a\|b &lt;i&gt;\_x\_ 50% &amp; \{z\}" in render_leaderboard(board, "github")
    assert r"a\textbar{}b \textless{}i\textgreater{}\_x\_ 50\% \&" in render_leaderboard(
        board, "latex"
    )
    assert "a|b &lt;i&gt;_x_ 50% &amp;" in render_leaderboard(board, "html")


def test_latex_has_no_letter_that_it_cannot_print() -> None:
    text = render_leaderboard(leaderboard(many({"equal": 50, "ilt": 51, "mtu": 49}, 3)), "latex")
    assert r"$\Delta$m (\%)" in text
    assert text.isascii()


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(UserError, match="unknown format 'markdwon'"):
        render_leaderboard(leaderboard(frame(run("equal", 1.0))), "markdwon")


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_ends_with_one_newline(format: str) -> None:
    text = render_leaderboard(leaderboard(many({"equal": 50, "mtu": 51}, seeds=2)), format)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize("format", FORMATS)
def test_where_no_strategy_is_complete_those_that_can_be_compared_are_rated(format: str) -> None:
    names = [f"s{number}" for number in range(8)]
    results = frame(
        *(run(name, 1.0, 0, suite="digits") for name in names),
        *(run(f"other-{name}", 1.0, 0, suite="streets") for name in names),
    )
    text = render_leaderboard(leaderboard(results, baseline="s0"), format)
    if format not in ("csv", "json"):
        assert "0 of 16 complete" in text
        assert "Leaderboard: all runs, incomplete" in text
        assert "no Elo of OTHER" in text


# --- single-task networks -----------------------------------------------------------------------


def beside_single() -> pd.DataFrame:
    return frame(
        *(run("single", {"miou": 50.0 + s, "abs_err": 0.2}, s) for s in range(3)),
        *(run("equal", {"miou": 45.0 + s, "abs_err": 0.1}, s) for s in range(3)),
        *(run("mtu", {"miou": 40.0 + s, "abs_err": 0.3}, s) for s in range(3)),
    )


def test_single_task_networks_are_not_ranked() -> None:
    with_them = leaderboard(beside_single())
    results = beside_single()
    without = leaderboard(results[results["strategy"] != "single"])
    pd.testing.assert_frame_equal(with_them.table, without.table)
    assert with_them.notes == without.notes


def test_single_task_networks_as_the_baseline_have_no_rating() -> None:
    board = leaderboard(beside_single(), baseline="single")
    assert np.isnan(row_of(board, "single")["elo"])
    ratings = [row_of(board, name)["elo"] for name in ("equal", "mtu")]
    assert np.mean(ratings) == pytest.approx(1000)
    alone = row_of(leaderboard(beside_single()), "mtu")["elo"]
    assert ratings[1] - ratings[0] == pytest.approx(alone - 1000)


def test_single_task_networks_as_the_baseline_stand_first_without_a_rank() -> None:
    board = leaderboard(beside_single(), baseline="single")
    table = board.table[board.table["scope"] == "all"].set_index("strategy")
    assert list(table.index) == ["single", "equal", "mtu"]
    assert np.isnan(table["mean_rank"]["single"])
    assert list(table["mean_rank"][["equal", "mtu"]]) == [1.0, 2.0]
    # miou 46 and 41 against 51; abs_err 0.1 and 0.3 against 0.2.
    assert table["delta_m"]["equal"] == pytest.approx((100 * -5 / 51 + 50) / 2)
    assert table["delta_m"]["mtu"] == pytest.approx((100 * -10 / 51 - 50) / 2)
    rows = [line for line in render_leaderboard(board).splitlines() if "SINGLE" in line]
    assert "SINGLE (baseline)" in rows[0]


def test_friedmans_test_is_that_of_the_strategies_that_are_ranked() -> None:
    others = [
        run(name, {"miou": 40.0 + 3 * k + (s * k) % 4}, s)
        for k, name in enumerate(("equal", "mtu", "ilt", "dwa", "gls"))
        for s in range(6)
    ]
    single = [run("single", {"miou": 44.0 + s}, s) for s in range(6)]
    board = leaderboard(frame(*others, *single), baseline="single")
    alone = leaderboard(frame(*others))
    assert set(board.friedman["all"].strategies) == {"equal", "mtu", "ilt", "dwa", "gls"}
    assert board.friedman["all"].statistic == alone.friedman["all"].statistic
    assert "Friedman's test of 5 strategies" in render_leaderboard(board)


def test_nothing_but_single_task_networks_cannot_be_ranked() -> None:
    results = beside_single()
    with pytest.raises(UserError, match="no runs to rank"):
        leaderboard(results[results["strategy"] == "single"])


# --- as Nash-MTL's tables have it ---------------------------------------------------------------


def test_the_drop_weighs_all_metrics_alike_and_is_negative_where_better() -> None:
    results = frame(
        run("equal", {"miou": 50.0, "accuracy": 80.0, "abs_err": 0.2}),
        run("mtu", {"miou": 55.0, "accuracy": 84.0, "abs_err": 0.3}),
    )
    row = row_of(leaderboard(results), "mtu")
    # 10 % and 5 % better in two metrics of one task, 50 % worse in the one of the other.
    assert row["drop"] == pytest.approx(-(10 + 5 - 50) / 3)
    assert row["delta_m"] == pytest.approx(((10 + 5) / 2 - 50) / 2)
    assert row["flat_rank"] == pytest.approx((1 + 1 + 2) / 3)
    assert row["mean_rank"] == pytest.approx((1 + 2) / 2)


def test_the_drop_over_variants_is_the_mean_and_leaves_out_a_baseline_of_zero() -> None:
    results = frame(
        run("equal", {"miou": 50.0, "abs_err": 0.0}),
        run("mtu", {"miou": 55.0, "abs_err": 0.3}),
        run("equal", {"miou": 50.0, "abs_err": 0.2}, variant="depth@0.4"),
        run("mtu", {"miou": 40.0, "abs_err": 0.1}, variant="depth@0.4"),
    )
    assert row_of(leaderboard(results), "mtu")["drop"] == pytest.approx((-10 + -(50 - 20) / 2) / 2)


@given(st.permutations(range(6)))
def test_the_order_of_rows_changes_no_number(order: list[int]) -> None:
    runs = [
        run(name, {"miou": 40.0 + 3 * k + s, "abs_err": 0.2 + 0.01 * k * s}, s)
        for k, name in enumerate(("equal", "mtu", "ilt"))
        for s in range(2)
    ]
    board = leaderboard(frame(*(runs[i] for i in order)))
    pd.testing.assert_frame_equal(board.table, leaderboard(frame(*runs)).table)


# --- cost -----------------------------------------------------------------------------------------


def test_the_networks_trained_for_a_result_stand_beside_the_rank(tmp_path: Path) -> None:
    write_run(tmp_path, metric(50.0), strategy="equal")
    tuned(tmp_path, 0.0, 20.0, None, strategy="mtu")
    board = leaderboard(tmp_path)
    found = board.table.set_index("strategy")["networks"]
    assert found["equal"] == 1
    assert found["mtu[tuned]"] == 3
    text = render_leaderboard(board)
    assert "Networks: trained for a result, those of all trials" in " ".join(text.split())
    alone = leaderboard(tmp_path, strategies=["equal"])
    assert "Networks" not in render_leaderboard(alone)


def test_a_tuned_strategy_is_not_ranked_beside_one_of_more_of_its_trials(tmp_path: Path) -> None:
    for variant in ("clean", "depth@0.4"):
        tuned(tmp_path, 0.0, 1.0, variant=variant)
        tuned(tmp_path, 0.0, 1.0, 2.0, variant=variant)
    board = leaderboard(tmp_path)
    assert set(board.table["strategy"]) == {"equal", "equal[tuned, 3 trials]"}
    assert (
        "left out: equal[tuned, 2 trials], which equal[tuned, 3 trials] continues"
        in board.notes["all"]
    )
    named = leaderboard(tmp_path, strategies=["equal", "equal[tuned, 2 trials]"])
    assert "equal[tuned, 2 trials]" in set(named.table["strategy"])


def test_a_tuned_strategy_stays_where_more_trials_were_made_on_some_variants_only(
    tmp_path: Path,
) -> None:
    for variant in ("clean", "depth@0.4"):
        tuned(tmp_path, 0.0, 1.0, variant=variant)
    tuned(tmp_path, 0.0, 1.0, 2.0)
    assert "equal[tuned, 2 trials]" in set(leaderboard(tmp_path).table["strategy"])


def test_with_fewer_seeds_those_are_ranked_that_have_no_more(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, metric(50.0 + seed), strategy="equal", seed=seed)
    write_run(tmp_path, metric(60.0), strategy="mtu", seed=0)
    whole, first = leaderboard(tmp_path), leaderboard(tmp_path, seeds=1)
    assert whole.table.set_index("strategy")["complete"].to_dict() == {"equal": True, "mtu": False}
    assert first.table["complete"].all()
    assert first.table.set_index("strategy").loc["mtu", "delta_m"] == pytest.approx(20)
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(UserError, match="seeds must be at least 1"):
            leaderboard(tmp_path, seeds=wrong)  # type: ignore[arg-type]
