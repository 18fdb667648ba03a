"""What every single metric adds to Δm: a relative error alone can make most of it."""

import numpy as np
import pandas as pd

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.printing import Cell, one_line, signed
from mtlbench.analysis.standings import label, sentences, standings
from mtlbench.analysis.table import Column, Row, Section, Table

DELTA_M = Column("Δm (%) ↑", direction="max")


def contributions(comparison: Comparison, variant: str) -> pd.DataFrame:
    """What each metric adds to the Δm of one variant's strategies.

    Δm is the mean relative improvement over the baseline, of means over seeds, with all tasks
    weighing the same and in them their metrics; which baseline, `standings` says. A metric adds its
    own improvement times its weight.

    Args:
        comparison: of which; only its metrics count.
        variant: one of its variants.

    Returns:
        A row a strategy, by configuration, in the order of the comparison's table; a column a
        (task, metric) but for detection, and last ("", "delta_m"), which is their sum; all in
        points of Δm (%), positive is better. NaN for the baseline, for a strategy that misses a
        seed or a metric, and for a metric in which the baseline is 0.
    """
    found = standings(comparison, variant)
    columns = pd.MultiIndex.from_tuples([*found.cells, ("", "delta_m")], names=["task", "metric"])
    values = np.column_stack([found.contributions, found.delta_m])
    return pd.DataFrame(values, pd.Index(found.strategies, name="strategy"), columns)


def contributions_table(comparison: Comparison, variant: str) -> Table:
    """The same as a table, without the baseline.

    Args:
        comparison: of which.
        variant: one of its variants.
    """
    found = standings(comparison, variant)
    frame = contributions(comparison, variant).drop(index=found.baseline, errors="ignore")
    title = one_line(f"{comparison.suite}: {variant}, what each metric adds to Δm")
    told = sentences(comparison, found, "Δm")
    if frame["", "delta_m"].isna().all():
        return Table(title, [], [], told or ["no Δm: there is no strategy but the baseline"])
    columns = [
        Column(one_line(comparison.metric_labels[metric, task]), one_line(task))
        for task, metric in found.cells
    ]
    rows = [
        Row(label(comparison, str(key)), [Cell(signed(value, 2)) for value in values])
        for key, values in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    note = (
        "a metric's improvement (%) relative to "
        f"{label(comparison, found.baseline)}, positive is better, times its weight: every task "
        "weighs the same, in it every metric; a row sums to its Δm"
    )
    sections, notes = [Section("", rows)], [note, *told]
    return Table(title, [*columns, DELTA_M], sections, notes, "Strategy", wide=True)
