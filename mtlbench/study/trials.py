"""Trials of every strategy, planned: the same points for all in what they share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil, log2
from typing import Any

from mtlbench.errors import UserError, listed, unknown
from mtlbench.randomness import derive_seed
from mtlbench.space import Choice, Dimension, Range, Space, points
from mtlbench.spec import RunSpec
from mtlbench.store.trials import EPOCHS, TRIAL_SEED
from mtlbench.strategies.base import strategies as known_strategies
from mtlbench.strategies.compose import DEFAULT_TASK_STAGE, Composition
from mtlbench.study.frozen import FoundBy
from mtlbench.study.plan import plan
from mtlbench.suites.base import Suite
from mtlbench.suites.build import suite_of
from mtlbench.training.jobs import RunJob

MOST_TRIALS, MOST_BUDGET = 10_000, 10_000_000

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

    def round(self, numbers: Sequence[int], share: float) -> "Candidate":
        """Some of the trials, for a share of the epochs, but at least one.

        Raises:
            UserError: so few epochs cannot be.
        """
        whole = int(self.default.suite_parameters[EPOCHS])
        fewer = {} if share == 1 else {EPOCHS: max(1, round(share * whole))}
        trials = [
            replace(spec, suite_parameters={**spec.suite_parameters, **fewer})
            for spec in map(self.trials.__getitem__, numbers)
        ]
        suite_of(trials[0])
        return Candidate(trials, [{**self.changes[i], **fewer} for i in numbers])


def rounds(trials: int, count: int) -> list[int]:
    """How many trials there are in each of so many rounds: the upper half of them goes on."""
    return list(accumulate(range(1, count), lambda left, _: ceil(left / 2), initial=trials))


def shares_of_epochs(trials: int) -> list[float]:
    """For which share of the epochs each round of successive halving trains: twice the one before,
    until two trials are left, which train for all. Eight: 1/4, 1/2, 1."""
    count = max(1, ceil(log2(trials)))
    return [2.0 ** -(count - 1 - number) for number in range(count)]


def plan_trials(
    suite: str,
    strategies: Iterable[str] | None,
    variants: Iterable[str] | None,
    count: int,
    overrides: Mapping[str, Any] | None,
    *,
    budget: int | None = None,
    space: Space | None = None,
    found_by: FoundBy | None = None,
) -> list[Candidate]:
    """The trials of every strategy on every variant: the default parameters, then points of its
    space, which all strategies begin with the same dimensions.

    Args:
        suite, strategies, variants, overrides, budget, space: as for `tune`.
        count: how many, where there is no budget.
        found_by: as for `plan`.

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
        found_by=found_by,
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
    epochs = int(spec.suite_parameters[EPOCHS])
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
    """The values of a choice; the outermost ones of a range and one between, which need not be as
    whole as its ends."""
    if isinstance(dimension, Choice):
        return dimension.values
    shares = (0.0, 0.381966, 1 - 1e-9) if isinstance(dimension, Range) else ()
    return tuple(dimension.at([share]) for share in shares)


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
) -> list[Candidate]:
    """The default equal weights on each variant, a trial each."""
    variants = list(dict.fromkeys(candidate.default.variant for candidate in candidates))
    of_suite = {name: value for name, value in (overrides or {}).items() if "." not in name}
    specs = plan(suite, strategies=[BASELINE], variants=variants, seeds=1, overrides=of_suite)
    return [Candidate([replace(spec, seed=TRIAL_SEED)], [{}]) for spec in specs]
