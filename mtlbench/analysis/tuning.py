"""Trials judged, and the best of them chosen, by validation data alone."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

Metrics = Sequence[Mapping[str, Any]]
"""As in `run.json`: `task`, `metric`, `direction` and `value`, None where it is not finite."""


def gain(metrics: Metrics, baseline: Metrics) -> float | None:
    """The mean relative improvement (%) over a baseline: Δm of Maninis et al. 2019, Eq. 4.

    Every task weighs the same, in it every metric. A metric in which the baseline is 0 or not
    finite says nothing and is left out.

    Returns:
        None where a metric is not finite, or none is left.
    """
    against = {(m["task"], m["metric"]): m["value"] for m in baseline}
    of_task: dict[str, list[float]] = defaultdict(list)
    for metric in metrics:
        base = against.get((metric["task"], metric["metric"]))
        if not base:
            continue
        if metric["value"] is None:
            return None
        sign = 1 if metric["direction"] == "max" else -1
        of_task[metric["task"]].append(100 * sign * (metric["value"] - base) / abs(base))
    if not of_task:
        return None
    return math.fsum(math.fsum(each) / len(each) for each in of_task.values()) / len(of_task)


def best(scores: Sequence[float | None]) -> int:
    """The number of the largest score; the first of equal ones, and 0 where there is none."""
    known = [-math.inf if score is None else score for score in scores]
    return max(range(len(known)), key=known.__getitem__)
