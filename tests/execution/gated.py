"""Runs that wait at a gate, so that something may happen to what trains them meanwhile."""

import subprocess
import threading
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS, trained

from mtlbench.plugins import PluginFile
from mtlbench.store.runs import Store, read_run
from mtlbench.study.plan import plan

AT_THE_END_OF_AN_EPOCH = '''
import os
import time
from pathlib import Path

import torch

import mtlbench
import mtlbench.training.loop

mtlbench.training.loop.CHECKPOINT_SECONDS = 0.0
PLACE = Path("DIRECTORY")


@mtlbench.register_strategy("NAME")
class Watched(mtlbench.LossWeighting):
    """Equal weights; notes the end of each epoch, where something may happen."""

    def start(self, setting):
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    def weights(self, losses, present):
        return torch.ones_like(losses)

    def end_epoch(self, losses, validation):
        self.epoch += 1
        epoch = int(self.epoch)
        with (PLACE / "epochs").open("a") as log:
            log.write(f"{epoch}\\n")
        WHAT
'''


def plugin_of(name: str, place: Path, what: str) -> Path:
    """A strategy that keeps a log of its epochs in a directory, and does something after each."""
    text = AT_THE_END_OF_AN_EPOCH.replace("NAME", name).replace("DIRECTORY", str(place))
    path = place / f"{name}.py"
    path.write_text(text.replace("WHAT", what))
    return path


def gated_plugin(place: Path) -> Path:
    """Ends its second epoch only when the gate is open."""
    gate = 'while epoch == 2 and not (PLACE / "open").exists(): time.sleep(0.02)'
    return plugin_of("gated", place, gate)


def command(plugin: Path, *, seeds: int = 4, epochs: int = 3, address: str = "") -> list[str]:
    options = [*TINY_OPTIONS, "--epochs", str(epochs), "--variants", "clean"]
    options += ["--strategies", "gated", "--seeds", str(seeds), "--plugin", str(plugin)]
    options += ["--address", address] if address else []
    return ["run", "digits", *options, "--results", str(plugin.parent / "runs")]


def epochs_of(plugin: Path) -> list[int]:
    """The epochs that are over, of all runs."""
    log = plugin.parent / "epochs"
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def at_the_gate(plugin: Path) -> int:
    """How often a run has come to the gate."""
    return epochs_of(plugin).count(2)


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


def read_until(process: subprocess.Popen[str], text: str, seconds: float = 300) -> None:
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
