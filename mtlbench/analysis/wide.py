"""A comparison's table as papers have it: strategies in blocks, and beside their metrics what these
come to, what a step costs, and how many trials a strategy had."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.contributions import DELTA_M
from mtlbench.analysis.costs import relative_steps
from mtlbench.analysis.leaderboard import BASELINE
from mtlbench.analysis.leaderboard_tables import scope_title
from mtlbench.analysis.printing import Cell, digits, marked_cells, signed
from mtlbench.analysis.remarks import plural
from mtlbench.analysis.selection import is_apart
from mtlbench.analysis.settings import is_tuned
from mtlbench.analysis.standings import Standings, label, sentences, standings
from mtlbench.analysis.table import Column, Row, Section, Table
from mtlbench.stages import GRADIENT, INSTANCE, LOSS
from mtlbench.tasks.detection import DETECTION

WIDE_COLUMNS = ["block", "flat_rank", "drop", "delta_m", "step", "trials"]

RANK, DROP = Column("MR ↓", direction="min"), Column("Δm% ↓", direction="min")
STEP, TRIALS = Column("Step"), Column("Trials")

SINGLE, EQUAL = "single", "equal"
BLOCKS = (SINGLE, EQUAL, LOSS, GRADIENT, INSTANCE, "")
"""In the order of the table: that of the paper, which has its own strategy last. "" is of those
whose stage no run tells."""


def wide(comparison: Comparison, variant: str) -> pd.DataFrame:
    """The numbers that a wide table has beside those of `comparison.summary`.

    Args:
        comparison: of which; only its metrics count.
        variant: one of its variants.

    Returns:
        A row a strategy, by configuration, in the order of the comparison's table, with the columns
        `WIDE_COLUMNS`:

            block       one of `BLOCKS`: where it stands in the table
            flat_rank   MR, the mean rank over all metrics; 1 is best
            drop        Δm (%) with all metrics weighing the same, negative is better
            delta_m     Δm (%) with all tasks weighing the same, positive is better
            step        time of a training step, relative to `equal`: `costs.relative_steps`
            trials      how many settings a tuning tried, 1 where there was none

        NaN where there is no such number. See `standings` for what the first three rest on.
    """
    return _numbers(comparison, variant, standings(comparison, variant))


def widen(table: Table, comparison: Comparison, variant: str, *, by_mean: bool) -> Table:
    """A comparison's table with these numbers after its metrics, and its rows in blocks.

    A column in which no row has a number is left out.

    Args:
        table: that of the variant.
        comparison: of which.
        variant: which.
        by_mean: whether the table marks the best means, and not what tests cannot tell from the
            best: then ranks and Δm are marked, too.
    """
    if not table.columns:
        return table
    found = standings(comparison, variant)
    numbers = _numbers(comparison, variant, found)
    added = {
        column: cells
        for column, cells in _columns(numbers, found, by_mean).items()
        if any(cell.mean for cell in cells)
    }
    # Behind the metrics, which have a direction, may stand the number of runs.
    place = max(i for i, column in enumerate(table.columns, start=1) if column.direction)
    rows = [
        Row(row.label, [*row.cells[:place], *more, *row.cells[place:]])
        for row, *more in zip(table.rows, *added.values(), strict=True)
    ]
    sections = [
        Section(_heading(block), inside)
        for block in BLOCKS
        if (inside := [rows[i] for i in np.flatnonzero(numbers["block"] == block)])
    ]
    of_variant = comparison.summary[comparison.summary["variant"] == variant]
    detects = bool((of_variant["metric"] == DETECTION).any())
    marks, *remarks = table.notes
    return replace(
        table,
        columns=[*table.columns[:place], *added, *table.columns[place:]],
        sections=sections,
        notes=[marks, *_notes(comparison, found, set(added), detects), *remarks],
        wide=True,
    )


# --- numbers --------------------------------------------------------------------------------------


def _numbers(comparison: Comparison, variant: str, found: Standings) -> pd.DataFrame:
    runs = comparison.runs[comparison.runs["variant"] == variant]
    runs = runs[runs["configuration"].isin(found.strategies)]
    first = runs.drop_duplicates("configuration").set_index("configuration")
    stages = runs.groupby("configuration")["stage"].max()  # a run that failed may not know it
    steps = relative_steps(runs, BASELINE)
    rows = []
    for key in found.strategies:
        tuning = comparison.tunings.get((variant, key))
        untold = None if is_tuned(first["settings"][key]) else 1
        trials = len(tuning.points) if tuning else untold
        rows.append((_block(key, stages[key]), steps[key], trials))
    blocks, own_steps, trials_of = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            "block": blocks,
            "flat_rank": found.flat_rank,
            "drop": found.drop,
            "delta_m": found.delta_m,
            "step": own_steps,
            "trials": pd.array(trials_of, "Int64"),
        },
        pd.Index(found.strategies, name="strategy"),
    )[WIDE_COLUMNS]


def _block(configuration: str, stage: str) -> str:
    if is_apart(configuration):
        return SINGLE
    if configuration.partition("[")[0] == BASELINE:
        return EQUAL
    return stage if stage in BLOCKS else ""


# --- table ----------------------------------------------------------------------------------------


def _columns(numbers: pd.DataFrame, found: Standings, by_mean: bool) -> dict[Column, list[Cell]]:
    columns = {}
    if found.ranked.sum() > 1:
        shown = [digits(value, 2) for value in numbers["flat_rank"]]
        columns[RANK] = _marked(shown, RANK, found, by_mean)
    for column, name in ((DROP, "drop"), (DELTA_M, "delta_m")):
        of_baseline = numbers.index == found.baseline
        # It is not shown, but where it is the best, no other is marked as that.
        shown = [signed(value, 2) for value in numbers[name].mask(of_baseline, 0.0)]
        cells = _marked(shown, column, found, by_mean)
        columns[column] = [
            Cell() if own else cell for own, cell in zip(of_baseline, cells, strict=True)
        ]
    columns[STEP] = [Cell(_times(value)) for value in numbers["step"]]
    if (numbers["trials"].fillna(0) != 1).any():
        shown = ["" if pd.isna(value) else str(value) for value in numbers["trials"]]
        columns[TRIALS] = [Cell(text) for text in shown]
    return columns


def _marked(shown: list[str], column: Column, found: Standings, by_mean: bool) -> list[Cell]:
    if not by_mean:
        return [Cell(text) for text in shown]
    return marked_cells(shown, [""] * len(shown), column.direction, compared=list(found.ranked))


def _times(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}×"


def _heading(block: str) -> str:
    """Rows of single-task networks and equal weights speak for themselves."""
    if block in (SINGLE, EQUAL):
        return ""
    return scope_title(f"stage:{block}") if block else "stage not known"


def _notes(
    comparison: Comparison, found: Standings, shown: set[Column], detects: bool
) -> list[str]:
    told, names, meanings = [], [], []
    if RANK in shown:
        apart = [label(comparison, key) for key in found.strategies if is_apart(key)]
        without = f" (without {', '.join(apart)})" if apart else ""
        names.append(RANK.name)
        meanings.append(f"mean rank of {found.ranked.sum()} rows{without}")
    if DROP in shown:
        names.append(DROP.name)
        meanings.append(f"mean drop relative to {label(comparison, found.baseline)}")
    if names:
        over = f"over {len(found.cells)} {plural('metric', len(found.cells))}"
        over += " (without detection)" * detects
        better = "; a negative drop is better" * (DROP in shown)
        told.append(
            f"{' and '.join(names)} as in Nash-MTL's tables: {' and '.join(meanings)}, {over} that "
            f"all weigh the same{better}"
        )
    if DELTA_M in shown:
        told.append(
            f"{DELTA_M.name}: mean improvement relative to {label(comparison, found.baseline)}, "
            "every task weighing the same, in it every metric; positive is better"
        )
    if STEP in shown:
        told.append(
            f"{STEP.name}: time of a training step of all networks of a run, relative to "
            f"{label(comparison, BASELINE)}; median over runs, each timed by its own evaluations, "
            "so that the load of the machine cancels"
        )
    elif BASELINE not in found.strategies:
        told.append(f"no {STEP.name}: it is relative to {BASELINE}, which has no runs here")
    if TRIALS in shown:
        told.append(f"{TRIALS.name}: settings tried on validation data")
    return [*told, *sentences(comparison, found, "MR and Δm")]
