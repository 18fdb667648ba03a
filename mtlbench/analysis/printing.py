"""Numbers as they print: rounded, in cells, with the best of a column marked."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

MISSING = "–"
ARROWS = {"max": "↑", "min": "↓"}
BEST, SECOND = 1, 2


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


def rounded_cells(
    means: Collection[float],
    stds: Collection[float],
    direction: str,
    places: int | None = None,
    *,
    compared: Sequence[bool] | None = None,
) -> list[Cell]:
    """Cells of numbers, NaN where there is none, with the best marked.

    Args:
        means: the numbers.
        stds: their standard deviations.
        direction: "max" or "min", which is best.
        places: decimals to show; by default the `decimals` of these numbers.
        compared: which of them can be best; all by default.
    """
    if places is None:
        places = decimals(means, stds)
    shown = [digits(mean, places) for mean in means]
    return marked_cells(shown, [digits(std, places) for std in stds], direction, compared=compared)


def marked_cells(
    means: Sequence[str],
    stds: Sequence[str],
    direction: str,
    *,
    compared: Sequence[bool] | None = None,
) -> list[Cell]:
    """Cells of printed numbers, empty where there is none, with the best marked."""
    compared = [True] * len(means) if compared is None else compared
    ranks = _ranks(
        [mean if own else "" for mean, own in zip(means, compared, strict=True)], direction
    )
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


def signed(value: float, places: int) -> str:
    """The same with its sign, also where it is positive."""
    return "" if math.isnan(value) else f"{value:+z.{places}f}"


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


def count_of_runs(counts: Iterable[int]) -> str:
    """ "3 runs", or "1 to 3 runs" where they differ; those without any do not count."""
    present = [count for count in counts if count]
    fewest, most = min(present, default=0), max(present, default=0)
    span = str(most) if fewest == most else f"{fewest} to {most}"
    return f"{span} run" if most == 1 else f"{span} runs"


def one_line(text: str) -> str:
    return " ".join(text.split())
