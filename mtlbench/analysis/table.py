"""A printed table, before it is written in one format or another.

Its columns stand in groups, such as the metrics of a task; its rows may stand in sections.
"""

from collections.abc import Callable, Sequence
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
        title: above the table.
        columns: beside that of the labels.
        sections: the rows; without columns or rows, only title and notes are shown.
        notes: sentences below the table.
        corner: above the labels.
        wide: whether it is for a paper: it stays whole up to `writers.WIDEST`, and LaTeX makes it
            smaller, under a caption of sentences. On a terminal it is cut as any other.
    """

    title: str
    columns: list[Column]
    sections: list[Section]
    notes: list[str]
    corner: str = ""
    wide: bool = False

    @property
    def rows(self) -> list[Row]:
        return [row for section in self.sections for row in section.rows]

    def groups(self) -> list[tuple[str, list[int]]]:
        """Neighbouring columns of one group, as (group, places)."""
        runs = groupby(
            range(len(self.columns)), lambda i: (self.columns[i].group or i, self.columns[i].group)
        )
        return [(group, list(places)) for (_, group), places in runs]

    def spelled(self, spell: Callable[[str], str]) -> "Table":
        """The table with other texts in place of all of its own."""
        columns = [replace(c, name=spell(c.name), group=spell(c.group)) for c in self.columns]
        sections = [
            Section(
                spell(section.heading),
                [
                    Row(
                        spell(row.label),
                        [replace(c, mean=spell(c.mean), std=spell(c.std)) for c in row.cells],
                    )
                    for row in section.rows
                ],
            )
            for section in self.sections
        ]
        notes = list(map(spell, self.notes))
        return Table(spell(self.title), columns, sections, notes, spell(self.corner), self.wide)

    def split(self, width: int) -> list["Table"]:
        """Tables of some columns each, in order, that are no wider than asked for.

        Groups stay whole, but for one that is too wide by itself. One column may be wider, too.
        Titles are numbered where there are several; the first has the notes.

        Args:
            width: of the plain text (characters).
        """
        if not self.rows:
            return [replace(self, columns=[])]
        blocks: list[list[int]] = []
        for _, group in self.groups():
            for part in [group] if self._width(group) <= width else [[place] for place in group]:
                if blocks and self._width(blocks[-1] + part) <= width:
                    blocks[-1] = blocks[-1] + part
                else:
                    blocks.append(part)
        if len(blocks) < 2:
            return [self]
        return [
            replace(
                self._take(block),
                title=f"{self.title} ({number} of {len(blocks)})",
                notes=self.notes if number == 1 else [],
            )
            for number, block in enumerate(blocks, start=1)
        ]

    def _width(self, places: Sequence[int]) -> int:
        """How wide the table with these columns alone is as plain text (characters)."""
        indent = 2 * any(section.heading for section in self.sections)
        width = max(len(self.corner), *(indent + len(row.label) for row in self.rows))
        group = ""
        for column, place in ((self.columns[place], place) for place in places):
            cells = [row.cells[place] for row in self.rows]
            std = max(len(cell.std) for cell in cells)
            numbers = max(len(cell.mean) for cell in cells) + (std and len(" ± ") + std)
            marks = len(" ¹") * any(cell.rank for cell in cells)
            over = "" if column.group == group else column.group
            width += GAP + max(numbers + marks, len(column.name), len(over))
            group = column.group
        return width

    def _take(self, places: Sequence[int]) -> "Table":
        """The table with some of its columns alone."""
        sections = [
            Section(s.heading, [Row(row.label, [row.cells[i] for i in places]) for row in s.rows])
            for s in self.sections
        ]
        return replace(self, columns=[self.columns[i] for i in places], sections=sections)
