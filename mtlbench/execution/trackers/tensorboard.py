"""TensorBoard: event files under `<results>/.tensorboard/<suite>/<variant>/<strategy>/`."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import hparams, scalar, text

from mtlbench.execution.trackers.base import Ending, TrackedRun, Tracker
from mtlbench.store.schema import DONE


class TensorBoard(Tracker):
    """Epochs are scalars, tags and parameters are hyperparameters, the status is a text."""

    def __init__(self, results: Path) -> None:
        self.directory = results / ".tensorboard"
        self.place = f"tensorboard --logdir {self.directory}"
        self.writers: dict[str, FileWriter] = {}

    def start(self, run: TrackedRun) -> int:
        spec = run.spec
        directory = self.directory / spec.suite / spec.variant / spec.strategy
        directory /= f"seed-{spec.seed}-{spec.hash}"
        # Of an interrupted run all epochs come again, and event files cannot be shortened.
        shutil.rmtree(directory, ignore_errors=True)
        writer = self.writers[run.key] = FileWriter(str(directory))
        values = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in (run.parameters | run.tags).items()
        }
        # Without a summary of the whole experiment, TensorBoard gathers its columns from all runs.
        _, session_start, _ = hparams(values, {})
        writer.add_summary(session_start)
        writer.flush()
        return 0

    def log(self, run: TrackedRun, epoch: int, values: Mapping[str, float]) -> None:
        writer = self.writers[run.key]
        for name, value in values.items():
            if name != "epoch":  # that is the step
                writer.add_summary(scalar(name, value), epoch)
        writer.flush()

    def end(self, run: TrackedRun, ending: Ending) -> None:
        writer = self.writers.pop(run.key)
        for name, value in ending.metrics.items():
            writer.add_summary(scalar(name, value), ending.epoch)
        writer.add_summary(text("status", ending.status), ending.epoch)
        if ending.error:
            writer.add_summary(text("error", ending.error), ending.epoch)
        writer.add_summary(_session_end(ending.status == DONE))
        writer.close()

    def stop(self, run: TrackedRun) -> None:
        self.writers.pop(run.key).close()


def _session_end(success: bool) -> Summary:
    """The entry of the table of hyperparameters that holds a run's end."""
    status = Status.Value("STATUS_SUCCESS" if success else "STATUS_FAILURE")
    data = HParamsPluginData(
        session_end_info=SessionEndInfo(status=status), version=metadata.PLUGIN_DATA_VERSION
    )
    return Summary(
        value=[
            Summary.Value(
                tag=metadata.SESSION_END_INFO_TAG,
                metadata=metadata.create_summary_metadata(data),
                tensor=metadata.NULL_TENSOR,
            )
        ]
    )


TRACKER = TensorBoard
