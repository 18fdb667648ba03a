"""Analysis reads results and nothing else: without PyTorch, without Ray, on any system."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT
from synthetic_runs import metric, study, write_run

TRAINING = ("torch", "torchmetrics", "torchjd", "ray")
POSIX = ("fcntl", "termios", "resource")

WITHOUT = """
import signal
import sys
del signal.SIGHUP  # as on Windows
without = {without!r}

class Without:
    def find_spec(self, name, path=None, target=None):
        if name in without:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Without())
from mtlbench.cli.main import main
for number, arguments in enumerate({commands!r}):
    with open(f"{{number}}.out", "w") as sys.stdout:
        try:
            main(arguments)
        except SystemExit as end:
            assert end.code == 0, (arguments, end.code)
    assert not set(without) & set(sys.modules), arguments
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    study(root, variants=("clean", "depth@0.2", "depth@0.4"), seeds=2, epochs=3, instances=60)
    write_run(root, metric(75.0), suite="cityscapes", strategy="equal")
    return root


def test_results_are_analysed_without_what_trains_and_on_any_system(
    results: Path, tmp_path: Path
) -> None:
    """One after the other in a process, which starts for longer than most of them take."""
    commands = [
        ["compare", "streets", "--figures", "figures"],
        ["compare", "streets", "--against", "ilt"],
        ["compare", "cityscapes", "--against", "famo"],
        ["compare", "streets", "--format", "html"],
        ["leaderboard", "--figures", "figures"],
        ["report"],
    ]
    code = WITHOUT.format(
        without=TRAINING + POSIX,
        commands=[[*command, "--results", str(results)] for command in commands],
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert all((tmp_path / f"{number}.out").read_text() for number in range(len(commands)))
