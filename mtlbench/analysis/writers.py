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
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from mtlbench.analysis.printing import BEST, MISSING, SECOND, Cell
from mtlbench.analysis.table import FORMATS, Column, Table
from mtlbench.errors import unknown

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

WIDTH = 120
"""Of tables where there is no terminal that says how wide it is (characters)."""

LATEX_WIDTH = 100
"""Of tables that fit a text width of 6.5 inches (characters)."""

SENTENCE_WIDTH = 100
"""At which sentences are wrapped (characters)."""

TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}", "]": "{]}",  # a bare bracket after \\ would be read as its argument
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "–": "--",
    "τ": r"$\tau$", "√": r"$\surd$", "−": "$-$", "²": r"\textsuperscript{2}",
    "σ": r"$\sigma$", "χ": r"$\chi$", "Δ": r"$\Delta$", "°": r"$^\circ$",
}  # fmt: skip

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
    writer = writer_of(format, terminal)
    text = "\n\n".join(map(writer, tables(is_plain(format, terminal)))) + "\n"
    return STYLE + text if format == "html" else text


def writer_of(format: str, terminal: bool) -> Callable[[Table], str]:
    """The function that writes one table in a format for people."""
    return {
        "table": lambda table: text(table, terminal),
        "github": github,
        "latex": latex,
        "html": html,
    }[format]


def is_plain(format: str, terminal: bool) -> bool:
    """Whether there is neither bold nor underlined text."""
    return format == "table" and not terminal


# --- plain text ---------------------------------------------------------------------------------


def text(table: Table, terminal: bool = False) -> str:
    """For people to read; `terminal` where it shows bold text, else marks are ¹ and ²."""
    width = shutil.get_terminal_size().columns if terminal else WIDTH
    grids = [_grid(part, terminal) for part in table.split(width)]
    notes = [line for note in table.notes for line in wrapped(note)]
    return "\n".join(filter(None, [table.title, "\n\n".join(grids), *notes]))


def wrapped(sentence: str, indent: str = "", *, first: str = "") -> list[str]:
    """A sentence in lines, all but the first of them indented."""
    return textwrap.wrap(
        sentence,
        SENTENCE_WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _grid(table: Table, terminal: bool) -> str:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    grid.add_column(Text(table.corner), no_wrap=True, vertical="bottom")
    for group, places in table.groups():
        for place in places:
            head = f"{group if place == places[0] else ''}\n{table.columns[place].name}"
            grid.add_column(Text(head), no_wrap=True, vertical="bottom")
    columns = [_aligned(table, place, terminal) for place in range(len(table.columns))]
    values = zip(*columns, strict=True)
    for section in table.sections:
        if section.heading:
            grid.add_row()  # its heading follows below, so that it does not widen the column
        for row in section.rows:
            label = f"  {row.label}" if section.heading else row.label
            grid.add_row(Text(label), *next(values))
    lines = _printed(grid, terminal)
    if not any(column.group for column in table.columns):
        del lines[0]
    place = len(lines)
    for section in reversed(table.sections):
        place -= len(section.rows)
        if section.heading:
            place -= 1
            lines[place] = section.heading
    return "\n".join(lines)


def _aligned(table: Table, place: int, terminal: bool) -> list[Text]:
    """One column's cells with their decimal points below one another.

    Numbers of one metric are aligned; columns without ± are so throughout.
    """
    parts = [[row.cells[place] for row in section.rows] for section in table.sections]
    if not any(cell.std for part in parts for cell in part):
        parts = [[cell for part in parts for cell in part]]
    words = table.columns[place].words
    texts = []
    for part in parts:
        mean = max(len(cell.mean) for cell in part)
        std = max(len(cell.std) for cell in part)
        for cell in part:
            number = (cell.mean or MISSING).rjust(0 if words else mean)
            number += f" ± {cell.std.rjust(std)}" if cell.std else ""
            written = Text(number)
            if terminal:
                pad = len(number) - len(number.lstrip())
                written.stylize({BEST: "bold", SECOND: "underline"}.get(cell.rank, ""), pad)
            elif cell.rank:
                written.append({BEST: " ¹", SECOND: " ²"}[cell.rank])
            texts.append(written)
    return texts


def _printed(grid: RichTable, terminal: bool) -> list[str]:
    """The lines of a table; with codes for bold text for a `terminal`."""
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        width=80,
    )
    # A narrow terminal may break lines; a table that drops digits would be worse.
    console.width = Measurement.get(console, console.options.update(width=10_000), grid).maximum
    with console.capture() as capture:
        console.print(grid)
    return [line.rstrip() for line in capture.get().splitlines()]


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

    def captions(self, table: Table, parts: int, between: str) -> list[str]:
        """One for each part of a table: its title, and the notes below the first."""
        title, notes = self.escape(table.title), list(map(self.escape, table.notes))
        if parts < 2:
            return [between.join([title, *notes])]
        titles = [f"{title} ({part} of {parts})" for part in range(1, parts + 1)]
        return [between.join([titles[0], *notes]), *titles[1:]]


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
    parts = [
        markdown_table(
            [
                markdown(part.corner),
                *(markdown(f"{column.group} {column.name}".lstrip()) for column in part.columns),
            ],
            GITHUB.rows(part),
            part.columns,
        )
        for part in table.split(WIDTH)
    ]
    notes = "\n".join(f"- {markdown(note)}" for note in table.notes)
    return "\n\n".join(filter(None, [f"**{markdown(table.title)}**", *parts, notes]))


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
    """A float for each part, with rules by booktabs."""
    sides = {True: "l", False: "r"}
    parts = table.split(LATEX_WIDTH)
    captions = LATEX.captions(table, len(parts), ". ")
    if not parts:
        return f"\\begin{{table}}\n\\caption{{{captions[0]}.}}\n\\end{{table}}"
    floats = []
    for part, caption in zip(parts, captions, strict=True):
        lines = (
            LATEX.styler(part)
            .to_latex(
                column_format="l" + "".join(sides[column.words] for column in part.columns),
                position_float="centering",
                hrules=True,
                caption=f"{caption}.",
                multicol_align="c",
            )
            .splitlines()
        )
        lines.insert(2, r"\small")
        rules = "".join(
            rf"\cmidrule(lr){{{places[0] + 2}-{places[-1] + 2}}}"
            for group, places in part.groups()
            if group
        )
        if rules:
            lines.insert(lines.index(r"\toprule") + 2, rules)
        floats.append("\n".join([r"% needs \usepackage{booktabs}", *lines]))
    return "\n\n".join(floats)


def html(table: Table) -> str:
    """A `<table>` for each part."""
    parts = table.split(WIDTH)
    captions = HTML.captions(table, len(parts), "<br>")
    if not parts:
        return f"<p>{captions[0]}</p>"
    return "\n".join(
        HTML.styler(part)
        .to_html(caption=caption, exclude_styles=True)
        .replace("<table>", '<table class="mtlbench">')
        .rstrip()
        for part, caption in zip(parts, captions, strict=True)
    )


# --- data ---------------------------------------------------------------------------------------


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, None where a value is missing."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in record.items()}
        for record in frame.to_dict("records")
    ]


def as_json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
