"""The processor that a run was trained on.

Sums are rounded in another order by other vector instructions, so the same spec gives the same bits
on one kind of processor, and other last digits on another.
"""

import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")
UNKNOWN = ("", "unknown", "-")


@cache
def processor_name() -> str:
    """The model's name, such as "AMD EPYC 7763 64-Core Processor"; the architecture where the
    operating system tells no more."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip() not in UNKNOWN:
                return value.strip()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if told:
            return told
    return platform.processor() or platform.machine()


def instruction_set() -> str:
    """The vector instructions that PyTorch uses, such as "AVX2" or "AVX512"."""
    return torch.backends.cpu.get_cpu_capability()
