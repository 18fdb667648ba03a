"""The reference results: the runs of the embedded suites made with this code, as one table.

`runs.parquet` comes with the package; `benchmarks/reference.py` makes it of results directories.
"""

from pathlib import Path
from typing import Any

from mtlbench.store.table import read_table

TABLE = Path(__file__).with_name("runs.parquet")


def reference_runs() -> list[dict[str, Any]]:
    """The `run.json` of each reference run, as far as `store.table` keeps it, sorted by spec."""
    return read_table(TABLE)
