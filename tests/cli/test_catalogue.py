"""The catalogue says of every strategy what it is and where it is from."""

from pathlib import Path

import pytest
from conftest import here, run_mtlbench

from mtlbench.cli import suite_catalogue
from mtlbench.cli.catalogue import card, render
from mtlbench.cli.docstrings import meanings
from mtlbench.registry import Entry
from mtlbench.strategies import LossWeighting
from mtlbench.strategies.base import GRADIENT, strategies
from mtlbench.suites.base import suites

ROOT = Path(__file__).parents[2]
CARDS = [card(entry) for entry in strategies.entries()]
OWN = {"equal", "static", "single"}
"""Without a paper."""


class Described(LossWeighting):
    """A summary.

    What comes before: the equation.

        F = Σ_k a |L_k|
          + b

    What comes
    after.

    Departs from the authors' code: it is
    shorter.

    Doe, Roe: On *Sums*, Journal 1999, Eq. 3.

    Args:
        a: above 0; of
            the paper.
        b, c: others.

    Raises:
        ValueError: never.
    """

    def __init__(self, a: float = 0.5, b: int = 2, c: str = "x") -> None:
        super().__init__()


def test_a_card_has_what_the_docstring_says():
    got = card(Entry("described", Described, "Described", ""))
    assert (got.stage, got.summary) == ("loss", "A summary.")
    assert got.body == (
        "What comes before: the equation.",
        "    F = Σ_k a |L_k|\n      + b",
        "What comes\nafter.",
    )
    assert (got.paper, got.year) == ("Doe, Roe: On *Sums*, Journal 1999, Eq. 3.", 1999)
    assert got.departs == "it is shorter."
    assert [(p.name, p.default, p.meaning) for p in got.parameters] == [
        ("described.a", "0.5", "above 0; of the paper."),
        ("described.b", "2", "others."),
        ("described.c", "x", "others."),
    ]


def test_the_only_parameter_is_described_to_its_end():
    assert meanings("Args:\n    a: above 0; of\n        the paper.") == {
        "a": "above 0; of the paper."
    }


@pytest.mark.parametrize("each", CARDS, ids=lambda each: each.name)
def test_every_strategy_is_described(each):
    assert each.summary.endswith(".")
    assert all(parameter.meaning for parameter in each.parameters)
    if each.name not in OWN:
        assert each.paper, "no paper: Authors: title, venue year."
        assert 1950 < each.year < 2100
        assert any(block.startswith("    ") for block in each.body), "no equation"


@pytest.mark.parametrize("each", CARDS, ids=lambda each: each.name)
def test_every_strategy_is_held_against_an_oracle(each):
    tests = "\n".join(path.read_text() for path in (ROOT / "tests/strategies").glob("test_*.py"))
    assert f"def test_{each.name.replace('-', '_')}_agrees_with_its_oracle" in tests


def test_the_page_names_costs_where_they_were_measured():
    (line,) = [line for line in render({"mgda": 1.25}).splitlines() if "#mgda" in line]
    assert line.endswith(" 1.25× |")
    assert "×" not in next(line for line in render({}).splitlines() if "#mgda" in line)


def test_options_that_all_gradient_weightings_have_are_told_once():
    text = render({})
    assert sum(each.stage == GRADIENT for each in CARDS) > 1
    assert text.count("NAME.on=representation") == 1
    assert "pcgrad.on" not in text


def test_the_committed_page_is_that_of_the_registry():
    printed = run_mtlbench(["list", "strategies", "--format", "github"]).out
    assert (ROOT / "docs" / "strategies.md").read_text() == printed


def test_the_readme_counts_the_strategies():
    assert f"Beside it stand {len(CARDS) - 1} other strategies" in (ROOT / "README.md").read_text()


def test_every_suite_is_described(capsys):
    page = here(["list", "suites", "--format", "github"], capsys).out
    for entry in (entry for entry in suites.entries() if entry.of_package):
        section = page.partition(f"\n## {entry.name}\n")[2].partition("\n## ")[0]
        parameters = section.partition("| parameter ")[2]
        for name in entry.parameters():
            row = next(line for line in parameters.splitlines() if line.startswith(f"| `{name}` "))
            assert len(row.rpartition(" | ")[2].strip(" |")) > 5, f"{entry.name}.{name} has no text"
        assert all(f"`{task.name}`" in section for task in entry.cls().tasks())
        assert all(f"`{variant}`" in section for variant in entry.cls.default_variants)


def test_a_suite_is_told_with_its_network_study_and_tasks():
    page = suite_catalogue.render()
    assert "**Network:** `SmallConvNet`, 44,565 parameters. Two strided convolutions" in page
    study = "(`mtlbench run digits`): variants `clean`, `left@0.4`; strategies `equal`, `mtu`"
    assert study in page
    (row,) = [line for line in page.splitlines() if line.startswith("| `offset` ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == ["regression", "Abs. Err. (px) ↓", "`uniform`, `shuffle`"]


def test_a_catalogue_is_of_strategies_or_of_suites(capsys):
    result = here(["list", "variants", "--format", "github"], capsys)
    assert result.status == 2
    assert "--format github is for one catalogue" in result.err
