"""What the reference studies show of the paper's claims, each beside the bar it is held against.

    mtlbench run digits --results DIR && mtlbench run streets --results DIR
    python benchmarks/claims.py [DIR]            (default: results/reference)

Ends with status 1 where a bar is missed.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from mtlbench import compare


@dataclass(frozen=True)
class Claim:
    """A sentence, what was measured, and the bar."""

    sentence: str
    measured: float
    bar: float
    met: bool


def claims(results: str) -> Iterator[Claim]:
    """All claims, from the means over seeds."""
    digits, streets = (_means(results, suite) for suite in ("digits", "streets"))

    def at_least(sentence: str, measured: float, bar: float) -> Claim:
        return Claim(sentence, measured, bar, measured >= bar)

    def at_most(sentence: str, measured: float, bar: float) -> Claim:
        return Claim(sentence, measured, bar, measured <= bar)

    def gain(means: Callable[..., float], variant: str, metric: str, task: str) -> float:
        return means(variant, "ilt", metric, task) - means(variant, "equal", metric, task)

    yield at_least(
        "digits left@0.4: accuracy of left, ilt − equal (points)",
        gain(digits, "left@0.4", "accuracy", "left"),
        8,
    )
    yield at_least(
        "digits left@0.4: detection (%)",
        digits("left@0.4", "ilt", "detection_accuracy", "left"),
        97,
    )
    yield at_most(
        "streets depth@0.4: absolute depth error, ilt / equal",
        streets("depth@0.4", "ilt", "abs_err", "depth")
        / streets("depth@0.4", "equal", "abs_err", "depth"),
        0.6,
    )
    yield at_least(
        "streets depth@0.4: detection (%)",
        streets("depth@0.4", "ilt", "detection_accuracy", "depth"),
        99,
    )
    yield at_least(
        "streets segmentation@0.4: mIoU, ilt − equal (points)",
        gain(streets, "segmentation@0.4", "miou", "segmentation"),
        10,
    )
    yield at_least(
        "streets segmentation@0.4: detection (%)",
        streets("segmentation@0.4", "ilt", "detection_accuracy", "segmentation"),
        97,
    )
    summary = compare(results, "streets", ["clean"]).summary
    for (metric, task), rows in summary.groupby(["metric", "task"], sort=False):
        ranks = rows["mean"].rank(ascending=rows["direction"].iloc[0] == "min", method="min")
        rank = float(ranks[rows["strategy"] == "ilt"].iloc[0])
        yield at_most(f"streets clean: rank of ilt in {task} {metric}", rank, 2)


def _means(results: str, suite: str) -> Callable[..., float]:
    summary: pd.DataFrame = compare(results, suite).summary
    table = summary.set_index(["variant", "strategy", "metric", "task"])["mean"]

    def mean(variant: str, strategy: str, metric: str, task: str) -> float:
        return float(table[variant, strategy, metric, task])

    return mean


def main() -> None:
    found = list(claims(sys.argv[1] if len(sys.argv) > 1 else "results/reference"))
    for claim in found:
        verdict = "met" if claim.met else "MISSED"
        print(f"{claim.sentence:58} {claim.measured:8.2f}  bar {claim.bar:6.2f}  {verdict}")
    sys.exit(not all(claim.met for claim in found))


if __name__ == "__main__":
    main()
