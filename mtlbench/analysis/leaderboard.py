"""Strategies over all suites, variants and metrics: ranks, improvements and tests.

Averages over cells weigh every (suite, variant) alike, inside it every task, and inside that every
metric. What is independent is the *unit*: a suite trained with one seed, in all its variants, which
share the seed's initial weights and batches. The metrics of a run are not, nor are variants. Tests
and intervals are over units: they speak of new seeds on these suites, not of other suites.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtlbench.analysis import statistics
from mtlbench.analysis.aggregate import configured, load_results, paper_order, plural
from mtlbench.analysis.cells import (
    Block,
    block_names,
    blocks,
    cell_name,
    missing,
    paired_differences,
    ranks_by_seed,
    weights,
)
from mtlbench.errors import UserError, require_known
from mtlbench.stages import STAGES
from mtlbench.store.runs import DONE

BASELINE = "equal"
CLEAN = "clean"
FEW_SEEDS = 5
"""Of fewer seeds, bootstrap intervals are clearly too short."""

LEADERBOARD_COLUMNS = [
    "scope", "strategy", "label", "stage", "cells", "complete", "missing",
    "mean_rank", "rank_low", "rank_high", "delta_m", "delta_m_low", "delta_m_high",
    "improvement", "wins", "ties", "losses", "p_value", "effect_size",
]  # fmt: skip
COUNTS = ["wins", "ties", "losses"]


@dataclass(frozen=True)
class Leaderboard:
    """Strategies ranked, in all runs together and in parts of them.

    Attributes:
        table: one row a scope and strategy, with the columns `LEADERBOARD_COLUMNS`: in each scope
            the best mean rank first, and those that miss runs last, without numbers.
        scopes: `all`, and what divides it: `clean` and `corrupted`, `suite:NAME`, and
            `stage:NAME` for the strategies of one stage and the baseline.
        notes: for each scope, sentences about what its numbers rest on.
        friedman: Friedman's test of each scope in which it can reject.
        baseline: the strategy that the others are held against.
        labels: what printed tables call each strategy.
    """

    table: pd.DataFrame
    scopes: list[str]
    notes: dict[str, list[str]]
    friedman: dict[str, statistics.Friedman]
    baseline: str
    labels: dict[str, str]


def leaderboard(
    results: pd.DataFrame | str | Path,
    *,
    suites: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    baseline: str = BASELINE,
    resamples: int = 1000,
    seed: int = 0,
) -> Leaderboard:
    """Ranks strategies over everything that a results directory holds.

    A strategy is ranked in a scope if it has every run there that any strategy has. The numbers:

        mean_rank       of the mean over seeds, averaged over cells; 1 is best
        delta_m         Δm (%): how much that mean is better than the baseline's, relative to it,
                        averaged over cells
        *_low, *_high   ends of 95 % bootstrap intervals, by resampled seeds, the same for all
        improvement     how probably a run is better than one of the baseline, averaged over cells:
                        `statistics.improvement_probability`
        wins, …         cells in which the mean is better than, equal to, worse than the baseline's
        p_value         of the signed-rank test against the baseline over units, corrected by Holm
                        over the strategies of the scope; NaN where no such test could reject
        effect_size     of that test: `statistics.rank_biserial`

    Maninis, Radosavovic, Kokkinos: Attentive Single-Tasking of Multiple Tasks, CVPR 2019, Eq. 4.

    Args:
        results: a results directory, or rows as from `load_results`, in any order.
        suites, variants, strategies: names; all by default. The baseline always stays.
        baseline: a strategy's key, with its settings where it has several (`ilt[ilt.lr=4.0]`).
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: there is no such directory, suite, variant, strategy or baseline, or no run.
    """
    frame = configured(results if isinstance(results, pd.DataFrame) else load_results(results))
    if frame.empty:
        raise UserError("there are no runs to rank")
    for column, names in (("suite", suites), ("variant", variants)):
        if names is not None:
            require_known(column, names, frame[column].unique())
            frame = frame[frame[column].isin(list(names))]
    if frame.empty:
        raise UserError("there are no runs of these variants in these suites")
    if baseline != BASELINE:
        require_known("baseline", [baseline], frame["configuration"].unique())
    if strategies is not None:
        known = [*frame["strategy"].unique(), *frame["configuration"].unique()]
        require_known("strategy", strategies, known)
        named = [*strategies, baseline]
        frame = frame[frame["strategy"].isin(named) | frame["configuration"].isin(named)]
    return _Ranking(frame, baseline, resamples, seed).leaderboard()


# --- scopes ---------------------------------------------------------------------------------------


class _Ranking:
    """All runs by cell, from which every scope takes its part."""

    def __init__(self, frame: pd.DataFrame, baseline: str, resamples: int, seed: int) -> None:
        # A run that failed may know neither its label nor its stage.
        known = frame.assign(stage=frame.groupby("configuration")["stage"].transform("max"))
        known = known.assign(failed=known["status"] != DONE)
        first = known.sort_values(["configuration", "failed", "label"])
        first = first.drop_duplicates("configuration")
        order = sorted(zip(first["strategy"], first["configuration"], strict=True), key=_order)
        self.strategies = [configuration for _, configuration in order]
        first = first.set_index("configuration").loc[self.strategies]
        self.labels = {
            key: f"{label} {key.removeprefix(strategy)}".rstrip()
            for key, strategy, label in zip(
                first.index, first["strategy"], first["label"], strict=True
            )
        }
        self.stages: list[str] = list(first["stage"])
        self.blocks = blocks(frame, self.strategies)
        self.baseline, self.resamples, self.seed = baseline, resamples, seed
        self._draws: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
        self._resampled: dict[Any, tuple[np.ndarray, np.ndarray]] = {}

    def leaderboard(self) -> Leaderboard:
        scopes = {
            name: _Scope(self, name, parts, strategies)
            for name, parts, strategies in self._divisions()
        }
        table = pd.concat([scope.table() for scope in scopes.values()], ignore_index=True)
        return Leaderboard(
            table.astype(dict.fromkeys(COUNTS, "Int64")),
            list(scopes),
            {name: scope.notes() for name, scope in scopes.items()},
            {name: scope.friedman for name, scope in scopes.items() if scope.friedman},
            self.baseline,
            self.labels,
        )

    def _divisions(self) -> list[tuple[str, list[int], list[int]]]:
        """Scopes, as (name, blocks, strategies): those that are not all of it again."""
        everything = list(range(len(self.blocks)))
        everyone = list(range(len(self.strategies)))
        kinds: dict[str, list[int]] = defaultdict(list)
        suites: dict[str, list[int]] = defaultdict(list)
        for i, block in enumerate(self.blocks):
            kinds[CLEAN if block.variant == CLEAN else "corrupted"].append(i)
            suites[f"suite:{block.suite}"].append(i)
        found = [("all", everything, everyone)]
        for division in (kinds, suites):
            if len(division) > 1:
                found += [(name, division[name], everyone) for name in sorted(division)]
        members = {
            stage: [i for i in everyone if self.stages[i] == stage or self.is_baseline(i)]
            for stage in STAGES
        }
        found += [
            (f"stage:{stage}", everything, inside)
            for stage, inside in members.items()
            if any(not self.is_baseline(i) for i in inside) and inside != everyone
        ]
        return found

    def is_baseline(self, strategy: int) -> bool:
        return self.strategies[strategy] == self.baseline

    def resampled(
        self, number: int, strategies: Sequence[int], baseline: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean ranks and Δm of a block's strategies in every resample, each [N, S]."""
        key = number, *strategies, baseline
        if key not in self._resampled:  # scopes share blocks
            block = self.blocks[number].take(strategies)
            # Variants with the same seeds get the same draws: they are one unit.
            names = self.seed, *block.suite.encode(), *map(int, block.seeds)
            if names not in self._draws:
                self._draws[names] = statistics.draw_seeds(len(block.seeds), self.resamples, *names)
            shares, which = self._draws[names]
            # Not by a matrix product, which may round equal strategies differently.
            by_seed = np.ascontiguousarray(block.values.transpose(1, 2, 0))
            means = np.einsum("ur,rcs->ucs", shares, by_seed)
            mean_ranks, improvements = _rank_and_improve(block, means, baseline)
            self._resampled[key] = mean_ranks[which], improvements[which]
        return self._resampled[key]


def _order(names: tuple[str, str]) -> Any:
    strategy, configuration = names
    return paper_order(strategy), configuration


class _Scope:
    """Some blocks and some strategies, and the numbers of those that have all runs there."""

    def __init__(
        self, ranking: _Ranking, name: str, numbers: Sequence[int], strategies: Sequence[int]
    ) -> None:
        self.ranking, self.name, self.strategies = ranking, name, strategies
        started = {i: ranking.blocks[i].take(strategies) for i in numbers}
        started = {i: block for i, block in started.items() if len(block.seeds)}
        self.parts = {i: block for i, block in started.items() if block.cells}
        self.without_results = [block for block in started.values() if not block.cells]
        self.total = sum(len(block.cells) for block in self.parts.values())
        self.whole = np.array([block.whole().sum(1) for block in self.parts.values()])
        self.whole = self.whole.reshape(-1, len(strategies)).sum(0)
        self.complete = [
            strategy
            for strategy, cells in zip(strategies, self.whole, strict=True)
            if cells == self.total > 0
        ]
        base = [i for i, strategy in enumerate(self.complete) if ranking.is_baseline(strategy)]
        self.base = base[0] if base else None
        self.blocks = {i: ranking.blocks[i].take(self.complete) for i in self.parts}
        self.others = [i for i in range(len(self.complete)) if i != self.base]

    # --- the numbers ------------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        ranking = self.ranking
        table = pd.DataFrame(
            {
                "scope": self.name,
                "strategy": [ranking.strategies[i] for i in self.strategies],
                "label": [self._label(i) for i in self.strategies],
                "stage": [ranking.stages[i] for i in self.strategies],
                "cells": self.whole.astype(int),
                "complete": [i in self.complete for i in self.strategies],
                "missing": [
                    "" if i in self.complete else missing(list(self.parts.values()), position)
                    for position, i in enumerate(self.strategies)
                ],
            },
            index=pd.Index(self.strategies),
        )
        for column, values in self._numbers().items():
            table[column] = pd.Series(values, index=self.complete, dtype=float)
        return table.reindex(columns=LEADERBOARD_COLUMNS).sort_values("mean_rank", kind="stable")

    def _numbers(self) -> dict[str, np.ndarray]:
        if not self.complete:
            return {}
        mean_rank, delta_m = self._averages(
            _rank_and_improve(block, block.values.mean(1).T[None], self.base)
            for block in self.blocks.values()
        )
        numbers = {"mean_rank": mean_rank[0], "delta_m": delta_m[0]}
        if self.fewest_seeds > 1:
            resampled = self._averages(
                self.ranking.resampled(i, self.complete, self.base) for i in self.blocks
            )
            for name, values in zip(("mean_rank", "delta_m"), resampled, strict=True):
                # Ranks of resamples lie nearer to the middle, at times all on one side.
                low, high = statistics.interval(values)
                ends = name.removeprefix("mean_")
                numbers[f"{ends}_low"] = np.minimum(low, numbers[name])
                numbers[f"{ends}_high"] = np.maximum(high, numbers[name])
        if self.base is not None:
            numbers |= self._against_baseline(self.base)
        return numbers

    def _averages(
        self, each: Iterable[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean ranks and Δm over blocks, Δm over those in which it is known of any cell."""
        mean_ranks, improvements = map(list, zip(*each, strict=True))
        known = [values for values in improvements if not np.isnan(values).all()]
        return np.mean(mean_ranks, 0), np.mean(known or improvements, 0)

    def _against_baseline(self, base: int) -> dict[str, np.ndarray]:
        probability = np.zeros(len(self.complete))
        counts = np.zeros((len(COUNTS), len(self.complete)))
        for block in self.blocks.values():
            means = block.values.mean(1)
            better = statistics.improvement_probability(block.values, block.values[base])
            probability += better @ weights(block.cells) / len(self.blocks)
            counts += [
                (means > means[base]).sum(1),
                (means == means[base]).sum(1),
                (means < means[base]).sum(1),
            ]
        effect = np.array([statistics.rank_biserial(row) for row in self.differences])
        numbers = {
            "improvement": probability,
            "effect_size": effect,
            **dict(zip(COUNTS, counts, strict=True)),
        }
        if self.testable:
            p = np.full(len(self.complete), np.nan)
            p[self.others] = statistics.holm(statistics.signed_rank(self.differences[self.others]))
            numbers["p_value"] = p
        return {name: _without(values, base) for name, values in numbers.items()}

    # --- units and tests --------------------------------------------------------------------

    @property
    def testable(self) -> bool:
        return statistics.can_reject(len(self.units), len(self.others))

    @property
    def fewest_seeds(self) -> int:
        return min(len(block.seeds) for block in self.blocks.values())

    @cached_property
    def units(self) -> list[tuple[str, int]]:
        """Each suite and seed."""
        pairs = ((block.suite, int(seed)) for block in self.blocks.values() for seed in block.seeds)
        return sorted(set(pairs))

    @cached_property
    def differences(self) -> np.ndarray:
        """How much better than the baseline each strategy is in each unit [S, N]."""
        base = self.base or 0
        return self._by_unit(lambda block: paired_differences(block, base))

    @cached_property
    def friedman(self) -> statistics.Friedman | None:
        if not statistics.friedman_can_reject(len(self.complete), len(self.units)):
            return None
        names = [self.ranking.strategies[i] for i in self.complete]
        return statistics.friedman(names, -self._by_unit(ranks_by_seed).T)

    def _by_unit(self, of_runs: Callable[[Block], np.ndarray]) -> np.ndarray:
        """Numbers of runs [S, R], averaged over the variants of each unit [S, N]."""
        total = np.zeros((len(self.complete), len(self.units)))
        count = np.zeros(len(self.units))
        for block in self.blocks.values():
            places = [self.units.index((block.suite, int(seed))) for seed in block.seeds]
            total[:, places] += of_runs(block)
            count[places] += 1
        return total / count

    # --- in words ---------------------------------------------------------------------------

    def notes(self) -> list[str]:
        """Sentences about what the numbers rest on."""
        notes = [self._extent(), *self._tests(), *self._baseline(), *self._intervals()]
        for block in self.without_results:
            notes.append(f"{block.name}: no run has results")
        for i, block in self.parts.items():
            for cell in self.ranking.blocks[i].cells:
                if cell not in block.cells:
                    notes.append(f"{block.name}: no run has a finite {cell_name(cell)}")
        return notes + self._incomplete()

    def _extent(self) -> str:
        suites = len({block.suite for block in self.parts.values()})
        return (
            f"{_count(len(self.units), 'unit')} (a suite with a seed), "
            f"{_count(self.total, 'cell')} in {_count(len(self.parts), 'variant')} of "
            f"{_count(suites, 'suite')}"
        )

    def _tests(self) -> list[str]:
        notes = []
        level = f"{100 * statistics.ALPHA:g} %"
        units = _count(len(self.units), "unit")
        test = self.friedman
        if test:
            notes.append(
                f"Friedman's test of {len(test.strategies)} strategies over {units}: χ² = "
                f"{test.statistic:.1f}, p = {test.p_value:.2g}; "
                + (
                    f"average ranks at least {test.critical_difference:.2f} apart differ (Nemenyi)"
                    if test.rejected
                    else "no difference shown"
                )
            )
        elif len(self.complete) > 2:
            notes.append(f"{units}: too few for Friedman's test to reject at {level}")
        if self.base is not None and self.others and not self.testable:
            tests = len(self.others)
            some = f"any of {tests} tests" if tests > 1 else "a test"
            notes.append(
                f"{units}: too few for {some} against {self._label(self.complete[self.base])} to "
                f"reject at {level}; {statistics.pairs_needed(tests)} are needed"
            )
        return notes

    def _baseline(self) -> list[str]:
        ranking = self.ranking
        if self.base is None:
            if ranking.baseline in ranking.strategies:
                label = ranking.labels[ranking.baseline]
                return [f"{label} is incomplete: nothing can be held against it"]
            alike = [s for s in ranking.strategies if s.startswith(f"{ranking.baseline}[")]
            stands = f"the baseline {ranking.baseline!r} "
            stands += f"stands for {', '.join(alike)}" if alike else "has no runs"
            return [f"{stands}: nothing can be held against it"]
        return [
            f"Δm leaves out {cell_name(cell)} in {block.name}, where "
            f"{self._label(self.complete[self.base])} is 0"
            for block in self.blocks.values()
            for cell, zero in zip(block.cells, block.values[self.base].mean(0) == 0, strict=True)
            if zero
        ]

    def _intervals(self) -> list[str]:
        if not self.complete or self.fewest_seeds >= FEW_SEEDS:
            return []
        if self.fewest_seeds == 1:
            places = defaultdict(list)
            for block in self.blocks.values():
                if len(block.seeds) == 1:
                    places[block.suite].append(block.variant)
            return [f"no intervals: a single seed of {block_names(places)}"]
        return [
            f"intervals from {self.fewest_seeds} seeds are shorter than 95 % intervals should be"
        ]

    def _incomplete(self) -> list[str]:
        alike: dict[str, list[str]] = defaultdict(list)
        for position, strategy in enumerate(self.strategies):
            if strategy not in self.complete:
                text = missing(list(self.parts.values()), position)
                alike[text].append(self._label(strategy))
        notes = [f"incomplete: {', '.join(labels)} ({text})" for text, labels in alike.items()]
        # Often, only some strategies were trained on some variants.
        there = {i: (block.status != "").any(1) for i, block in self.parts.items()}
        by_all = [i for i in there if there[i].all()]
        if len(by_all) < len(there) and by_all:
            rest = np.array([self.parts[i].whole().all(1) for i in by_all]).all(0).sum()
            left_out = [i for i in there if i not in by_all]
            if rest > len(self.complete):
                fewer = min(left_out, by_all, key=len)
                places = defaultdict(list)
                for i in fewer:
                    places[self.parts[i].suite].append(self.parts[i].variant)
                where = f"{'without' if fewer is left_out else 'on only'} {block_names(places)}"
                notes.append(f"{rest} strategies are complete {where}")
        return notes

    def _label(self, strategy: int) -> str:
        return self.ranking.labels[self.ranking.strategies[strategy]]


def _count(number: int, word: str) -> str:
    return f"{number} {plural(word, number)}"


# --- numbers of one block -------------------------------------------------------------------------


def _rank_and_improve(
    block: Block, means: np.ndarray, baseline: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean ranks and Δm (%), each [U, S], of means over seeds [U, C, S].

    Cells in which the baseline's mean over all seeds is 0 are no part of Δm, which is NaN where no
    cell is left.
    """
    mean_ranks = np.einsum("ucs,c->us", statistics.ranks(means), weights(block.cells))
    if baseline is None or not (known := block.values[baseline].mean(0) != 0).any():
        return mean_ranks, np.full_like(mean_ranks, np.nan)
    cells = [cell for cell, is_known in zip(block.cells, known, strict=True) if is_known]
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample may have a baseline of 0
        share = 100 * weights(cells) / np.abs(means[:, known, baseline])
        relative = np.einsum("ucs,uc->us", means[:, known], share)
        return mean_ranks, relative - relative[:, [baseline]]


def _without(values: np.ndarray, baseline: int) -> np.ndarray:
    """The same, NaN for the baseline itself."""
    values = values.astype(float)
    values[baseline] = np.nan
    return values
