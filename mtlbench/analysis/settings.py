"""Settings: the parameters that tell configurations of one suite apart."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

TUNED = "tuned"
"""In the settings of a tuned strategy, after all that tells it from others of its kind."""

DATA = "data"
"""In the settings of runs that were trained on other data than others under the same parameters."""


def settings_of(
    specs: Sequence[Mapping[str, Any]],
    reference: Sequence[bool] | None = None,
    changed: Sequence[Collection[str] | None] | None = None,
) -> list[str]:
    """For each spec, the parameters in which it differs from others that it must not join.

    Parameters of the suite are held against all specs of that suite, those of the strategy and its
    source against those of the same variant and strategy, since a recipe may give every variant
    its own. Data should be the same under the same parameters of the suite; where it is not, it is
    told. A default is not told, where runs of one default alone are there: so those with other
    values have marks, and not the ones beside them. Nor is what the reference specs have in common.

    Args:
        specs: the specs.
        reference: which of them are those of reference runs; none where None.
        changed: the parameters of each that are not the default ones, where its run says so; None
            where it does not, and for all where None.

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
    theirs = [False] * len(specs) if reference is None else reference
    data = [_texts({DATA: spec.get("fingerprint", "")}, known) for spec in specs]
    own = [None] * len(specs) if changed is None else changed
    told = [
        _told(parameters, suites, theirs, own),
        # Parameters of a strategy and the source of one.
        _told(strategies, cells, theirs, own),
        _told(sources, cells, theirs),
        # Only some strategies come from a plugin: a source that is absent says nothing there.
        _told(sources, suites, theirs, absence_counts=False),
        _told(data, list(zip(suites, map(id, parameters), strict=True)), theirs),
    ]
    return [", ".join(sorted(set().union(*of_spec))) for of_spec in zip(*told, strict=True)]


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


def _told(
    configurations: Sequence[Mapping[str, str]],
    groups: Sequence[Any],
    reference: Sequence[bool],
    changed: Sequence[Collection[str] | None] | None = None,
    *,
    absence_counts: bool = True,
) -> list[frozenset[str]]:
    """For each configuration, its values ("KEY=VALUE") that are not the same throughout its group,
    but for those that all reference configurations of the group have, and for defaults."""
    members: dict[Any, dict[int, Mapping[str, str]]] = defaultdict(dict)
    standards: dict[Any, dict[int, Mapping[str, str]]] = defaultdict(dict)
    defaults: dict[Any, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    seen = set()
    known = [None] * len(configurations) if changed is None else changed
    for group, configuration, of_reference, others in zip(
        groups, configurations, reference, known, strict=True
    ):
        members[group][id(configuration)] = configuration
        if of_reference:
            standards[group][id(configuration)] = configuration
        case = group, id(configuration), None if others is None else frozenset(others)
        if others is not None and case not in seen:
            seen.add(case)
            for key, value in configuration.items():
                if key not in others:
                    defaults[group][key].add(value)

    told: dict[Any, dict[int, frozenset[str]]] = {}
    for group, inside in members.items():
        differing = _values(inside.values(), absence_counts)
        usual = _values(standards[group].values(), absence_counts)
        told[group] = {
            number: frozenset(
                f"{key}={configuration[key]}" if key in configuration else f"no {key}"
                for key, values in differing.items()
                if len(values) > 1
                and usual.get(key) != {configuration.get(key)}
                and defaults[group].get(key) != {configuration.get(key)}
                # What others of the group have tells it apart already, unless that is not said.
                and (key in configuration or len(usual.get(key, ())) == 1)
            )
            for number, configuration in inside.items()
        }
    return [
        told[group][id(configuration)]
        for group, configuration in zip(groups, configurations, strict=True)
    ]


def _values(
    configurations: Collection[Mapping[str, str]], absence_counts: bool
) -> dict[str, set[str | None]]:
    """The values of each key; None where a configuration has none, if that counts."""
    keys: set[str] = set().union(*configurations)
    return {key: {c.get(key) for c in configurations if absence_counts or key in c} for key in keys}


def configuration(strategy: str, settings: str) -> str:
    """The key of a configuration: the strategy's with its settings, as `ilt[ilt.lr=4.0]`."""
    return f"{strategy}{bracketed(settings)}"


def bracketed(settings: str) -> str:
    return f"[{settings}]" if settings else ""


def names_data(settings: str) -> bool:
    """Whether settings tell the data, because others under the same parameters had other data."""
    return any(part.startswith(f"{DATA}=") for part in settings.split(", "))


def labelled(label: str, settings: str) -> str:
    """What printed tables call a configuration: "ILT Params [ilt.lr=4.0] (tuned)"."""
    own, tuned = _parted(settings)
    return " ".join(filter(None, (label, bracketed(", ".join(own)), _in_parentheses(tuned))))


def _in_parentheses(parts: Sequence[str]) -> str:
    return f"({', '.join(parts)})" if parts else ""


def is_tuned(settings: str) -> bool:
    """Whether settings are those of a tuned strategy."""
    return TUNED in settings.split(", ")


def untuned(settings: str) -> str:
    """The settings with which the tuning of a strategy began."""
    return ", ".join(_parted(settings)[0])


def _parted(settings: str) -> tuple[list[str], list[str]]:
    """The parts that tell the parameters, and those that tell how they were tuned."""
    parts = [part for part in settings.split(", ") if part]
    place = parts.index(TUNED) if TUNED in parts else len(parts)
    return parts[:place], parts[place:]
