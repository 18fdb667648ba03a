"""Trials and tunings in a results directory.

    <results>/.trials/<hash>.json     one trial: spec, status, validation metrics by epoch, timings
    <results>/.tuned/<hash>.json      one tuning: its trials with their scores, and what was chosen

Neither is a run of a comparison: a trial has seen no test data, and a tuning names the runs that
were trained with what it chose.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mtlbench.files import below, replacing
from mtlbench.spec import RunSpec
from mtlbench.store.runs import Store
from mtlbench.store.schema import PARAMETERS, TRIAL, TUNING
from mtlbench.store.sealed import DamagedRunError, read_sealed, sealed

TRIALS, TUNED = ".trials", ".tuned"

EPOCHS = "epochs"

TRIAL_SEED = -1
"""Of every trial; those of runs are counted from 0."""


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
        against: hash of the trial whose result the scores are relative to.
        trials: in their order; the first has the default parameters.
        seeds: of the runs that were trained with the chosen parameters.
        networks: how many a trial trains.
        rounds: of successive halving: how many of the trials each had, the first ones first; empty
            where all trained alike. Those of a round have `epochs` among their parameters where
            they did not train for all, and scores against a trial of as many.
    """

    suite: str
    variant: str
    strategy: str
    defaults: Mapping[str, Mapping[str, Any]]
    against: str
    trials: list[TrialScore]
    seeds: list[int]
    networks: int = 1
    rounds: list[int] = field(default_factory=list)

    @property
    def hash(self) -> str:
        """Names it: that of all its trials and of what they are judged against."""
        hashes = [self.against, *(trial.hash for trial in self.trials)]
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:12]

    @property
    def points(self) -> list[TrialScore]:
        """The trials that differ in more than their epochs: those of the first round."""
        return self.trials[: self.rounds[0]] if self.rounds else self.trials

    @property
    def searched(self) -> list[str]:
        """The names of the parameters that were searched."""
        names = dict.fromkeys(name for trial in self.points for name in trial.parameters)
        return [name for name in names if not (self.rounds and name == EPOCHS)]

    @property
    def chosen(self) -> TrialScore:
        """The best of the last round; the default parameters where no trial of it ended well."""
        last = self.trials[-self.rounds[-1] :] if self.rounds else self.trials
        found = last[best([trial.score for trial in last])]
        if found.score is not None:
            return found
        default = TrialScore("", {}, None)
        return replace(default, hash=self.spec(default, TRIAL_SEED).hash)

    @property
    def trained(self) -> float:
        """How many networks the trials have trained, in those of all epochs."""
        whole = self.defaults["suite_parameters"].get(EPOCHS)
        if not self.rounds:
            return float(self.networks * len(self.trials))
        epochs = sum(trial.parameters.get(EPOCHS, whole) for trial in self.trials)
        return float(self.networks * epochs / whole)

    def spec(self, trial: TrialScore, seed: int) -> RunSpec:
        """The run of a trial's parameters with a seed; where its data lie, and which they are, a
        tuning does not know."""
        suite, strategy = (dict(self.defaults[name]) for name in PARAMETERS[:2])
        for name, value in trial.parameters.items():
            (strategy if "." in name else suite)[name] = value
        return RunSpec(
            self.suite, suite, self.variant, self.strategy, strategy, seed, self.defaults["sources"]
        )

    def continues(self, smaller: "Tuning") -> bool:
        """Whether it has all the trials of another one first, and more."""
        count = len(smaller.trials)
        return (
            len(self.trials) > count
            and not self.rounds
            and self.against == smaller.against
            and self.trials[:count] == smaller.trials
        )

    def with_seeds(self, more: Iterable[int]) -> "Tuning":
        """The same, with runs of more seeds."""
        return replace(self, seeds=sorted({*self.seeds, *more}))

    @property
    def runs(self) -> list[str]:
        """Hashes of the runs with the chosen parameters."""
        return [self.spec(self.chosen, seed).hash for seed in self.seeds]


def best(scores: Sequence[float | None]) -> int:
    """The number of the largest score; the first of equal ones, and 0 where there is none."""
    return _ranked(scores)[0]


def best_half(scores: Sequence[float | None]) -> list[int]:
    """The numbers of the larger half of the scores, in their order: of equal ones the first, and
    one more than less of an odd number."""
    return sorted(_ranked(scores)[: math.ceil(len(scores) / 2)])


def _ranked(scores: Sequence[float | None]) -> list[int]:
    known = [-math.inf if score is None else score for score in scores]
    return sorted(range(len(known)), key=lambda number: -known[number])


def trial_file(store: Store, hash: str) -> Path:
    return store.root / TRIALS / f"{hash}.json"


def write_trial(store: Store, info: Mapping[str, Any], history: Mapping[str, list[float]]) -> None:
    """Keeps a trial: what `run.json` would hold, and its history."""
    _write(trial_file(store, info["hash"]), {**info, "history": history})


def read_trial(path: Path) -> dict[str, Any]:
    """What `write_trial` kept.

    Raises:
        DamagedRunError: there is none, or not one of this name.
    """
    info = read_sealed(path, TRIAL)
    spec = RunSpec.stored(info["spec"])
    if not path.stem == info["hash"] == spec.hash:
        raise DamagedRunError(f"{path.name} is another trial's, {spec.hash}")
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
    kept = read_sealed(path, TUNING)
    trials = [TrialScore(*(trial[f.name] for f in fields(TrialScore))) for trial in kept["trials"]]
    values = {f.name: kept[f.name] for f in fields(Tuning)}
    tuning = Tuning(**{**values, "trials": trials})
    if not trials or any(trial.hash != tuning.spec(trial, TRIAL_SEED).hash for trial in trials):
        raise DamagedRunError(f"{path.name} has trials that are not those of its parameters")
    if tuning.rounds and not _has_rounds(tuning):
        raise DamagedRunError(f"{path.name} has trials that are not those of its rounds")
    if path.stem != tuning.hash:
        raise DamagedRunError(f"{path.name} is another tuning's, {tuning.hash}")
    return tuning


def _has_rounds(tuning: Tuning) -> bool:
    """Whether the trials of a tuning can be those of its rounds."""
    whole = tuning.defaults["suite_parameters"].get(EPOCHS)
    epochs = [trial.parameters.get(EPOCHS, whole) for trial in tuning.trials]
    return (
        sum(tuning.rounds) == len(tuning.trials)
        and isinstance(whole, int)
        and all(isinstance(count, int) and 0 < count <= whole for count in epochs)
    )


def tunings(store: Store) -> tuple[list[Tuning], list[tuple[Path, str]]]:
    """All tunings that can be read, and the damaged ones as (file, what is wrong)."""
    found: list[Tuning] = []
    damaged: list[tuple[Path, str]] = []
    folder = store.root / TUNED
    if folder.is_file():
        damaged.append((folder, "it is no folder"))
    for path in below(folder, "*.json"):
        try:
            found.append(read_tuning(path))
        except DamagedRunError as error:
            damaged.append((path, str(error)))
    return found, damaged


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as aside:
        aside.write_bytes(sealed(content))
