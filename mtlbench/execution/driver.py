"""The process that holds Ray and runs the pool, started by `cluster` as

    python -c "…; main(FD, FOLDER)"

with a channel to the command at file descriptor FD, and a folder for what Ray writes.

Ray ends the process that holds it when it cannot go on, puts signal handlers into it, and writes on
its terminal: none of that may happen to the command, or to a notebook. Imports no PyTorch, which
takes as long as all the rest, but for strategies that train several networks.
"""

import logging
import os
import pickle
import secrets
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from mtlbench.errors import UnfinishedError, UserError, describe
from mtlbench.execution.events import LostRayError
from mtlbench.execution.processes import end_session
from mtlbench.execution.worker import WorkerSetup

HEAD_SECONDS = "10"
"""Time that Ray itself tries to reach a head that is gone, where that was not seen before."""


@dataclass(frozen=True)
class Order:
    """The first message to the driver.

    Attributes:
        address: of a Ray cluster; this machine where None.
        cpus, gpus: what each process of a job takes; GPUs as they are where None.
        gpu_share: what a job of one process takes of one then.
        setup: what a worker is told, but for the device.
        jobs: how many there are.
    """

    address: str | None
    cpus: float
    gpus: float | None
    gpu_share: float
    setup: WorkerSetup
    jobs: int


@dataclass(frozen=True)
class Connected:
    """Ray is there.

    Attributes:
        capacity: how many workers fit.
        gpus: what each process of a job takes.
        place: of each job, in words.
    """

    capacity: int
    gpus: float
    place: str


@dataclass(frozen=True)
class Finished:
    """All jobs have ended."""


@dataclass(frozen=True)
class Stopped:
    """The pool cannot go on, and why.

    Attributes:
        reason: in words.
        lost: it is Ray that is gone, and not something that would happen again.
    """

    reason: str
    lost: bool


def main(descriptor: int, folder: str) -> None:
    """Does what it is told, and ends with the process that started it."""
    watch = threading.Thread(target=_end_with_command, args=(Path(folder),), daemon=True)
    watch.start()
    channel = Connection(descriptor)
    try:
        _work(channel.recv(), channel, folder)
    except UserError as error:
        channel.send(error)
    except (UnfinishedError, LostRayError) as error:
        channel.send(Stopped(str(error), lost=isinstance(error, LostRayError)))
    except OSError as error:
        traceback.print_exc()
        channel.send(Stopped(describe(error), lost=isinstance(error, ConnectionError)))
    except (Exception, SystemExit) as error:  # Ray raises all kinds when it is gone
        traceback.print_exc()
        channel.send(Stopped(describe(error), lost=True))
    watch.join()  # the command ends this process


def _end_with_command(folder: Path) -> None:
    """Waits for the end of the command, however it ends, and leaves nothing behind."""
    while os.read(0, 1):  # it never writes
        pass
    end_session(os.getpid(), folder)
    os._exit(0)


def _not_started(address: str | None, error: Exception) -> Exception:
    """What a person is told where Ray does not start, or does not let us in."""
    reason = describe(error)
    if address is None:
        return LostRayError(reason)
    if isinstance(error, ConnectionError):  # Ray does not say what the other side had against it
        reason += "; if it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    return UserError(f"no Ray cluster at {address!r}: {reason}")


def _cores() -> int | None:
    """The cores that this process may use, where those are not all: Ray itself would take all of a
    machine of which a batch system has given a part."""
    if not hasattr(os, "sched_getaffinity"):  # as on macOS
        return None
    allowed = len(os.sched_getaffinity(0))
    return allowed if allowed < (os.cpu_count() or allowed) else None


def _work(order: Order, channel: Connection, folder: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no calls home
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", HEAD_SECONDS)
    if order.address is None:  # else Ray keeps one in the home directory, which may not be there
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray
    from ray.job_config import JobConfig

    from mtlbench.execution.fleet import alive_nodes
    from mtlbench.execution.placement import built_for_gpus, gpus_of_a_job, place_in_words
    from mtlbench.execution.pool import Pool
    from mtlbench.plugins import load_plugins

    class OwnModules(JobConfig):
        """Workers look for modules in the working directory where the command does so: Ray would
        put it first of all."""

        def _runtime_env_has_working_dir(self) -> bool:
            return not {"", os.getcwd()} & set(sys.path)

    try:
        if order.address is None:
            ray.init(
                address="local",
                job_config=OwnModules(),
                num_cpus=_cores(),
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                _temp_dir=folder,
            )
        else:
            ray.init(
                address=order.address,
                job_config=OwnModules(),
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except Exception as error:  # of all kinds
        traceback.print_exc()
        raise _not_started(order.address, error) from error
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ray's dumps a stack
    elastic = order.address is not None
    nodes = alive_nodes()
    workers = order.setup.place.workers
    gpus = gpus_of_a_job(
        nodes if elastic or built_for_gpus() else (),
        order.cpus,
        order.gpus,
        order.gpu_share if workers == 1 else 1.0,
    )
    setup = order.setup.on("cuda" if gpus else "cpu")
    pool = Pool(order.cpus, gpus, setup, elastic=elastic, emit=channel.send)
    place = place_in_words(nodes, order.cpus, gpus, workers)
    channel.send(Connected(pool.fleet.capacity(), gpus, place))
    pool.fleet.start(order.jobs)
    jobs, store = pickle.loads(channel.recv_bytes())
    if any(job.networks > 1 for job in jobs):  # their strategies say what is trained when
        load_plugins(order.setup.plugins)
    pool.work(jobs, store)
    if elastic:
        ray.shutdown()
    channel.send(Finished())
