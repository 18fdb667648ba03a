"""Trials judged by validation data alone."""

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
    means = [sum(each) / len(each) for each in of_task.values()]
    mean = sum(sorted(means)) / len(means) if means else math.nan
    return mean if math.isfinite(mean) else None
