"""Results tables: what the `run.json` of many runs says of their results, in one small file, and
tunings in another.

One row a run: its spec, how it ended, all final metrics, what it cost, and on what it was trained.
What is large or only of use beside other files (histories, arrays, classes, colours) is left out.
Parameters are JSON, since every strategy has others; all numbers are read back to the last digit.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from mtlbench.errors import UserError
from mtlbench.store.trials import TrialScore, Tuning

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
JSON = ("corrupted", "timings", "versions", "changed")
"""What is kept as JSON; `changed` is null where a record does not have it."""

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


TUNING_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in (*SPEC_TEXTS, "defaults", "against")),
        ("seeds", pa.list_(pa.int64())),
        ("networks", pa.int64()),
        ("rounds", pa.list_(pa.int64())),
        (
            "trials",
            pa.list_(
                pa.struct(
                    [("hash", pa.string()), ("parameters", pa.string()), ("score", pa.float64())]
                )
            ),
        ),
    ],
    metadata={"mtlbench_tunings_table": VERSION},
)


def write_table(infos: Iterable[Mapping[str, Any]], file: Path | BinaryIO) -> None:
    """Writes a table of runs; the same runs in the same order give the same bytes.

    Args:
        infos: what `run.json` holds, of each run.
        file: the Parquet file.
    """
    _write([_row(info) for info in infos], SCHEMA, file)


def write_tunings(tunings: Iterable[Tuning], file: Path | BinaryIO) -> None:
    """Writes a table of tunings; the same in the same order give the same bytes.

    Args:
        tunings: the tunings.
        file: the Parquet file.
    """
    rows = []
    for tuning in tunings:
        trials = [
            {"hash": t.hash, "parameters": _json(t.parameters), "score": t.score}
            for t in tuning.trials
        ]
        own = {f.name: getattr(tuning, f.name) for f in fields(tuning)}
        rows.append({**own, "defaults": _json(tuning.defaults), "trials": trials})
    _write(rows, TUNING_SCHEMA, file)


def read_tunings(file: Path | BinaryIO) -> list[Tuning]:
    """The tunings of a table.

    Raises:
        UserError: it is not such a table, or of another version.
    """
    found = []
    for row in _read(file, TUNING_SCHEMA):
        trials = [
            TrialScore(t["hash"], json.loads(t["parameters"]), t["score"]) for t in row["trials"]
        ]
        found.append(Tuning(**{**row, "defaults": json.loads(row["defaults"]), "trials": trials}))
    return found


def read_table(file: Path | BinaryIO) -> list[dict[str, Any]]:
    """The content of the `run.json` of each run of a table, as far as the table keeps it.

    Raises:
        UserError: it is not such a table, or of another version.
    """
    return [_info(row) for row in _read(file, SCHEMA)]


def _write(rows: list[dict[str, Any]], schema: pa.Schema, file: Path | BinaryIO) -> None:
    table = pa.Table.from_pylist(rows, schema)
    floats, others = _columns(schema)
    pq.write_table(
        table,
        file,
        compression="zstd",
        compression_level=19,
        use_dictionary=others,
        use_byte_stream_split=floats,  # hardly two are alike: a fifth of the whole table less
    )


def _columns(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """The columns as a file has them, nested ones by their path: those of floats, and others."""
    file = BytesIO()
    pq.write_table(schema.empty_table(), file)
    columns = [*pq.ParquetFile(file).schema]
    floats = [column.path for column in columns if column.physical_type == "DOUBLE"]
    return floats, [column.path for column in columns if column.path not in floats]


def _read(file: Path | BinaryIO, schema: pa.Schema) -> list[dict[str, Any]]:
    try:
        table = pq.ParquetFile(file).read(use_threads=False)  # `read_table` loads much more
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file} is not a results table: {error}") from error
    if table.schema != schema or table.schema.metadata != schema.metadata:
        raise UserError(f"{file} is not a results table of this version of mtlbench")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _row(info: Mapping[str, Any]) -> dict[str, Any]:
    spec = info["spec"]
    return {
        **{name: spec[name] for name in (*SPEC_TEXTS, "seed")},
        **{name: _json(spec[name]) for name in SPEC_JSON},
        **{name: info.get(name) for name in TEXTS},
        **{name: _json(info.get(name)) for name in JSON},
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
