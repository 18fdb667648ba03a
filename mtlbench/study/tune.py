"""The same budget for every strategy: trials, the choice, and runs with what was chosen."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtlbench.analysis.aggregate import Comparison, compare
from mtlbench.analysis.tuning import gain
from mtlbench.errors import UnfinishedError, UserError, listed
from mtlbench.execution import progress
from mtlbench.execution.resources import Resources
from mtlbench.execution.trackers.tracking import load
from mtlbench.plugins import PluginFile, read_plugins
from mtlbench.space import Space
from mtlbench.spec import RunSpec
from mtlbench.store import DEFAULT_RESULTS
from mtlbench.store.runs import Store
from mtlbench.store.schema import DONE, PARAMETERS
from mtlbench.store.sealed import DamagedRunError
from mtlbench.store.trials import (
    EPOCHS,
    TrialScore,
    Tuning,
    best_half,
    read_trial,
    read_tuning,
    trial_file,
    tuning_file,
    write_tuning,
)
from mtlbench.strategies.compose import Composition
from mtlbench.study.frozen import FoundBy, found_in
from mtlbench.study.plan import require_metrics, taken_from
from mtlbench.study.run import Outcome, plan_with_sources, status_of, train_missing
from mtlbench.study.trials import (
    BASELINE,
    MOST_BUDGET,
    MOST_TRIALS,
    Candidate,
    baselines,
    plan_trials,
    rounds,
    shares_of_epochs,
)
from mtlbench.training.job import run_directory
from mtlbench.training.jobs import RunJob
from mtlbench.training.trials import TrialJob

TRIALS = 8


def tune(
    suite: str,
    *,
    strategies: Iterable[str] | None = None,
    variants: Iterable[str] | None = None,
    trials: int = TRIALS,
    budget: int | None = None,
    halving: bool = False,
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
        halving: trains them for fewer epochs, and again and again the better half of them for
            twice as many; see `shares_of_epochs`. Not with a budget.
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
        halving=halving,
        space=space,
        seeds=seeds,
        overrides=overrides,
        plugins=read_plugins(plugins),
        results=results,
        resources=resources or Resources(),
        trackers=trackers,
    )
    hashes = {spec.hash for spec in outcome.specs}
    return compare(results, suite, hashes=hashes, tunings=outcome.tunings)


def tune_study(
    suite: str,
    *,
    strategies: Iterable[str] | None,
    variants: Iterable[str] | None,
    trials: int,
    budget: int | None = None,
    halving: bool = False,
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
        if halving:
            raise UserError("halving takes a number of trials, not a budget")
    strategies, variants = listed("strategy", strategies), listed("variant", variants)
    store, known_trackers = Store(results), load(trackers)
    study = {"strategies": strategies, "variants": variants, "seeds": seeds, "overrides": overrides}

    def trials_with(found_by: FoundBy) -> list[Candidate]:
        return plan_trials(
            suite,
            strategies,
            variants,
            trials,
            overrides,
            budget=budget,
            space=space,
            found_by=found_by,
        )

    # First all that can be known before anything is trained.
    candidates = trials_with(lambda spec: {})
    require_metrics(candidates[0].default)
    for candidate in candidates:
        spec = candidate.default
        files = [place(store, spec.hash) for place in (trial_file, tuning_file)]
        store.require_way([*files, run_directory(spec, store)])
    finals, left_out = plan_with_sources(
        suite, study, store, plugins=plugins, resources=resources, trackers=known_trackers
    )
    if any(taken_from(Composition.parse(spec.strategy))[0] for spec in finals):
        candidates = trials_with(found_in(store, lambda why: None))
    for candidate in candidates:
        cost = RunJob(candidate.default).epochs
        if budget is not None and cost > budget:
            spec = candidate.default
            progress.say(
                f"{spec.variant}/{spec.strategy}: one trial takes {cost} network-epochs, more than "
                f"the budget of {budget}"
            )
    seeds = 1 + max(spec.seed for spec in finals)
    shares = [1.0]
    if halving:
        if any(EPOCHS in change for candidate in candidates for change in candidate.changes):
            raise UserError("epochs cannot be searched by halving, which decides them")
        shares = shares_of_epochs(trials)
    race = Race(suite, overrides, candidates, shares)
    chosen = race.run(store, plugins, resources)
    for tuning in chosen:
        if tuning.chosen.score is None:
            progress.say(
                f"{tuning.variant}/{tuning.strategy}: no trial ended well; default parameters"
            )
    plain = {spec.hash for spec in finals}
    finals += [
        replace(
            tuning.spec(tuning.chosen, seed),
            locations=candidate.default.locations,
            fingerprint=candidate.default.fingerprint,
        )
        for candidate, tuning in zip(candidates, chosen, strict=True)
        for seed in range(seeds)
    ]
    unique = {spec.hash: spec for spec in sorted(finals, key=lambda spec: spec.seed)}
    train_missing(
        [RunJob(spec, tuned=spec.hash not in plain) for spec in unique.values()],
        store,
        suite,
        "runs",
        plugins=plugins,
        resources=resources,
        trackers=known_trackers,
    )
    for tuning in chosen:
        _keep(store, replace(tuning, seeds=list(range(seeds))))
    specs = list(unique.values())
    statuses = [status_of(spec, store) for spec in specs]
    return Outcome(specs, statuses, left_out, frozenset(tuning.hash for tuning in chosen))


def _check_number(name: str, number: Any, most: int) -> None:
    whole = isinstance(number, int) and not isinstance(number, bool)
    if not whole or not 1 <= number <= most:
        raise UserError(f"{name} must be at least 1 and at most {most}, but is {number!r}")


@dataclass(frozen=True)
class Race:
    """The trials of all candidates, in rounds: after each, the better half of those of a candidate
    goes on to the next, which trains for more epochs. Successive halving; one round is none.

    Each round begins anew, with a learning rate that falls to its end within the round.

    Jamieson, Talwalkar: Non-stochastic Best Arm Identification and Hyperparameter Optimization,
    AISTATS 2016.

    Attributes:
        suite, overrides: as for `tune`.
        candidates: what is tuned.
        shares: of the epochs, for which each round trains.

    Raises:
        UserError: so few epochs cannot be.
    """

    suite: str
    overrides: Mapping[str, Any] | None
    candidates: Sequence[Candidate]
    shares: Sequence[float]

    def __post_init__(self) -> None:
        for share in self.shares:
            for candidate in self.candidates:
                candidate.round([0], share)

    def run(
        self, store: Store, plugins: Sequence[PluginFile], resources: Resources
    ) -> list[Tuning]:
        """Trains what is missing of all rounds; the tuning of each candidate, with no runs yet.

        Raises:
            UserError: a trial of the default equal weights did not end well, so that nothing can be
                held against it.
        """
        standing = [list(range(len(candidate.trials))) for candidate in self.candidates]
        scores: list[list[TrialScore]] = [[] for _ in self.candidates]
        equal = baselines(self.candidates, self.suite, self.overrides)
        for share in self.shares:
            entered = [
                candidate.round(numbers, share)
                for candidate, numbers in zip(self.candidates, standing, strict=True)
            ]
            held_against = [baseline.round([0], share).default for baseline in equal]
            jobs = {
                spec.hash: TrialJob(spec, number=number)
                for candidate, numbers in zip(entered, standing, strict=True)
                for number, spec in zip(numbers, candidate.trials, strict=True)
            }
            for spec in held_against:
                jobs.setdefault(spec.hash, TrialJob(spec))
            train_missing(
                list(jobs.values()),
                store,
                self.suite,
                "trials" if share == 1 else f"trials of {share:.3g} of the epochs",
                plugins=plugins,
                resources=resources,
            )
            against = {spec.variant: _base(store, spec) for spec in held_against}
            for place, candidate in enumerate(entered):
                found = _scores(store, candidate, against[candidate.default.variant])
                scores[place] += found
                better = best_half([trial.score for trial in found])
                standing[place] = [standing[place][i] for i in better]
        return [
            self._tuning(store, candidate, against, of_one)
            for candidate, of_one in zip(self.candidates, scores, strict=True)
        ]

    def _tuning(
        self,
        store: Store,
        candidate: Candidate,
        against: Mapping[str, Mapping[str, Any]],
        scores: list[TrialScore],
    ) -> Tuning:
        first = candidate.default
        return Tuning(
            suite=first.suite,
            variant=first.variant,
            strategy=first.strategy,
            defaults={name: dict(getattr(first, name)) for name in PARAMETERS},
            against=against[first.variant]["hash"],
            trials=scores,
            seeds=[],
            networks=RunJob(first).networks,
            rounds=rounds(len(candidate.trials), len(self.shares)) if len(self.shares) > 1 else [],
        )


def _trial(store: Store, spec: RunSpec) -> dict[str, Any]:
    """A trial that was trained.

    Raises:
        UnfinishedError: it was damaged since.
    """
    path = trial_file(store, spec.hash)
    try:
        return read_trial(path)
    except DamagedRunError as error:
        raise UnfinishedError(f"{path}: {error}") from error


def _base(store: Store, spec: RunSpec) -> dict[str, Any]:
    """The trial of the default equal weights.

    Raises:
        UserError: it did not end well.
    """
    info = _trial(store, spec)
    if info["status"] != DONE or gain(info["metrics"], info["metrics"]) is None:
        status = "no metrics" if info["status"] == DONE else info["status"]
        raise UserError(
            f"the trial of {BASELINE!r} on {spec.variant!r} has {status}: "
            "there is nothing to hold others against"
        )
    return info


def _scores(store: Store, candidate: Candidate, against: Mapping[str, Any]) -> list[TrialScore]:
    """What trials of a candidate that are in the store have reached."""
    found = []
    for spec, change in zip(candidate.trials, candidate.changes, strict=True):
        info = _trial(store, spec)
        done = info["status"] == DONE
        score = gain(info["metrics"], against["metrics"]) if done else None
        found.append(TrialScore(spec.hash, change, score))
    return found


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
                    if tuning == before:  # which may lie where nothing can be written
                        return
                else:
                    progress.say(f"{path} has other scores; set aside as {store.set_aside(path)}")
        write_tuning(path, tuning)
    except OSError as error:
        raise UnfinishedError(f"{str(path)!r} cannot be written: {error.strerror}") from error
