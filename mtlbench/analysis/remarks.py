"""Sentences under a table: which runs its means do not rest on."""

from collections import Counter, defaultdict
from collections.abc import Mapping

import pandas as pd

from mtlbench.store.schema import DIVERGED, DONE, FAILED


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
            remarks.append(f"{label}: {max(networks):.0f} networks were trained for each run")
        absent = sorted(expected - set(seeds))
        if absent:
            named = ", ".join(map(str, absent))
            remarks.append(f"{label}: {plural('seed', len(absent))} {named} missing")
    return remarks


def plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
