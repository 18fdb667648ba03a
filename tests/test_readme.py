"""What the README and the documentation show is run as it stands there."""

import re
from pathlib import Path

import torch
from conftest import here
from torch import nn

import mtlbench as mtlbench_package
from mtlbench import Task
from mtlbench.suites.base import suites
from mtlbench.tasks.metrics import accuracy
from mtlbench.tasks.task import cross_entropy

ROOT = Path(__file__).parent.parent


def python_blocks(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL)


SMALL = [
    *("--epochs", "1", "--seeds", "1", "--variants", "left@0.4"),
    *("--set", "train_size=128", "--set", "validation_size=32", "--set", "test_size=32"),
]


def test_the_readmes_training_loop_learns_a_sigma_for_every_label():
    loop = next(block for block in python_blocks("README.md") if "build_strategy" in block)
    names: dict = {}
    exec(loop, names)
    assert names["sigma"].shape == (256, 2)
    assert (names["sigma"] != 1).all()


def test_the_readmes_strategy_trains_as_a_plugin_and_stands_in_the_table(
    train_here, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    plugin = next(block for block in python_blocks("README.md") if "register_strategy" in block)
    (tmp_path / "my_strategy.py").write_text(plugin)
    (command,) = re.findall(
        r"^mtlbench (run digits --plugin my_strategy.py .*)$",
        (ROOT / "README.md").read_text(),
        flags=re.MULTILINE,
    )
    result = here([*command.split(), *SMALL], capsys)
    assert result.status == 0, result.err
    assert re.search(r"^Inverse ", result.out, flags=re.MULTILINE)
    assert re.search(r"^ILT Params \+ Inverse ", result.out, flags=re.MULTILINE)


def test_the_readmes_suite_of_datasets_is_one():
    block = next(block for block in python_blocks("README.md") if "suite_from" in block)
    items = [(torch.zeros(3), i % 10) for i in range(30)]
    names = {
        "mtlbench": mtlbench_package, "Task": Task, "cross_entropy": cross_entropy,
        "accuracy": accuracy, "KINDS": tuple("0123456789"), "Photos": lambda part: items,
        "Net": lambda: nn.Linear(3, 10),
    }  # fmt: skip
    exec(block, names)
    suite = suites.get("mine").cls()
    suite.check()
    assert (suite.epochs, suite.batch_size, suite.lr) == (10, 64, 1e-3)
    assert [len(split) for split in suite.data().splits] == [27, 3, 30]


def test_the_strategies_and_the_suite_of_the_documentation_train_as_plugins(
    train_here, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    strategies, suite = python_blocks("docs/extending.md")[:2]
    (tmp_path / "strategies.py").write_text(strategies)
    (tmp_path / "suite.py").write_text(suite)
    names = "power-mean,normalised-sum,sign-vote,trimmed+dwa,equal,ilt"
    options = ["--plugin", "strategies.py", "--plugin", "suite.py", "--seeds", "1"]
    result = here(["run", "points", "--strategies", names, *options], capsys)
    assert result.status == 0, result.err
