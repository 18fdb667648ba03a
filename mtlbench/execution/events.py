"""Events: the pool's messages about the jobs that it trains."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mtlbench.store.runs import History
from mtlbench.store.schema import DIVERGED, DONE, FAILED
from mtlbench.training.job import Job

STARTED, EPOCH, NOTICE, WAITING = "started", "epoch", "notice", "waiting"
ENDS = (DONE, DIVERGED, FAILED)


@dataclass(frozen=True)
class Event:
    """Something that happened to a job, or to the pool.

    Attributes:
        job: which; None where a notice is about the pool.
        kind: `started`, `epoch`, `notice`, `waiting`, `done`, `diverged` or `failed`.
        epoch, epochs: how many are over, and of how many.
        seconds: since the job started here.
        text: last line of what went wrong, where `kind` is `failed`; what a person should know,
            where it is `notice` or, for want of a machine, `waiting`.
        history: of all epochs so far, where there is one.
        metrics: the final ones of a job that has ended here; None where it has ended elsewhere.
    """

    job: Job | None
    kind: str
    epoch: int = 0
    epochs: int = 0
    seconds: float = 0.0
    text: str = ""
    history: History = field(default_factory=dict)
    metrics: Sequence[dict[str, Any]] | None = None


class LostRayError(Exception):
    """Ray, or the cluster, is gone; the message says why."""
