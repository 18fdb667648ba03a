"""A results table: what the `run.json` of many runs says of their results, in one small file.

One row a run: its spec, how it ended, all final metrics, what it cost, and on what it was trained.
What is large or only of use beside other files (histories, arrays, classes, colours) is left out.
Parameters are JSON, since every strategy has others; all numbers are read back to the last digit.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from mtlbench.errors import UserError

VERSION = b"1"
"""Of the columns below; a table of another version is not read."""

METRIC = pa.struct(
    [
        ("metric", pa.string()),
        ("label", pa.string()),
        ("task", pa.string()),
        ("unit", pa.string()),
        ("direction", pa.string()),
        ("value", pa.float64()),
    ]
)
TEXTS = ("status", "hash", "label", "stage", "device", "processor", "instruction_set", "error")
"""Texts that stand in a run's record as they do here; null where it does not say."""
SPEC_TEXTS = ("suite", "variant", "strategy")
SPEC_JSON = ("suite_parameters", "strategy_parameters", "sources")
JSON = ("corrupted", "timings", "versions")

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in SPEC_TEXTS),
        ("seed", pa.int64()),
        *((name, pa.string()) for name in (*SPEC_JSON, *TEXTS, *JSON)),
        ("networks", pa.int64()),
        ("metrics", pa.list_(METRIC)),
    ],
    metadata={"mtlbench_results_table": VERSION},
)


def write_table(infos: Iterable[Mapping[str, Any]], file: Path | BinaryIO) -> None:
    """Writes a table of runs; the same runs in the same order give the same bytes.

    Args:
        infos: what `run.json` holds, of each run.
        file: the Parquet file.
    """
    table = pa.Table.from_pylist([_row(info) for info in infos], SCHEMA)
    pq.write_table(table, file, compression="zstd", compression_level=19)


def read_table(file: Path | BinaryIO) -> list[dict[str, Any]]:
    """The content of the `run.json` of each run of a table, as far as the table keeps it.

    Raises:
        UserError: it is not such a table, or of another version.
    """
    try:
        table = pq.ParquetFile(file).read(use_threads=False)  # `read_table` loads much more
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file} is not a results table: {error}") from error
    if table.schema != SCHEMA or table.schema.metadata != SCHEMA.metadata:
        raise UserError(f"{file} is not a results table of this version of mtlbench")
    return [_info(row) for row in table.to_pylist()]


def _row(info: Mapping[str, Any]) -> dict[str, Any]:
    spec = info["spec"]
    return {
        **{name: spec[name] for name in (*SPEC_TEXTS, "seed")},
        **{name: _json(spec[name]) for name in SPEC_JSON},
        **{name: info.get(name) for name in TEXTS},
        **{name: _json(info[name]) for name in JSON},
        "networks": info.get("population", {}).get("networks", 1),
        "metrics": info["metrics"],
    }


def _info(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "spec": {
            **{name: row[name] for name in (*SPEC_TEXTS, "seed")},
            **{name: json.loads(row[name]) for name in SPEC_JSON},
        },
        **{name: row[name] for name in TEXTS},
        **{name: json.loads(row[name]) for name in JSON},
        "population": {"networks": row["networks"]},
        "metrics": row["metrics"],
    }


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
