"""The numbers of a leaderboard in one scope: some variants of suites, and some strategies."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mtlbench.analysis import statistics
from mtlbench.analysis.cells import (
    Block,
    common,
    coverage,
    missing,
    paired_differences,
    ranks_by_seed,
    weights,
)
from mtlbench.analysis.rating import Rating, win_shares
from mtlbench.analysis.selection import is_apart

LEADERBOARD_COLUMNS = [
    "scope", "strategy", "label", "stage", "networks", "cells", "coverage", "complete", "missing",
    "mean_rank", "rank_low", "rank_high", "elo", "elo_low", "elo_high",
    "delta_m", "delta_m_low", "delta_m_high",
    "flat_rank", "drop", "improvement", "wins", "ties", "losses", "p_value", "effect_size",
]  # fmt: skip
COUNTS = ["wins", "ties", "losses"]


@dataclass
class Bootstrap:
    """Numbers of resampled seeds, the same draws for all strategies.

    Attributes:
        resamples: how many.
        seed: of the draws.
    """

    resamples: int
    seed: int
    _draws: dict[Any, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    _resampled: dict[Any, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def draws(self, suite: str, seeds: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
        """Resamples of a suite's seeds: `statistics.draw_seeds`.

        Variants with the same seeds get the same draws: they are one unit.
        """
        numbers = [int(seed) for seed in seeds]
        names = self.seed, *suite.encode(), *numbers
        if names not in self._draws:
            self._draws[names] = statistics.draw_seeds(len(numbers), self.resamples, *names)
        return self._draws[names]

    def rank_and_improve(
        self,
        number: int,
        strategies: Sequence[int],
        block: Block,
        baseline: int | None,
        *,
        apart: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean ranks and Δm (%) in every resample, each [N, S].

        Args:
            number, strategies: of which block and strategies `block` is; scopes share them.
            block: the runs of these strategies.
            baseline: its place among them, if it is one of them.
            apart: as for `rank_and_improve`.
        """
        key = number, *strategies, baseline
        if key not in self._resampled:
            shares, which = self.draws(block.suite, block.seeds)
            # Not by a matrix product, which may round equal strategies differently.
            by_seed = np.ascontiguousarray(block.values.transpose(1, 2, 0))
            means = np.einsum("ur,rcs->ucs", shares, by_seed)
            mean_ranks, improvements = rank_and_improve(block, means, baseline, apart=apart)
            self._resampled[key] = mean_ranks[which], improvements[which]
        return self._resampled[key]


@dataclass
class Field:
    """All that scopes take their parts of.

    Attributes:
        strategies: the configurations [S].
        labels: what printed tables call each of them.
        stages: of each [S].
        networks: how many are trained for a result of each, of all trials of what was tuned [S].
        tuned: whether its parameters were chosen by a tuning, once in each variant [S].
        baseline: the strategy that the others are held against.
        blocks: all runs, by suite and variant.
        bootstrap: for the intervals.
    """

    strategies: list[str]
    labels: dict[str, str]
    stages: list[str]
    networks: list[int]
    tuned: list[bool]
    baseline: str
    blocks: list[Block]
    bootstrap: Bootstrap

    def is_baseline(self, strategy: int) -> bool:
        return self.strategies[strategy] == self.baseline

    def label(self, strategy: int) -> str:
        return self.labels[self.strategies[strategy]]


class Scope:
    """Some blocks and some strategies, and their numbers.

    All that is averaged over cells is of the strategies that have all runs there. What compares two
    strategies (the rating, and how often the baseline is beaten) is on the cells and seeds that
    both have, and so of the others, too.

    Attributes:
        name: of the scope.
        strategies: numbers of the strategies in it.
        parts: the blocks in which one of them has results, by number, of these strategies.
        without_results: the blocks in which none of them has.
        total: how many cells there are.
        whole: how many each strategy has in all seeds [S].
        coverage: the share that it has of the values of all cells and seeds [S].
        complete: numbers of the strategies that have all.
        base: the baseline's place among those, or None.
        apart: whether the baseline stands apart, and so has no rank.
        others: the places of the others.
        blocks: the parts, of the strategies that are complete.
        players: the places among `strategies` of those that are rated if anything joins them: all
            with results but a baseline that stands apart.
    """

    def __init__(
        self, field: Field, name: str, numbers: Sequence[int], strategies: Sequence[int]
    ) -> None:
        self.field, self.name, self.strategies = field, name, strategies
        started = {i: field.blocks[i].take(strategies) for i in numbers}
        started = {i: block for i, block in started.items() if len(block.seeds)}
        self.parts = {i: block for i, block in started.items() if block.cells}
        self.without_results = [block for block in started.values() if not block.cells]
        self.total = sum(len(block.cells) for block in self.parts.values())
        self.whole = np.array([block.whole().sum(1) for block in self.parts.values()])
        self.whole = self.whole.reshape(-1, len(strategies)).sum(0)
        self.coverage = coverage(list(self.parts.values()), len(strategies))
        self.complete = [
            strategy
            for strategy, cells in zip(strategies, self.whole, strict=True)
            if cells == self.total > 0
        ]
        base = [i for i, strategy in enumerate(self.complete) if field.is_baseline(strategy)]
        self.base = base[0] if base else None
        self.apart = self.base is not None and is_apart(field.baseline)
        self.blocks = {i: field.blocks[i].take(self.complete) for i in self.parts}
        self.others = [i for i in range(len(self.complete)) if i != self.base]
        self.players = [
            place
            for place, i in enumerate(strategies)
            if self.coverage[place] and not (field.is_baseline(i) and is_apart(field.baseline))
        ]

    def table(self) -> pd.DataFrame:
        """The columns `LEADERBOARD_COLUMNS`, the best mean rank first, after a baseline that stands
        apart; then those that miss runs, the best rating first."""
        field = self.field
        table = pd.DataFrame(
            {
                "scope": self.name,
                "strategy": [field.strategies[i] for i in self.strategies],
                "label": [field.label(i) for i in self.strategies],
                "stage": [field.stages[i] for i in self.strategies],
                "networks": [field.networks[i] for i in self.strategies],
                "cells": self.whole.astype(int),
                "coverage": self.coverage,
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
        for column, values in (self._ratings() | self._on_common_cells()).items():
            table[column] = values
        table = table.reindex(columns=LEADERBOARD_COLUMNS)
        apart = table["complete"] & table["mean_rank"].isna()  # the baseline
        # Ratings that differ by rounding alone are those of a tie.
        rating = table["elo"].astype(float).where(~table["complete"], 0).round(6)
        return table.iloc[np.lexsort([-rating, table["mean_rank"], ~apart])]

    def _numbers(self) -> dict[str, np.ndarray]:
        if not self.complete:
            return {}
        mean_rank, delta_m = self._averages(
            rank_and_improve(block, block.values.mean(1).T[None], self.base, apart=self.apart)
            for block in self.blocks.values()
        )
        flat_rank, drop = self._averages(
            flat_rank_and_drop(block, self.base, apart=self.apart) for block in self.blocks.values()
        )
        numbers = {
            "mean_rank": mean_rank[0],
            "delta_m": delta_m[0],
            "flat_rank": flat_rank[0],
            "drop": drop[0],
        }
        if self.fewest_seeds > 1:
            resampled = self._averages(
                self.field.bootstrap.rank_and_improve(
                    i, self.complete, block, self.base, apart=self.apart
                )
                for i, block in self.blocks.items()
            )
            for name, values in zip(("mean_rank", "delta_m"), resampled, strict=True):
                # Ranks of resamples lie nearer to the middle, at times all on one side.
                low, high = statistics.interval(values)
                ends = name.removeprefix("mean_")
                numbers[f"{ends}_low"] = np.minimum(low, numbers[name])
                numbers[f"{ends}_high"] = np.maximum(high, numbers[name])
        if self.base is not None:
            numbers |= self._tested(self.base)
        return numbers

    def _averages(
        self, each: Iterable[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean ranks and Δm over blocks, Δm over those in which it is known of any cell."""
        mean_ranks, improvements = map(list, zip(*each, strict=True))
        known = [values for values in improvements if not np.isnan(values).all()]
        return np.mean(mean_ranks, 0), np.mean(known or improvements, 0)

    def _tested(self, base: int) -> dict[str, np.ndarray]:
        p, effect = np.full((2, len(self.complete)), np.nan)
        for places, differences in (
            (self.held_by_seed, self.differences),
            (self.held_by_variant, self.differences_by_variant),
        ):
            effect[places] = [statistics.rank_biserial(row) for row in differences[places]]
            if self.testable(differences.shape[1]):
                p[places] = statistics.signed_rank(differences[places])
        tested = np.isfinite(p)
        if tested.any():
            p[tested] = statistics.holm(p[tested])
        numbers = {"effect_size": effect, "p_value": p}
        return {name: _without(values, base) for name, values in numbers.items()}

    # --- pairs of strategies ----------------------------------------------------------------

    @cached_property
    def rating(self) -> Rating | None:
        """Of the players; None where there are not two."""
        if len(self.players) < 2:
            return None
        chosen = [self.strategies[place] for place in self.players]
        baseline = [i for i, strategy in enumerate(chosen) if self.field.is_baseline(strategy)]
        blocks = [self.field.blocks[i].take(chosen) for i in self.parts]
        return Rating([block for block in blocks if block.cells], baseline[0] if baseline else None)

    @property
    def win_shares(self) -> pd.DataFrame:
        """Of the comparisons of the strategy of a row with that of a column, the share won."""
        names = [self.field.strategies[self.strategies[place]] for place in self.players]
        wins = self.rating.wins if self.rating else np.zeros((len(names), len(names)))
        return pd.DataFrame(win_shares(wins), index=names, columns=names)

    def _ratings(self) -> dict[str, np.ndarray]:
        """Of all strategies, NaN for those that are not rated."""
        numbers = np.full((3, len(self.strategies)), np.nan)
        if self.rating is not None:
            numbers[0, self.players] = self.rating.elo
            numbers[1:, self.players] = self.rating.intervals(self.field.bootstrap.draws)
        return dict(zip(("elo", "elo_low", "elo_high"), numbers, strict=True))

    def _on_common_cells(self) -> dict[str, np.ndarray]:
        """How all strategies do against the baseline where both have cells and seeds; NaN for
        those that share none with it, and for itself."""
        places = [
            i for i, strategy in enumerate(self.strategies) if self.field.is_baseline(strategy)
        ]
        if not places:
            return {}
        probability, weight = np.zeros((2, len(self.strategies)))
        counts = np.zeros((len(COUNTS), len(self.strategies)))
        for block in self.parts.values():
            ours, base = common(block, places[0])
            both = np.isfinite(ours).sum(1)
            sums, base_sums = np.nansum(ours, 1), np.nansum(base, 1)
            better = np.where(both, statistics.improvement_probability(ours, base), 0)
            probability += better @ weights(block.cells)
            weight += (both > 0) @ weights(block.cells)
            counts += [
                (sums > base_sums).sum(1),
                ((sums == base_sums) & (both > 0)).sum(1),
                (sums < base_sums).sum(1),
            ]
        held = (weight > 0) & (np.arange(len(weight)) != places[0])
        numbers = {
            "improvement": probability / np.where(held, weight, 1),
            **dict(zip(COUNTS, counts, strict=True)),
        }
        return {name: np.where(held, values, np.nan) for name, values in numbers.items()}

    # --- units and tests --------------------------------------------------------------------

    def testable(self, pairs: int) -> bool:
        """Whether tests of all others against the baseline can reject with so many pairs."""
        return statistics.can_reject(pairs, len(self.others))

    @cached_property
    def tuned(self) -> list[int]:
        """The places of those that were tuned."""
        return [i for i, strategy in enumerate(self.complete) if self.field.tuned[strategy]]

    @property
    def held_by_seed(self) -> list[int]:
        """The others that are tested over units."""
        return [i for i in self.others if i not in self.held_by_variant]

    @cached_property
    def held_by_variant(self) -> list[int]:
        """The others that are tested over variants: where either of a pair was tuned, its seeds
        share the one choice that was made, and tell nothing of how another would have turned out.
        """
        of_all = self.base in self.tuned
        return [i for i in self.others if of_all or i in self.tuned]

    @property
    def fewest_seeds(self) -> int:
        return min(len(block.seeds) for block in self.parts.values())

    @cached_property
    def units(self) -> list[tuple[str, int]]:
        """Each suite and seed."""
        pairs = ((block.suite, int(seed)) for block in self.parts.values() for seed in block.seeds)
        return sorted(set(pairs))

    @cached_property
    def differences(self) -> np.ndarray:
        """Improvement (%) of each strategy over the baseline in each unit [S, N]."""
        base = self.base or 0
        return self._by_unit(lambda block: paired_differences(block, base))

    @cached_property
    def differences_by_variant(self) -> np.ndarray:
        """The same in each variant, averaged over seeds [S, blocks]."""
        base = self.base or 0
        each = [paired_differences(block, base).mean(1) for block in self.blocks.values()]
        return np.stack(each, axis=1)

    @cached_property
    def friedman(self) -> statistics.Friedman | None:
        """Of those with default parameters."""
        ranked = self.others if self.apart else list(range(len(self.complete)))
        ranked = [i for i in ranked if i not in self.tuned]
        if not statistics.friedman_can_reject(len(ranked), len(self.units)):
            return None
        names = [self.field.strategies[self.complete[i]] for i in ranked]
        places = self._by_unit(lambda block: ranks_by_seed(block, ranked))[ranked]
        return statistics.friedman(names, -places.T)

    def _by_unit(self, of_runs: Callable[[Block], np.ndarray]) -> np.ndarray:
        """Numbers of runs [S, R], averaged over the variants of each unit [S, N]."""
        total = np.zeros((len(self.complete), len(self.units)))
        count = np.zeros(len(self.units))
        for block in self.blocks.values():
            places = [self.units.index((block.suite, int(seed))) for seed in block.seeds]
            total[:, places] += of_runs(block)
            count[places] += 1
        return total / count


# --- numbers of one block -------------------------------------------------------------------------


def rank_and_improve(
    block: Block, means: np.ndarray, baseline: int | None, *, apart: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Mean ranks and Δm (%), each [U, S], of means over seeds [U, C, S].

    Cells in which the baseline's mean over all seeds is 0 are no part of Δm, which is NaN where no
    cell is left. A baseline that stands apart is not ranked: NaN.
    """
    ranked = _ranked(means.shape[-1], baseline, apart)
    mean_ranks = np.full((len(means), means.shape[-1]), np.nan)
    places = statistics.ranks(means[..., ranked])
    mean_ranks[:, ranked] = np.einsum("ucs,c->us", places, weights(block.cells))
    if baseline is None or not (known := block.values[baseline].mean(0) != 0).any():
        return mean_ranks, np.full_like(mean_ranks, np.nan)
    cells = [cell for cell, is_known in zip(block.cells, known, strict=True) if is_known]
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample may have a baseline of 0
        share = 100 * weights(cells) / np.abs(means[:, known, baseline])
        relative = np.einsum("ucs,uc->us", means[:, known], share)
        return mean_ranks, relative - relative[:, [baseline]]


def flat_rank_and_drop(
    block: Block, baseline: int | None, *, apart: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """MR and Δm (%) of Nash-MTL and the papers that cite its tables, each [1, S], of means over
    seeds.

    All metrics weigh the same, whatever task they are of, and a negative Δm is the better one: it
    is how much worse than the baseline (Navon et al.: Multi-Task Learning as a Bargaining Game,
    ICML 2022, Sec. 6).

    Args:
        block, baseline, apart: as for `rank_and_improve`.
    """
    means = block.values.mean(1)
    ranked = _ranked(len(means), baseline, apart)
    flat_rank, drop = np.full((2, 1, len(means)), np.nan)
    flat_rank[0, ranked] = statistics.ranks(means[ranked].T).mean(0)
    if baseline is not None and (known := means[baseline] != 0).any():
        base = means[baseline, known]
        drop[0] = -100 * ((means[:, known] - base) / np.abs(base)).mean(1)
    return flat_rank, drop


def _ranked(strategies: int, baseline: int | None, apart: bool) -> np.ndarray:
    """Which strategies have a rank, bool [S]: all but a baseline that stands apart."""
    return np.arange(strategies) != (baseline if apart and baseline is not None else -1)


def _without(values: np.ndarray, baseline: int) -> np.ndarray:
    """The same, NaN for the baseline itself."""
    values = values.astype(float)
    values[baseline] = np.nan
    return values
