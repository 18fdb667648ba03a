"""The expected best of n trials: what a strategy reaches with a budget of tuning.

Dodge, Gururangan, Card, Schwartz, Smith: Show Your Work: Improved Reporting of Experimental
Results, EMNLP 2019.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.settings import configuration, untuned
from mtlbench.store.trials import Tuning

BUDGET_COLUMNS = [
    "suite", "variant", "strategy", "trials", "networks", "expected", "low", "high",
]  # fmt: skip

SPREAD = 0.05, 0.95
"""Quantiles between which an interval lies."""


# --- the estimator --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExpectedBest:
    """The best of n of N trials, for n = 1, …, N.

    Attributes:
        expected: its mean over the trials that one may have drawn [N].
        low, high: quantiles of it, `SPREAD`, over the same [N].
    """

    expected: np.ndarray
    low: np.ndarray
    high: np.ndarray


def expected_best(scores: Sequence[float | None]) -> ExpectedBest:
    """The expected best of n trials, where the first is always the default one.

    M_n is the maximum of the first score and of n − 1 of the m = N − 1 others, drawn without
    replacement. With v_0 the first score and v_1 ≤ … ≤ v_m the others in order, raised to v_0
    where they are lower,

        P(M_n ≤ v_j) = C(j, n − 1) / C(m, n − 1)
        E M_n = v_m − Σ_{j<m} P(M_n ≤ v_j) (v_{j+1} − v_j)

    So it is the first score at n = 1 and the largest one at n = N. The mean is the U-statistic of
    Tang et al. 2020, unbiased for the best of n where the others are independent draws; Dodge et
    al. 2019 draw with replacement, which is biased low and at n = N stays below the maximum that
    was found. What it costs is variance at n near N (Dodge et al. 2021). The others are points of
    a Sobol sequence, which here count as in any order: n of them in a row are spread a little more
    evenly than n drawn ones.

    The quantiles are those of M_n itself: they tell how much depends on which of the N trials one
    happens to draw. They say nothing of other seeds, nor of points that nobody tried: at n = N
    there is one draw alone, and they are the maximum.

    Tang, Lee, Xin, Liu, Yu, Lin: Showing Your Work Doesn't Always Work, ACL 2020. Dodge,
    Gururangan, Card, Schwartz, Smith: Expected Validation Performance and Estimation of a Random
    Variable's Maximum, Findings of EMNLP 2021.

    Args:
        scores: of the trials, at least one, the default one first; None where a trial failed,
            which is below all others and takes its place in the budget all the same.

    Returns:
        NaN for those n of which all trials may have failed: those have no mean.
    """
    default, *others = [-np.inf if score is None else score for score in scores]
    values = np.maximum(default, [-np.inf, *sorted(others)])
    failed = int(np.isneginf(values).sum())  # where so many are drawn, one is sure to count
    known = values[failed:]
    number, gaps = np.arange(len(values)), np.diff(known)
    expected, low, high = np.full((3, len(values)), np.nan)
    at_most = np.ones(len(values))  # P(M_n ≤ v_j) [N]
    for drawn in range(len(values)):
        if drawn >= failed:
            below = at_most[failed:]
            expected[drawn] = known[-1] - (below[:-1] * gaps).sum()
            low[drawn], high[drawn] = known[np.searchsorted(below, np.subtract(SPREAD, 1e-12))]
        at_most *= np.maximum(number - drawn, 0) / max(len(others) - drawn, 1)
    return ExpectedBest(expected, low, high)


# --- of a comparison ------------------------------------------------------------------------------


def tunings_of(comparison: Comparison, variant: str, *, fewest: int = 2) -> dict[str, Tuning]:
    """The tunings of a variant that have a curve, by strategy, in the order of its table.

    Those whose trials were halved have none: their scores are of other numbers of epochs. One that
    a larger one continues is left out: the larger one tells the same and more. Each stands under
    the key of the strategy with its default parameters, where the curve begins; under that of the
    tuned one if there are several tunings of the strategy, or no row of the default parameters.

    Args:
        comparison: of which.
        variant: its variant.
        fewest: trials of a tuning; one alone makes no curve.
    """
    found = {
        key: comparison.tunings[variant, key]
        for key in comparison.labels
        if (variant, key) in comparison.tunings
    }
    kept = {
        key: tuning
        for key, tuning in found.items()
        if len(tuning.trials) >= fewest
        and not tuning.rounds
        and not any(other.continues(tuning) for other in found.values())
    }
    first = comparison.runs.drop_duplicates("configuration")
    default = {
        key: configuration(strategy, untuned(settings))
        for key, strategy, settings in zip(
            first["configuration"], first["strategy"], first["settings"], strict=True
        )
        if key in kept
    }
    count = Counter(default.values())
    return {
        default[key]
        if count[default[key]] == 1 and default[key] in comparison.labels
        else key: tuning
        for key, tuning in kept.items()
    }


def budgets(comparison: Comparison) -> pd.DataFrame:
    """The expected best score by number of trials, of every strategy that was tuned.

    Args:
        comparison: of which.

    Returns:
        A frame with the columns `BUDGET_COLUMNS`, one row per (variant, strategy, number of
        trials): `networks` is how many these trials train; `expected`, `low` and `high` are those
        of `expected_best` (%).
    """
    parts = []
    for variant in comparison.variants:
        for strategy, tuning in tunings_of(comparison, variant).items():
            best = expected_best([trial.score for trial in tuning.trials])
            trials = np.arange(1, len(tuning.trials) + 1)
            columns = (
                comparison.suite, variant, strategy, trials, tuning.networks * trials,
                best.expected, best.low, best.high,
            )  # fmt: skip
            parts.append(pd.DataFrame(dict(zip(BUDGET_COLUMNS, columns, strict=True))))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=BUDGET_COLUMNS)


def budgets_shown(trials: Sequence[int]) -> list[int]:
    """The numbers of trials that a table or an axis names: powers of two, and each largest one.

    Args:
        trials: of each strategy.
    """
    powers = (1 << power for power in range(max(trials).bit_length()))
    return sorted({*powers, *trials})
