"""What stored JSON files must hold, so that all who read them can rely on it.

A file may come from anybody: what is not of the right type, no finite number or no printable name
is found here, where the file can still be named and left out. By hand, since thousands of runs are
read for one table: a validator in Python takes longer than all the rest.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mtlbench.stages import STAGES

SCHEMA_VERSION = 1
DONE, DIVERGED, FAILED = "done", "diverged", "failed"
STATUSES = (DONE, DIVERGED, FAILED)

MOST_METRICS = 4096
"""Of a run: hundreds of tasks with a few each. A leaderboard of 20,000 takes minutes."""

Check = Callable[[Any], bool]


def _word(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _name(value: Any) -> bool:
    return _word(value) and value not in ("", ".", "..")


def _text(value: Any) -> bool:
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _folder(value: Any) -> bool:
    return _name(value) and "/" not in value


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _count(value: Any) -> bool:
    return _integer(value) and value >= 1


def _size(value: Any) -> bool:
    return _integer(value) and value >= 0


def _number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return _integer(value)


def _any(value: Any) -> bool:
    return True


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _one_of(*values: str) -> Check:
    return lambda value: isinstance(value, str) and value in values


def _list(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _dict(check: Check) -> Check:
    return lambda value: (
        isinstance(value, dict) and all(map(_name, value)) and all(map(check, value.values()))
    )


@dataclass(frozen=True)
class Fields:
    """What a JSON object must hold, and what else it may hold that is checked, by name."""

    required: Mapping[str, "Check | Fields"]
    optional: Mapping[str, "Check | Fields"] = field(default_factory=dict)

    def __call__(self, value: Any) -> bool:
        return isinstance(value, dict) and not any(self.wrong(value))

    def wrong(self, record: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
        """The names of the fields that are missing or wrong."""
        for fields, must in ((self.required, True), (self.optional, False)):
            for name, check in fields.items():
                if name not in record:
                    if must:
                        yield prefix + name
                elif isinstance(check, Fields) and isinstance(record[name], dict):
                    yield from check.wrong(record[name], f"{prefix}{name}.")
                elif not check(record[name]):
                    yield prefix + name


PARAMETERS = ("suite_parameters", "strategy_parameters", "sources")
"""What tells specs of one suite, variant and strategy apart, but for the seed."""

SPEC = Fields(
    {
        "suite": _folder,
        "variant": _folder,
        "strategy": _folder,
        "seed": _integer,
        "suite_parameters": _dict(_any),
        "strategy_parameters": _dict(_any),
        "sources": _dict(_text),
    },
    {"locations": _dict(_text), "fingerprint": _text},
)
METRIC = Fields(
    {
        "metric": _name,
        "label": _word,
        "task": _name,
        "unit": _word,
        "direction": _one_of("max", "min"),
        "value": _or_none(_number),
    }
)
TASK = Fields(
    {
        "name": _name,
        "kind": _name,
        "classes": _list(_word),
        "palette": _or_none(_list(_list(_number))),
        "unit": _word,
    }
)
TRAINED = Fields(
    {
        "status": _one_of(*STATUSES),
        "hash": _folder,
        "spec": SPEC,
        "label": _word,
        "tasks": _list(TASK),
        "metrics": _list(METRIC),
    },
    {
        "stage": _one_of("", *STAGES),
        "changed": _list(_name),
        "corrupted": _dict(_number),
        "timings": _dict(_number),
        "versions": _dict(_word),
        "device": _or_none(_word),
        "workers": _count,
        "processor": _or_none(_word),
        "instruction_set": _or_none(_word),
        "error": _or_none(_text),
        "population": Fields({"networks": _count}),
    },
)
RUN = Fields(
    {**TRAINED.required, "files": _dict(Fields({"bytes": _size, "sha256": _word}))},
    TRAINED.optional,
)
"""Of `run.json`."""

TRIAL = Fields({**TRAINED.required, "history": _dict(_list(_or_none(_number)))}, TRAINED.optional)
"""Of a trial's file."""

TUNING = Fields(
    {
        "suite": _folder,
        "variant": _folder,
        "strategy": _folder,
        "defaults": Fields({name: SPEC.required[name] for name in PARAMETERS}),
        "against": _folder,
        "trials": _list(
            Fields({"hash": _folder, "parameters": _dict(_any), "score": _or_none(_number)})
        ),
        "seeds": _list(_size),
        "networks": _count,
        "rounds": _list(_count),
    }
)
"""Of a tuning's file."""

FOLD = Fields(
    {
        "spec": SPEC,
        "hash": _folder,
        "tasks": _list(_name),
        "folds": _count,
        "fold": _size,
        "clean": lambda value: isinstance(value, bool),
        "changed": _list(_name),
    }
)
"""Of what a fold's file says of itself."""


def fault(info: Any, fields: Fields) -> str:
    """What is wrong with the content of a file; empty where nothing is.

    Args:
        info: as JSON gives it.
        fields: `RUN`, `TRIAL` or `TUNING`.
    """
    if not isinstance(info, dict) or "schema_version" not in info:
        return "is not one of mtlbench"
    if repr(info["schema_version"]) != repr(SCHEMA_VERSION):
        return (
            f"has schema version {_shown(info['schema_version'])}; "
            f"this release reads {SCHEMA_VERSION}"
        )
    if isinstance(info.get("status"), str) and info["status"] not in STATUSES:
        return f"has the unknown status {_shown(info['status'])}"
    if isinstance(info.get("metrics"), list) and len(info["metrics"]) > MOST_METRICS:
        return f"has {len(info['metrics']):,} metrics, and more than {MOST_METRICS:,}"
    for name in fields.wrong(info):
        return f"has no {name}, or one that cannot be right"
    measured = [(metric["task"], metric["metric"]) for metric in info.get("metrics", ())]
    if len(set(measured)) < len(measured):
        return "has a metric twice"
    return ""


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
