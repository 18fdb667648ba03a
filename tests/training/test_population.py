"""A population is trained to the same bits whatever comes between, and its whole cost is told."""

import math
import os
import signal
from pathlib import Path

import pytest
from conftest import (
    TINY_OPTIONS,
    finish,
    run_mtlbench,
    start_mtlbench,
    tiny_spec,
    trained,
    wait_until,
)

from mtlbench.plugins import PluginFile
from mtlbench.spec import RunSpec
from mtlbench.store.runs import (
    HISTORY_FILE,
    INSTANCE_FILE,
    RunRecord,
    Store,
    StoredRun,
    read_run,
)
from mtlbench.store.schema import DONE
from mtlbench.store.sealed import DamagedRunError
from mtlbench.suites.digits import Digits
from mtlbench.tasks.epoch_rule import score
from mtlbench.training.job import Ended, Place
from mtlbench.training.jobs import RunJob
from mtlbench.training.population import (
    BestJob,
    GenerationResult,
    Lineage,
    MemberJob,
    state_file,
)
from mtlbench.training.run import Run

EQUAL = {"left": 1.0, "right": 1.0, "offset": 1.0}
OTHER = {"left": 0.5, "right": 1.0, "offset": 1.5}

VALIDATION = {"left/accuracy": 90.0, "right/accuracy": 80.0, "offset/abs_err": 0.2}


class Members:
    """Members of one run that are trained here, in turn."""

    def __init__(self, spec: RunSpec, directory: Path) -> None:
        self.spec, self.checkpoint = spec, directory

    def train(self, lineage: Lineage) -> Ended:
        job = MemberJob(self.spec, tuple(lineage))
        *_, ended = job.train(Place(), state_file(self.checkpoint, lineage))
        return ended

    def record(self, lineage: Lineage) -> RunRecord:
        job = BestJob(self.spec, tuple(lineage))
        *_, ended = job.train(Place(), state_file(self.checkpoint, lineage))
        return ended.result


def history_bytes(record: RunRecord, root: Path) -> bytes:
    return (Store(root).write(record) / HISTORY_FILE).read_bytes()


# --- the score ----------------------------------------------------------------------------------


def digits_score(**changes: float) -> float:
    values = {**VALIDATION, **{key.replace("__", "/"): v for key, v in changes.items()}}
    return score(Digits().tasks(), values)


def test_the_score_is_the_mean_over_tasks_of_logarithms() -> None:
    assert {f"{t.name}/{m.name}" for t in Digits().tasks() for m in t.metrics} == set(VALIDATION)
    expected = (math.log(90) + math.log(80) - math.log(0.2)) / 3
    assert digits_score() == pytest.approx(expected, rel=1e-12)


def test_an_improvement_counts_relative_to_what_is_there() -> None:
    gains = [
        digits_score(left__accuracy=99.0),
        digits_score(right__accuracy=88.0),
        digits_score(offset__abs_err=0.2 / 1.1),
    ]
    assert gains == pytest.approx([digits_score() + math.log(1.1) / 3] * 3, rel=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["left__accuracy", "offset__abs_err"])
def test_a_metric_that_is_not_finite_ranks_last(name: str, value: float) -> None:
    assert digits_score(**{name: value}) == -math.inf


def test_a_metric_of_zero_has_a_finite_score() -> None:
    # log 1 of 100 %, less its tangent's fall from there to 0
    expected = (math.log(1) - 1 + math.log(80) - math.log(0.2)) / 3
    assert digits_score(left__accuracy=0.0) == pytest.approx(expected, rel=1e-12)


# --- members ------------------------------------------------------------------------------------


def test_a_member_of_equal_weights_is_the_run_of_equal_weights(tmp_path: Path) -> None:
    search = Members(tiny_spec("evolution", epochs=3), tmp_path / "members")
    epochs = [search.train([EQUAL] * generation).epochs for generation in (1, 2)]
    assert epochs == [2, 1]  # a selection every 2 epochs, of 3
    record, plain = search.record([EQUAL] * 2), trained(tiny_spec("equal", epochs=3))
    assert record.history == plain.history
    assert record.info["metrics"] == plain.info["metrics"]
    tested = {name for name, value in record.info["timings"].items() if value}
    assert tested == {"evaluate_seconds"}


def test_a_member_is_the_same_in_turn_with_others_and_on_another_machine(tmp_path: Path) -> None:
    spec = tiny_spec("ilt+evolution", "left@0.4", epochs=3, evolution__every=1)
    lineage: Lineage = [EQUAL, OTHER, EQUAL]
    search = Members(spec, tmp_path / "one")
    in_turn = [search.train(each[:n]).result for n in (1, 2, 3) for each in ([OTHER] * 3, lineage)]
    here = search.record(lineage)
    elsewhere = Members(spec, tmp_path / "other")  # which has none of the files
    assert elsewhere.train(lineage).result.score == in_turn[-1].score
    there = elsewhere.record(lineage)
    assert here.history == there.history
    assert here.info["metrics"] == there.info["metrics"]
    assert (
        here.instance_parameters["log_variance"] == there.instance_parameters["log_variance"]
    ).all()
    assert here.history["weight/left"] == pytest.approx([1.0, 0.5, 1.0])
    assert here.history != search.record([OTHER] * 3).history


def test_a_generation_is_trained_once_and_old_states_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec("evolution", epochs=3, evolution__every=1)
    first = Members(spec, tmp_path)
    *_, last = [first.train([EQUAL] * generation) for generation in (1, 2, 3)]
    states = sorted(path.name[0] for path in tmp_path.glob("*.safetensors"))
    assert states == ["2", "3"]

    def fail(run: Run) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Run, "train_epoch", fail)
    assert Members(spec, tmp_path).train([EQUAL] * 3) == last


def test_how_a_member_ended_is_read_back_from_the_store(tmp_path: Path) -> None:
    store, job = Store(tmp_path), MemberJob(tiny_spec("evolution"), (EQUAL, OTHER))
    for score_reached in (0.1, -math.inf):
        ended = Ended("diverged", epochs=3, result=GenerationResult(score_reached, {"train": 0.1}))
        job.write(store, ended)
        assert job.read(store) == ended
    job.path(store).write_text("{")
    with pytest.raises(DamagedRunError):
        job.read(store)


def test_a_state_of_another_lineage_is_not_gone_on_from(tmp_path: Path) -> None:
    spec = tiny_spec("evolution", epochs=2, evolution__every=1)
    first = Members(spec, tmp_path / "one")
    first.train([EQUAL])
    expected = first.train([EQUAL, OTHER])
    other = Members(spec, tmp_path / "other")
    other.train([OTHER])
    (state,) = (tmp_path / "other").glob("*.safetensors")
    state.rename(state_file(tmp_path / "other", [EQUAL]))
    assert other.train([EQUAL, OTHER]).result.score == expected.result.score


def test_a_state_from_the_middle_of_a_generation_is_not_that_of_its_end(tmp_path: Path) -> None:
    """A worker was lost there, and the generation ended on a machine with another disk."""
    spec = tiny_spec("evolution", epochs=4, evolution__every=2)
    expected = Members(spec, tmp_path / "elsewhere").train([EQUAL, OTHER])
    here = Members(spec, tmp_path / "here")
    lost = MemberJob(spec, (EQUAL,)).train(Place(), state_file(here.checkpoint, [EQUAL]))
    next(lost)
    lost.close()
    assert here.train([EQUAL, OTHER]).result.score == expected.result.score


def test_a_member_that_diverged_stays_so_and_ranks_last(tmp_path: Path) -> None:
    spec = tiny_spec("evolution", epochs=4, evolution__every=1)
    search = Members(spec, tmp_path)
    huge: Lineage = [{**EQUAL, "left": 1e39}, EQUAL]  # infinite in float32
    ends = [search.train(huge[:1]), search.train(huge)]
    assert [ended.status for ended in ends] == ["diverged", "diverged"]
    assert [ended.result.score for ended in ends] == [-math.inf, -math.inf]
    assert [ended.epochs for ended in ends] == [1, 0]
    assert search.record(huge).info["status"] == "diverged"


# --- whole searches -----------------------------------------------------------------------------

SEARCH = [*TINY_OPTIONS, "--set", "evolution.population=4", "--set", "evolution.every=1"]


def only_run(root: Path) -> StoredRun:
    (path,) = Store(root).run_directories()
    return read_run(path, thorough=True)


def best_lineage(run: StoredRun) -> list[dict[str, float]]:
    """The task weights of the best member, from the last generation back."""
    generations = run.info["population"]["generations"]
    last = [member["score"] for member in generations[-1]]
    number, lineage = last.index(max(last)), []
    for generation in reversed(generations):
        lineage.insert(0, generation[number]["weights"])
        number = generation[number]["parent"]
    return lineage


def test_a_search_has_the_same_bits_whatever_is_trained_at_a_time(
    cluster_address: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = ["run", "digits", *SEARCH, "--epochs", "3", "--strategies", "ilt+evolution,equal"]
    command += ["--variants", "left@0.4", "--seeds", "1", "--address", cluster_address]
    # Four at a time, of one thread each; other tests train two at a time.
    root = tmp_path / "runs"
    ended = run_mtlbench(
        [*command, "--cpus-per-run", "0.5", "--results", str(root)], HOME=str(home)
    )
    assert ended.status == 0, ended.err
    assert [line.split()[:3] for line in ended.err.splitlines()[1:]] == [
        ["[1/2]", "digits/left@0.4/equal/seed-0", "done"],
        ["[2/2]", "digits/left@0.4/ilt+evolution/seed-0", "done"],
    ]
    assert "Evolution" in ended.out
    assert not (root / ".unfinished").exists()
    (path,) = root.glob("digits/*/ilt+evolution/*")
    run = read_run(path, thorough=True)
    assert not list(home.iterdir())

    # One after the other, here.
    spec = tiny_spec(
        "ilt+evolution",
        "left@0.4",
        epochs=3,
        evolution__population=4,
        evolution__every=1,
    )
    assert spec.hash == run.info["hash"]
    search = Members(spec, tmp_path / "members")
    lineage = best_lineage(run)
    record = search.record(lineage)
    path = Store(tmp_path / "here").write(record)
    for name in (HISTORY_FILE, INSTANCE_FILE):
        assert (path / name).read_bytes() == (run.path / name).read_bytes()
    assert read_run(path).info["metrics"] == run.info["metrics"]
    scores = [member["score"] for member in run.info["population"]["generations"][-1]]
    assert search.train(lineage).result.score == max(scores)


def test_a_search_tells_what_all_its_members_cost() -> None:
    seconds = {"data": 0.5, "train": 2.0, "wait": 0.25, "evaluate": 1.0}
    spec = tiny_spec("evolution", epochs=3, evolution__population=3)
    parts = RunJob(spec).parts()
    first = next(parts)
    assert [len(job.lineage) for job in first] == [1, 1, 1]
    assert first[0].lineage == (EQUAL,)
    ends = [
        Ended(DONE, epochs=2, result=GenerationResult(score, seconds)) for score in (3.0, 1.0, 2.0)
    ]
    second = parts.send(ends)
    assert second[0].lineage == (EQUAL, EQUAL)
    assert second[1].lineage[0] == EQUAL  # the worst goes on as a copy of the best
    assert second[2].lineage == first[2].lineage * 2
    ends = [
        Ended(DONE, epochs=1, result=GenerationResult(3.5, seconds)),
        Ended("diverged", epochs=1, result=GenerationResult(-math.inf, seconds)),
        Ended(DONE, epochs=1, result=GenerationResult(4.0, seconds)),
    ]
    (best,) = parts.send(ends)
    assert isinstance(best, BestJob)
    assert best.lineage == second[2].lineage

    record = RunRecord({"timings": {f"{name}_seconds": 0.0 for name in seconds}}, {})
    record.info["timings"]["evaluate_seconds"] = 10.0  # the test of the best
    with pytest.raises(StopIteration) as over:
        parts.send([Ended(DONE, result=record)])
    assert over.value.value.result is record
    assert RunJob(spec).epochs == 9
    assert record.info["timings"] == {
        "data_seconds": 3.0,
        "train_seconds": 12.0,
        "wait_seconds": 1.5,
        "evaluate_seconds": 16.0,
    }
    population = record.info["population"]
    assert (population["networks"], population["epochs"]) == (3, 9)
    assert population["generations"][1][0] == {"weights": EQUAL, "score": 3.5, "parent": 0}
    assert population["generations"][1][1]["parent"] == 0


GATED = '''
import os
import time
from pathlib import Path

import torch

import mtlbench
from mtlbench.strategies import InstanceStage

PLACE = Path("PLACE")


@mtlbench.register_strategy("gated")
class Gated(InstanceStage):
    """Ends no epoch after the first four before the gate is open."""

    def end_epoch(self, losses, validation):
        with (PLACE / "epochs").open("a") as log:
            log.write("epoch\\n")
        while (PLACE / "epochs").read_text().count("epoch") > 4:
            if (PLACE / "open").exists():
                break
            time.sleep(0.02)


@mtlbench.register_strategy("poisoned")
class Poisoned(InstanceStage):
    """Weights that are no numbers."""

    def weights(self, losses, index, present):
        return torch.full_like(losses, float("nan"))


@mtlbench.register_strategy("raising")
class Raising(InstanceStage):
    """Raises in the second generation."""

    def start(self, setting):
        self.register_buffer("epochs", torch.zeros(()))

    def end_epoch(self, losses, validation):
        self.epochs += 1
        if self.epochs == 2:
            raise ArithmeticError("no weights today")


@mtlbench.register_strategy("dying")
class Dying(InstanceStage):
    """Ends the process, as running out of memory does."""

    def end_epoch(self, losses, validation):
        os._exit(1)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "stages.py"
    path.write_text(GATED.replace('PLACE")', f'{tmp_path}")'))
    return path


def test_a_search_that_was_interrupted_goes_on_to_the_same_bits(
    cluster_address: str, plugin: Path, tmp_path: Path
) -> None:
    def epochs() -> int:
        log = tmp_path / "epochs"
        return log.read_text().count("epoch") if log.exists() else 0

    root = tmp_path / "runs"
    command = ["run", "digits", *SEARCH, "--strategies", "gated+evolution", "--variants", "clean"]
    command += ["--seeds", "1", "--plugin", str(plugin), "--address", cluster_address]
    first = start_mtlbench([*command, "--results", str(root)])
    wait_until(lambda: epochs() == 6, what="two members of the second generation")
    os.killpg(first.pid, signal.SIGINT)
    interrupted = finish(first)
    assert interrupted.status == 130
    assert interrupted.out == ""
    assert interrupted.err.splitlines()[1:] == [
        "mtlbench: interrupted; the same command goes on from here"
    ]
    assert len(list((root / ".unfinished").glob("*/members/*.json"))) == 4

    (tmp_path / "open").touch()
    last = run_mtlbench([*command, "--results", str(root)])
    assert last.status == 0, last.err
    assert epochs() == 6 + 4  # the first generation was trained once
    assert not (root / ".unfinished").exists()

    run = only_run(root)
    assert run.info["population"]["epochs"] == 8
    PluginFile.read(plugin).load()
    spec = tiny_spec("gated+evolution", evolution__population=4, evolution__every=1)
    assert spec.hash == run.info["hash"]
    record = Members(spec, tmp_path / "members").record(best_lineage(run))
    assert history_bytes(record, tmp_path / "whole") == (run.path / HISTORY_FILE).read_bytes()
    assert record.info["metrics"] == run.info["metrics"]


def test_a_search_ends_as_its_members_do_and_the_rest_of_the_study_goes_on(
    cluster_address: str, plugin: Path, tmp_path: Path
) -> None:
    strategies = "poisoned+evolution,raising+evolution,dying+evolution,equal"
    command = ["run", "digits", *SEARCH, "--strategies", strategies, "--variants", "clean"]
    command += ["--seeds", "1", "--plugin", str(plugin), "--address", cluster_address]
    command += ["--cpus-per-run", "2"]  # one at a time: fewer workers to die, and to start again
    ended = run_mtlbench([*command, "--results", str(tmp_path / "runs")])
    assert ended.status == 1
    runs, damaged = Store(tmp_path / "runs").load()
    assert not damaged
    infos = {run.info["spec"]["strategy"]: run.info for run in runs}
    assert {name: info["status"] for name, info in infos.items()} == {
        "poisoned+evolution": "diverged",
        "raising+evolution": "failed",
        "dying+evolution": "failed",
        "equal": "done",
    }
    poisoned = infos["poisoned+evolution"]["population"]
    assert poisoned["epochs"] == 4
    assert all(member["score"] is None for member in poisoned["generations"][0])
    error = infos["raising+evolution"]["error"]
    assert error.startswith("Traceback")
    last = error.strip().splitlines()[-1]
    assert last.startswith("ArithmeticError: no weights today (")
    assert "stages.py, line " in last  # of the plugin
    assert "the worker process died, 3 times in a row" in infos["dying+evolution"]["error"]
