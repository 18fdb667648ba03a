"""Runs read back, told apart and averaged."""

import math
from pathlib import Path

import pandas as pd
import pytest
from synthetic_runs import abs_err, detection, metric, write_run

from mtlbench.analysis.aggregate import SUMMARY_COLUMNS, compare, summarise
from mtlbench.analysis.results import RESULT_COLUMNS, load_results
from mtlbench.analysis.selection import select
from mtlbench.errors import UserError

DIVERGED, FAILED = "diverged", "failed"


def seeds(root: Path, values: list[float], **run: object) -> None:
    for seed, value in enumerate(values):
        write_run(root, metric(value), seed=seed, **run)  # type: ignore[arg-type]


def summary_of(root: Path, **asked: list[str]) -> pd.DataFrame:
    return summarise(load_results(root), "streets", **asked)


# --- mean and standard deviation ----------------------------------------------------------------


def test_the_standard_deviation_is_that_of_a_sample(tmp_path: Path) -> None:
    seeds(tmp_path, [10.0, 12.0, 17.0])
    row = summary_of(tmp_path).iloc[0]
    assert row["mean"] == 13
    assert row["std"] == pytest.approx(math.sqrt((9 + 1 + 16) / 2))
    assert row["n"] == 3


def test_a_single_run_has_a_mean_and_no_standard_deviation(tmp_path: Path) -> None:
    seeds(tmp_path, [51.23])
    row = summary_of(tmp_path).iloc[0]
    assert (row["mean"], row["n"]) == (51.23, 1)
    assert math.isnan(row["std"])


def test_the_first_seeds_are_compared_where_some_strategies_have_more(tmp_path: Path) -> None:
    seeds(tmp_path, [1.0, 3.0, 50.0])
    seeds(tmp_path, [2.0, 6.0], strategy="ilt")
    summary = compare(tmp_path, "streets", seeds=2).summary
    assert summary["mean"].tolist() == [2, 4]
    assert summary["n"].tolist() == [2, 2]
    for wrong in (0, True, 1.5):
        with pytest.raises(UserError, match="seeds must be at least 1, but is"):
            compare(tmp_path, "streets", seeds=wrong)  # type: ignore[arg-type]


def test_columns_are_the_promised_ones(tmp_path: Path) -> None:
    seeds(tmp_path, [1.0, 2.0])
    results = load_results(tmp_path)
    assert list(results.columns) == RESULT_COLUMNS
    assert list(summarise(results, "streets").columns) == SUMMARY_COLUMNS


LAST_EPOCH = "metrics after the last epoch"


def test_a_result_that_is_not_finite_counts_for_nothing_and_is_remarked(tmp_path: Path) -> None:
    write_run(tmp_path, metric(50.0), abs_err(0.01), seed=0)
    write_run(tmp_path, metric(52.0), abs_err(float("inf")), seed=1)
    comparison = compare(tmp_path, "streets")
    assert list(comparison.summary["mean"]) == [51.0, 0.01]
    assert list(comparison.summary["n"]) == [2, 1]
    assert comparison.remarks["clean"] == [
        LAST_EPOCH,
        "Eq. Weight: Abs. Err. of depth is not finite in 1 of 2 runs",
    ]


# --- order --------------------------------------------------------------------------------------


def test_strategies_come_in_the_order_of_the_paper(tmp_path: Path) -> None:
    for strategy in ("ilt+pcgrad", "cagrad", "ilt", "gls", "dwa", "mtu", "equal"):
        write_run(tmp_path, metric(1.0), strategy=strategy)
    assert list(summary_of(tmp_path)["strategy"]) == [
        "equal", "mtu", "dwa", "gls", "cagrad", "ilt", "ilt+pcgrad",
    ]  # fmt: skip


def test_variants_come_clean_first_or_as_asked_for(tmp_path: Path) -> None:
    for variant in ("depth@0.4", "depth@0.2", "clean", "a@0.4"):
        write_run(tmp_path, metric(1.0), variant=variant)
    assert list(summary_of(tmp_path)["variant"]) == ["clean", "a@0.4", "depth@0.2", "depth@0.4"]
    asked = ["depth@0.4", "clean"]
    assert list(summary_of(tmp_path, variants=asked)["variant"]) == asked


def test_settings_are_ordered_as_numbers(tmp_path: Path) -> None:
    for lr in (10.0, 2.0):
        write_run(tmp_path, metric(1.0), strategy="ilt", strategy_parameters={"ilt.lr": lr})
    assert list(summary_of(tmp_path)["strategy"]) == ["ilt[ilt.lr=2.0]", "ilt[ilt.lr=10.0]"]


def test_metrics_keep_the_order_of_the_runs(tmp_path: Path) -> None:
    write_run(tmp_path, abs_err(0.01), metric(1.0), metric(2.0, "accuracy"))
    assert list(summary_of(tmp_path)["metric"]) == ["abs_err", "miou", "accuracy"]


def test_permuting_the_rows_changes_nothing(tmp_path: Path) -> None:
    for strategy in ("ilt", "equal"):
        for variant in ("depth@0.4", "clean"):
            for seed in range(3):
                write_run(
                    tmp_path, metric(seed * 0.1), abs_err(seed**2), variant=variant,
                    strategy=strategy, seed=seed,
                )  # fmt: skip
    results = load_results(tmp_path)
    expected = summarise(results, "streets")
    for state in range(5):
        shuffled = results.sample(frac=1, random_state=state)
        pd.testing.assert_frame_equal(summarise(shuffled, "streets"), expected)


# --- configurations -----------------------------------------------------------------------------


def test_one_configuration_has_no_settings(tmp_path: Path) -> None:
    seeds(tmp_path, [1.0, 2.0], suite_parameters={"epochs": 15}, strategy_parameters={"lr": 1.0})
    assert set(load_results(tmp_path)["settings"]) == {""}


def test_runs_with_other_parameters_are_never_averaged_together(tmp_path: Path) -> None:
    seeds(tmp_path, [10.0, 20.0], suite_parameters={"epochs": 15, "batch_size": 16})
    seeds(tmp_path, [30.0, 40.0], suite_parameters={"epochs": 2, "batch_size": 16})
    summary = summary_of(tmp_path)
    assert dict(zip(summary["strategy"], summary["mean"], strict=True)) == {
        "equal[epochs=2]": 35.0,
        "equal[epochs=15]": 15.0,
    }


def test_suite_parameters_that_differ_between_strategies_are_named(tmp_path: Path) -> None:
    write_run(tmp_path, metric(1.0), strategy="equal", suite_parameters={"epochs": 15})
    write_run(tmp_path, metric(1.0), strategy="ilt", suite_parameters={"epochs": 30})
    assert list(summary_of(tmp_path)["strategy"]) == ["equal[epochs=15]", "ilt[epochs=30]"]


def test_a_recipe_for_each_variant_is_one_configuration(tmp_path: Path) -> None:
    for variant, temperature in (("clean", 0.5), ("segmentation@0.4", 1.8)):
        write_run(
            tmp_path, metric(1.0), variant=variant, strategy="dwa",
            strategy_parameters={"dwa.temperature": temperature},
        )  # fmt: skip
    assert set(load_results(tmp_path)["settings"]) == {""}


def test_a_parameter_that_only_some_runs_have_tells_them_apart(tmp_path: Path) -> None:
    write_run(tmp_path, metric(1.0), strategy="ilt")
    write_run(tmp_path, metric(2.0), strategy="ilt", strategy_parameters={"ilt.lr": 4.0})
    assert list(summary_of(tmp_path)["strategy"]) == ["ilt", "ilt[ilt.lr=4.0]"]


def test_versions_of_a_plugin_are_told_apart(tmp_path: Path) -> None:
    for version in ("ab12", "cd34"):
        write_run(tmp_path, metric(1.0), strategy="mine", sources={"mine.py": version})
    assert list(summary_of(tmp_path)["strategy"]) == [
        "mine[source mine.py=ab12]",
        "mine[source mine.py=cd34]",
    ]


def test_a_suite_from_two_versions_of_a_file_is_told_apart_across_strategies(
    tmp_path: Path,
) -> None:
    write_run(tmp_path, metric(1.0), strategy="equal", sources={"suite.py": "ab"})
    write_run(tmp_path, metric(1.0), strategy="ilt", sources={"suite.py": "cd", "ilt.py": "ef"})
    assert list(summary_of(tmp_path)["strategy"]) == [
        "equal[source suite.py=ab]",
        "ilt[source suite.py=cd]",
    ]


# --- remarks ------------------------------------------------------------------------------------


def test_the_rule_of_the_epoch_is_named_under_a_table(tmp_path: Path) -> None:
    write_run(tmp_path, metric(1.0), strategy="equal", suite_parameters={"epoch_rule": "mean:10"})
    assert compare(tmp_path, "streets").remarks["clean"] == [
        "metrics as the mean over the last 10 epochs"
    ]
    write_run(tmp_path, metric(1.0), strategy="mtu", suite_parameters={"epoch_rule": "best"})
    assert compare(tmp_path, "streets").remarks["clean"] == [
        "Eq. Weight [epoch_rule=mean:10]: metrics as the mean over the last 10 epochs",
        "MTU [epoch_rule=best]: metrics at the best epoch on validation data",
    ]


def test_means_of_runs_from_different_devices_say_so(tmp_path: Path) -> None:
    for seed, device in enumerate(("cpu", "NVIDIA H100", "NVIDIA H100")):
        more = {"device": device}
        write_run(tmp_path, metric(1.0), strategy="equal", seed=seed, more=more)
    (remark,) = [
        r for r in compare(tmp_path, "streets").remarks["clean"] if "different devices" in r
    ]
    assert "(2 on NVIDIA H100, 1 on cpu)" in remark
    write_run(tmp_path / "one", metric(1.0), strategy="equal")
    assert not [r for r in compare(tmp_path / "one", "streets").remarks["clean"] if "dev" in r]


def test_diverged_failed_and_missing_runs_are_counted_in_remarks(tmp_path: Path) -> None:
    seeds(tmp_path, [1.0, 2.0, 3.0], strategy="equal")
    seeds(tmp_path, [1.0, 2.0], strategy="dwa")
    write_run(tmp_path, metric(5.0), strategy="mtu", seed=0)
    write_run(tmp_path, metric(7.0), strategy="mtu", seed=1)
    write_run(tmp_path, metric(99.0), strategy="mtu", seed=2, status=DIVERGED)
    write_run(tmp_path, metric(5.0), strategy="gls", seed=0)
    write_run(tmp_path, strategy="gls", seed=1, status=FAILED)
    comparison = compare(tmp_path, "streets")
    assert comparison.remarks["clean"] == [
        LAST_EPOCH,
        "MTU: 1 of 3 runs diverged",
        "GLS: 1 of 2 runs failed",
        "DWA, GLS: seed 2 missing",
    ]
    means = comparison.summary.set_index("strategy")["mean"]
    assert means["mtu"] == 6.0, "a diverged run contributes no value"


def test_a_strategy_whose_runs_all_diverged_is_a_row_without_values(tmp_path: Path) -> None:
    seeds(tmp_path, [1.0])
    write_run(tmp_path, strategy="mtu", status=DIVERGED)
    row = summary_of(tmp_path).set_index("strategy").loc["mtu"]
    assert row["n"] == 0
    assert math.isnan(row["mean"])


def test_runs_without_metrics_still_appear_among_the_results(tmp_path: Path) -> None:
    write_run(tmp_path, status=FAILED)
    results = load_results(tmp_path)
    assert list(results["status"]) == [FAILED]
    assert results["metric"].isna().all()


def test_only_failed_runs_make_an_empty_summary_with_a_remark(tmp_path: Path) -> None:
    write_run(tmp_path, status=FAILED)
    comparison = compare(tmp_path, "streets")
    assert comparison.summary.empty
    assert comparison.remarks == {"clean": ["Eq. Weight: 1 of 1 run failed"]}


def test_detection_accuracy_is_only_for_strategies_that_have_it(tmp_path: Path) -> None:
    write_run(tmp_path, metric(1.0), strategy="equal", variant="depth@0.4")
    write_run(tmp_path, metric(1.0), detection(99.6), strategy="ilt", variant="depth@0.4")
    summary = summary_of(tmp_path)
    found = summary[summary["metric"] == "detection_accuracy"]
    assert list(found["strategy"]) == ["ilt"]
    assert list(found["task"]) == ["depth"]


# --- damaged and duplicate directories ----------------------------------------------------------


def test_a_damaged_run_is_named_and_not_read(tmp_path: Path) -> None:
    seeds(tmp_path, [1.0, 2.0])
    broken = write_run(tmp_path, metric(90.0), seed=2)
    (broken / "run.json").write_text('{"schema_version": 1, "spec"')
    results = load_results(tmp_path)
    assert sorted(results["seed"]) == [0, 1]
    assert results.attrs["damaged"] == [(str(broken), "run.json is truncated or not JSON")]
    assert compare(tmp_path, "streets").damaged == results.attrs["damaged"]


def test_a_copied_run_directory_is_counted_once(tmp_path: Path) -> None:
    run = write_run(tmp_path, metric(1.0))
    copy = run.with_name(run.name + "-copy")
    copy.mkdir()
    for file in run.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    comparison = compare(tmp_path, "streets")
    assert list(comparison.summary["n"]) == [1]
    assert comparison.damaged == [(str(copy), f"holds the same run as {run}")]


# --- asking for what is not there ---------------------------------------------------------------


def test_an_empty_directory_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        compare(tmp_path, "digits")
    assert str(error.value) == f"no runs of suite 'digits' in '{tmp_path}'"


def test_a_directory_with_other_suites_names_them(tmp_path: Path) -> None:
    seeds(tmp_path, [1.0])
    with pytest.raises(UserError, match=r"no runs of suite 'digits' in .*; it holds .*'streets'"):
        compare(tmp_path, "digits")


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results directory at"):
        load_results(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"suite": "street"}, "unknown suite 'street'; did you mean 'streets'?"),
        ({"suite": "streets", "variants": ["claen"]}, "unknown variant 'claen'; did you mean"),
        ({"suite": "streets", "strategies": ["equall"]}, "unknown strategy 'equall'; did you"),
    ],
)
def test_an_unknown_name_gets_the_nearest_known_one(
    tmp_path: Path, asked: dict[str, object], message: str
) -> None:
    seeds(tmp_path, [1.0])
    with pytest.raises(UserError) as error:
        select(load_results(tmp_path), **asked)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_a_key_without_settings_stands_for_all_of_them(tmp_path: Path) -> None:
    write_run(tmp_path, metric(1.0))
    for lr in (2.0, 4.0):
        write_run(tmp_path, metric(1.0), strategy="ilt", strategy_parameters={"ilt.lr": lr})
    every = summary_of(tmp_path, strategies=["ilt"])
    assert list(every["strategy"]) == ["ilt[ilt.lr=2.0]", "ilt[ilt.lr=4.0]"]
    one = summary_of(tmp_path, strategies=["ilt[ilt.lr=4.0]"])
    assert list(one["strategy"]) == ["ilt[ilt.lr=4.0]"]


def test_a_comparison_can_be_kept_to_certain_runs(tmp_path: Path) -> None:
    seeds(tmp_path, [1.0, 2.0])
    seeds(tmp_path, [3.0], strategy="mtu")
    results = load_results(tmp_path)
    kept = set(results.loc[results["strategy"] == "mtu", "hash"])
    assert list(compare(tmp_path, "streets", hashes=kept).summary["strategy"]) == ["mtu"]
