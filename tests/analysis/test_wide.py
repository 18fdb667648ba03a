"""Tables as papers have them, and what every metric adds to Δm, against numbers by hand."""

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import abs_err, detection, metric, tuned, write_run
from typesetting import typeset

from mtlbench.analysis.aggregate import Comparison, compare, compare_results
from mtlbench.analysis.contributions import contributions, contributions_table
from mtlbench.analysis.leaderboard import leaderboard
from mtlbench.analysis.printing import BEST, SECOND
from mtlbench.analysis.results import RESULT_COLUMNS
from mtlbench.analysis.standings import standings
from mtlbench.analysis.table import FORMATS, Table
from mtlbench.analysis.tables import build, render
from mtlbench.analysis.wide import WIDE_COLUMNS, wide
from mtlbench.cli.main import main
from mtlbench.errors import UserError
from mtlbench.store.sealed import sealed

NAN = float("nan")
METRICS = {
    "miou": ("segmentation", "max"),
    "accuracy": ("segmentation", "max"),
    "abs_err": ("depth", "min"),
    "detection_accuracy": ("depth", "max"),
}
STAGES = {"ilt": "instance", "robust": "instance", "pcgrad": "gradient"}
PEOPLE = ("table", "github", "latex", "html")

Values = Mapping[str, float]

THREE: dict[str, Values] = {
    "equal": {"miou": 40.0, "accuracy": 80.0, "abs_err": 0.5},
    "mtu": {"miou": 44.0, "accuracy": 76.0, "abs_err": 0.4},  # +10 %, -5 %, +20 %
    "ilt": {"miou": 50.0, "accuracy": 80.0, "abs_err": 0.6},  # +25 %, 0 %, -20 %
}
SINGLE = {"single": {"miou": 50.0, "accuracy": 80.0, "abs_err": 0.4}}


def rows(
    strategy: str, values: Values, seed: int = 0, variant: str = "clean", **others: Any
) -> list[dict[str, Any]]:
    """The rows of one run."""
    run = {
        "suite": "streets", "variant": variant, "strategy": strategy, "label": strategy.upper(),
        "stage": STAGES.get(strategy, "loss"), "seed": seed, "settings": "", "status": "done",
        "networks": 1, "epoch_rule": "last", "unit": "", "hash": f"{variant}{strategy}{seed}",
        "path": "",
    }  # fmt: skip
    return [
        {
            **run, "metric": name, "metric_label": name, "task": METRICS[name][0],
            "direction": METRICS[name][1], "value": value, **others,
        }
        for name, value in values.items()
    ]  # fmt: skip


def frame(*runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    found = pd.DataFrame([row for run in runs for row in run], columns=RESULT_COLUMNS)
    found.attrs |= {"damaged": [], "tunings": {}}
    return found


def comparison(results: pd.DataFrame, metrics: Sequence[str] | None = None) -> Comparison:
    return compare_results(results, "streets", metrics=metrics)


def of(strategies: Mapping[str, Values], seeds: int = 1) -> pd.DataFrame:
    """Results in which the mean over seeds of every strategy has these values."""
    offsets = np.arange(seeds) - (seeds - 1) / 2
    return frame(
        *(
            rows(strategy, {name: value * (1 + offset / 8) for name, value in values.items()}, seed)
            for strategy, values in strategies.items()
            for seed, offset in enumerate(offsets)
        )
    )


def table(results: Comparison, **options: bool) -> Table:
    return build(results, wide=True, **options)[0]


def shown(found: Table, name: str) -> list[str]:
    """A column's cells."""
    (place,) = [i for i, column in enumerate(found.columns) if column.name == name]
    return [row.cells[place].text for row in found.rows]


def heads(found: Table) -> list[str]:
    return [column.name for column in found.columns]


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [1, 3])
def test_mean_rank_and_both_improvements_are_those_by_hand(seeds: int) -> None:
    numbers = wide(comparison(of(THREE, seeds)), "clean")
    assert list(numbers.columns) == WIDE_COLUMNS
    assert list(numbers.index) == ["equal", "mtu", "ilt"]
    # Two share the first place in accuracy.
    assert numbers["flat_rank"].tolist() == pytest.approx([6.5 / 3, 2.0, 5.5 / 3], rel=1e-12)
    drop = [NAN, -(10 - 5 + 20) / 3, -(25 + 0 - 20) / 3]
    assert numbers["drop"].tolist() == pytest.approx(drop, rel=1e-12, nan_ok=True)
    delta_m = [NAN, ((10 - 5) / 2 + 20) / 2, (25 / 2 - 20) / 2]
    assert numbers["delta_m"].tolist() == pytest.approx(delta_m, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_every_metric_adds_is_that_by_hand_and_sums_to_delta_m(seeds: int) -> None:
    found = contributions(comparison(of(THREE, seeds)), "clean")
    assert list(found.columns) == [
        ("segmentation", "miou"),
        ("segmentation", "accuracy"),
        ("depth", "abs_err"),
        ("", "delta_m"),
    ]
    assert found.loc["mtu"].tolist() == pytest.approx([2.5, -1.25, 10.0, 11.25], rel=1e-12)
    assert found.loc["ilt"].tolist() == pytest.approx([6.25, 0.0, -10.0, -3.75], abs=1e-12)
    assert found.loc["equal"].isna().all()


def test_single_task_networks_are_the_baseline_where_there_are_some() -> None:
    results = comparison(of(SINGLE | THREE))
    numbers = wide(results, "clean")
    assert standings(results, "clean").baseline == "single"
    assert numbers["drop"]["equal"] == pytest.approx((20 + 0 + 25) / 3, rel=1e-12)
    assert numbers["delta_m"]["equal"] == pytest.approx(-(20 / 2 + 25) / 2, rel=1e-12)
    added = contributions(results, "clean").loc["equal"]
    assert added.tolist() == pytest.approx([-5.0, 0.0, -12.5, -17.5], abs=1e-12)
    # Not ranked, and so in nobody's way.
    ranks = [NAN, 6.5 / 3, 2.0, 5.5 / 3]
    assert numbers["flat_rank"].tolist() == pytest.approx(ranks, rel=1e-12, nan_ok=True)
    note = "mean rank of 3 rows (without SINGLE) and mean drop relative to SINGLE, over 3 metrics"
    assert note in " ".join(table(results).notes)


@pytest.mark.parametrize("baseline", ["equal", "single"])
def test_a_leaderboard_of_the_variant_has_the_same_numbers(baseline: str) -> None:
    generator = np.random.default_rng(0)
    names = [baseline, *(name for name in ("equal", "mtu", "pcgrad", "ilt") if name != baseline)]
    runs = [
        rows(name, dict(zip(METRICS, generator.uniform(1, 2, 3), strict=False)), seed)
        for name in names
        for seed in range(3)
    ]
    results = frame(*runs)
    board = leaderboard(results, baseline=baseline).table
    board = board[board["scope"] == "all"].set_index("strategy")
    numbers = wide(comparison(results), "clean").drop(index=baseline)
    for name in ("flat_rank", "drop", "delta_m"):
        assert numbers[name].tolist() == board[name].reindex(numbers.index).tolist()
    added = contributions(comparison(results), "clean").drop(index=baseline)
    sums = added.drop(columns=[("", "delta_m")]).sum(axis=1)
    assert sums.tolist() == pytest.approx(numbers["delta_m"].tolist(), rel=1e-12)


def test_detection_is_in_no_number() -> None:
    runs = [rows(name, values, variant="depth@0.4") for name, values in THREE.items()]
    found = [rows("ilt", {"detection_accuracy": 99.0}, variant="depth@0.4")]
    plain, detecting = comparison(frame(*runs)), comparison(frame(*runs, *found))
    pd.testing.assert_frame_equal(wide(detecting, "depth@0.4"), wide(plain, "depth@0.4"))
    pd.testing.assert_frame_equal(
        contributions(detecting, "depth@0.4"), contributions(plain, "depth@0.4")
    )
    assert "over 3 metrics (without detection)" in " ".join(table(detecting).notes)
    assert "without detection" not in " ".join(table(plain).notes)


def test_only_the_metrics_that_are_shown_count() -> None:
    results = comparison(of(THREE), ["miou", "abs_err"])
    assert wide(results, "clean")["delta_m"]["mtu"] == pytest.approx((10 + 20) / 2, rel=1e-12)
    assert wide(results, "clean")["flat_rank"]["ilt"] == 2.0
    assert contributions(results, "clean").shape == (3, 3)


def test_two_metrics_of_one_label_are_two() -> None:
    results = of(THREE)
    results["metric_label"] = "Error"
    found = contributions(comparison(results), "clean").loc["mtu"]
    assert found.tolist() == pytest.approx([2.5, -1.25, 10.0, 11.25], rel=1e-12)


def test_a_metric_in_which_the_baseline_is_zero_is_left_out_and_named() -> None:
    zero = {name: {**values, "accuracy": 0.0} for name, values in THREE.items()}
    results = comparison(of(zero))
    found = contributions(results, "clean").loc["mtu"]
    assert found.tolist() == pytest.approx([5.0, NAN, 10.0, 15.0], rel=1e-12, nan_ok=True)
    assert wide(results, "clean")["delta_m"]["mtu"] == pytest.approx(15.0, rel=1e-12)
    note = "Δm leaves out accuracy of segmentation, where EQUAL is 0"
    for one in build(results, wide=True, contributions=True):
        assert note in one.notes


@pytest.mark.parametrize("order", range(5))
def test_the_order_of_rows_changes_no_digit(order: int) -> None:
    results = of(SINGLE | THREE | {"pcgrad": {"miou": 41.0, "accuracy": 81.0, "abs_err": 0.3}}, 3)
    draw = random.Random(order)
    shuffled = results.iloc[draw.sample(range(len(results)), len(results))]
    shuffled.attrs = results.attrs
    one, other = comparison(results), comparison(shuffled)
    pd.testing.assert_frame_equal(wide(one, "clean"), wide(other, "clean"), check_exact=True)
    pd.testing.assert_frame_equal(
        contributions(one, "clean"), contributions(other, "clean"), check_exact=True
    )
    options = {"wide": True, "contributions": True}
    assert render(one, **options) == render(other, **options)


# --- what is missing ----------------------------------------------------------------------------


def without(results: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The same results but for the rows that have all these values."""
    matches = np.all([results[name] == value for name, value in where.items()], axis=0)
    return results[~matches]


@pytest.mark.parametrize("lacking", [{"seed": 2}, {"metric": "abs_err", "seed": 1}])
def test_a_strategy_that_misses_a_seed_or_a_metric_has_dashes(lacking: dict[str, Any]) -> None:
    results = comparison(without(of(THREE, 3), strategy="mtu", **lacking))
    numbers = wide(results, "clean")
    assert numbers.loc["mtu", ["flat_rank", "drop", "delta_m"]].isna().all()
    assert contributions(results, "clean").loc["mtu"].isna().all()
    # Of the others two remain: 1.5 twice is of their tie.
    assert numbers["flat_rank"]["ilt"] == pytest.approx((1 + 1.5 + 2) / 3, rel=1e-12)
    assert numbers["delta_m"]["ilt"] == pytest.approx(-3.75, rel=1e-12)
    full, added = build(results, wide=True, contributions=True)
    for name in ("MR ↓", "Δm% ↓", "Δm (%) ↑"):
        assert shown(full, name)[1] == ""
    assert {cell.text for cell in added.rows[0].cells} == {""}
    assert "no MR and Δm where runs or metrics are missing: MTU" in full.notes
    assert "no Δm where runs or metrics are missing: MTU" in added.notes
    assert "–" in render(results, wide=True)


def test_a_value_that_is_not_finite_is_a_missing_one() -> None:
    results = of(THREE, 2)
    results.loc[(results["strategy"] == "ilt") & (results["metric"] == "miou"), "value"] = NAN
    assert wide(comparison(results), "clean").loc["ilt", ["flat_rank", "delta_m"]].isna().all()


def test_without_single_and_equal_there_is_no_improvement_and_that_is_said() -> None:
    results = comparison(without(of(THREE), strategy="equal"))
    full, added = build(results, wide=True, contributions=True)
    assert heads(full)[3:] == ["MR ↓"]
    assert shown(full, "MR ↓") == ["1.67", "1.33"]
    note = "no Δm: there are results of neither single nor equal"
    assert note in full.notes
    assert added.notes == [note]
    assert added.columns == []
    assert "no Step: it is relative to equal, which has no runs here" in full.notes


def test_several_settings_of_equal_are_no_baseline_and_are_named() -> None:
    runs = [rows("equal", THREE["equal"], settings=f"lr={n}", hash=f"equal{n}") for n in (1, 2)]
    results = comparison(frame(*runs, rows("ilt", THREE["ilt"])))
    note = "no Δm: there are results of neither single nor equal, but of equal[lr=1], equal[lr=2]"
    assert note in table(results).notes
    assert list(wide(results, "clean")["block"]) == ["equal", "equal", "instance"]


def test_against_a_baseline_that_is_incomplete_nothing_is_held() -> None:
    results = comparison(without(of(SINGLE | THREE, 2), strategy="single", seed=1))
    full, added = build(results, wide=True, contributions=True)
    assert "Δm (%) ↑" not in heads(full)
    assert "no Δm of any: it is relative to SINGLE" in full.notes
    assert "no Δm of any: it is relative to SINGLE" in added.notes
    assert shown(full, "MR ↓") == ["", "2.17", "2.00", "1.83"]


def test_a_strategy_alone_has_no_rank_and_nothing_to_be_held_against() -> None:
    full, added = build(comparison(of({"equal": THREE["equal"]})), wide=True, contributions=True)
    assert len(full.columns) == 3
    assert added.notes == ["no Δm: there is no strategy but the baseline"]


def test_a_study_in_which_nothing_finished_has_remarks_alone(tmp_path: Path) -> None:
    write_run(tmp_path, status="failed")
    text = render(compare(tmp_path, "streets"), wide=True, contributions=True)
    assert "no run has results" in text
    assert "no Δm: no run has a metric but detection" in text


def test_detection_alone_can_be_shown(tmp_path: Path) -> None:
    write_run(tmp_path, metric(50.0), abs_err(0.5), variant="depth@0.4")
    write_run(
        tmp_path, metric(50.0), abs_err(0.5), detection(99.0), strategy="ilt", variant="depth@0.4"
    )
    results = compare(tmp_path, "streets", metrics=["detection_accuracy"])
    full, added = build(results, wide=True, contributions=True)
    assert heads(full) == ["Detection (%) ↑"]
    assert added.notes == ["no Δm: no run has a metric but detection"]


# --- the table ----------------------------------------------------------------------------------


def test_rows_stand_in_blocks_by_stage_after_single_and_equal() -> None:
    names = ["robust", "pcgrad", "ilt", "single", "gls", "equal", "mtu"]
    results = comparison(of(dict.fromkeys(names, THREE["equal"])))
    found = [(part.heading, [row.label for row in part.rows]) for part in table(results).sections]
    assert found == [
        ("", ["SINGLE"]),
        ("", ["EQUAL"]),
        ("loss stage", ["MTU", "GLS"]),
        ("gradient stage", ["PCGRAD"]),
        ("instance stage", ["ROBUST", "ILT"]),
    ]


def test_a_strategy_of_which_no_run_tells_the_stage_stands_last() -> None:
    runs = [rows(name, values) for name, values in THREE.items()]
    results = comparison(frame(rows("dwa", THREE["mtu"], stage=""), *runs))
    last = table(results).sections[-1]
    assert (last.heading, [row.label for row in last.rows]) == ("stage not known", ["DWA"])


def test_columns_after_the_metrics_are_marked_where_means_are() -> None:
    found = table(comparison(of(THREE)))
    assert heads(found) == ["miou ↑", "accuracy ↑", "abs_err ↓", "MR ↓", "Δm% ↓", "Δm (%) ↑"]
    assert [[cell.text for cell in row.cells[3:]] for row in found.rows] == [
        ["2.17", "", ""],
        ["2.00", "-8.33", "+11.25"],
        ["1.83", "-1.67", "-3.75"],
    ]
    # That of equal weights, which is 0, comes before the last.
    marks = [[cell.rank for cell in row.cells[3:]] for row in found.rows]
    assert marks == [[0, 0, 0], [SECOND, BEST, BEST], [BEST, SECOND, 0]]


def test_where_tests_mark_means_no_rank_is_marked() -> None:
    found = table(comparison(of(THREE, 7)))
    assert {cell.rank for row in found.rows for cell in row.cells[:3]} == {0, BEST}
    assert {cell.rank for row in found.rows for cell in row.cells[3:]} == {0}


def test_the_number_of_runs_stays_the_last_column() -> None:
    found = table(comparison(without(of(THREE, 3), strategy="mtu", seed=2)))
    assert heads(found)[-2:] == ["Δm (%) ↑", "Runs"]
    assert shown(found, "Runs") == ["3", "2", "3"]
    assert "mean ± std over the number of runs in the last column" in found.notes[0]


def test_trials_are_told_where_a_row_is_tuned(tmp_path: Path) -> None:
    write_run(tmp_path, metric(40.0))
    write_run(tmp_path, metric(45.0), strategy="ilt")
    assert "Trials" not in heads(table(compare(tmp_path, "streets")))
    tuned(tmp_path, 0.0, 1.0, 2.0, strategy="mtu")
    results = compare(tmp_path, "streets")
    assert dict(wide(results, "clean")["trials"]) == {
        "equal": 1, "mtu": 1, "mtu[tuned]": 3, "ilt": 1,
    }  # fmt: skip
    assert shown(table(results), "Trials") == ["1", "1", "3", "1"]
    assert "Trials: settings tried on validation data" in table(results).notes


def test_tuned_equal_weights_stand_with_equal_weights(tmp_path: Path) -> None:
    write_run(tmp_path, metric(45.0), strategy="ilt")
    tuned(tmp_path, 0.0, 1.0)
    found = table(compare(tmp_path, "streets")).sections
    assert [[row.label for row in part.rows] for part in found] == [
        ["Eq. Weight", "Eq. Weight (tuned)"],
        ["ILT Params"],
    ]


def test_the_contributions_are_a_table_below_each_variant_without_the_baseline() -> None:
    runs = [
        rows(name, values, variant=variant)
        for name, values in THREE.items()
        for variant in ("clean", "depth@0.4")
    ]
    tables = build(comparison(frame(*runs)), contributions=True)
    assert [each.title for each in tables] == [
        "streets: clean",
        "streets: clean, what each metric adds to Δm",
        "streets: depth@0.4",
        "streets: depth@0.4, what each metric adds to Δm",
    ]
    added = contributions_table(comparison(frame(*runs)), "clean")
    assert added == tables[1]
    assert [(column.group, column.name) for column in added.columns] == [
        ("segmentation", "miou"),
        ("segmentation", "accuracy"),
        ("depth", "abs_err"),
        ("", "Δm (%) ↑"),
    ]
    assert [(row.label, [cell.text for cell in row.cells]) for row in added.rows] == [
        ("MTU", ["+2.50", "-1.25", "+10.00", "+11.25"]),
        ("ILT", ["+6.25", "+0.00", "-10.00", "-3.75"]),
    ]
    assert "a row sums to its Δm" in added.notes[0]


# --- what a step costs --------------------------------------------------------------------------


def timed(root: Path, strategy: str, seed: int, train: float, evaluate: float, **more: Any) -> None:
    timings = {"train_seconds": train, "evaluate_seconds": evaluate}
    parameters = {"epochs": 5, "lr": 0.1} | more.pop("parameters", {})
    write_run(
        root, metric(50.0), strategy=strategy, seed=seed, suite_parameters=parameters,
        more={"timings": timings, "processor": "P", **more},
    )  # fmt: skip


def steps(root: Path) -> dict[str, float]:
    return dict(wide(compare(root, "streets"), "clean")["step"])


def test_a_step_is_timed_by_the_evaluations_of_its_run(tmp_path: Path) -> None:
    for seed, load in enumerate((1.0, 2.0, 6.0)):  # of the machine, at the time
        timed(tmp_path, "equal", seed, 10 * load, 2 * load)
        timed(tmp_path, "pcgrad", seed, 16.2 * load, 2 * load)
    timed(tmp_path, "mtu", 0, 40, 8)
    timed(tmp_path, "single", 0, 30, 6, population={"networks": 3})
    assert steps(tmp_path) == pytest.approx(
        {"single": 3.0, "equal": 1.0, "mtu": 1.0, "pcgrad": 1.62}, rel=1e-12
    )
    found = table(compare(tmp_path, "streets"))
    assert shown(found, "Step") == ["3.00×", "1.00×", "1.00×", "1.62×"]


def test_a_step_is_the_median_over_runs(tmp_path: Path) -> None:
    for seed, (plain, other) in enumerate([(1, 2), (2, 3), (6, 90)]):
        timed(tmp_path, "equal", seed, plain, 1)
        timed(tmp_path, "mtu", seed, other, 1)
    assert steps(tmp_path) == pytest.approx({"equal": 1.0, "mtu": 1.5}, rel=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        {"processor": "Q"},
        {"device": "cuda"},
        {"parameters": {"batch_size": 64}},
        {"parameters": {"channels": 64}},
    ],
    ids=str,
)
def test_other_machines_and_other_networks_are_not_held_against_one_another(
    other: dict[str, Any], tmp_path: Path
) -> None:
    timed(tmp_path, "equal", 0, 10, 2)
    timed(tmp_path, "equal", 1, 10, 2)
    timed(tmp_path, "mtu", 0, 10, 2, **other)
    found = wide(compare(tmp_path, "streets"), "clean")
    assert found["step"].filter(like="mtu").isna().all()


def test_another_learning_rate_takes_the_same_step(tmp_path: Path) -> None:
    tuned(tmp_path, 0.0, 1.0, strategy="mtu")
    for run in tmp_path.rglob("run.json"):
        info = json.loads(run.read_text())
        info["timings"]["evaluate_seconds"] = 0.5
        run.write_bytes(sealed(info))
    timings = {"train_seconds": 2.0, "evaluate_seconds": 0.5}
    write_run(tmp_path, metric(40.0), more={"timings": timings})
    assert steps(tmp_path) == pytest.approx({"equal": 1.0, "mtu": 0.5, "mtu[tuned]": 0.5})


@pytest.mark.parametrize("timings", [{}, {"train_seconds": 1.0}, {"evaluate_seconds": 0.0}])
def test_runs_that_do_not_tell_have_no_column(timings: dict[str, float], tmp_path: Path) -> None:
    for strategy in ("equal", "mtu"):
        write_run(tmp_path, metric(50.0), strategy=strategy, more={"timings": timings})
    assert "Step" not in heads(table(compare(tmp_path, "streets")))


def test_a_record_that_has_gone_since_tells_nothing(tmp_path: Path) -> None:
    timed(tmp_path, "equal", 0, 10, 2)
    timed(tmp_path, "mtu", 0, 10, 2)
    results = compare(tmp_path, "streets")
    shutil.rmtree(tmp_path / "streets" / "clean" / "mtu")
    assert dict(wide(results, "clean")["step"]) == pytest.approx(
        {"equal": 1.0, "mtu": NAN}, nan_ok=True
    )


def test_the_reference_results_tell_what_a_step_costs() -> None:
    results = compare((), "digits", ["clean"], ["equal", "dwa", "pcgrad"], reference=True)
    found = wide(results, "clean")["step"]
    # Measured alone on a machine, with a larger network: 1.0 and 1.7.
    assert found["dwa"] == pytest.approx(1.0, abs=0.1)
    assert 1.5 < found["pcgrad"] < 3


# --- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", PEOPLE)
def test_every_format_for_people_shows_blocks_and_numbers(format: str) -> None:
    text = render(comparison(of(SINGLE | THREE, 2)), format, wide=True, contributions=True)
    text = text.replace("$-$", "-").replace(r"$\Delta$", "Δ")
    for part in ("SINGLE", "loss stage", "instance stage", "2.17", "-17.50", "adds to Δm", "-5.00"):
        assert part in text, part
    assert text.count("<style>") == (format == "html")


@pytest.mark.parametrize("format", [f for f in FORMATS if f not in PEOPLE])
@pytest.mark.parametrize("option", ["wide", "contributions"])
def test_formats_of_data_refuse_both(format: str, option: str) -> None:
    with pytest.raises(UserError, match=f"no --{option} in the format '{format}'"):
        render(comparison(of(THREE)), format, **{option: True})


@pytest.mark.parametrize("width", [1, 2])
def test_latex_has_rules_between_blocks_and_fits_the_text(width: int, tmp_path: Path) -> None:
    runs = [
        {**row, "task": f"{row['task']} {task}"}
        for name, values in (SINGLE | THREE).items()
        for seed in range(2)
        for task in range(width)
        for row in rows(name, values, seed)
    ]
    text = render(comparison(frame(runs)), "latex", wide=True, contributions=True)
    first = text[: text.index(r"\end{table}")]
    assert first.startswith(r"% needs \usepackage{booktabs,graphicx}")
    body = first[first.index(r"\midrule") : first.index(r"\bottomrule")]
    starts = [line.split("&")[0].strip() for line in body.splitlines()]
    assert starts == [
        r"\midrule",
        "SINGLE",
        r"\midrule",
        "EQUAL",
        r"\midrule",
        r"\makebox[0pt][l]{\textit{loss stage}}",
        "MTU",
        r"\midrule",
        r"\makebox[0pt][l]{\textit{instance stage}}",
        "ILT",
    ]
    assert text.count(r"\begin{table}") == 2, "neither is cut"
    typeset(tmp_path, "booktabs,graphicx", text)


# --- the command --------------------------------------------------------------------------------


def printed(
    capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0
) -> tuple[str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit, match=str(status)):
        main(["compare", "streets", *map(str, arguments)])
    out, err = capsys.readouterr()
    return out, err


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for strategy, value in (("equal", 40.0), ("mtu", 44.0), ("ilt", 50.0)):
        write_run(tmp_path, metric(value), abs_err(value / 100), strategy=strategy)
    return tmp_path


@pytest.mark.parametrize("format", PEOPLE)
def test_the_command_prints_what_is_asked_for(
    format: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--results", results, "--format", format)
    for options in ({}, {"wide": True}, {"contributions": True}):
        out, err = printed(capsys, *given, *(f"--{name}" for name in options))
        assert out.strip() == render(compare(results, "streets"), format, **options).strip()
        assert err == ""


@pytest.mark.parametrize(
    ("arguments", "mentions"),
    [
        (["--wide", "--format", "csv"], ["--wide", "'csv'"]),
        (["--contributions", "--format", "json"], ["--contributions", "'json'"]),
        (["--wide", "--contributions", "--format", "csv"], ["--wide or --contributions"]),
        (["--wide", "--against", "ilt"], ["--against ilt", "--wide"]),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    arguments: list[str],
    mentions: list[str],
    results: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, err = printed(capsys, "--results", results, *arguments, status=2)
    assert out == ""
    assert len(err.splitlines()) == 1
    for mention in mentions:
        assert mention in err
