"""The epochs that the final metrics of a run are of."""

import math
from pathlib import Path
from typing import Any

import pytest
from conftest import tiny_spec, trained, training
from hypothesis import assume, given
from hypothesis import strategies as st
from study.test_tune import ended_here

from mtlbench.errors import UserError
from mtlbench.spec import RunSpec
from mtlbench.store.runs import RunRecord, Store
from mtlbench.study.plan import plan
from mtlbench.suites.bodies import Bodies
from mtlbench.suites.build import build_suite, suite_of
from mtlbench.suites.digits import Digits
from mtlbench.suites.streets import Streets
from mtlbench.tasks.epoch_rule import EpochRule, score
from mtlbench.tasks.metrics import Metric
from mtlbench.tasks.task import Task, squared_l2
from mtlbench.training.job import Place
from mtlbench.training.jobs import RunJob
from mtlbench.training.run import Run
from mtlbench.training.trials import TrialJob

EPOCHS = 8


def spec(rule: str, strategy: str = "equal", **overrides: Any) -> RunSpec:
    # With labels as wrong as these it gets better and worse from epoch to epoch.
    return tiny_spec(strategy, "offset@0.9", epochs=EPOCHS, lr=0.1, epoch_rule=rule, **overrides)


def metrics_of(record: RunRecord) -> dict[str, float]:
    return {f"{m['task']}/{m['metric']}": m["value"] for m in record.info["metrics"]}


@pytest.fixture(scope="module")
def every_epoch() -> list[tuple[dict[str, float], dict[str, float]]]:
    """Metrics on validation and on test data after each epoch."""
    run = Run(spec("last"))
    run.start()
    found = []
    for _ in range(EPOCHS):
        run.train_epoch()
        found.append((run.validation(), run.evaluate(run.data.test)))
    return found


def best_of(epochs: list[tuple[dict[str, float], dict[str, float]]]) -> int:
    """By hand: ⅓ (log accuracy + log accuracy − log error) is the largest."""
    scores = [
        math.log(v["left/accuracy"]) + math.log(v["right/accuracy"]) - math.log(v["offset/abs_err"])
        for v, _ in epochs
    ]
    return scores.index(max(scores))


def test_the_last_epoch_counts_unless_another_rule_is_asked_for(every_epoch: Any) -> None:
    assert (
        metrics_of(trained(tiny_spec(epochs=EPOCHS, lr=0.1, variant="offset@0.9")))
        == every_epoch[-1][1]
    )


def test_the_best_epoch_on_validation_data_is_the_one_tested(every_epoch: Any) -> None:
    best = best_of(every_epoch)
    assert best != EPOCHS - 1
    record = trained(spec("best"))
    assert metrics_of(record) == every_epoch[best][1]
    assert len(record.history["epoch"]) == EPOCHS


def test_the_mean_is_over_the_tests_after_the_last_epochs(every_epoch: Any) -> None:
    found = metrics_of(trained(spec("mean:3")))
    for name, value in found.items():
        assert value == pytest.approx(sum(test[name] for _, test in every_epoch[-3:]) / 3)


@pytest.mark.parametrize("rule", ["best", "mean:3"])
def test_a_trial_is_judged_by_the_same_rule_without_test_data(
    rule: str, every_epoch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = Run.evaluate

    def evaluate(run: Run, split: Any) -> dict[str, float]:
        assert split is not run.data.test
        return untouched(run, split)

    monkeypatch.setattr(Run, "evaluate", evaluate)
    *_, ended = TrialJob(spec(rule)).train(Place(), None)
    found = metrics_of(ended.result)
    chosen = [best_of(every_epoch)] if rule == "best" else range(EPOCHS - 3, EPOCHS)
    for name, value in found.items():
        mean = sum(every_epoch[e][0][name] for e in chosen) / len(chosen)
        assert value == pytest.approx(mean)


@pytest.mark.parametrize("rule", ["best", "mean:6"])
def test_a_run_that_was_interrupted_keeps_what_the_rule_needs(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtlbench.training.loop.CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "checkpoint.safetensors"
    whole = trained(spec(rule))
    begun = training(spec(rule), checkpoint=checkpoint)
    for _ in range(6):
        next(begun)
    begun.close()
    assert checkpoint.exists()
    assert metrics_of(trained(spec(rule), checkpoint=checkpoint)) == metrics_of(whole)


def test_each_network_of_single_has_its_own_best_epoch(tmp_path: Path) -> None:
    record = ended_here(RunJob(spec("best", "single")), Store(tmp_path)).result
    for task, name in (("left", "accuracy"), ("right", "accuracy"), ("offset", "abs_err")):
        weights = {t: float(t == task) for t in ("left", "right", "offset")}
        run = Run(spec("last", "static", static__weights=weights))
        run.start()
        found = []
        for _ in range(EPOCHS):
            run.train_epoch()
            value = run.validation()[f"{task}/{name}"]
            found.append((value if name == "accuracy" else -value, run.evaluate(run.data.test)))
        best = max(range(EPOCHS), key=lambda e: found[e][0])
        assert metrics_of(record)[f"{task}/{name}"] == found[best][1][f"{task}/{name}"]


def test_a_population_keeps_the_best_epoch_of_the_lineage(tmp_path: Path) -> None:
    last, best = (
        ended_here(
            RunJob(spec(rule, "evolution", evolution__population=2)), Store(tmp_path / rule)
        ).result
        for rule in ("last", "best")
    )
    assert best.history == last.history
    names = [name for name in best.history if name.startswith("validation/")]
    scores = [
        score(
            suite_of(spec("best")).tasks(),
            {n.removeprefix("validation/"): best.history[n][e] for n in names},
        )
        for e in range(EPOCHS)
    ]
    assert (metrics_of(best) == metrics_of(last)) == (scores.index(max(scores)) == EPOCHS - 1)


def test_where_no_epoch_can_be_judged_the_run_fails_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    untouched = Run.evaluate

    def evaluate(run: Run, split: Any) -> dict[str, float]:
        values = untouched(run, split)
        return values if split is run.data.test else {**values, "offset/abs_err": math.nan}

    monkeypatch.setattr(Run, "evaluate", evaluate)
    record = trained(spec("best"))
    assert record.info["status"] == "failed"
    assert "no epoch is the best: none has finite metrics on validation" in record.info["error"]


def test_a_population_is_not_tested_in_every_epoch() -> None:
    with pytest.raises(UserError, match="'evolution' takes no epoch_rule 'mean:2'"):
        plan("digits", strategies=["evolution"], overrides={"epoch_rule": "mean:2"})


@pytest.mark.parametrize("rule", ["first", "mean", "mean:0", "mean:-1", "mean:x", "best:2", ""])
def test_another_rule_is_refused(rule: str) -> None:
    with pytest.raises(UserError, match="epoch_rule must be last, best or mean:N"):
        build_suite("digits", {"epoch_rule": rule})


def test_a_mean_over_more_epochs_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="epoch_rule is 'mean:3', but there are 2 epochs"):
        build_suite("digits", {"epoch_rule": "mean:3", "epochs": 2})


def test_a_rule_says_what_it_does() -> None:
    assert str(EpochRule.parse("last")) == "after the last epoch"
    assert str(EpochRule.parse("best")) == "at the best epoch on validation data"
    assert str(EpochRule.parse("mean:10")) == "as the mean over the last 10 epochs"


def test_tasks_without_a_metric_do_not_count_in_a_score() -> None:
    tasks = Bodies().tasks()
    assert [len(task.metrics) for task in tasks] == [1, 0, 0, 2]
    names = [f"{task.name}/{metric.name}" for task in tasks for metric in task.metrics]
    values = dict(zip(names, [50.0, 100.0, 400.0], strict=True))
    expected = (math.log(50) - (math.log(100) + math.log(400)) / 2) / 2
    assert score(tasks, values) == pytest.approx(expected, rel=1e-12)


def scored(direction: str, value: float, scale: float = 1.0) -> float:
    metric = Metric("m", "M", "", direction, lambda: None, scale)
    task = Task("t", "regression", loss=squared_l2(), metrics=(metric,), corruptions=())
    return score((task,), {"t/m": value})


@given(st.lists(st.floats(-50, 100), min_size=2, max_size=2), st.sampled_from((1.0, 100.0)))
def test_better_scores_better_also_below_0(values: list[float], scale: float) -> None:
    low, high = sorted(values)
    assume(high - low > 1e-3)
    assert scored("max", low, scale) < scored("max", high, scale)
    assert scored("min", high, scale) < scored("min", low, scale)


def test_above_a_hundredth_of_the_scale_a_score_is_a_logarithm() -> None:
    assert scored("max", 0.5) == pytest.approx(math.log(0.5))
    assert scored("max", 50.0, 100.0) == pytest.approx(math.log(50))
    # Below, the tangent at 0.01: log 0.01 + (0 − 0.01) / 0.01.
    assert scored("max", 0.0) == pytest.approx(math.log(0.01) - 1)
    assert scored("min", 3.0) == pytest.approx(-math.log(3))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("direction", ["max", "min"])
def test_what_is_not_finite_scores_worst(direction: str, value: float) -> None:
    assert scored(direction, value) == -math.inf


@pytest.mark.parametrize("suite", [Digits, Streets, Bodies])
def test_weight_decay_reaches_all_weights(suite: Any) -> None:
    built = suite(weight_decay=0.125)
    groups = built.optimizer(built.model()).param_groups
    assert {group["weight_decay"] for group in groups} == {0.125}
    assert "weight_decay" in built.space()
    assert "weight_decay" not in suite().space()


def test_a_negative_weight_decay_is_refused() -> None:
    with pytest.raises(UserError, match="weight_decay must not be negative"):
        build_suite("digits", {"weight_decay": -0.1})
