"""A comparison with the paper as text: for the terminal, GitHub, LaTeX, HTML, and as data."""

import math
from collections.abc import Iterator
from html import escape
from typing import Any

import pandas as pd

from mtlbench.analysis.paper.against import Against
from mtlbench.analysis.paper.claims import NO, YES, Claim
from mtlbench.analysis.paper.rows import ROW_COLUMNS
from mtlbench.analysis.printing import (
    MISSING,
    Cell,
    count_of_runs,
    heading,
    legend,
    marked_cells,
    rounded_cells,
)
from mtlbench.analysis.table import FORMATS, Column, Row, Section, Table
from mtlbench.analysis.writers import (
    STYLE,
    as_json,
    is_plain,
    markdown,
    records,
    tex,
    wrapped,
    writer_of,
)
from mtlbench.errors import unknown

CLAIMS = "The paper's claims, on these runs"


def render_against(against: Against, format: str, *, terminal: bool = False) -> str:
    """Writes a comparison with the paper in one of the `table.FORMATS`.

    Args:
        against: what to write.
        format: one of the formats. CSV is long form, with the columns `ROW_COLUMNS`; JSON has the
            same rows, and the agreement and the claims, too.
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.

    Raises:
        UserError: there is no such format.
    """
    if format == "csv":
        return against.rows[ROW_COLUMNS].to_csv(index=False, lineterminator="\n")
    if format == "json":
        return _json(against)
    pages = {"table": _text, "github": _github, "latex": _latex, "html": _html}
    if format not in pages:
        raise unknown("format", format, FORMATS)
    marks = legend(plain=is_plain(format, terminal))
    tables = [*_variant_tables(against, marks), *_agreement_table(against)]
    return pages[format](against, list(map(writer_of(format, terminal), tables)))


def _summary(against: Against) -> list[str]:
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


def _variant_tables(against: Against, marks: str) -> Iterator[Table]:
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


def _section(against: Against, metric: str, task: str, rows: pd.DataFrame) -> Section:
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


def _agreement_table(against: Against) -> list[Table]:
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


def _text(page: Against, tables: list[str]) -> str:
    summary = [line for sentence in _summary(page) for line in wrapped(sentence, "  ")]
    blocks = ["\n".join(summary), *tables]
    lines = [CLAIMS]
    for number, claim in enumerate(page.claims, start=1):
        lines += wrapped(f"{number}. {claim.sentence}: {_verdict(claim)}", "   ")
        for sentence in claim.evidence:
            lines += wrapped(sentence, "     ", first="   ")
    blocks += ["\n".join(lines), "\n".join(page.left_out)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _github(page: Against, tables: list[str]) -> str:
    blocks = ["\n".join(f"- {markdown(sentence)}" for sentence in _summary(page)), *tables]
    items = []
    for number, claim in enumerate(page.claims, start=1):
        items.append(f"{number}. {markdown(claim.sentence)}: **{_verdict(claim)}**")
        items += [f"   - {markdown(sentence)}" for sentence in claim.evidence]
    blocks += [f"**{CLAIMS}**", "\n".join(items)]
    blocks += [markdown(sentence) for sentence in page.left_out]
    return "\n\n".join(blocks) + "\n"


def _latex(page: Against, tables: list[str]) -> str:
    lines = [rf"{tex(sentence)}.\par" for sentence in _summary(page)]
    lines += [*tables, rf"{CLAIMS}:", r"\begin{enumerate}"]
    for claim in page.claims:
        evidence = "; ".join(map(tex, claim.evidence))
        sentence, verdict = tex(claim.sentence), _verdict(claim)
        lines.append(rf"\item {sentence}: \textbf{{{verdict}}}. {evidence}.")
    lines.append(r"\end{enumerate}")
    lines += [rf"{tex(sentence)}.\par" for sentence in page.left_out]
    return "\n".join([*lines, ""])


def _html(page: Against, tables: list[str]) -> str:
    lines = [f"{STYLE}<p>{'<br>'.join(map(escape, _summary(page)))}</p>", *tables]
    lines += [f"<p>{escape(CLAIMS)}</p>", "<ol>"]
    for claim in page.claims:
        evidence = "<br>".join(map(escape, claim.evidence))
        sentence, verdict = escape(claim.sentence), escape(_verdict(claim))
        lines.append(f"<li>{sentence}: <b>{verdict}</b><br>{evidence}</li>")
    lines.append("</ol>")
    lines += [f"<p>{escape(sentence)}</p>" for sentence in page.left_out]
    return "\n".join([*lines, ""])


# --- data ---------------------------------------------------------------------------------------


def _json(against: Against) -> str:
    return as_json(
        {
            "suite": against.suite,
            "dataset": against.dataset,
            "stands_in": against.stands_in,
            "rows": records(against.rows[ROW_COLUMNS]),
            "agreement": records(against.agreement),
            "claims": [vars(claim) for claim in against.claims],
        }
    )
