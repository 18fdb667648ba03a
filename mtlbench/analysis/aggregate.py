"""Means and standard deviations over seeds, and strategies side by side."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pandas as pd

from mtlbench.analysis.remarks import remarks_on, remarks_on_tuning
from mtlbench.analysis.repeats import repeats
from mtlbench.analysis.results import load_copies, named, require_suite
from mtlbench.analysis.selection import configured, first_seeds, select
from mtlbench.analysis.settings import configuration, is_tuned, labelled
from mtlbench.errors import listed
from mtlbench.store.runs import Places, places
from mtlbench.store.schema import DONE
from mtlbench.store.trials import Tuning
from mtlbench.tasks.detection import DETECTION

SUMMARY_COLUMNS = [
    "suite", "variant", "strategy", "metric", "task", "unit", "direction", "mean", "std", "n",
]  # fmt: skip


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
        tunings: of each tuned (variant, strategy of `summary`), all trials with their scores.
    """

    suite: str
    variants: list[str]
    summary: pd.DataFrame
    labels: dict[str, str]
    metric_labels: dict[tuple[str, str], str]
    remarks: dict[str, list[str]]
    damaged: list[tuple[str, str]]
    runs: pd.DataFrame
    tunings: dict[tuple[str, str], Tuning]


def compare(
    results: Places | None = None,
    suite: str = "digits",
    variants: Iterable[str] | None = None,
    strategies: Iterable[str] | None = None,
    *,
    metrics: Iterable[str] | None = None,
    seeds: int | None = None,
    hashes: Collection[str] | None = None,
    tunings: Collection[str] | None = None,
    reference: bool = False,
    thorough: bool = False,
) -> Comparison:
    """Compares the strategies of a suite over all seeds found in one or several places.

    Args:
        results: the results directories; `runs` where None, or with `reference` none where
            there is no such directory. Which copy of a run counts, `load_results` says.
        suite: the suite's name.
        variants: which variants, in this order; all by default.
        strategies: which strategies; all by default.
        metrics: which metrics; all by default.
        seeds: only runs with so many seeds, counted from 0; all by default.
        hashes: only the runs with these hashes; all by default.
        tunings: of tuned strategies only those of the tunings with these hashes; all by default.
        reference: beside the reference results that come with the package. The remarks then tell
            whether own runs of the same configurations repeat them; see `repeats`.
        thorough: as for `load_results`.

    Raises:
        UserError: there is no such directory, suite, variant, strategy or metric, or `seeds` is no
            number of seeds.
    """
    results = None if results is None else places(results)
    metrics = listed("metric", metrics)
    copies = load_copies(results, reference=reference, thorough=thorough)
    counted = first_seeds(copies.counted, seeds)
    if hashes is not None:
        counted = counted[counted["hash"].isin(list(hashes))]
    if tunings is not None:
        known = counted.attrs["tunings"]
        named_too = [
            not is_tuned(settings)
            or known[found, variant, configuration(strategy, settings)].hash in tunings
            for found, variant, strategy, settings in zip(
                *(counted[name] for name in ("suite", "variant", "strategy", "settings")),
                strict=True,
            )
        ]
        counted = counted[named_too]
    require_suite(counted, suite, named(results, reference))
    comparison = compare_results(counted, suite, variants, strategies, metrics=metrics)
    if reference:
        runs = pd.concat([comparison.runs, configured(copies.others)])
        runs = runs[(runs["suite"] == suite) & runs["variant"].isin(comparison.variants)]
        own, theirs = comparison.runs["path"] != "", runs["path"] == ""
        own &= comparison.runs["variant"].isin(comparison.variants)
        for variant, found in repeats(comparison.runs[own], runs[theirs], metrics).items():
            comparison.remarks[variant] += found.sentences(comparison.labels)
    return comparison


def compare_results(
    results: pd.DataFrame,
    suite: str,
    variants: Iterable[str] | None = None,
    strategies: Iterable[str] | None = None,
    *,
    metrics: Iterable[str] | None = None,
) -> Comparison:
    """The same for rows as from `load_results`."""
    variants, strategies = listed("variant", variants), listed("strategy", strategies)
    runs = select(results, suite, variants, strategies)
    selected = runs if metrics is None else select(runs, suite, variants, strategies, metrics)
    names = list(selected["variant"].unique())
    tables = {name: selected[selected["variant"] == name] for name in names}
    tunings = results.attrs.get("tunings", {})
    return Comparison(
        suite=suite,
        variants=names,
        summary=summary_of(selected),
        labels=_labels(selected),
        metric_labels=_metric_labels(selected),
        remarks={
            name: [
                *remarks_on(rows, _labels(rows)),
                *remarks_on_tuning(suite, name, _labels(rows), tunings),
            ]
            for name, rows in tables.items()
        },
        damaged=results.attrs["damaged"],
        runs=runs,
        tunings={
            (name, key): tunings[suite, name, key]
            for name, rows in tables.items()
            for key in rows["configuration"].unique()
            if (suite, name, key) in tunings
        },
    )


def summarise(
    results: pd.DataFrame,
    suite: str,
    variants: Iterable[str] | None = None,
    strategies: Iterable[str] | None = None,
) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds, in long form.

    Configurations that differ are never averaged: each is a strategy of its own, written
    `ilt[ilt.lr=4.0]`. Only finite values of runs that are done count; where there are none, the
    mean is NaN and n is 0. The standard deviation (ddof = 1) of a single value is NaN.

    Returns:
        A frame with the columns `SUMMARY_COLUMNS`: variants in the order asked for, or `clean`
        first; strategies in the order of the paper; metrics in the order of the runs.
    """
    return summary_of(select(results, suite, variants, strategies))


# --- what a comparison holds --------------------------------------------------------------------


def summary_of(selected: pd.DataFrame) -> pd.DataFrame:
    """The same of rows that `select` gave."""
    rows = []
    cell = ["configuration", "metric", "task"]
    for _, table in selected.groupby("variant", sort=False):
        measured = table.dropna(subset="metric")
        metrics = measured.sort_index().drop_duplicates(["metric", "task"]).to_dict("records")
        there = set(measured[cell].itertuples(index=False, name=None))
        done = measured[measured["status"] == DONE].groupby(cell)["value"]
        numbers = done.agg(["mean", "std", "count"]).to_dict("index")
        for strategy in table["configuration"].unique():
            for metric in metrics:
                key = strategy, metric["metric"], metric["task"]
                if metric["metric"] == DETECTION and key not in there:
                    continue
                known = numbers.get(key, {"mean": math.nan, "std": math.nan, "count": 0})
                rows.append(
                    {
                        **metric,
                        "strategy": strategy,
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
        strategy: labelled(label, settings)
        for strategy, label, settings in zip(
            first["configuration"], first["label"], first["settings"], strict=True
        )
    }


def _metric_labels(selected: pd.DataFrame) -> dict[tuple[str, str], str]:
    first = selected.dropna(subset="metric").drop_duplicates(["metric", "task"])
    names = zip(first["metric"], first["task"], strict=True)
    return dict(zip(names, first["metric_label"], strict=True))
