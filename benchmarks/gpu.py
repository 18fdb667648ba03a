"""One command that says whether MTLBench is right on a GPU, and how fast.

    python benchmarks/gpu.py [--out results/gpu] [--device cuda] [--parts right,studies]
                             [--limits compiled=300] [--total 470] [--tiny]

- right: every strategy against the CPU in float64, float32 and bfloat16, with missing labels and
  instance tables off the device, saved and continued; and how often a step waits for the device.
- studies: runs of `digits` and `streets`, held against the reference runs.
- step-cost: every strategy's step over that of `equal`, with 2 to 40 tasks.
- tables: what instance parameters cost, for as many instances as the paper trains on.
- full-size: both full-size networks, beside a plain loop; graphed: the same with the network as
  CUDA graphs, and runs of small suites with and without; compiled: under `torch.compile`.
- packing: runs an hour of three suites, 1 to 16 of them at a time.
- stacked: seeds trained at once in one process, beside one alone.
- processes: runs that several processes train together, beside the same by one.
- by-task: both full-size networks with a backward pass for each task.

It runs from a plain checkout and needs torch, numpy, pandas, pyarrow, scipy, scikit-learn,
torchmetrics, safetensors and rich, no network, and less than 8 minutes on an H100. Each part is a
process of its own with a limit; what one has found when it fails or is stopped is kept, and the
others run on. Progress goes to standard error, a table to standard output, and all of it as JSON
to a file named after the card. The exit status is 0 if every check passed. `--tiny` runs all of it
in a minute on a CPU (`--device cpu --tiny`), where its figures mean nothing.
"""

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

LIMITS = {
    "right": 90,
    "studies": 120,
    "step-cost": 100,
    "tables": 30,
    "full-size": 70,
    "graphed": 100,
    "packing": 120,
    "stacked": 40,
    "processes": 60,
    "by-task": 110,
    "compiled": 240,
}
"""Parts in their order, and the most seconds that each may take."""

TOTAL = 470
"""Seconds that all parts may take together: the last one gets what the others have left."""

ENVIRONMENT, START = "environment", 90.0
"""What comes before the parts, and its limit: on a new machine PyTorch starts slowly."""

CHECKS = ("right", "studies", "processes")
"""Parts that hold what comes out against something."""

MOST_STARTS = 5
"""Processes that a part may take, where checks lose the device."""

DEVICE_LOST = 3
"""Exit status of such a process."""

DONE, CUT_SHORT, FAILED = "done", "cut short", "failed"

Record = dict[str, Any]


# --- the process of a part ------------------------------------------------------------------


def work(part: str, records: Path, device: str, tiny: bool) -> int:
    """Runs one part here, adding a line to the file for each record."""
    os.environ.setdefault("MTLBENCH_CACHE", tempfile.gettempdir())  # needs no platformdirs
    import gpu_parts
    import torch

    if device == "cpu":
        torch.set_num_threads(1)
    with records.open("a+", encoding="utf-8") as file:
        file.seek(0)
        done = {json.loads(line).get("key") for line in file if line.endswith("\n")}
        run = {
            ENVIRONMENT: gpu_parts.environment,
            "right": lambda *where: gpu_parts.right(*where, done),
            "studies": gpu_parts.studies,
            "step-cost": gpu_parts.step_costs,
            "tables": gpu_parts.tables,
            "full-size": gpu_parts.eager,
            "graphed": gpu_parts.graphed,
            "packing": gpu_parts.packing,
            "stacked": gpu_parts.stacked,
            "processes": gpu_parts.processes,
            "by-task": gpu_parts.by_task,
            "compiled": gpu_parts.compiled,
        }[part]
        try:
            for record in run(device, tiny):
                file.write(json.dumps(finite(record), allow_nan=False) + "\n")
                file.flush()
                say(f"{part}: {in_a_line(record)}")
        except gpu_parts.DeviceLostError as error:
            say(f"{part}: {error}")
            return DEVICE_LOST
        except Exception:
            say(traceback.format_exc())
            return 1
    return 0


def in_a_line(record: Record) -> str:
    shown = {key: value for key, value in record.items() if key not in ("key", "timings", "error")}
    if "metrics" in shown:
        shown["metrics"] = {f"{m['task']} {m['metric']}": m["value"] for m in shown["metrics"]}
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in shown.items()
    )


def finite(value: Any) -> Any:
    """The same with null for every number that JSON cannot write."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- all parts ------------------------------------------------------------------------------


def run_part(name: str, command: Sequence[str], records: Path, limit: float) -> Record:
    """Runs a command that adds to the file, for no longer than the limit; what came of it."""
    started = time.monotonic()
    status, note = FAILED, ""
    for _ in range(MOST_STARTS):
        left = limit - (time.monotonic() - started)
        if left <= 0:
            status, note = CUT_SHORT, f"stopped after {limit:.0f} s"
            break
        process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
        try:
            code = process.wait(left)
        except subprocess.TimeoutExpired:
            status, note = CUT_SHORT, f"stopped after {limit:.0f} s"
            break
        finally:
            end(process)
        status = DONE if code == 0 else FAILED
        note = "" if code == 0 else f"exit status {code}"
        if code != DEVICE_LOST:
            break
    lines = (
        records.read_text(encoding="utf-8").splitlines(keepends=True) if records.exists() else []
    )
    say(f"{name}: {status} {note}")
    return {
        "status": status,
        "note": note,
        "seconds": round(time.monotonic() - started, 1),
        "limit": round(limit, 1),
        "records": [json.loads(line) for line in lines if line.endswith("\n")],
    }


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it started. One that the driver holds is left behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        say(f"process {process.pid} does not end")


def run_all(options: argparse.Namespace, parts: Sequence[str]) -> Record:
    """Runs the parts one after the other, writing the file after each; what it holds at last."""
    started = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    report: Record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": options.device,
        "tiny": options.tiny,
        "parts": {},
    }
    file = options.out / "unknown.json"
    for name in (ENVIRONMENT, *parts):
        records = options.out / f".{name}-{os.getpid()}.jsonl"
        left = options.total - (time.monotonic() - started)
        limit = min(options.limits.get(name, START), left)
        command = [sys.executable, __file__, "--part", name, "--records", str(records)]
        command += ["--device", options.device, *(["--tiny"] if options.tiny else [])]
        say(f"{name}: for at most {limit:.0f} s")
        outcome = run_part(name, command, records, limit)
        if name == ENVIRONMENT:
            report[ENVIRONMENT] = next(iter(outcome["records"]), {})
            card = report[ENVIRONMENT].get("card") or "unknown"
            file = options.out / f"{re.sub('[^a-z0-9]+', '-', card.lower()).strip('-')}.json"
        else:
            report["parts"][name] = outcome
        report["seconds"] = round(time.monotonic() - started, 1)
        report["passed"] = passed(report)
        file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        records.unlink(missing_ok=True)
        if not report[ENVIRONMENT]:
            say(f"there is no device {options.device!r} here")
            break
    report["file"] = str(file)
    return report


def passed(report: Record) -> bool:
    """Whether no part failed, no check did, and the checks were all made."""
    checked = [report["parts"].get(name, {}) for name in CHECKS]
    return (
        bool(report[ENVIRONMENT])
        and all(part["status"] != FAILED for part in report["parts"].values())
        and all(part.get("status", DONE) == DONE for part in checked)
        and not any(
            record.get("ok") is False
            for part in report["parts"].values()
            for record in part["records"]
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--parts", default=",".join(LIMITS), help="apart by commas")
    parser.add_argument("--limits", default="", help="PART=SECONDS, apart by commas")
    parser.add_argument("--total", type=float, default=TOTAL, help="seconds of all parts")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # of a process that this one starts
    parser.add_argument("--records", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return work(options.part, options.records, options.device, options.tiny)
    parts = [name for name in options.parts.split(",") if name]
    given = dict(item.split("=", 1) for item in options.limits.split(",") if item)
    for name in (*parts, *given):
        if name not in LIMITS:
            parser.error(f"unknown part {name!r}; parts: {', '.join(LIMITS)}")
    options.limits = {**LIMITS, **{name: float(seconds) for name, seconds in given.items()}}

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what it started ends with it
    report = run_all(options, parts)
    from gpu_table import table  # beside this file

    print("\n".join(table(report)), flush=True)
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
