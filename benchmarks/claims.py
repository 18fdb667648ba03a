"""What the reference studies show of the paper's claims, each beside the bar it is held against.

    python benchmarks/claims.py             of the reference results that come with the package
    for suite in digits streets bodies; do mtlbench run $suite --results DIR; done
    python benchmarks/claims.py DIR         of runs of one's own

Ends with status 1 where a bar is missed.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from mtlbench import load_results
from mtlbench.analysis.aggregate import summarise

PAPER = ("equal", "mtu", "dwa", "gls", "ilt")
"""The strategies that the paper compares."""

SUITES = ("digits", "streets", "bodies")
"""Those of the reference studies."""


@dataclass(frozen=True)
class Claim:
    """A sentence, what was measured, and the bar."""

    sentence: str
    measured: float
    bar: float
    met: bool


def at_least(sentence: str, measured: float, bar: float) -> Claim:
    return Claim(sentence, measured, bar, measured >= bar)


def at_most(sentence: str, measured: float, bar: float) -> Claim:
    return Claim(sentence, measured, bar, measured <= bar)


class Means:
    """Test results of one suite with the paper's strategies, averaged over seeds.

    Args:
        results: rows as from `load_results`.
        suite: the suite's name.
    """

    def __init__(self, results: pd.DataFrame, suite: str) -> None:
        self.suite = suite
        self.summary = summarise(results, suite, strategies=PAPER)
        self._mean = self.summary.set_index(["variant", "strategy", "metric", "task"])["mean"]

    def __call__(self, variant: str, strategy: str, metric: str, task: str) -> float:
        return float(self._mean[variant, strategy, metric, task])

    def gain(self, variant: str, metric: str, task: str) -> float:
        """What ILT is above equal weights."""
        return self(variant, "ilt", metric, task) - self(variant, "equal", metric, task)

    def lowest_other(self, variant: str, metric: str, task: str) -> float:
        """The lowest value of a strategy that is not ILT."""
        others = self._mean[variant].drop("ilt", level="strategy")
        return float(others.xs((metric, task), level=("metric", "task")).min())

    def detections(self, least: float) -> Iterator[Claim]:
        found = self.summary[self.summary["metric"] == "detection_accuracy"]
        for row in found[found["strategy"] == "ilt"].itertuples():
            yield at_least(
                f"{self.suite} {row.variant}: detection of {row.task} (%)", row.mean, least
            )

    def ranks(self, variant: str, worst: int) -> Iterator[Claim]:
        """ILT's rank among the paper's strategies, in every metric that all of them have."""
        rows_of = self.summary[self.summary["variant"] == variant]
        rows_of = rows_of[rows_of["metric"] != "detection_accuracy"]
        for (metric, task), rows in rows_of.groupby(["metric", "task"], sort=False):
            ranks = rows["mean"].rank(ascending=rows["direction"].iloc[0] == "min", method="min")
            rank = float(ranks[rows["strategy"] == "ilt"].iloc[0])
            yield at_most(f"{self.suite} {variant}: rank of ilt in {task} {metric}", rank, worst)


def claims(results: pd.DataFrame) -> Iterator[Claim]:
    """All claims, from the means over seeds.

    Args:
        results: rows as from `load_results`.
    """
    digits, streets, bodies = (Means(results, suite) for suite in SUITES)

    yield at_least(
        "digits left@0.4: accuracy of left, ilt − equal (points)",
        digits.gain("left@0.4", "accuracy", "left"),
        8,
    )
    yield from digits.detections(97)
    yield at_most(
        "streets depth@0.4: absolute depth error, ilt / equal",
        streets("depth@0.4", "ilt", "abs_err", "depth")
        / streets("depth@0.4", "equal", "abs_err", "depth"),
        0.6,
    )
    yield at_least(
        "streets segmentation@0.4: mIoU, ilt − equal (points)",
        streets.gain("segmentation@0.4", "miou", "segmentation"),
        10,
    )
    yield at_least(
        "streets depth@0.4: detection of depth, the bar for noise (%)",
        streets("depth@0.4", "ilt", "detection_accuracy", "depth"),
        99,
    )
    yield from streets.detections(97)
    yield from streets.ranks("clean", 2)
    yield at_most(
        "bodies pose+shape@0.4: surface error, ilt / next best",
        bodies("pose+shape@0.4", "ilt", "surface_error", "vertices")
        / bodies.lowest_other("pose+shape@0.4", "surface_error", "vertices"),
        0.7,
    )
    yield from bodies.ranks("segmentation@0.4", 1)
    yield from bodies.ranks("clean", 2)
    yield from bodies.detections(97)


def main() -> None:
    own = sys.argv[1:]
    found = list(claims(load_results(own, reference=not own)))
    for claim in found:
        verdict = "met" if claim.met else "MISSED"
        print(f"{claim.sentence:67} {claim.measured:8.2f}  bar {claim.bar:6.2f}  {verdict}")
    sys.exit(not all(claim.met for claim in found))


if __name__ == "__main__":
    main()
