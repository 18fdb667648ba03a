"""From what a person asks for to a set of run specs, all checked before anything is trained."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtlbench.data.corruption import require_known
from mtlbench.data.variants import Variant
from mtlbench.errors import UserError, listed
from mtlbench.spec import RunSpec
from mtlbench.strategies.base import strategies as known_strategies
from mtlbench.strategies.compose import Composition
from mtlbench.study.frozen import FoundBy
from mtlbench.suites.base import Suite, suites
from mtlbench.suites.build import build_suite, recipe_parameters, suite_of
from mtlbench.suites.datasets import DatasetSuite
from mtlbench.suites.trial import first_items, try_network
from mtlbench.tasks.epoch_rule import MEAN, EpochRule
from mtlbench.training.labels import fingerprint, resident_data

MOST_RUNS = 100_000
"""A study of more is a slip of the hand, and its runs would not fit into memory."""

EVERY_STRATEGY = "all"
"""In place of names: every registered strategy by itself."""


def plan(
    suite: str,
    *,
    strategies: Iterable[str] | None = None,
    variants: Iterable[str] | None = None,
    seeds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    found_by: FoundBy | None = None,
) -> list[RunSpec]:
    """The specs of a study; what is not given comes from the suite's default study.

    Args:
        suite: the suite's name.
        strategies: names such as `ilt+pcgrad`; `all` stands for every registered one.
        variants: names such as `depth@0.4`.
        seeds: how many, counted from 0.
        overrides: suite parameters by name, strategy parameters as `STAGE.PARAMETER`.
        found_by: what a run found, for strategies that take it; those of a variant where nothing is
            to be had are left out.

    Raises:
        UserError: anything in it that does not exist or is out of range.
    """
    overrides = {} if overrides is None else overrides
    if not isinstance(overrides, Mapping) or not all(isinstance(key, str) for key in overrides):
        raise UserError(f"overrides are values by the names of parameters, not {overrides!r}")
    entry = suites.get(suite)
    of_stages = {key: value for key, value in overrides.items() if "." in key}
    of_suite = {key: value for key, value in overrides.items() if "." not in key}
    resolved_suite = entry.resolve(of_suite)
    locations = {
        item.name: _location(resolved_suite.pop(item.name))
        for item in fields(entry.cls)
        if item.metadata.get("location")
    }
    benchmark = build_suite(suite, {**resolved_suite, **locations})
    benchmark.check()
    tasks = benchmark.tasks()
    require_known(tasks)
    data = "" if entry.of_package else _tried(suite, benchmark)
    seeds = benchmark.default_seeds if seeds is None else seeds
    if isinstance(seeds, bool) or not isinstance(seeds, int) or not 1 <= seeds <= MOST_RUNS:
        raise UserError(f"seeds must be at least 1 and at most {MOST_RUNS}, but is {seeds!r}")
    names = listed("strategy", benchmark.default_strategies if strategies is None else strategies)
    registered = [entry.name for entry in known_strategies.entries()]
    names = [n for name in names or () for n in (registered if name == EVERY_STRATEGY else [name])]
    compositions = _unique([Composition.parse(name) for name in names], "strategy")
    texts = listed("variant", benchmark.default_variants if variants is None else variants)
    parsed = _unique([Variant.parse(text, tasks) for text in texts or ()], "variant")
    _check_stage_overrides(of_stages, compositions)
    if (runs := seeds * len(compositions) * len(parsed)) > MOST_RUNS:
        raise UserError(
            f"{len(compositions)} strategies, {len(parsed)} variants and {seeds} seeds are "
            f"{runs:,} runs, and more than {MOST_RUNS:,}"
        )

    specs = []
    for variant in parsed:
        for composition in compositions:
            given = dict(of_stages)
            source, taken = taken_from(composition)
            if source and not set(taken) & set(given):
                if found_by is None:
                    options = " ".join(f"--set {name}=…" for name in taken)
                    raise UserError(
                        f"strategy {composition.name!r} takes what a run of {source!r} found: give "
                        f"{options}"
                    )
                (run,) = plan(
                    suite,
                    strategies=[source],
                    variants=[variant.name],
                    seeds=1,
                    overrides={**of_suite, **_of(source, of_stages)},
                )
                found = found_by(run)
                if found is None:
                    continue
                given |= {f"{composition.task.name}.{k}": dict(v) for k, v in found.items()}
            resolved = recipe_parameters(benchmark, variant, composition, given)
            _try_out(composition, resolved, benchmark)
            sources = {
                part.name: part.source for part in (entry, *composition.stages) if part.source
            }
            specs += [
                RunSpec(
                    suite,
                    resolved_suite,
                    variant.name,
                    composition.name,
                    resolved,
                    seed,
                    sources,
                    locations,
                    data,
                )
                for seed in range(seeds)
            ]
    # One seed of everything first: a study that is stopped early still compares like with like.
    return sorted(specs, key=lambda spec: spec.seed)


def require_metrics(spec: RunSpec) -> None:
    """Makes sure that there is something by which runs can be compared.

    Raises:
        UserError: there is not.
    """
    if not any(task.metrics for task in suite_of(spec).tasks()):
        raise UserError(f"suite {spec.suite!r} has no metric by which its runs could be compared")


def _tried(name: str, suite: Suite) -> str:
    """The fingerprint of the data of a plugin's suite, on which its network is tried; empty where
    the data cannot be had here, which the runs then tell.

    Raises:
        UserError: its data or its network cannot be trained.
    """
    device = torch.device("cpu")
    try:
        try:
            found = fingerprint(suite, device)
        except UserError:
            raise
        except (Exception, SystemExit):
            return ""
        if not isinstance(suite, DatasetSuite):  # whose check it is
            _try_once(suite, device)
    except UserError as error:
        raise UserError(f"suite {name!r}: {error}") from error
    return found


@functools.lru_cache(maxsize=64)  # a tuning plans each of its trials for each strategy
def _try_once(suite: Suite, device: torch.device) -> None:
    try_network(suite, [first_items(resident_data(suite, device).train, suite.batch_size)])


def _location(value: Any) -> str:
    return str(Path(value).expanduser().absolute() if isinstance(value, str) else value)


def taken_from(composition: Composition) -> tuple[str, list[str]]:
    """The strategy whose run gives parameters to a composition, or "", and which they are."""
    entry = composition.task
    taken = getattr(entry.cls, "taken", ())
    return getattr(entry.cls, "of", ""), [f"{entry.name}.{name}" for name in taken]


def _of(stage: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in overrides.items() if key.startswith(f"{stage}.")}


def _try_out(composition: Composition, parameters: Mapping[str, Any], suite: Suite) -> None:
    """Builds a strategy once, so that what does not fit is known before training.

    A stage that breaks otherwise is left to its runs, which will end as failed.
    """
    try:
        built = composition.build(
            parameters,
            tasks={task.name: task.kind for task in suite.tasks()},
            num_instances=1,
            representation=nn.Identity(),
        )
        population = built.task.networks > 1 and not built.task.network_per_task
        if population and EpochRule.parse(suite.epoch_rule).kind == MEAN:
            raise UserError(
                f"strategy {composition.name!r} takes no epoch_rule {suite.epoch_rule!r}: most of "
                "its networks are never tested"
            )
    except UserError:
        raise
    except Exception:
        return


def _check_stage_overrides(overrides: Mapping[str, Any], compositions: list[Composition]) -> None:
    stages = {stage.name for composition in compositions for stage in composition.stages}
    stages |= {taken_from(composition)[0] for composition in compositions}
    for key in overrides:
        stage = key.partition(".")[0]
        known_strategies.get(stage)
        if stage not in stages:
            raise UserError(f"parameter {key!r} belongs to {stage!r}, which is not in this study")


def _unique(items: list[Any], what: str) -> list[Any]:
    if not items:
        raise UserError(f"no {what} given")
    return list({item.name: item for item in items}.values())
