"""The examples run as their first lines say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT

EXAMPLES = CHECKOUT / "examples"


def output_of(script: str, directory: Path) -> str:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / script)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_most_suspects_of_the_own_loop_are_labelled_wrong(tmp_path: Path) -> None:
    (found,) = re.findall(r"^(\d+) of the 100 ", output_of("own_loop.py", tmp_path))
    assert int(found) > 90  # ten would be by chance


def test_most_suspects_are_labelled_wrong_in_lightning(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="pip install mtlbench[lightning]")
    (found,) = re.findall(r"^(\d+) of the 100 ", output_of("in_lightning.py", tmp_path), re.M)
    assert int(found) > 90  # ten would be by chance


def test_the_trainer_learns_the_topics(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="pip install mtlbench[transformers]")
    (right,) = re.findall(r"^(\d+) of 100 ", output_of("in_transformers.py", tmp_path), re.M)
    assert int(right) > 90  # a third would be by chance


def test_a_study_from_python_ranks_the_own_strategy_on_the_own_suite(tmp_path: Path) -> None:
    text = output_of("study.py", tmp_path)
    assert "Inverse" in text
    assert "Acc. (%)" in text
    assert "Mean rank" in text


def test_every_example_is_in_the_list() -> None:
    listed = set(re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text()))
    assert listed == {path.name for path in EXAMPLES.glob("*.py")}
