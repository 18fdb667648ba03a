"""Ranks, effect sizes, tests and intervals for paired runs: arrays in, numbers out.

Strategies are compared on the same seeds, so everything here keeps the pairing. The last axis of
an array holds what is ranked (S strategies) or what is tested (N pairs).
"""

import math
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from scipy.special import chdtrc, ndtr, stdtr

# scipy.stats takes a second to load, as long as all the rest of a leaderboard; its signed-rank test
# is exact without ties only, and its studentized range takes half a second a number; the ranks of
# pandas take values for equal that differ by 1e-13. Tests hold the numbers against SciPy's.

ALPHA = 0.05
"""The level of all tests; intervals hold 1 - ALPHA."""


# --- ranks and effect sizes -----------------------------------------------------------------------


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, 1 for the highest; values that are equal share their mean."""
    order = np.argsort(-values, axis=-1)
    ordered = np.take_along_axis(values, order, -1)
    number = np.arange(values.shape[-1])
    differs = ordered[..., 1:] != ordered[..., :-1]
    edge = np.ones((*values.shape[:-1], 1), bool)
    starts, ends = np.concatenate([edge, differs], -1), np.concatenate([differs, edge], -1)
    first = np.maximum.accumulate(np.where(starts, number, 0), -1)
    last = np.minimum.accumulate(np.where(ends, number, number.size)[..., ::-1], -1)[..., ::-1]
    places = np.empty(values.shape)
    np.put_along_axis(places, order, 1 + (first + last) / 2, -1)
    return places


def improvement_probability(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The share of pairs in which our value is above theirs; a tie counts half, and NaN not.

    Agarwal et al.: Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS
    2021: P(X > Y), the Mann-Whitney statistic over the number of pairs.

    Args:
        ours: values of the runs of one strategy or of S, higher is better [..., R, C].
        theirs: those of the other [..., Q, C].

    Returns:
        A probability for each of the C columns, NaN where there is no pair [..., C].
    """
    difference = ours[..., None, :] - theirs[..., None, :, :]
    pairs = (~np.isnan(difference)).sum((-3, -2))
    balance = np.nansum(np.sign(difference), (-3, -2))
    share = np.divide(balance, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)
    return np.asarray(0.5 + 0.5 * share)


def rank_biserial(differences: np.ndarray) -> float:
    """Effect size of the signed-rank test, -1 to 1: (W⁺ - W⁻) / (W⁺ + W⁻).

    W⁺ and W⁻ are the sums of the ranks of |difference| where it is positive and negative; pairs
    without a difference are left out. 1 where all differences are positive; 0 where none is left.

    Kerby: The Simple Difference Formula, Comprehensive Psychology 2014.

    Args:
        differences: one a pair [N].
    """
    differences = differences[differences != 0]
    if not len(differences):
        return 0.0
    places = len(differences) + 1 - ranks(np.abs(differences))
    return float((np.sign(differences) * places).sum() / places.sum())


def kendall_tau(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Kendall's τ-b: how far two orders of the same N things agree, 1 where they are the same.

    Concordant less discordant pairs, over the geometric mean of the numbers of pairs that each side
    does not tie.

    Kendall: The Treatment of Ties in Ranking Problems, Biometrika 1945.

    Args:
        ours, theirs: values by which they are ordered [..., N].

    Returns:
        [...]; NaN where a side has nothing but ties.
    """
    here, there = _directions(ours), _directions(theirs)
    untied = np.sqrt(np.abs(here).sum(-1) * np.abs(there).sum(-1))
    agreeing = (here * there).sum(-1)
    return np.divide(agreeing, untied, out=np.full(agreeing.shape, np.nan), where=untied > 0)


def _directions(values: np.ndarray) -> np.ndarray:
    """Which of each pair is above: -1, 0 or 1 [..., N (N - 1) / 2]."""
    one, other = np.triu_indices(values.shape[-1], 1)
    return np.sign(values[..., one] - values[..., other])


# --- tests ----------------------------------------------------------------------------------------


ALL_ORDERS = 8
"""Things up to which `order_probability` goes through all orders: 40,320."""

DRAWN_ORDERS = 9999
"""Orders that it draws of more."""


def order_probability(ours: np.ndarray, theirs: np.ndarray) -> float:
    """How probably an order drawn at random agrees with theirs at least as well as ours does.

    The one-sided p-value of the permutation test of `kendall_tau`: exact up to `ALL_ORDERS` things,
    by `DRAWN_ORDERS` seeded draws of more.

    Args:
        ours, theirs: values by which the same things are ordered [N].

    Returns:
        NaN where a side has nothing but ties.
    """
    there = _directions(theirs)
    agreeing = _directions(ours) @ there  # all that an order changes in τ
    if not there.any() or not _directions(ours).any():
        return math.nan
    count = len(ours)
    if count <= ALL_ORDERS:
        orders = np.array(list(permutations(range(count))))
        return float((_directions(ours[orders]) @ there >= agreeing).mean())
    generator = np.random.default_rng(0)
    drawn = generator.permuted(np.broadcast_to(ours, (DRAWN_ORDERS, count)), axis=-1)
    above = int((_directions(drawn) @ there >= agreeing).sum())
    return (1 + above) / (1 + DRAWN_ORDERS)


def signed_rank(differences: np.ndarray) -> np.ndarray:
    """Two-sided p-values of Wilcoxon's signed-rank test.

    The test is exact up to `EXACT` pairs, also where some differences are of one size, and by the
    normal approximation above; pairs without a difference are left out. It asks whether each
    difference is as likely with the other sign.

    Wilcoxon: Individual Comparisons by Ranking Methods, Biometrics Bulletin 1945.

    Args:
        differences: M samples of N pairs [M, N].

    Returns:
        [M]; 1 where no pair differs.
    """
    return np.array([_signed_rank(row[row != 0]) for row in differences])


EXACT = 50
"""Pairs up to which the signed-rank test is exact."""


def _signed_rank(differences: np.ndarray) -> float:
    """The p-value of one sample without zeros [N]."""
    if not len(differences):
        return 1.0
    places = len(differences) + 1 - ranks(np.abs(differences))
    above = places[differences > 0].sum()
    if len(differences) > EXACT:
        error = math.sqrt((places**2).sum() / 4)
        return float(2 * ndtr(-abs(above - places.sum() / 2) / error))
    doubled = tuple(np.sort(2 * places).astype(int).tolist())  # ranks are halves
    probability = _rank_sums(doubled)
    at = int(2 * above)
    return min(1.0, 2 * float(min(probability[: at + 1].sum(), probability[at:].sum())))


@cache
def _rank_sums(places: tuple[int, ...]) -> np.ndarray:
    """The probability of each sum of the positive ranks, where either sign is as likely.

    Returns:
        [sum of the ranks + 1], for the sums 0, 1, ….
    """
    probability = np.zeros(sum(places) + 1)
    probability[0] = 1
    for place in places:
        shifted = np.zeros_like(probability)
        shifted[place:] = probability[:-place]
        probability = (probability + shifted) / 2
    return probability


def two_sample(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Two-sided p-value of Student's t-test that two samples have one mean.

    The standard deviation is pooled: under what is tested, the same training in two places, it is
    the same in both. So a single value can be held against several.

    Args:
        ours, theirs: values of runs [R], [Q].

    Returns:
        NaN where there are fewer than three values; and where no value differs from the others of
        its sample, unless both samples show that by two.
    """
    freedom = len(ours) + len(theirs) - 2
    if freedom < 1:
        return math.nan
    difference = abs(float(ours.mean() - theirs.mean()))
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in (ours, theirs))
    if not squares:
        return 1.0 if not difference else 0.0 if min(len(ours), len(theirs)) > 1 else math.nan
    error = math.sqrt(squares / freedom * (1 / len(ours) + 1 / len(theirs)))
    return float(2 * stdtr(freedom, -difference / error))


def smallest_p(pairs: int) -> float:
    """The smallest two-sided p-value that a signed-rank test of so many pairs can give: 2 / 2ᴺ."""
    return min(1.0, 2.0 ** (1 - pairs))


def can_reject(pairs: int, tests: int) -> bool:
    """Whether any of so many tests, corrected by Holm, can reject at `ALPHA`."""
    return tests * smallest_p(pairs) <= ALPHA


def pairs_needed(tests: int) -> int:
    """The least number of pairs of which that is so."""
    return math.ceil(math.log2(2 * tests / ALPHA))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values [M] of a family of tests, corrected so that any false rejection has rate ≤ α.

    Holm: A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
    Statistics 1979.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


def like_the_best(values: np.ndarray) -> np.ndarray:
    """Which strategies cannot be told from the one with the highest mean.

    All pairs of strategies are tested with `signed_rank`, and the p-values corrected by Holm over
    all S (S - 1) / 2 of them, not only over those with the best: which strategy is best is seen in
    the same runs, so any pair could have been among those that are looked at.

    Args:
        values: one a strategy and seed, higher is better [S, N].

    Returns:
        bool [S]; the best is among them.
    """
    one, other = np.triu_indices(len(values), 1)
    best = int(values.mean(-1).argmax())
    p = holm(signed_rank(values[one] - values[other]))
    alike = np.ones(len(values), bool)
    for i, j, probability in zip(one, other, p, strict=True):
        if best in (i, j) and probability <= ALPHA:
            alike[j if best == i else i] = False
    return alike


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of many strategies, and what Nemenyi's post-hoc test makes of it.

    Attributes:
        strategies: names of what was compared.
        average_ranks: mean over the units of each one's rank, 1 is best [S].
        units: how many independent units were ranked.
        statistic, p_value: of the test that all are alike.
        critical_difference: average ranks at least this far apart differ at `ALPHA`.
    """

    strategies: list[str]
    average_ranks: np.ndarray
    units: int
    statistic: float
    p_value: float
    critical_difference: float

    @property
    def rejected(self) -> bool:
        return self.p_value <= ALPHA

    def groups(self) -> list[list[str]]:
        """The largest sets of strategies of which no two differ, each with the best one first.

        All of them are one group where Friedman's test rejects nothing.
        """
        order = np.argsort(self.average_ranks, kind="stable")
        placed = self.average_ranks[order]
        reach = self.critical_difference if self.rejected else np.inf
        ends = [int((placed < first + reach).sum()) for first in placed]
        return [
            [self.strategies[i] for i in order[start:end]]
            for start, end in enumerate(ends)
            if end - start > 1 and (start == 0 or end > ends[start - 1])
        ]


SMALL = 40
"""Ranks (units × strategies) up to which the χ² approximation is not good enough: with three
strategies it rejects 5.5 to 5.9 % of the time on null data."""


def friedman_can_reject(strategies: int, units: int) -> bool:
    """Whether Friedman's test can reject at `ALPHA`, where all units rank alike."""
    return strategies > 2 and math.factorial(strategies) ** (units - 1) >= 1 / ALPHA


def friedman(strategies: list[str], scores: np.ndarray) -> Friedman:
    """Friedman's test with Nemenyi's critical difference.

    Of up to `SMALL` ranks, the p-value is from 1,999 seeded permutations inside the units; of more
    from the χ² distribution.

    Demšar: Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006, Section
    3.2.2: CD = q sqrt(k (k + 1) / 6n) for k strategies on n units, q from the studentized range.

    Args:
        strategies: at least 3 names.
        scores: one a unit and strategy, higher is better [N, S].
    """
    units, count = scores.shape
    places = ranks(scores)
    spread = float((places**2).sum()) / units - count * (count + 1) ** 2 / 4
    if not spread:  # all of them tie everywhere
        statistic, p_value = 0.0, 1.0
    else:
        squares = float(((places.mean(0) - (count + 1) / 2) ** 2).sum())
        statistic = units * (count - 1) * squares / spread
        p_value = float(chdtrc(count - 1, statistic))
        if places.size <= SMALL:
            p_value = _permuted(places)
    difference = _nemenyi(count) * math.sqrt(count * (count + 1) / (6 * units))
    return Friedman(strategies, places.mean(0), units, statistic, p_value, difference)


@cache
def _nemenyi(strategies: int) -> float:
    """The distance of the best and the worst of so many standard normal numbers that is exceeded
    with probability α, over √2."""
    z = np.linspace(-10, 10, 401)  # the best of them; the sum is exact to 1e-12
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    low, high = 0.0, 10.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        within = strategies * (density * (ndtr(z) - ndtr(z - middle)) ** (strategies - 1)).sum()
        low, high = (middle, high) if within < 1 - ALPHA else (low, middle)
    return low / math.sqrt(2)


def _permuted(places: np.ndarray, permutations: int = 1999) -> float:
    """p-value of the spread of the rank sums [N, S] among permutations inside the rows."""
    generator = np.random.default_rng(0)
    rows = np.broadcast_to(places, (permutations, *places.shape))
    sums = generator.permuted(rows, axis=-1).sum(1)
    # Ranks are halves: their sums are exact.
    above = int(((sums**2).sum(-1) >= (places.sum(0) ** 2).sum()).sum())
    return (1 + above) / (1 + permutations)


# --- intervals ------------------------------------------------------------------------------------


SHAKEN = 2000
"""Draws of a `tau_interval`."""


def tau_interval(values: np.ndarray, theirs: np.ndarray, places: int) -> np.ndarray:
    """An interval of `kendall_tau` between means over seeds and numbers that are taken as given.

    The noise of the means is added to them again, in seeded draws from a normal distribution whose
    deviation is pooled over strategies; what all of them share in a seed changes no order and does
    not count. Noise pulls τ towards 0, once in our means and once more in the draws: so the
    interval goes from their outermost 2.5 % on that side to as far on the other side of τ, at most
    to ±1. Resamples of three seeds, which are six, would hold 60 to 70 % in place of 95.

    Args:
        values: of paired runs, one a strategy and seed, at least 2 of each [S, R].
        theirs: the numbers that are given [S].
        places: decimals to which means are rounded.

    Returns:
        Both ends [2]; NaN where a side has nothing but ties.
    """
    strategies, seeds = values.shape
    means = values.mean(1)
    tau = kendall_tau(means.round(places), theirs)
    if np.isnan(tau):
        return np.array([tau, tau])
    left = values - means[:, None] - values.mean(0) + values.mean()
    variance = (left**2).sum() / ((strategies - 1) * (seeds - 1))
    generator = np.random.default_rng(0)
    noise = generator.normal(0, math.sqrt(variance / seeds), (SHAKEN, strategies))
    side = np.where(tau < 0, -1, 1)
    drawn = side * kendall_tau((means + noise).round(places), theirs)
    low = np.minimum(side * tau, np.nanquantile(drawn, ALPHA / 2))
    high = np.minimum(1, 2 * side * tau - low)
    return np.sort(side * np.array([low, high]))


def draw_seeds(seeds: int, resamples: int, *key: int) -> tuple[np.ndarray, np.ndarray]:
    """Resamples of seeds, each of one seed fewer than there are, as weights that sum to 1.

    Draws of all n seeds would have (n - 1) / n of the variance of a mean, which for three seeds is
    an interval that is 18 % too short; draws of n - 1 have all of it.

    Rao, Wu: Resampling Inference With Complex Survey Data, JASA 1988, Section 2.

    Args:
        seeds: how many there are, at least 2.
        resamples: how many resamples.
        key: what the generator is seeded by.

    Returns:
        The resamples that are different from one another [U, seeds], and which of them each
        resample is [resamples]. Of three seeds, there are six.
    """
    generator = np.random.default_rng(np.random.SeedSequence(key))
    counts = generator.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=resamples)
    different, which = np.unique(counts, axis=0, return_inverse=True)
    return different / (seeds - 1), which


def interval(resampled: np.ndarray) -> np.ndarray:
    """The ends of the percentile intervals, [2, …] of resamples [N, …]; NaN where any is."""
    return np.asarray(np.quantile(resampled, [ALPHA / 2, 1 - ALPHA / 2], axis=0))
