"""The pool on a cluster whose machines join, leave and break."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import CHECKOUT, finish, start_host, start_mtlbench, wait_until
from gated import (
    at_the_gate,
    command,
    epochs_of,
    gated_plugin,
    open_the_gate,
    read_until,
    require_undisturbed,
)

from mtlbench.execution.cluster import deferring_signals

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


IMPATIENT = """
import importlib.util, sys

class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name != "mtlbench.execution.fleet":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_change(module):
            load(module)
            module.PATIENCE_SECONDS = 3.0

        spec.loader.exec_module = load_and_change
        return spec

sys.meta_path.insert(0, Impatient())
"""


class Nodes:
    """A Ray cluster on this machine, whose nodes come and go."""

    def __init__(self) -> None:
        self._host = start_host(HOST)
        self.address = ""
        self.number = 0

    def add(self, cpus: int, **environment: str) -> int:
        """Adds a node; the first is the head. Gives its number."""
        self._order(cpus=cpus, environment=environment)
        self.number += 1
        return self.number - 1

    def add_broken(self, folder: Path, happens: str) -> None:
        """Adds a node of two CPUs on which this happens where mtlbench is imported."""
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(WITHOUT.replace("HAPPENS", happens))
        self.add(2, PYTHONPATH=str(folder))

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
    return gated_plugin(tmp_path)


# --- machines that cannot train -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("happens", "said"),
    [('raise ModuleNotFoundError("No module named mtlbench")', "No module named mtlbench")],
)
def test_a_machine_on_which_no_worker_starts_is_named_once_and_left_out(
    nodes: Nodes, plugin: Path, happens: str, said: str
) -> None:
    nodes.add(1)
    nodes.add_broken(plugin.parent / "broken", happens)
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
    nodes.add_broken(plugin.parent / "broken", happens)
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
    wait_until(lambda: at_the_gate(plugin) == 1, what="a run on the first machine")
    nodes.add(1)
    wait_until(lambda: at_the_gate(plugin) == 2, what="a run on the second machine")
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
    impatient = plugin.parent / "impatient"
    impatient.mkdir()
    (impatient / "sitecustomize.py").write_text(IMPATIENT)
    path = f"{impatient}{os.pathsep}{CHECKOUT}"
    process = start_mtlbench(command(plugin, address=nodes.address), PYTHONPATH=path)
    wait_until(lambda: at_the_gate(plugin), what="a run")
    nodes.kill(only)
    ended = finish(process, seconds=180)
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
    ended = finish(process, seconds=180)
    assert ended.status == 1
    _, error = ended.err.splitlines()  # the first says what is to be trained
    assert error.startswith("mtlbench: error: ")
    assert error.endswith("; the same command goes on from here")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_ray_is_ended_comes_after_that(number: int) -> None:
    """Between the trials and the runs of a tuning, for example: it is not lost."""
    before = signal.signal(number, signal.default_int_handler)
    ended = []

    def end() -> None:
        with deferring_signals():
            signal.raise_signal(number)
            ended.append(True)

    try:
        with pytest.raises(KeyboardInterrupt):
            end()
    finally:
        signal.signal(number, before)
    assert ended
