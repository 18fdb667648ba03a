"""A leaderboard as tables, one or two a scope, and as data."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mtlbench.analysis.leaderboard import Leaderboard
from mtlbench.analysis.printing import Cell, one_line
from mtlbench.analysis.table import Column, Row, Section, Table
from mtlbench.analysis.writers import markdown, sentence_width, wrapped, write
from mtlbench.data.variants import CLEAN

NETWORKS = "Networks"
COLUMNS = ["Mean rank", "Elo", "Δm (%) ↑", "Better", "W, T, L", "p", "Effect", "MR", "Δm% ↓"]
INCOMPLETE_COLUMNS = ["Values (%)", "Elo", "Better", "W, T, L"]

TITLES = {"all": "all runs", CLEAN: "clean labels", "corrupted": "corrupted labels"}


def render_leaderboard(board: Leaderboard, format: str = "table", *, terminal: bool = False) -> str:
    """Writes a leaderboard in one of the `table.FORMATS`.

    Args:
        board: what to write.
        format: one of the formats; `csv` and `json` hold `board.table`.
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.

    Raises:
        UserError: there is no such format.
    """
    legend = _legend(board)
    # Tables in LaTeX and HTML are taken one by one: each explains itself.
    own = legend if format in ("latex", "html") else []
    text = write(
        format,
        lambda plain: [table for scope in board.scopes for table in _tables(board, scope, own)],
        board.table,
        terminal=terminal,
    )
    below = ". ".join(legend) + "."
    if format == "table":
        return "\n".join([text, *wrapped(below, width=sentence_width(terminal)), ""])
    return f"{text}\n{markdown(below)}\n" if format == "github" else text


def scope_title(scope: str) -> str:
    """ "all runs", "suite digits", "instance stage"."""
    what, _, name = scope.partition(":")
    if not name:
        return TITLES[scope]
    return f"suite {name}" if what == "suite" else f"{name} stage"


def _tables(board: Leaderboard, scope: str, legend: list[str]) -> list[Table]:
    """One of the strategies that are complete, and one of the others, which have fewer numbers."""
    rows = board.table[board.table["scope"] == scope].to_dict("records")
    complete = [row for row in rows if row["complete"]]
    # Of what has no result in the scope, the notes alone tell.
    others = [row for row in rows if not row["complete"] and row["coverage"]]
    title = f"Leaderboard: {scope_title(scope)}"
    counted = f"{len(complete)} of {len(rows)} complete"
    notes = [*board.notes[scope], *legend]
    if not complete:
        tables = [Table(title, [], [], [counted, *notes])]
    else:
        shown = [Row(_label(row, board.baseline), _cells(row, board.baseline)) for row in complete]
        columns = [Column(name) for name in COLUMNS]
        if any(row["networks"] > 1 for row in rows):
            columns.insert(1, Column(NETWORKS))
            for row, cells in zip(complete, shown, strict=True):
                cells.cells.insert(1, Cell(f"{row['networks']}"))
        tables = [Table(title, columns, [Section(counted, shown)], notes)]
    if others:
        shown = [Row(_label(row, board.baseline), _shared(row, board.baseline)) for row in others]
        columns = [Column(name) for name in INCOMPLETE_COLUMNS]
        tables.append(Table(f"{title}, incomplete", columns, [Section("", shown)], []))
    return tables


def _label(row: Mapping[Any, Any], baseline: str) -> str:
    label = one_line(row["label"])
    return f"{label} (baseline)" if row["strategy"] == baseline else label


def _cells(row: Mapping[Any, Any], baseline: str) -> list[Cell]:
    """The cells of a strategy that is complete, empty where it has no such number."""
    is_baseline = row["strategy"] == baseline
    return [
        Cell(_with_interval(row, "mean_rank", "rank", "z.2f")),
        _elo(row, baseline),
        Cell("" if is_baseline else _with_interval(row, "delta_m", "delta_m", "+z.2f")),
        *_against(row),
        Cell("<0.001" if row["p_value"] < 0.001 else _number(row["p_value"], ".3f")),
        Cell(_number(row["effect_size"], "+z.2f")),
        Cell(_number(row["flat_rank"], "z.2f")),
        Cell("" if is_baseline else _number(row["drop"], "+z.2f")),
    ]


def _shared(row: Mapping[Any, Any], baseline: str) -> list[Cell]:
    """The cells of a strategy that is incomplete, of what it shares with others."""
    share = max(1, math.floor(100 * row["coverage"]))  # never all, and never nothing
    return [Cell(f"{share}"), _elo(row, baseline), *_against(row)]


def _elo(row: Mapping[Any, Any], baseline: str) -> Cell:
    if row["strategy"] == baseline:  # it is 1000, not found to be
        return Cell(_number(row["elo"], ".0f"))
    return Cell(_with_interval(row, "elo", "elo", ".0f"))


def _against(row: Mapping[Any, Any]) -> list[Cell]:
    """How often it is better than the baseline, over runs and over cells."""
    counted = "" if pd.isna(row["wins"]) else f"{row['wins']}, {row['ties']}, {row['losses']}"
    return [Cell(_number(row["improvement"], "z.2f")), Cell(counted)]


def _with_interval(row: Mapping[Any, Any], value: str, ends: str, form: str) -> str:
    text = _number(row[value], form)
    if pd.isna(row[f"{ends}_low"]) or not text:
        return text
    return f"{text} [{row[f'{ends}_low']:{form}}, {row[f'{ends}_high']:{form}}]"


def _number(value: float, form: str) -> str:
    return "" if pd.isna(value) else f"{value:{form}}"


def _legend(board: Leaderboard) -> list[str]:
    """What the columns are."""
    baseline = board.labels.get(board.baseline, board.baseline)
    several = bool((board.table["networks"] > 1).any())
    shared = (
        "Incomplete strategies are compared on the cells and seeds that they share with another, "
        "and nothing is said of what they miss; Values (%): the share of all values that they have"
    )
    return [
        "Mean rank: over cells (a metric of a task in a variant of a suite), of the mean over "
        "seeds",
        "Elo: rating by which strategy wins of which on the cells and seeds that both have, 400 "
        f"points for 10 wins in 11; {baseline} is 1000, or the mean where it has none",
        *([f"{NETWORKS}: trained for a result, those of all trials where it was tuned"] * several),
        f"Δm (%) ↑: mean over cells of the improvement relative to {baseline}, positive is better",
        "In all three, every variant of a suite weighs the same, in it every task, in that every "
        "metric; in brackets: 95 % bootstrap intervals over seeds",
        f"Better: how probably a run is better than one of {baseline}; W, T, L: cells won, tied "
        "and lost against it",
        "p: signed-rank test against it over units (a suite with a seed), Holm over the "
        "strategies of a table; effect: the test's rank-biserial correlation",
        "MR and Δm% ↓: mean rank and Δm as Nash-MTL's tables have them, with all metrics of a "
        "variant weighing the same and Δm as a drop: negative is better",
        *([] if board.table["complete"].all() else [shared]),
        "Tests and intervals speak of new seeds on these suites, not of other suites",
    ]
