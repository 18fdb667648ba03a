"""What the README and the documentation show is run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python_blocks(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL)


def mtlbench(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mtlbench", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


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


def test_the_readmes_strategy_trains_as_a_plugin_and_stands_in_the_table(tmp_path):
    plugin = next(block for block in python_blocks("README.md") if "register_strategy" in block)
    (tmp_path / "my_strategy.py").write_text(plugin)
    (command,) = re.findall(
        r"^mtlbench (run digits --plugin my_strategy.py .*)$",
        (ROOT / "README.md").read_text(),
        flags=re.MULTILINE,
    )
    result = mtlbench(*command.split(), *SMALL, directory=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^Inverse ", result.stdout, flags=re.MULTILINE)
    assert re.search(r"^ILT Params \+ Inverse ", result.stdout, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("block", "arguments"),
    [
        (0, ["digits", "--strategies", "power-mean,normalised-sum,sign-vote,trimmed+dwa", *SMALL]),
        (1, ["points", "--strategies", "equal,ilt", "--seeds", "1"]),
    ],
    ids=["strategies", "suite"],
)
def test_the_extensions_of_the_documentation_train_as_plugins(tmp_path, block, arguments):
    (tmp_path / "plugin.py").write_text(python_blocks("docs/extending.md")[block])
    result = mtlbench("run", *arguments, "--plugin", "plugin.py", directory=tmp_path)
    assert result.returncode == 0, result.stderr
