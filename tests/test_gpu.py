"""The checks that every strategy must pass on a GPU, and the command that runs them there.

Where there is no GPU the same checks hold the CPU against itself, so that they run everywhere.
"""

import json
import os
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "benchmarks"))

import gpu
import gpu_checks
import gpu_parts
import gpu_table

from mtlbench.study.plan import plan

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
on_each_device = pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])]
)

HIDDEN = "torchjd,ray,pytest,hypothesis,jinja2,markupsafe,matplotlib,PIL,pillow,LibMTL,platformdirs"
"""What the command does without."""

HIDE = """
import os
from importlib import metadata
from importlib.machinery import PathFinder

hidden = set(os.environ["HIDDEN"].split(","))
find_spec, from_name = PathFinder.find_spec, metadata.Distribution.from_name


def find(name, *where):
    return None if name.partition(".")[0] in hidden else find_spec(name, *where)


def distribution(name):
    if name.lower() in hidden | {"mtlbench"}:
        raise metadata.PackageNotFoundError(name)
    return from_name(name)


PathFinder.find_spec, metadata.Distribution.from_name = find, distribution
"""
"""A start of Python in which those packages, and the installed one under test, are not there."""


# --- the checks ---


@on_each_device
@pytest.mark.parametrize(
    ("check", "case"),
    [
        pytest.param(check, case, id=f"{check}, {case}")
        for check in gpu_checks.CHECKS
        for case in gpu_checks.cases_of(check)
    ],
)
def test_a_strategy_is_right_on_a_device(check: str, case: gpu_checks.Case, device: str) -> None:
    gpu_checks.prepare(device)
    gpu_checks.CHECKS[check](case, device)


def test_what_waits_for_the_device_is_named() -> None:
    with gpu_checks.waits("cpu") as found:
        values = torch.ones(3)
        values[values > 0].sum().item()
        values.cpu()
        values + 1
    assert found == ["outside the package"] * 3


def test_on_a_gpu_the_warnings_of_pytorch_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[Any] = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with gpu_checks.waits("cuda") as found:
        for message in ("called a synchronizing CUDA operation", "something else") * 2:
            warnings.warn(message, stacklevel=1)
    assert len(found) == 2
    assert found[0].startswith("test_gpu.py:")
    assert modes == ["warn", 0]


def test_results_that_are_apart_fail() -> None:
    one = torch.ones(2, 3)
    assert gpu_checks.near(one, one, 0) == "0e+00"
    with pytest.raises(AssertionError, match=r"apart by 1\.0e-03, more than 1e-04"):
        gpu_checks.near(one * torch.tensor([[1.0], [1.001]]), one, 1e-4)
    with pytest.raises(AssertionError, match="not finite"):
        gpu_checks.near(one / 0, one, 1)


# --- the command ---


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """All parts at tiny size, in a process without what the command does without."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(HIDE)
    command = [sys.executable, str(CHECKOUT / "benchmarks" / "gpu.py"), "--tiny"]
    command += ["--device", "cpu", "--out", str(site / "out"), "--total", "550"]
    environment = {**os.environ, "PYTHONPATH": str(site), "HIDDEN": HIDDEN}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    done.report = json.loads((site / "out" / "cpu.json").read_text())  # type: ignore[attr-defined]
    done.left = [path.name for path in (site / "out").iterdir()]  # type: ignore[attr-defined]
    return done


def test_it_runs_from_a_plain_tree_with_few_packages(tiny_run: Any) -> None:
    assert tiny_run.returncode == 0, tiny_run.stdout + tiny_run.stderr
    assert tiny_run.report["passed"]
    assert tiny_run.left == ["cpu.json"]
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert tiny_run.report["environment"]["mtlbench"] == project["version"]


def test_every_part_has_its_figures(tiny_run: Any) -> None:
    parts = tiny_run.report["parts"]
    assert list(parts) == list(gpu.LIMITS)
    assert {part["status"] for part in parts.values()} == {"done"}
    records = {name: part["records"] for name, part in parts.items()}
    assert {record["check"] for record in records["right"]} == set(gpu_checks.CHECKS)
    runs = {(run["suite"], run["strategy"]) for run in records["studies"]}
    assert runs == {
        (suite, strategy)
        for suite in ("digits", "streets")
        for strategy in gpu_parts.STUDY_STRATEGIES
    }
    assert all(record["ratio"] > 0 for record in records["step-cost"])
    assert [record["seeds"] for record in records["stacked"]] == [2]
    for name, mode in (("full-size", "eager"), ("compiled", "compiled")):
        timed = [record for record in records[name] if record.get("loop") == "ilt"]
        assert {(r["mode"], r["precision"]) for r in timed} == {
            (mode, "float32"),
            (mode, "bfloat16"),
        }


def test_a_short_table_comes_last(tiny_run: Any) -> None:
    lines = tiny_run.stdout.splitlines()
    assert len(lines) < 90
    assert lines[0].startswith(f"cpu: PyTorch {torch.__version__}")
    assert lines[-1] == "Everything passed."
    assert any(line.startswith("| HRNetV2-W18, eager, float32 |") for line in lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_it_ends_at_once_and_says_so(tmp_path: Path) -> None:
    command = [sys.executable, str(CHECKOUT / "benchmarks" / "gpu.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.endswith("- no part: the device does not answer\n")
    assert "there is no device 'cuda' here" in done.stderr


# --- what fails, or takes too long ---

TWO_RECORDS = 'import sys; f = open(sys.argv[1], \'a\'); f.write(\'{"a": 1}\\n{"a": 2}\\n{"a"\'); '


@pytest.mark.parametrize(
    ("then", "status", "note"),
    [
        ("f.close()", "done", ""),
        ("f.close(); import time; time.sleep(60)", "cut short", "stopped after 3 s"),
        ("f.close(); import os; os.abort()", "failed", "exit status -6"),
        ("f.close(); 1 / 0", "failed", "exit status 1"),
    ],
)
def test_what_a_part_has_found_is_kept(then: str, status: str, note: str, tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    command = [sys.executable, "-c", TWO_RECORDS + then, str(records)]
    outcome = gpu.run_part("part", command, records, 3 if status == "cut short" else 60)
    assert (outcome["status"], outcome["note"]) == (status, note)
    assert outcome["records"] == [{"a": 1}, {"a": 2}]


def test_a_part_that_loses_the_device_goes_on_in_another_process(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    script = (
        "import sys; f = open(sys.argv[1], 'a+'); f.seek(0); n = len(f.readlines()); "
        f"f.write('{{}}\\n'); sys.exit({gpu.DEVICE_LOST} if n < 2 else 0)"
    )
    command = [sys.executable, "-c", script, str(records)]
    outcome = gpu.run_part("part", command, records, 60)
    assert outcome["status"] == "done"
    assert len(outcome["records"]) == 3


def part(status: str = "done", *records: dict[str, Any]) -> dict[str, Any]:
    note = "" if status == "done" else "why"
    return {"status": status, "note": note, "seconds": 1.0, "limit": 2.0, "records": [*records]}


def report(**parts: dict[str, Any]) -> dict[str, Any]:
    there = {"right": part(), "studies": part()} | parts
    made = {
        "environment": {"card": "a card", "torch": "2"},
        "date": "today",
        "tiny": False,
        "file": "card.json",
        "parts": there,
    }
    return made | {"passed": gpu.passed(made)}


@pytest.mark.parametrize(
    ("parts", "passes"),
    [
        ({}, True),
        ({"compiled": part("cut short")}, True),
        ({"compiled": part("failed")}, False),
        ({"studies": part("cut short")}, False),
        ({"step-cost": part("done", {"strategy": "ilt", "stage": "instance", "ok": False})}, False),
    ],
)
def test_all_checks_have_to_be_made_and_passed(parts: dict[str, Any], passes: bool) -> None:
    assert report(**parts)["passed"] == passes


def test_what_did_not_pass_is_named_and_nothing_is_lost_of_the_rest() -> None:
    metric = {"task": "left", "metric": "accuracy", "value": 50.0, "mean": 90.0, "std": 1.0}
    run = {
        "suite": "digits",
        "variant": "clean",
        "strategy": "mgda",
        "status": "done",
        "ok": False,
        "compared": True,
        "error": None,
        "timings": {"train_seconds": 3.0},
        "metrics": [metric | {"within": False}],
    }
    check = {"check": "float64", "case": "ilt", "key": "float64: ilt", "ok": False, "note": "apart"}
    lines = gpu_table.table(
        report(
            right=part("done", *[check] * 20), studies=part("done", run), compiled=part("failed")
        )
    )
    assert "NOT everything passed:" in lines
    assert "- right: float64: ilt apart" in lines
    assert lines[-1] == "- and 12 more: see card.json"
    assert "| compiled | failed why | 1 | 2 |" in lines
    assert "| digits clean | mgda NOT within (3.0 s) |" in lines
    assert len(lines) < 90


# --- the reference ---


def test_a_run_is_held_against_reference_runs_of_the_same_parameters() -> None:
    (spec,) = plan("digits", strategies=["ilt"], variants=["clean"], seeds=1)
    runs = gpu_parts.reference_runs(spec)
    assert len(runs) == 5
    judged = gpu_parts.judged(runs[0], runs)
    assert judged["ok"]
    assert judged["compared"]
    worse = [dict(metric, value=0.8 * metric["value"]) for metric in runs[0]["metrics"]]
    assert not gpu_parts.judged({**runs[0], "metrics": worse}, runs)["ok"]
    (other,) = plan(
        "digits", strategies=["ilt"], variants=["clean"], seeds=1, overrides={"epochs": 2}
    )
    assert gpu_parts.reference_runs(other) == []
