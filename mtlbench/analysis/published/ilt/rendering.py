"""A comparison with the paper as a page, and as data."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from mtlbench.analysis.printing import (
    MISSING,
    Cell,
    count_of_runs,
    heading,
    legend,
    marked_cells,
    rounded_cells,
)
from mtlbench.analysis.published.ilt.against import AgainstILT
from mtlbench.analysis.published.ilt.claims import NO, YES, Claim
from mtlbench.analysis.published.page import Finding, Page
from mtlbench.analysis.published.rows import ROW_COLUMNS
from mtlbench.analysis.table import Column, Row, Section, Table
from mtlbench.analysis.writers import records


def as_page(against: AgainstILT, plain: bool) -> Page:
    """The comparison for people; `plain` where marks are ¹ and ²."""
    return Page(
        _summary(against),
        [*_variant_tables(against, legend(plain=plain)), *_agreement_table(against)],
        "The paper's claims, on these runs",
        [Finding(claim.sentence, _verdict(claim), claim.evidence) for claim in against.claims],
        against.left_out,
    )


def as_data(against: AgainstILT) -> dict[str, Any]:
    """The comparison for JSON."""
    return {
        "suite": against.suite,
        "dataset": against.dataset,
        "stands_in": against.stands_in,
        "rows": records(against.rows[ROW_COLUMNS]),
        "agreement": records(against.agreement),
        "claims": [vars(claim) for claim in against.claims],
    }


def _summary(against: AgainstILT) -> list[str]:
    """What agrees, in a few sentences."""
    sentences = [f"{against.suite} against {against.dataset} in Vasu, Saxena & Tuzel (2021)"]
    if against.stands_in:
        sentences.append(
            f"{against.suite} stands in for {against.dataset}: not comparable in size, only in "
            "order, direction and relative gap"
        )
    signs = against.rows["same_sign"].dropna()
    table = against.agreement
    found = []
    if len(signs):
        found.append(f"gap to equal weights has the same sign in {signs.sum()} of {len(signs)}")
    if len(table):
        found.append(f"the same method is best in {table['same_best'].sum()} of {len(table)}")
        found.append(f"median τ {table['tau'].median():+.2f}")
    return sentences + ([f"agreement: {', '.join(found)}"] if found else [])


def _variant_tables(against: AgainstILT, marks: str) -> Iterator[Table]:
    for variant, rows in against.rows.groupby("variant", sort=False):
        columns = [
            Column(n, group) for group in ("ours", "paper") for n in ("mean ± std", "vs equal")
        ]
        columns.append(Column("sign", "same"))
        notes = [
            marks,
            f"ours over {count_of_runs(rows['n'])}",
            "vs equal: better (+) or worse (−) than Eq. Weight",
        ]
        if not against.stands_in:
            columns.append(Column("z"))
        tables = [str(table) for table in sorted(set(rows["paper_table"].dropna()))]
        yield Table(
            f"{against.suite}: {variant} (Table{'s'[: len(tables) - 1]} {' and '.join(tables)})",
            columns,
            [
                _section(against, str(metric), str(task), cells)
                for (metric, task), cells in rows.groupby(["metric", "task"], sort=False)
            ],
            [
                "; ".join(notes),
                *([] if against.stands_in else ["z: (ours − paper) / √(std² + std²)"]),
                *against.remarks[str(variant)],
            ],
        )


def _section(against: AgainstILT, metric: str, task: str, rows: pd.DataFrame) -> Section:
    unit, direction = rows["unit"].iloc[0], rows["direction"].iloc[0]
    theirs = [text.partition(" ± ") for text in rows["paper_text"]]
    columns = [
        rounded_cells(rows["mean"], rows["std"], direction),
        [_percent(gap) for gap in rows["gap"]],
        marked_cells([mean for mean, _, _ in theirs], [std for _, _, std in theirs], direction),
        [_percent(gap) for gap in rows["paper_gap"]],
        [_yes_no(same) for same in rows["same_sign"]],
    ]
    if not against.stands_in:
        columns.append([Cell("" if math.isnan(z) else f"{z:+.1f}") for z in rows["z"]])
    name = heading(f"{task} {against.metric_labels[metric, task]}", unit, direction)
    labels = [against.labels[strategy] for strategy in rows["strategy"]]
    return Section.of_columns(name, labels, columns)


def _percent(value: float) -> Cell:
    return Cell("" if math.isnan(value) else f"{value:+z.2f} %")


def _yes_no(value: Any) -> Cell:
    return Cell("" if pd.isna(value) else YES if value else NO)


def _agreement_table(against: AgainstILT) -> list[Table]:
    if against.agreement.empty:
        return []
    sections = []
    for variant, table in against.agreement.groupby("variant", sort=False):
        rows = []
        for row in table.to_dict("records"):
            tau = "" if math.isnan(row["tau"]) else f"{row['tau']:+.2f}"
            cells = [Cell(str(row["methods"])), Cell(tau)]
            for name in ("best", "ilt_rank", "ilt_lowest_std"):
                cells.append(Cell(f"{_word(row[name])} / {_word(row[f'paper_{name}'])}"))
            label = against.metric_labels[row["metric"], row["task"]]
            rows.append(Row(f"{row['task']} {label}", cells))
        sections.append(Section(str(variant), rows))
    columns = [Column("methods"), Column("τ-b")]
    columns += [
        Column("ours / paper", name) for name in ("best", "ILT's place", "ILT's std lowest")
    ]
    note = "over the methods that both have; τ-b: Kendall's, 1 where the order is the same"
    return [Table("Order of the methods", columns, sections, [note])]


def _word(value: Any) -> str:
    if pd.isna(value):
        return MISSING
    return {True: YES, False: NO}[value] if isinstance(value, bool) else str(value)


def _verdict(claim: Claim) -> str:
    return claim.verdict + (f" (the paper's own numbers: {claim.paper})" if claim.paper else "")
