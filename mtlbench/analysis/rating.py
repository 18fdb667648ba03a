"""Ratings from pairwise wins, which strategies that miss some runs have, too.

Two strategies are compared on the cells and seeds that both have, so that one which was run on
easy variants alone wins nothing by that. A run in a variant weighs the same in every pair: every
variant of a suite alike, inside it every seed, every task, and inside that every metric.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from threadpoolctl import ThreadpoolController

from mtlbench.analysis.cells import Block, weights
from mtlbench.analysis.statistics import interval

ANCHOR = 1000.0
"""The rating of the baseline, or the mean of all where it is not rated."""

SCALE = 400 / math.log(10)
"""Points of rating that one of log strength is: ten times as strong, which is to win 10 times in
11, is 400."""

CHUNK = 64
"""Resamples that are fitted at a time: 1000 of 45 strategies take 0.3 to 0.5 s so, and 1 to 1.5 s
all at once, which no cache holds."""

one_thread = ThreadpoolController().wrap(limits=1, user_api="blas")
"""Several threads solve small systems no faster, and on a busy machine, where they wait for each
other without sleeping, ten times slower."""

Draws = Callable[[str, tuple[int, ...]], tuple[np.ndarray, np.ndarray]]


# --- comparisons ----------------------------------------------------------------------------------


def wins_by_seed(block: Block) -> np.ndarray:
    """What every strategy wins of every other with each seed [R, S, S].

        w_ij = Σ_c w_c ([x_ic > x_jc] + ½ [x_ic = x_jc])

    over the cells c that both have, weighed as `weights` says. w_ij + w_ji is 1 where both have all
    cells, and 0 where they share none.
    """
    values = np.moveaxis(block.values, 0, 1)
    ours, theirs = values[:, :, None], values[:, None]
    wins = ((ours > theirs) + 0.5 * (ours == theirs)) @ weights(block.cells)  # neither of NaN
    wins[:, *np.diag_indices(len(block.values))] = 0
    return np.asarray(wins)


def win_shares(wins: np.ndarray) -> np.ndarray:
    """Of the comparisons of two strategies, the share that the first wins; a tie counts half.

    Args:
        wins: what each wins of each [S, S].

    Returns:
        [S, S]; NaN where two were never compared.
    """
    compared = wins + wins.T
    return np.divide(wins, compared, out=np.full(wins.shape, np.nan), where=compared > 0)


def connected(wins: np.ndarray, start: int) -> np.ndarray:
    """Which strategies a chain of comparisons joins to one of them, bool [..., S].

    Args:
        wins: what each wins of each [..., S, S].
        start: the one.
    """
    compared = (wins + wins.swapaxes(-1, -2)) > 0
    reached = np.zeros(wins.shape[:-1], bool)
    reached[..., start] = True
    while True:
        further = reached | (compared & reached[..., None, :]).any(-1)
        if (further == reached).all():
            return reached
        reached = further


def largest_connected(wins: np.ndarray, baseline: int | None) -> np.ndarray:
    """The most strategies that comparisons join, bool [S]: of as many those with the baseline.

    None of them where no two were compared.
    """
    found = [connected(wins, start) for start in range(len(wins))]
    best = max(found, key=lambda some: (some.sum(), baseline is not None and some[baseline]))
    return best if best.sum() > 1 else np.zeros(len(wins), bool)


# --- the model ------------------------------------------------------------------------------------


@one_thread
def bradley_terry(wins: np.ndarray, draw: float, start: np.ndarray | None = None) -> np.ndarray:
    """Log strengths θ = log π of the Bradley-Terry model, by maximum likelihood [..., S].

        P(i wins of j) = π_i / (π_i + π_j)

        θ = argmax Σ_ij w_ij log P(i wins of j)
                   + d/2 Σ_i (log P(i wins of 0) + log P(0 wins of i)),    π_0 = 1

    The second sum is a draw of every strategy with an average one, of weight d. It keeps finite
    what wins or loses everything, where the likelihood alone has no maximum; and it centres θ.

    Newton's steps, but only log(1 + r) / r of each, where r is the most that a whole one would
    change a difference of two θ: so the likelihood never falls (Sun, Tran-Dinh). 45 strategies take
    5 to 20 of them. Hunter's MM algorithm goes to the same point, but in more than 10,000 steps
    where they differ clearly and d is small.

    Bradley, Terry: Rank Analysis of Incomplete Block Designs, Biometrika 1952. Hunter: MM
    Algorithms for Generalized Bradley-Terry Models, Annals of Statistics 2004. Sun, Tran-Dinh:
    Generalized Self-Concordant Functions, Mathematical Programming 2019.

    Args:
        wins: w_ij, what i wins of j; zeros on the diagonal [..., S, S].
        draw: d, above 0.
        start: where to begin; all alike by default [S].
    """
    compared = wins + wins.swapaxes(-1, -2)
    won = wins.sum(-1) + draw / 2
    theta = np.zeros(won.shape) + (0.0 if start is None else start)
    diagonal = np.arange(won.shape[-1])
    change = math.inf
    while change > 1e-7:  # the steps converge quadratically: the next would be of 1e-14
        strength = np.exp(theta)
        chance = strength[..., None] / (strength[..., None] + strength[..., None, :])
        of_average = strength / (strength + 1)
        expected = compared * chance
        gradient = won - expected.sum(-1) - draw * of_average
        curvature = expected * (chance - 1)
        own = draw * of_average * (1 - of_average) - curvature.sum(-1)
        curvature[..., diagonal, diagonal] = own
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        span = np.maximum(step.max(-1), 0) - np.minimum(step.min(-1), 0)
        step *= np.where(span > 0, np.log1p(span) / np.where(span > 0, span, 1), 1)[..., None]
        theta += step
        change = np.abs(step).max(initial=0)
    return theta


class Rating:
    """Strategies on one scale, by what they win of one another.

        rating = 1000 + 400 log10(π / π_baseline)

    as Elo's: 400 points more are ten wins in eleven. Where the baseline is not among them, the mean
    is 1000. Chatbot Arena (Chiang et al., ICML 2024) and TabArena (Erickson et al., NeurIPS 2025)
    rate so, with one model as 1000.

    Attributes:
        blocks: those in which any two are compared.
        wins: what each strategy wins of each, a variant weighing 1 [S, S].
        draw: the weight of the draw of `bradley_terry`: that of one run in one variant against one
            other.
        rated: those that comparisons join; the others cannot be put on one scale with them [S].
        elo: the ratings, NaN for those that are not [S].
        varied: which of the rated have an interval: those that are compared with a second seed
            wherever they are with one, and the baseline, which stands still; none where a variant
            has a single seed [S].
    """

    def __init__(self, blocks: Sequence[Block], baseline: int | None) -> None:
        """
        Args:
            blocks: the runs of S strategies, one block at least.
            baseline: the number of the one that stands at 1000, if there is one.
        """
        count = len(blocks[0].values)
        self.wins, alone = np.zeros((count, count)), np.zeros(count, bool)
        self.blocks: list[Block] = []
        # Variants with the same seeds are resampled together.
        self._units: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}
        for block in blocks:
            by_seed = wins_by_seed(block)
            if by_seed.any():
                self.blocks.append(block)
                self.wins += by_seed.mean(0)
                alone |= (by_seed + by_seed.swapaxes(1, 2)).any(-1).sum(0) == 1
                unit = block.suite, tuple(map(int, block.seeds))
                self._units[unit] = self._units.get(unit, 0) + by_seed
        seeds = [len(block.seeds) for block in self.blocks]
        self.draw = len(seeds) / max(1, sum(seeds))
        self.rated = largest_connected(self.wins, baseline)
        self.elo, self.varied = np.full(count, np.nan), self.rated & ~alone
        if not self.rated.any():
            return
        self._anchors = self.rated
        if baseline is not None and self.rated[baseline]:
            self._anchors = np.arange(count) == baseline
            self.varied[baseline] = True
        self.varied &= min(seeds) > 1
        self._theta = bradley_terry(self.wins, self.draw)
        centre = self._theta[self._anchors].mean()
        self.elo[self.rated] = ANCHOR + SCALE * (self._theta - centre)[self.rated]

    @property
    def always(self) -> tuple[np.ndarray, np.ndarray]:
        """Which of the rated win, and which lose all that they are compared in, bool [S] each."""
        won, lost = self.wins.sum(1), self.wins.sum(0)
        return self.rated & (lost == 0), self.rated & (won == 0)

    def intervals(self, draws: Draws) -> np.ndarray:
        """The ends of 95 % bootstrap intervals of the ratings, which hold the rating itself [2, S].

        NaN where there is none. A strategy's are those of the resamples in which it has seeds.

        Args:
            draws: as for `resampled`.
        """
        ends = np.full((2, len(self.elo)), np.nan)
        if not self.varied.any():
            return ends
        ratings = self.resampled(draws)
        for i in np.flatnonzero(self.varied):
            there = ratings[~np.isnan(ratings[:, i]), i]
            low, high = interval(there)
            ends[:, i] = min(low, self.elo[i]), max(high, self.elo[i])
        return ends

    def resampled(self, draws: Draws) -> np.ndarray:
        """The ratings in every resample [N, S], where there are any and two seeds of each variant.

        NaN where none of a strategy's seeds were drawn that join it to the others.

        Args:
            draws: of a suite and its seeds, at least two, the resamples that differ, as weights of
                the seeds, and which of them each resample is.
        """
        drawn = [draws(*unit) for unit in self._units]
        different, which = np.unique(
            np.stack([places for _, places in drawn], 1), axis=0, return_inverse=True
        )
        ratings = [
            self._fit(part, [shares for shares, _ in drawn])
            for part in np.array_split(different, math.ceil(len(different) / CHUNK))
        ]
        return np.concatenate(ratings)[which]

    @one_thread
    def _fit(self, places: np.ndarray, shares: Sequence[np.ndarray]) -> np.ndarray:
        """The ratings in some resamples [U, S].

        Args:
            places: of each resample in the shares of each unit [U, units].
            shares: of each unit [_, R].
        """
        wins = np.zeros((len(places), *self.wins.shape))
        for place, share, by_seed in zip(places.T, shares, self._units.values(), strict=True):
            wins += np.tensordot(share[place], by_seed, 1)
        theta = bradley_terry(wins, self.draw, self._theta)
        compared = np.where(self._anchors, (self.wins + self.wins.T).sum(1), -1)
        theta[~connected(wins, int(compared.argmax()))] = np.nan
        # Those that hold the scale and are there keep the mean that they have.
        shift = np.nanmean((self._theta - theta)[:, self._anchors], 1, keepdims=True)
        return self.elo + SCALE * (theta + shift - self._theta)
