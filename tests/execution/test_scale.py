"""The simulation of large studies works, and what the driver does for a run does not grow."""

import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "benchmarks"))

import scale

from mtlbench.execution import fleet, pool
from mtlbench.execution.events import Event
from mtlbench.execution.pool import MOST_LOOKS, Pool
from mtlbench.execution.resources import Resources
from mtlbench.store.runs import Store


@pytest.mark.parametrize(("driven", "messages"), [(10, 4 + 10 * 3), (5, None)])
def test_a_simulated_study_trains_its_runs_and_finds_them_all_again(
    driven: int, messages: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((fleet, "alive_nodes"), *product((fleet, pool), ("ray", "time"))):
        monkeypatch.setattr(module, name, getattr(module, name))  # as before afterwards
    study = scale.Scale(runs=10, workers=4, seconds=10.0, epochs=2, driven=driven)
    figures: dict[str, Any] = {"workers": study.workers}
    for step, does in scale.STEPS.items():
        figures |= {**does(tmp_path, study), f"{step}_mib": 0.0}
    assert (figures["runs"], figures["files"]) == (10, 20)
    assert figures["driven"] == figures["forgotten"] == driven
    # Workers that are up; of a run, two epochs and its end.
    assert messages is None or figures["messages"] == messages
    # A round takes 10 s, after a start of 5 s.
    assert 15 + 10 * (driven > 5) < figures["simulated"] < 50
    assert scale.table([figures]).count("\n") == len(scale.ROWS) + 1


def test_a_study_of_all_strategies_can_be_planned(tmp_path: Path) -> None:
    study = scale.Scale(runs=scale.CELLS, workers=4, seconds=10.0, epochs=2, driven=1)
    assert scale.plan_study(tmp_path, study)["runs"] == scale.CELLS


def test_a_poll_looks_for_a_few_of_many_waiting_jobs_and_for_all_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Event] = []
    of_jobs = Pool(1, 0, Resources().setup([]), elastic=False, emit=told.append)
    of_jobs.store = Store(tmp_path)
    monkeypatch.setattr(of_jobs.fleet, "update", lambda: None)
    monkeypatch.setattr(of_jobs.fleet, "wait_for_machines", lambda: None)
    looked: list[Any] = []
    monkeypatch.setattr(of_jobs, "ended_elsewhere", looked.append)
    jobs: list[Any] = list(range(MOST_LOOKS + 1))
    of_jobs.waiting.extend(jobs)
    of_jobs.poll()
    assert looked == jobs[:MOST_LOOKS]
    of_jobs.poll()
    assert looked[MOST_LOOKS : MOST_LOOKS + 2] == [jobs[-1], jobs[0]]
    assert list(of_jobs.waiting) == jobs
