"""Running a study from Python; the command line goes the same way."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mtlbench import executor, progress
from mtlbench.analysis.aggregate import Comparison, compare
from mtlbench.executor import Event, Resources
from mtlbench.registry import PluginFile, load_plugins
from mtlbench.store import Store, read_run
from mtlbench.study import RunSpec, plan
from mtlbench.trackers.tracking import load, tracking


@dataclass(frozen=True)
class Outcome:
    """What a study came to.

    Attributes:
        specs: all its runs.
        statuses: how many of them are done, diverged and failed.
    """

    specs: list[RunSpec]
    statuses: Counter[str]

    @property
    def all_done(self) -> bool:
        return self.statuses["done"] == len(self.specs)


def run(
    suite: str,
    *,
    strategies: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
    seeds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    results: str | Path = "runs",
    address: str | None = None,
    cpus_per_run: float = 1.0,
    gpus_per_run: float = 0.0,
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
        cpus_per_run, gpus_per_run: what each run takes, fractions too.
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
        plugins=load_plugins(plugins),
        results=results,
        resources=Resources(address, cpus_per_run, gpus_per_run, instance_tables, traces),
        trackers=trackers,
    )
    return compare(results, suite, hashes={spec.hash for spec in outcome.specs})


def run_study(
    suite: str,
    *,
    strategies: Sequence[str] | None,
    variants: Sequence[str] | None,
    seeds: int | None,
    overrides: Mapping[str, Any] | None,
    plugins: Sequence[PluginFile],
    results: str | Path,
    resources: Resources,
    trackers: Sequence[str],
) -> Outcome:
    """Trains what is missing of a study, telling on standard error how it goes.

    Nothing is written before everything asked for has been checked.

    Raises:
        UserError: anything in it that does not exist or is out of range.
    """
    specs = plan(suite, strategies=strategies, variants=variants, seeds=seeds, overrides=overrides)
    kinds = load(trackers)
    store = Store(results)
    store.check_writable()
    there = executor.survey(specs, store, resources)
    if not there.missing:
        progress.say(f"nothing to do: all {len(specs)} runs of this study are in {store.root}")
        return Outcome(specs, _statuses(specs, store))
    with tracking(kinds, store) as (track, places), executor.cluster(resources) as fits:
        store.root.mkdir(parents=True, exist_ok=True)
        for text in executor.set_aside(there.unusable, store, resources):
            progress.say(text)
        parallel = min(fits, len(there.missing))
        progress.say(
            f"{suite}: {len(specs)} runs, {len(there.finished)} finished before, "
            f"{len(there.missing)} to train, {parallel} at a time, into {store.root}"
        )
        for name, place in places.items():
            progress.say(f"{name}: {place}")
        with progress.show_progress(len(there.missing), Console(stderr=True)) as show:

            def report(event: Event) -> None:
                show(event)
                track(event)

            executor.execute(
                there.missing, store, parallel, plugins=plugins, resources=resources, report=report
            )
    return Outcome(specs, _statuses(specs, store))


def _statuses(specs: Sequence[RunSpec], store: Store) -> Counter[str]:
    directories = (executor.run_directory(spec, store) for spec in specs)
    return Counter(read_run(path).info["status"] for path in directories if path.exists())
