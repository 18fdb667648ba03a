"""Runs beside their metrics: specs, versions, hardware, failures."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlbench.analysis.reference import reference_runs
from mtlbench.store.runs import RUN_FILE

MAX_FAILURES = 200
MAX_PLACES = 3


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run, without its metrics.

    Attributes:
        spec: as stored.
        changed: the parameters that were not the defaults.
        status: `done`, `diverged` or `failed`.
        versions: package to version.
        device: the hardware it was trained on.
        seconds: of training.
        error: the last line of the error that ended it; empty where there was none.
        corrupted: task to the share of its training labels that is corrupted.
    """

    spec: Mapping[str, Any]
    changed: frozenset[str]
    status: str
    versions: str
    device: str
    seconds: float
    error: str
    corrupted: Mapping[str, float]

    @property
    def name(self) -> str:
        spec = self.spec
        return f"{spec['suite']}/{spec['variant']}/{spec['strategy']}/seed-{spec['seed']}"


def read_runs(places: Mapping[str, str]) -> dict[str, RunSummary]:
    """Runs by hash.

    Args:
        places: hash to the directory of the run, which has been found whole; "" for a run of the
            reference results.
    """
    reference = {} if all(places.values()) else {run["hash"]: run for run in reference_runs()}
    return {
        hash: _summary(
            json.loads((Path(path) / RUN_FILE).read_bytes()) if path else reference[hash]
        )
        for hash, path in places.items()
    }


def _summary(info: Mapping[str, Any]) -> RunSummary:
    versions = info.get("versions") or {}
    lines = str(info.get("error") or "").strip().splitlines()
    spec = {"locations": {}, **info["spec"]}
    parameters = [*spec["suite_parameters"], *spec["strategy_parameters"], *spec["locations"]]
    return RunSummary(
        spec,
        frozenset(info.get("changed", parameters)),
        info["status"],
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        str(info.get("device") or "not recorded"),
        float((info.get("timings") or {}).get("train_seconds") or 0),
        lines[-1] if lines else "",
        info.get("corrupted") or {},
    )


# --- tallies ------------------------------------------------------------------------------------


def tally(values: Iterable[str]) -> list[tuple[str, int]]:
    """Each value and how often it comes, the most frequent first."""
    return sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60:,} h {minutes % 60} min"


@dataclass(frozen=True)
class Parameters:
    """The parameters of a suite or of a strategy, over all its runs.

    Attributes:
        name: of the suite or the strategy.
        seeds: of its runs, as "0–2".
        runs: how many.
        values: parameter to its values, each with where it holds; that is empty where there is
            one value only.
    """

    name: str
    seeds: str
    runs: int
    values: dict[str, list[tuple[str, str]]]


def suite_parameters(runs: Sequence[RunSummary]) -> list[Parameters]:
    return _parameters(runs, "suite", "suite_parameters", lambda run: run.spec["strategy"])


def strategy_parameters(runs: Sequence[RunSummary]) -> list[Parameters]:
    return _parameters(
        runs,
        "strategy",
        "strategy_parameters",
        lambda run: f"{run.spec['suite']}/{run.spec['variant']}",
    )


def _parameters(runs: Sequence[RunSummary], what: str, key: str, where: Any) -> list[Parameters]:
    groups: dict[str, list[RunSummary]] = defaultdict(list)
    for run in runs:
        groups[run.spec[what]].append(run)
    found = []
    for name, inside in groups.items():
        places: dict[str, dict[str, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
        for run in inside:
            for parameter, value in run.spec[key].items():
                places[parameter][_text(value)][where(run)] = None
        values = {
            parameter: [
                (value, _some(at) if len(by_value) > 1 else "") for value, at in by_value.items()
            ]
            for parameter, by_value in places.items()
        }
        found.append(Parameters(name, numbers(r.spec["seed"] for r in inside), len(inside), values))
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    rest = len(names) - MAX_PLACES
    return ", ".join(names[:MAX_PLACES]) + (f" and {rest} more" if rest > 0 else "")


def numbers(values: Iterable[int]) -> str:
    """Whole numbers as "0–2, 5"."""
    spans: list[list[int]] = []
    for value in sorted(set(values)):
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in spans)
