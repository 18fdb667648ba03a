"""A comparison as text: for the terminal, GitHub, LaTeX, HTML, and as data (CSV, JSON)."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.marks import Marks, marks
from mtlbench.analysis.printing import (
    Cell,
    aligned,
    heading,
    markdown,
    printed,
    rounded_cells,
    spans,
    tex,
)
from mtlbench.errors import unknown

FORMATS = ("table", "github", "latex", "html", "csv", "json")


@dataclass(frozen=True)
class Column:
    """One metric of a printed table."""

    task: str
    label: str
    unit: str
    direction: str

    @property
    def header(self) -> str:
        return heading(self.label, self.unit, self.direction)


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
    marks: Marks
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
        return spans(column.task for column in self.columns)


def render(comparison: Comparison, format: str, *, terminal: bool = False) -> str:
    """Writes a comparison in one of the `FORMATS`.

    Printed tables come one per variant. In each column, strategies that cannot be told from the
    best are bold; see `marks`. With too few seeds to tell any apart, the best mean is bold and the
    second best underlined; means that print the same share a mark. Plain text marks them ¹ and ².

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
        return as_json(records(comparison.summary))
    writers: dict[str, Callable[[Table], str]] = {
        "table": lambda table: _text(table, terminal),
        "github": _github,
        "latex": _latex,
        "html": _html,
    }
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
    marked = marks(comparison.runs[comparison.runs["variant"] == variant])
    for _, values in summary.groupby(["metric", "task"], sort=False):
        first = values.iloc[0]
        task, unit, direction = first["task"], first["unit"], first["direction"]
        label = comparison.metric_labels[first["metric"], task]
        columns.append(Column(_one_line(task), _one_line(label), _one_line(unit), direction))
        values = values.set_index("strategy").reindex(strategies)
        by_mean = rounded_cells(values["mean"], values["std"], direction)
        cells.append(marked.mark((first["metric"], task), strategies, by_mean))
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
    return Table(_one_line(f"{comparison.suite}: {variant}"), columns, rows, marked, remarks)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _caption(table: Table, *, plain: bool = False) -> str:
    return f"{table.caption}; {table.marks.legend(plain=plain)}" if table.marked else table.caption


# --- plain text ---------------------------------------------------------------------------------


def _text(table: Table, terminal: bool) -> str:
    lines = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    lines.add_column("Strategy", no_wrap=True, vertical="bottom")
    tasks = [task if i == 0 else "" for task, count in table.groups() for i in range(count)]
    for task, column in zip(tasks, table.columns, strict=True):
        lines.add_column(Text(f"{task}\n{column.header}"), no_wrap=True)
    if table.counts_differ:
        lines.add_column(Text("\nRuns"), justify="right", no_wrap=True)
    columns = [
        aligned(cells, terminal) for cells in zip(*(r.cells for r in table.rows), strict=True)
    ]
    for i, row in enumerate(table.rows):
        n = [str(row.n)] if table.counts_differ else []
        lines.add_row(Text(row.label), *(column[i] for column in columns), *n)
    body = printed(lines, terminal) if table.columns else []
    caption = _caption(table, plain=not terminal)
    return "\n".join([table.title, *body, caption, *table.remarks, ""])


# --- markup -------------------------------------------------------------------------------------


def _github(table: Table) -> str:
    names = [f"{markdown(c.task)} {markdown(c.header)}".lstrip() for c in table.columns]
    runs = ["Runs"] if table.counts_differ else []
    lines = [["Strategy", *names, *runs], [":--", *("--:" for _ in [*names, *runs])]]
    for row in table.rows:
        n = [str(row.n)] if runs else []
        lines.append([markdown(row.label), *(cell.github() for cell in row.cells), *n])
    body = [f"| {' | '.join(line)} |" for line in lines] if table.columns else []
    notes = [f"- {markdown(remark)}" for remark in table.remarks]
    blocks = [[f"**{markdown(table.title)}**"], body, [_caption(table)], notes]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _latex(table: Table) -> str:
    runs = ["Runs"] if table.counts_differ else []
    tasks, rules, start = [], [], 2
    for task, count in table.groups():
        tasks.append(rf"\multicolumn{{{count}}}{{c}}{{{tex(task)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + count - 1}}}")
        start += count
    blank = [""] if runs else []
    headers = ["Strategy", *(tex(column.header) for column in table.columns), *runs]
    rows = [
        [tex(row.label), *(cell.latex() for cell in row.cells), *([str(row.n)] if runs else [])]
        for row in table.rows
    ]
    caption = ". ".join([tex(table.title), tex(_caption(table)), *map(tex, table.remarks)])
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


def _html(table: Table) -> str:
    def row_text(tag: str, texts: Iterable[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{text}</{tag}>' for text in texts)}</tr>"

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
            cells = "".join(f"<td>{cell.html()}</td>" for cell in row.cells)
            n = f"<td>{row.n}</td>" if runs else ""
            lines.append(f'<tr><th scope="row">{escape(row.label)}</th>{cells}{n}</tr>')
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>", ""])


# --- data ---------------------------------------------------------------------------------------


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, None where a value is missing."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in record.items()}
        for record in frame.to_dict("records")
    ]


def as_json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
