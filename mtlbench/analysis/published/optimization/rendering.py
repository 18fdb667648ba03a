"""A comparison with the tables of a paper as a page, and as data."""

import math
from collections.abc import Iterator
from typing import Any

from mtlbench.analysis.printing import (
    Cell,
    count_of_runs,
    heading,
    legend,
    marked_cells,
    rounded_cells,
)
from mtlbench.analysis.published.optimization.against import AgainstTables
from mtlbench.analysis.published.optimization.tables import (
    CHECKED,
    DELTA_M,
    EXCEPTIONS,
    RUNS,
)
from mtlbench.analysis.published.page import Page
from mtlbench.analysis.published.papers import PAPERS
from mtlbench.analysis.published.rows import ROW_COLUMNS, method_of
from mtlbench.analysis.selection import is_apart
from mtlbench.analysis.table import Column, Row, Section, Table
from mtlbench.analysis.writers import records
from mtlbench.data.variants import CLEAN


def as_page(against: AgainstTables, plain: bool) -> Page:
    """The comparison for people; `plain` where marks are ¹ and ²."""
    tables = [
        _numbers(against, legend(plain=plain)),
        *_agreement(against),
        _protocol(against),
    ]
    return Page(_summary(against), tables, remarks=against.left_out)


def as_data(against: AgainstTables) -> dict[str, Any]:
    """The comparison for JSON."""
    return {
        "suite": against.suite,
        "paper": against.paper.name,
        "reference": against.paper.reference,
        "checked": _checked(against),
        "baseline": against.baseline or None,
        "printed": against.printed,
        "protocol": [vars(point) for point in against.protocol],
        "rows": records(against.rows[ROW_COLUMNS]),
        "agreement": records(against.agreement),
    }


def _summary(against: AgainstTables) -> list[str]:
    """What agrees, in a few sentences."""
    earlier = [PAPERS[name].label for name in against.paper.rows_of[:-1]]
    repeats = f", which repeats rows of {' and '.join(earlier)}" if earlier else ""
    sentences = [f"{against.suite} against the table of {against.paper.label}{repeats}"]
    signs = against.rows["same_sign"].dropna()
    table = against.agreement
    found = []
    if len(signs):
        base = against.labels[_base(against)]
        found.append(f"gap to {base} has the same sign in {signs.sum()} of {len(signs)}")
    by_metric = table[table["metric"] != DELTA_M]
    if len(by_metric):
        found.append(
            f"the same method is best in {by_metric['same_best'].sum()} of {len(by_metric)} metrics"
        )
        found.append(f"median τ {by_metric['tau'].median():+.2f}")
    for row in table[table["metric"] == DELTA_M].to_dict("records"):
        found.append(f"τ by Δm {row['tau']:+.2f}")
    return sentences + ([f"agreement: {', '.join(found)}"] if found else [])


def _checked(against: AgainstTables) -> str:
    names = [
        f"but for {against.labels[key]}, whose row gives {given} where {printed} is printed"
        for key in dict.fromkeys(against.rows["strategy"])
        for given, printed in [EXCEPTIONS.get((against.suite, method_of(key)), (None, None))]
        if given
    ]
    return ", ".join([CHECKED, *names])


# --- tables -------------------------------------------------------------------------------------


def _numbers(against: AgainstTables, marks: str) -> Table:
    strategies = list(dict.fromkeys(against.rows["strategy"]))
    compared = [not is_apart(strategy) for strategy in strategies]
    columns, cells = [], []
    for (metric, task), rows in against.rows.groupby(["metric", "task"], sort=False):
        unit, direction = rows["unit"].iloc[0], rows["direction"].iloc[0]
        label = against.metric_labels[str(metric), str(task)]
        group = f"{task} {heading(label, unit, direction)}".strip()
        columns += [Column(side, group, direction) for side in ("ours", "paper")]
        rows = rows.set_index("strategy").loc[strategies]
        places = 2 if metric == DELTA_M else None
        cells.append(rounded_cells(rows["mean"], rows["std"], direction, places, compared=compared))
        theirs = list(rows["paper_text"])
        cells.append(marked_cells(theirs, [""] * len(theirs), direction, compared=compared))
    labels = [against.labels[strategy] for strategy in strategies]
    notes = [
        f"{marks}; ours over {count_of_runs(against.rows['n'])}, the paper's over {RUNS}",
        *_about_delta(against),
        _checked(against),
        *against.remarks[CLEAN],
    ]
    title = f"{against.suite}: {CLEAN}"
    return Table(title, columns, [Section.of_columns("", labels, cells)], notes, "Strategy")


def _about_delta(against: AgainstTables) -> Iterator[str]:
    if not against.baseline:
        yield "no Δm: neither single nor equal has runs with all of these metrics"
        return
    count = len(against.rows.drop_duplicates(["metric", "task"])) - 1
    theirs = "as it prints it" if against.printed else "worked out from the metrics that it prints"
    yield (
        f"Δm: mean drop relative to {against.labels[_base(against)]} over {count} "
        f"{'metric' if count == 1 else 'metrics'} that all weigh the same, negative is better; "
        f"the paper's {theirs}"
    )


def _base(against: AgainstTables) -> str:
    """The baseline with its settings."""
    return next(key for key in against.rows["strategy"] if method_of(key) == against.baseline)


def _agreement(against: AgainstTables) -> Iterator[Table]:
    if against.agreement.empty:
        return
    table = against.agreement
    has_interval = table["tau_low"].notna().any()
    rows = []
    for row in table.to_dict("records"):
        cells = [Cell(str(row["methods"])), Cell(_signed(row["tau"]))]
        if has_interval:
            low, high = _signed(row["tau_low"]), _signed(row["tau_high"])
            cells.append(Cell(f"[{low}, {high}]" if low else ""))
        cells.append(Cell(_probability(row["p_value"])))
        cells += [Cell(row["best"]), Cell(row["paper_best"])]
        label = against.metric_labels[row["metric"], row["task"]]
        rows.append(Row(f"{row['task']} {label}".strip(), cells))
    columns = [Column("methods"), Column("τ-b")]
    columns += [Column("95 % interval")] if has_interval else []
    columns += [Column("p"), Column("ours", "best", words=True)]
    columns.append(Column("paper", "best", words=True))
    notes = [
        "over the methods that both have, without single-task networks; τ-b: Kendall's, 1 where "
        "the order is the same",
        "interval: of the noise of our seeds alone, about 93 % in simulated studies; the paper's "
        "numbers are taken as they are"
        if has_interval
        else "no interval: it takes two seeds or more, the same of all methods",
        "p: how probably methods in an order drawn at random agree with the paper at least as "
        "well; not corrected for the number of rows, which are of the same networks",
    ]
    yield Table("Order of the methods", columns, [Section("", rows)], notes)


def _signed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.2f}"


def _probability(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def _protocol(against: AgainstTables) -> Table:
    columns = [Column(side, words=True) for side in ("paper", "ours")]
    rows = [Row(point.name, [Cell(point.paper), Cell(point.ours)]) for point in against.protocol]
    return Table("Protocol", columns, [Section("", rows)], [])
