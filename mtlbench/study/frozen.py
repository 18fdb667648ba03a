"""What runs found, for runs of other strategies that take it: weights, or single-task results."""

from collections.abc import Callable, Mapping

import numpy as np

from mtlbench.errors import UserError
from mtlbench.spec import RunSpec
from mtlbench.store.runs import Store, StoredRun, read_run
from mtlbench.store.schema import DONE
from mtlbench.store.sealed import DamagedRunError
from mtlbench.strategies.compose import Composition
from mtlbench.training.job import run_directory

Found = Mapping[str, Mapping[str, float]]
"""Parameters of a strategy by name, which a run of another one gives."""

FoundBy = Callable[[RunSpec], Found | None]
"""What a run found; None where there is nothing to be had."""


def found_in(store: Store, tell: Callable[[str], None]) -> FoundBy:
    """What runs of a store found; see `mean_weights` and `single_task_results`.

    Args:
        store: where the runs are.
        tell: takes why there is nothing to be had, in words.
    """

    def found(spec: RunSpec) -> Found | None:
        single = Composition.parse(spec.strategy).task.cls.network_per_task  # type: ignore[attr-defined]
        try:
            if single:
                return single_task_results(store, spec)
            return {"weights": mean_weights(store, spec)}
        except UserError as error:
            tell(str(error))
            return None

    return found


def mean_weights(store: Store, spec: RunSpec) -> dict[str, float]:
    """The mean weights of a run over all its epochs, by task name, to four digits.

    Raises:
        UserError: the run is not in the store, did not end well, or has no weights.
    """
    what = f"the run {spec}, whose weights are to be frozen,"
    prefix = "weight/"
    found = {
        name.removeprefix(prefix): float(f"{np.mean(column, dtype=np.float64):.4g}")
        for name, column in _done(store, spec, what).history().items()
        if name.startswith(prefix)
    }
    if not all(np.isfinite(value) and value >= 0 for value in found.values()):
        raise UserError(f"{what} has weights that are negative or not finite: {found}")
    return found


def single_task_results(store: Store, spec: RunSpec) -> dict[str, dict[str, float]]:
    """The validation results of a run after its last epoch by `TASK/METRIC`, to six digits: those
    of which `more` is better, and those of which `less` is.

    Raises:
        UserError: the run is not in the store, did not end well, or has results that are 0 or not
            finite.
    """
    what = f"the run {spec}, whose results others are held against,"
    run = _done(store, spec, what)
    history = run.history()
    found: dict[str, dict[str, float]] = {"more": {}, "less": {}}
    for metric in run.info["metrics"]:
        name = f"{metric['task']}/{metric['metric']}"
        if (column := history.get(f"validation/{name}")) is None:
            continue  # of test data alone
        value = float(f"{column[-1]:.6g}")
        if not np.isfinite(value) or value == 0:
            raise UserError(f"{what} has {name} {value}, of which nothing is a percentage")
        found["more" if metric["direction"] == "max" else "less"][name] = value
    return found


def _done(store: Store, spec: RunSpec, what: str) -> StoredRun:
    path = run_directory(spec, store)
    if not path.exists():
        raise UserError(f"{what} is not in {str(store.root)!r}: train it first")
    try:
        run = read_run(path, thorough=True)
    except DamagedRunError as error:
        raise UserError(f"{what} is damaged: {error}") from error
    if run.info["status"] != DONE:
        raise UserError(f"{what} {run.info['status']}")
    return run
