"""The committed reference studies are whole, and what the project says of them is so."""

import sys
from pathlib import Path

import pytest
from conftest import run_mtlbench

from mtlbench.analysis.aggregate import compare
from mtlbench.analysis.tables import render
from mtlbench.store import Store, read_run

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


@pytest.mark.parametrize("suite", ["digits", "streets", "bodies"])
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
