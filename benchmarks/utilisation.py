"""How busy the harness keeps the cores: wall time of a study against its runs' training time.

    python benchmarks/utilisation.py [SUITE] [further arguments of `mtlbench run`]

Trains into a new directory, then prints wall seconds, the sum of the runs' own training seconds
over the parallel workers, and how many seconds remain below the bound 1.15 × that + 10 s.
"""

import os
import subprocess
import sys
import tempfile
import time

from mtlbench.store import Store


def main() -> None:
    arguments = sys.argv[1:] or ["digits"]
    with tempfile.TemporaryDirectory() as results:
        started = time.perf_counter()
        subprocess.run(["mtlbench", "run", *arguments, "--results", results], check=True)
        wall = time.perf_counter() - started
        runs, _ = Store(results).load()
    workers = os.cpu_count() or 1
    for name in ("train_seconds", "evaluate_seconds", "data_seconds"):
        print(f"{name:20} {sum(run.info['timings'][name] for run in runs):8.1f}")
    ideal = sum(run.info["timings"]["train_seconds"] for run in runs) / workers
    bound = 1.15 * ideal + 10
    print(f"{'runs':20} {len(runs):8}")
    print(f"{'wall':20} {wall:8.1f} s")
    print(f"{'training / workers':20} {ideal:8.1f} s")
    print(f"{'bound':20} {bound:8.1f} s, {'met' if wall <= bound else 'missed'}")
    print(f"{'wall / ideal':20} {wall / ideal:8.2f}")


if __name__ == "__main__":
    main()
