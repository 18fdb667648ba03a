"""The one loop over epochs: progress, checkpoints, divergence and failure of all that trains."""

import math
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from mtlbench.errors import describe, place_of
from mtlbench.files import remove
from mtlbench.store.schema import DONE, FAILED
from mtlbench.training.checkpoint import save_tree
from mtlbench.training.job import Again, Ended, Messages, Notice, Progress
from mtlbench.training.run import Run

CHECKPOINT_SECONDS = 15.0
"""Least time between two checkpoints."""


def train(new: Callable[[], Run], checkpoint: Path | None = None) -> Messages:
    """Trains one run, giving a `Progress` after each epoch and how it `Ended` at the end.

    A checkpoint is continued from wholly or not at all: one that is damaged, or of another run,
    another version of this package or of PyTorch, is not, and the run begins anew. One that cannot
    be saved is a notice. Of several processes that train together the first one alone reads and
    writes, and has a result; all must begin anew together, in other processes.

    Args:
        new: makes the run, not started.
        checkpoint: file to continue from if it is there, and to save to.
    """
    run = new()
    try:
        run.start()
        if checkpoint is not None and run.of_first(checkpoint.exists):
            try:
                run.load_state(run.saved(checkpoint))
                yield from _epochs(run, checkpoint, most=1)
            except Exception as error:  # it may fail in the first step only
                if run.ranks is not None:
                    yield Again(describe(error))
                    return
                yield Notice(f"begins anew: {describe(error)}")
                remove(checkpoint)
                run = new()
                run.start()
        yield from _epochs(run, checkpoint)
        result = run.finish() if run.is_first else None
    except GeneratorExit:  # nobody wants more of it
        raise
    except BaseException as error:  # of a plugin, whatever it raises
        run.status, run.error = FAILED, f"{traceback.format_exc().rstrip()}{place_of(error)}\n"
        result = run.failure()
    finally:
        run.close()
    yield Ended(run.status, run.error or "", run.epoch - run.first, result)


def _epochs(
    run: Run, checkpoint: Path | None, most: float = math.inf
) -> Iterator[Progress | Notice]:
    """Trains up to so many epochs."""
    saved = time.monotonic()
    while most and run.epoch < run.end and run.status == DONE:
        run.train_epoch()
        most -= 1
        late = time.monotonic() - saved >= CHECKPOINT_SECONDS
        if checkpoint is not None and late and run.is_first:
            try:
                save_tree(checkpoint, run.state())
            except OSError as error:  # a full disk: the run goes on, and would begin earlier
                yield Notice(f"cannot save its state: {describe(error)}")
            saved = time.monotonic()
        so_far = {name: list(column) for name, column in run.history.items()}
        yield Progress(run.epoch - run.first, so_far)
