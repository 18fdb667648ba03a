"""Tables as text: for the terminal, GitHub, LaTeX and HTML; and data as CSV and JSON.

A table that is too wide to be read is written in parts below one another, each with the labels.
"""

import html as markup
import io
import json
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from mtlbench.analysis.printing import BEST, MISSING, SECOND, Cell
from mtlbench.analysis.table import FORMATS, Column, Table
from mtlbench.errors import unknown
from mtlbench.letters import as_printed

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

WIDTH = 120
"""Of tables where there is no terminal that says how wide it is (characters)."""

LATEX_WIDTH = 107
"""Of tables that fit a text width of 6.5 inches (characters)."""

WIDEST = 160
"""Of tables that stay whole (characters): in LaTeX, letters of 6 points."""

SENTENCE_WIDTH = 100
"""At which sentences are wrapped, but on a terminal that is narrower (characters)."""

TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}", "]": "{]}",  # a bare bracket after \\ would be read as its argument
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "–": "--",
    "τ": r"$\tau$", "√": r"$\surd$", "−": "$-$",
    "²": r"\textsuperscript{2}", "³": r"\textsuperscript{3}",
    "×": r"$\times$", "σ": r"$\sigma$", "χ": r"$\chi$", "Δ": r"$\Delta$", "°": r"$^\circ$",
    "†": r"$^\dagger$",
}  # fmt: skip

SMALLER = r"\ifdim\width>\linewidth\linewidth\else\width\fi"
"""As wide as it is, but no wider than the text."""

STYLE = """<style>
.mtlbench { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
.mtlbench caption { text-align: left; }
.mtlbench thead { border-bottom: 1px solid; }
.mtlbench th, .mtlbench td { padding: 0.1em 0.6em; text-align: right; white-space: nowrap; }
.mtlbench th:first-child { text-align: left; }
.mtlbench th[colspan] { text-align: center; }
</style>
"""


def write(
    format: str,
    tables: Callable[[bool], Sequence[Table]],
    data: pd.DataFrame,
    *,
    terminal: bool = False,
) -> str:
    """Writes tables, or the data that they show, in one of the `FORMATS`.

    Args:
        format: one of `FORMATS`.
        tables: makes them; told whether the text is plain, so that marks are ¹ and ².
        data: for CSV and JSON.
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.

    Raises:
        UserError: there is no such format.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if format == "csv":
        return data.to_csv(index=False, lineterminator="\n")
    if format == "json":
        return as_json(records(data))
    written = map(writer_of(format, terminal), tables(is_plain(format, terminal)))
    return STYLE * (format == "html") + "\n\n".join(written) + "\n"


def writer_of(format: str, terminal: bool) -> Callable[[Table], str]:
    """The function that writes one table in a format for people, in parts where it is wide."""
    width = shutil.get_terminal_size().columns if terminal else WIDTH
    widest, writer = {
        "table": (width, lambda part: text(part, terminal)),
        "github": (WIDTH, github),
        "latex": (LATEX_WIDTH, latex),
        "html": (WIDTH, html),
    }[format]

    def write_parts(table: Table) -> str:
        if format == "table":
            table = table.spelled(as_printed)
        whole = table.wide and format != "table"
        return "\n\n".join(map(writer, table.split(WIDEST if whole else widest)))

    return write_parts


def is_plain(format: str, terminal: bool) -> bool:
    """Whether there is neither bold nor underlined text."""
    return format == "table" and not terminal


# --- plain text ---------------------------------------------------------------------------------


def text(table: Table, terminal: bool) -> str:
    """For people to read; `terminal` where it shows bold text, else marks are ¹ and ²."""
    grid = _grid(table, terminal) if table.columns else []
    width = sentence_width(terminal)
    notes = [line for note in table.notes for line in wrapped(note, width=width)]
    return "\n".join([table.title, *grid, *notes])


def sentence_width(terminal: bool) -> int:
    """At which sentences are wrapped (characters)."""
    return min(SENTENCE_WIDTH, shutil.get_terminal_size().columns if terminal else SENTENCE_WIDTH)


def wrapped(
    sentence: str, indent: str = "", *, first: str = "", width: int = SENTENCE_WIDTH
) -> list[str]:
    """A sentence in lines, all but the first of them indented."""
    return textwrap.wrap(
        sentence,
        max(width, len(indent) + 20),
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _grid(table: Table, terminal: bool) -> list[str]:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    grid.add_column(Text(table.corner), no_wrap=True, vertical="bottom")
    grouped = any(column.group for column in table.columns)
    for group, places in table.groups():
        for place in places:
            over = f"{group if place == places[0] else ''}\n" * grouped
            grid.add_column(Text(over + table.columns[place].name), no_wrap=True)
    columns = [_aligned(table, place, terminal) for place in range(len(table.columns))]
    values = zip(*columns, strict=True)
    for section in table.sections:
        if section.heading:
            grid.add_row()  # its heading follows below, so that it does not widen the column
        for row in section.rows:
            grid.add_row(Text("  " * bool(section.heading) + row.label), *next(values))
    # As wide as it needs: a narrow terminal may break lines, digits are not dropped.
    written = io.StringIO()
    Console(
        file=written,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        width=10_000,
    ).print(grid)
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    place = len(lines)
    for section in reversed(table.sections):
        place -= len(section.rows) + bool(section.heading)
        if section.heading:
            lines[place] = section.heading
    return lines


def _aligned(table: Table, place: int, terminal: bool) -> list[Text]:
    """One column's cells with their decimal points below one another.

    Numbers of one metric are aligned, by their decimals; columns without ± are so throughout.
    """
    parts = [[row.cells[place] for row in section.rows] for section in table.sections]
    cells = [cell for part in parts for cell in part]
    decimals = {len(cell.mean.partition(".")[2]) for cell in cells if cell.mean}
    if len(decimals) < 2 or not any(cell.std for cell in cells):
        parts = [cells]
    texts = []
    for part in parts:
        mean = 0 if table.columns[place].words else max(len(cell.mean) for cell in part)
        std = max(len(cell.std) for cell in part)
        for cell in part:
            number = cell.mean or as_printed(MISSING)
            written = Text(" " * (mean - len(number)))
            number += as_printed(f" ± {cell.std.rjust(std)}") if cell.std else ""
            style = {BEST: "bold", SECOND: "underline"}.get(cell.rank, "")
            written.append(number, style if terminal else "")
            if not terminal:
                written.append({BEST: " ¹", SECOND: " ²"}.get(cell.rank, ""))
            texts.append(written)
    return texts


# --- markup -------------------------------------------------------------------------------------


def markdown(text: str) -> str:
    """Text that GitHub shows as it is."""
    return re.sub(r"([\\`*_{}\[\]|~#$])", r"\\\1", markup.escape(text, quote=False))


def tex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(TEX.get(character, character) for character in text)


@dataclass(frozen=True)
class Markup:
    """How one format writes the parts of a table; `%s` stands for the text.

    Attributes:
        escape: of titles, labels and headings.
        value: of cells, which hold no names.
        section, best, second: what these are put into.
    """

    escape: Callable[[str], str]
    value: Callable[[str], str]
    section: str
    best: str
    second: str

    def rows(self, table: Table) -> list[list[str]]:
        """Each with its label first; the heading of a section is the label of an empty row."""
        rows = []
        for section in table.sections:
            if section.heading:
                heading = self.section % self.escape(section.heading)
                rows.append([heading, *("" for _ in table.columns)])
            rows += [[self.escape(row.label), *map(self.cell, row.cells)] for row in section.rows]
        return rows

    def cell(self, cell: Cell) -> str:
        mark = {BEST: self.best, SECOND: self.second}.get(cell.rank, "%s")
        return mark % self.value(cell.text or MISSING)

    def styler(self, table: Table) -> "Styler":
        """The table with merged heads, as pandas writes it."""
        labels, values = zip(*((label, cells) for label, *cells in self.rows(table)), strict=True)
        groups = [self.escape(column.group) for column in table.columns]
        names = [self.escape(column.name) for column in table.columns]
        columns = pd.Index(names, name=self.escape(table.corner))
        if any(groups):
            columns = pd.MultiIndex.from_arrays([groups, columns], names=["", columns.name])
        return pd.DataFrame(list(values), index=list(labels), columns=columns).style


GITHUB = Markup(markdown, str, "*%s*", "**%s**", "<u>%s</u>")
LATEX = Markup(
    tex,
    lambda text: "$-$".join(map(tex, text.split("-"))),  # a minus sign, not a hyphen
    r"\makebox[0pt][l]{\textit{%s}}",  # so that it does not widen the column
    r"\textbf{%s}",
    r"\underline{%s}",
)
HTML = Markup(markup.escape, markup.escape, "<i>%s</i>", "<b>%s</b>", "<u>%s</u>")


def github(table: Table) -> str:
    """For Markdown as GitHub shows it; a group's name stands in each of its columns."""
    blocks = [f"**{markdown(table.title)}**"]
    if table.columns:
        heads = [f"{column.group} {column.name}".lstrip() for column in table.columns]
        heads = [markdown(head) for head in (table.corner, *heads)]
        blocks.append(markdown_table(heads, GITHUB.rows(table), table.columns))
    if table.notes:
        blocks.append("\n".join(f"- {markdown(note)}" for note in table.notes))
    return "\n\n".join(blocks)


def markdown_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[Column]
) -> str:
    """A table of texts that are Markdown already.

    Args:
        heads: of all columns, that of the labels first.
        rows: cells, the label first.
        columns: those after the labels.
    """
    sides = ["left", *("left" if column.words else "right" for column in columns)]
    return tabulate(rows, heads, "pipe", colalign=sides, disable_numparse=True)


def latex(table: Table) -> str:
    """A float, with rules by booktabs."""
    notes = [note[:1].upper() + note[1:] if table.wide else note for note in table.notes]
    caption = ". ".join(map(tex, [table.title, *notes])) + "."
    if not table.columns:
        return f"\\begin{{table}}\n\\caption{{{caption}}}\n\\end{{table}}"
    sides = ["l" if column.words else "r" for column in table.columns]
    styler = LATEX.styler(table)
    lines = styler.to_latex(
        column_format="l" + "".join(sides),
        position_float="centering",
        hrules=True,
        caption=caption,
        multicol_align="c",
    ).splitlines()
    lines.insert(lines.index(r"\centering") + 1, r"\small\setlength{\tabcolsep}{3pt}")
    if any(column.group for column in table.columns):
        spans = [(places[0] + 2, places[-1] + 2) for group, places in table.groups() if group]
        rules = "".join(rf"\cmidrule(lr){{{first}-{last}}}" for first, last in spans)
        lines.insert(lines.index(r"\toprule") + 2, rules)
    place = lines.index(r"\midrule") + 1
    for section in table.sections[:-1]:
        place += len(section.rows) + bool(section.heading)
        lines.insert(place, r"\midrule")
        place += 1
    packages = "booktabs"
    if table.wide:
        packages += ",graphicx"
        first, last = (lines.index(line) for line in lines if "{tabular}" in line)
        lines[first] = rf"\resizebox{{{SMALLER}}}{{!}}{{{lines[first]}"
        lines[last] += "}"
    return "\n".join([rf"% needs \usepackage{{{packages}}}", *lines])


def html(table: Table) -> str:
    """A `<table>` of the class that `STYLE` is for."""
    caption = "<br>".join(map(markup.escape, [table.title, *table.notes]))
    if not table.columns:
        return f"<p>{caption}</p>"
    written = HTML.styler(table).to_html(caption=caption, exclude_styles=True).rstrip()
    return written.replace("<table>", '<table class="mtlbench">', 1)


# --- data ---------------------------------------------------------------------------------------


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, None where a value is missing."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in record.items()}
        for record in frame.to_dict("records")
    ]


def as_json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
