"""As much of Ray as the pool and its fleet need, in this process: for tests of what a command
trains, and not of the processes in which it does so."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mtlbench.execution import fleet, pool, worker
from mtlbench.execution.events import Event
from mtlbench.execution.resources import Resources
from mtlbench.execution.worker import WorkerSetup
from mtlbench.plugins import PluginFile
from mtlbench.store.runs import Store
from mtlbench.study import run
from mtlbench.training.job import Job

NODE = {
    "NodeID": f"{1:056x}", "NodeManagerHostname": "here", "Alive": True, "Resources": {"CPU": 1.0},
}  # fmt: skip


class _Method:
    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def remote(self, *given: Any) -> Any:
        """A generator is the stream of its messages; anything else is over, with a new name."""
        given = pickle.loads(pickle.dumps(given))
        return self._method(*given) or object()


class _Actor:
    def __init__(self, cls: Callable[..., Any], *given: Any) -> None:
        self._object = cls(*pickle.loads(pickle.dumps(given)))

    def __getattr__(self, name: str) -> _Method:
        return _Method(getattr(self._object, name))


class _Remote:
    def __init__(self, cls: Callable[..., Any]) -> None:
        self._cls = cls

    def options(self, **placement: Any) -> "_Remote":
        return self

    def remote(self, *given: Any) -> _Actor:
        return _Actor(self._cls, *given)


class _Ray:
    """The functions of `ray` that they call."""

    remote = _Remote

    @staticmethod
    def get(message: Any) -> Any:
        return message

    @staticmethod
    def kill(handle: _Actor) -> None:
        pass


class ClusterHere:
    """As `execution.cluster.Cluster`: one worker, which is this process."""

    capacity, place, on_gpus = 1, "in this process", False

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup

    def train(self, jobs: Sequence[Job], store: Store, report: Callable[[Event], None]) -> None:
        trained = pool.Pool(1.0, 0.0, self._setup, elastic=False, emit=report)
        assert trained.fleet.capacity() == 1
        trained.fleet.start(len(jobs))
        trained.work(*pickle.loads(pickle.dumps((jobs, store))))


@contextmanager
def cluster_here(
    resources: Resources, plugins: Sequence[PluginFile], jobs: int, gpu_share: float
) -> Iterator[ClusterHere]:
    assert resources.processes == 1
    yield ClusterHere(resources.setup(plugins).on("cpu"))


def train_here(setattr: Callable[[Any, str, Any], None]) -> None:
    """Lets commands of this process train in it.

    Args:
        setattr: that of a `pytest.MonkeyPatch`.
    """
    setattr(run, "cluster", cluster_here)
    for module in (fleet, pool):
        setattr(module, "ray", _Ray)
    setattr(pool, "ready", list)
    setattr(fleet, "alive_nodes", lambda: [NODE])
    setattr(worker, "keep_freed_memory", lambda: None)  # it would hold for all tests to come
