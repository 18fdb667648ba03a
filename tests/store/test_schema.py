"""What may stand in a `run.json`, and that whatever does, a run is read or named."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from analysis.synthetic_runs import abs_err, metric, write_run
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlbench.analysis.aggregate import compare
from mtlbench.analysis.leaderboard import leaderboard
from mtlbench.analysis.leaderboard_tables import render_leaderboard
from mtlbench.analysis.report import render_report
from mtlbench.analysis.results import load_results
from mtlbench.analysis.tables import render
from mtlbench.errors import UserError
from mtlbench.store.merge import merge_results
from mtlbench.store.runs import RUN_FILE, read_run
from mtlbench.store.sealed import DamagedRunError, sealed

Place = tuple[str | int, ...]


def a_run(root: Path, **changes: Any) -> Path:
    values = {"corrupted": {"depth": 0.4}, "sources": {"my.py": "ab12"}}
    parameters = {"suite_parameters": {"epochs": 2}, "strategy_parameters": {"ilt.lr": 4.0}}
    return write_run(root, metric(50.0), abs_err(0.1), **{**values, **parameters, **changes})


def altered(run: Path, change: Callable[[Any], Any]) -> None:
    info = json.loads((run / RUN_FILE).read_text())
    changed = change(info)
    text = sealed(changed) if isinstance(changed, dict) else json.dumps(changed).encode()
    (run / RUN_FILE).write_bytes(text)


def put(place: Place, value: Any) -> Callable[[Any], Any]:
    def change(info: Any) -> Any:
        inside = info
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = value
        return info

    return change


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("metrics",), 5),
        (("metrics",), None),
        (("metrics",), "accuracy"),
        (("metrics", 0, "value"), "50"),
        (("metrics", 0, "value"), True),
        (("metrics", 0, "direction"), "up"),
        (("metrics", 0, "task"), "a\nb"),
        (("tasks",), 5),
        (("tasks", 0, "classes"), None),
        (("population",), None),
        (("population",), 3),
        (("population",), {"networks": 0}),
        (("spec",), []),
        (("spec", "suite_parameters"), None),
        (("spec", "suite_parameters"), [1]),
        (("spec", "strategy_parameters"), 3),
        (("spec", "sources"), None),
        (("spec", "seed"), "0"),
        (("spec", "seed"), None),
        (("spec", "seed"), [0]),
        (("spec", "seed"), 10**30),
        (("spec", "variant"), 3),
        (("spec", "suite"), None),
        (("spec", "strategy"), "../../elsewhere"),
        (("label",), "\ud800"),
        (("label",), "red\x1b[31m"),
        (("hash",), 7),
        (("stage",), "first"),
        (("timings",), {"train_seconds": "long"}),
        (("files",), {"a\0b": {"bytes": 1, "sha256": ""}}),
    ],
    ids=str,
)
def test_a_wrong_field_is_damage_that_names_it(place: Place, value: Any, tmp_path: Path) -> None:
    run = a_run(tmp_path)
    altered(run, put(place, value))
    field = next(str(key) for key in reversed(place[:2]) if isinstance(key, str))
    with pytest.raises(DamagedRunError, match=field):
        read_run(run)


def test_a_metric_that_is_there_twice_is_damage(tmp_path: Path) -> None:
    run = write_run(tmp_path, metric(50.0), metric(60.0))
    with pytest.raises(DamagedRunError, match="a metric twice"):
        read_run(run)


@pytest.mark.parametrize("number", ["1e400", "NaN", "-Infinity"])
def test_a_number_that_is_not_finite_is_damage(number: str, tmp_path: Path) -> None:
    run = a_run(tmp_path)
    text = (run / RUN_FILE).read_text()
    (run / RUN_FILE).write_text(text.replace('"value": 50.0', f'"value": {number}'))
    with pytest.raises(DamagedRunError, match="metrics"):
        read_run(run)


def test_metrics_without_end_are_damage(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    metric = {"metric": "m", "label": "", "task": "t", "unit": "", "direction": "max", "value": 1}
    metrics = [{**metric, "metric": f"m{number}"} for number in range(5000)]
    info = {"schema_version": 1, "status": "done", "metrics": metrics}
    (run / RUN_FILE).write_text(json.dumps(info))
    with pytest.raises(DamagedRunError, match="has 5,000 metrics, and more than 4,096"):
        read_run(run)


def test_brackets_without_end_are_damage(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    (run / RUN_FILE).write_text("[" * 100_000)
    with pytest.raises(DamagedRunError, match="truncated or not JSON"):
        read_run(run)


@pytest.mark.parametrize("kind", ["pipe", "device", "circle", "large"])
def test_what_is_no_plain_file_is_not_read(kind: str, tmp_path: Path) -> None:
    run = a_run(tmp_path)
    file = run / RUN_FILE
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "large":
        with file.open("wb") as content:
            content.truncate(2**34)
    else:
        file.symlink_to("/dev/zero" if kind == "device" else RUN_FILE)
    with pytest.raises(DamagedRunError, match=r"not a file|cannot be read|too large"):
        read_run(run)


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every place in a JSON value, but for the whole."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*at, key)
            yield from places(item, (*at, key))


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@settings(max_examples=25)
@given(st.data())
def test_whatever_stands_in_a_run_json_every_command_reads_it_or_names_it(
    data: st.DataObject,
) -> None:
    with TemporaryDirectory() as root:
        results = Path(root) / "runs"
        a_run(results, strategy="mtu")
        run = a_run(results)
        info = json.loads((run / RUN_FILE).read_text())
        altered(run, put(data.draw(st.sampled_from(list(places(info)))), data.draw(JSON)))
        frame = load_results(results)
        assert len(frame["hash"].unique()) + len(frame.attrs["damaged"]) == 2
        for suite in set(frame["suite"]):
            render(compare(results, suite))
        render_leaderboard(leaderboard(results))
        render_report(results)
        merge_results([results], Path(root) / "merged")


@pytest.mark.parametrize("results", [3, [None], [3], ""])
def test_what_is_no_path_is_refused(results: Any) -> None:
    with pytest.raises(UserError):
        load_results(results)
