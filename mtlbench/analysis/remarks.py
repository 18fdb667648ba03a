"""Sentences under a table: which runs its means do not rest on."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from mtlbench.analysis.settings import names_data
from mtlbench.stages import SEES_VALIDATION
from mtlbench.store.schema import DIVERGED, DONE, FAILED
from mtlbench.store.trials import Tuning
from mtlbench.tasks.epoch_rule import EpochRule


def remarks_on(table: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """Sentences about what one variant's means do not rest on.

    Args:
        table: rows of one variant, as from `selection.select`.
        labels: what printed tables call each configuration.
    """
    expected = set(table["seed"])
    lost = table[(table["status"] == DONE) & table["metric"].notna() & table["value"].isna()]
    not_finite = Counter(
        zip(lost["configuration"], lost["task"], lost["metric_label"], strict=True)
    )
    runs: dict[str, list[tuple[str, int, float]]] = defaultdict(list)
    first = table.drop_duplicates(["configuration", "hash"])
    columns = (first[name] for name in ("status", "seed", "networks"))
    for configuration, *run in zip(first["configuration"], *columns, strict=True):
        runs[configuration].append(tuple(run))
    remarks = []
    of_many: dict[int, list[str]] = defaultdict(list)
    without: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for configuration, of_one in runs.items():
        label = labels[configuration]
        statuses, seeds, networks = zip(*of_one, strict=True)
        of_runs = f"of {len(of_one)} {plural('run', len(of_one))}"
        for status in (DIVERGED, FAILED):
            if status in statuses:
                remarks.append(f"{label}: {statuses.count(status)} {of_runs} {status}")
        for (whose, task, metric), count in not_finite.items():
            if whose == configuration:
                remarks.append(f"{label}: {metric} of {task} is not finite in {count} {of_runs}")
        if max(networks) > 1:
            of_many[round(max(networks))].append(label)
        if absent := tuple(sorted(expected - set(seeds))):
            without[absent].append(label)
    remarks += [
        f"{', '.join(whose)}: {plural('seed', len(absent))} {', '.join(map(str, absent))} missing"
        for absent, whose in without.items()
    ]
    many = [
        f"{', '.join(whose)}: {count} networks were trained for each run"
        for count, whose in of_many.items()
    ]
    return [
        *_on_data(first["settings"]),
        *_epochs(first, labels),
        *_devices(first),
        *remarks,
        *many,
        *on_validation_labels(labels.values()),
    ]


def _on_data(settings: Iterable[str]) -> Iterator[str]:
    """Runs on different data say nothing about strategies."""
    if any(map(names_data, settings)):
        yield (
            "the data of the suite has changed between runs (data=…): only rows with the same data "
            "can be compared; the command that trained them trains anew those of the old data"
        )


def on_validation_labels(labels: Iterable[str]) -> Iterator[str]:
    """What it means that some labels have the mark of those who see validation labels."""
    if any(SEES_VALIDATION in label for label in labels):
        yield (
            f"{SEES_VALIDATION} sees validation labels, which are never corrupted, while it trains"
        )


def _devices(runs: pd.DataFrame) -> Iterator[str]:
    """Runs of one seed are the same up to rounding where they begin, and no further."""
    counts = Counter(runs.loc[runs["status"] == DONE, "device"].dropna())
    if len(counts) > 1:
        told = ", ".join(f"{count} on {name}" for name, count in sorted(counts.items()))
        yield (
            f"the runs are of different devices ({told}), which round differently: what that moves "
            "is a matter of chance, as another seed is"
        )


def _epochs(runs: pd.DataFrame, labels: Mapping[str, str]) -> Iterator[str]:
    """Which epochs the metrics are of."""
    done = runs[runs["status"] == DONE].dropna(subset="epoch_rule")
    by_rule = done.groupby("epoch_rule", sort=False)["configuration"]
    for rule, configurations in by_rule:
        whose = ", ".join(dict.fromkeys(map(labels.__getitem__, configurations)))
        yield f"{f'{whose}: ' * (len(by_rule) > 1)}metrics {_in_words(str(rule))}"


def _in_words(rule: str) -> str:
    try:
        return str(EpochRule.parse(rule))
    except ValueError:  # of another release
        return f"by the rule {rule!r}"


def remarks_on_tuning(
    suite: str,
    variant: str,
    labels: Mapping[str, str],
    tunings: Mapping[tuple[str, str, str], Tuning],
) -> Iterator[str]:
    """What was chosen for each tuned configuration of a table, and what that took.

    Args:
        suite, variant: of the table.
        labels: what it calls each of its configurations.
        tunings: those of all configurations, by suite, variant and key.
    """
    for configuration, label in labels.items():
        tuning = tunings.get((suite, variant, configuration))
        if tuning is not None:
            chosen = tuning.chosen.parameters
            told = ", ".join(f"{name} {_shown(value)}" for name, value in chosen.items())
            count = len(tuning.points)
            networks = f" of {tuning.networks} networks" if tuning.networks > 1 else ""
            what = told or "the default parameters"
            rounds = f", halved to {_numbers(tuning.rounds[1:])}" if tuning.rounds else ""
            yield f"{label}: {what}, the best of {count} {plural('trial', count)}{rounds}{networks}"


def _numbers(counts: Sequence[int]) -> str:
    """ "4 and 2"."""
    *first, last = map(str, counts)
    return f"{', '.join(first)} and {last}" if first else last


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}:{_shown(each)}" for key, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
