"""Draws that have names, and kernels without chance.

Every draw in the harness has a generator of its own, named by what it is for and by what it may
depend on, so that adding a draw in one place never changes a draw in another.
"""

import hashlib
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*names: object) -> int:
    """A 63-bit seed that depends on all the names and on their order."""
    text = "/".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def named_generator(*names: object) -> torch.Generator:
    """A CPU generator seeded by `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*names))


@contextmanager
def global_draws_from(generator: torch.Generator) -> Iterator[None]:
    """Lets code that draws from PyTorch's global CPU generator draw from `generator` instead."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.get_rng_state())


@contextmanager
def global_draws_kept(devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Leaves the global generators of PyTorch (on the CPU, and on these GPUs), NumPy and Python as
    they were."""
    numpys, pythons = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(numpys)
            random.setstate(pythons)


def seed_global_draws(seed: int, *, of_devices: bool = False) -> None:
    """Seeds the global generators of PyTorch (on the CPU, or on all devices), NumPy and Python."""
    (torch.manual_seed if of_devices else torch.default_generator.manual_seed)(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def repeatable_kernels() -> None:
    """Lets this process use those kernels of a GPU that give the same bits each time.

    Where PyTorch has none for an operation, it warns and names it. Many others add up in an order
    of chance: without this, two runs of one spec differ from the first steps on.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read as CUDA starts
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else memory is filled before each use, lest what was never written be read.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
