"""Trials and tunings in a results directory.

    <results>/.trials/<hash>.json     one trial: spec, status, validation metrics by epoch, timings
    <results>/.tuned/<hash>.json      one tuning: its trials with their scores, and what was chosen

Neither is a run of a comparison: a trial has seen no test data, and a tuning names the runs that
were trained with what it chose.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtlbench.files import replacing
from mtlbench.store.runs import DamagedRunError, Store, finite, read_info
from mtlbench.store.schema import SCHEMA_VERSION, TRIAL, TUNING

TRIALS, TUNED = ".trials", ".tuned"


@dataclass(frozen=True)
class TrialScore:
    """One trial of a tuning.

    Attributes:
        hash: of its spec.
        parameters: those that differ from the first trial, by name.
        score: see `analysis.tuning.gain`; None where it diverged or failed.
    """

    hash: str
    parameters: Mapping[str, Any]
    score: float | None


@dataclass(frozen=True)
class Tuning:
    """What was tried for a strategy on a variant, and what was chosen.

    Attributes:
        suite, variant, strategy: of which.
        defaults: `suite_parameters`, `strategy_parameters` and `sources` of the first trial.
        hash: of all trials and of what they are judged against.
        trials: in their order; the first has the default parameters.
        chosen: number of the best.
        runs: hashes of the runs with its parameters.
        networks: how many a trial trains.
    """

    suite: str
    variant: str
    strategy: str
    defaults: Mapping[str, Mapping[str, Any]]
    hash: str
    trials: list[TrialScore]
    chosen: int
    runs: list[str]
    networks: int = 1


def trial_file(store: Store, hash: str) -> Path:
    return store.root / TRIALS / f"{hash}.json"


def write_trial(store: Store, info: Mapping[str, Any], history: Mapping[str, list[float]]) -> None:
    """Keeps a trial: what `run.json` would hold, and its history."""
    _write(trial_file(store, info["hash"]), {**info, "history": history})


def read_trial(store: Store, hash: str) -> dict[str, Any]:
    """What `write_trial` kept.

    Raises:
        DamagedRunError: there is none, or not one of this hash.
    """
    info = read_info(trial_file(store, hash), TRIAL)
    if info["hash"] != hash:
        raise DamagedRunError("is another trial's")
    return info


def tuning_file(store: Store, hash: str) -> Path:
    return store.root / TUNED / f"{hash}.json"


def write_tuning(path: Path, tuning: Tuning) -> None:
    _write(path, asdict(tuning))


def read_tuning(path: Path) -> Tuning:
    """What `write_tuning` wrote.

    Raises:
        DamagedRunError: the file does not hold what it should.
    """
    kept = read_info(path, TUNING)
    if kept["chosen"] >= len(kept["trials"]):
        raise DamagedRunError(f"{path.name} has chosen a trial that it has not")
    del kept["schema_version"]
    trials = [TrialScore(**trial) for trial in kept.pop("trials")]
    return Tuning(trials=trials, **kept)


def tunings(store: Store) -> tuple[list[Tuning], list[tuple[Path, str]]]:
    """All tunings that can be read, and the damaged ones as (file, what is wrong)."""
    found: list[Tuning] = []
    damaged: list[tuple[Path, str]] = []
    for path in sorted((store.root / TUNED).glob("*.json")):
        try:
            found.append(read_tuning(path))
        except DamagedRunError as error:
            damaged.append((path, str(error)))
    return found, damaged


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(finite({"schema_version": SCHEMA_VERSION, **content}), allow_nan=False)
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")
