"""`mtlbench run` on Ray: what is missing is trained, once, whatever interrupts it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import (
    CHECKOUT,
    TINY,
    TINY_OPTIONS,
    Finished,
    finish,
    here,
    run_mtlbench,
    start_mtlbench,
    trained,
    wait_until,
)
from gated import gated_plugin, plugin_of

from mtlbench.execution.events import Event
from mtlbench.execution.pool import Pool
from mtlbench.execution.resources import Resources
from mtlbench.plugins import PluginFile
from mtlbench.store.runs import HISTORY_FILE, INSTANCE_FILE, RUN_FILE, Store, read_run
from mtlbench.study.plan import plan
from mtlbench.training.jobs import RunJob

STUDY = ["digits", *TINY_OPTIONS, "--epochs", "1", "--strategies", "equal,ilt"]
VARIANTS = ["--variants", "clean", "left@0.4"]
RUNS_A_SEED = 4


def written(root: Path) -> dict[Path, int]:
    """When each run was written, by its directory below the root."""
    return {
        path.relative_to(root): (path / RUN_FILE).stat().st_mtime_ns
        for path in Store(root).run_directories()
    }


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """A results directory with one seed of a study, made by a Ray of the command's own."""
    root = tmp_path_factory.mktemp("first") / "runs"
    arguments = ["run", *STUDY, *VARIANTS, "--seeds", "1", "--results", str(root)]
    return root, run_mtlbench(arguments)


@pytest.fixture
def root(first_run: tuple[Path, Finished], tmp_path: Path) -> Path:
    """A copy of that directory."""
    return Path(shutil.copytree(first_run[0], tmp_path / "runs"))


# --- what is missing is trained -----------------------------------------------------------------


def test_a_study_is_trained_and_ends_with_what_compare_prints(
    first_run: tuple[Path, Finished], capsys: pytest.CaptureFixture[str]
) -> None:
    root, finished = first_run
    assert finished.status == 0, finished.err
    compared = here(["compare", "digits", "--results", str(root)], capsys)
    assert "ILT Params" in compared.out
    assert finished.out == compared.out
    first, *lines = finished.err.splitlines()
    assert "4 runs, 0 finished before, 4 to train" in first
    assert [line[:6] for line in lines] == ["[1/4] ", "[2/4] ", "[3/4] ", "[4/4] "]
    assert len(written(root)) == RUNS_A_SEED
    assert not (root / ".unfinished").exists()


def test_a_worker_trains_to_the_same_bits_as_this_process(
    first_run: tuple[Path, Finished], tmp_path: Path
) -> None:
    store = Store(first_run[0])
    runs, damaged = store.load()
    assert damaged == []
    assert len(runs) == RUNS_A_SEED
    for run in runs:
        spec = run.info["spec"]
        (again,) = plan(
            "digits",
            strategies=[spec["strategy"]],
            variants=[spec["variant"]],
            seeds=1,
            overrides=spec["suite_parameters"],
        )
        assert again.hash == run.info["hash"]
        path = Store(tmp_path).write(trained(again))
        assert (path / HISTORY_FILE).read_bytes() == (run.path / HISTORY_FILE).read_bytes()
        assert read_run(path).info["metrics"] == run.info["metrics"]


def test_a_study_that_is_there_is_not_trained_again(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written(root)
    arguments = ["run", *STUDY, *VARIANTS, "--seeds", "1", "--results", str(root)]
    again = here(arguments, capsys)
    assert again.status == 0
    assert again.err == f"nothing to do: all 4 runs of this study are in {root}\n"
    assert "ILT Params" in again.out
    assert written(root) == before


def test_one_more_seed_trains_that_seed_and_damage_trains_only_what_is_damaged(
    root: Path, train_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written(root)
    arguments = ["run", *STUDY, *VARIANTS, "--results", str(root)]
    more = here([*arguments, "--seeds", "2"], capsys)
    assert more.status == 0, more.err
    first, *lines = more.err.splitlines()
    assert "8 runs, 4 finished before, 4 to train" in first
    assert len(lines) == RUNS_A_SEED
    assert all("/seed-1 done" in line for line in lines)
    after = written(root)
    assert len(after) == 2 * RUNS_A_SEED
    assert before.items() <= after.items()

    histories = {path: (root / path / HISTORY_FILE).read_bytes() for path in after}
    damaged, remains = damage_four_ways(root, sorted(after)[:3] + sorted(after)[-1:])
    compared = here(["compare", "digits", "--results", str(root)], capsys)
    assert compared.status == 1
    # A comparison looks at names and lengths; altered bytes of one length are found by `run`.
    assert len(compared.err.splitlines()) == 3
    for path, what in list(damaged.items())[:3]:
        assert any(str(root / path) in line and what in line for line in compared.err.splitlines())

    mended = here([*arguments, "--seeds", "2"], capsys)
    assert mended.status == 0, mended.err
    lines = mended.err.splitlines()
    assert len([line for line in lines if " done" in line]) == len(damaged)
    for path, what in damaged.items():
        assert any(str(root / path) in line and what in line for line in lines), (path, what)
    now = written(root)
    assert {path for path in now if now[path] != after[path]} == set(damaged)
    for path, history in histories.items():
        assert (root / path / HISTORY_FILE).read_bytes() == history
    kept = [path for path in (root / ".set-aside").rglob("seed-*") if path.is_dir()]
    assert {contents(path) for path in kept} == remains


def damage_four_ways(
    root: Path, paths: Sequence[Path]
) -> tuple[dict[Path, str], set[frozenset[tuple[str, bytes]]]]:
    """Damages four runs; gives what each should be said to suffer from, and what is left."""
    truncated_info, truncated_history, missing, altered = paths
    info = root / truncated_info / RUN_FILE
    info.write_bytes(info.read_bytes()[:100])
    history = root / truncated_history / HISTORY_FILE
    history.write_bytes(history.read_bytes()[:100])
    (root / missing / INSTANCE_FILE).unlink()
    data = bytearray((root / altered / HISTORY_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (root / altered / HISTORY_FILE).write_bytes(data)
    return {
        truncated_info: "run.json is truncated",
        truncated_history: "history.parquet is truncated",
        missing: "instance_parameters.npz is missing",
        altered: "history.parquet was altered",
    }, {contents(root / path) for path in paths}


def contents(directory: Path) -> frozenset[tuple[str, bytes]]:
    return frozenset((file.name, file.read_bytes()) for file in directory.iterdir())


def test_a_run_that_no_machine_can_hold_is_refused_in_one_line(
    cluster_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    for option, named in (("--gpus-per-run", "64 GPUs"), ("--cpus-per-run", "64 CPUs")):
        arguments = ["run", *STUDY, "--results", str(root), "--address", cluster_address]
        refused = here([*arguments, option, "64"], capsys)
        assert refused.status == 2
        assert refused.out == ""
        assert len(refused.err.splitlines()) == 1
        assert named in refused.err
        assert "largest machine has 2" in refused.err
        assert not root.exists()


# --- interruptions ------------------------------------------------------------------------------


def dying_plugin(place: Path) -> Path:
    """The process dies at the end of its second epoch, once."""
    death = 'if epoch == 2 and "2\\n2" not in (PLACE / "epochs").read_text(): os._exit(1)'
    return plugin_of("dying", place, death)


def test_a_reader_that_goes_away_does_not_end_a_study(cluster_address: str, tmp_path: Path) -> None:
    """As in `mtlbench run … 2>&1 | head -1`."""
    root = tmp_path / "runs"
    arguments = [*STUDY, *VARIANTS, "--seeds", "1", "--results", str(root)]
    arguments += ["--address", cluster_address]
    code = "from mtlbench.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=240) == 0
    assert len(written(root)) == RUNS_A_SEED


def test_workers_look_for_modules_in_the_working_directory_only_where_the_command_does(
    cluster_address: str, tmp_path: Path
) -> None:
    for name in ("torch", "random"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the one that is meant')")
    arguments = ["run", "digits", *TINY_OPTIONS, "--strategies", "equal", "--variants", "clean"]
    arguments += ["--seeds", "1", "--address", cluster_address]
    ended = subprocess.run(
        [sys.executable, "-P", "-c", "from mtlbench.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert ended.returncode == 0, ended.stderr


def test_a_damaged_run_that_another_command_has_trained_anew_stays(root: Path) -> None:
    store = Store(root)
    whole = next(store.run_directories()) / RUN_FILE
    specs = plan(
        "digits",
        strategies=["equal", "ilt"],
        variants=["clean", "left@0.4"],
        seeds=1,
        overrides={**TINY, "epochs": 1},
    )
    content = whole.read_bytes()
    whole.write_bytes(content[:100])
    (job,) = [job for job in map(RunJob, specs) if job.found(store) is None]
    told: list[Event] = []
    pool = Pool(1, 0, Resources().setup([]), elastic=False, emit=told.append)
    pool.store = store

    whole.write_bytes(content)  # as another command leaves it
    before = written(root)
    pool.start_job(job)
    assert [(event.job, event.kind) for event in told] == [(job, "done")]
    assert not pool.active
    assert written(root) == before

    whole.write_bytes(content[:100])
    with store.lock(job.hash):  # another command is at it
        pool.start_job(job)
    assert pool.elsewhere == [job]
    assert len(told) == 1
    assert set(written(root)) == set(before)

    pool.start_job(job)
    assert [event.kind for event in told[1:]] == ["notice", "started"]
    assert "run.json is truncated" in told[1].text
    assert len(written(root)) == len(before) - 1
    assert [part.job for part in pool.parts] == [job]


def test_the_run_of_a_worker_that_dies_goes_on_from_its_checkpoint(
    cluster_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = dying_plugin(tmp_path)
    options = [*TINY_OPTIONS, "--epochs", "3", "--strategies", "ilt+dying", "--seeds", "1"]
    command = ["run", "digits", *options, "--variants", "clean", "--plugin", str(plugin)]
    command += ["--address", cluster_address, "--results"]
    ended = here([*command, str(tmp_path / "runs")], capsys)
    assert ended.status == 0, ended.err
    assert (tmp_path / "epochs").read_text().split() == ["1", "2", "2", "3"]
    assert "has lost its worker; goes on from where it was saved last" in ended.err
    whole = here([*command, str(tmp_path / "whole")], capsys)
    assert whole.status == 0, whole.err
    (one,), (other,) = (
        [read_run(path).history() for path in Store(tmp_path / name).run_directories()]
        for name in ("runs", "whole")
    )
    assert {k: v.tolist() for k, v in one.items()} == {k: v.tolist() for k, v in other.items()}


def descendants(pid: int) -> set[int]:
    """The processes below a process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    below = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in below} - below
        if not more:
            return below - {pid}
        below |= more


def at_work(pid: int) -> bool:
    """Whether a process lives. Two agents of Ray, which train nothing, take a minute to leave."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        agent = b"Agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return state not in "ZX" and not agent


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_run_interrupted_then_killed_continues_to_the_same_bits(
    train_here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, plugin = tmp_path / "runs", gated_plugin(tmp_path)
    options = [*TINY_OPTIONS, "--epochs", "3", "--strategies", "ilt+gated", "--seeds", "1"]
    command = ["run", "digits", *options, "--variants", "left@0.4", "--plugin", str(plugin)]
    command += ["--results", str(root)]

    def epochs() -> list[str]:
        log = tmp_path / "epochs"
        return log.read_text().split() if log.exists() else []

    first = start_mtlbench(command)
    wait_until(lambda: epochs() == ["1", "2"], what="the first epoch")
    assert list((root / ".unfinished").glob("*/checkpoint.safetensors"))
    below = descendants(first.pid)
    os.killpg(first.pid, signal.SIGINT)  # as Ctrl-C does
    interrupted = finish(first, seconds=180)
    assert interrupted.status == 130
    assert interrupted.out == ""
    assert interrupted.err.splitlines()[1:] == [
        "mtlbench: interrupted; the same command goes on from here"
    ]
    wait_until(lambda: not any(map(at_work, below)), seconds=180, what="the end of Ray")
    assert written(root) == {}

    second = start_mtlbench(command)
    wait_until(lambda: epochs() == ["1", "2", "2"], what="the second epoch again")
    below = descendants(second.pid)
    assert any(map(at_work, below))
    second.kill()
    finish(second, seconds=180)
    wait_until(lambda: not any(map(at_work, below)), seconds=180, what="the end of Ray")
    assert written(root) == {}

    (tmp_path / "open").touch()
    last = here(command, capsys)
    assert last.status == 0, last.err
    assert epochs() == ["1", "2", "2", "2", "3"]  # the first epoch was trained once
    assert not (root / ".unfinished").exists()

    PluginFile.read(plugin).load()
    overrides = dict(option.split("=") for option in TINY_OPTIONS if "=" in option)
    (spec,) = plan(
        "digits",
        strategies=["ilt+gated"],
        variants=["left@0.4"],
        seeds=1,
        overrides={**overrides, "epochs": 3},
    )
    whole = Store(tmp_path / "whole").write(trained(spec))
    (path,) = Store(root).run_directories()
    assert path.name == whole.name
    assert (path / HISTORY_FILE).read_bytes() == (whole / HISTORY_FILE).read_bytes()
    assert (path / INSTANCE_FILE).read_bytes() == (whole / INSTANCE_FILE).read_bytes()
    assert read_run(path).info["metrics"] == read_run(whole).info["metrics"]


def test_a_run_that_is_told_to_end_ends_as_by_ctrl_c(cluster_address: str, tmp_path: Path) -> None:
    root, plugin = tmp_path / "runs", gated_plugin(tmp_path)
    command = ["run", "digits", *TINY_OPTIONS, "--strategies", "gated", "--seeds", "1"]
    command += ["--variants", "clean", "--plugin", str(plugin), "--results", str(root)]
    command += ["--address", cluster_address]
    process = start_mtlbench(command)
    wait_until((tmp_path / "epochs").exists, what="the first epoch")
    process.send_signal(signal.SIGTERM)  # as a batch system does
    ended = finish(process, seconds=180)
    assert ended.status == 128 + signal.SIGTERM
    assert ended.err.splitlines()[1:] == [
        "mtlbench: interrupted; the same command goes on from here"
    ]


def test_two_commands_on_one_directory_and_one_cluster_train_every_run_once(
    cluster_address: str, tmp_path: Path
) -> None:
    root, plugin = tmp_path / "runs", gated_plugin(tmp_path)
    command = ["run", "digits", *TINY_OPTIONS, "--strategies", "gated", "--seeds", "4"]
    command += ["--variants", "clean", "--plugin", str(plugin)]
    command += ["--results", str(root), "--address", cluster_address]
    both = [start_mtlbench(command) for _ in range(2)]
    for process in both:
        assert process.stderr
        line = process.stderr.readline()
        assert "4 runs, 0 finished before, 4 to train" in line
    (tmp_path / "open").touch()  # no run ends before both have begun
    try:
        ends = [finish(process, seconds=300) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [end.status for end in ends] == [0, 0], ends
    assert ends[0].out == ends[1].out
    assert len(written(root)) == 4
    for path in Store(root).run_directories():
        assert read_run(path, thorough=True).info["status"] == "done"
    assert (tmp_path / "epochs").read_text().split().count("1") == 4
    assert not (root / ".unfinished").exists()
    assert not (root / ".set-aside").exists()


def test_an_address_where_no_cluster_is_says_so_within_half_a_minute(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    command = ["run", *STUDY, "--results", str(root), "--address", "127.0.0.1:9"]
    refused = run_mtlbench(command, seconds=180)
    assert refused.status == 2
    assert refused.out == ""
    assert len(refused.err.splitlines()) == 1
    assert "no Ray cluster at '127.0.0.1:9'" in refused.err
    assert not root.exists()


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_a_cluster_that_wants_a_token_says_so(
    token: str, cluster_address: str, tmp_path: Path
) -> None:
    command = ["run", *STUDY, "--results", str(tmp_path / "runs"), "--address", cluster_address]
    mode = "token" if token else "disabled"
    refused = run_mtlbench(
        command,
        seconds=240,
        RAY_AUTH_MODE=mode,
        RAY_AUTH_TOKEN=token,
        HOME=str(tmp_path),
        RAY_NUM_REDIS_GET_RETRIES="2",  # else Ray knocks for 20 s
    )
    assert refused.status == 2
    assert refused.out == ""
    (line,) = refused.err.splitlines()
    assert "token" in line
    assert cluster_address in line
    assert not (tmp_path / "runs").exists()


def test_a_cluster_of_another_version_of_ray_is_told_with_both_versions(
    cluster_address: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import ray; ray.__version__ = '1.2.3'\n")
    command = ["run", *STUDY, "--results", str(tmp_path / "runs"), "--address", cluster_address]
    path = f"{tmp_path}{os.pathsep}{CHECKOUT}"
    refused = run_mtlbench(command, seconds=240, PYTHONPATH=path)
    assert refused.status == 2
    (line,) = refused.err.splitlines()
    assert "Ray: 1.2.3" in line
    assert f"Ray: {version('ray')}" in line
