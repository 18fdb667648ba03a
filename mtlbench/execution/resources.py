"""Resources of a job: cores, GPUs, and the cluster that has them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from mtlbench.errors import UserError, shortened
from mtlbench.execution.storage import Storage
from mtlbench.execution.worker import WorkerSetup, own_versions
from mtlbench.plugins import PluginFile
from mtlbench.strategies.table import ON_DEVICE, check_place
from mtlbench.training.job import Place

SMALLEST_SHARE = 0.01
"""Of a core or a GPU: a hundred jobs on one are more than fit into memory."""

AUTO = "auto"
"""The address of the cluster that this machine belongs to, wherever its head is."""


def host_and_port(address: str) -> tuple[str, int] | None:
    """The parts of `HOST:PORT`, with brackets around the host where it has colons; else None."""
    parts = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[\w.-]+):([0-9]{1,5})", address, re.ASCII)
    if parts is None or not 0 < int(parts[2]) < 2**16:
        return None
    return parts[1].strip("[]"), int(parts[2])


@dataclass(frozen=True)
class Resources:
    """Resources of one job.

    Attributes:
        address: of a Ray cluster, `HOST:PORT` or `auto`; this machine where None.
        storage: URI of a folder that all its machines reach, where checkpoints are kept, too; see
            `Storage`.
        cpus: cores of each process of a job, fractions too; it computes with so many threads, at
            least one.
        gpus: GPUs a job, fractions too; 0 trains on the CPU, and None on GPUs where there are any,
            with the share of one that the suite says, or one for each of several processes.
        instance_tables: where instance parameters lie while a job is trained: `device` beside the
            network, `cpu`, or a directory for memory-mapped files.
        workers: processes that train a job together, each on its part of every batch; one for each
            GPU where None.

    Raises:
        UserError: a number that no machine can give, or no such place.
    """

    address: str | None = None
    storage: str | None = field(default=None, kw_only=True)
    cpus: float = 1.0
    gpus: float | None = None
    instance_tables: str = ON_DEVICE
    workers: int | None = None

    @property
    def processes(self) -> int:
        """How many train a job together."""
        return self.workers or max(1, int(self.gpus or 1))

    @property
    def gpus_each(self) -> float | None:
        """GPUs of each of them; None where nobody said."""
        return None if self.gpus is None else self.gpus / self.processes

    def setup(self, plugins: Sequence[PluginFile]) -> WorkerSetup:
        """The setup of a worker; on which kind of device is known when Ray is there."""
        threads = max(1, int(self.cpus))
        place = Place(instance_tables=self.instance_tables, workers=self.processes)
        return WorkerSetup(tuple(plugins), threads, place, own_versions(), self.storage or "")

    def __post_init__(self) -> None:
        if (
            self.address is not None
            and self.address != AUTO
            and host_and_port(self.address) is None
        ):
            client = str(self.address).startswith("ray://")
            raise UserError(
                f"no Ray cluster at {shortened(repr(self.address))}: "
                + ("Ray's client cannot do all that is needed; from " if client else "on ")
                + "a machine of the cluster, give HOST:PORT of its head, or auto"
            )
        try:
            check_place(self.instance_tables)
        except ValueError as error:
            raise UserError(str(error)) from error
        if self.storage is not None:
            Storage(self.storage)
        if not self.cpus > 0:
            raise UserError(f"cpus per run must be above 0, but is {self.cpus:g}")
        if self.gpus is not None and not self.gpus >= 0:
            raise UserError(f"gpus per run must be at least 0, but is {self.gpus:g}")
        for name, count in (("cpus", self.cpus), ("gpus", self.gpus or 0.0)):
            if not math.isfinite(count) or (count > 1 and count != int(count)):
                raise UserError(f"{name} per run above 1 must be whole, but is {count:g}")
            if 0 < count < SMALLEST_SHARE:
                raise UserError(
                    f"{name} per run must be at least {SMALLEST_SHARE:g}, but is {count:g}"
                )
        workers = self.workers
        if workers is None:
            return
        if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
            raise UserError(f"workers per run must be a whole number above 0, but is {workers!r}")
        if workers > 1 and self.gpus and self.gpus % workers:
            raise UserError(
                f"each of {workers} workers per run takes whole GPUs: gpus per run must be auto, 0 "
                f"or {workers}, {2 * workers}, …, but is {self.gpus:g}"
            )
