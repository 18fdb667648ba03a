"""The expected best of n trials as tables, one per variant."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.budget import SPREAD, budgets, budgets_shown, tunings_of
from mtlbench.analysis.printing import MISSING, Cell, decimals, one_line
from mtlbench.analysis.table import Column, Section, Table
from mtlbench.analysis.writers import writer_of
from mtlbench.errors import unknown
from mtlbench.store.trials import Tuning

BUDGET_FORMATS = ("table", "github", "latex", "html")
"""Those of `table.FORMATS` in which `compare` shows budgets: in the others, every row is a mean."""


def render_budgets(comparison: Comparison, format: str = "table", *, terminal: bool = False) -> str:
    """Writes the tables of a comparison, below one another; "" where no strategy was tuned.

    Args:
        comparison: of which.
        format: one of `BUDGET_FORMATS`.
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.

    Raises:
        UserError: there is no such format.
    """
    if format not in BUDGET_FORMATS:
        raise unknown("format", format, BUDGET_FORMATS)
    written = [writer_of(format, terminal)(table) for table in build_budgets(comparison)]
    return "\n\n".join(written) + "\n" * bool(written)


def build_budgets(comparison: Comparison) -> list[Table]:
    """A table for each variant with strategies that were tuned: a row each, by number of trials.

    Nothing in them is marked as best: all trials have one seed, so there is nothing to test by.
    """
    rows = budgets(comparison)
    return [_table(comparison, str(name), of) for name, of in rows.groupby("variant", sort=False)]


def _table(comparison: Comparison, variant: str, rows: pd.DataFrame) -> Table:
    tunings = tunings_of(comparison, variant)
    labels = {key: one_line(comparison.labels[key]) for key in tunings}
    places = max(1, decimals(rows["expected"], rows["high"] - rows["low"]))
    texts = {
        (row["strategy"], row["trials"]): _text(row, places) for row in rows.to_dict("records")
    }
    counts = [len(tuning.trials) for tuning in tunings.values()]
    shown = budgets_shown(counts)
    columns = [Column(str(count), "Trials") for count in shown]
    cells = [[Cell(texts.get((key, count), "")) for key in tunings] for count in shown]
    notes = [
        "expected best Δm (%) of n trials, which are the default parameters and n − 1 of the "
        "others: over the default Eq. Weight, on validation data, one seed",
        f"in parentheses: the {_percent(SPREAD[0])}th to the {_percent(SPREAD[1])}th percentile "
        "over all ways to draw these others, not over seeds",
    ]
    if any(tuning.networks > 1 for tuning in tunings.values()):
        columns.append(Column("Networks"))
        cells.append([Cell(str(tuning.networks)) for tuning in tunings.values()])
        notes.append("Networks: how many each trial trains")
    if len(set(counts)) > 1:
        notes.append(f"{MISSING} at the end of a row: so many were not tried")
    notes += _failures(tunings, labels)
    title = one_line(f"{comparison.suite}: {variant}, best of n trials")
    sections = [Section.of_columns("", list(labels.values()), cells)]
    return Table(title, columns, sections, notes, "Strategy")


def _text(row: Mapping[Any, Any], places: int) -> str:
    """ "+3.2 (+1.0 to +4.5)"; empty where there is no mean."""
    mean, low, high = (f"{row[name]:+z.{places}f}" for name in ("expected", "low", "high"))
    if pd.isna(row["expected"]):
        return ""
    return mean if row["low"] == row["high"] else f"{mean} ({low} to {high})"


def _percent(share: float) -> str:
    return f"{100 * share:g}"


def _failures(tunings: Mapping[str, Tuning], labels: Mapping[str, str]) -> Iterator[str]:
    """Sentences about trials without a score."""
    lost = {
        key: f"{labels[key]} {scores.count(None)} of {len(scores)}"
        for key, tuning in tunings.items()
        if None in (scores := [trial.score for trial in tuning.trials])
    }
    if lost:
        yield (
            "trials that did not end well are drawn like the others and never the best: "
            f"{', '.join(lost.values())}"
        )
    first = [labels[key] for key in lost if tunings[key].trials[0].score is None]
    if first:
        yield (
            f"among them are the default parameters of {', '.join(first)}: no number until one of "
            "n trials is sure to have ended well"
        )
