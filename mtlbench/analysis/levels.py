"""How strategies bear more and more corrupted labels: metrics by the share that is corrupted.

A study of levels is one on variants such as `clean depth@0.2 depth@0.4 depth@0.6`. A corruption,
here, is what such variants have in common: `depth`, `pose+shape`, or `depth:offset`.
"""

from collections import defaultdict
from collections.abc import Mapping

import pandas as pd

from mtlbench.analysis.aggregate import SUMMARY_COLUMNS, Comparison
from mtlbench.analysis.marks import Marks, joint_legend, marks
from mtlbench.analysis.printing import count_of_runs, decimals, heading, rounded_cells
from mtlbench.analysis.table import Column, Section, Table
from mtlbench.analysis.writers import is_plain, writer_of
from mtlbench.data.variants import CLEAN, forms
from mtlbench.errors import UserError, unknown
from mtlbench.tasks.detection import DETECTION

LEVEL_COLUMNS = ["corruption", "level", *SUMMARY_COLUMNS]
MIN_LEVELS = 3
"""Fewer levels, the clean one among them, are no curve."""

LEVEL_FORMATS = ("table", "github")
"""Those of `table.FORMATS` in which `compare` shows levels."""


def corruptions(comparison: Comparison) -> list[str]:
    """The corruptions of which a comparison has at least three levels, the clean one among them.

    Levels at which no run has results do not count.
    """
    present = list(comparison.summary.dropna(subset="mean")["variant"].unique())
    if CLEAN not in present:
        return []
    count: dict[str, int] = defaultdict(int)
    for variant in present:
        if parsed := corruption_level(variant):
            count[parsed[0]] += 1
    return [corruption for corruption, levels in count.items() if levels + 1 >= MIN_LEVELS]


def levels(comparison: Comparison, corruption: str) -> pd.DataFrame:
    """The summary of the variants of one corruption, by level.

    Args:
        comparison: of clean runs and of some levels of the corruption.
        corruption: one of `corruptions(comparison)`.

    Returns:
        Rows of `comparison.summary` with the columns `LEVEL_COLUMNS`: `level` is the share of the
        labels that is corrupted (%), 0 in the clean variant. In the order of levels. A
        configuration with a single level is no curve, and left out.

    Raises:
        UserError: the comparison has too few levels of it, or none.
    """
    known = corruptions(comparison)
    if corruption not in known:
        raise UserError(
            f"no levels of {corruption!r}, which are clean runs and two fractions or more; there "
            f"are some of {', '.join(map(repr, known)) or 'none'}"
        )
    level = {CLEAN: 0.0}
    for variant in comparison.variants:
        parsed = corruption_level(variant)
        if parsed and parsed[0] == corruption:
            level[variant] = parsed[1]
    rows = comparison.summary[comparison.summary["variant"].isin(list(level))]
    rows = rows.assign(corruption=corruption, level=rows["variant"].map(level))
    of_each = rows.dropna(subset="mean").groupby("strategy")["level"].nunique()
    rows = rows[rows["strategy"].isin(of_each.index[of_each > 1])]
    return rows.sort_values("level", kind="stable")[LEVEL_COLUMNS]


def metrics(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Each (metric, task) of some rows, detection last."""
    pairs = rows.drop_duplicates(["metric", "task"])
    found = [(str(m), str(t)) for m, t in zip(pairs["metric"], pairs["task"], strict=True)]
    return sorted(found, key=lambda pair: pair[0] == DETECTION)


def corrupted_labels(corruption: str) -> str:
    """ "depth labels", "pose and shape labels", "depth labels, offset"."""
    tasks, _, kind = corruption.partition(":")
    return f"{' and '.join(tasks.split('+'))} labels" + (f", {kind}" if kind else "")


def corruption_level(variant: str) -> tuple[str, float] | None:
    """Corruption and level (%) of a variant of one clause; None of any other."""
    found = forms(variant)
    if len(found) != 1:
        return None
    ((tasks, fraction, kind),) = found
    try:
        level = round(100 * float(fraction), 6)
    except ValueError:  # of a record that somebody wrote
        return None
    return "+".join(tasks) + (f":{kind}" if kind else ""), level


# --- table --------------------------------------------------------------------------------------


def render_levels(
    comparison: Comparison, corruption: str, format: str = "table", *, terminal: bool = False
) -> str:
    """Strategies by level, for people: a section a metric; each level is marked as `compare` does.

    Args:
        comparison: of clean runs and of some levels of the corruption.
        corruption: one of `corruptions(comparison)`.
        format: one of `LEVEL_FORMATS`.
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.

    Raises:
        UserError: there is no such format; or as `levels`.
    """
    if format not in LEVEL_FORMATS:
        raise unknown("format", format, LEVEL_FORMATS)
    rows = levels(comparison, corruption)
    variants = dict(zip(rows["level"], rows["variant"], strict=True))
    runs = comparison.runs[comparison.runs["configuration"].isin(rows["strategy"])]
    marked = {share: marks(runs[runs["variant"] == variant]) for share, variant in variants.items()}
    rule = joint_legend(marked.values(), plain=is_plain(format, terminal))
    table = Table(
        f"{comparison.suite}: by share of corrupted {corrupted_labels(corruption)}",
        [Column(f"{share:g} %") for share in marked],
        [_section(comparison, rows, metric, task, marked) for metric, task in metrics(rows)],
        [f"mean ± std over {count_of_runs(rows['n'])}; {rule}"],
    )
    return writer_of(format, terminal)(table) + "\n"


def _section(
    comparison: Comparison,
    rows: pd.DataFrame,
    metric: str,
    task: str,
    marked: Mapping[float, Marks],
) -> Section:
    cells = rows[(rows["metric"] == metric) & (rows["task"] == task)]
    strategies = [key for key in comparison.labels if key in set(cells["strategy"])]
    unit, direction = cells["unit"].iloc[0], cells["direction"].iloc[0]
    # Five columns of numbers such as 0.02043 ± 0.00031 would not fit a terminal.
    scale, power = (1e3, "10⁻³ ") if cells["mean"].abs().max() < 0.1 else (1.0, "")
    cells = cells.assign(mean=scale * cells["mean"], std=scale * cells["std"])
    places = decimals(cells["mean"], cells["std"])
    columns = []
    for share, one in marked.items():
        values = cells[cells["level"] == share].set_index("strategy").reindex(strategies)
        column = rounded_cells(values["mean"], values["std"], direction, places)
        columns.append(one.mark((metric, task), strategies, column))
    names = [comparison.labels[key] for key in strategies]
    label = f"{task} {comparison.metric_labels[metric, task]}"
    return Section.of_columns(heading(label, power + unit, direction), names, columns)
