"""Strategies that see validation labels while they train are marked, wherever they are printed."""

import pandas as pd

from mtlbench.analysis.remarks import remarks_on
from mtlbench.analysis.writers import tex
from mtlbench.cli import catalogue
from mtlbench.strategies.compose import Composition

SENTENCE = "† sees validation labels, which are never corrupted, while it trains"


def remarks(*strategies: str) -> list[str]:
    rows = [
        {
            "configuration": name, "seed": 0, "hash": name, "status": "done", "networks": 1,
            "settings": "", "epoch_rule": "last", "device": "cpu", "task": "a", "metric": "loss",
            "metric_label": "loss", "value": 1.0,
        }
        for name in strategies
    ]  # fmt: skip
    labels = {name: Composition.parse(name).label for name in strategies}
    return remarks_on(pd.DataFrame(rows), labels)


def test_a_table_with_one_of_them_says_what_the_mark_means() -> None:
    assert Composition.parse("l2rw+mtu").label == "L2RW + MTU†"
    assert Composition.parse("ilt+auto-lambda").label.endswith("Auto-Lambda†")
    assert SENTENCE in remarks("equal", "l2rw")
    assert SENTENCE not in remarks("equal", "ilt")


def test_latex_has_the_mark() -> None:
    assert tex("L2RW†") == r"L2RW$^\dagger$"


def test_the_catalogue_marks_them() -> None:
    lines = catalogue.render({}).splitlines()
    marked = [line.split("`")[1] for line in lines if line.startswith("| [`") and ") †" in line]
    assert sorted(marked) == ["auto-lambda", "l2rw", "mw-net", "slgrad"]
