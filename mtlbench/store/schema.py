"""What `run.json` must hold, so that all who read runs can rely on it.

A file may come from anybody: what is not of the right type, no finite number or no printable name
is found here, where the run can still be named and left out. By hand, since thousands of runs are
read for one table: a validator in Python takes longer than all the rest.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from mtlbench.stages import STAGES

SCHEMA_VERSION = 1
DONE, DIVERGED, FAILED = "done", "diverged", "failed"
STATUSES = (DONE, DIVERGED, FAILED)

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
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)


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


def _record(fields: Mapping[str, Check]) -> Check:
    return lambda value: (
        isinstance(value, dict)
        and fields.keys() <= value.keys()
        and all(check(value[name]) for name, check in fields.items())
    )


SPEC: dict[str, Check] = {
    "suite": _folder,
    "variant": _folder,
    "strategy": _folder,
    "seed": _integer,
    "suite_parameters": _dict(_any),
    "strategy_parameters": _dict(_any),
    "sources": _dict(_text),
}
METRIC: dict[str, Check] = {
    "metric": _name,
    "label": _word,
    "task": _name,
    "unit": _word,
    "direction": _one_of("max", "min"),
    "value": _or_none(_number),
}
TASK: dict[str, Check] = {
    "name": _name,
    "kind": _name,
    "classes": _list(_word),
    "palette": _or_none(_list(_list(_number))),
    "unit": _word,
}
REQUIRED: dict[str, Check] = {
    "status": _one_of(*STATUSES),
    "hash": _folder,
    "label": _word,
    "tasks": _list(_record(TASK)),
    "metrics": _list(_record(METRIC)),
    "files": _dict(_record({"bytes": _size, "sha256": _word})),
}
OPTIONAL: dict[str, Check] = {
    "stage": _one_of("", *STAGES),
    "changed": _list(_name),
    "corrupted": _dict(_number),
    "timings": _dict(_number),
    "versions": _dict(_word),
    "device": _or_none(_word),
    "processor": _or_none(_word),
    "instruction_set": _or_none(_word),
    "error": _or_none(_text),
    "population": _record({"networks": _count}),
}
SPEC_OPTIONAL: dict[str, Check] = {"locations": _dict(_text)}


def fault(info: Any) -> str:
    """What is wrong with the content of a `run.json`; empty where nothing is.

    Args:
        info: as JSON gives it.
    """
    if not isinstance(info, dict) or "schema_version" not in info:
        return "is not a run's"
    if info["schema_version"] != SCHEMA_VERSION:
        return (
            f"has schema version {_shown(info['schema_version'])}; "
            f"this release reads {SCHEMA_VERSION}"
        )
    if isinstance(info.get("status"), str) and info["status"] not in STATUSES:
        return f"has the unknown status {_shown(info['status'])}"
    spec = info.get("spec")
    if not isinstance(spec, dict):
        return "has no spec"
    wrong = chain(_wrong(spec, SPEC, SPEC_OPTIONAL, "spec."), _wrong(info, REQUIRED, OPTIONAL))
    for name in wrong:
        return f"has no {name}, or one that cannot be right"
    measured = [(metric["task"], metric["metric"]) for metric in info["metrics"]]
    if len(set(measured)) < len(measured):
        return "has a metric twice"
    return ""


def _wrong(
    record: Mapping[str, Any],
    required: Mapping[str, Check],
    optional: Mapping[str, Check],
    prefix: str = "",
) -> Iterable[str]:
    """The fields that are missing or wrong."""
    for name, check in required.items():
        if name not in record or not check(record[name]):
            yield prefix + name
    for name, check in optional.items():
        if name in record and not check(record[name]):
            yield prefix + name


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
