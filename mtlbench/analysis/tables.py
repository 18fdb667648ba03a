"""A comparison as text: for the terminal, GitHub, LaTeX, HTML, and as data (CSV, JSON)."""

import html
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from mtlbench.analysis.aggregate import Comparison
from mtlbench.errors import unknown

FORMATS = ("table", "github", "latex", "html", "csv", "json")
MISSING = "–"
ARROWS = {"max": "↑", "min": "↓"}
BEST, SECOND = 1, 2
LEGEND = "best in bold, second best underlined"


@dataclass(frozen=True)
class Column:
    """One metric of a printed table."""

    task: str
    label: str
    unit: str
    direction: str

    @property
    def header(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit} {ARROWS[self.direction]}"


@dataclass(frozen=True)
class Cell:
    """One value of a printed table.

    Attributes:
        mean: digits of the mean; empty where there is no value.
        std: digits of the standard deviation; empty where there is none.
        rank: `BEST`, `SECOND`, or 0 for all others.
    """

    mean: str = ""
    std: str = ""
    rank: int = 0


@dataclass(frozen=True)
class Row:
    label: str
    cells: list[Cell]
    n: int


@dataclass(frozen=True)
class Table:
    """One variant's table, before it is written in one format or another."""

    title: str
    columns: list[Column]
    rows: list[Row]
    remarks: list[str]

    @property
    def counts_differ(self) -> bool:
        return len({row.n for row in self.rows}) > 1

    @property
    def caption(self) -> str:
        """What the numbers are: "mean ± std over 3 runs"."""
        if not self.columns:
            return "no run has results"
        n = self.rows[0].n
        if self.counts_differ:
            return "mean ± std over the number of runs in the last column"
        return f"mean ± std over {n} runs" if n > 1 else "one run each"

    @property
    def marked(self) -> bool:
        return any(cell.rank for row in self.rows for cell in row.cells)

    def groups(self) -> list[tuple[str, int]]:
        """Neighbouring columns of one task, as (task, how many)."""
        tasks = groupby(column.task for column in self.columns)
        return [(task, len(list(columns))) for task, columns in tasks]


def render(comparison: Comparison, format: str, *, terminal: bool = False) -> str:
    """Writes a comparison in one of the `FORMATS`.

    Printed tables come one per variant. In each column the best mean is bold and the second best
    underlined; means that print the same share a mark. Plain text marks them ¹ and ².

    Args:
        comparison: what to write.
        format: one of `FORMATS`.
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.

    Raises:
        UserError: there is no such format.
    """
    if format == "csv":
        return comparison.summary.to_csv(index=False, lineterminator="\n")
    if format == "json":
        return _json(comparison.summary)
    if format == "table":
        return "\n".join(_text(table, terminal) for table in build(comparison))
    writers = {"github": _github, "latex": _latex, "html": _html}
    if format not in writers:
        raise unknown("format", format, FORMATS)
    return "\n".join(writers[format](table) for table in build(comparison))


def build(comparison: Comparison) -> list[Table]:
    """The tables of a comparison, one per variant."""
    return [
        _table(comparison, variant, comparison.summary[comparison.summary["variant"] == variant])
        for variant in comparison.variants
    ]


def _table(comparison: Comparison, variant: str, summary: pd.DataFrame) -> Table:
    columns, cells = [], []
    strategies = list(summary["strategy"].unique())
    for _, values in summary.groupby(["metric", "task"], sort=False):
        first = values.iloc[0]
        task, unit, direction = first["task"], first["unit"], first["direction"]
        label = comparison.metric_labels[first["metric"], task]
        columns.append(Column(_one_line(task), _one_line(label), _one_line(unit), direction))
        values = values.set_index("strategy").reindex(strategies)
        cells.append(_cells(list(values["mean"]), list(values["std"]), direction))
    counts = summary.groupby("strategy")["n"].max()
    rows = [
        Row(
            _one_line(comparison.labels[strategy]),
            [column[i] for column in cells],
            int(counts[strategy]),
        )
        for i, strategy in enumerate(strategies)
    ]
    remarks = [_one_line(remark) for remark in comparison.remarks[variant]]
    return Table(_one_line(f"{comparison.suite}: {variant}"), columns, rows, remarks)


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- digits and marks ---------------------------------------------------------------------------


def _cells(means: Sequence[float], stds: Sequence[float], direction: str) -> list[Cell]:
    places = decimals(means, stds)
    shown = ["" if math.isnan(mean) else _digits(mean, places) for mean in means]
    spread = ["" if math.isnan(std) else _digits(std, places) for std in stds]
    ranks = _ranks(shown, direction)
    return [Cell(*cell) for cell in zip(shown, spread, ranks, strict=True)]


def decimals(means: Iterable[float], stds: Iterable[float]) -> int:
    """How many decimals a column shows: the same for all its numbers.

    Two significant digits of the median standard deviation, and never more than five of the
    median mean. Without a standard deviation, four of the median mean.
    """
    size = _magnitude(abs(mean) for mean in means) or 0
    spread = _magnitude(stds)
    if spread is None:
        return max(0, 3 - size)
    return max(0, min(1 - spread, 4 - size))


def _magnitude(values: Iterable[float]) -> int | None:
    """The power of ten of the upper median of the positive values; None where there are none."""
    positive = sorted(value for value in values if value > 0)
    if not positive:
        return None
    # Through the printed form: 0.0001 computed as 0.0000999… has the power -4.
    return int(f"{positive[len(positive) // 2]:.1e}".split("e")[1])


def _digits(value: float, places: int) -> str:
    return f"{value:z.{places}f}"


def _ranks(shown: Sequence[str], direction: str) -> list[int]:
    """Marks by printed value, so that two cells that read the same are marked the same."""
    present = [float(text) for text in shown if text]
    if len(present) < 2:
        return [0] * len(shown)
    order = sorted(set(present), reverse=direction == "max")
    rank = dict(zip(order, (BEST, SECOND), strict=False))
    return [rank.get(float(text), 0) if text else 0 for text in shown]


def _caption(table: Table, legend: str = LEGEND) -> str:
    return f"{table.caption}; {legend}" if table.marked else table.caption


def _joined(cell: Cell, plus_minus: str = " ± ") -> str:
    return f"{cell.mean}{plus_minus}{cell.std}" if cell.std else cell.mean


# --- plain text ---------------------------------------------------------------------------------


def _text(table: Table, terminal: bool) -> str:
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        width=80,
    )
    lines = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    lines.add_column("Strategy", no_wrap=True, vertical="bottom")
    tasks = [task if i == 0 else "" for task, count in table.groups() for i in range(count)]
    for task, column in zip(tasks, table.columns, strict=True):
        lines.add_column(Text(f"{task}\n{column.header}"), no_wrap=True)
    if table.counts_differ:
        lines.add_column(Text("\nRuns"), justify="right", no_wrap=True)
    columns = [
        _aligned(cells, terminal) for cells in zip(*(r.cells for r in table.rows), strict=True)
    ]
    for i, row in enumerate(table.rows):
        n = [str(row.n)] if table.counts_differ else []
        lines.add_row(Text(row.label), *(column[i] for column in columns), *n)
    # A narrow terminal may break lines; a table that drops digits would be worse.
    console.width = Measurement.get(console, console.options.update(width=10_000), lines).maximum
    with console.capture() as capture:
        if table.columns:
            console.print(lines)
    body = "\n".join(line.rstrip() for line in capture.get().splitlines())
    caption = _caption(table, LEGEND if terminal else "¹ best, ² second best")
    return "\n".join([table.title, *filter(None, [body]), caption, *table.remarks, ""])


def _aligned(cells: Sequence[Cell], terminal: bool) -> list[Text]:
    """One column's cells with their decimal points below one another."""
    mean = max(len(cell.mean) for cell in cells)
    std = max(len(cell.std) for cell in cells)
    texts = []
    for cell in cells:
        if not cell.mean:
            texts.append(Text(MISSING.rjust(mean)))
            continue
        number = cell.mean.rjust(mean) + (f" ± {cell.std.rjust(std)}" if cell.std else "")
        pad = len(number) - len(number.lstrip())
        text = Text(number)
        if terminal:
            text.stylize({BEST: "bold", SECOND: "underline"}.get(cell.rank, ""), pad)
        elif cell.rank:
            text.append({BEST: " ¹", SECOND: " ²"}[cell.rank])
        texts.append(text)
    return texts


# --- markup -------------------------------------------------------------------------------------


def _github(table: Table) -> str:
    def cell_text(cell: Cell) -> str:
        text = _joined(cell) or MISSING
        return {BEST: f"**{text}**", SECOND: f"<u>{text}</u>"}.get(cell.rank, text)

    names = [f"{_markdown(c.task)} {_markdown(c.header)}".lstrip() for c in table.columns]
    runs = ["Runs"] if table.counts_differ else []
    lines = [["Strategy", *names, *runs], [":--", *("--:" for _ in [*names, *runs])]]
    for row in table.rows:
        n = [str(row.n)] if runs else []
        lines.append([_markdown(row.label), *map(cell_text, row.cells), *n])
    body = [f"| {' | '.join(line)} |" for line in lines] if table.columns else []
    notes = [f"- {_markdown(remark)}" for remark in table.remarks]
    blocks = [[f"**{_markdown(table.title)}**"], body, [_caption(table)], notes]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]|~#$])", r"\\\1", html.escape(text, quote=False))


def _latex(table: Table) -> str:
    def cell_text(cell: Cell) -> str:
        text = _joined(cell, r" $\pm$ ")
        text = f"$-${text[1:]}" if text.startswith("-") else text
        marks = {BEST: rf"\textbf{{{text}}}", SECOND: rf"\underline{{{text}}}"}
        return marks.get(cell.rank, text) or "--"

    runs = ["Runs"] if table.counts_differ else []
    tasks, rules, start = [], [], 2
    for task, count in table.groups():
        tasks.append(rf"\multicolumn{{{count}}}{{c}}{{{_tex(task)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + count - 1}}}")
        start += count
    blank = [""] if runs else []
    headers = ["Strategy", *(_tex(column.header) for column in table.columns), *runs]
    rows = [
        [_tex(row.label), *map(cell_text, row.cells), *([str(row.n)] if runs else [])]
        for row in table.rows
    ]
    caption = ". ".join([_tex(table.title), _tex(_caption(table)), *map(_tex, table.remarks)])
    spec = "l" + "c" * len(table.columns) + "r" * len(runs)
    body = [
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        rf"{' & '.join(['', *tasks, *blank])} \\".lstrip(),
        "".join(rules),
        rf"{' & '.join(headers)} \\",
        r"\midrule",
        *(rf"{' & '.join(row)} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}.}}",
            *(body if table.columns else []),
            r"\end{table}",
            "",
        ]
    )


TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}", "]": "{]}",  # a bare bracket after \\ would be read as its argument
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "–": "--",
    "²": r"\textsuperscript{2}", "σ": r"$\sigma$", "°": r"$^\circ$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(TEX.get(character, character) for character in text)


def _html(table: Table) -> str:
    def cell_text(cell: Cell) -> str:
        text = _joined(cell) or MISSING
        return {BEST: f"<b>{text}</b>", SECOND: f"<u>{text}</u>"}.get(cell.rank, text)

    def row_text(tag: str, texts: Iterable[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{text}</{tag}>' for text in texts)}</tr>"

    escape: Callable[[str], str] = html.escape
    runs = table.counts_differ
    tasks = "".join(
        f'<th colspan="{count}" scope="colgroup">{escape(task)}</th>'
        for task, count in table.groups()
    )
    last = '<th rowspan="2">Runs</th>' if runs else ""
    notes = "".join(f"<br>{escape(remark)}" for remark in table.remarks)
    lines = [
        '<table class="mtlbench">',
        f"<caption>{escape(table.title)}<br>{_caption(table)}{notes}</caption>",
    ]
    if table.columns:
        lines += [
            "<thead>",
            f'<tr><th rowspan="2">Strategy</th>{tasks}{last}</tr>',
            row_text("th", (escape(column.header) for column in table.columns)),
            "</thead>",
            "<tbody>",
        ]
        for row in table.rows:
            cells = "".join(f"<td>{cell_text(cell)}</td>" for cell in row.cells)
            n = f"<td>{row.n}</td>" if runs else ""
            lines.append(f'<tr><th scope="row">{escape(row.label)}</th>{cells}{n}</tr>')
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>", ""])


# --- data ---------------------------------------------------------------------------------------


def _json(summary: pd.DataFrame) -> str:
    records = [
        {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in record.items()
        }
        for record in summary.to_dict("records")
    ]
    return json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
