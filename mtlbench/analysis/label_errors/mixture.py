"""The share of wrong labels, where nobody knows: two groups in the scores, or one."""

import math
from dataclasses import dataclass

import numpy as np

from mtlbench.analysis.label_errors.scores import CLEANLAB, FOLD_LOSS, ILT_LOSS, LOSS

FEWEST = 50
"""Labels that a mixture is fitted to at least."""

RESAMPLES = 50
BINS, STEPS, STARTS = 400, 300, (0.2, 0.5, 0.8, 0.95)
"""Of histograms, of expectation maximisation, and the quantiles at which it starts."""

SQRT_2_PI = math.sqrt(2 * math.pi)
TIES = 0.05
"""Share of scores on the lower bound from which on they are taken as right without a fit."""

ONE_HUMP, DEEP = 0.95, 0.7
"""Density between the groups over that of the smaller peak: from the first on there is one group,
below the second there are two that stand apart. See docs/suspects.md for where they come from."""

AS_HARD = 1 / 3
"""Share of validation labels as hard as the second group, over the share of that, from which on it
may be of hard labels. See docs/suspects.md, too."""


@dataclass(frozen=True)
class ShareEstimate:
    """An estimate of the share of wrong labels, and how far to trust it.

    Attributes:
        share: of wrong labels (%); 0 where there is no second group; NaN where there are too few
            labels.
        low, high: 95 % bootstrap interval of the share (%), given that there are two groups.
        valley: density between the two groups over that at the smaller of their peaks: 1 where the
            two make one hump, near 0 where they stand apart.
        overlap: labels that are on the wrong side of the mixture, if it is right (%).
        verdict: `apart`, `overlapping`, `one group` or `too few`.
        in_validation: the share that a second group with such losses has of the validation labels
            (%); NaN where that is not known.
    """

    share: float
    low: float
    high: float
    valley: float
    overlap: float
    verdict: str
    in_validation: float = math.nan

    @property
    def second_group(self) -> bool:
        """Says whether some labels stand apart from the others."""
        return self.verdict in ("apart", "overlapping")

    @property
    def hard(self) -> bool:
        """Says whether so many validation labels look the same that the second group may as well be
        of labels that are right and hard to learn."""
        return self.second_group and self.in_validation > AS_HARD * self.share

    @property
    def wrong(self) -> float:
        """The share that is taken for wrong (%); NaN where there is no second group, or one that
        may be of hard labels."""
        return self.share if self.second_group and not self.hard else math.nan

    def __str__(self) -> str:
        if self.verdict == "too few":
            return "too few labels to say"
        if self.verdict == "one group":
            return "no second group: few labels are wrong, or this score cannot tell"
        if self.hard:
            alike = f"{self.in_validation:.0f} % of validation labels look the same"
            return f"cannot tell: none to {self.share:.1f} % ({alike})"
        span = f"{self.share:.1f} % ({self.low:.1f} to {self.high:.1f} %)"
        if self.verdict == "apart":
            return f"{span}, two groups well apart"
        return f"{span}, groups overlap: a rough guess"


def estimate_share(
    score: np.ndarray,
    detector: str,
    *,
    losses: tuple[np.ndarray, np.ndarray] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ShareEstimate:
    """The share of wrong labels, by a mixture of two normal distributions of the scores.

    As Arazo et al. (2019) with the loss, but with normal components on log scores: a component
    each for right and for wrong labels, the wrong ones having the larger mean. A mixture of two is
    fitted to anything, so the two only count where they make two humps: the density has a valley
    between the two means.

    Hard labels that are right can be a second group, too. They are as frequent in validation data,
    where wrong ones are not, if somebody made sure of these labels.

    Args:
        score: as from a detector [N]; NaN where there is no label.
        detector: which one, for the scale on which the groups are near normal.
        losses: of the same training labels [N] and of validation labels [M] by the same network;
            without them, hard labels are taken for wrong ones.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    values = scaled(score[np.isfinite(score)], detector)
    draw = np.random.default_rng(np.random.SeedSequence(seed))
    # σ ends at its lower bound for most labels that are right; a normal distribution cannot.
    floor = values.min() if len(values) else math.nan
    tied = float((values == floor).mean()) if len(values) else 0.0
    fitted = values[values > floor] if tied >= TIES else values
    free = len(fitted) / max(1, len(values))
    if len(fitted) < FEWEST or not np.ptp(fitted):
        verdict = "too few" if len(values) < FEWEST else "one group"
        nothing = 0.0 if verdict == "one group" else math.nan
        return ShareEstimate(nothing, nothing, nothing, 1.0, math.nan, verdict)
    x, counts = _histogram(fitted)
    mixture = _fit(x, counts)
    densities = mixture.densities(x)
    unsure = densities.min(axis=0) / (densities.sum(axis=0) + 1e-300)
    overlap = 100 * free * float(np.average(unsure, weights=counts))
    valley = max(mixture.valley(), mixture.valley_of(x, counts))
    if valley >= ONE_HUMP:
        return ShareEstimate(0.0, 0.0, 0.0, valley, overlap, "one group")
    times = draw.multinomial(int(counts.sum()), counts / counts.sum(), size=resamples)
    again = [100 * free * _fit(x, each.astype(float), mixture).weight[1] for each in times]
    low, high = np.quantile(again, [0.025, 0.975]) if again else (math.nan, math.nan)
    verdict = "apart" if valley < DEEP else "overlapping"
    share = 100 * free * float(mixture.weight[1])
    alike = math.nan if losses is None else _share_in_validation(*losses, share)
    return ShareEstimate(share, float(low), float(high), valley, overlap, verdict, alike)


def _share_in_validation(training: np.ndarray, validation: np.ndarray, share: float) -> float:
    """Twice the share of validation losses (%) beyond what half of a share (%) of the training
    losses exceeds: the other half is near the labels that are learned, which are always learned
    less well in validation data."""
    known = validation[np.isfinite(validation)]
    bound = np.nanquantile(training, 1 - 0.5 * share / 100)
    return 200 * float((known > bound).mean()) if len(known) else math.nan


def scaled(score: np.ndarray, detector: str) -> np.ndarray:
    """Scores on the scale on which the two groups are nearest to normal: log σ² and the margin as
    they are, the logarithm of the loss, the logit of cleanlab's."""
    score = score.astype(np.float64)
    if detector in (LOSS, ILT_LOSS, FOLD_LOSS):
        return np.log(np.maximum(score, 1e-6))
    if detector == CLEANLAB:
        inside = score.clip(1e-4, 1 - 1e-4)
        return np.log(inside / (1 - inside))
    return score


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles of equal bins, and how many values are in each: all that the fits look at."""
    counts, edges = np.histogram(values, bins=BINS)
    return (edges[:-1] + edges[1:]) / 2, counts.astype(np.float64)


@dataclass(frozen=True)
class _Mixture:
    """Two normal components, the one with the smaller mean first; all [2]."""

    weight: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def densities(self, x: np.ndarray) -> np.ndarray:
        """Of each component, times its weight, [2, …]."""
        weight, mean, deviation = (v[:, None] for v in (self.weight, self.mean, self.deviation))
        return weight / deviation * np.exp(-0.5 * ((x - mean) / deviation) ** 2) / SQRT_2_PI

    def valley(self) -> float:
        """The least density between the two means over that at the smaller of their peaks."""
        return _valley(self.densities(np.linspace(self.mean[0], self.mean[1], 201)).sum(axis=0))

    def valley_of(self, x: np.ndarray, counts: np.ndarray) -> float:
        """The same of the values themselves, smoothed by half the narrower component: a mixture of
        two has a valley even where it is fitted to a plateau."""
        between = np.linspace(self.mean[0], self.mean[1], 201)[:, None]
        width = 0.5 * self.deviation.min()
        return _valley(np.exp(-0.5 * ((between - x) / width) ** 2) @ counts)


def _valley(density: np.ndarray) -> float:
    return float(density.min() / max(min(density[0], density[-1]), 1e-300))


def _fit(x: np.ndarray, counts: np.ndarray, start: _Mixture | None = None) -> _Mixture:
    """The likeliest mixture of values x [n], each counted so often; from the best of some starts
    unless one is given."""
    if start is not None:
        return _climb(x, counts, start)[1]
    return max((_climb(x, counts, _split(x, counts, q)) for q in STARTS), key=lambda f: f[0])[1]


def _split(x: np.ndarray, counts: np.ndarray, quantile: float) -> _Mixture:
    """A component for the values below a quantile, another for those above."""
    upper = np.cumsum(counts) > quantile * counts.sum()
    parts = []
    for side in (~upper, upper):
        times = np.where(side, counts, 1e-9)
        mean = np.average(x, weights=times)
        parts.append((mean, np.sqrt(np.average((x - mean) ** 2, weights=times))))
    mean, deviation = np.array(parts).T
    deviation = np.maximum(deviation, _narrowest(x, counts))
    return _Mixture(np.array([quantile, 1 - quantile]), mean, deviation)


def _climb(x: np.ndarray, counts: np.ndarray, mixture: _Mixture) -> tuple[float, _Mixture]:
    """Expectation maximisation: the log likelihood, and the mixture."""
    narrowest, total, before = _narrowest(x, counts), counts.sum(), -math.inf
    for _ in range(STEPS):
        densities = mixture.densities(x)
        whole = densities.sum(axis=0) + 1e-300
        likelihood = float(counts @ np.log(whole))
        if likelihood - before < 1e-6 * total:
            break
        before = likelihood
        part = densities / whole * counts
        size = part.sum(axis=1) + 1e-9
        mean = part @ x / size
        spread = np.sqrt((part * (x - mean[:, None]) ** 2).sum(axis=1) / size)
        mixture = _Mixture(size / total, mean, np.maximum(spread, narrowest))
    order = np.argsort(mixture.mean)
    return before, _Mixture(mixture.weight[order], mixture.mean[order], mixture.deviation[order])


def _narrowest(x: np.ndarray, counts: np.ndarray) -> float:
    """Least deviation of a component: a tenth of that of all values."""
    mean = np.average(x, weights=counts)
    return 0.1 * float(np.sqrt(np.average((x - mean) ** 2, weights=counts)))
