"""A Ray of the command's own: it may die, and nothing of it stays."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from conftest import finish, here, start_mtlbench, wait_until
from gated import (
    at_the_gate,
    command,
    gated_plugin,
    open_the_gate,
    read_until,
    require_undisturbed,
)

from mtlbench.errors import UserError
from mtlbench.execution.cluster import FOLDER, Cluster
from mtlbench.execution.resources import Resources


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    return gated_plugin(tmp_path)


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for temporary files with a short name: Ray puts sockets there."""
    path = Path(f"/tmp/m{os.getpid()}")
    path.mkdir()
    yield path
    for left in path.iterdir():
        left.rmdir()
    path.rmdir()


def driver_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The process that holds Ray."""
    (driver,) = psutil.Process(process.pid).children()
    return driver


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


@pytest.mark.parametrize(("victims", "seeds"), [(("driver", "raylet"), 2), (("gcs_server",), 1)])
def test_a_ray_that_dies_is_started_again(
    victims: Sequence[str], seeds: int, plugin: Path, temporary: Path
) -> None:
    process = local(plugin, temporary, seeds)
    drivers, before = [], 0
    for victim in victims:
        wait_until(lambda seen=before: at_the_gate(plugin) > seen, what="a run")
        driver = driver_of(process)
        drivers.append(driver)
        if victim == "driver":
            driver.kill()
        else:
            below = driver.children(recursive=True)
            (found,) = [p for p in below if victim in " ".join(p.cmdline()[:1])]
            found.kill()
        read_until(process, "begins again with a new one")
        before = at_the_gate(plugin)
    open_the_gate(plugin)
    ended = finish(process)
    assert ended.status == 0, ended.err
    require_undisturbed(plugin, seeds=seeds)
    assert all(map(gone, drivers))
    assert not list(temporary.glob(f"{FOLDER}*"))


def test_nothing_is_left_of_a_command_that_is_killed(
    train_here: None, plugin: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = local(plugin, temporary)
    wait_until(lambda: at_the_gate(plugin), what="a run")
    driver = driver_of(process)
    assert list(temporary.glob(f"{FOLDER}*"))
    process.kill()
    finish(process)
    wait_until(lambda: gone(driver), seconds=180, what="the end of Ray")
    wait_until(lambda: not list(temporary.iterdir()), seconds=180, what="an empty folder")

    open_the_gate(plugin)
    assert here(command(plugin, seeds=2), capsys).status == 0
    require_undisturbed(plugin, seeds=2)


@pytest.mark.parametrize("seconds", [1.5, 3.0, 5.0])
def test_a_command_told_to_end_while_ray_starts_ends_as_by_ctrl_c(
    seconds: float, plugin: Path, temporary: Path
) -> None:
    process = local(plugin, temporary)
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    ended = finish(process, seconds=180)
    if ended.status != -signal.SIGTERM:  # Python itself was not up yet
        assert ended.status == 128 + signal.SIGTERM
        assert ended.err.splitlines()[-1] == (
            "mtlbench: interrupted; the same command goes on from here"
        )
    assert not list(temporary.iterdir())


def test_a_full_disk_for_ray_is_told_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of Ray itself, which would end its process without a word."""
    full = shutil._ntuple_diskusage(10**9, 10**9 - 1, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(UserError, match=r"no space left in '/.*': Ray writes there"):
        Cluster(Resources(), [], 1, 1.0)
