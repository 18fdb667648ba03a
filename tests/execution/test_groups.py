"""Runs that several processes train together, on Ray."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_OPTIONS, here, run_mtlbench, tiny_spec, trained
from gated import plugin_of

from mtlbench.errors import UserError
from mtlbench.execution.resources import Resources
from mtlbench.store.runs import Store

AT_THE_END_OF_THE_SECOND_EPOCH = """
        import signal
        import torch.distributed as dist
        here = dist.is_initialized() and dist.get_rank() == 1 and epoch == 2
        if here and not (PLACE / "died").exists():
            (PLACE / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_of_several_processes_outlives_one_of_them(
    cluster_address: str,
    train_here: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has the numbers of one process, to rounding, and its record says how many trained it."""
    plugin = plugin_of("mortal", tmp_path, AT_THE_END_OF_THE_SECOND_EPOCH.strip())
    command = ["run", "digits", *TINY_OPTIONS, "--epochs", "3", "--variants", "clean"]
    command += ["--strategies", "mortal", "--seeds", "1", "--plugin", str(plugin)]
    command += ["--results", str(tmp_path / "runs")]
    done = run_mtlbench([*command, "--address", cluster_address, "--workers-per-run", "2"])
    assert done.status == 0, done.err
    assert "1 at a time, each in 2 processes, each with 1 CPU, into" in done.err
    assert "has lost its worker; goes on from where it was saved last" in done.err
    (run,), _ = Store(tmp_path / "runs").load()
    assert run.info["workers"] == 2
    expected = trained(tiny_spec("equal", epochs=3)).history
    found = {name: column.tolist() for name, column in run.history().items()}
    for name in ("train_loss/left", "train_loss/right", "train_loss/offset"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4)
    more = here([*command, "--seeds", "2"], capsys)
    assert (
        "1 finished before was trained by 2 processes together: by one the same spec has other "
        "last digits; --workers-per-run 2 goes on as before"
    ) in more.err
    workers = [json.loads(file.read_text())["workers"] for file in tmp_path.rglob("run.json")]
    assert sorted(workers) == [1, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 0}, "workers per run must be a whole number above 0, but is 0"),
        ({"workers": 1.5}, "workers per run must be a whole number above 0, but is 1.5"),
        ({"workers": 2, "gpus": 0.5}, "must be auto, 0 or 2, 4, …, but is 0.5"),
        ({"workers": 2, "gpus": 3.0}, "must be auto, 0 or 2, 4, …, but is 3"),
    ],
)
def test_numbers_that_no_machine_can_give_are_refused(options: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Resources(**options)


def test_a_command_that_asks_for_more_than_the_cluster_has_writes_nothing(
    cluster_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "digits", *TINY_OPTIONS, "--address", cluster_address]
    command += ["--results", str(tmp_path / "runs"), "--workers-per-run"]
    for number, said in (
        ("3", "a run asks for 3 processes with 1 CPUs and 0 GPUs each, but there is room for 2"),
        ("1.5", "argument --workers-per-run: invalid int value: '1.5'"),
    ):
        refused = here([*command, number], capsys)
        assert refused.status == 2
        assert refused.err.splitlines()[-1] == f"mtlbench: error: {said}"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("resources", "processes", "gpus_each"),
    [
        (Resources(), 1, None),
        (Resources(gpus=0.5), 1, 0.5),
        (Resources(gpus=4.0), 4, 1),
        (Resources(gpus=4.0, workers=2), 2, 2),
        (Resources(gpus=2.0, workers=1), 1, 2),
        (Resources(workers=3), 3, None),
        (Resources(workers=3, gpus=0.0), 3, 0),
    ],
)
def test_each_gpu_of_a_run_has_a_process_unless_told_otherwise(
    resources: Resources, processes: int, gpus_each: float | None
) -> None:
    assert (resources.processes, resources.gpus_each) == (processes, gpus_each)
