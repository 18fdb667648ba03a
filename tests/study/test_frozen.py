"""The mean weights of a run, fixed in others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, here

from mtlbench.errors import UserError
from mtlbench.spec import RunSpec
from mtlbench.store.runs import RunRecord, Store, read_run
from mtlbench.store.schema import DONE
from mtlbench.study.frozen import found_in, mean_weights
from mtlbench.study.plan import plan
from mtlbench.suites.digits import Digits
from mtlbench.training.job import Place, run_directory
from mtlbench.training.jobs import RunJob
from mtlbench.training.record import final_metrics, run_info

WEIGHTS = {"left": 0.5, "right": 1.5, "offset": 1.0}


def frozen(name: str = "frozen:dwa", **options: Any) -> list[RunSpec]:
    overrides = {**TINY, **options.pop("overrides", {})}
    return plan("digits", strategies=[name], overrides=overrides, **options)


def train_into(store: Store, spec: RunSpec) -> None:
    job = RunJob(spec)
    *_, ended = job.train(Place(), None)
    job.write(store, ended)


def test_the_weights_are_those_of_the_same_variant_with_seed_0() -> None:
    asked: list[RunSpec] = []

    def found_by(spec: RunSpec) -> dict[str, dict[str, float]]:
        asked.append(spec)
        return {"weights": WEIGHTS}

    specs = frozen(seeds=2, variants=["clean", "left@0.4"], found_by=found_by)
    assert [(s.variant, s.strategy, s.seed) for s in asked] == [
        ("clean", "dwa", 0),
        ("left@0.4", "dwa", 0),
    ]
    assert all(s.suite_parameters == specs[0].suite_parameters for s in asked)
    assert [s.strategy_parameters for s in specs] == [{"frozen:dwa.weights": WEIGHTS}] * 4


def test_parameters_of_the_other_strategy_are_those_of_its_run() -> None:
    asked: list[RunSpec] = []
    frozen(
        overrides={"dwa.temperature": 0.5},
        found_by=lambda spec: asked.append(spec) or {"weights": WEIGHTS},  # type: ignore[func-returns-value]
    )
    assert {spec.strategy_parameters["dwa.temperature"] for spec in asked} == {0.5}


def test_weights_set_by_hand_need_no_run() -> None:
    specs = frozen(overrides={"frozen:dwa.weights": WEIGHTS})
    assert specs[0].strategy_parameters == {"frozen:dwa.weights": WEIGHTS}
    with pytest.raises(UserError, match=r"found: give --set frozen:dwa\.weights=…$"):
        frozen()


def test_the_weights_are_the_means_over_all_epochs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (source,) = plan("digits", strategies=["mgda"], variants=["clean"], seeds=1, overrides=TINY)
    with pytest.raises(UserError, match=r"digits/clean/mgda/seed-0, .* is not in .*: train it"):
        mean_weights(store, source)
    train_into(store, source)
    history = read_run(run_directory(source, store)).history()
    found = mean_weights(store, source)
    assert set(found) == set(WEIGHTS)
    for task, value in found.items():
        assert value == pytest.approx(np.mean(history[f"weight/{task}"]), rel=1e-3)
    assert sum(found.values()) == pytest.approx(1, abs=1e-3)  # MGDA's are a convex combination


def test_a_frozen_run_is_the_run_with_these_weights_by_hand() -> None:
    (one,) = frozen(seeds=1, variants=["clean"], overrides={"frozen:dwa.weights": WEIGHTS})
    (other,) = frozen("static", seeds=1, variants=["clean"], overrides={"static.weights": WEIGHTS})
    ends = []
    for spec in (one, other):
        *_, ended = RunJob(spec).train(Place(), None)
        ends.append(ended.result)
    assert ends[0].history == ends[1].history
    assert ends[0].info["metrics"] == ends[1].info["metrics"]
    assert ends[0].info["label"] == "Frozen DWA"


def test_what_itself_takes_results_of_runs_cannot_be_frozen() -> None:
    with pytest.raises(UserError, match="'pivrg' itself takes what other runs found"):
        frozen("frozen:pivrg")


@pytest.mark.parametrize("name", ["single", "ilt", "data-parameters", "frozen:dwa", "graddrop"])
def test_what_weighs_no_tasks_cannot_be_frozen(name: str) -> None:
    with pytest.raises(UserError, match="finds no weights of tasks to freeze"):
        frozen(f"frozen:{name}")


def test_a_study_trains_the_other_strategy_first(
    train_here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seeds", "2", "--variants", "clean", "--results", tmp_path]
    options += [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    command = ["run", "digits", "--strategies", "equal,frozen:dwa", *options]
    done = here(command, capsys)
    assert done.status == 0
    assert "Frozen DWA" in done.out
    assert "DWA " not in done.out.replace("Frozen DWA", "")
    assert "1 run that others start from" in done.err
    again = here(command, capsys)
    assert "nothing to do" in again.err


def test_what_has_no_weights_to_freeze_is_left_out_and_the_others_are_trained(
    train_here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seeds", "1", "--variants", "clean", "--results", tmp_path]
    sizes = {**TINY, "lr": 1e30}
    options += [part for key, value in sizes.items() for part in ("--set", f"{key}={value}")]
    for command in (["run", "digits", *options], ["run", "digits", *options]):
        ended = here([*command, "--strategies", "static,frozen:dwa"], capsys)
        assert ended.status == 1
        assert "dwa/seed-0, whose weights are to be frozen, diverged: nothing can be" in ended.err
        assert "not all 2 runs are done: 1 diverged, 1 left out" in ended.err
        assert "Static" in ended.out
    alone = here(["run", "digits", *options, "--strategies", "frozen:dwa"], capsys)
    assert (alone.status, alone.out) == (2, "")
    assert "dwa/seed-0, whose weights are to be frozen, diverged" in alone.err


def test_what_pivrg_is_held_against_are_validation_results_of_single_task_networks(
    tmp_path: Path,
) -> None:
    why: list[str] = []
    store = Store(tmp_path)
    found_by = found_in(store, why.append)
    options: dict[str, Any] = {"strategies": ["pivrg"], "variants": ["clean"], "overrides": TINY}
    assert plan("digits", seeds=1, found_by=found_by, **options) == []
    assert why[0].startswith("the run digits/clean/single/seed-0, whose results others are held")
    (source,) = plan("digits", **{**options, "strategies": ["single"]}, seeds=1)
    tasks = Digits().tasks()
    reached = {
        f"{task.name}/{metric.name}": 40.1234567 for task in tasks for metric in task.metrics
    }
    info = run_info(
        source, "", "loss", status=DONE, error=None, metrics=final_metrics(tasks, reached)
    )
    history = {f"validation/{name}": [0.1, value] for name, value in reached.items()}
    store.write(RunRecord(info, {"epoch": [1, 2], **history}))
    one, other = plan("digits", seeds=2, found_by=found_by, **options)
    assert one.strategy_parameters == other.strategy_parameters
    assert one.strategy_parameters["pivrg.more"] == {
        "left/accuracy": 40.1235,
        "right/accuracy": 40.1235,
    }
    assert one.strategy_parameters["pivrg.less"] == {"offset/abs_err": 40.1235}
    by_hand = {**TINY, "pivrg.more": "left/accuracy:90,right/accuracy:90,offset/abs_err:1"}
    (spec,) = plan("digits", **{**options, "overrides": by_hand}, seeds=1)
    assert spec.strategy_parameters["pivrg.less"] == {}
