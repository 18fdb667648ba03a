"""How long `mtlbench leaderboard` takes on a results directory of 10,000 runs, from a cold start.

    python benchmarks/leaderboard.py [--runs 10000] [--seeds 10] [--figures]

Writes made-up runs of 40 strategies on as many variants of five suites as it takes (each with three
tasks of two metrics) into a temporary directory, then starts `mtlbench leaderboard` as a process of
its own and prints the seconds from its start to its end, those that its libraries took to import,
their difference, which is to stay under 5 s, and its peak memory, which is to stay under 1 GiB; and
the same of CPU time, which other people's work on the machine disturbs less.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtlbench.stages import STAGES
from mtlbench.store.runs import HISTORY_FILE, INSTANCE_FILE, LABELS_FILE, RUN_FILE
from mtlbench.store.sealed import sealed

SUITES, STRATEGIES = 5, 40
SECONDS, MEMORY = 5.0, 1024
REPEATS = 3
LIBRARIES = "numpy, pandas, pyarrow.parquet, rich.console, rich.table"
FILES = {HISTORY_FILE: 6000, LABELS_FILE: 3000, INSTANCE_FILE: 9000}


def write_runs(root: Path, runs: int, seeds: int) -> int:
    """Writes at least so many runs; gives how many."""
    generator = np.random.default_rng(0)
    variants = -(-runs // (SUITES * STRATEGIES * seeds))
    contents = {name: bytes(size) for name, size in FILES.items()}
    names = ["equal", *(f"strategy-{i}" for i in range(1, STRATEGIES))]
    for suite in range(SUITES):
        for level in range(variants):
            variant = f"left@{0.9 * level / variants:.3g}" if level else "clean"
            for i, strategy in enumerate(names):
                for seed in range(seeds):
                    info = run_info(f"suite-{suite}", variant, strategy, list(STAGES)[i % 3], seed)
                    for metric in info["metrics"]:
                        metric["value"] = 50 + i / 10 + generator.normal()
                    folder = root / f"suite-{suite}" / variant / strategy
                    folder = folder / f"seed-{seed}-{info['hash']}"
                    folder.mkdir(parents=True)
                    (folder / RUN_FILE).write_bytes(sealed(info, indent=1))
                    for name, content in contents.items():
                        (folder / name).write_bytes(content)
    return SUITES * variants * STRATEGIES * seeds


def run_info(suite: str, variant: str, strategy: str, stage: str, seed: int) -> dict[str, Any]:
    """What `run.json` holds, as long as that of a real run."""
    spec = {
        "suite": suite,
        "suite_parameters": {f"parameter_{i}": i for i in range(9)},
        "variant": variant,
        "strategy": strategy,
        "strategy_parameters": {f"{strategy}.parameter_{i}": 0.5 for i in range(4)},
        "seed": seed,
        "sources": {},
    }
    tasks = ("left", "right", "offset")
    metrics = [("accuracy", "Acc.", "%", "max"), ("abs_err", "Abs. Err.", "px", "min")]
    return {
        "status": "done",
        "hash": f"{abs(hash((suite, variant, strategy, seed))):016x}"[:12],
        "spec": spec,
        "label": strategy.title(),
        "stage": stage,
        "tasks": [
            {
                "name": task,
                "kind": "classification",
                "classes": list(map(str, range(10))),
                "palette": None,
                "unit": "",
            }
            for task in tasks
        ],
        "corrupted": {},
        "metrics": [
            {"metric": m, "label": label, "task": t, "unit": unit, "direction": direction}
            for t in tasks
            for m, label, unit, direction in metrics
        ],
        "timings": {"data_seconds": 0.1, "train_seconds": 10.0, "evaluate_seconds": 0.5},
        "versions": {"mtlbench": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
        "device": "cpu",
        "error": None,
        "files": {name: {"bytes": n, "sha256": "0" * 64} for name, n in FILES.items()},
    }


@dataclass(frozen=True)
class Cost:
    """Wall and CPU time (s), and peak memory (MiB)."""

    seconds: float
    cpu: float
    memory: float


def measure(command: list[str]) -> Cost:
    """What a process takes: the quickest of a few."""
    costs = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{command} ended with status {status}")
        seconds = time.perf_counter() - started
        costs.append(Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))
    return min(costs, key=lambda cost: cost.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--figures", action="store_true", help="draw the figures, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        runs = write_runs(Path(directory, "runs"), options.runs, options.seeds)
        command = [sys.executable, "-m", "mtlbench", "leaderboard"]
        command += ["--results", f"{directory}/runs", "--format", "csv"]
        if options.figures:
            command += ["--figures", f"{directory}/figures"]
        libraries = measure([sys.executable, "-c", f"import {LIBRARIES}"])
        whole = measure(command)
    own = whole.seconds - libraries.seconds
    print("| runs | in all | libraries | beyond them | CPU time beyond them | peak memory |")
    print("| --: | --: | --: | --: | --: | --: |")
    print(
        f"| {runs} | {whole.seconds:.1f} s | {libraries.seconds:.1f} s | {own:.1f} s "
        f"| {whole.cpu - libraries.cpu:.1f} s | {whole.memory:.0f} MiB |"
    )
    print(f"beyond the libraries: bound {SECONDS:g} s, {'met' if own < SECONDS else 'missed'}")
    print(f"memory: bound {MEMORY} MiB, {'met' if whole.memory < MEMORY else 'missed'}")


if __name__ == "__main__":
    main()
