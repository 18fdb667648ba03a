"""A comparison as tables, one per variant, and as data."""

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.marks import marks
from mtlbench.analysis.printing import Cell, heading, one_line, rounded_cells
from mtlbench.analysis.selection import is_apart
from mtlbench.analysis.table import Column, Section, Table
from mtlbench.analysis.writers import write


def render(comparison: Comparison, format: str = "table", *, terminal: bool = False) -> str:
    """Writes a comparison in one of the `table.FORMATS`.

    Printed tables come one per variant. In each column, strategies that cannot be told from the
    best are bold; see `marks`. With too few seeds to tell any apart, the best mean is bold and the
    second best underlined; means that print the same share a mark. Plain text marks them ¹ and ².

    Args:
        comparison: what to write.
        format: one of the formats; `csv` and `json` hold `comparison.summary`.
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.

    Raises:
        UserError: there is no such format.
    """
    return write(
        format,
        lambda plain: build(comparison, plain=plain),
        comparison.summary,
        terminal=terminal,
    )


def build(comparison: Comparison, *, plain: bool = False) -> list[Table]:
    """The tables of a comparison, one per variant.

    Args:
        comparison: what they show.
        plain: whether marks are ¹ and ², and not bold and underlined text.
    """
    return [_table(comparison, variant, plain) for variant in comparison.variants]


def _table(comparison: Comparison, variant: str, plain: bool) -> Table:
    summary = comparison.summary[comparison.summary["variant"] == variant]
    strategies = list(summary["strategy"].unique())
    marked = marks(comparison.runs[comparison.runs["variant"] == variant])
    compared = [not is_apart(strategy) for strategy in strategies]
    columns, cells = [], []
    for _, values in summary.groupby(["metric", "task"], sort=False):
        metric, task = values["metric"].iloc[0], values["task"].iloc[0]
        unit, direction = values["unit"].iloc[0], values["direction"].iloc[0]
        name = heading(comparison.metric_labels[metric, task], unit, direction)
        columns.append(Column(one_line(name), one_line(task), direction))
        values = values.set_index("strategy").reindex(strategies)
        by_mean = rounded_cells(values["mean"], values["std"], direction, compared=compared)
        cells.append(marked.mark((metric, task), strategies, by_mean))
    counts = summary.groupby("strategy")["n"].max().reindex(strategies)
    if not columns:
        caption = "no run has results"
    elif counts.nunique() > 1:
        caption = "mean ± std over the number of runs in the last column"
    else:
        caption = f"mean ± std over {counts.iloc[0]} runs" if counts.iloc[0] > 1 else "one run each"
    if any(cell.rank for column in cells for cell in column):
        caption += f"; {marked.legend(plain=plain)}"
    if columns and counts.nunique() > 1:
        columns.append(Column("Runs"))
        cells.append([Cell(str(count)) for count in counts])
    labels = [one_line(comparison.labels[strategy]) for strategy in strategies]
    notes = [caption, *map(one_line, comparison.remarks[variant])]
    title = one_line(f"{comparison.suite}: {variant}")
    sections = [Section.of_columns("", labels, cells)] if columns else []
    return Table(title, columns, sections, notes, "Strategy")
