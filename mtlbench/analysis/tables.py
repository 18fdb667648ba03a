"""A comparison as tables, one per variant, and as data."""

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.contributions import contributions_table
from mtlbench.analysis.many_tasks import condensed
from mtlbench.analysis.marks import marks
from mtlbench.analysis.printing import Cell, heading, one_line, rounded_cells
from mtlbench.analysis.selection import is_apart
from mtlbench.analysis.table import Column, Section, Table
from mtlbench.analysis.wide import widen
from mtlbench.analysis.writers import write
from mtlbench.errors import UserError

DATA_FORMATS = ("csv", "json")
"""Those of `table.FORMATS` that hold means over runs alone."""


def render(
    comparison: Comparison,
    format: str = "table",
    *,
    terminal: bool = False,
    wide: bool = False,
    contributions: bool = False,
) -> str:
    """Writes a comparison in one of the `table.FORMATS`.

    Printed tables come one per variant. In each column, strategies that cannot be told from the
    best are bold; see `marks`. With too few seeds to tell any apart, the best mean is bold and the
    second best underlined; means that print the same share a mark. Plain text marks them ¹ and ².

    Args:
        comparison: what to write.
        format: one of the formats; `csv` and `json` hold `comparison.summary`.
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.
        wide: as a paper has it, with rows in blocks and more columns; see `wide.wide`.
        contributions: below each table, what every metric adds to Δm; see
            `contributions.contributions`.

    Raises:
        UserError: there is no such format, or it holds data and shows neither of these two.
    """
    require_shown(format, wide=wide, contributions=contributions)
    return write(
        format,
        lambda plain: build(
            comparison, plain=plain, wide=wide, contributions=contributions, all_tasks=False
        ),
        comparison.summary,
        terminal=terminal,
    )


def require_shown(format: str, *, wide: bool, contributions: bool) -> None:
    """Makes sure that a format shows what is asked for.

    Raises:
        UserError: it does not.
    """
    asked = ["--wide"] * wide + ["--contributions"] * contributions
    if asked and format in DATA_FORMATS:
        raise UserError(
            f"no {' or '.join(asked)} in the format {format!r}, which holds means over runs alone"
        )


def build(
    comparison: Comparison,
    *,
    plain: bool = False,
    wide: bool = False,
    contributions: bool = False,
    all_tasks: bool = True,
) -> list[Table]:
    """The tables of a comparison, one per variant; with contributions, two.

    Args:
        comparison: what they show.
        plain: whether marks are ¹ and ², and not bold and underlined text.
        wide, contributions: as for `render`.
        all_tasks: whether every metric of every task has a column, however many they are.
    """
    tables = []
    for variant in comparison.variants:
        tables.append(_table(comparison, variant, plain, wide, all_tasks))
        if contributions:
            tables.append(contributions_table(comparison, variant))
    return tables


def _table(comparison: Comparison, variant: str, plain: bool, wide: bool, all_tasks: bool) -> Table:
    shown, told = (comparison, []) if all_tasks else condensed(comparison, variant)
    summary = shown.summary[shown.summary["variant"] == variant]
    strategies = list(summary["strategy"].unique())
    marked = marks(shown.runs[shown.runs["variant"] == variant])
    compared = [not is_apart(strategy) for strategy in strategies]
    columns, cells = [], []
    for _, values in summary.groupby(["metric", "task"], sort=False):
        metric, task = values["metric"].iloc[0], values["task"].iloc[0]
        unit, direction = values["unit"].iloc[0], values["direction"].iloc[0]
        name = heading(shown.metric_labels[metric, task], unit, direction)
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
    notes = [caption, *told, *map(one_line, comparison.remarks[variant])]
    title = one_line(f"{comparison.suite}: {variant}")
    sections = [Section.of_columns("", labels, cells)] if columns else []
    table = Table(title, columns, sections, notes, "Strategy")
    return widen(table, comparison, variant, by_mean=marked.alike is None) if wide else table
