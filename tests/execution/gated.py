"""Runs that wait at a gate, so that something may happen to what trains them meanwhile."""

import subprocess
import threading
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS, trained

from mtlbench.plugins import PluginFile
from mtlbench.store import Store, read_run
from mtlbench.study import plan

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


def gated_plugin(tmp_path: Path) -> Path:
    """The file of the strategy `gated`; its gate and its log lie beside it."""
    path = tmp_path / "gated.py"
    path.write_text(PLUGIN.replace("DIRECTORY", str(tmp_path)))
    return path


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
