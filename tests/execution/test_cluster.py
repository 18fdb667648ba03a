"""The pool on clusters whose machines join, leave and break, and a Ray that dies."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import CHECKOUT, TINY_OPTIONS, Finished, finish, start_mtlbench, trained, wait_until

from mtlbench.execution.cluster import FOLDER
from mtlbench.plugins import PluginFile
from mtlbench.store import Store, read_run
from mtlbench.study import plan

HOST = """
import json, os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from ray.cluster_utils import Cluster

cluster, nodes = Cluster(), []
for line in sys.stdin:
    order = json.loads(line)
    if "kill" in order:
        cluster.remove_node(nodes[order["kill"]], allow_graceful=False)
    else:
        nodes.append(cluster.add_node(num_cpus=order["cpus"], env_vars=order["environment"]))
    print(json.dumps({"address": cluster.address}), flush=True)
cluster.shutdown()
"""

WITHOUT = """
import os, sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "mtlbench":
            HAPPENS

sys.meta_path.insert(0, Without())
"""

PLUGIN = '''
import os
import time
from pathlib import Path

import torch

import mtlbench
import mtlbench.execution.pool
import mtlbench.training.loop

mtlbench.training.loop.CHECKPOINT_SECONDS = 0.0
mtlbench.execution.pool.PATIENCE_SECONDS = 3.0
PLACE = Path("DIRECTORY")


@mtlbench.register_strategy("gated")
class Gated(mtlbench.LossWeighting):
    """Equal weights; notes process, seed and epoch, and waits after the first for the gate."""

    def start(self, setting):
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    def weights(self, losses, present):
        return torch.ones_like(losses)

    def end_epoch(self, losses, validation):
        self.epoch += 1
        with (PLACE / "epochs").open("a") as log:
            log.write(f"{os.getpid()} {int(self.epoch)}\\n")
        while int(self.epoch) == 2 and not (PLACE / "open").exists():
            time.sleep(0.02)
'''


class Nodes:
    """A Ray cluster on this machine, whose nodes come and go."""

    def __init__(self) -> None:
        self._host = subprocess.Popen(
            [sys.executable, "-c", HOST],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        self.address = ""
        self.number = 0

    def add(self, cpus: int, **environment: str) -> int:
        """Adds a node; the first is the head. Gives its number."""
        self._order(cpus=cpus, environment=environment)
        self.number += 1
        return self.number - 1

    def kill(self, node: int) -> None:
        self._order(kill=node)

    def processes(self, name: str) -> list[psutil.Process]:
        """Those of Ray's processes here that are called so."""
        below = psutil.Process(self._host.pid).children(recursive=True)
        return [process for process in below if name in " ".join(process.cmdline()[:1])]

    def end(self) -> None:
        below = psutil.Process(self._host.pid).children(recursive=True)
        for process in (psutil.Process(self._host.pid), *below):
            process.kill()
        self._host.communicate()

    def _order(self, **order: Any) -> None:
        assert self._host.stdin
        assert self._host.stdout
        self._host.stdin.write(json.dumps(order) + "\n")
        self._host.stdin.flush()
        self.address = json.loads(self._host.stdout.readline())["address"]


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    cluster = Nodes()
    yield cluster
    cluster.end()


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "gated.py"
    path.write_text(PLUGIN.replace("DIRECTORY", str(tmp_path)))
    return path


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for temporary files with a short name: Ray puts sockets there."""
    path = Path(f"/tmp/m{os.getpid()}")
    path.mkdir()
    yield path
    for left in path.iterdir():
        left.rmdir()
    path.rmdir()


def command(plugin: Path, *, seeds: int = 4, epochs: int = 3, address: str = "") -> list[str]:
    options = [*TINY_OPTIONS, "--epochs", str(epochs), "--variants", "clean"]
    options += ["--strategies", "gated", "--seeds", str(seeds), "--plugin", str(plugin)]
    options += ["--address", address] if address else []
    return ["run", "digits", *options, "--results", str(plugin.parent / "runs")]


def epochs_of(plugin: Path) -> list[tuple[int, int]]:
    """Process and epoch of each epoch that is over."""
    log = plugin.parent / "epochs"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(pid), int(epoch)) for pid, epoch in map(str.split, lines)]


def at_the_gate(plugin: Path) -> set[int]:
    return {pid for pid, epoch in epochs_of(plugin) if epoch == 2}


def open_the_gate(plugin: Path) -> None:
    (plugin.parent / "open").touch()


def require_undisturbed(plugin: Path, *, seeds: int = 4, epochs: int = 3) -> None:
    """All runs are done, with the bits of a training here."""
    PluginFile.read(plugin).load()
    overrides = dict(option.split("=") for option in TINY_OPTIONS if "=" in option)
    specs = plan(
        "digits",
        strategies=["gated"],
        variants=["clean"],
        seeds=seeds,
        overrides={**overrides, "epochs": epochs},
    )
    store = Store(plugin.parent / "runs")
    runs = {run.info["hash"]: run for run in store.load()[0]}
    assert set(runs) == {spec.hash for spec in specs}
    for spec in specs:
        whole, run = trained(spec), runs[spec.hash]
        assert run.info["status"] == "done"
        assert {k: v.tolist() for k, v in run.history().items()} == whole.history
        assert read_run(run.path, thorough=True).info["metrics"] == whole.info["metrics"]
    assert not (store.root / ".unfinished").exists()
    assert not (store.root / ".set-aside").exists()


def read_until(process: subprocess.Popen[str], text: str, seconds: float = 60) -> None:
    """Reads lines of standard error up to one with this text."""
    assert process.stderr
    lines = []
    killer = threading.Timer(seconds, process.kill)
    killer.start()
    for line in process.stderr:
        lines.append(line)
        if text in line:
            killer.cancel()
            return
    pytest.fail(f"it did not say {text!r} within {seconds:g} s: {lines}")


def driver_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The process that holds Ray."""
    (driver,) = psutil.Process(process.pid).children()
    return driver


# --- machines that cannot train -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("happens", "said"),
    [('raise ModuleNotFoundError("No module named mtlbench")', "No module named mtlbench")],
)
def test_a_machine_on_which_no_worker_starts_is_named_once_and_left_out(
    nodes: Nodes, plugin: Path, happens: str, said: str
) -> None:
    nodes.add(1)
    broken = plugin.parent / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(WITHOUT.replace("HAPPENS", happens))
    nodes.add(2, PYTHONPATH=str(broken))
    open_the_gate(plugin)
    ended = finish(start_mtlbench(command(plugin, address=nodes.address)))
    assert ended.status == 0, ended.err
    named = [line for line in ended.err.splitlines() if "is left out" in line]
    assert len(named) == 1
    assert said in named[0]
    require_undisturbed(plugin)


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        ('raise ModuleNotFoundError("No module named mtlbench")', "No module named mtlbench"),
        ("os._exit(1)", "no worker starts there"),
    ],
)
def test_a_cluster_on_which_no_worker_starts_ends_the_command_with_one_line(
    nodes: Nodes, plugin: Path, happens: str, said: str
) -> None:
    nodes.add(0)
    broken = plugin.parent / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(WITHOUT.replace("HAPPENS", happens))
    nodes.add(2, PYTHONPATH=str(broken))
    ended = finish(start_mtlbench(command(plugin, address=nodes.address)))
    assert ended.status == 2
    assert ended.out == ""
    _, error = ended.err.splitlines()  # the first says what is to be trained
    assert error.startswith("mtlbench: error: ")
    assert said in error
    assert not (plugin.parent / "runs").exists()


# --- machines that come and go ------------------------------------------------------------------


def test_a_machine_that_joins_takes_runs_and_one_that_leaves_fails_none(
    nodes: Nodes, plugin: Path
) -> None:
    nodes.add(0)
    first = nodes.add(1)
    process = start_mtlbench(command(plugin, address=nodes.address))
    wait_until(lambda: len(at_the_gate(plugin)) == 1, what="a run on the first machine")
    nodes.add(1)
    joined = time.monotonic()
    wait_until(lambda: len(at_the_gate(plugin)) == 2, what="a run on the second machine")
    assert time.monotonic() - joined < 20  # the bar is 10 s on a machine that is not so busy
    nodes.kill(first)
    read_until(process, "has lost its worker; goes on from where it was saved last")
    open_the_gate(plugin)
    ended = finish(process)
    assert ended.status == 0, ended.err
    # No more than the epoch that was under way was trained twice.
    assert len(epochs_of(plugin)) <= 4 * 3 + 1
    require_undisturbed(plugin)


def test_a_cluster_without_machines_says_so_and_ends_after_a_while(
    nodes: Nodes, plugin: Path
) -> None:
    nodes.add(0)
    only = nodes.add(1)
    process = start_mtlbench(command(plugin, address=nodes.address))
    wait_until(lambda: at_the_gate(plugin), what="a run")
    nodes.kill(only)
    ended = finish(process, seconds=60)
    assert ended.status == 1
    lines = ended.err.splitlines()
    assert sum("no machine is left to train on; waits for one" in line for line in lines) == 1
    assert lines[-1] == (
        "mtlbench: error: no machine is left to train on; the same command goes on from here"
    )
    assert not any("left" in line and "about" in line for line in lines)

    nodes.add(1)
    open_the_gate(plugin)
    again = finish(start_mtlbench(command(plugin, address=nodes.address)))
    assert again.status == 0, again.err
    require_undisturbed(plugin)


def test_the_death_of_the_head_ends_the_command_soon_and_in_one_line(
    nodes: Nodes, plugin: Path
) -> None:
    nodes.add(1)
    process = start_mtlbench(command(plugin, address=nodes.address))
    wait_until(lambda: at_the_gate(plugin), what="a run")
    (head,) = nodes.processes("gcs_server")
    head.kill()
    ended = finish(process, seconds=30)
    assert ended.status == 1
    _, error = ended.err.splitlines()  # the first says what is to be trained
    assert error.startswith("mtlbench: error: ")
    assert error.endswith("; the same command goes on from here")


# --- a Ray of the command's own -----------------------------------------------------------------


def local(plugin: Path, temporary: Path, seeds: int = 2) -> subprocess.Popen[str]:
    return start_mtlbench(command(plugin, seeds=seeds), TMPDIR=str(temporary), RAY_TMPDIR="")


def gone(driver: psutil.Process) -> bool:
    """Whether nothing of a driver's session is left."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == driver.pid and process.status() != psutil.STATUS_ZOMBIE:
                return False
        except (OSError, psutil.Error):
            continue
    return True


@pytest.mark.parametrize("victim", ["driver", "raylet", "gcs_server"])
def test_a_ray_that_dies_is_started_again(victim: str, plugin: Path, temporary: Path) -> None:
    process = local(plugin, temporary)
    wait_until(lambda: at_the_gate(plugin), what="a run")
    driver = driver_of(process)
    if victim == "driver":
        driver.kill()
    else:
        below = driver.children(recursive=True)
        (found,) = [p for p in below if victim in " ".join(p.cmdline()[:1])]
        found.kill()
    read_until(process, "begins again with a new one")
    open_the_gate(plugin)
    ended = finish(process)
    assert ended.status == 0, ended.err
    require_undisturbed(plugin, seeds=2)
    assert gone(driver)
    assert not list(temporary.glob(f"{FOLDER}*"))


def test_nothing_is_left_of_a_command_that_is_killed(plugin: Path, temporary: Path) -> None:
    process = local(plugin, temporary)
    wait_until(lambda: at_the_gate(plugin), what="a run")
    driver = driver_of(process)
    assert list(temporary.glob(f"{FOLDER}*"))
    process.kill()
    finish(process)
    wait_until(lambda: gone(driver), seconds=15, what="the end of Ray")
    wait_until(lambda: not list(temporary.iterdir()), seconds=15, what="an empty folder")

    open_the_gate(plugin)
    assert finish(local(plugin, temporary)).status == 0
    require_undisturbed(plugin, seeds=2)


@pytest.mark.parametrize("seconds", [1.5, 3.0, 5.0])
def test_a_command_told_to_end_while_ray_starts_ends_as_by_ctrl_c(
    seconds: float, plugin: Path, temporary: Path
) -> None:
    process = local(plugin, temporary)
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    ended: Finished = finish(process, seconds=30)
    if ended.status != -signal.SIGTERM:  # Python itself was not up yet
        assert ended.status == 130
        assert ended.err.splitlines()[-1] == (
            "mtlbench: interrupted; the same command goes on from here"
        )
    assert not list(temporary.iterdir())
