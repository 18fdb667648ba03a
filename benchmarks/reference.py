"""Makes the tables of reference results that come with the package.

    python benchmarks/reference.py DIR... [--keep] [--out DIR]

Every file of every run is checked. Writes nothing, and ends with status 1, where a run or a tuning
is damaged, a run failed, or the same is in two directories with other values.

With `--keep`, the runs and tunings that the tables have already stay as they are there, for a
machine that has only the directories of later ones.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from mtlbench.analysis.reference import TABLE, TUNINGS, reference_runs, reference_tunings
from mtlbench.files import replacing
from mtlbench.store.runs import Store, read_run
from mtlbench.store.schema import FAILED
from mtlbench.store.sealed import DamagedRunError
from mtlbench.store.table import write_table, write_tunings
from mtlbench.store.trials import tuning_file, tunings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("results", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=TABLE.parent, metavar="DIR")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    there = reference_runs() if options.keep else []
    kept = {str(Store(Path()).place_of(info)): info for info in there}
    runs: dict[str, dict[str, Any]] = {}
    tuned = {tuning.hash: tuning for tuning in (reference_tunings() if options.keep else [])}
    wrong = []
    for root in options.results:
        store = Store(root).require()
        for path in store.run_directories():
            try:
                info = read_run(path, thorough=True).info
            except DamagedRunError as error:
                wrong.append(f"{path}: {error}")
                continue
            place = str(path.relative_to(root))
            if info["status"] == FAILED:
                wrong.append(f"{path}: {info['status']}")
            elif place in runs and runs[place]["metrics"] != info["metrics"]:
                wrong.append(f"{path}: other values than in a directory before")
            else:
                runs[place] = info
        found, damaged = tunings(store)
        wrong += [f"{path}: {what}" for path, what in damaged]
        for tuning in found:
            known = tuned.setdefault(tuning.hash, tuning)
            if known.trials != tuning.trials:
                wrong.append(f"{tuning_file(store, tuning.hash)}: other values than before")
            tuned[tuning.hash] = known.with_seeds(tuning.seeds)
    if wrong or not runs:
        sys.exit("\n".join(wrong or ["no runs"]))
    options.out.mkdir(parents=True, exist_ok=True)
    runs |= kept
    rows = [runs[place] for place in sorted(runs)]
    chosen = sorted(tuned.values(), key=lambda t: (t.suite, t.variant, t.strategy, t.hash))
    for name, count, write in (
        (TABLE.name, f"{len(rows)} runs", lambda path: write_table(rows, path)),
        (TUNINGS.name, f"{len(chosen)} tunings", lambda path: write_tunings(chosen, path)),
    ):
        with replacing(options.out / name) as aside:
            write(aside)
        print(f"{options.out / name}: {count}, {(options.out / name).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
