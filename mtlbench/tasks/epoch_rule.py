"""The rule of the epoch: which epochs the final metrics of a run are of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtlbench.tasks.task import Task

LAST, BEST, MEAN = "last", "best", "mean"

LEAST_SHARE = 0.01
"""Where a metric to maximise is below this share of its full scale, as one of R² may be, its
logarithm gives way to the tangent."""

LEAST_ERROR = 1e-6
"""The same for metrics to minimise, in their unit."""


@dataclass(frozen=True)
class EpochRule:
    """Which epochs count.

    Attributes:
        kind: `last`; `best` on validation data, as early stopping has it; or `mean`, of the metrics
            after each of the last `count` epochs, as tables of NYUv2 have it.
        count: how many the mean is over; 1 for the others.
    """

    kind: str = LAST
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "EpochRule":
        """From `last`, `best` or `mean:N`.

        Raises:
            ValueError: it is none of them.
        """
        kind, colon, count = str(text).partition(":")
        if not colon and kind in (LAST, BEST):
            return cls(kind)
        if kind == MEAN and count.isascii() and count.isdigit() and int(count) > 0:
            return cls(kind, int(count))
        raise ValueError(f"epoch_rule must be last, best or mean:N with N above 0, but is {text!r}")

    def __str__(self) -> str:
        return {
            LAST: "after the last epoch",
            BEST: "at the best epoch on validation data",
            MEAN: f"as the mean over the last {self.count} epochs",
        }[self.kind]


def score(tasks: Sequence["Task"], validation: Mapping[str, float]) -> float:
    """How good validation metrics are: the mean over tasks of the mean over a task's of ±log m.

    Differences of it are relative improvements, so that neither the unit of a metric nor how many
    of them a task has decides. What is near 0 or below it has no relative improvement: there the
    logarithm goes on as a straight line, so that better is better.

    Args:
        tasks: with their metrics.
        validation: `TASK/METRIC` to value.

    Returns:
        −∞ where a value is not finite.
    """
    means = []
    for task in tasks:
        logs = []
        for metric in task.metrics:
            value = validation[f"{task.name}/{metric.name}"]
            if metric.direction == "max":
                logs.append(_log(value, LEAST_SHARE * metric.scale))
            else:
                logs.append(-_log(value, LEAST_ERROR))
        if logs:
            means.append(math.fsum(logs) / len(logs))
    return math.fsum(means) / len(means) if means and all(map(math.isfinite, means)) else -math.inf


def _log(value: float, least: float) -> float:
    """log x, and below a least value its tangent there; NaN where a value is not finite."""
    if not math.isfinite(value):
        return math.nan
    return math.log(value) if value >= least else math.log(least) + (value - least) / least
