"""Where jobs train when nobody says: on GPUs, where a machine has room on one."""

from pathlib import Path

import pytest
import torch
from conftest import TINY_OPTIONS, run_mtlbench, start_host

from mtlbench.execution.placement import gpus_of_a_job, place_in_words, room
from mtlbench.suites.base import suites


def machine(cpus: float, gpus: float = 0, kind: str = "") -> dict:
    """A machine as Ray describes it; Ray leaves out what there is none of."""
    resources = {"memory": 1e9, "node:10.0.0.1": 1.0}
    resources |= {name: count for name, count in (("CPU", cpus), ("GPU", gpus)) if count}
    return {"Resources": resources | ({f"accelerator_type:{kind}": 1.0} if kind else {})}


H100 = machine(16, 1, "H100")


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "share", "taken"),
    [
        ([machine(8)], 1, None, 1 / 8, 0),
        ([H100], 1, None, 1 / 8, 1 / 8),
        ([H100], 1, 0.0, 1 / 8, 0),
        ([H100], 1, 0.5, 1 / 8, 0.5),
        ([machine(64), H100], 1, None, 1, 1),  # one machine with a GPU is enough
        ([machine(64), machine(1, 1)], 4, None, 1, 0),  # its CPUs have no room for a run
        ([machine(64), machine(0, 1)], 1, None, 1, 0),
        ([machine(8, 1)], 1, None, 2, 0),  # a suite of two GPUs a run, on one
        ([], 1, None, 1, 0),
    ],
)
def test_a_run_takes_its_share_of_a_gpu_where_a_machine_has_room_for_it(
    nodes: list, cpus: float, gpus: float | None, share: float, taken: float
) -> None:
    assert gpus_of_a_job(nodes, cpus, gpus, share) == taken


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "count"),
    [
        (H100, 1, 1 / 8, 8),
        (H100, 4, 1 / 8, 4),  # the CPUs limit
        (machine(2, 8), 1, 1 / 8, 2),
        (machine(16, 4), 1, 2, 2),
        (machine(16), 1, 1 / 8, 0),  # a machine without one takes no such run
        (machine(16), 0.5, 0, 32),
        (machine(16, 1), 0.1, 0.1, 10),
    ],
)
def test_cpus_and_gpus_together_say_how_many_runs_fit(
    node: dict, cpus: float, gpus: float, count: int
) -> None:
    assert room(node, {"CPU": cpus, "GPU": gpus}) == count


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "words"),
    [
        ([machine(2)], 1, 0, "with 1 CPU"),
        ([H100], 0.5, 0, "with 0.5 CPU"),
        ([H100], 2, 0, "with 2 CPUs"),
        ([H100], 1, 1 / 8, "on 1/8 of an NVIDIA H100 and 1 CPU"),
        ([H100], 1, 0.3333, "on 1/3 of an NVIDIA H100 and 1 CPU"),
        ([H100], 1, 0.3, "on 0.3 of an NVIDIA H100 and 1 CPU"),
        ([H100], 4, 1, "on an NVIDIA H100 and 4 CPUs"),
        ([machine(16, 8, "A100")], 1, 2, "on 2 of NVIDIA A100 and 1 CPU"),
        ([machine(16, 1)], 1, 1, "on a GPU and 1 CPU"),
        ([machine(16, 1, "G")], 1, 0.5, "on 1/2 of a GPU and 1 CPU"),  # of a GeForce
        ([machine(16, 1, "AMD-Instinct-MI100")], 1, 1, "on an AMD-Instinct-MI100 and 1 CPU"),
        (
            [machine(16, 1, "T4"), H100, machine(64)],
            1,
            1,
            "on an NVIDIA H100 or NVIDIA T4 and 1 CPU",
        ),
    ],
)
def test_the_place_of_a_run_is_told_in_words(
    nodes: list, cpus: float, gpus: float, words: str
) -> None:
    assert place_in_words(nodes, cpus, gpus) == words


def test_small_suites_share_a_gpu_and_large_ones_take_one() -> None:
    shares = {entry.name: entry.cls.gpu_share for entry in suites.entries()}
    assert shares["digits"] == shares["streets"] == shares["yeast"] == 1 / 8
    assert shares["bodies"] == 1 / 4
    assert shares["cityscapes"] == shares["surreal"] == shares["nyuv2"] == 1


WITH_GPUS = """
import os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
del os.environ["CUDA_VISIBLE_DEVICES"]
import ray
ray.init(
    address="local", num_cpus=4, num_gpus=1, resources={"accelerator_type:H100": 1},
    include_dashboard=False, log_to_driver=False,
)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="pretends that there is one")
def test_a_cluster_with_a_gpu_trains_on_it_unless_told_not_to(tmp_path: Path) -> None:
    """The GPU is one that Ray only believes in: on the CPU, all works; on the GPU, nothing."""
    host = start_host(WITH_GPUS)
    assert host.stdin
    assert host.stdout
    address = host.stdout.readline().strip()
    command = ["run", "digits", *TINY_OPTIONS, "--epochs", "1", "--strategies", "equal"]
    command += ["--variants", "clean", "--seeds", "1", "--address", address]
    command += ["--results", str(tmp_path / "runs")]
    try:
        on_gpu = run_mtlbench(command, CUDA_VISIBLE_DEVICES="")
        assert on_gpu.status == 2
        first, error = on_gpu.err.splitlines()
        assert "1 at a time, each on 1/8 of an NVIDIA H100 and 1 CPU, into" in first
        assert error.startswith("mtlbench: error: ")
        assert "its PyTorch sees no GPU; --gpus-per-run 0 trains on CPUs" in error
        assert not (tmp_path / "runs").exists()
        on_cpu = run_mtlbench([*command, "--gpus-per-run", "0"])
        assert on_cpu.status == 0, on_cpu.err
        assert "1 at a time, each with 1 CPU, into" in on_cpu.err.splitlines()[0]
        mixed = run_mtlbench([*command[:-4], "--seeds", "2", *command[-4:]])
        assert mixed.status == 2
        _, notice, error = mixed.err.splitlines()
        assert notice == (
            "1 finished before was trained on a CPU: on a GPU the same spec has other last digits; "
            "--gpus-per-run 0 goes on without one"
        )
    finally:
        host.stdin.close()
        host.wait(timeout=60)
