"""The same budget for every strategy, chosen by validation data alone."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, finish, start_mtlbench, tiny_spec, trained
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtlbench import Task, suite_from
from mtlbench.analysis.results import load_results
from mtlbench.analysis.tuning import gain
from mtlbench.errors import UserError
from mtlbench.space import Choice, Range
from mtlbench.store.merge import merge_results
from mtlbench.store.runs import Store, read_run
from mtlbench.store.sealed import sealed
from mtlbench.store.trials import (
    TRIAL_SEED,
    TrialScore,
    Tuning,
    best,
    best_half,
    read_trial,
    trial_file,
    tuning_file,
    tunings,
)
from mtlbench.strategies.base import strategies
from mtlbench.strategies.compose import Composition
from mtlbench.study import tune as tuning
from mtlbench.study.plan import plan
from mtlbench.study.trials import Candidate, plan_trials, rounds, shares_of_epochs
from mtlbench.study.tune import tune
from mtlbench.suites.base import suites
from mtlbench.tasks.metrics import absolute_error
from mtlbench.tasks.task import l1
from mtlbench.training.job import Ended, Job, Place
from mtlbench.training.run import Run
from mtlbench.training.trials import TrialJob

# --- the score ----------------------------------------------------------------------------------


def metric(task: str, name: str, direction: str, value: float | None) -> dict[str, Any]:
    return {"task": task, "metric": name, "direction": direction, "value": value}


BASE = [
    metric("a", "accuracy", "max", 80.0),
    metric("b", "abs", "min", 0.5),
    metric("b", "rel", "min", 20.0),
]


def test_the_gain_is_the_mean_over_tasks_of_relative_improvements() -> None:
    other = [
        metric("a", "accuracy", "max", 84.0),  # 5 % better
        metric("b", "abs", "min", 0.4),  # 20 % better
        metric("b", "rel", "min", 22.0),  # 10 % worse
    ]
    assert gain(other, BASE) == pytest.approx((5 + (20 - 10) / 2) / 2)
    assert gain(BASE, BASE) == 0


@given(st.permutations(BASE), st.permutations(BASE))
def test_the_order_of_metrics_changes_no_gain(one: list[Any], other: list[Any]) -> None:
    worse = [{**m, "value": m["value"] * 1.1} for m in one]
    assert gain(worse, other) == gain([{**m, "value": m["value"] * 1.1} for m in BASE], BASE)


def test_a_metric_that_is_not_finite_has_no_gain_and_one_without_a_base_says_nothing() -> None:
    assert gain([metric("a", "accuracy", "max", None), *BASE[1:]], BASE) is None
    assert gain(BASE, [metric("a", "accuracy", "max", 0.0), *BASE[1:]]) == 0
    assert gain(BASE, []) is None


def test_the_first_of_equal_scores_is_the_best_and_none_the_worst() -> None:
    assert best([0.0, None, 3.0, 3.0]) == 2
    assert best([None, -5.0]) == 1
    assert best([None, None]) == 0


# --- the trials ---------------------------------------------------------------------------------


def trials(names: Sequence[str], count: int = 5, **overrides: Any) -> list[Candidate]:
    overrides = {**TINY, **overrides}
    return plan_trials("digits", names, ["clean"], count, overrides, found_by=lambda spec: {})


def test_the_first_trial_has_the_default_parameters_and_no_seed_of_a_run() -> None:
    (candidate,) = trials(["equal"])
    assert candidate.default.suite_parameters == tiny_spec().suite_parameters
    assert {spec.seed for spec in candidate.trials} == {TRIAL_SEED}
    assert len({spec.hash for spec in candidate.trials}) == 5


def test_all_strategies_get_the_same_points_in_what_they_share() -> None:
    rates = [
        [spec.suite_parameters["lr"] for spec in candidate.trials]
        for candidate in trials(["equal", "mtu", "ilt", "cagrad"])
    ]
    assert all(each == rates[0] for each in rates)
    assert len(set(rates[0])) == 5


def test_more_trials_are_the_same_and_some_more() -> None:
    (few,), (more,) = trials(["ilt"], 3), trials(["ilt"], 9)
    assert more.trials[:3] == few.trials


def test_what_is_set_by_hand_is_not_searched() -> None:
    (candidate,) = trials(["ilt"], lr=0.001, **{"ilt.lr": 3.0})
    assert {spec.suite_parameters["lr"] for spec in candidate.trials} == {0.001}
    assert {spec.strategy_parameters["ilt.lr"] for spec in candidate.trials} == {3.0}


def test_a_space_of_a_parameter_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strategies.get("mtu").cls, "space", {"nope": Range(1, 2)})
    with pytest.raises(UserError, match=r"^the space of 'mtu' names 'nope'"):
        trials(["mtu"])


def test_every_strategy_can_be_made_at_every_point_of_its_space() -> None:
    for candidate in trials(["all"], 17):
        changed = {name for change in candidate.changes for name in change}
        assert "lr" in changed
        for spec in candidate.trials:
            composition = Composition.parse(spec.strategy)
            tasks = {"left": "classification", "right": "classification", "offset": "regression"}
            trunk = nn.Linear(2, 2)
            strategy = composition.build(
                spec.strategy_parameters,
                tasks=tasks,
                num_instances=2,
                model=trunk,
                representation=trunk,
            )
            assert strategy is not None


def test_weights_set_by_hand_are_searched_over_all_weights_of_the_tasks() -> None:
    (candidate,) = trials(["static"])
    weights = [spec.strategy_parameters["static.weights"] for spec in candidate.trials]
    assert weights[0] == {}
    assert all(list(each) == ["left", "right", "offset"] for each in weights[1:])


def test_no_trials_at_all_are_refused() -> None:
    with pytest.raises(UserError, match=r"^trials must be at least 1 and at most 10000, but is 0$"):
        tune("digits", trials=0)


def test_a_trial_looks_at_no_test_data_and_is_judged_on_validation_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec()
    whole = trained(spec)

    def refuse(run: Run) -> None:
        raise AssertionError("test data were looked at")

    monkeypatch.setattr(Run, "test", refuse)
    job, store = TrialJob(spec), Store(tmp_path)
    train_here([job], store)
    info = read_trial(trial_file(store, spec.hash))
    assert info["status"] == "done"
    assert info["history"] == {key: list(column) for key, column in whole.history.items()}
    for each in info["metrics"]:
        assert each["value"] == whole.history[f"validation/{each['task']}/{each['metric']}"][-1]
    assert job.found(store) == Ended("done", device="cpu", workers=1)
    trial_file(store, spec.hash).write_text("{")
    assert job.found(store) is None


def test_a_trial_of_a_population_looks_at_no_test_data_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: Run) -> None:
        raise AssertionError("test data were looked at")

    monkeypatch.setattr(Run, "test", refuse)
    spec = tiny_spec("evolution", evolution__population=3, evolution__every=1)
    store = Store(tmp_path)
    train_here([TrialJob(spec)], store)
    info = read_trial(trial_file(store, spec.hash))
    assert info["status"] == "done", info["error"]
    assert info["population"]["networks"] == 3


# --- the whole way ------------------------------------------------------------------------------


def train_here(jobs: Sequence[Job], store: Store, *_: Any, **__: Any) -> None:
    """As `study.run.train_missing`, in this process."""
    for job in jobs:
        if job.found(store) is None:
            job.write(store, ended_here(job, store))


def ended_here(job: Job, store: Store) -> Ended:
    if job.networks == 1:
        *_, ended = job.train(Place(), None)
        assert isinstance(ended, Ended)
        return ended
    parts = job.parts()
    wanted = next(parts)
    while True:
        ends = []
        for part in wanted:
            part.checkpoint(store).parent.mkdir(parents=True, exist_ok=True)
            *_, ended = part.train(Place(), part.checkpoint(store))
            ends.append(ended)
        try:
            wanted = parts.send(ends)
        except StopIteration as stop:
            return stop.value


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "train_missing", train_here)


def test_runs_of_a_tuning_have_the_data_of_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_specs = []

    def train_and_note(jobs: Sequence[Job], store: Store, *_: Any, **__: Any) -> None:
        trained_specs.extend(job.spec for job in jobs)
        train_here(jobs, store)

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.a = nn.Linear(2, 4), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(self.trunk(x)).squeeze(1)

    points = [(torch.randn(2), float(n)) for n in range(16)]
    task = Task("a", "regression", l1(), (absolute_error(""),), ())
    suite_from("of-points", train=points, validation=points, test=points, model=One, tasks=[task],
               epochs=1, batch_size=8, lr=0.01)  # fmt: skip
    monkeypatch.setattr(tuning, "train_missing", train_and_note)
    options: Any = {"strategies": ["equal"], "seeds": 1, "overrides": {"workers": 0}}
    try:
        (planned,) = plan("of-points", **options)
        for trials in (1, 3):  # of one, the default parameters are chosen
            tune("of-points", **options, trials=trials, results=tmp_path)
    finally:
        suites._entries.pop("of-points")
    assert planned.fingerprint
    assert {spec.fingerprint for spec in trained_specs} == {planned.fingerprint}
    assert all(spec.locations == planned.locations == {"workers": "0"} for spec in trained_specs)


def test_tuned_strategies_stand_beside_themselves(here: None, tmp_path: Path) -> None:
    options: Any = {"strategies": ["equal", "ilt"], "variants": ["clean"], "seeds": 2}
    comparison = tune("digits", **options, trials=3, overrides=TINY, results=tmp_path)
    assert list(comparison.labels.values()) == [
        "Eq. Weight", "Eq. Weight (tuned)", "ILT Params", "ILT Params (tuned)",
    ]  # fmt: skip
    assert set(comparison.summary["n"]) == {2}
    assert sum("the best of 3 trials" in each for each in comparison.remarks["clean"]) == 2
    found, damaged = tunings(Store(tmp_path))
    assert not damaged
    for each in found:
        scores = [-math.inf if trial.score is None else trial.score for trial in each.trials]
        assert each.chosen == each.trials[scores.index(max(scores))]
        for path in tmp_path.glob(f"digits/clean/{each.strategy}/seed-*"):
            run = read_run(path)
            if run.info["hash"] in each.runs:
                wanted = each.chosen.parameters
                parameters = {
                    **run.info["spec"]["suite_parameters"],
                    **run.info["spec"]["strategy_parameters"],
                }
                assert {name: parameters[name] for name in wanted} == dict(wanted)


def test_a_larger_budget_goes_on_from_a_smaller_one_and_stands_beside_it(
    here: None, tmp_path: Path
) -> None:
    options: Any = {"strategies": ["equal"], "variants": ["clean"], "seeds": 1, "overrides": TINY}
    tune("digits", **options, trials=2, results=tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / ".trials").iterdir()}
    tune("digits", **options, trials=4, results=tmp_path)
    after = {path: path.read_bytes() for path in (tmp_path / ".trials").iterdir()}
    assert len(after) == 4
    assert before.items() <= after.items()
    settings = set(load_results(tmp_path)["settings"])
    assert settings >= {"", "tuned, 2 trials", "tuned, 4 trials"}


def test_tunings_of_other_searches_are_rows_of_their_own(here: None, tmp_path: Path) -> None:
    options: Any = {"strategies": ["ilt"], "variants": ["clean"], "trials": 2, "seeds": 1}
    tune("digits", **options, overrides=TINY, results=tmp_path)
    fixed = {**TINY, "lr": 0.004}  # the default
    comparison = tune("digits", **options, overrides=fixed, results=tmp_path)
    assert set(comparison.summary["n"]) == {1}
    settings = set(load_results(tmp_path)["settings"])
    assert settings >= {"tuned, of lr ilt.lr", "tuned, of ilt.lr"}


@pytest.mark.parametrize("change", ["name", "hash", "parameters", "strategy", "against"])
def test_a_tuning_that_contradicts_itself_is_named_and_set_aside(
    change: str, here: None, tmp_path: Path
) -> None:
    options: Any = {"strategies": ["equal"], "variants": ["clean"], "seeds": 1, "trials": 2}
    tune("digits", **options, overrides=TINY, results=tmp_path)
    (file,) = (tmp_path / ".tuned").iterdir()
    good = file.read_bytes()
    info = json.loads(good)
    if change == "name":
        file = file.rename(file.with_name("0123456789ab.json"))
    elif change == "strategy":
        info["strategy"] = "ilt"
    elif change == "against":
        info["against"] = "0123456789ab"
    else:
        info["trials"][1][change] = {"hash": "0123456789ab", "parameters": {"lr": 1.0}}[change]
    file.write_bytes(good if change == "name" else sealed(info))
    ((named, _),) = load_results(tmp_path).attrs["damaged"]
    assert named == str(file)
    tune("digits", **options, overrides=TINY, results=tmp_path)
    (made_again,), _ = tunings(Store(tmp_path))
    assert tuning_file(Store(tmp_path), made_again.hash).read_bytes() == good
    if change != "name":
        assert len(list((tmp_path / ".set-aside" / ".tuned").iterdir())) == 1


def test_a_tuning_of_more_seeds_stays(here: None, tmp_path: Path) -> None:
    options: Any = {"strategies": ["equal"], "variants": ["clean"], "trials": 2, "overrides": TINY}
    tune("digits", **options, seeds=2, results=tmp_path)
    (file,) = (tmp_path / ".tuned").iterdir()
    written = file.stat().st_mtime_ns
    tune("digits", **options, seeds=1, results=tmp_path)
    assert tunings(Store(tmp_path))[0][0].seeds == [0, 1]
    assert file.stat().st_mtime_ns == written  # it may lie where nothing can be written


@pytest.mark.parametrize("trials_asked", [-1, 10**9, "3", 2.5, None, True])
def test_a_number_of_trials_that_cannot_be_is_refused(trials_asked: Any) -> None:
    with pytest.raises(UserError, match="trials must be"):
        tune("digits", trials=trials_asked)


@pytest.mark.parametrize("space", [[("lr", Range(1, 2))], None, {"lr": (1, 2)}])
def test_what_is_no_space_is_refused(space: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies.get("mtu").cls, "space", space)
    with pytest.raises(UserError, match=r"^the space of 'mtu' "):
        trials(["mtu"])


@pytest.mark.parametrize("name", [".trials", ".tuned", "digits"])
def test_a_file_in_the_way_is_said_before_anything_is_trained(
    name: str, here: None, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("kept")
    with pytest.raises(UserError, match="is in the way"):
        tune("digits", strategies=["equal"], trials=1, overrides=TINY, results=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_any_iterable_of_names_will_do(here: None, tmp_path: Path) -> None:
    tune(
        "digits", strategies=(name for name in ["equal"]), variants="clean", trials=1, seeds=1,
        overrides=TINY, results=tmp_path,
    )  # fmt: skip
    assert set(load_results(tmp_path)["strategy"]) == {"equal"}


def test_trials_and_tunings_of_several_machines_are_merged(here: None, tmp_path: Path) -> None:
    options: Any = {"strategies": ["equal"], "variants": ["clean"], "trials": 2, "overrides": TINY}
    tune("digits", **options, seeds=1, results=tmp_path / "a")
    tune("digits", **options, seeds=2, results=tmp_path / "b")
    merged = merge_results([tmp_path / "a"], tmp_path / "c")
    assert (merged.trials, merged.tunings) == (2, 1)
    merged = merge_results([tmp_path / "b"], tmp_path / "c")
    assert (merged.trials, merged.tunings, merged.different) == (0, 0, [])
    (there,), _ = tunings(Store(tmp_path / "c"))
    (more,), _ = tunings(Store(tmp_path / "b"))
    assert there == more
    assert there.seeds == [0, 1]


def test_a_damaged_tuning_is_named_and_its_runs_stand_by_themselves(
    here: None, tmp_path: Path
) -> None:
    tune(
        "digits", strategies=["equal"], variants=["clean"], trials=2, seeds=1,
        overrides=TINY, results=tmp_path,
    )  # fmt: skip
    (file,) = (tmp_path / ".tuned").iterdir()
    file.write_text("{")
    results = load_results(tmp_path)
    assert results.attrs["damaged"] == [(str(file), f"{file.name} is truncated or not JSON")]
    assert not results["settings"].str.contains("tuned").any()


def test_a_baseline_that_diverges_leaves_nothing_to_choose_by(here: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^the trial of 'equal' on 'clean' has diverged"):
        tune(
            "digits", strategies=["equal"], variants=["clean"], trials=1, seeds=1,
            overrides={**TINY, "lr": 1e30}, results=tmp_path,
        )  # fmt: skip


def test_the_command_tunes_on_a_cluster_to_the_bits_of_this_process(
    here: None, cluster_address: str, tmp_path: Path
) -> None:
    sizes = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    command = ["tune", "digits", *sizes, "--strategies", "ilt", "--variants", "left@0.4"]
    command += ["--trials", "3", "--seeds", "1", "--address", cluster_address]
    ended = finish(start_mtlbench([*command, "--results", str(tmp_path / "there")]))
    assert ended.status == 0, ended.err
    assert "ILT Params (tuned)" in ended.out
    assert "digits/left@0.4/ilt/seed-0 (tuned) done" in ended.err
    tune(
        "digits", strategies=["ilt"], variants=["left@0.4"], trials=3, seeds=1,
        overrides=TINY, results=tmp_path / "here",
    )  # fmt: skip
    files = sorted(path.name for path in (tmp_path / "here" / ".tuned").iterdir())
    assert len(files) == 1
    for name in files:
        here_too = (tmp_path / "here" / ".tuned" / name).read_bytes()
        assert (tmp_path / "there" / ".tuned" / name).read_bytes() == here_too


# --- budgets and spaces of one's own --------------------------------------------------------------


def test_a_budget_of_network_epochs_gives_many_networks_fewer_trials() -> None:
    names = ["equal", "single", "evolution"]  # 1, 3 and 8 networks of 2 epochs
    candidates = plan_trials("digits", names, ["clean"], 99, TINY, budget=33)
    assert {c.default.strategy: len(c.trials) for c in candidates} == {
        "equal": 16,
        "single": 5,
        "evolution": 2,
    }
    few = plan_trials("digits", names, ["clean"], 99, TINY, budget=3)
    assert [len(c.trials) for c in few] == [1, 1, 1]


# --- halving --------------------------------------------------------------------------------------


def test_each_round_has_the_better_half_and_twice_the_epochs_until_two_train_for_all() -> None:
    assert [(rounds(n, len(shares_of_epochs(n))), shares_of_epochs(n)) for n in (1, 2, 3, 8)] == [
        ([1], [1.0]),
        ([2], [1.0]),
        ([3, 2], [0.5, 1.0]),
        ([8, 4, 2], [0.25, 0.5, 1.0]),
    ]


@given(st.lists(st.none() | st.floats(allow_nan=False), min_size=1, max_size=9))
def test_no_score_of_the_better_half_is_below_one_that_is_left_out(
    scores: list[float | None],
) -> None:
    half = best_half(scores)
    assert len(half) == math.ceil(len(scores) / 2)
    known = [-math.inf if score is None else score for score in scores]
    assert best(scores) in half
    worst = min(known[i] for i in half)
    assert all(known[i] <= worst for i in set(range(len(scores))) - set(half))


def test_halved_trials_train_in_rounds_and_the_last_round_decides(
    here: None, tmp_path: Path
) -> None:
    options: Any = {"strategies": ["equal"], "variants": ["clean"], "seeds": 1}
    whole: Any = {**TINY, "epochs": 4}
    comparison = tune(
        "digits", **options, trials=5, halving=True, overrides=whole, results=tmp_path
    )
    (found,), damaged = tunings(Store(tmp_path))
    assert not damaged
    assert found.rounds == [5, 3, 2]
    assert [found.spec(t, TRIAL_SEED).suite_parameters["epochs"] for t in found.trials] == [
        *[1] * 5, *[2] * 3, *[4] * 2,
    ]  # fmt: skip
    assert found.trained == (5 + 6 + 8) / 4
    assert found.searched == ["lr"]
    # A trial goes on as it was, and only where it is of the better half of its round.
    rates = [trial.parameters.get("lr") for trial in found.trials]
    first, second, last = found.trials[:5], found.trials[5:8], found.trials[8:]
    assert rates[5:8] == [rates[i] for i in best_half([trial.score for trial in first])]
    assert rates[8:] == [rates[5 + i] for i in best_half([trial.score for trial in second])]
    assert found.chosen in last
    assert found.chosen.score == max(trial.score for trial in last)
    # Each score is over equal weights of as many epochs: its own first trial.
    assert first[0].score == 0
    for seed, hash in enumerate(found.runs):
        run = read_run(next(tmp_path.glob(f"digits/clean/equal/seed-{seed}-{hash}*")))
        assert run.info["spec"]["suite_parameters"]["epochs"] == 4
    assert any("the best of 5 trials, halved to 3 and 2" in t for t in comparison.remarks["clean"])
    # Trials are shared with a search that trains all of them.
    other = tune("digits", **options, trials=5, overrides=whole, results=tmp_path)
    assert list(other.labels.values()) == ["Eq. Weight", "Eq. Weight (tuned, 5 trials)"]
    default_left = None not in rates[5:8]  # then it is trained to hold the others against
    assert Counter(
        read_trial(path)["spec"]["suite_parameters"]["epochs"]
        for path in (tmp_path / ".trials").iterdir()
    ) == {1: 5, 2: 3 + default_left, 4: 5}
    assert set(load_results(tmp_path)["settings"]) == {
        "", "tuned, 5 trials", "tuned, 5 trials halved",
    }  # fmt: skip


def test_of_halved_trials_that_all_diverge_the_default_parameters_are_chosen() -> None:
    lost = [TrialScore(f"{i}", {"lr": float(i), "epochs": 1}, None) for i in range(3)]
    defaults: Any = {
        "suite_parameters": {"epochs": 2, "lr": 9.0},
        "strategy_parameters": {},
        "sources": {},
    }
    tuning = Tuning("s", "v", "x", defaults, "0", [*lost, *lost[1:]], [0], 1, [3, 2])
    assert tuning.spec(tuning.chosen, 0).suite_parameters == {"epochs": 2, "lr": 9.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 99}, "halving takes a number of trials, not a budget"),
        ({"overrides": {"epoch_rule": "mean:2"}}, "epoch_rule is 'mean:2', but there are 1 epochs"),
    ],
)
def test_halving_of_what_cannot_be_halved_is_refused(
    options: dict[str, Any], message: str, here: None, tmp_path: Path
) -> None:
    options = {**options, "overrides": {**TINY, **options.get("overrides", {})}}
    with pytest.raises(UserError, match=message):
        tune("digits", strategies=["equal"], halving=True, results=tmp_path, **options)
    assert not list(tmp_path.glob("*/*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 1}, "budget must be at least 2 network-epochs"),
        ({"budget": 0}, "budget must be at least 1"),
        ({"budget": True}, "budget must be at least 1"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"space": {"lr": (0, 1)}}, "which is none of Range, Choice and TaskWeights"),
        ({"space": {"learning_rate": Range(1, 2)}}, "unknown parameter 'learning_rate'"),
        ({"space": {"ilt.lr": Range(1, 2)}}, "'ilt.lr' is of none of the strategies"),
        ({"space": {"epochs": Range(1, 2)}}, "parameter 'epochs' is set"),
        *(
            ({"space": {name: Choice((1, 2))}}, f"parameter '{name}' cannot be searched")
            for name in ("missing_labels", "corruption_seed", "epoch_rule")
        ),
        ({"space": {"lr": Choice((0.001, "oops"))}}, "the space of 'lr': .* must be a number"),
        ({"space": {"lr": Range(-1, 1)}}, "the space of 'lr': .* lr must be above 0"),
        ({"space": {"batch_size": Range(16, 64, log=True)}}, "must be a whole number"),
    ],
)
def test_a_budget_or_a_space_that_cannot_be_right_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        tune(
            "digits",
            strategies=["equal"],
            variants=["clean"],
            overrides=TINY,
            results=tmp_path / "runs",
            **options,
        )
    assert not (tmp_path / "runs").exists()


def test_a_space_of_ones_own_is_searched_beside_and_in_place_of_others() -> None:
    space = {"weight_decay": Range(0.01, 1, log=True), "ilt.lr": Range(1, 2)}
    one, other = plan_trials("digits", ["equal", "ilt"], ["clean"], 5, TINY, space=space)
    assert set(one.changes[1]) == {"lr", "weight_decay"}
    assert set(other.changes[1]) == {"lr", "weight_decay", "ilt.lr"}
    for mine, others in zip(one.changes[1:], other.changes[1:], strict=True):
        assert (mine["lr"], mine["weight_decay"]) == (others["lr"], others["weight_decay"])
        assert 0.01 <= mine["weight_decay"] <= 1
        assert 1 <= others["ilt.lr"] <= 2
    (plain,) = plan_trials("digits", ["equal"], ["clean"], 5, TINY)
    assert [c["lr"] for c in plain.changes[1:]] == [c["lr"] for c in one.changes[1:]]
