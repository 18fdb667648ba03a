"""Makes the table of reference results that comes with the package.

    python benchmarks/reference.py DIR... [--out FILE]

Every file of every run is checked. Writes nothing, and ends with status 1, where a run is damaged
or not done; nor where the same run is in two directories with other values.
"""

import argparse
import sys
from pathlib import Path

from mtlbench.analysis.reference import TABLE
from mtlbench.files import replacing
from mtlbench.store.runs import DamagedRunError, Store, read_run
from mtlbench.store.schema import DONE
from mtlbench.store.table import write_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("results", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=TABLE, metavar="FILE")
    options = parser.parse_args()
    runs, wrong = {}, []
    for root in options.results:
        for path in Store(root).require().run_directories():
            try:
                info = read_run(path, thorough=True).info
            except DamagedRunError as error:
                wrong.append(f"{path}: {error}")
                continue
            place = str(path.relative_to(root))
            if info["status"] != DONE:
                wrong.append(f"{path}: {info['status']}")
            elif place in runs and runs[place]["metrics"] != info["metrics"]:
                wrong.append(f"{path}: other values than in a directory before")
            else:
                runs[place] = info
    if wrong or not runs:
        sys.exit("\n".join(wrong or ["no runs"]))
    with replacing(options.out) as aside:
        write_table([runs[place] for place in sorted(runs)], aside)
    print(f"{options.out}: {len(runs)} runs, {options.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
