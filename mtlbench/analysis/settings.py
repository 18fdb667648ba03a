"""Settings: the parameters that tell configurations of one suite apart."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any


def settings_of(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each spec, the parameters in which it differs from others that it must not join.

    Parameters of the suite are held against all specs of that suite, those of the strategy and its
    source against those of the same variant and strategy, since a recipe may give every variant
    its own.

    Returns:
        One text a spec, as "epochs=2" or "ilt.lr=4.0, source my.py=ab12"; empty where there is one
        configuration only.
    """
    suites = [spec["suite"] for spec in specs]
    cells = [(spec["suite"], spec["variant"], spec["strategy"]) for spec in specs]
    known: dict[str, dict[str, str]] = {}  # thousands of runs share a few configurations
    parameters = [_texts(spec["suite_parameters"], known) for spec in specs]
    sources = [_texts(spec["sources"], known, "source ") for spec in specs]
    strategies = [_texts(spec["strategy_parameters"], known) for spec in specs]
    differing = [
        (parameters, _differing(parameters, suites)),
        # Parameters of a strategy and the source of one.
        (strategies, _differing(strategies, cells)),
        (sources, _differing(sources, cells)),
        # Only some strategies come from a plugin: a source that is absent says nothing there.
        (sources, _differing(sources, suites, absence_counts=False)),
    ]
    texts = []
    for i in range(len(specs)):
        told = {key: of[i][key] for of, keys in differing for key in keys[i] & of[i].keys()}
        texts.append(", ".join(f"{key}={told[key]}" for key in sorted(told)))
    return texts


def _texts(
    parameters: Mapping[str, Any], known: dict[str, dict[str, str]], prefix: str = ""
) -> dict[str, str]:
    """Parameters as text; the same object for the same ones."""
    content = prefix + json.dumps(parameters, sort_keys=True)
    if content not in known:
        known[content] = {
            prefix + key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            for key, value in parameters.items()
        }
    return known[content]


def _differing(
    configurations: Sequence[Mapping[str, str]],
    groups: Sequence[Any],
    *,
    absence_counts: bool = True,
) -> list[set[str]]:
    """For each configuration, the keys whose values are not the same throughout its group."""
    members: dict[Any, dict[int, Mapping[str, str]]] = defaultdict(dict)
    for group, configuration in zip(groups, configurations, strict=True):
        members[group][id(configuration)] = configuration
    differing = {}
    for group, inside in members.items():
        values: dict[str, set[str | None]] = defaultdict(set)
        for key in set().union(*inside.values()):
            values[key] = {c.get(key) for c in inside.values() if absence_counts or key in c}
        differing[group] = {key for key, found in values.items() if len(found) > 1}
    return [differing[group] for group in groups]


def configuration(strategy: str, settings: str) -> str:
    """The key of a configuration: the strategy's with its settings, as `ilt[ilt.lr=4.0]`."""
    return f"{strategy}{bracketed(settings)}"


def bracketed(settings: str) -> str:
    return f"[{settings}]" if settings else ""
