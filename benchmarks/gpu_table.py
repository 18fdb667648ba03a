"""The short table of `benchmarks/gpu.py`: at most 90 lines of Markdown."""

import statistics
from collections.abc import Iterable, Iterator
from typing import Any

Record = dict[str, Any]

MOST_NAMED = 10
"""Lines of what did not pass; the file has all of them."""


def table(report: Record) -> list[str]:
    """The lines of the table."""
    parts = report["parts"]
    lines = [_title(report), "", "| part | status | seconds | limit |", "| :-- | :-- | --: | --: |"]
    for name, part in parts.items():
        status = " ".join([part["status"], part["note"]]).strip()
        lines.append(f"| {name} | {status} | {part['seconds']:.0f} | {part['limit']:.0f} |")
    for name, section in SECTIONS.items():
        records = parts.get(name, {}).get("records", [])
        if records:
            lines += ["", *section(records)]
    runs = [r for r in parts.get("graphed", {}).get("records", []) if "epoch_seconds" in r]
    if runs:
        lines += ["", *_graphs(runs)]
    timed = [record for name in NETWORKS for record in parts.get(name, {}).get("records", [])]
    if timed:
        lines += ["", *_networks(timed)]
    named = list(_not_passed(parts))
    if len(named) > MOST_NAMED:
        named = [*named[:MOST_NAMED], f"- and {len(named) - MOST_NAMED} more: see {report['file']}"]
    verdict = "Everything passed." if report["passed"] else "NOT everything passed:"
    return [*lines, "", verdict, *named]


def _title(report: Record) -> str:
    found = report["environment"]
    what = [
        f"driver {found['driver']}" if found.get("driver") else "",
        f"PyTorch {found.get('torch')}",
        f"CUDA {found['cuda']}" if found.get("cuda") else "",
        f"cuDNN {found['cudnn']}" if found.get("cudnn") else "",
        f"commit {found['commit'][:12]}" if found.get("commit") else "",
        report["date"],
    ]
    tiny = " (tiny: figures mean nothing)" if report["tiny"] else ""
    return f"{found.get('card', 'unknown')}: {', '.join(filter(None, what))}{tiny}"


def _right(records: list[Record]) -> Iterator[str]:
    yield "| check | strategies and forms | passed | worst |"
    yield "| :-- | --: | --: | :-- |"
    for check in dict.fromkeys(record["check"] for record in records):
        mine = [record for record in records if record["check"] == check]
        good = [record["note"] for record in mine if record["ok"]]
        yield f"| {check} | {len(mine)} | {len(good)} | {max(good, key=_size, default='')} |"


def _size(note: str) -> float:
    try:
        return float(note.split()[0])
    except ValueError:
        return 0.0


def _studies(records: list[Record]) -> Iterator[str]:
    yield "| study | runs, with their seconds of training |"
    yield "| :-- | :-- |"
    for study in sorted({(record["suite"], record["variant"]) for record in records}):
        runs = [record for record in records if (record["suite"], record["variant"]) == study]
        runs.sort(key=lambda run: run["strategy"])
        told = ", ".join(
            f"{run['strategy']} {_verdict(run)} ({run['timings']['train_seconds']:.1f} s)"
            for run in runs
        )
        yield f"| {' '.join(study)} | {told} |"


def _verdict(run: Record) -> str:
    if run["status"] != "done":
        return str(run["status"])
    if not run["compared"]:
        return "has no reference"
    return "within" if run["ok"] else "NOT within"


def _step_costs(records: list[Record]) -> Iterator[str]:
    records = [record for record in records if "ratio" in record]
    counts = sorted({record["tasks"] for record in records})
    yield f"| step / `equal`, median and highest | {' | '.join(f'{k} tasks' for k in counts)} |"
    yield f"| :-- |{' :-- |' * len(counts)}"
    groups: dict[str, dict[int, list[Record]]] = {}
    for record in records:
        form = " on the representation" if "on" in record else ""
        group = groups.setdefault(f"by {record['stage']}{form}", {})
        group.setdefault(record["tasks"], []).append(record)
    for name, group in sorted(groups.items()):
        told = []
        for mine in (group.get(count, []) for count in counts):
            worst = max(mine, key=lambda record: record["ratio"], default=None)
            if worst is None:
                told.append("–")
                continue
            median = statistics.median(record["ratio"] for record in mine)
            told.append(f"{median:.2f}, {worst['ratio']:.2f} (`{worst['strategy']}`)")
        yield f"| {name} | {' | '.join(told)} |"
    equal = {r["tasks"]: r["ms"] for r in records if r["strategy"] == "equal"}
    yield f"| ms of `equal` | {' | '.join(f'{equal.get(k, 0):.2f}' for k in counts)} |"


def _tables(records: list[Record]) -> Iterator[str]:
    yield "| a step on `streets` | ms | over `equal` |"
    yield "| :-- | --: | --: |"
    for record in records:
        yield f"| {record['step']} | {record['ms']:.2f} | {record['ratio']:.3f} |"


def _graphs(records: list[Record]) -> Iterator[str]:
    yield "| a run with CUDA graphs | s an epoch without, with | times as fast | apart | right |"
    yield "| :-- | --: | --: | --: | :-- |"
    for run in records:
        yield (
            f"| {run['suite']}, `{run['strategy']}` "
            f"| {run['epoch_seconds']:.3f}, {run['graphed_epoch_seconds']:.3f} "
            f"| {run['times_as_fast']:.2f} | {run['apart']:.1e} | {'yes' if run['ok'] else 'no'} |"
        )


def _packing(records: list[Record]) -> Iterator[str]:
    return _by_count(
        records, "runs of `equal` an hour, at a time", "at_a_time", "runs_per_hour", ".0f"
    )


def _stacked(records: list[Record]) -> Iterator[str]:
    head = "steps a second over one network's, seeds stacked"
    return _by_count(records, head, "seeds", "times_as_many", ".2f")


def _processes(records: list[Record]) -> Iterator[str]:
    yield "| digits by processes together | strategy | apart from one process | |"
    yield "| :-- | :-- | --: | :-- |"
    for record in records:
        apart = f"{record['apart']:.1e}" if "apart" in record else "–"
        verdict = "within" if record["ok"] else "NOT within"
        yield (
            f"| {record['processes']} over {record['backend']} | {record['strategy']} "
            f"| {apart} | {verdict} |"
        )


def _by_task(records: list[Record]) -> Iterator[str]:
    yield "| a backward pass for each task | images/s | over plain float32 |"
    yield "| :-- | --: | --: |"
    for record in records:
        if "images_per_second" in record and record["loop"] != "plain":
            yield (
                f"| {record['network']}, `{record['loop']}`, {record['mode']} "
                f"| {record['images_per_second']:.4g} | {record['over_plain']:.2f} |"
            )


def _by_count(
    records: list[Record], head: str, count_of: str, value_of: str, digits: str
) -> Iterator[str]:
    """A row for each suite, a column for each count."""
    records = [record for record in records if value_of in record]
    counts = sorted({record[count_of] for record in records})
    yield f"| {head} | {' | '.join(map(str, counts))} |"
    yield f"| :-- |{' --: |' * len(counts)}"
    for suite in dict.fromkeys(record["suite"] for record in records):
        values = {r[count_of]: r[value_of] for r in records if r["suite"] == suite}
        told = (f"{values[count]:{digits}}" if count in values else "–" for count in counts)
        yield f"| {suite} | {' | '.join(told)} |"


def _networks(records: list[Record]) -> Iterator[str]:
    head = ("network, images/s", "plain", "`equal`", "`ilt`", "ilt / equal", "ilt / plain")
    yield f"| {' | '.join(head)} | of matrix rate |"
    yield "| :-- | --: | --: | --: | --: | --: | --: |"
    rows: dict[tuple[str, str, str], dict[str, Record]] = {}
    plain: dict[str, Record] = {}
    for record in records:
        if "images_per_second" not in record:
            continue
        if record["loop"] == "plain":
            plain.setdefault(record["network"], record)
        else:
            key = (record["network"], record["mode"], record["precision"])
            rows.setdefault(key, {})[record["loop"]] = record
    for key, loops in sorted(rows.items()):
        ilt, equal = loops.get("ilt"), loops.get("equal")
        if ilt is None or equal is None:
            continue
        share = f"{ilt['of_matrix_rate']:.0%}" if ilt["of_matrix_rate"] else "–"
        speeds = [each["images_per_second"] for each in (plain[key[0]], equal, ilt)]
        yield (
            f"| {', '.join(key)} | {' | '.join(f'{speed:.4g}' for speed in speeds)} "
            f"| {speeds[2] / speeds[1]:.2f} | {ilt['over_plain']:.2f} | {share} |"
        )
    rates = next((r["matrix_tflops"] for r in records if "matrix_tflops" in r), {})
    if rates:
        told = ", ".join(f"{name} {rate:.3g} TFLOP/s" for name, rate in rates.items())
        yield f"| matrix products: {told} | | | | | | |"


def _not_passed(parts: Record) -> Iterator[str]:
    if not parts:
        yield "- no part: the device does not answer"
    for name, part in parts.items():
        if part["status"] != "done":
            yield f"- {name}: {part['status']}, {part['note']}"
        for record in part["records"]:
            if record.get("ok") is False:
                yield f"- {name}: {' '.join(_what(record))}"


def _what(record: Record) -> Iterable[str]:
    what = ("key", "suite", "variant", "strategy", "on", "network", "mode", "precision", "note")
    yield from (str(record[key]) for key in what if record.get(key))
    if record.get("error"):
        yield record["error"].strip().splitlines()[-1]
    for metric in record.get("metrics", []):
        if metric.get("within") is False:
            reference = f"{metric['mean']:.4g} ± {metric['std']:.2g}"
            value = "none" if metric["value"] is None else f"{metric['value']:.4g}"
            yield f"{metric['task']} {metric['metric']} {value}, reference {reference};"


SECTIONS = {
    "right": _right,
    "studies": _studies,
    "step-cost": _step_costs,
    "tables": _tables,
    "packing": _packing,
    "stacked": _stacked,
    "processes": _processes,
    "by-task": _by_task,
}
NETWORKS = ("full-size", "graphed", "compiled")
