"""How busy the harness keeps the cores: wall time of a study against its runs' training time.

    python benchmarks/utilisation.py [SUITE] [--results DIR]

Trains the suite's default study (into a new directory, unless one is given), then prints the
wall time, the sum of the runs' own training seconds over the parallel workers, the bound
1.15 × that + 10 s, and which share of the workers' time is training. The study must not stand in
the directory already.
"""

import argparse
import os
import subprocess
import tempfile
import time

from mtlbench.store.runs import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("suite", nargs="?", default="digits")
    parser.add_argument("--results")
    options = parser.parse_args()
    results = options.results or tempfile.mkdtemp()
    started = time.perf_counter()
    subprocess.run(["mtlbench", "run", options.suite, "--results", results], check=True)
    wall = time.perf_counter() - started

    runs = [run for run in Store(results).load()[0] if run.info["spec"]["suite"] == options.suite]
    workers = os.cpu_count() or 1
    spent = {
        name: sum(run.info["timings"][f"{name}_seconds"] for run in runs)
        for name in ("train", "evaluate", "data")
    }
    ideal = spent["train"] / workers
    bound = 1.15 * ideal + 10
    print(f"{len(runs)} runs, {workers} at a time")
    for name, seconds in spent.items():
        print(f"  {name:18} {seconds:8.1f} s in all")
    print(f"  {'train / workers':18} {ideal:8.1f} s")
    verdict = "met" if wall <= bound else "missed"
    print(f"  {'wall':18} {wall:8.1f} s, bound {bound:.1f} s: {verdict}")
    print(f"  {'wall / ideal':18} {wall / ideal:8.2f}")
    busy = workers * wall
    print(f"  {'efficiency':18} {spent['train'] / busy:8.3f} of training alone")
    print(f"  {'':18} {(spent['train'] + spent['evaluate']) / busy:8.3f} with evaluation")


if __name__ == "__main__":
    main()
