"""Printed tables of many tasks: means over tasks in place of a column for each."""

from dataclasses import replace

import numpy as np
import pandas as pd

from mtlbench.analysis.aggregate import Comparison, summary_of
from mtlbench.data.variants import forms
from mtlbench.tasks.detection import DETECTION

MOST_COLUMNS = 16
"""A printed table with more metrics than these is made smaller."""

FEWEST_TASKS = 4
"""With the same metric in the same unit, of which a mean is shown."""


def condensed(comparison: Comparison, variant: str) -> tuple[Comparison, list[str]]:
    """The same with fewer columns in one variant, where it has more than `MOST_COLUMNS`.

    What many tasks are measured by in the same unit becomes its mean over them, run by run. Of the
    other tasks the first metric stays. Tasks whose labels are corrupted keep all of theirs.

    Args:
        comparison: of which.
        variant: one of its variants.

    Returns:
        The comparison, whose `runs` and `summary` of this variant are the smaller ones; and
        sentences that say so, none where it is the same.
    """
    summary = comparison.summary[comparison.summary["variant"] == variant]
    shown = summary[summary["metric"] != DETECTION].drop_duplicates(["metric", "task"])
    if len(shown) <= MOST_COLUMNS:
        return comparison, []
    corrupted = {task for form in forms(variant) for task in form.tasks}
    runs = comparison.runs[comparison.runs["variant"] == variant]
    kind = ["metric", "unit", "direction"]
    shown_pairs = set(zip(shown["metric"], shown["task"], strict=True))
    pairs = pd.Series(zip(runs["metric"], runs["task"], strict=True), runs.index, dtype=object)
    measured = runs[pairs.isin(shown_pairs)]
    means, labels, told, single = [], dict(comparison.metric_labels), [], set()
    for (metric, unit, direction), tasks in shown.groupby(kind, sort=False)["task"]:
        if len(tasks) < FEWEST_TASKS:
            single |= {(metric, task) for task in tasks}
            continue
        name = f"mean of {len(tasks)} tasks"
        same = measured[measured["metric"] == metric]
        same = same[(same["unit"] == unit) & (same["direction"] == direction)]
        means.append(_means(same, name))
        labels[str(metric), name] = labels[str(metric), tasks.iloc[0]]
    if means:
        told.append("means are over tasks, run by run; CSV and JSON have each task")
    first = shown.drop_duplicates("task")
    firsts = set(zip(first["metric"], first["task"], strict=True))
    kept = {pair for pair in single if pair in firsts} if len(single) > MOST_COLUMNS else single
    if kept != single:
        told.append("the first metric of each task; CSV and JSON have the others")
    kept |= {pair for pair in shown_pairs if pair[1] in corrupted}
    found = summary[summary["metric"] == DETECTION]
    kept |= set(zip(found["metric"], found["task"], strict=True))
    rest = runs[runs["metric"].isna() | pairs.isin(kept)]
    fewer = pd.concat([*means, rest]).sort_index(kind="stable")
    others = comparison.runs[comparison.runs["variant"] != variant]
    # The order of strategies is that of the comparison.
    order = {key: i for i, key in enumerate(runs["configuration"].unique())}
    fewer = fewer.iloc[np.argsort(fewer["configuration"].map(order), kind="stable")]
    whole = comparison.summary[comparison.summary["variant"] != variant]
    return (
        replace(
            comparison,
            runs=pd.concat([others, fewer]),
            summary=pd.concat([whole, summary_of(fewer)]),
            metric_labels=labels,
        ),
        told,
    )


def _means(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """A row a run: the mean over its tasks, NaN where one of them is."""
    run = ["configuration", "hash"]
    value = rows.groupby(run)["value"].agg(lambda values: values.mean(skipna=False))
    first = rows.drop_duplicates(run)
    keys = pd.MultiIndex.from_frame(first[run])
    return first.assign(task=name, value=value.reindex(keys).to_numpy())
