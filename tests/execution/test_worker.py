"""What every process that trains is set up with."""

import subprocess
import sys

import pytest

from mtlbench.execution.resources import Resources
from mtlbench.plugins import PluginFile

COUNT_FAULTS = """
import resource, sys
import numpy as np
from mtlbench.execution.worker import keep_freed_memory

if "keep" in sys.argv:
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    [np.ones(2**20, np.uint8) for _ in range(10)]  # 1 MiB each, freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*arguments: str) -> int:
    command = [sys.executable, "-c", COUNT_FAULTS, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of glibc")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    kept, given_back = page_faults("keep"), page_faults()
    assert kept < given_back / 4


def test_a_worker_computes_with_whole_threads_and_at_least_one(tmp_path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text("")
    files = [PluginFile.read(plugin)]
    assert Resources(cpus=0.5).setup(files).threads == 1
    assert Resources(cpus=3).setup(files).threads == 3
    assert Resources().setup(files).plugins == tuple(files)
