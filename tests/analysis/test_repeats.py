"""Own runs held against the reference results: what is told, and how often wrongly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import here, reference_defaults
from scipy import stats
from synthetic_runs import metric, write_run

from mtlbench.analysis import reference, repeats
from mtlbench.analysis.aggregate import compare
from mtlbench.analysis.statistics import two_sample
from mtlbench.store.runs import RunRecord, Store
from mtlbench.store.table import write_table

MTU = [run for run in reference_defaults() if run["spec"]["strategy"] == "mtu"]
DIGITS = [run for run in MTU if run["spec"]["suite"] == "digits"]
ALL_SAME = "5 of 5 runs that the reference results have too came out the same to the last digit"


def put(root: Path, info: dict[str, Any], **changes: Any) -> None:
    """Writes a run as the reference results have it, or changed."""
    Store(root).write(RunRecord({**info, "tasks": [], **changes}, {"epoch": []}))


def altered(info: dict[str, Any], alter: Callable[[float], float]) -> list[dict[str, Any]]:
    """Its metrics with other values."""
    return [{**metric, "value": alter(metric["value"])} for metric in info["metrics"]]


def remarks(root: Path, variant: str = "clean", **asked: Any) -> list[str]:
    return compare(root, "digits", reference=True, **asked).remarks[variant]


# --- what is told -------------------------------------------------------------------------------


def test_runs_with_the_same_bits_are_said_to_be_the_same_and_nothing_else(tmp_path: Path) -> None:
    for info in DIGITS:
        put(tmp_path, info)
    for variant in ("clean", "left@0.4"):
        told = [text for text in remarks(tmp_path, variant) if text.startswith("MTU: ")]
        assert told == []
        assert remarks(tmp_path, variant)[-1] == ALL_SAME


def test_other_bits_within_what_seeds_do_are_told_to_be_that(tmp_path: Path) -> None:
    for info in DIGITS:
        put(tmp_path, info, metrics=altered(info, lambda value: value * (1 + 1e-6)))
    assert remarks(tmp_path)[-2:] == [
        ALL_SAME.replace("5 of", "0 of", 1),
        "none of 3 means differs from the reference results by more than seeds do (t-tests, Holm, "
        "5 %)",
    ]


def test_a_mean_further_off_than_seeds_are_is_named_with_both_numbers(tmp_path: Path) -> None:
    clean = [info for info in DIGITS if info["spec"]["variant"] == "clean"]
    for info in clean:
        first, *others = altered(info, lambda value: value)
        put(tmp_path, info, metrics=[{**first, "value": first["value"] - 20}, *others])
    (told,) = [text for text in remarks(tmp_path) if text.startswith("MTU: ")]
    theirs = np.array([info["metrics"][0]["value"] for info in clean])
    p = 3 * stats.ttest_ind(theirs, theirs - 20).pvalue  # Holm: the smallest of three
    assert told == (
        "MTU: Acc. of left differs from the reference results by more than seeds do: "
        f"{theirs.mean() - 20:.2f} ± {theirs.std(ddof=1):.2f} here, {theirs.mean():.2f} ± "
        f"{theirs.std(ddof=1):.2f} there (t-test, Holm-adjusted p = {p:.2g})"
    )


def test_seeds_that_the_reference_lacks_are_held_against_it_too(tmp_path: Path) -> None:
    clean = [info for info in DIGITS if info["spec"]["variant"] == "clean"]
    for info in clean:
        spec = {**info["spec"], "seed": info["spec"]["seed"] + 10}
        values = altered(info, lambda value: value + 50)
        put(tmp_path, info, spec=spec, hash=info["hash"][::-1], metrics=values)
    told = remarks(tmp_path)
    assert sum("differs from the reference results by more" in text for text in told) == 3
    assert not any("last digit" in text for text in told), "no spec is in both"


def test_a_single_own_run_is_held_against_several_reference_runs(tmp_path: Path) -> None:
    put(tmp_path, DIGITS[0], metrics=altered(DIGITS[0], lambda value: value + 50))
    assert any(text.startswith("MTU: Acc. of left differs") for text in remarks(tmp_path))


def test_only_the_metrics_asked_for_are_tested_but_all_of_a_run_must_be_the_same(
    tmp_path: Path,
) -> None:
    for info in DIGITS:
        *same, last = info["metrics"]
        put(tmp_path, info, metrics=[*same, {**last, "value": last["value"] + 9}])
    told = remarks(tmp_path, metrics=["accuracy"])
    assert told[-2].startswith("0 of 5 runs")
    assert told[-1].startswith("none of 2 means differs")


def test_a_variant_without_the_metric_asked_for_is_left_out(tmp_path: Path) -> None:
    for info in reference_defaults():
        if (info["spec"]["suite"], info["spec"]["strategy"]) == ("digits", "ilt"):
            put(tmp_path, info, metrics=altered(info, lambda value: value + 1e-9))
    asked = {"metrics": ["detection_accuracy"]}
    found = compare(tmp_path, "digits", reference=True, **asked).remarks  # type: ignore[arg-type]
    assert list(found) == ["left@0.4"]
    assert found["left@0.4"][-1].startswith("none of 1 mean differs")


def test_nothing_is_said_of_strategies_and_settings_that_the_reference_lacks(
    tmp_path: Path,
) -> None:
    write_run(tmp_path, metric(1.0, "accuracy", "left"), suite="digits", strategy="mine")
    for info in DIGITS:
        spec = {**info["spec"], "suite_parameters": {**info["spec"]["suite_parameters"], "lr": 1.0}}
        values = altered(info, lambda value: value - 50)
        put(tmp_path, info, spec=spec, hash=info["hash"][::-1], metrics=values)
    told = " ".join(remarks(tmp_path))
    assert "reference" not in told


def test_without_the_reference_nothing_is_said_of_it(tmp_path: Path) -> None:
    for info in DIGITS:
        put(tmp_path, info)
    found = compare(tmp_path, "digits").remarks
    assert found == {key: ["metrics after the last epoch"] for key in ("clean", "left@0.4")}


def test_of_many_differences_the_clearest_are_named_and_the_others_counted(tmp_path: Path) -> None:
    clean = [run for run in reference_defaults() if run["spec"]["suite"] == "digits"]
    for info in clean:
        if info["spec"]["variant"] == "clean" and info["spec"]["strategy"] in ("mtu", "equal"):
            put(tmp_path, info, metrics=altered(info, lambda value: value + 90))
    told = [text for text in remarks(tmp_path) if "more than seeds do" in text]
    assert len(told) == repeats.MOST + 1
    assert told[-1] == "and 1 more means differ by more than seeds do"


def test_the_command_line_says_it_under_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for info in DIGITS:
        put(tmp_path / "runs", info)
    command = ["compare", "digits", "--reference", "--strategies", "mtu", "--variants", "clean"]
    ended = here([*command, "--results", tmp_path / "runs"], capsys)
    assert ended.status == 0
    assert ALL_SAME in ended.out.splitlines()


# --- how often wrongly --------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "theirs"), [(3, 3), (1, 3), (5, 3), (2, 9)])
def test_the_test_is_that_of_scipy(ours: int, theirs: int) -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        one, other = generator.normal(0, 1, ours), generator.normal(1, 2, theirs)
        assert two_sample(one, other) == pytest.approx(stats.ttest_ind(one, other).pvalue)


def test_values_without_a_spread_differ_only_where_both_sides_have_several() -> None:
    same, off = np.full(3, 100.0), np.full(2, 99.0)
    assert two_sample(same, same) == 1
    assert two_sample(same, off) == 0
    assert np.isnan(two_sample(same, off[:1])), "one value of a metric that is full says nothing"
    assert np.isnan(two_sample(same[:1], off[:1]))


@pytest.mark.parametrize("shared", [0.0, 0.8], ids=["apart", "seeds in common"])
def test_runs_that_only_chance_tells_apart_are_told_in_at_most_5_percent_of_comparisons(
    shared: float,
) -> None:
    """Ten strategies with three metrics; what a seed has in common is shared by both places."""
    generator = np.random.default_rng(0)
    rows = pd.DataFrame(
        [
            {
                "variant": "clean", "configuration": f"s{s}", "seed": seed, "status": "done",
                "hash": f"{s}-{seed}", "metric": f"m{m}", "metric_label": f"M{m}", "task": "t",
            }
            for s in range(10)
            for seed in range(3)
            for m in range(3)
        ]
    )  # fmt: skip
    told = 0
    for _ in range(100):
        common = generator.normal(size=len(rows))
        here, there = (
            rows.assign(
                value=shared**0.5 * common + (1 - shared) ** 0.5 * generator.normal(size=len(rows))
            )
            for _ in range(2)
        )
        found = repeats.repeats(here, there)["clean"]
        assert (found.shared, found.same, found.tested) == (30, 0, 30)
        told += bool(found.differing)
    assert told <= 9  # 5 expected at most; more than 9 of 100 has probability 0.03


def test_a_shift_of_many_deviations_is_told() -> None:
    generator = np.random.default_rng(0)
    base = {"variant": "clean", "configuration": "s", "status": "done", "task": "t"}
    rows = pd.DataFrame(
        [
            base | {"seed": s, "hash": str(s), "metric": f"m{m}", "metric_label": f"M{m}"}
            for s in range(3)
            for m in range(3)
        ]
    )
    here = rows.assign(value=generator.normal(size=9))
    there = rows.assign(value=generator.normal(size=9) + 30 * (rows["metric"] == "m1"))
    (pair,) = repeats.repeats(here, there)["clean"].differing
    assert (pair.metric, pair.configuration) == ("M1", "s")


def test_where_both_sides_have_one_run_it_is_said_to_be_too_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table([DIGITS[0]], tmp_path / "one.parquet")
    monkeypatch.setattr(reference, "TABLE", tmp_path / "one.parquet")
    put(tmp_path / "runs", DIGITS[0], metrics=altered(DIGITS[0], lambda value: value + 1))
    assert remarks(tmp_path / "runs")[-1] == (
        "too few runs to tell whether they differ by more than seeds do"
    )
