"""Several processes with parts of every batch train a run as one process does."""

import io
import multiprocessing
import os
import re
import socket
import traceback
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import float64_suite  # noqa: F401 (registers it)
import numpy as np
import pytest
import torch
import torch.distributed as dist

from mtlbench.errors import UserError
from mtlbench.spec import RunSpec
from mtlbench.store.schema import DONE, FAILED
from mtlbench.strategies.base import strategies
from mtlbench.study.plan import plan
from mtlbench.training import loop
from mtlbench.training.job import Ended, Job, Notice, Place
from mtlbench.training.jobs import FoldJob, RunJob
from mtlbench.training.single_task import TaskJob
from mtlbench.training.whole_batch import part_of

SUITE = "in-float64"

Form = tuple[str, dict[str, Any]]

ONE_NETWORK = [
    entry for entry in strategies.entries() if entry.name not in ("single", "evolution", "frozen")
]
FORMS: list[Form] = [
    *((entry.name, {}) for entry in ONE_NETWORK),
    *((name, {}) for name in ("ilt+mtu", "ilt+pcgrad", "elr+log", "log+mgda")),
    *((name, {}) for name in ("l2rw+mgda", "samo+fairgrad")),
    ("data-parameters+mgda", {"data-parameters.level": "joint"}),
    ("mgda", {"mgda.every": 2}),
    *((name, {f"{name}.on": "representation"}) for name in ("mgda", "graddrop", "pcgrad")),
]


def spec_of(form: Form, **overrides: Any) -> RunSpec:
    name, parameters = form
    (spec,) = plan(
        SUITE,
        strategies=[name],
        seeds=1,
        overrides={**overrides, **parameters},
        found_by=lambda spec: {},
    )
    return spec


JOBS: dict[str, Any] = {
    **{str(form): lambda form=form: RunJob(spec_of(form)) for form in FORMS},
    "traces": lambda: RunJob(spec_of(("ilt+mgda", {})), traces=True),
    "rule best": lambda: RunJob(spec_of(("equal", {}), epoch_rule="best")),
    "rule mean": lambda: RunJob(spec_of(("equal", {}), epoch_rule="mean:2")),
    "single": lambda: TaskJob(spec_of(("single", {})), "height", 1),
    "fold": lambda: FoldJob(spec_of(("equal", {})), 1),
    "draws by itself": lambda: RunJob(spec_of(("equal", {}), draws=True)),
}
"""What is trained, by name."""

OF_FOUR = ["('equal', {})", "('ilt+mtu', {})", "('mgda', {})", "('elr', {})", "traces"]
OF_FOUR += ["('data-parameters', {})", "('graddrop', {'graddrop.on': 'representation'})"]


def plain(result: Any) -> dict[str, Any]:
    """What came out, in values that a file can hold."""
    if isinstance(result, bytes):
        return {"bytes": torch.frombuffer(bytearray(result), dtype=torch.uint8)}
    arrays = {**result.instance_parameters, **result.predictions, **result.traces}
    return {
        "status": result.info["status"],
        "error": result.info["error"],
        "workers": result.info["workers"],
        "history": result.history,
        "metrics": {f"{m['task']}/{m['metric']}": m["value"] for m in result.info["metrics"]},
        "arrays": {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()},
    }


def ended(messages: Iterable[Any]) -> Ended:
    """How a training ended."""
    *_, last = messages
    assert isinstance(last, Ended)
    return last


def work(rank: int, size: int, port: int, directory: str, names: Sequence[str]) -> None:
    """One of several processes: the first leaves what came out in a file."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=size, timeout=timedelta(seconds=120))
    place, results = Place(workers=size), {}
    for name in names:
        try:
            last = ended(JOBS[name]().train(place, None))
            results[name] = plain(last.result) if last.result is not None else last.error
        except Exception:
            results[name] = traceback.format_exc()
    if size == 2:
        results |= resumed(place, Path(directory) / "checkpoint")
    if rank == 0:
        torch.save(results, Path(directory) / "results.pt")
    dist.barrier()
    os._exit(0)


def resumed(place: Place, checkpoint: Path) -> dict[str, Any]:
    """A run that was interrupted after its first epoch, and one that was not."""
    loop.CHECKPOINT_SECONDS = 0.0
    job = RunJob(spec_of(("ilt+mtu", {}), epochs=3))
    messages = job.train(place, checkpoint)
    next(messages)
    messages.close()
    dist.barrier()
    *said, last = job.train(place, checkpoint)
    whole = ended(job.train(place, None))
    damaged = [type(message).__name__ for message in job.train(place, garbage(checkpoint))]
    results = {"said": [type(message).__name__ for message in said], "damaged": damaged}
    if last.result is not None:
        kept = torch.frombuffer(bytearray(checkpoint.read_bytes()), dtype=torch.uint8)
        results |= {"resumed": plain(last.result), "whole": plain(whole.result)}
        results["checkpoint"] = kept
    return results


def garbage(checkpoint: Path) -> Path:
    """A file beside it that is no checkpoint, made by the first process."""
    path = checkpoint.with_name("garbage")
    if dist.get_rank() == 0:
        path.write_bytes(b"nothing")
    dist.barrier()
    return path


def trained_by(size: int, names: Sequence[str], directory: Path) -> dict[str, Any]:
    """What came out of jobs that so many processes trained together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")  # which imports PyTorch once for all
    context.set_forkserver_preload(["mtlbench.training.run", "mtlbench.strategies"])
    arguments = [(rank, size, port, str(directory), names) for rank in range(size)]
    processes = [context.Process(target=work, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    results: dict[str, Any] = torch.load(directory / "results.pt", weights_only=True)
    return results


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained_by(2, list(JOBS), tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def of_four(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of the last batch, of two instances, two of them have none."""
    return trained_by(4, OF_FOUR, tmp_path_factory.mktemp("four"))


def require_same(found: dict[str, Any], expected: dict[str, Any], name: str) -> None:
    """Makes sure that two trainings gave the same numbers to rounding in float64.

    Instance parameters are kept in float16, traces too: there they may be a unit apart.
    """
    assert found["status"] == expected["status"] == DONE
    assert list(found["history"]) == list(expected["history"])
    for what in ("history", "metrics"):
        for key, values in expected[what].items():
            np.testing.assert_allclose(
                found[what][key], values, rtol=1e-6 if "validation" in key else 1e-9, err_msg=key
            )
    for key, values in expected["arrays"].items():
        torch.testing.assert_close(
            found["arrays"][key], values, rtol=2e-3, atol=1e-5, equal_nan=True, msg=f"{name} {key}"
        )


@pytest.mark.parametrize("name", [*JOBS][:-2])
def test_two_processes_train_as_one(name: str, of_two: dict[str, Any]) -> None:
    expected = ended(JOBS[name]().train(Place(), None))
    require_same(of_two[name], plain(expected.result), name)
    assert of_two[name]["workers"] == 2


@pytest.mark.parametrize("name", OF_FOUR)
def test_processes_without_an_instance_of_a_batch_train_along(
    name: str, of_four: dict[str, Any]
) -> None:
    require_same(of_four[name], plain(ended(JOBS[name]().train(Place(), None)).result), name)


def test_the_first_process_keeps_what_a_fold_predicts(of_two: dict[str, Any]) -> None:
    with np.load(io.BytesIO(of_two["fold"]["bytes"].numpy().tobytes())) as found:
        expected = ended(JOBS["fold"]().train(Place(), None)).result
        with np.load(io.BytesIO(expected)) as alone:
            assert found["rows"].tolist() == alone["rows"].tolist()
            np.testing.assert_allclose(
                found["probability/kind"], alone["probability/kind"], rtol=1e-6
            )


def test_a_network_that_draws_in_its_own_way_is_refused(of_two: dict[str, Any]) -> None:
    assert of_two["draws by itself"]["status"] == FAILED
    assert "train with --workers-per-run 1" in of_two["draws by itself"]["error"]


def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(of_two: dict[str, Any]) -> None:
    assert of_two["said"] == ["Progress", "Progress"]  # the epochs that were left
    assert of_two["resumed"]["history"] == of_two["whole"]["history"]
    assert of_two["resumed"]["metrics"] == of_two["whole"]["metrics"]


def test_a_damaged_checkpoint_is_told_by_all_who_then_begin_anew(of_two: dict[str, Any]) -> None:
    assert of_two["damaged"] == ["Again"]


def test_a_checkpoint_of_another_number_of_processes_is_not_gone_on_from(
    of_two: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_bytes(of_two["checkpoint"].numpy().tobytes())
    first, *_ = RunJob(spec_of(("ilt+mtu", {}), epochs=3)).train(Place(), checkpoint)
    assert isinstance(first, Notice)
    assert "its workers is 2, and not 1" in first.text


@pytest.mark.parametrize(
    ("job", "workers", "said"),
    [
        (RunJob(spec_of(("equal", {}), batch_size=3)), 4, "batch_size is 3, too small for 4"),
        (FoldJob(spec_of(("equal", {}), batch_size=3), 0), 4, "batch_size is 3, too small for 4"),
    ],
)
def test_what_several_processes_cannot_train_is_refused(job: Job, workers: int, said: str) -> None:
    job.require_workers(1)
    with pytest.raises(UserError, match=re.escape(said)):
        job.require_workers(workers)


@pytest.mark.parametrize(("whole", "size"), [(9, 2), (10, 4), (2, 4), (4, 4)])
def test_parts_follow_one_another_and_differ_by_a_row(whole: int, size: int) -> None:
    parts = [part_of(whole, rank, size) for rank in range(size)]
    rows = [list(range(whole))[p.first : p.first + p.count] for p in parts]
    assert [row for some in rows for row in some] == list(range(whole))
    assert max(p.count for p in parts) - min(p.count for p in parts) <= 1
    assert all(len(range(whole)[p.rows]) >= 1 for p in parts)
