"""`mtlbench run --tracker`: what is logged is in the tracker, once, and never in training's way."""

import importlib.util
import io
import json
import math
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY_OPTIONS, tiny_spec, training

from mtlbench.cli.main import main
from mtlbench.errors import UserError
from mtlbench.execution.events import Event
from mtlbench.execution.trackers import NAMES, tracking
from mtlbench.execution.trackers.base import Ending, TrackedRun, Tracker
from mtlbench.spec import RunSpec
from mtlbench.store.runs import History, RunRecord, Store
from mtlbench.study import run as studies
from mtlbench.training.job import Ended, Progress
from mtlbench.training.jobs import RunJob

# --- reading back, with the packages' own formats -----------------------------------------------


@dataclass
class Logged:
    """A run as a tracker holds it.

    Attributes:
        curves: (step, value) pairs in the order written, by name; final metrics too.
        parameters: as text, with tags; what else is known by name.
        status: `done`, `diverged` or `failed`; None for a run that has not ended.
        success: whether the tracker takes the run for a success; None while it runs.
    """

    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    status: str | None = None
    success: bool | None = None
    error: str | None = None


def read_tensorboard(results: Path) -> dict[str, Logged]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import Status

    runs: dict[str, Logged] = {}
    for file in (results / ".tensorboard").rglob("events.out.tfevents.*"):
        folder = file.parent
        everything = dict.fromkeys(("scalars", "tensors"), 0)  # no sampling
        events = EventAccumulator(str(folder), size_guidance=everything).Reload()
        tags = events.Tags()
        run = Logged(
            {
                tag: [(scalar.step, scalar.value) for scalar in events.Scalars(tag)]
                for tag in tags["scalars"]
            }
        )
        texts = {
            tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
            for tag in tags["tensors"]
            if tag.endswith("/text_summary")
        }
        run.status = texts.get("status/text_summary")
        run.error = texts.get("error/text_summary")
        plugin = events.PluginTagToContent("hparams")
        start = metadata.parse_session_start_info_plugin_data(
            plugin[metadata.SESSION_START_INFO_TAG]
        )
        for name, value in start.hparams.items():
            kind = value.WhichOneof("kind")
            run.parameters[name] = (
                f"{getattr(value, kind):g}"
                if kind == "number_value"
                else (str(getattr(value, kind)))
            )
        if metadata.SESSION_END_INFO_TAG in plugin:
            end = metadata.parse_session_end_info_plugin_data(plugin[metadata.SESSION_END_INFO_TAG])
            run.success = end.status == Status.Value("STATUS_SUCCESS")
        name = folder.relative_to(results / ".tensorboard").as_posix().rpartition("-")[0]
        assert name not in runs, "two event files of one run"
        runs[name] = run
    return runs


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of a `.wandb` file: a LevelDB log of protocol buffers after 7 bytes of header.

    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    from wandb.proto.wandb_internal_pb2 import Record

    block = 32768
    data, position, parts = file.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while position < len(data):
        if block - position % block < 7:
            position += block - position % block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += 7
        parts += data[position : position + length]
        position += length
        if kind in (1, 4):  # a whole record, or its last part
            yield Record.FromString(parts)
            parts = b""


def read_wandb(results: Path) -> dict[str, Logged]:
    """The newest of the files of each run: offline, wandb cannot go on with an older one."""
    import wandb

    wandb.teardown()  # waits for its process, which writes the files; the next reads WANDB_DIR anew
    runs: dict[str, Logged] = {}
    files = results.parent.glob("wandb/offline-run-*/*.wandb")
    for file in sorted(files, key=lambda file: file.stat().st_mtime_ns):
        run, name = Logged(), ""
        for record in wandb_records(file):
            if record.HasField("run"):
                assert record.run.project == "mtlbench"
                name = record.run.display_name
                run.parameters["group"] = record.run.run_group
                run.parameters["tags"] = " ".join(record.run.tags)
                for item in record.run.config.update:
                    run.parameters[item.key] = as_text(json.loads(item.value_json))
            if record.HasField("history"):
                row = values_of(record.history.item)
                for key, value in row.items():
                    if not key.startswith("_") and key != "epoch":
                        point = (int(row["_step"]), float(value))
                        run.curves.setdefault(key, []).append(point)
            if record.HasField("summary"):
                for key, value in values_of(record.summary.update).items():
                    if key.startswith("final/"):
                        run.curves[key] = [(2, float(value))]
                    run.status = value if key == "status" else run.status
                    run.error = value if key == "error" else run.error
            if record.HasField("exit"):
                run.success = record.exit.exit_code == 0
        runs[name] = run
    return runs


def values_of(items: Sequence[Any]) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def as_text(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if number else str(value)


def read_mlflow(results: Path) -> dict[str, Logged]:
    from mlflow import MlflowClient

    client = MlflowClient()
    runs = {}
    experiment = client.get_experiment_by_name("digits")
    for run in client.search_runs([experiment.experiment_id]):
        curves = {
            name: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
            if name != "epoch"
        }
        tags = run.data.tags
        success = {"FINISHED": True, "FAILED": False}.get(run.info.status)
        parameters = run.data.params | {name: tags[name] for name in tags if "." not in name}
        assert run.info.run_name not in runs, "two runs there for one here"
        runs[run.info.run_name] = Logged(
            curves, parameters, tags.get("status"), success, tags.get("error")
        )
    return runs


READERS = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracker whose package is there, and which keeps all it is told in the test's directory."""
    name: str = request.param
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr(tracking, "CLOSING_SECONDS", 250.0)  # on however slow a machine
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return name


# --- studies without training -------------------------------------------------------------------


def history(seed: int, epochs: int) -> History:
    """Made-up values that no other seed or epoch has, of different sizes."""
    numbers = [float(epoch) for epoch in range(1, epochs + 1)]
    return {
        "epoch": numbers,
        "train_loss/left": [1e-3 * (seed + 1) / epoch for epoch in numbers],
        "weight/left": [math.nan if epoch == 2 else 1e4 + seed + epoch for epoch in numbers],
        "detection_accuracy/left+right": [0.1 * seed + epoch for epoch in numbers],
    }


def record(spec: RunSpec, status: str = "done", epochs: int = 2) -> RunRecord:
    metric = {"task": "left", "metric": "accuracy", "value": 91.5 + spec.seed}
    error = "Traceback:\nRuntimeError: no luck" if status == "failed" else None
    info = {"metrics": [metric] if status == "done" else [], "status": status, "error": error}
    return RunRecord(info, history(spec.seed, epochs))


def started(spec: RunSpec) -> Event:
    return Event(RunJob(spec), "started")


def epoch(spec: RunSpec, number: int) -> Event:
    return Event(RunJob(spec), "epoch", number, 2, history=history(spec.seed, number))


def ended(spec: RunSpec, status: str = "done", epochs: int = 2) -> Event:
    whole = record(spec, status, epochs)
    error = (whole.info["error"] or "").rpartition("\n")[2]
    metrics = whole.info["metrics"]
    return Event(RunJob(spec), status, text=error, history=whole.history, metrics=metrics)


def tell(results: Path, names: Sequence[str], events: Sequence[Event]) -> None:
    """A study in which this happens, and which stops then."""
    store = Store(results)
    for event in events:
        store.checkpoint_file(event.job.hash).parent.mkdir(parents=True, exist_ok=True)
    with tracking.tracking(tracking.load(names), store) as (track, _):
        for event in events:
            track(event)
            if event.metrics is not None:
                store.clear_unfinished(event.job.hash)


def expected_curves(name: str, values: History) -> dict[str, list[tuple[int, float]]]:
    curves = {}
    for key, column in values.items():
        if key != "epoch":
            # The one name here with a character that MLflow refuses.
            shown = key.replace("+", "_") if name == "mlflow" else key
            curves[shown] = list(zip(map(int, values["epoch"]), column, strict=True))
    return curves


def assert_curves(name: str, logged: Logged, expected: dict[str, list[tuple[int, float]]]) -> None:
    assert logged.curves.keys() == expected.keys()
    for key, points in expected.items():
        assert [step for step, _ in logged.curves[key]] == [step for step, _ in points], key
        values = np.array([value for _, value in points])
        # Event files hold scalars in single precision.
        values = values.astype(np.float32) if name == "tensorboard" else values
        np.testing.assert_array_equal([value for _, value in logged.curves[key]], values, key)


def test_every_epoch_of_runs_side_by_side_is_there_once_with_names_tags_and_parameters(
    name: str, tmp_path: Path
) -> None:
    first, second = (tiny_spec("ilt", "left@0.4", seed=seed) for seed in (0, 1))
    events = [started(first), started(second), epoch(first, 1), epoch(second, 1)]
    events += [epoch(second, 2), ended(second), epoch(first, 2), ended(first)]
    tell(tmp_path / "runs", [name], events)
    runs = READERS[name](tmp_path / "runs")
    assert set(runs) == {"digits/left@0.4/ilt/seed-0", "digits/left@0.4/ilt/seed-1"}
    for spec in (first, second):
        logged = runs[str(spec)]
        expected = expected_curves(name, history(spec.seed, 2))
        expected["final/left/accuracy"] = [(2, 91.5 + spec.seed)]
        assert_curves(name, logged, expected)
        assert (logged.status, logged.success, logged.error) == ("done", True, None)
        parameters: Mapping[str, Any] = {**spec.suite_parameters, **spec.strategy_parameters}
        assert len(parameters) > 5
        tags = {"suite": "digits", "variant": "left@0.4", "strategy": "ilt", "hash": spec.hash}
        wanted = {**parameters, **tags, "seed": spec.seed}
        if name == "wandb":
            wanted |= {"group": "digits", "tags": f"digits left@0.4 ilt seed-{spec.seed}"}
        found = {key: logged.parameters[key] for key in wanted}
        assert {key: number_or_text(value) for key, value in found.items()} == {
            key: number_or_text(str(value)) for key, value in wanted.items()
        }


def number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@pytest.mark.parametrize("again_from", [1, 2])
def test_an_interrupted_run_goes_on_and_has_every_epoch_once(
    name: str, again_from: int, tmp_path: Path
) -> None:
    spec = tiny_spec()
    tell(tmp_path / "runs", [name], [started(spec), epoch(spec, 1)])
    (between,) = READERS[name](tmp_path / "runs").values()
    assert_curves(name, between, expected_curves(name, history(0, 1)))
    assert not between.success
    # From a checkpoint the second epoch follows; without one the first is trained again.
    rest = [epoch(spec, number) for number in range(again_from, 3)]
    tell(tmp_path / "runs", [name], [started(spec), *rest, ended(spec)])
    (whole,) = READERS[name](tmp_path / "runs").values()
    expected = expected_curves(name, history(0, 2)) | {"final/left/accuracy": [(2, 91.5)]}
    assert_curves(name, whole, expected)
    assert (whole.status, whole.success) == ("done", True)


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_run_that_diverges_or_fails_is_marked_so(name: str, status: str, tmp_path: Path) -> None:
    spec = tiny_spec()
    tell(tmp_path / "runs", [name], [started(spec), epoch(spec, 1), ended(spec, status, epochs=1)])
    (logged,) = READERS[name](tmp_path / "runs").values()
    assert (logged.status, logged.success) == (status, False)
    assert logged.error == ("RuntimeError: no luck" if status == "failed" else None)
    assert_curves(name, logged, expected_curves(name, history(0, 1)))
    if name == "wandb":
        assert logged.parameters["tags"].split()[-1] == status


# --- what trackers must not do ------------------------------------------------------------------


class Memory(Tracker):
    """Keeps what it is told."""

    def __init__(self, results: Path) -> None:
        self.place = "memory"
        self.told: list[tuple[Any, ...]] = TOLD

    def start(self, run: TrackedRun) -> int:
        self.told.append(("start", run.name, run.key))
        return 0

    def log(self, run: TrackedRun, epoch: int, values: Mapping[str, float]) -> None:
        self.told.append(("log", run.name, epoch))

    def end(self, run: TrackedRun, ending: Ending) -> None:
        self.told.append(("end", run.name, ending.status))

    def stop(self, run: TrackedRun) -> None:
        self.told.append(("stop", run.name))


TOLD: list[tuple[Any, ...]] = []


def told(results: Path, kinds: dict[str, type[Tracker]], events: Sequence[Event]) -> list[Any]:
    TOLD.clear()
    with tracking.tracking(kinds, Store(results)) as (track, _):
        for event in events:
            track(event)
    return list(TOLD)


def test_a_tracker_that_breaks_warns_once_and_leaves_the_others_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Breaks(Memory):
        def start(self, run: TrackedRun) -> int:
            return 0

        def log(self, run: TrackedRun, epoch: int, values: Mapping[str, float]) -> None:
            raise OSError(28, "No space left on device")

    spec = tiny_spec()
    events = [started(spec), epoch(spec, 1), epoch(spec, 2), ended(spec)]
    calls = told(tmp_path, {"breaks": Breaks, "memory": Memory}, events)
    assert calls.count(("log", str(spec), 1)) == calls.count(("log", str(spec), 2)) == 1
    assert calls[-1] == ("end", str(spec), "done")
    (line,) = capsys.readouterr().err.splitlines()
    assert "'breaks' is off for the rest of this study, which goes on" in line
    assert "No space left on device" in line


def test_a_tracker_that_cannot_be_opened_warns_once_and_leaves_the_others_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Away(Memory):
        def __init__(self, results: Path) -> None:
            raise ConnectionError("nobody there")

    spec = tiny_spec()
    calls = told(tmp_path, {"away": Away, "memory": Memory}, [started(spec), ended(spec)])
    assert calls[-1] == ("end", str(spec), "done")
    (line,) = capsys.readouterr().err.splitlines()
    assert "'away' is off for the rest of this study" in line
    assert "nobody there" in line


def test_a_wandb_without_login_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    for variable in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HOME", "WANDB_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    try:
        with pytest.raises(UserError, match=r"no login.*WANDB_MODE=offline"):
            studies.run("digits", trackers=["wandb"], results=tmp_path / "runs")
    finally:
        wandb.teardown()
    assert not (tmp_path / "runs").exists()


def test_a_tracker_that_hangs_holds_up_neither_training_nor_the_end_for_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()

    class Hangs(Memory):
        def start(self, run: TrackedRun) -> int:
            free.wait()
            return 0

    monkeypatch.setattr(tracking, "CLOSING_SECONDS", 0.1)
    spec = tiny_spec()
    calls = told(tmp_path, {"hangs": Hangs, "memory": Memory}, [started(spec), ended(spec)])
    assert calls[-1] == ("end", str(spec), "done")
    (line,) = capsys.readouterr().err.splitlines()
    assert "'hangs' lags behind" in line
    free.set()


def test_a_run_has_one_key_until_it_ends_and_another_when_trained_anew(tmp_path: Path) -> None:
    spec, store = tiny_spec(), Store(tmp_path)

    def key(*events: Event) -> str:
        store.checkpoint_file(spec.hash).parent.mkdir(parents=True, exist_ok=True)
        return str(told(tmp_path, {"memory": Memory}, [started(spec), *events])[0][2])

    first = key()
    assert TOLD[-1] == ("stop", str(spec))
    assert key(ended(spec)) == first
    store.clear_unfinished(spec.hash)
    assert key() != first


def test_a_run_that_another_process_has_trained_is_not_logged(tmp_path: Path) -> None:
    assert told(tmp_path, {"memory": Memory}, [Event(RunJob(tiny_spec()), "done")]) == []


def test_each_message_of_a_run_has_its_history_also_over_an_interruption(tmp_path: Path) -> None:
    options: dict[str, Any] = {"checkpoint": tmp_path / "checkpoint"}
    first = next(training(tiny_spec(), **options))
    assert isinstance(first, Progress)
    assert first.history["epoch"] == [1]
    second, ended = training(tiny_spec(), **options)
    assert isinstance(second, Progress)
    assert isinstance(ended, Ended)
    whole = ended.result
    assert second.history["epoch"] == [1, 2]
    assert second.history == whole.history
    assert first.history == {name: column[:1] for name, column in whole.history.items()}


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def command(train_here: None, tmp_path: Path) -> list[str]:
    study = ["digits", *TINY_OPTIONS, "--strategies", "equal", "--variants", "clean"]
    return ["run", *study, "--seeds", "1", "--results", str(tmp_path / "runs")]


def run(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_a_study_with_tensorboard_logs_what_the_store_holds_and_nothing_twice(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    root = tmp_path / "runs"
    status, _, err = run([*command, "--tracker", "tensorboard"], capsys)
    assert status == 0, err
    assert f"tensorboard: tensorboard --logdir {root}/.tensorboard" in err.splitlines()
    (stored,), damaged = Store(root).load()
    assert damaged == []
    expected = expected_curves(
        "tensorboard", {name: column.tolist() for name, column in stored.history().items()}
    )
    for metric in stored.info["metrics"]:
        expected[f"final/{metric['task']}/{metric['metric']}"] = [(2, metric["value"])]
    (logged,) = read_tensorboard(root).values()
    assert_curves("tensorboard", logged, expected)

    def files() -> dict[Path, bytes]:
        found = (root / ".tensorboard").rglob("events.*")
        return {path: path.read_bytes() for path in found}

    before = files()
    status, _, err = run([*command, "--tracker", "tensorboard"], capsys)
    assert (status, err.splitlines()[0][:13]) == (0, "nothing to do")
    assert files() == before


@pytest.mark.parametrize("name", NAMES)
def test_a_package_that_is_missing_is_named_before_anything_is_trained(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    for module in [m for m in sys.modules if m.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, f"mtlbench.execution.trackers.{name}", raising=False)
    root = tmp_path / "runs"
    status, out, err = run(["run", "digits", "--tracker", name, "--results", str(root)], capsys)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert f'pip install "mtlbench[{name}]"' in line
    assert not root.exists()


@pytest.mark.parametrize(
    "ask",
    [
        lambda root: studies.run("digits", trackers=["tensorbord"], results=root),
        lambda root: tracking.load(["tensorbord"]),
    ],
)
def test_an_unknown_tracker_is_refused_with_the_nearest_name(
    ask: Callable[[Path], Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"unknown tracker 'tensorbord'.*'tensorboard'"):
        ask(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
