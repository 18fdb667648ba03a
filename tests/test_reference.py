"""The committed reference studies are whole, and what the project says of them is so."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import run_mtlbench

from mtlbench.analysis.aggregate import compare
from mtlbench.analysis.label_errors.scores import DETECTORS
from mtlbench.analysis.tables import render
from mtlbench.store.runs import Store, read_run

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "results" / "reference"
sys.path.insert(0, str(ROOT / "benchmarks"))

import claims  # noqa: E402 (a script, not a package)

DIGITS = 39 * 2 * 3
"""All strategies on two variants, with three seeds."""

STREETS = 5 * 3 * 3 + 2 * 3 * 3 + 16 * 3
"""The paper's on three variants, equal weights and ILT at three more levels of noise, and those
that weigh by losses and five that weigh by gradients on clean labels."""

BODIES = 5 * 3 * 3


def test_every_reference_run_is_whole_and_done():
    paths = list(Store(REFERENCE).run_directories())
    assert len(paths) == DIGITS + STREETS + BODIES
    assert all(read_run(path, thorough=True).info["status"] == "done" for path in paths)


@pytest.mark.parametrize("suite", claims.SUITES)
def test_the_committed_tables_are_those_of_the_committed_runs(suite):
    command = ["compare", suite, "--results", str(REFERENCE), "--format", "github"]
    assert (REFERENCE / f"{suite}.md").read_text() == run_mtlbench(command).out


@pytest.mark.parametrize(
    ("suite", "variant"),
    [
        ("digits", "left@0.4"),
        ("streets", "depth@0.4"),
        ("streets", "segmentation@0.4"),
        ("bodies", "pose+shape@0.4"),
    ],
)
def test_the_readme_shows_the_tables_of_the_committed_runs(suite, variant):
    table = render(compare(REFERENCE, suite, [variant], claims.PAPER), "github")
    body = [line for line in table.splitlines() if line.startswith("|")]
    assert "\n".join(body) in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "leaderboard",
            [
                *("--strategies", ",".join(claims.PAPER)),
                *("--variants", "clean", "left@0.4", "segmentation@0.4", "depth@0.4"),
                "pose+shape@0.4",
            ],
        ),
        ("leaderboard_digits", ["--suites", "digits"]),
    ],
)
def test_the_committed_leaderboards_are_those_of_the_committed_runs(name, options):
    command = ["leaderboard", "--results", str(REFERENCE), *options, "--format", "github"]
    assert (REFERENCE / f"{name}.md").read_text() == run_mtlbench(command).out


def test_the_readme_shows_the_leaderboard_of_the_committed_runs():
    first = (REFERENCE / "leaderboard.md").read_text().split("**Leaderboard: clean")[0]
    body = [line for line in first.splitlines() if line.startswith("|")]
    assert "\n".join(body) in (ROOT / "README.md").read_text()


def test_the_claims_come_out_as_the_readme_says():
    missed = [claim.sentence for claim in claims.claims(str(REFERENCE)) if not claim.met]
    readme = (ROOT / "README.md").read_text()
    assert all(sentence in readme for sentence in missed)
    assert ("**Not met:**" in readme) == bool(missed)


@pytest.mark.parametrize("page", ["README.md", "docs/suspects.md"])
def test_what_is_said_of_the_detectors_is_what_their_comparison_found(page):
    """Rows such as "| digits left | 5 | 99.5 / 79.6 | …": AUROC and average precision."""
    suites = {name: pd.read_csv(REFERENCE / f"detectors_{name}.csv") for name in claims.SUITES}
    rows = 0
    for line in (ROOT / page).read_text().replace("**", "").splitlines():
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
    assert rows >= 8
