"""The commands that train the runs of a results directory, made from their specs.

Only what differed from the defaults of its release is written as `--set`. A study need not be a
grid, so a suite may take several commands: in each, every strategy has the same variants and the
same number of seeds.
"""

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtlbench.analysis.report.runs import RunSummary

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


def run_commands(runs: Sequence[RunSummary], results: str) -> list[str]:
    """The `mtlbench run` commands of these runs, suite by suite.

    Args:
        runs: all of them, in the order in which commands are to name things.
        results: the results directory, as typed.
    """
    seeds: dict[tuple[str, Typed, bool, str, Typed], dict[str, int]] = defaultdict(dict)
    for run in runs:
        spec = run.spec
        of_suite = {**spec["suite_parameters"], **spec["locations"]}
        suite = tuple((key, text) for key, text in _wanted(of_suite, run.changed) if text)
        wants = _wanted(spec["strategy_parameters"], run.changed)
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


def _wanted(parameters: Mapping[str, Any], changed: Collection[str]) -> Typed:
    return tuple((key, typed(v) if key in changed else "") for key, v in parameters.items())


def typed(value: Any) -> str:
    """A parameter's value as it is typed after `--set KEY=`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{typed(item)}" for key, item in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(typed, value))
    return str(value)
