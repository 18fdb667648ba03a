"""The examples run as their first lines say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import CHECKOUT, here

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


@pytest.mark.parametrize("script", ["own_lengths", "own_pictures", "own_table", "own_tokens"])
def test_suites_of_datasets_are_compared_as_their_first_lines_say(
    script: str, train_here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (EXAMPLES / f"{script}.py").read_text()
    assert len(text.splitlines()) <= 60
    (command,) = re.findall(r"^mtlbench (.*)$", text, flags=re.MULTILINE)
    words = command.replace("examples/", f"{EXAMPLES}/").split()
    ended = here([*words, "--seeds", "1", "--epochs", "1", "--results", tmp_path], capsys)
    assert ended.status == 0, ended.err
    assert "Eq. Weight" in ended.out


# --- docs/own-network.md --------------------------------------------------------------------------

TUTORIAL = CHECKOUT / "docs" / "own-network.md"
NETWORK = EXAMPLES / "own_network.py"


def test_the_tutorials_script_trains_by_itself(tmp_path: Path) -> None:
    losses = re.findall(r"loss (\d+\.\d+)", output_of("own_network.py", tmp_path))
    assert len(losses) == 10
    assert float(losses[-1]) < 0.5 * float(losses[0])


def test_a_plain_script_needs_few_lines_for_its_first_table() -> None:
    _, new, _ = re.split(r"^# ---.*$", NETWORK.read_text(), flags=re.MULTILINE)
    assert "suite_from(" in new
    assert len([line for line in new.splitlines() if line]) < 25


def test_the_tutorial_shows_the_script_as_it_is() -> None:
    script = re.sub("  # noqa: E402", "", NETWORK.read_text())
    blocks = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert block in script


def test_the_commands_of_the_tutorial_do_what_they_say(
    train_here: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_network.py").write_text(NETWORK.read_text())
    commands = re.findall(r"^mtlbench (.*)$", TUTORIAL.read_text(), flags=re.MULTILINE)
    verbs = [command.split()[0] for command in commands]
    assert verbs == ["run", "run", "tune", "suspects", "detectors", "compare", "report"]
    for verb, command in zip(verbs, commands, strict=True):
        quick = ["--seeds", "1", "--epochs", "2", "--set", "workers=1"]
        trains = verb in verbs[:5]
        fewer = ["--trials", "2"] if verb == "tune" else []
        ended = here([*command.split(), *(quick if trains else []), *fewer], capsys)
        assert ended.status == 0, ended.err
        assert not trains or "digit" in ended.out
    suspects = pd.read_csv("suspects/ink/digit@0.4/suspects.csv")
    assert set(suspects["task"]) == {"digit", "ink"}
    assert "ink" in Path("report.html").read_text()
    assert list(Path("figures").glob("*"))


def test_every_example_is_in_the_list() -> None:
    listed = set(re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text()))
    assert listed == {path.name for path in EXAMPLES.glob("*.py")}
