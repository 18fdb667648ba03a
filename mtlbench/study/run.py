"""Running a study from Python; the command line goes the same way."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mtlbench.analysis.aggregate import Comparison, compare
from mtlbench.errors import UserError, listed
from mtlbench.execution import progress
from mtlbench.execution.cluster import cluster
from mtlbench.execution.events import Event
from mtlbench.execution.resources import Resources
from mtlbench.execution.storage import Storage
from mtlbench.execution.trackers.base import Tracker
from mtlbench.execution.trackers.tracking import load, tracking
from mtlbench.plugins import PluginFile, read_plugins
from mtlbench.spec import RunSpec
from mtlbench.store import DEFAULT_RESULTS
from mtlbench.store.runs import SET_ASIDE, Store, read_run
from mtlbench.store.schema import DONE, STATUSES
from mtlbench.store.sealed import DamagedRunError
from mtlbench.study.frozen import Found, found_in
from mtlbench.study.plan import plan, require_metrics
from mtlbench.training.job import Ended, Job, run_directory
from mtlbench.training.jobs import RunJob

CPU = "cpu"
"""The device of a run that had no GPU."""


@dataclass(frozen=True)
class Outcome:
    """The runs of a study and how they ended.

    Attributes:
        specs: all its runs.
        statuses: of each of them: done, diverged, failed, and damaged or missing after all.
        left_out: how many were asked for and have nothing to start from.
        tunings: hashes of the tunings that chose the parameters of some of them.
    """

    specs: list[RunSpec]
    statuses: list[str]
    left_out: int
    tunings: frozenset[str] = frozenset()

    @property
    def all_done(self) -> bool:
        return set(self.statuses) == {DONE} and not self.left_out

    @property
    def readable(self) -> list[RunSpec]:
        """The runs that are there to be compared."""
        ended = zip(self.specs, self.statuses, strict=True)
        return [spec for spec, status in ended if status in STATUSES]


def run(
    suite: str,
    *,
    strategies: Iterable[str] | None = None,
    variants: Iterable[str] | None = None,
    seeds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    results: str | Path = DEFAULT_RESULTS,
    address: str | None = None,
    storage: str | None = None,
    cpus_per_run: float = 1.0,
    gpus_per_run: float | None = None,
    workers_per_run: int | None = None,
    instance_tables: str = "device",
    traces: bool = False,
    trackers: Sequence[str] = (),
) -> Comparison:
    """Trains what is missing of a study and compares its strategies.

    Args:
        suite: the suite's name.
        strategies, variants, seeds: the study; the suite's default study where None.
        overrides: suite parameters by name, strategy parameters as `STAGE.PARAMETER`.
        plugins: files that register further strategies or suites.
        results: the results directory.
        address: of a Ray cluster; this machine where None.
        storage: URI of a folder that all its machines reach, where checkpoints are kept, too:
            `s3://bucket/path`, `file:///shared/dir`.
        cpus_per_run, gpus_per_run: what each run takes, fractions too. 0 GPUs trains on the CPU,
            None on GPUs where there are any, with the share of one that the suite says.
        workers_per_run: processes that train each run together, on their parts of every batch, each
            with `cpus_per_run`; one for each GPU where None.
        instance_tables: where instance parameters lie: `device`, `cpu` or a directory.
        traces: keep the loss and the margin of every training instance by epoch; finished runs
            that did not are trained again.
        trackers: names of trackers that follow the runs: `tensorboard`, `wandb`, `mlflow`.

    Raises:
        UserError: anything in it that does not exist or is out of range.
    """
    outcome = run_study(
        suite,
        strategies=strategies,
        variants=variants,
        seeds=seeds,
        overrides=overrides,
        plugins=read_plugins(plugins),
        results=results,
        resources=Resources(
            address,
            cpus_per_run,
            gpus_per_run,
            instance_tables,
            workers_per_run,
            storage=storage,
        ),
        traces=traces,
        trackers=trackers,
    )
    return compare(results, suite, hashes={spec.hash for spec in outcome.specs}, tunings=())


def run_study(
    suite: str,
    *,
    strategies: Iterable[str] | None,
    variants: Iterable[str] | None,
    seeds: int | None,
    overrides: Mapping[str, Any] | None,
    plugins: Sequence[PluginFile],
    results: str | Path,
    resources: Resources,
    traces: bool | Collection[str],
    trackers: Sequence[str],
) -> Outcome:
    """Trains what is missing of a study, telling on standard error how it goes.

    Nothing is written before everything asked for has been checked.

    Args:
        suite, strategies, variants, seeds, overrides, results, trackers: as for `run`.
        plugins: loaded in every worker.
        resources: what a run takes, and where.
        traces: which runs keep them: all, none, or those of these strategies.

    Raises:
        UserError: anything in it that does not exist or is out of range.
    """
    study: dict[str, Any] = {
        "strategies": listed("strategy", strategies),
        "variants": listed("variant", variants),
        "seeds": seeds,
        "overrides": overrides,
    }
    store, known_trackers = Store(results), load(trackers)
    specs, left_out = plan_with_sources(
        suite, study, store, plugins=plugins, resources=resources, trackers=known_trackers
    )
    if not traces:
        require_metrics(specs[0])
    keeps = frozenset(spec.strategy for spec in specs) if traces is True else traces or ()
    jobs = [RunJob(spec, spec.strategy in keeps) for spec in specs]
    train_missing(
        jobs,
        store,
        suite,
        "runs",
        plugins=plugins,
        resources=resources,
        trackers=known_trackers,
    )
    return Outcome(specs, [status_of(spec, store) for spec in specs], left_out)


def status_of(spec: RunSpec, store: Store) -> str:
    """How a run ended; `missing` or `damaged` where it was changed since it was trained."""
    path = run_directory(spec, store)
    if not path.exists():
        return "missing"
    try:
        return str(read_run(path).info["status"])
    except DamagedRunError:
        return "damaged"


def plan_with_sources(
    suite: str,
    study: Mapping[str, Any],
    store: Store,
    *,
    plugins: Sequence[PluginFile],
    resources: Resources,
    trackers: Mapping[str, type[Tracker]],
) -> tuple[list[RunSpec], int]:
    """The specs of a study, with those runs trained of which it takes weights or results and that
    are not in the store; and how many are left out, because such a run gave none, which is told on
    standard error.

    Args:
        suite, study: what `plan` takes.
        store, plugins, resources, trackers: as for `train_missing`.

    Raises:
        UserError: anything in the study that does not exist or is out of range, or nothing of it is
            left.
    """
    asked: dict[str, RunSpec] = {}

    def ask(spec: RunSpec) -> Found:
        asked[spec.hash] = spec
        return {}

    specs = plan(suite, **study, found_by=ask)
    if not asked:
        return specs, 0
    sources = [RunJob(spec) for spec in asked.values()]
    if any(job.found(store) is None for job in sources):
        train_missing(
            sources,
            store,
            suite,
            "runs that others start from",
            plugins=plugins,
            resources=resources,
            trackers=trackers,
        )
    why: list[str] = []
    known = plan(suite, **study, found_by=found_in(store, why.append))
    if not known:
        raise UserError(why[0])
    for each in why:
        progress.say(f"{each}: nothing can be trained with them")
    return known, len(specs) - len(known)


def train_missing(
    jobs: Sequence[Job],
    store: Store,
    what: str,
    units: str,
    *,
    plugins: Sequence[PluginFile],
    resources: Resources,
    trackers: Mapping[str, type[Tracker]] | None = None,
) -> None:
    """Trains those jobs that are not in the store, telling on standard error how it goes.

    Args:
        jobs: all that are wanted.
        store: where they go.
        what, units: what they are for, and how to call several of them.
        plugins: loaded in every worker.
        resources: what a job takes, and where.
        trackers: follow the runs among them, by name.

    Raises:
        UserError: the store, the storage, the cluster or a tracker cannot be used.
        UnfinishedError: Ray or the cluster is gone for good.
    """
    there = os.path.isdir(store.root)  # whatever its name is
    found_before = [job.found(store) if there else None for job in jobs]
    missing = [job for job, ended in zip(jobs, found_before, strict=True) if ended is None]
    if resources.storage is not None:
        finished = {job.hash for job in jobs} - {job.hash for job in missing}
        Storage(resources.storage).prepare(finished)
    if not missing:
        found = (
            f"all {len(jobs)} {units} of this study are"
            if len(jobs) > 1
            else f"the {progress.counted(1, units)} is"
        )
        progress.say(f"nothing to do: {found} in {store.root}")
        return
    for job in missing:
        job.require_workers(resources.processes)
    require_way(missing, store)
    store.check_writable()
    with (
        cluster(resources, plugins, len(missing), max(job.gpu_share for job in missing)) as ray,
        tracking(trackers or {}, store) as (track, places),
    ):
        at_once = min(ray.capacity, len(missing))
        progress.say(
            f"{what}: {progress.counted(len(jobs), units)}, "
            f"{len(jobs) - len(missing)} finished before, {len(missing)} to train, "
            f"{at_once} at a time, each {ray.place}, into {store.root}"
        )
        elsewhere = _trained_elsewhere(found_before, on_gpus=ray.on_gpus)
        by_others = _trained_by_others(found_before, resources.processes)
        for text in filter(None, (elsewhere, by_others)):
            progress.say(text)
        for name, place in places.items():
            progress.say(f"{name}: {place}")
        with progress.show_progress(len(missing), Console(stderr=True)) as show:

            def report(event: Event) -> None:
                show(event)
                track(event)

            ray.train(missing, store, report)


def require_way(jobs: Iterable[Job], store: Store) -> None:
    """Makes sure that nothing is in the way of what jobs leave behind, before any is trained.

    Raises:
        UserError: something is.
    """
    aside = store.root / SET_ASIDE
    store.require_way(
        path for job in jobs for path in (job.path(store), job.checkpoint(store), aside / job.hash)
    )


def _trained_elsewhere(found: Iterable[Ended | None], *, on_gpus: bool) -> str:
    """A sentence where some of those finished before were trained on another kind of device."""
    devices = [ended.device for ended in found if ended is not None and ended.device]
    if on_gpus and (count := devices.count(CPU)):
        return (
            f"{count} finished before {_was(count)} trained on a CPU: on a GPU the same spec has "
            "other last digits; --gpus-per-run 0 goes on without one"
        )
    if not on_gpus and (count := len(devices) - devices.count(CPU)):
        card = next(device for device in devices if device != CPU)
        return (
            f"{count} finished before {_was(count)} trained on {card}: on a CPU the same spec "
            "has other last digits"
        )
    return ""


def _trained_by_others(found: Iterable[Ended | None], workers: int) -> str:
    """A sentence where some of those finished before were trained by another number of
    processes."""
    numbers = [ended.workers for ended in found if ended is not None and ended.workers]
    others = [number for number in numbers if number != workers]
    if not others:
        return ""
    by = "a process alone" if others[0] == 1 else f"{others[0]} processes together"
    return (
        f"{len(others)} finished before {_was(len(others))} trained by {by}: by "
        f"{'one' if workers == 1 else workers} the same spec has other last digits; "
        f"--workers-per-run {others[0]} goes on as before"
    )


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
