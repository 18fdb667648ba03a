"""A leaderboard as tables, one per scope, and as data."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mtlbench.analysis.leaderboard import Leaderboard
from mtlbench.analysis.printing import Cell, one_line
from mtlbench.analysis.table import Column, Row, Section, Table
from mtlbench.analysis.writers import markdown, sentence_width, wrapped, write
from mtlbench.data.variants import CLEAN

COLUMNS = ["Mean rank", "Δm (%) ↑", "MR", "Δm% ↓", "Better", "W, T, L", "p", "Effect"]
FEW = 5
"""So many incomplete strategies have a row each; of more, the notes alone tell."""

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
        lambda plain: [_table(board, scope, own) for scope in board.scopes],
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


def _table(board: Leaderboard, scope: str, legend: list[str]) -> Table:
    rows = board.table[board.table["scope"] == scope].to_dict("records")
    complete = sum(row["complete"] for row in rows)
    shown = [
        Row(_label(row, board.baseline), [Cell(text) for text in _texts(row, board.baseline)])
        for row in rows
        if row["complete"] or len(rows) - complete <= FEW
    ]
    title = f"Leaderboard: {scope_title(scope)}"
    if not shown:
        heading = f"{complete} of {len(rows)} complete"
        return Table(title, [], [], [heading, *board.notes[scope], *legend])
    return Table(
        title,
        [Column(name) for name in COLUMNS],
        [Section(f"{complete} of {len(rows)} complete", shown)],
        [*board.notes[scope], *legend],
    )


def _label(row: Mapping[Any, Any], baseline: str) -> str:
    label = one_line(row["label"])
    return f"{label} (baseline)" if row["strategy"] == baseline else label


def _texts(row: Mapping[Any, Any], baseline: str) -> list[str]:
    """The cells of one strategy, empty where it has no such number."""
    if not row["complete"]:
        return ["incomplete", *[""] * (len(COLUMNS) - 1)]
    rank = _with_interval(row, "mean_rank", "rank", "z.2f")
    if row["strategy"] == baseline:
        flat = _number(row["flat_rank"], "z.2f")
        return [rank, "", flat, *[""] * (len(COLUMNS) - 3)]
    counted = "" if pd.isna(row["wins"]) else f"{row['wins']}, {row['ties']}, {row['losses']}"
    return [
        rank,
        _with_interval(row, "delta_m", "delta_m", "+z.2f"),
        _number(row["flat_rank"], "z.2f"),
        _number(row["drop"], "+z.2f"),
        _number(row["improvement"], "z.2f"),
        counted,
        "<0.001" if row["p_value"] < 0.001 else _number(row["p_value"], ".3f"),
        _number(row["effect_size"], "+z.2f"),
    ]


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
    return [
        "Mean rank: over cells (a metric of a task in a variant of a suite), of the mean over "
        "seeds",
        f"Δm (%) ↑: mean over cells of the improvement relative to {baseline}, positive is better",
        "In both, every variant of a suite weighs the same, in it every task, in that every "
        "metric; in brackets: 95 % bootstrap intervals over seeds",
        "MR and Δm% ↓: the same two as Nash-MTL's tables have them, with all metrics of a variant "
        "weighing the same and Δm as a drop: negative is better",
        f"Better: how probably a run is better than one of {baseline}; W, T, L: cells won, tied "
        "and lost against it",
        "p: signed-rank test against it over units (a suite with a seed), Holm over the "
        "strategies of a table; effect: the test's rank-biserial correlation",
        "Tests and intervals speak of new seeds on these suites, not of other suites",
    ]
