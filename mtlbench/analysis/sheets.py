"""Printed tables whose rows come in sections, for the terminal, GitHub, LaTeX and HTML."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from mtlbench.analysis.printing import Cell, aligned, markdown, printed, spans, tex

WIDTH = 100
"""At which sentences are wrapped (characters)."""


@dataclass(frozen=True)
class Section:
    """Rows of a sheet under one heading, each a label and its cells."""

    heading: str
    rows: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class Sheet:
    """A printed table with sections, before it is written in one format or another.

    Attributes:
        title: above the table.
        columns: after that of the labels, as (group, name).
        sections: the rows.
        notes: sentences below the table.
    """

    title: str
    columns: list[tuple[str, str]]
    sections: list[Section]
    notes: list[str]

    def groups(self) -> list[tuple[str, int]]:
        """Neighbouring columns of one group, as (group, how many)."""
        return spans(group for group, _ in self.columns)


def count_of_runs(counts: Iterable[int]) -> str:
    """ "3 runs", or "1 to 3 runs" where they differ; those without any do not count."""
    present = [count for count in counts if count]
    fewest, most = min(present, default=0), max(present, default=0)
    span = str(most) if fewest == most else f"{fewest} to {most}"
    return f"{span} run" if most == 1 else f"{span} runs"


def wrapped(text: str, indent: str = "", *, first: str = "") -> list[str]:
    """A sentence in lines, all but the first of them indented."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )


def text(sheet: Sheet, terminal: bool) -> str:
    """For people to read; `terminal` where it shows bold text, else marks are ¹ and ²."""
    lines = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    lines.add_column("", no_wrap=True)
    groups = [group if i == 0 else "" for group, count in sheet.groups() for i in range(count)]
    for group, (_, name) in zip(groups, sheet.columns, strict=True):
        lines.add_column(Text(f"{group}\n{name}" if any(groups) else name), no_wrap=True)
    # Numbers of one metric are aligned; columns without ± are so throughout.
    cells = [cells for section in sheet.sections for _, cells in section.rows]
    columns = []
    for i in range(len(sheet.columns)):
        column = [row[i] for row in cells]
        parts = [column]
        if any(cell.std for cell in column):
            rows = iter(column)
            parts = [[next(rows) for _ in section.rows] for section in sheet.sections]
        columns.append([text for part in parts for text in aligned(part, terminal)])
    values = zip(*columns, strict=True)
    for section in sheet.sections:
        lines.add_row()  # its heading follows below, so that it does not widen the column
        for label, _ in section.rows:
            lines.add_row(Text(f"  {label}"), *next(values))
    body = printed(lines, terminal)
    place = len(body) - sum(1 + len(section.rows) for section in sheet.sections)
    for section in sheet.sections:
        body[place] = section.heading
        place += 1 + len(section.rows)
    notes = [line for note in sheet.notes for line in wrapped(note)]
    return "\n".join([sheet.title, *body, *notes])


def github(sheet: Sheet) -> str:
    names = [f"{group} {name}".lstrip() for group, name in sheet.columns]
    lines = [["", *names], [":--", *("--:" for _ in names)]]
    for section in sheet.sections:
        lines.append([f"*{markdown(section.heading)}*", *("" for _ in names)])
        lines += [
            [markdown(label), *(cell.github() for cell in cells)] for label, cells in section.rows
        ]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"- {markdown(note)}" for note in sheet.notes)
    return f"**{markdown(sheet.title)}**\n\n{body}\n\n{notes}"


def latex(sheet: Sheet) -> str:
    width = len(sheet.columns) + 1
    groups, rules, start = [], [], 2
    for group, count in sheet.groups():
        groups.append(rf"\multicolumn{{{count}}}{{c}}{{{tex(group)}}}")
        rules += [rf"\cmidrule(lr){{{start}-{start + count - 1}}}"] if count > 1 and group else []
        start += count
    names = [tex(name) for _, name in sheet.columns]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{'. '.join(map(tex, [sheet.title, *sheet.notes]))}.}}",
        rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
        r"\toprule",
        *([rf"& {' & '.join(groups)} \\", "".join(rules)] if rules else []),
        rf"& {' & '.join(names)} \\",
        r"\midrule",
    ]
    for section in sheet.sections:
        lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{tex(section.heading)}}}}} \\")
        for label, cells in section.rows:
            lines.append(rf"{' & '.join([tex(label), *(cell.latex() for cell in cells)])} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def html(sheet: Sheet) -> str:
    groups = "".join(
        f'<th colspan="{count}" scope="colgroup">{escape(group)}</th>'
        for group, count in sheet.groups()
    )
    names = "".join(f"<th>{escape(name)}</th>" for _, name in sheet.columns)
    lines = [
        '<table class="mtlbench">',
        f"<caption>{'<br>'.join(map(escape, [sheet.title, *sheet.notes]))}</caption>",
        "<thead>",
        f'<tr><th rowspan="2"></th>{groups}</tr>',
        f"<tr>{names}</tr>",
        "</thead>",
    ]
    for section in sheet.sections:
        span, heading = len(sheet.columns) + 1, escape(section.heading)
        lines += ["<tbody>", f'<tr><th colspan="{span}" scope="rowgroup">{heading}</th></tr>']
        for label, cells in section.rows:
            values = "".join(f"<td>{cell.html()}</td>" for cell in cells)
            lines.append(f'<tr><th scope="row">{escape(label)}</th>{values}</tr>')
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>"])
