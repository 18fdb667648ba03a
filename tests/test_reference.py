"""The reference results are whole, and what the project says of them is so."""

import itertools
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import here

from mtlbench.analysis.aggregate import compare_results
from mtlbench.analysis.label_errors.scores import DETECTORS
from mtlbench.analysis.reference import TABLE, TUNINGS, reference_runs, reference_tunings
from mtlbench.analysis.results import load_results
from mtlbench.analysis.tables import render
from mtlbench.spec import RunSpec
from mtlbench.store.runs import RunRecord, Store
from mtlbench.store.table import read_table, read_tunings
from mtlbench.strategies.base import strategies
from mtlbench.study.plan import plan
from mtlbench.suites.bodies import Bodies
from mtlbench.suites.census import Census
from mtlbench.suites.compounds import Compounds
from mtlbench.suites.streets import Streets
from mtlbench.suites.yeast import Yeast

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "results" / "reference"
sys.path.insert(0, str(ROOT / "benchmarks"))

import central_table  # noqa: E402 (a script, not a package)
import claims  # noqa: E402


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    return load_results((), reference=True)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is one in which there are no runs."""
    monkeypatch.chdir(tmp_path)


def test_the_package_has_every_reference_run_once_and_done() -> None:
    runs = reference_runs()
    assert len({run["hash"] for run in runs}) == len(runs)
    assert {run["status"] for run in runs} == {"done"}
    assert all(run["metrics"] and run["timings"]["train_seconds"] > 0 for run in runs)


NOT_ON_BODIES = {"auto-lambda", "l2rw", "modo", "mw-net", "pivrg", "samo"}
"""Strategies that came after the runs there, until these are made anew."""

FOUND = {"pivrg"}
"""Strategies with parameters that are found in runs of others, which are not at hand."""

NOT_TUNED = {
    "auto-lambda", "evolution", "l2rw", "modo", "mw-net", "pivrg", "samo", "single", "slgrad"
}  # fmt: skip


def test_every_strategy_was_run_on_digits_and_the_papers_on_all_suites() -> None:
    defaults = [
        run["spec"]
        for run in reference_runs()
        if run["hash"] in _default_hashes() or run["spec"]["strategy"] in FOUND
    ]
    seeds = {(spec["suite"], spec["variant"], spec["strategy"], spec["seed"]) for spec in defaults}
    everyone = [entry.name for entry in strategies.entries()]
    by_then = [name for name in everyone if name not in NOT_ON_BODIES]
    wanted = {
        *product(["digits"], ["clean", "left@0.4"], everyone, range(5)),
        *product(["streets"], Streets.default_variants, claims.PAPER, range(3)),
        *product(["streets"], Streets.default_variants, everyone, range(1)),
        *product(["bodies"], Bodies.default_variants, claims.PAPER, range(3)),
        *product(["bodies"], Bodies.default_variants, by_then, range(1)),
        *product(["yeast"], Yeast.default_variants, everyone, range(3)),
        *product(["census"], Census.default_variants, claims.PAPER, range(3)),
        *product(["census"], Census.default_variants, everyone, range(1)),
        *product(["compounds"], Compounds.default_variants, claims.PAPER, range(3)),
        *product(["compounds"], ["clean"], everyone, range(1)),
        *product(["qm9"], ["clean"], claims.PAPER, range(3)),
    }
    assert wanted <= seeds


@cache
def _default_hashes() -> frozenset[str]:
    """Of the runs with default parameters, as this version would train them."""
    studies = [plan(suite) for suite in ("streets", "bodies", "census", "compounds", "qm9")]
    options: dict[str, Any] = {"strategies": ["all"], "found_by": lambda spec: None}
    one_seed = ("streets", "bodies", "census", "compounds")
    studies += [plan(suite, seeds=1, **options) for suite in one_seed]
    studies += [plan("digits", seeds=5, **options), plan("yeast", **options)]
    return frozenset(spec.hash for study in studies for spec in study)


def test_the_strategies_of_the_central_result_had_the_same_budget() -> None:
    tuned = {
        (t.suite, t.variant, t.strategy): t
        for t in reference_tunings()
        if t.defaults["suite_parameters"]["epoch_rule"] == "last"
    }
    everyone = {entry.name for entry in strategies.entries()} - NOT_TUNED
    hashes = {run["hash"] for run in reference_runs()}
    for suite, variants, seeds in (
        ("digits", ["clean", "left@0.4"], 5),
        ("yeast", Yeast.default_variants, 3),
    ):
        for variant, strategy in product(variants, sorted(everyone)):
            tuning = tuned[suite, variant, strategy]
            assert len(tuning.trials) == 8
            assert tuning.seeds == [*range(seeds)]
            assert set(tuning.runs) <= hashes


def test_the_table_is_small_and_part_of_the_package() -> None:
    assert TABLE.stat().st_size < 200_000
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert data["package-data"]["mtlbench.analysis.reference"] == [TABLE.name, TUNINGS.name]


def test_the_table_can_be_made_again_of_run_directories(tmp_path: Path) -> None:
    runs = [run for run in reference_runs() if run["spec"]["seed"] == 0]
    for i, run in enumerate(runs):
        Store(tmp_path / str(i % 2)).write(RunRecord({**run, "tasks": []}, {"epoch": []}))
    script = [sys.executable, str(ROOT / "benchmarks" / "reference.py")]
    command = [*script, str(tmp_path / "0"), str(tmp_path / "1"), "--out", str(tmp_path / "t")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment)
    assert read_table(tmp_path / "t" / TABLE.name) == runs
    before = (tmp_path / "t" / TABLE.name).read_bytes()
    (next(Store(tmp_path / "0").run_directories()) / "history.parquet").write_bytes(b"")
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "history.parquet is truncated or was altered" in ended.stderr
    assert (tmp_path / "t" / TABLE.name).read_bytes() == before


def test_later_runs_join_the_table_beside_those_that_it_has(tmp_path: Path) -> None:
    first, *_ = reference_runs()
    elsewhere = [{**metric, "value": 0.5} for metric in first["metrics"]]
    later = {**first, "spec": {**first["spec"], "seed": 99}}
    later["hash"] = RunSpec(**later["spec"]).hash
    for run in ({**first, "metrics": elsewhere}, later):
        Store(tmp_path / "runs").write(RunRecord({**run, "tasks": []}, {"epoch": []}))
    script = [sys.executable, str(ROOT / "benchmarks" / "reference.py"), "--keep"]
    command = [*script, str(tmp_path / "runs"), "--out", str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    made = read_table(tmp_path / TABLE.name)
    assert [run for run in made if run["hash"] != later["hash"]] == reference_runs()
    assert len(made) == len(reference_runs()) + 1
    assert read_tunings(tmp_path / TUNINGS.name) == reference_tunings()


@pytest.mark.parametrize("suite", [*claims.OF_ALL, "qm9"])
def test_the_committed_tables_are_those_of_the_reference_results(
    suite: str, nowhere: None, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", suite, "--reference", "--format", "github"]
    assert (REFERENCE / f"{suite}.md").read_text() == here(command, capsys).out


def test_the_order_of_methods_on_qm9_is_as_the_docs_say(
    nowhere: None, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", "qm9", "--reference", "--against", "fairgrad", "--seeds", "2"]
    page = here([*command, "--format", "github"], capsys).out
    assert (REFERENCE / "qm9_fairgrad.md").read_text() == page
    taus = re.findall(r"^\| (?!Δm)\S+ Abs\. Err\. +\| +12 \| \+(0\.\d\d) ", page, re.M)
    low, *others = sorted(taus)
    number = r"\+(0\.\d\d)"
    (of_delta_m,) = re.findall(
        rf"^\| Δm +\| +12 \| {number} \| +\[{number}, {number}\] ", page, re.M
    )
    told = f"+{others[0]} to +{others[-1]} on ten targets"
    docs = (ROOT / "docs" / "published.md").read_text()
    assert f"τ-b is {told} (p at most 0.04) and +{low} on α" in docs
    assert "By Δm it is +{} [{}, {}] ".format(*of_delta_m) in docs


@pytest.mark.parametrize(
    ("page", "suite", "variant"),
    [
        ("README.md", "digits", "left@0.4"),
        ("docs/findings.md", "streets", "depth@0.4"),
        ("docs/findings.md", "streets", "segmentation@0.4"),
        ("docs/findings.md", "bodies", "pose+shape@0.4"),
    ],
)
def test_pages_show_the_tables_of_the_reference_results(
    page: str, suite: str, variant: str, results: pd.DataFrame
) -> None:
    last = results[results["epoch_rule"] == "last"]
    table = render(compare_results(last, suite, [variant], claims.PAPER), "github")
    parts = re.findall(r"(?:^\|.*\n)+", table + "\n", re.M)
    assert parts
    assert all(part in (ROOT / page).read_text() for part in parts)


def test_the_tables_of_equal_budgets_are_those_of_the_reference_results(
    results: pd.DataFrame,
) -> None:
    table = central_table.central_table(results)
    assert table in (ROOT / "README.md").read_text()
    findings = (ROOT / "docs" / "findings.md").read_text()
    assert table in findings
    assert central_table.regularised_table(results) in findings


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("leaderboard", ["--strategies", ",".join(claims.PAPER)]),
        ("leaderboard_digits", ["--suites", "digits"]),
        (
            "leaderboard_all",
            ["--suites", ",".join(claims.OF_ALL), "--variants", *claims.ALL_ON, "--seeds", "1"],
        ),
    ],
)
def test_the_committed_leaderboards_are_those_of_the_reference_results(
    name: str, options: list[str], nowhere: None, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["leaderboard", "--reference", *options, "--format", "github"]
    assert (REFERENCE / f"{name}.md").read_text() == here(command, capsys).out


def test_the_findings_show_the_leaderboard_of_the_reference_results() -> None:
    first = (REFERENCE / "leaderboard.md").read_text().split("**Leaderboard: clean")[0]
    lines = first.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("|"))
    body = list(itertools.takewhile(lambda line: line.startswith("|"), lines[begin:]))
    assert "\n".join(body) in (ROOT / "docs" / "findings.md").read_text()


def test_the_findings_name_the_bars_that_are_missed_and_no_others(results: pd.DataFrame) -> None:
    told = (ROOT / "docs" / "findings.md").read_text().split("## Bars that were missed")[1]
    held = list(claims.claims(results))
    named = {claim.sentence for claim in held if claim.sentence in told}
    assert named == {claim.sentence for claim in held if not claim.met}


def test_what_is_said_of_the_detectors_is_what_their_comparison_found() -> None:
    """Rows such as "| digits left | 5 | 99.5 / 79.6 | …": AUROC and average precision."""
    suites = {name: pd.read_csv(REFERENCE / f"detectors_{name}.csv") for name in claims.SUITES}
    rows = 0
    for line in (ROOT / "docs" / "suspects.md").read_text().replace("**", "").splitlines():
        labels, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if line.startswith("|") and " / " in line and labels.split()[0] in suites:
            suite, task = labels.partition(",")[0].split()
            found = suites[suite]
            found = found[(found["task"] == task) & (found["corrupted"].round() == float(cells[0]))]
            pattern = found["variant"].str.contains("next-class")
            found = found[pattern if "next class" in labels else ~pattern].set_index("detector")
            for detector, cell in zip(DETECTORS, cells[1:], strict=True):
                if detector in found.index:
                    row = found.loc[detector]
                    assert cell == f"{row['roc_auc']:.1f} / {row['average_precision']:.1f}", line
                else:
                    assert not cell, line
            rows += 1
    assert rows >= 16
