"""Strategies inside of other people's trainers. Each module needs a package of its own."""

from collections.abc import Iterable

from mtlbench.strategies.strategy import EpochSummary

BEGINS_ANEW = "the checkpoint has no state of the strategy, which begins anew"
"""What is warned of where a training goes on that had none."""


def logged(summary: EpochSummary, tasks: Iterable[str]) -> dict[str, float]:
    """What a trainer logs of an epoch: `weight/TASK`, where tasks have weights, and `bad_batches`,
    where there were any."""
    named = zip(tasks, summary.weights.tolist(), strict=True)
    values = {f"weight/{task}": weight for task, weight in named if weight == weight}
    if summary.bad_batches:
        values["bad_batches"] = float(summary.bad_batches)
    return values
