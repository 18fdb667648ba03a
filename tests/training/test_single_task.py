"""A network for each task: trained by its loss alone, told of together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Finished, finish, start_mtlbench, tiny_spec
from study.test_tune import ended_here

from mtlbench.errors import UserError
from mtlbench.store.runs import RunRecord, Store, read_run
from mtlbench.store.schema import DIVERGED, DONE
from mtlbench.strategies.compose import Composition, build_strategy
from mtlbench.training.job import Ended
from mtlbench.training.jobs import RunJob
from mtlbench.training.single_task import TaskJob, together

TASKS = ("left", "right", "offset")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return ended_here(
        RunJob(tiny_spec("single", "left@0.4"), traces=True), Store(tmp_path_factory.mktemp("runs"))
    )


def test_each_task_is_learned_as_if_the_others_were_not_there(ended: Ended) -> None:
    """Held against weights of 1 and 0 set by hand."""
    record = ended.result
    assert record.info["population"] == {"networks": 3, "epochs": 6}
    metrics = {(m["task"], m["metric"]): m["value"] for m in record.info["metrics"]}
    assert len(metrics) == 3
    for task in TASKS:
        alone = tiny_spec(
            "static", "left@0.4", static__weights={t: float(t == task) for t in TASKS}
        )
        other = ended_here(RunJob(alone, traces=True), Store(Path("unused"))).result
        for key in (f"train_loss/{task}", f"weight/{task}"):
            assert record.history[key] == other.history[key]
        for metric in other.info["metrics"]:
            if metric["task"] == task:
                assert metrics[task, metric["metric"]] == metric["value"]
        k = TASKS.index(task)
        for name in ("loss", "margin", "prediction"):
            np.testing.assert_array_equal(record.traces[name][..., k], other.traces[name][..., k])
        prediction = f"prediction/{task}"
        np.testing.assert_array_equal(record.predictions[prediction], other.predictions[prediction])


def test_all_networks_begin_alike_and_see_the_same_batches(ended: Ended) -> None:
    record = ended.result
    assert set(record.history) == {
        "epoch",
        *(f"{what}/{task}" for task in TASKS for what in ("train_loss", "weight")),
        "validation/left/accuracy", "validation/right/accuracy", "validation/offset/abs_err",
    }  # fmt: skip
    assert all(record.history[f"weight/{task}"] == [1.0, 1.0] for task in TASKS)


def test_it_goes_with_no_instance_stage() -> None:
    with pytest.raises(UserError, match=r"'single' goes with no instance stage"):
        Composition.parse("ilt+single")


def test_in_a_loop_of_ones_own_it_is_the_network_of_the_task_that_is_set() -> None:
    strategy = build_strategy("single", tasks={"a": "regression", "b": "regression"})
    stage: Any = strategy.task
    stage.set_task("b")
    assert stage.get_buffer("mine").tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="unknown task 'c'"):
        stage.set_task("c")


def test_a_network_that_is_trained_is_found_again(tmp_path: Path) -> None:
    spec, store = tiny_spec("single"), Store(tmp_path)
    job = TaskJob(spec, "right", 1)
    ended = ended_here(job, store)
    job.write(store, ended)
    found = job.found(store)
    assert found is not None
    assert (found.status, found.epochs) == (ended.status, ended.epochs)
    assert found.result.history == ended.result.history
    assert found.result.info["metrics"] == ended.result.info["metrics"]
    for name, array in ended.result.predictions.items():
        np.testing.assert_array_equal(found.result.predictions[name], array)
    assert TaskJob(spec, "right", 1, traces=True).found(store) is None


def test_where_one_network_diverges_the_run_does() -> None:
    def record(status: str, epochs: int, task: str) -> RunRecord:
        metric = {"task": task, "metric": "m", "value": 1.0}
        column = [float(epoch) for epoch in range(epochs)]
        history = {"epoch": column, "train_loss/a": column, "train_loss/b": column}
        info = {"status": status, "metrics": [metric], "timings": {"train_seconds": 2.0}}
        return RunRecord(info, history)

    one = together(["a", "b"], [record(DONE, 3, "a"), record(DIVERGED, 2, "b")])
    assert one.info["status"] == DIVERGED
    assert one.info["metrics"] == []
    assert one.info["timings"] == {"train_seconds": 4.0}
    assert {len(column) for column in one.history.values()} == {2}
    whole = together(["a", "b"], [record(DONE, 3, "a"), record(DONE, 3, "b")])
    assert [metric["task"] for metric in whole.info["metrics"]] == ["a", "b"]


def test_workers_train_it_to_the_same_bits_and_it_stands_first(
    cluster_address: str, ended: Ended, tmp_path: Path
) -> None:
    sizes = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    command = ["run", "digits", *sizes, "--strategies", "equal,single", "--variants", "left@0.4"]
    command += ["--seeds", "1", "--traces", "--address", cluster_address]
    done: Finished = finish(start_mtlbench([*command, "--results", str(tmp_path)]))
    assert done.status == 0, done.err
    (path,) = tmp_path.glob("digits/left@0.4/single/*")
    run = read_run(path, thorough=True)
    assert run.info["metrics"] == ended.result.info["metrics"]
    history = {name: column.tolist() for name, column in run.history().items()}
    assert history == ended.result.history
    lines = done.out.splitlines()
    rows = [line for line in lines if line.startswith(("Single-task", "Eq. Weight"))]
    assert rows[0].startswith("Single-task")
    assert not (tmp_path / ".unfinished").exists()
