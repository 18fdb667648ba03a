"""What the tests of runs share: tiny studies, plugins, and one Ray cluster for all of them."""

import functools
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from mtlbench.analysis.reference import reference_runs, reference_tunings
from mtlbench.cli.main import main
from mtlbench.plugins import load_plugins
from mtlbench.spec import RunSpec
from mtlbench.store.runs import RunRecord
from mtlbench.strategies.base import strategies
from mtlbench.strategies.held_out import HeldOut, HeldOutLosses
from mtlbench.strategies.strategy import Strategy
from mtlbench.study.plan import plan
from mtlbench.suites.base import suites
from mtlbench.training import loop
from mtlbench.training.job import Ended, Place
from mtlbench.training.jobs import RunJob

TINY: dict[str, Any] = {"epochs": 2, "train_size": 256, "validation_size": 64, "test_size": 64}
"""Parameters of `digits` with which a run takes a fraction of a second."""

TINY_OPTIONS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]

CHECKOUT = Path(__file__).parents[1]

ON_THE_CPU = {"CUDA_VISIBLE_DEVICES": ""}
"""A cluster with a GPU would be trained on."""

# The same examples each time; how long one takes says how busy the machine is, and is no failure.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

# Clusters started here let in who has this token, and no token of the user's is made or read.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


LONG = (
    "training/test_population", "execution/", "test_gpu", "test_examples", "test_site",
    "strategies/test_limits",
)  # fmt: skip
"""Files whose tests take long: begun first, so that no process is left with them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders files by how long they take; tests in a file stay in its order."""

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(CHECKOUT / "tests").as_posix()
        return next((n for n, begin in enumerate(LONG) if file.startswith(begin)), len(LONG))

    items.sort(key=place)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """As in a worker that has one core: the order of a sum depends on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing that tests draw is kept for the user, and nothing of the user's is read."""
    os.environ["MTLBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


OF_GRADIENTS = ("test_any_network", "test_contract", "test_limits")


@pytest.fixture(autouse=True)
def _of_gradients_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that sweep over all strategies hand them losses and no outputs of a network, by which
    `data-parameters` would weigh."""
    if request.module.__name__ in OF_GRADIENTS:
        monkeypatch.setattr(Strategy, "_require_transform", lambda self: None)


WITHOUT_HELD_OUT_DATA = (
    *OF_GRADIENTS, "test_own_loops", "test_stand_in", "test_strategy_in_module",
    "test_strategy_input",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _made_up_held_out_data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that sweep over all strategies hand them no held-out data either: some is made up."""
    if request.module.__name__ not in WITHOUT_HELD_OUT_DATA:
        return

    def losses_of(model: torch.nn.Module, tasks: tuple[str, ...]) -> dict[str, torch.Tensor]:
        squares = [p.abs().square().sum() for p in model.parameters() if p.requires_grad]
        return {task: torch.stack([s.to(squares[0]) for s in squares]).sum() for task in tasks}

    as_it_is = Strategy._held_out

    def look(self: Strategy, losses: HeldOutLosses | None) -> HeldOut | None:
        model, tasks = self._network.model, self.setting.tasks
        if losses is None and model is not None:
            losses = functools.partial(losses_of, model, tasks)
        return as_it_is(self, losses)

    monkeypatch.setattr(Strategy, "_held_out", look)


@pytest.fixture(autouse=True)
def _same_losses_elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do they hand them a closure: losses are the same at all parameters."""
    if request.module.__name__ not in WITHOUT_HELD_OUT_DATA:
        return
    as_it_is = Strategy.backward

    def backward(
        self: Strategy, losses: Any, *given: Any, closure: Any = None, **rest: Any
    ) -> None:
        as_it_is(self, losses, *given, closure=closure or (lambda: losses), **rest)

    monkeypatch.setattr(Strategy, "backward", backward)
    monkeypatch.setattr(Strategy, "_require_same_losses", lambda *given: None)
    monkeypatch.setattr("mtlbench.strategies.closure.network_at", lambda *given: nullcontext())


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and that is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _saved_after_every_epoch() -> None:
    """What is given a checkpoint here is not trained for long."""
    loop.CHECKPOINT_SECONDS = 0.0


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    """Forgets what a test registers."""
    load_plugins()
    names = (strategies, suites)
    before = [dict(each._entries) for each in names]
    modules = set(sys.modules)
    yield
    for each, entries in zip(names, before, strict=True):
        each._entries = entries
    for name in set(sys.modules) - modules:
        if name.startswith("mtlbench_plugin_"):
            del sys.modules[name]


def tiny_spec(
    strategy: str = "equal", variant: str = "clean", seed: int = 0, **overrides: Any
) -> RunSpec:
    """The spec of a run that takes a fraction of a second."""
    stages = {key.replace("__", "."): value for key, value in overrides.items()}
    specs = plan(
        "digits",
        strategies=[strategy],
        variants=[variant],
        seeds=seed + 1,
        overrides={**TINY, **stages},
        found_by=lambda spec: {},
    )
    return specs[-1]


def training(
    spec: RunSpec, *, device: str = "cpu", checkpoint: Path | None = None, keep_traces: bool = False
) -> Iterator[Any]:
    """Trains a run here and now, telling of every epoch."""
    yield from RunJob(spec, keep_traces).train(Place(device), checkpoint)


def trained(spec: RunSpec, **options: Any) -> RunRecord:
    """What a run leaves behind that is trained here and now."""
    *_, ended = training(spec, **options)
    assert isinstance(ended, Ended)
    assert isinstance(ended.result, RunRecord)
    return ended.result


def require_to_go_on(spec: RunSpec, checkpoint: Path) -> None:
    """Makes sure that a run of three epochs, stopped after one, ends as it does without a stop."""
    whole = trained(spec)
    messages = training(spec, checkpoint=checkpoint)
    next(messages)
    messages.close()
    *said, ended = training(spec, checkpoint=checkpoint)
    assert ended.result.history == whole.history
    assert len(said) == 2  # epochs that were left
    assert ended.result.info["metrics"] == whole.info["metrics"]


def wait_until(condition: Callable[[], Any], *, seconds: float = 300, what: str) -> None:
    """Waits for a condition to hold."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    status: int
    out: str
    err: str


def start_mtlbench(
    arguments: Sequence[str], *, cwd: str | Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Starts `mtlbench` in a process group of its own, as a shell does."""
    return subprocess.Popen(
        [sys.executable, "-c", "from mtlbench.cli.main import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        cwd=cwd,
        env={**os.environ, **ON_THE_CPU, "PYTHONPATH": str(CHECKOUT), **environment},
    )


def finish(process: subprocess.Popen[str], *, seconds: float = 600) -> Finished:
    """Waits for a started command; kills it where it takes too long, which fails the test."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"did not end within {seconds} s; it wrote {out!r} and {err!r}")
    return Finished(process.returncode, out, err)


def run_mtlbench(
    arguments: Sequence[str],
    *,
    seconds: float = 600,
    cwd: str | Path | None = None,
    **env: str,
) -> Finished:
    """Runs `mtlbench` to its end."""
    return finish(start_mtlbench(arguments, cwd=cwd, **env), seconds=seconds)


def here(arguments: Sequence[Any], capsys: pytest.CaptureFixture[str]) -> Finished:
    """Runs the command line in this process; with the fixture `train_here`, training, too."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return Finished(int(ended.value.code or 0), out, err)


CLUSTER = """
import os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def start_host(code: str) -> subprocess.Popen[str]:
    """Starts a process that holds a cluster, and is told by its standard input what to do."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **ON_THE_CPU, "PYTHONPATH": str(CHECKOUT)},
    )


@pytest.fixture(scope="session")
def cluster_address() -> Iterator[str]:
    """A Ray cluster with two cores that lives as long as the tests."""
    host = start_host(CLUSTER)
    assert host.stdin
    assert host.stdout
    yield host.stdout.readline().strip()
    host.stdin.close()
    host.wait(timeout=60)


@pytest.fixture
def train_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process train in it, through the pool and without Ray."""
    from trained_here import train_here

    train_here(monkeypatch.setattr)


def reference_defaults() -> list[dict[str, Any]]:
    """The reference runs with default parameters."""
    chosen = [tuning for tuning in reference_tunings() if tuning.chosen.parameters]
    tuned = {hash for tuning in chosen for hash in tuning.runs}
    return [
        run
        for run in reference_runs()
        if run["hash"] not in tuned and "epoch_rule" not in run["changed"]
    ]
