"""What all printed tables share: rounded numbers, marks of the best, and text for each format."""

import html as markup
import io
import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

MISSING = "–"
ARROWS = {"max": "↑", "min": "↓"}
BEST, SECOND = 1, 2

TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}", "]": "{]}",  # a bare bracket after \\ would be read as its argument
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "–": "--",
    "τ": r"$\tau$", "√": r"$\surd$", "−": "$-$", "²": r"\textsuperscript{2}",
    "σ": r"$\sigma$", "χ": r"$\chi$", "Δ": r"$\Delta$", "°": r"$^\circ$",
}  # fmt: skip


# --- text ---------------------------------------------------------------------------------------


def markdown(text: str) -> str:
    """Text that GitHub shows as it is."""
    return re.sub(r"([\\`*_{}\[\]|~#$])", r"\\\1", markup.escape(text, quote=False))


def tex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(TEX.get(character, character) for character in text)


def heading(label: str, unit: str, direction: str) -> str:
    """What stands above the numbers of a metric: "mIoU (%) ↑"."""
    return f"{label} ({unit}) {ARROWS[direction]}" if unit else f"{label} {ARROWS[direction]}"


def legend(*, plain: bool) -> str:
    """What the marks mean; `plain` text has no bold."""
    return "¹ best, ² second best" if plain else "best in bold, second best underlined"


# --- cells --------------------------------------------------------------------------------------


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

    @property
    def text(self) -> str:
        return f"{self.mean} ± {self.std}" if self.std else self.mean

    def github(self) -> str:
        text = self.text or MISSING
        return {BEST: f"**{text}**", SECOND: f"<u>{text}</u>"}.get(self.rank, text)

    def latex(self) -> str:
        text = "$-$".join(map(tex, self.text.split("-")))  # a minus sign, not a hyphen
        marks = {BEST: rf"\textbf{{{text}}}", SECOND: rf"\underline{{{text}}}"}
        return marks.get(self.rank, text) or "--"

    def html(self) -> str:
        text = markup.escape(self.text) or MISSING
        return {BEST: f"<b>{text}</b>", SECOND: f"<u>{text}</u>"}.get(self.rank, text)


def rounded_cells(
    means: Collection[float],
    stds: Collection[float],
    direction: str,
    places: int | None = None,
) -> list[Cell]:
    """Cells of numbers, NaN where there is none, with the best marked.

    Args:
        means: the numbers.
        stds: their standard deviations.
        direction: "max" or "min", which is best.
        places: decimals to show; by default the `decimals` of these numbers.
    """
    if places is None:
        places = decimals(means, stds)
    return marked_cells(
        [digits(mean, places) for mean in means], [digits(std, places) for std in stds], direction
    )


def marked_cells(means: Sequence[str], stds: Sequence[str], direction: str) -> list[Cell]:
    """Cells of printed numbers, empty where there is none, with the best marked."""
    ranks = _ranks(means, direction)
    return [Cell(*cell) for cell in zip(means, stds, ranks, strict=True)]


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


def digits(value: float, places: int) -> str:
    """A number as it prints; empty for NaN."""
    return "" if math.isnan(value) else f"{value:z.{places}f}"


def _magnitude(values: Iterable[float]) -> int | None:
    """The power of ten of the upper median of the positive values; None where there are none."""
    positive = sorted(value for value in values if value > 0)
    if not positive:
        return None
    # Through the printed form: 0.0001 computed as 0.0000999… has the power -4.
    return int(f"{positive[len(positive) // 2]:.1e}".split("e")[1])


def _ranks(shown: Sequence[str], direction: str) -> list[int]:
    """Marks by printed value, so that two cells that read the same are marked the same."""
    present = [float(text) for text in shown if text]
    if len(present) < 2:
        return [0] * len(shown)
    order = sorted(set(present), reverse=direction == "max")
    rank = dict(zip(order, (BEST, SECOND), strict=False))
    return [rank.get(float(text), 0) if text else 0 for text in shown]


# --- layout -------------------------------------------------------------------------------------


def spans(names: Iterable[str]) -> list[tuple[str, int]]:
    """Neighbours of one name, as (name, how many)."""
    return [(name, len(list(same))) for name, same in groupby(names)]


def aligned(cells: Sequence[Cell], terminal: bool) -> list[Text]:
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


def printed(table: RichTable, terminal: bool) -> list[str]:
    """The lines of a table; with codes for bold text for a `terminal`."""
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        width=80,
    )
    # A narrow terminal may break lines; a table that drops digits would be worse.
    console.width = Measurement.get(console, console.options.update(width=10_000), table).maximum
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]
