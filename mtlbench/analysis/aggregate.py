"""Stored runs as one tidy table, and their means and standard deviations over seeds."""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mtlbench.errors import UserError, require_known
from mtlbench.store.runs import DIVERGED, DONE, FAILED, Store, StoredRun

RESULT_COLUMNS = [
    "suite", "variant", "strategy", "label", "stage", "seed", "settings", "status",
    "networks", "metric", "metric_label", "task", "unit", "direction", "value", "hash", "path",
]  # fmt: skip
SUMMARY_COLUMNS = [
    "suite", "variant", "strategy", "metric", "task", "unit", "direction", "mean", "std", "n",
]  # fmt: skip

DETECTION = "detection_accuracy"
"""The one metric that only some strategies have: those with instance parameters."""

PAPER_ORDER = ("equal", "mtu", "dwa", "gls")


@dataclass(frozen=True)
class Comparison:
    """Strategies of one suite side by side, with all that a printed table needs.

    Attributes:
        suite: the suite's name.
        variants: the variants compared, in order.
        summary: one row per (variant, strategy, metric, task), with the columns
            `SUMMARY_COLUMNS`; see `summarise`.
        labels: what printed tables call each strategy of `summary`.
        metric_labels: what printed tables call each (metric, task).
        remarks: for each variant, sentences about runs that are missing, failed or diverged.
        damaged: run directories that could not be read, as (path, what is wrong).
        runs: the rows of `load_results` for the runs compared, as `select` gives them, with all
            their metrics.
    """

    suite: str
    variants: list[str]
    summary: pd.DataFrame
    labels: dict[str, str]
    metric_labels: dict[tuple[str, str], str]
    remarks: dict[str, list[str]]
    damaged: list[tuple[str, str]]
    runs: pd.DataFrame


def compare(
    results: str | Path = "runs",
    suite: str = "digits",
    variants: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    hashes: Collection[str] | None = None,
) -> Comparison:
    """Compares the strategies of a suite over all seeds found in a results directory.

    Args:
        results: the results directory.
        suite: the suite's name.
        variants: which variants, in this order; all by default.
        strategies: which strategies; all by default.
        metrics: which metrics; all by default.
        hashes: only the runs with these hashes; all by default.

    Raises:
        UserError: there is no such directory, suite, variant, strategy or metric.
    """
    frame = load_results(results)
    if hashes is not None:
        frame = frame[frame["hash"].isin(list(hashes))]
    require_suite(frame, suite, results)
    return compare_results(frame, suite, variants, strategies, metrics=metrics)


def compare_results(
    results: pd.DataFrame,
    suite: str,
    variants: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] | None = None,
) -> Comparison:
    """The same for rows as from `load_results`."""
    runs = select(results, suite, variants, strategies)
    selected = runs if metrics is None else select(runs, suite, variants, strategies, metrics)
    names = list(selected["variant"].unique())
    return Comparison(
        suite=suite,
        variants=names,
        summary=_summary(selected),
        labels=_labels(selected),
        metric_labels=_metric_labels(selected),
        remarks={name: _remarks(selected[selected["variant"] == name]) for name in names},
        damaged=results.attrs["damaged"],
        runs=runs,
    )


def load_results(results: str | Path) -> pd.DataFrame:
    """All runs of a results directory, one row per (run, metric).

    A run without metrics (failed or diverged) has one row, whose metric is missing. The column
    `settings` tells configurations of one suite apart: it names the parameters that are not the
    same in all of its runs, as "epochs=2" or "ilt.lr=4.0, source my.py=ab12", and is empty where
    there is one configuration only. Parameters of a strategy may differ between variants by
    recipe, so those are held against runs of the same variant and strategy.

    Returns:
        A frame with the columns `RESULT_COLUMNS`. Its `attrs["damaged"]` lists the run
        directories that could not be read, as (path, what is wrong).
    """
    stored, unreadable = Store(results).require().load()
    damaged = [(str(path), what) for path, what in unreadable]
    runs: dict[str, tuple[StoredRun, tuple[Any, ...]]] = {}
    for run in stored:
        digest = str(run.info["hash"])
        try:
            identity = _identity(run)
        except (KeyError, TypeError):
            damaged.append((str(run.path), "run.json is not a run's"))
            continue
        if digest in runs:  # a copied directory: counting it would make n a lie
            damaged.append((str(run.path), f"holds the same run as {runs[digest][0].path}"))
        else:
            runs[digest] = run, identity
    identities = pd.DataFrame([identity for _, identity in runs.values()], columns=_IDENTITY)
    identities["settings"] = _settings([run.info["spec"] for run, _ in runs.values()])
    metrics = [_metrics(run) for run, _ in runs.values()]
    measured = pd.DataFrame([metric for of_run in metrics for metric in of_run], columns=_METRIC)
    repeated = identities.loc[identities.index.repeat(list(map(len, metrics)))]
    frame = pd.concat([repeated.reset_index(drop=True), measured], axis=1)[RESULT_COLUMNS]
    frame = frame.astype({"value": float})
    frame.attrs["damaged"] = sorted(damaged)
    return frame


def require_suite(results: pd.DataFrame, suite: str, where: str | Path) -> pd.DataFrame:
    """The same results, if there are runs of this suite among them.

    Raises:
        UserError: there are none; names the suites that there are.
    """
    present = sorted(set(results["suite"]))
    if suite in present:
        return results
    others = f"; it holds runs of {', '.join(map(repr, present))}" if present else ""
    raise UserError(f"no runs of suite {suite!r} in {str(where)!r}{others}")


def configured(results: pd.DataFrame) -> pd.DataFrame:
    """The same rows with one more column `configuration`: the strategy's key with its settings."""
    return results.assign(configuration=results["strategy"] + results["settings"].map(_bracketed))


def summarise(
    results: pd.DataFrame,
    suite: str,
    variants: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds, in long form.

    Configurations that differ are never averaged: each is a strategy of its own, written
    `ilt[ilt.lr=4.0]`. Only finite values of runs that are done count; where there are none, the
    mean is NaN and n is 0. The standard deviation (ddof = 1) of a single value is NaN.

    Returns:
        A frame with the columns `SUMMARY_COLUMNS`: variants in the order asked for, or `clean`
        first; strategies in the order of the paper; metrics in the order of the runs.
    """
    return _summary(select(results, suite, variants, strategies))


def select(
    results: pd.DataFrame,
    suite: str,
    variants: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The rows of one suite that are asked for, in the order in which tables show them.

    Args:
        results: rows as from `load_results`, in any order.
        suite: the suite's name.
        variants: names of variants; all by default.
        strategies: keys of strategies, with settings (`ilt[ilt.lr=4.0]`) or without, which
            stands for all settings; all by default.
        metrics: names of metrics; all by default. Runs without metrics stay, to be counted.

    Returns:
        Those rows, with one more column `configuration`: the strategy's key with its settings.

    Raises:
        UserError: a name is not among the results.
    """
    require_known("suite", [suite], results["suite"].unique())
    # The index keeps the order of loading, whatever was done to the rows since.
    frame = configured(results[results["suite"] == suite].sort_index())
    if variants is not None:
        require_known("variant", variants, frame["variant"].unique())
        frame = frame[frame["variant"].isin(list(variants))]
    if strategies is not None:
        known = [*frame["strategy"].unique(), *frame["configuration"].unique()]
        require_known("strategy", strategies, known)
        asked = list(strategies)
        frame = frame[frame["strategy"].isin(asked) | frame["configuration"].isin(asked)]
    if metrics is not None:
        require_known("metric", metrics, frame["metric"].dropna().unique())
        frame = frame[frame["metric"].isin(list(metrics)) | frame["metric"].isna()]
    if variants is None:
        variants = sorted(frame["variant"].unique(), key=_clean_first)
    place = {variant: number for number, variant in enumerate(variants)}
    first = frame.drop_duplicates("configuration")
    order = {
        configuration: (paper_order(strategy), _natural(settings))
        for configuration, strategy, settings in zip(
            first["configuration"], first["strategy"], first["settings"], strict=True
        )
    }
    keys = [
        (place[variant], order[configuration], seed)
        for variant, configuration, seed in zip(
            frame["variant"], frame["configuration"], frame["seed"], strict=True
        )
    ]
    return frame.iloc[sorted(range(len(frame)), key=keys.__getitem__)]


# --- reading one run ----------------------------------------------------------------------------


_IDENTITY = [
    "suite", "variant", "strategy", "label", "stage", "seed", "status", "networks", "hash", "path",
]  # fmt: skip
_METRIC = ["metric", "metric_label", "task", "unit", "direction", "value"]
_METRIC_KEYS = ("metric", "label", "task", "unit", "direction", "value")


def _identity(run: StoredRun) -> tuple[Any, ...]:
    """The columns `_IDENTITY`."""
    info, spec = run.info, run.info["spec"]
    return (
        spec["suite"], spec["variant"], spec["strategy"], info["label"], info.get("stage", ""),
        spec["seed"], info["status"], info.get("population", {}).get("networks", 1), info["hash"],
        str(run.path),
    )  # fmt: skip


def _metrics(run: StoredRun) -> list[tuple[Any, ...]]:
    """The columns `_METRIC` of each metric, all missing where there is none."""
    metrics = run.info["metrics"] or [{}]
    return [tuple(metric.get(key) for key in _METRIC_KEYS) for metric in metrics]


# --- telling configurations apart ---------------------------------------------------------------


def _settings(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each spec, the parameters in which it differs from others that it must not join."""
    suites = [spec["suite"] for spec in specs]
    cells = [(spec["suite"], spec["variant"], spec["strategy"]) for spec in specs]
    known: dict[str, dict[str, str]] = {}  # thousands of runs share a few configurations
    parameters = [_texts(spec["suite_parameters"], known) for spec in specs]
    sources = [_texts(spec["sources"], known, "source ") for spec in specs]
    strategies = [_texts(spec["strategy_parameters"], known) for spec in specs]
    differing = [
        (parameters, _differing(parameters, suites)),
        # Parameters of a strategy and the source of one.
        (strategies, _differing(strategies, cells)),
        (sources, _differing(sources, cells)),
        # Only some strategies come from a plugin: a source that is absent says nothing there.
        (sources, _differing(sources, suites, absence_counts=False)),
    ]
    texts = []
    for i in range(len(specs)):
        told = {key: of[i][key] for of, keys in differing for key in keys[i] & of[i].keys()}
        texts.append(", ".join(f"{key}={told[key]}" for key in sorted(told)))
    return texts


def _texts(
    parameters: Mapping[str, Any], known: dict[str, dict[str, str]], prefix: str = ""
) -> dict[str, str]:
    """Parameters as text; the same object for the same ones."""
    content = prefix + json.dumps(parameters, sort_keys=True)
    if content not in known:
        known[content] = {
            prefix + key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            for key, value in parameters.items()
        }
    return known[content]


def _differing(
    configurations: Sequence[Mapping[str, str]],
    groups: Sequence[Any],
    *,
    absence_counts: bool = True,
) -> list[set[str]]:
    """For each configuration, the keys whose values are not the same throughout its group."""
    members: dict[Any, dict[int, Mapping[str, str]]] = defaultdict(dict)
    for group, configuration in zip(groups, configurations, strict=True):
        members[group][id(configuration)] = configuration
    differing = {}
    for group, inside in members.items():
        values: dict[str, set[str | None]] = defaultdict(set)
        for key in set().union(*inside.values()):
            values[key] = {c.get(key) for c in inside.values() if absence_counts or key in c}
        differing[group] = {key for key, found in values.items() if len(found) > 1}
    return [differing[group] for group in groups]


# --- order --------------------------------------------------------------------------------------


def _natural(text: str) -> list[tuple[float, str]]:
    """A sort key by which "lr=2.0" comes before "lr=10.0"."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", text)
    return [(float(p), "") if p[0].isdecimal() else (float("inf"), p) for p in parts]


def _clean_first(variant: str) -> tuple[bool, list[tuple[float, str]]]:
    return variant != "clean", _natural(variant)


def paper_order(strategy: str) -> tuple[int, str]:
    """Sorts strategies as the paper does: its own first, ILT last, all others between."""
    if strategy in PAPER_ORDER:
        return PAPER_ORDER.index(strategy), ""
    last = strategy == "ilt" or strategy.startswith("ilt+")
    return len(PAPER_ORDER) + last, strategy


# --- what a comparison holds --------------------------------------------------------------------


def _summary(selected: pd.DataFrame) -> pd.DataFrame:
    rows = []
    cell = ["configuration", "metric", "task"]
    for _, table in selected.groupby("variant", sort=False):
        measured = table.dropna(subset="metric")
        metrics = measured.sort_index().drop_duplicates(["metric", "task"]).to_dict("records")
        there = set(measured[cell].itertuples(index=False, name=None))
        done = measured[measured["status"] == DONE].groupby(cell)["value"]
        numbers = done.agg(["mean", "std", "count"]).to_dict("index")
        for configuration in table["configuration"].unique():
            for metric in metrics:
                key = configuration, metric["metric"], metric["task"]
                if metric["metric"] == DETECTION and key not in there:
                    continue
                known = numbers.get(key, {"mean": math.nan, "std": math.nan, "count": 0})
                rows.append(
                    {
                        **metric,
                        "strategy": configuration,
                        "mean": known["mean"],
                        "std": known["std"],
                        "n": known["count"],
                    }
                )
    summary = pd.DataFrame(rows, columns=SUMMARY_COLUMNS)
    return summary.astype({"mean": float, "std": float, "n": int})


def _labels(selected: pd.DataFrame) -> dict[str, str]:
    first = selected.drop_duplicates("configuration")
    return {
        configuration: f"{label} {_bracketed(settings)}".rstrip()
        for configuration, label, settings in zip(
            first["configuration"], first["label"], first["settings"], strict=True
        )
    }


def _metric_labels(selected: pd.DataFrame) -> dict[tuple[str, str], str]:
    first = selected.dropna(subset="metric").drop_duplicates(["metric", "task"])
    names = zip(first["metric"], first["task"], strict=True)
    return dict(zip(names, first["metric_label"], strict=True))


def _remarks(table: pd.DataFrame) -> list[str]:
    """Sentences about what one variant's means do not rest on."""
    labels = _labels(table)
    expected = set(table["seed"])
    lost = table[(table["status"] == DONE) & table["metric"].notna() & table["value"].isna()]
    not_finite = Counter(
        zip(lost["configuration"], lost["task"], lost["metric_label"], strict=True)
    )
    runs: dict[str, list[tuple[str, int, float]]] = defaultdict(list)
    first = table.drop_duplicates("hash")
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


def _bracketed(settings: str) -> str:
    return f"[{settings}]" if settings else ""


def plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
