"""A results table: every number to the last digit, and nothing but results tables is read."""

import io
import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import tiny_spec, trained
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.analysis.reference import TABLE
from mtlbench.errors import UserError
from mtlbench.store.runs import Store, read_run
from mtlbench.store.table import read_table, read_tunings, write_table, write_tunings
from mtlbench.store.trials import TrialScore, Tuning

LEFT_OUT = {"schema_version", "files", "tasks", "population", "workers"}


def info(**changes: Any) -> dict[str, Any]:
    spec = {
        "suite": "digits", "suite_parameters": {"lr": 0.1}, "variant": "clean", "strategy": "ilt",
        "strategy_parameters": {}, "seed": 0, "sources": {},
    }  # fmt: skip
    return {
        "status": "done", "hash": "0123456789ab", "spec": spec, "label": "ILT Params",
        "stage": "instance", "corrupted": {}, "metrics": [], "timings": {"train_seconds": 1.5},
        "versions": {"torch": "2"}, "device": "cpu", "processor": "A", "instruction_set": "AVX2",
        "error": None, **changes,
    }  # fmt: skip


def there_and_back(infos: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    write_table(infos, folder / "table.parquet")
    return read_table(folder / "table.parquet")


@pytest.mark.parametrize("strategy", ["ilt+dwa", "evolution"])
def test_what_a_run_records_of_its_results_comes_back_whole(strategy: str, tmp_path: Path) -> None:
    spec = tiny_spec(strategy, "left+offset@0.4", epochs=1)
    stored = read_run(Store(tmp_path).write(trained(spec))).info
    del stored["spec"]["locations"], stored["spec"]["fingerprint"]
    (back,) = there_and_back([stored], tmp_path)
    assert back.pop("population")["networks"] == stored.get("population", {}).get("networks", 1)
    assert back == {key: value for key, value in stored.items() if key not in LEFT_OUT}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_every_number_comes_back_to_the_last_bit(values: list[float]) -> None:
    metric = {"metric": "m", "label": "M", "task": "t", "unit": "%", "direction": "max"}
    given = info(
        metrics=[{**metric, "value": value} for value in values],
        timings={str(i): value for i, value in enumerate(values)},
    )
    given["spec"]["suite_parameters"] = {"values": values}
    buffer = io.BytesIO()
    write_table([given], buffer)
    buffer.seek(0)
    (back,) = read_table(buffer)
    found = [
        [metric["value"] for metric in back["metrics"]],
        list(back["timings"].values()),
        back["spec"]["suite_parameters"]["values"],
    ]
    bits = [struct.pack("d", value) for value in values]
    assert all([struct.pack("d", value) for value in some] == bits for some in found)


def test_a_missing_value_and_a_failed_run_stay_what_they_are(tmp_path: Path) -> None:
    metric = {"metric": "m", "label": "M", "task": "t", "unit": "", "direction": "min"}
    runs = [
        info(metrics=[{**metric, "value": None}]),
        info(status="failed", error="Traceback …", stage=None, processor=None),
    ]
    one, other = there_and_back(runs, tmp_path)
    assert one["metrics"] == [{**metric, "value": None}]
    assert (other["status"], other["error"], other["metrics"]) == ("failed", "Traceback …", [])
    assert other["processor"] is None


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_table([info(), info(status="diverged")], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_numbers_that_json_cannot_write_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_table([info(timings={"train_seconds": math.nan})], tmp_path / "table")


@pytest.mark.parametrize("content", [b"", b"not parquet", TABLE.read_bytes()[:-9]])
def test_a_file_that_is_no_table_is_told_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(UserError, match=f"^{tmp_path}/t is not a results table: ") as error:
        read_table(tmp_path / "t")
    assert "\n" not in str(error.value)


def test_a_table_of_another_version_or_of_something_else_is_not_read(tmp_path: Path) -> None:
    table = pq.read_table(TABLE)
    newer = table.replace_schema_metadata(
        {**table.schema.metadata, b"mtlbench_results_table": b"2"}
    )
    for other in (newer, table.drop_columns(["stage"]), pa.table({"a": [1]})):
        pq.write_table(other, tmp_path / "t")
        with pytest.raises(UserError, match="is not a results table of this version of mtlbench"):
            read_table(tmp_path / "t")


def test_parameters_are_json_that_others_can_read() -> None:
    column = pq.read_table(TABLE, columns=["suite_parameters"]).column(0)
    assert {json.loads(text)["epochs"] for text in column.to_pylist()} == {4, 12, 15, 20, 30, 50}


# --- tunings --------------------------------------------------------------------------------------

TUNING = Tuning(
    "digits",
    "clean",
    "static",
    {"suite_parameters": {"lr": 0.1}, "strategy_parameters": {"static.weights": {}}, "sources": {}},
    "0123456789ab",
    [
        TrialScore("aaaaaaaaaaaa", {}, 0.0),
        TrialScore("bbbbbbbbbbbb", {"lr": 0.3, "static.weights": {"left": 1 / 3}}, 0.1 + 0.2),
        TrialScore("cccccccccccc", {"lr": 1e-5}, None),
    ],
    [0, 1, 2],
    networks=3,
    rounds=[2, 1],
)


def test_tunings_come_back_whole(tmp_path: Path) -> None:
    write_tunings([TUNING, replace(TUNING, variant="left@0.4")], tmp_path / "t")
    assert read_tunings(tmp_path / "t") == [TUNING, replace(TUNING, variant="left@0.4")]


def test_a_table_of_runs_is_none_of_tunings(tmp_path: Path) -> None:
    write_tunings([TUNING], tmp_path / "t")
    for file, read in ((TABLE, read_tunings), (tmp_path / "t", read_table)):
        with pytest.raises(UserError, match="is not a results table of this version of mtlbench"):
            read(file)
