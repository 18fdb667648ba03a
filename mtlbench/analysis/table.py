"""A printed table, before it is written in one format or another.

Its columns stand in groups, such as the metrics of a task; its rows may stand in sections.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from mtlbench.analysis.printing import Cell

FORMATS = ("table", "github", "latex", "html", "csv", "json")

GAP = 2
"""Between two columns (characters)."""


@dataclass(frozen=True)
class Column:
    """The head of one column.

    Attributes:
        name: above its cells, with unit and direction.
        group: above the names of neighbouring columns; "" for a column by itself.
        direction: "max" or "min" where that is best, else "".
        words: whether the cells are words, and so begin below one another.
    """

    name: str
    group: str = ""
    direction: str = ""
    words: bool = False


@dataclass(frozen=True)
class Row:
    """A label and a cell for each column."""

    label: str
    cells: list[Cell]


@dataclass(frozen=True)
class Section:
    """Rows under one heading; "" where a table has no sections."""

    heading: str
    rows: list[Row]

    @classmethod
    def of_columns(
        cls, heading: str, labels: Sequence[str], columns: Sequence[Sequence[Cell]]
    ) -> "Section":
        """Makes rows of columns, each with a cell for each of the labels."""
        rows = zip(labels, zip(*columns, strict=True), strict=True)
        return cls(heading, [Row(label, list(cells)) for label, cells in rows])


@dataclass(frozen=True)
class Table:
    """A printed table.

    Attributes:
        title: above the table; may be empty.
        columns: beside that of the labels; without any, only title and notes are shown.
        sections: the rows.
        notes: sentences below the table.
        corner: above the labels.
    """

    title: str
    columns: list[Column]
    sections: list[Section]
    notes: list[str]
    corner: str = ""

    @property
    def rows(self) -> list[Row]:
        return [row for section in self.sections for row in section.rows]

    def groups(self) -> list[tuple[str, list[int]]]:
        """Neighbouring columns of one group, as (group, places)."""
        runs = groupby(
            range(len(self.columns)), lambda i: (self.columns[i].group or i, self.columns[i].group)
        )
        return [(group, list(places)) for (_, group), places in runs]

    def width(self) -> int:
        """How wide the table is as plain text (characters)."""
        indent = 2 * any(section.heading for section in self.sections)
        width = max(len(self.corner), *(indent + len(row.label) for row in self.rows))
        for group, places in self.groups():
            for place in places:
                column = [row.cells[place] for row in self.rows]
                means, stds = (max(len(getattr(c, n)) for c in column) for n in ("mean", "std"))
                cells = means + (stds and 3 + stds) + 2 * any(cell.rank for cell in column)
                head = max(len(group) * (place == places[0]), len(self.columns[place].name))
                width += GAP + max(cells, head)
        return width

    def take(self, places: Sequence[int]) -> "Table":
        """The table with some of its columns alone."""
        return replace(
            self,
            columns=[self.columns[place] for place in places],
            sections=[
                Section(
                    section.heading,
                    [Row(row.label, [row.cells[i] for i in places]) for row in section.rows],
                )
                for section in self.sections
            ],
        )

    def split(self, width: int) -> list["Table"]:
        """Tables of some columns each, in order, that are no wider than asked for.

        Groups stay whole, but for one that is too wide by itself. One column may be wider, too.

        Args:
            width: of the plain text (characters).
        """

        def fits(places: list[int]) -> bool:
            return self.take(places).width() <= width

        blocks: list[list[int]] = []
        for _, group in self.groups():
            for part in [group] if fits(group) else [[place] for place in group]:
                if blocks and fits(blocks[-1] + part):
                    blocks[-1] = blocks[-1] + part
                else:
                    blocks.append(part)
        return [self.take(block) for block in blocks]
