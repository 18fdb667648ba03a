"""How long `mtlbench report` takes on a results directory of 10,000 runs, and what memory.

    python benchmarks/report.py [--runs 10000] [--results DIR] [--keep]

Writes made-up runs (3 suites, 4 variants each, 38 strategies, 50 epochs, 4 metrics, some of them
diverged or failed) into a temporary directory, then runs the command as a person would and prints
its wall time, its peak memory and the size of the page against the bounds 20 s, 1 GiB and 5 MB.
`--results` keeps the runs there for another time.
"""

import argparse
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtlbench.store.schema import DIVERGED, DONE, FAILED
from mtlbench.store.sealed import sealed

SUITES = {"alpha": ("left", "right"), "beta": ("depth", "parts"), "gamma": ("pose", "shape")}
LEVELS = (0.2, 0.4, 0.6)
STRATEGIES = ("equal", "mtu", "dwa", "gls", "ilt", *(f"strategy-{i}" for i in range(33)))
EPOCHS = 50
BOUND_SECONDS, BOUND_MIB, BOUND_MB = 20, 1024, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = options.results or Path(temporary) / "runs"
        if not results.exists():
            make(results, options.runs)
        out = Path(temporary) / "report.html"
        command = ["report", "--results", str(results), "--out", str(out)]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mtlbench", *command], check=True)
        seconds = time.perf_counter() - started
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        size = out.stat().st_size / 1e6
    print(f"{options.runs} runs")
    for name, value, bound, unit in (
        ("wall", seconds, BOUND_SECONDS, "s"),
        ("peak memory", memory, BOUND_MIB, "MiB"),
        ("page", size, BOUND_MB, "MB"),
    ):
        verdict = "met" if value <= bound else "missed"
        print(f"  {name:12} {value:8.1f} {unit}, bound {bound} {unit}: {verdict}")


def make(results: Path, count: int) -> None:
    """Writes so many runs, seed after seed over all suites, variants and strategies."""
    generator = np.random.default_rng(0)
    grid = [
        (suite, variant, strategy)
        for suite, tasks in SUITES.items()
        for variant in ("clean", *(f"{tasks[0]}@{level}" for level in LEVELS))
        for strategy in STRATEGIES
    ]
    for number in range(count):
        seed, place = divmod(number, len(grid))
        write(results, *grid[place], seed, generator)


def write(
    results: Path,
    suite: str,
    variant: str,
    strategy: str,
    seed: int,
    generator: np.random.Generator,
) -> None:
    skill = STRATEGIES.index(strategy) / len(STRATEGIES)
    epoch = np.arange(1, EPOCHS + 1)
    rise = 1 - np.exp(-epoch / 8)
    metrics, history = [], {"epoch": epoch}
    for task in SUITES[suite]:
        for name, direction, scale in (("accuracy", "max", 80.0), ("error", "min", 0.3)):
            sign = 1 if direction == "max" else -1
            values = scale * (1 + 0.05 * sign * skill) * (rise if sign > 0 else 2 - rise)
            values = values + generator.normal(0, 0.01 * scale, EPOCHS)
            history[f"validation/{task}/{name}"] = values
            metrics.append(
                {
                    "metric": name, "label": name.capitalize(), "task": task, "unit": "%",
                    "direction": direction, "value": float(values[-1]),
                }
            )  # fmt: skip
        history[f"train_loss/{task}"] = 1 - 0.9 * rise
        history[f"weight/{task}"] = generator.uniform(0.5, 1.5, EPOCHS)
    status = [DONE, DIVERGED, FAILED][int(np.searchsorted([0.98, 0.99], generator.random()))]
    spec = {
        "suite": suite, "suite_parameters": {"epochs": EPOCHS, "batch_size": 32, "lr": 0.004},
        "variant": variant, "strategy": strategy, "strategy_parameters": {}, "seed": seed,
        "sources": {}, "locations": {},
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    buffer = io.BytesIO()
    pq.write_table(pa.table(history), buffer)
    data = buffer.getvalue()
    error = "Traceback (most recent call last):\n  …\nRuntimeError: made to fail"
    info = {
        "status": status, "hash": digest, "spec": spec,
        "label": strategy, "stage": "loss", "corrupted": {},
        "metrics": metrics if status == DONE else [],
        "tasks": [
            {"name": task, "kind": "regression", "classes": [], "palette": None, "unit": ""}
            for task in SUITES[suite]
        ],
        "timings": {"train_seconds": 60.0, "evaluate_seconds": 1.0},
        "versions": {"mtlbench": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
        "device": "cpu", "error": error if status == FAILED else None,
        "files": {
            "history.parquet": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        },
    }  # fmt: skip
    directory = results / suite / variant / strategy / f"seed-{seed}-{digest}"
    os.makedirs(directory)
    (directory / "history.parquet").write_bytes(data)
    (directory / "run.json").write_bytes(sealed(info, indent=1))


if __name__ == "__main__":
    main()
