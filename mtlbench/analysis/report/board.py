"""The leaderboard for every choice of suite, variant and stage that the page offers."""

import math
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from mtlbench.analysis.leaderboard import leaderboard
from mtlbench.analysis.selection import configured
from mtlbench.data.variants import CLEAN
from mtlbench.errors import UserError

KINDS = (CLEAN, "corrupted")
"""Scopes of a leaderboard that hold some variants."""

SHARED = "shared"
"""Variants on which every strategy was trained, where others are not."""


@dataclass(frozen=True)
class Standing:
    """One strategy of a leaderboard; numbers are NaN where there are none.

    The attributes are the columns of `Leaderboard.table`, beside `place`: its place by mean rank,
    0 where it is not ranked.
    """

    place: int
    strategy: str
    label: str
    stage: str
    cells: int
    coverage: float
    complete: bool
    missing: str
    mean_rank: float
    rank_low: float
    rank_high: float
    elo: float
    elo_low: float
    elo_high: float
    delta_m: float
    delta_m_low: float
    delta_m_high: float
    improvement: float
    wins: float
    ties: float
    losses: float
    p_value: float
    effect_size: float


COLUMNS = [field.name for field in fields(Standing) if field.name != "place"]
NUMBERS = COLUMNS[COLUMNS.index("mean_rank") :]


@dataclass(frozen=True)
class Scope:
    """The leaderboard of one choice.

    Attributes:
        suite: a suite; all where empty.
        variant: a variant, or one of `KINDS`, or `SHARED`; all where empty.
        stage: a stage; all where empty.
        entries: the ranked strategies first.
        notes: sentences about it.
    """

    suite: str
    variant: str
    stage: str
    entries: list[Standing]
    notes: list[str]

    @property
    def variants(self) -> str:
        """The variants, in words."""
        return {
            "": "all variants",
            SHARED: "variants of all strategies",
            "corrupted": "all corrupted",
        }.get(self.variant, self.variant)

    @property
    def ranked(self) -> list[Standing]:
        return [entry for entry in self.entries if entry.place]

    def along(self, rank: float) -> float:
        """The place of a rank between the first and the last, in %."""
        return round(100 * (rank - 1) / max(1, len(self.ranked) - 1), 1)


@dataclass(frozen=True)
class Board:
    """Leaderboards; the first is the comparison of all strategies on all that there is.

    Attributes:
        scopes: one for each choice that can be made.
        baseline: the strategy that others are held against.
        baseline_label: what it is called.
        problem: why there are none; empty where there are.
    """

    scopes: list[Scope]
    baseline: str
    baseline_label: str
    problem: str

    @property
    def suites(self) -> list[str]:
        return list(dict.fromkeys(scope.suite for scope in self.scopes if scope.suite))

    @property
    def variants(self) -> list[tuple[str, str]]:
        """Names and words of the choices of variants."""
        found = {scope.variant: scope.variants for scope in self.scopes}
        return sorted(found.items(), key=lambda item: item[0] not in ("", SHARED, *KINDS))

    @property
    def stages(self) -> dict[str, str]:
        """Of each configuration."""
        return {entry.strategy: entry.stage for s in self.scopes for entry in s.entries}

    @property
    def ranking(self) -> list[str]:
        """All strategies, the best first."""
        return list(dict.fromkeys(e.strategy for s in self.scopes[:1] for e in s.entries))


def boards(results: pd.DataFrame) -> Board:
    """The leaderboards of all choices.

    Args:
        results: rows as from `load_results`.
    """
    suites = list(dict.fromkeys(results["suite"]))
    parts = [("", "", results)] if len(suites) > 1 else []
    for suite in suites:
        rows = results[results["suite"] == suite]
        variants = list(dict.fromkeys(rows["variant"]))
        parts.append((suite, "", rows))
        if len(variants) > 1:
            parts += [(suite, name, rows[rows["variant"] == name]) for name in variants]
    parts = [
        part
        for suite, variant, rows in parts
        for part in (
            (suite, variant, rows),
            *((suite, SHARED, some) for some in _shared(rows) if not variant),
        )
    ]
    scopes: dict[tuple[str, str, str], Scope] = {}
    problem, baseline, label = "", "", ""
    for suite, variant, rows in parts:
        try:
            found = leaderboard(rows)
        except UserError as error:
            problem = problem or str(error)
            continue
        baseline = found.baseline
        label = label or found.labels.get(baseline, "")
        for name, table in found.table.groupby("scope", sort=False):
            choice = _choice(str(name), suite, variant)
            # A suite's only corrupted variant is both a kind and a variant: the same comparison.
            if choice is not None and choice not in scopes:
                scopes[choice] = Scope(*choice, _entries(table), found.notes[str(name)])
    ranked = any(
        entry.place or math.isfinite(entry.elo)
        for scope in scopes.values()
        for entry in scope.entries
    )
    return Board(
        _opening(list(scopes.values())) if ranked else [],
        baseline,
        label or baseline,
        "" if ranked else problem or "no strategy has a run with results",
    )


def _opening(scopes: list[Scope]) -> list[Scope]:
    """The same, first the one to open with: all variants, or those that all strategies share.

    A study is often wider for some strategies, and only these are ranked on all of it; or one
    strategy was tried on little. What ranks most strategies on most cells says most.
    """
    suite = scopes[0].suite
    wide = [s for s in scopes if s.suite == suite and s.variant in ("", SHARED) and not s.stage]
    first = max(wide, key=lambda s: sum(entry.cells for entry in s.ranked))
    return [first, *(scope for scope in scopes if scope is not first)]


def _shared(results: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of the variants that every strategy has, if these are some of all variants."""
    rows = configured(results)
    count = rows.groupby(["suite", "variant"])["configuration"].transform("nunique")
    shared = count == rows["configuration"].nunique()
    return [results[shared]] if shared.any() and not shared.all() else []


def _choice(scope: str, suite: str, variant: str) -> tuple[str, str, str] | None:
    """Suite, variant and stage of a scope; None where another choice tells the same."""
    kind, _, name = scope.partition(":")
    if kind == "suite" or (variant == SHARED and scope in KINDS):
        return None
    return suite, scope if scope in KINDS else variant, name if kind == "stage" else ""


def _entries(table: pd.DataFrame) -> list[Standing]:
    """Of one scope, in the order of the table: the best first, incomplete strategies last."""
    entries: list[Standing] = []
    place = 0
    for record in table.to_dict("records"):
        ranked = bool(record["complete"]) and math.isfinite(record["mean_rank"])
        place += ranked
        known: dict[str, Any] = {name: record[name] for name in COLUMNS}
        for name in NUMBERS:
            known[name] = math.nan if pd.isna(known[name]) else float(known[name])
        entries.append(Standing(place=place if ranked else 0, **known))
    return entries
