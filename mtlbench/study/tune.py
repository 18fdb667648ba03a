"""The same budget for every strategy: trials, the choice, and runs with what was chosen."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtlbench.analysis.aggregate import Comparison, compare
from mtlbench.analysis.tuning import gain
from mtlbench.errors import UnfinishedError, UserError, listed, unknown
from mtlbench.execution import progress
from mtlbench.execution.resources import Resources
from mtlbench.execution.trackers.tracking import load
from mtlbench.plugins import PluginFile, read_plugins
from mtlbench.randomness import derive_seed
from mtlbench.space import Choice, Dimension, Range, Space, points
from mtlbench.spec import RunSpec
from mtlbench.store import DEFAULT_RESULTS
from mtlbench.store.runs import DamagedRunError, Store, read_run
from mtlbench.store.schema import DONE, PARAMETERS
from mtlbench.store.trials import (
    TRIAL_SEED,
    TrialScore,
    Tuning,
    check_folders,
    read_trial,
    read_tuning,
    trial_file,
    tuning_file,
    write_tuning,
)
from mtlbench.strategies.base import strategies as known_strategies
from mtlbench.strategies.compose import DEFAULT_TASK_STAGE, Composition
from mtlbench.study.frozen import WeightsOf, weights_in
from mtlbench.study.plan import frozen_from, plan
from mtlbench.study.run import Outcome, plan_with_sources, train_missing
from mtlbench.suites.base import Suite
from mtlbench.suites.build import suite_of
from mtlbench.training.job import run_directory
from mtlbench.training.jobs import RunJob
from mtlbench.training.trials import TrialJob

TRIALS, MOST_TRIALS = 8, 10_000
MOST_BUDGET = 10_000_000

BASELINE = DEFAULT_TASK_STAGE
"""Its first trial, with the default parameters, is what all trials are held against."""


@dataclass(frozen=True)
class Candidate:
    """A strategy on a variant, with its trials.

    Attributes:
        trials: the specs of all trials, which differ in their parameters; the first has the
            default ones.
        changes: of each trial, the parameters that are not the default's, by name.
    """

    trials: list[RunSpec]
    changes: list[dict[str, Any]]

    @property
    def default(self) -> RunSpec:
        return self.trials[0]


def tune(
    suite: str,
    *,
    strategies: Iterable[str] | None = None,
    variants: Iterable[str] | None = None,
    trials: int = TRIALS,
    budget: int | None = None,
    space: Space | None = None,
    seeds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    results: str | Path = DEFAULT_RESULTS,
    resources: Resources | None = None,
    trackers: Sequence[str] = (),
) -> Comparison:
    """Tunes strategies with the same budget each and compares them, as they are and tuned.

    Args:
        suite: the suite's name.
        strategies, variants: the study; the suite's default study where None.
        trials: how many each strategy gets on each variant, the default parameters included.
        budget: network-epochs that each gets instead: one that trains eight networks a trial has
            an eighth of the trials of others, but at least one.
        space: values among which parameters are searched, beside those of the suite and of the
            strategies and in place of theirs, by name: suite parameters and `STAGE.PARAMETER`.
        seeds: of the final runs, counted from 0; the suite's own number where None.
        overrides: parameters that are the same in all trials, as for `mtlbench.run`.
        plugins: files that register further strategies or suites.
        results: the results directory.
        resources: what a run takes, and where.
        trackers: names of trackers that follow the final runs.

    Raises:
        UserError: anything in it that does not exist or is out of range.
    """
    outcome = tune_study(
        suite,
        strategies=strategies,
        variants=variants,
        trials=trials,
        budget=budget,
        space=space,
        seeds=seeds,
        overrides=overrides,
        plugins=read_plugins(plugins),
        results=results,
        resources=resources or Resources(),
        trackers=trackers,
    )
    return compare(results, suite, hashes={spec.hash for spec in outcome.specs})


def tune_study(
    suite: str,
    *,
    strategies: Iterable[str] | None,
    variants: Iterable[str] | None,
    trials: int,
    budget: int | None = None,
    space: Space | None = None,
    seeds: int | None,
    overrides: Mapping[str, Any] | None,
    plugins: Sequence[PluginFile],
    results: str | Path,
    resources: Resources,
    trackers: Sequence[str],
) -> Outcome:
    """Trains what is missing of all trials, chooses, and trains what is missing of the final runs:
    those with the chosen parameters and those with the default ones.

    Args and raises: as `tune`.
    """
    _check_number("trials", trials, MOST_TRIALS)
    if budget is not None:
        _check_number("budget", budget, MOST_BUDGET)
    strategies, variants = listed("strategy", strategies), listed("variant", variants)
    store, known_trackers = Store(results), load(trackers)
    study = {"strategies": strategies, "variants": variants, "seeds": seeds, "overrides": overrides}

    def trials_with(weights_of: WeightsOf) -> list[Candidate]:
        return plan_trials(
            suite,
            strategies,
            variants,
            trials,
            overrides,
            budget=budget,
            space=space,
            weights_of=weights_of,
        )

    # First all that can be known before anything is trained.
    candidates = trials_with(lambda spec: {})
    check_folders(store)
    finals = plan_with_sources(
        suite, study, store, plugins=plugins, resources=resources, trackers=known_trackers
    )
    if any(frozen_from(Composition.parse(spec.strategy)) for spec in finals):
        candidates = trials_with(weights_in(store))
    for candidate in candidates:
        cost = RunJob(candidate.default).epochs
        if budget is not None and cost > budget:
            spec = candidate.default
            progress.say(
                f"{spec.variant}/{spec.strategy}: one trial takes {cost} network-epochs, more than "
                f"the budget of {budget}"
            )
    seeds = 1 + max(spec.seed for spec in finals)
    jobs = {
        spec.hash: TrialJob(spec, number=number)
        for candidate in candidates
        for number, spec in enumerate(candidate.trials)
    }
    held_against = baselines(candidates, suite, overrides)
    for spec in held_against:
        jobs.setdefault(spec.hash, TrialJob(spec))
    train_missing(list(jobs.values()), store, suite, "trials", plugins=plugins, resources=resources)

    against = {spec.variant: read_trial(trial_file(store, spec.hash)) for spec in held_against}
    chosen = [
        choose(candidate, store, against[candidate.default.variant]) for candidate in candidates
    ]
    for tuning in chosen:
        if all(trial.score is None for trial in tuning.trials):
            progress.say(
                f"{tuning.variant}/{tuning.strategy}: no trial ended well; default parameters"
            )
    for candidate, tuning in zip(candidates, chosen, strict=True):
        number = tuning.trials.index(tuning.chosen)
        finals += [replace(candidate.trials[number], seed=seed) for seed in range(seeds)]
    unique = {spec.hash: spec for spec in sorted(finals, key=lambda spec: spec.seed)}
    train_missing(
        [RunJob(spec) for spec in unique.values()],
        store,
        suite,
        "runs",
        plugins=plugins,
        resources=resources,
        trackers=known_trackers,
    )
    for tuning in chosen:
        _keep(store, replace(tuning, seeds=list(range(seeds))))
    paths = [run_directory(spec, store) for spec in unique.values()]
    statuses = Counter(read_run(path).info["status"] for path in paths if path.exists())
    return Outcome(list(unique.values()), statuses)


def _check_number(name: str, number: Any, most: int) -> None:
    whole = isinstance(number, int) and not isinstance(number, bool)
    if not whole or not 1 <= number <= most:
        raise UserError(f"{name} must be at least 1 and at most {most}, but is {number!r}")


def plan_trials(
    suite: str,
    strategies: Iterable[str] | None,
    variants: Iterable[str] | None,
    count: int,
    overrides: Mapping[str, Any] | None,
    *,
    budget: int | None = None,
    space: Space | None = None,
    weights_of: WeightsOf | None = None,
) -> list[Candidate]:
    """The trials of every strategy on every variant: the default parameters, then points of its
    space, which all strategies begin with the same dimensions.

    Args:
        suite, strategies, variants, overrides, budget, space: as for `tune`.
        count: how many, where there is no budget.
        weights_of: as for `plan`.

    Raises:
        UserError: anything that does not exist or is out of range, a bad space too.
    """
    strategies, variants = listed("strategy", strategies), listed("variant", variants)
    overrides = dict(overrides or {})
    study = plan(
        suite,
        strategies=strategies,
        variants=variants,
        seeds=1,
        overrides=overrides,
        weights_of=weights_of,
    )
    built = suite_of(study[0])
    tasks = [task.name for task in built.tasks()]
    asked = _checked_space(space or {}, built, study, overrides)
    # What is asked for comes first where it is the suite's, so that all share its coordinates.
    shared = {**built.space(), **{name: d for name, d in asked.items() if "." not in name}}
    found = []
    for spec in study:
        own = {name: d for name, d in asked.items() if name in spec.strategy_parameters}
        # What is set by hand is not searched.
        searched = {
            name: dimension
            for name, dimension in {**shared, **strategy_space(spec.strategy), **own}.items()
            if name not in overrides
        }
        trials = count if budget is None else _trials_for(budget, spec)
        try:
            drawn = points(searched, trials - 1, derive_seed("space", suite), tasks)
        except ValueError as error:
            raise UserError(f"strategy {spec.strategy!r}: {error}") from error
        changes = [{}, *drawn]
        specs = [_trial(spec, overrides, change) for change in changes]
        found.append(Candidate(specs, changes))
    return found


def _trials_for(budget: int, spec: RunSpec) -> int:
    """How many trials so many network-epochs are, the first at any price.

    Raises:
        UserError: not even one network can be trained.
    """
    epochs = int(spec.suite_parameters["epochs"])
    if budget < epochs:
        raise UserError(f"budget must be at least {epochs} network-epochs, one network's, here")
    return min(max(1, budget // RunJob(spec).epochs), MOST_TRIALS)


def _checked_space(
    space: Space, suite: Suite, study: Sequence[RunSpec], overrides: Mapping[str, Any]
) -> Space:
    """The same space.

    Raises:
        UserError: it has something else than values to search, values that a parameter cannot have,
            or names one that is not of the study, that is set, or that decides more than how the
            network is trained: then a tuned strategy would be measured on other data.
    """
    of_suite = study[0].suite_parameters
    known = {name for spec in study for name in (*spec.suite_parameters, *spec.strategy_parameters)}
    for name, dimension in space.items():
        if not isinstance(dimension, Dimension):
            raise UserError(
                f"the space has {dimension!r} for {name!r}, which is none of Range, Choice and "
                "TaskWeights"
            )
        if name not in known:
            stage = name.rpartition(".")[0]
            if stage:
                known_strategies.get(stage)
                raise UserError(f"parameter {name!r} is of none of the strategies of this study")
            raise unknown("parameter", name, sorted(known))
        if name in overrides:
            raise UserError(f"parameter {name!r} is set and cannot be searched as well")
        if name in of_suite and name not in suite.searchable:
            raise UserError(
                f"parameter {name!r} cannot be searched: it decides more than how the network is "
                f"trained; of the suite can be {', '.join(suite.searchable)}"
            )
        spec = next(s for s in study if name in {**s.suite_parameters, **s.strategy_parameters})
        for value in _ends(dimension):
            try:
                _trial(spec, overrides, {name: value})
            except UserError as error:
                raise UserError(f"the space of {name!r}: {error}") from error
    return space


def _ends(dimension: Dimension) -> tuple[Any, ...]:
    """The values of a choice, and the outermost ones of a range."""
    if isinstance(dimension, Choice):
        return dimension.values
    return (dimension.at([0.0]), dimension.at([1 - 1e-9])) if isinstance(dimension, Range) else ()


def strategy_space(strategy: str) -> Space:
    """The space of a strategy's own parameters, as `STAGE.PARAMETER`.

    Raises:
        UserError: it names a parameter that the stage does not have.
    """
    found = {}
    for entry in Composition.parse(strategy).stages:
        space = getattr(entry.cls, "space", {})
        if not isinstance(space, Mapping):
            raise UserError(f"the space of {entry.name!r} is no mapping of parameters to values")
        for name, dimension in space.items():
            if not isinstance(dimension, Dimension):
                raise UserError(
                    f"the space of {entry.name!r} has {dimension!r} for {name!r}, which is none of "
                    "Range, Choice and TaskWeights"
                )
            if name not in entry.parameters():
                raise UserError(
                    f"the space of {entry.name!r} names {name!r}, which is none of its parameters"
                )
            found[f"{entry.name}.{name}"] = dimension
    return found


def _trial(spec: RunSpec, overrides: Mapping[str, Any], change: Mapping[str, Any]) -> RunSpec:
    (planned,) = plan(
        spec.suite,
        strategies=[spec.strategy],
        variants=[spec.variant],
        seeds=1,
        overrides={
            **{k: v for k, v in overrides.items() if "." not in k},
            **spec.strategy_parameters,
            **change,
        },
    )
    return replace(planned, seed=TRIAL_SEED)


def baselines(
    candidates: Sequence[Candidate], suite: str, overrides: Mapping[str, Any] | None
) -> list[RunSpec]:
    """The trial of the default equal weights on each variant."""
    variants = list(dict.fromkeys(candidate.default.variant for candidate in candidates))
    of_suite = {name: value for name, value in (overrides or {}).items() if "." not in name}
    specs = plan(suite, strategies=[BASELINE], variants=variants, seeds=1, overrides=of_suite)
    return [replace(spec, seed=TRIAL_SEED) for spec in specs]


def choose(candidate: Candidate, store: Store, against: Mapping[str, Any]) -> Tuning:
    """The tuning of a candidate whose trials are in the store, with no runs yet.

    Args:
        candidate: the strategy on a variant.
        store: where its trials are.
        against: the trial of the default equal weights.

    Raises:
        UserError: that trial did not end well, so that nothing can be held against it.
    """
    variant, strategy = candidate.default.variant, candidate.default.strategy
    if against["status"] != DONE or gain(against["metrics"], against["metrics"]) is None:
        status = "no metrics" if against["status"] == DONE else against["status"]
        raise UserError(
            f"the trial of {BASELINE!r} on {variant!r} has {status}: "
            "there is nothing to hold others against"
        )
    infos = [read_trial(trial_file(store, spec.hash)) for spec in candidate.trials]
    scores = [
        gain(info["metrics"], against["metrics"]) if info["status"] == DONE else None
        for info in infos
    ]
    return Tuning(
        suite=candidate.default.suite,
        variant=variant,
        strategy=strategy,
        defaults={name: dict(getattr(candidate.default, name)) for name in PARAMETERS},
        against=against["hash"],
        trials=[
            TrialScore(spec.hash, change, score)
            for spec, change, score in zip(candidate.trials, candidate.changes, scores, strict=True)
        ],
        seeds=[],
        networks=infos[0].get("population", {}).get("networks", 1),
    )


def _keep(store: Store, tuning: Tuning) -> None:
    """Writes a tuning. Of the same one, runs of more seeds stay known; what is damaged there, or
    has other scores, is set aside.

    Raises:
        UnfinishedError: it cannot be written.
    """
    path = tuning_file(store, tuning.hash)
    try:
        if os.path.lexists(path):
            try:
                before = read_tuning(path)
            except DamagedRunError as error:
                progress.say(f"{path}: {error}; set aside as {store.set_aside(path)}")
            else:
                if before.trials == tuning.trials:
                    tuning = tuning.with_seeds(before.seeds)
                else:
                    progress.say(f"{path} has other scores; set aside as {store.set_aside(path)}")
        write_tuning(path, tuning)
    except OSError as error:
        raise UnfinishedError(f"{str(path)!r} cannot be written: {error.strerror}") from error
