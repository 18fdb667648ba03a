"""The commands that train the runs of a results directory, made from their specs.

Only what differs from the defaults of this release is written as `--set`. A study need not be a
grid, so a suite may take several commands: in each, every strategy has the same variants and the
same number of seeds.
"""

import json
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtlbench.analysis.report.runs import Run
from mtlbench.errors import UserError

Typed = tuple[tuple[str, str], ...]
"""Parameters with their values as they are typed; empty text stands for the default."""

PLUGIN = "PLUGIN.py"
"""In place of a plugin's file: runs know its content, not where it lies."""


@dataclass(frozen=True)
class Command:
    """A part of a study that one `mtlbench run` trains, except for its strategies.

    Attributes:
        suite: its name.
        overrides: the suite's parameters that are not the defaults.
        plugged: whether it takes a plugin.
        variants: their names.
        seeds: how many.
    """

    suite: str
    overrides: Typed
    plugged: bool
    variants: tuple[str, ...]
    seeds: int

    def text(self, strategies: Sequence[str], wants: Mapping[str, str], results: str) -> str:
        words = ["mtlbench", "run", self.suite, "--strategies", ",".join(strategies)]
        words += ["--variants", *self.variants, "--seeds", str(self.seeds)]
        for key, value in (*self.overrides, *wants.items()):
            words += ["--set", f"{key}={value}"] if value else []
        words += ["--plugin", PLUGIN] if self.plugged else []
        return shlex.join([*words, "--results", results])


def run_commands(runs: Sequence[Run], results: str) -> list[str]:
    """The `mtlbench run` commands of these runs, suite by suite.

    Where a suite or a strategy is not installed here, all its parameters are written out.

    Args:
        runs: all of them, in the order in which commands are to name things.
        results: the results directory, as typed.
    """
    defaults = _Defaults()
    seeds: dict[tuple[str, Typed, bool, str, Typed], dict[str, int]] = defaultdict(dict)
    for run in runs:
        spec = run.spec
        suite, wants = defaults.of_suite(spec), defaults.of_strategy(spec)
        variants = seeds[spec["suite"], suite, bool(spec["sources"]), spec["strategy"], wants]
        variants[spec["variant"]] = max(variants.get(spec["variant"], 0), spec["seed"] + 1)

    commands: dict[Command, list[tuple[list[str], dict[str, str]]]] = defaultdict(list)
    for (name, suite, plugged, strategy, wants), variants in seeds.items():
        for count in dict.fromkeys(variants.values()):
            same = tuple(variant for variant, n in variants.items() if n == count)
            _join(commands[Command(name, suite, plugged, same, count)], strategy, dict(wants))
    return [
        command.text(strategies, wants, results)
        for command, parts in commands.items()
        for strategies, wants in parts
    ]


def _join(
    parts: list[tuple[list[str], dict[str, str]]], strategy: str, wants: dict[str, str]
) -> None:
    """Puts a strategy where no other one wants a parameter of both (`ilt.lr`) otherwise."""
    for strategies, shared in parts:
        both = shared.keys() & wants.keys()
        if strategy not in strategies and all(shared[key] == wants[key] for key in both):
            strategies.append(strategy)
            shared.update(wants)
            return
    parts.append(([strategy], wants))


class _Defaults:
    """Which parameters of a spec differ from the defaults of this release."""

    def __init__(self) -> None:
        self._known: dict[Any, Mapping[str, Any]] = {}

    def of_suite(self, spec: Mapping[str, Any]) -> Typed:
        defaults = self._get(spec["suite"], lambda: _suite_defaults(spec))
        wants = _typed({**spec["suite_parameters"], **spec["locations"]}, defaults)
        return tuple((key, value) for key, value in wants if value)

    def of_strategy(self, spec: Mapping[str, Any]) -> Typed:
        """With empty text for each parameter that is the default."""
        parameters = spec["strategy_parameters"]
        if not parameters:
            return ()
        suite = spec["suite"], json.dumps(spec["suite_parameters"], sort_keys=True)
        key = spec["strategy"], spec["variant"], suite
        return _typed(parameters, self._get(key, lambda: _strategy_defaults(spec)))

    def _get(self, key: Any, find: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        if key not in self._known:
            try:
                self._known[key] = find()
            except UserError:  # not installed here, or of another release
                self._known[key] = {}
        return self._known[key]


def _suite_defaults(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    from mtlbench.suites.base import suites

    parameters = suites.get(spec["suite"]).parameters()
    return {name: parameter.default for name, parameter in parameters.items()}


def _strategy_defaults(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The defaults, and what the suite's recipe puts in their place on this variant."""
    from mtlbench.data.variants import Variant
    from mtlbench.spec import build_suite
    from mtlbench.strategies.compose import Composition

    suite = build_suite(spec["suite"], {**spec["suite_parameters"], **spec["locations"]})
    recipe = suite.strategy_parameters(Variant.parse(spec["variant"], suite.tasks()))
    composition = Composition.parse(spec["strategy"])
    mine = {stage.name for stage in composition.stages}
    return composition.resolve({k: v for k, v in recipe.items() if k.partition(".")[0] in mine})


def _typed(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> Typed:
    return tuple(
        (key, "" if key in defaults and defaults[key] == value else typed(value))
        for key, value in parameters.items()
    )


def typed(value: Any) -> str:
    """A parameter's value as it is typed after `--set KEY=`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{typed(item)}" for key, item in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(typed, value))
    return str(value)
