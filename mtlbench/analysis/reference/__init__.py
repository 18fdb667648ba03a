"""The reference results: the runs of the embedded suites made with this code, and the tunings that
chose parameters for some of them.

The two tables come with the package; `benchmarks/reference.py` makes them of results directories.
"""

from pathlib import Path
from typing import Any

from mtlbench.store.table import read_table, read_tunings
from mtlbench.store.trials import Tuning

TABLE = Path(__file__).with_name("runs.parquet")
TUNINGS = Path(__file__).with_name("tunings.parquet")


def reference_runs() -> list[dict[str, Any]]:
    """The `run.json` of each reference run, as far as `store.table` keeps it, sorted by spec."""
    return read_table(TABLE)


def reference_tunings() -> list[Tuning]:
    """The tunings, sorted by suite, variant and strategy."""
    return read_tunings(TUNINGS)
