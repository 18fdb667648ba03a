"""Weights that a strategy found, for runs that train with them fixed."""

from collections.abc import Callable, Mapping

import numpy as np

from mtlbench.errors import UserError
from mtlbench.spec import RunSpec
from mtlbench.store.runs import DamagedRunError, Store, read_run
from mtlbench.store.schema import DONE
from mtlbench.training.job import run_directory

WeightsOf = Callable[[RunSpec], Mapping[str, float] | None]
"""The weights by task name that a run found; None where there are none to be had."""


def weights_in(store: Store, tell: Callable[[str], None]) -> WeightsOf:
    """Those that runs of a store found; see `mean_weights`.

    Args:
        store: where the runs are.
        tell: takes why there are none to be had, in words.
    """

    def weights(spec: RunSpec) -> dict[str, float] | None:
        try:
            return mean_weights(store, spec)
        except UserError as error:
            tell(str(error))
            return None

    return weights


def mean_weights(store: Store, spec: RunSpec) -> dict[str, float]:
    """The mean weights of a run over all its epochs, by task name, to four digits.

    Raises:
        UserError: the run is not in the store, did not end well, or has no weights.
    """
    path = run_directory(spec, store)
    what = f"the run {spec}, whose weights are to be frozen,"
    if not path.exists():
        raise UserError(f"{what} is not in {str(store.root)!r}: train it first")
    try:
        run = read_run(path, thorough=True)
    except DamagedRunError as error:
        raise UserError(f"{what} is damaged: {error}") from error
    if run.info["status"] != DONE:
        raise UserError(f"{what} {run.info['status']}")
    prefix = "weight/"
    found = {
        name.removeprefix(prefix): float(f"{np.mean(column, dtype=np.float64):.4g}")
        for name, column in run.history().items()
        if name.startswith(prefix)
    }
    if not all(np.isfinite(value) and value >= 0 for value in found.values()):
        raise UserError(f"{what} has weights that are negative or not finite: {found}")
    return found
