"""What a training step costs, as the records of runs tell."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mtlbench.analysis.reference import reference_runs
from mtlbench.store.runs import RUN_FILE
from mtlbench.store.schema import DONE, RUN
from mtlbench.store.sealed import DamagedRunError, read_sealed


def relative_steps(runs: pd.DataFrame, baseline: str) -> pd.Series:
    """The time of a training step of each strategy, in steps of a baseline.

    Runs often share a machine, and then seconds tell more of its load than of the strategy. So each
    run is timed by its own evaluations, which are the same for all strategies and lie between its
    epochs: seconds of training over seconds of evaluating. Of the reference results, the longest of
    a strategy's seeds took 2.3 times the seconds of the shortest (the median; up to 6 times), and
    1.17 times so measured. A run that trains several networks counts the steps of all of them.

    Only runs on the same kind of machine are held against each other, and only those whose suites
    differ in nothing but learning rates and weight decay: with other batches or a larger network, a
    step is another one.

    Args:
        runs: rows of one variant, as from `selection.select`. Those with an empty path are looked
            up among the reference runs.
        baseline: a configuration.

    Returns:
        By configuration, the median over its runs, relative to the median of the baseline's; NaN
        where no run tells, or none of the baseline's is like it.
    """
    done = runs[runs["status"] == DONE].drop_duplicates(["configuration", "hash"])
    infos = _infos(done)
    read = [
        (key, infos[name])
        for key, name in zip(done["configuration"], done["hash"], strict=True)
        if name in infos
    ]
    told = pd.DataFrame(
        [(key, _kind(info), _step(info)) for key, info in read],
        columns=["configuration", "kind", "step"],
    )
    of_baseline = told[told["configuration"] == baseline].groupby("kind")["step"].median()
    relative = told["step"] / told["kind"].map(of_baseline).astype(float)
    medians = relative.groupby(told["configuration"]).median()
    return medians.reindex(runs["configuration"].unique()).astype(float)


def _infos(done: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The records of runs, by hash; without those that cannot be read."""
    infos = {}
    if (done["path"] == "").any():
        infos = {info["hash"]: info for info in reference_runs()}
    for name, path in zip(done["hash"], done["path"], strict=True):
        if path:
            try:
                infos[name] = read_sealed(Path(path) / RUN_FILE, RUN)
            except DamagedRunError:  # since it was loaded
                infos.pop(name, None)
    return infos


def _step(info: Mapping[str, Any]) -> float:
    """Time of a training step of all networks, in a unit that is the run's own."""
    timings = info.get("timings") or {}
    train, evaluate = (timings.get(f"{name}_seconds", 0.0) for name in ("train", "evaluate"))
    if not (train > 0 and evaluate > 0):
        return math.nan
    networks: int = info.get("population", {}).get("networks", 1)
    return float(networks * train / evaluate)


def _kind(info: Mapping[str, Any]) -> str:
    """What must be the same for two times to be compared."""
    machine = [info.get(name) for name in ("device", "processor", "instruction_set")]
    parameters = {
        name: value
        for name, value in info["spec"]["suite_parameters"].items()
        if name not in ("lr", "weight_decay") and not name.endswith("_lr")
    }
    return json.dumps([machine, parameters], sort_keys=True)
