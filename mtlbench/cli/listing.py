"""The lists that `mtlbench list` prints."""

import shutil
import textwrap
from collections.abc import Iterator

from tabulate import tabulate

from mtlbench.data.corruption import CORRUPTIONS
from mtlbench.letters import as_printed
from mtlbench.registry import Entry
from mtlbench.stages import STAGES
from mtlbench.strategies.base import KINDS, strategies
from mtlbench.strategies.compose import stage_of
from mtlbench.suites.base import Suite, suites

Rows = list[tuple[str, ...]]

WIDTH = 120
"""Of a list, unless a terminal is narrower."""

STAYS = "\u00a0"
"""A space at which no line ends."""

MIDDLE, LEAST = 48, 24
"""The most that the column before the last takes, and the least of each of the two."""


def render(what: str) -> str:
    """A plain-text table of `strategies`, `suites`, `variants` or `corruptions`."""
    title, rows = {
        "strategies": _strategies,
        "suites": _suites,
        "variants": _variants,
        "corruptions": _corruptions,
    }[what]()
    rows = [tuple(map(as_printed, row)) for row in rows]
    first = [max(len(row[c]) for row in rows) for c in range(len(rows[0]) - 2)]
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 0)).columns)
    left = width - sum(first) - 2 * len(rows[0])
    title = textwrap.fill(title, max(LEAST, width), break_on_hyphens=False)
    if left < 2 * LEAST:
        return "\n".join([title, *_below_one_another(rows, max(LEAST, width))])
    middle = min(MIDDLE, max(LEAST, left // 2), max(len(row[-2]) for row in rows))
    lines = tabulate(
        rows,
        tablefmt="plain",
        disable_numparse=True,
        maxcolwidths=[*(None for _ in first), middle, max(LEAST, left - middle)],
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(
        [title, *(f"  {line}".rstrip() for line in lines.replace(STAYS, " ").splitlines())]
    )


def _below_one_another(rows: Rows, width: int) -> Iterator[str]:
    """The last two cells of a row below the others, where a terminal is too narrow for columns."""
    for *names, middle, last in rows:
        yield "  " + "  ".join(names)
        for text in (middle, last):
            lines = textwrap.wrap(text, width - 6, break_long_words=False, break_on_hyphens=False)
            yield from (f"      {line}".replace(STAYS, " ") for line in lines)


def _strategies() -> tuple[str, Rows]:
    rows: Rows = [
        (
            entry.name,
            stage_of(entry),
            entry.summary + " Sees validation labels." * getattr(entry.cls, "held_out", False),
            _parameters(entry),
        )
        for entry in strategies.entries()
    ]
    rows.sort(key=lambda row: list(STAGES).index(row[1]))
    return (
        "strategies (any instance stage goes with any task stage: ilt+pcgrad; those of TorchJD: "
        "torchjd:NAME; the mean weights that one found, fixed: frozen:NAME; gradient: also "
        "NAME.on=representation, NAME.every=N, log+NAME for the losses' logarithms, and samo+NAME "
        "for gradients where losses are larger nearby)"
    ), rows


def _suites() -> tuple[str, Rows]:
    rows: Rows = []
    for entry in suites.entries():
        suite: Suite = entry.cls()
        by_kind = {
            kind: ", ".join(task.name for task in suite.tasks() if task.kind == kind)
            for kind in KINDS
        }
        tasks = "; ".join(f"{kind}: {names}" for kind, names in by_kind.items() if names)
        rows.append((entry.name, entry.summary, tasks))
    return "suites", rows


def _variants() -> tuple[str, Rows]:
    rows: Rows = []
    for entry in suites.entries():
        suite: Suite = entry.cls()
        corruptible = [task.name for task in suite.tasks() if task.corruptions]
        forms = ", ".join(f"{name}@FRACTION" for name in corruptible)
        rows.append((entry.name, "default: " + " ".join(suite.default_variants), f"any: {forms}"))
    return "variants (TASK@FRACTION[:KIND]; TASK+TASK on the same instances; comma: apart)", rows


def _corruptions() -> tuple[str, Rows]:
    users: dict[str, list[str]] = {kind: [] for kind in CORRUPTIONS}
    for entry in suites.entries():
        suite: Suite = entry.cls()
        for task in suite.tasks():
            for position, kind in enumerate(task.corruptions):
                mark = f"{STAYS}(default)" if position == 0 else ""
                users[kind].append(f"{entry.name}{STAYS}{task.name}{mark}")
    return "corruptions", [
        (kind, corruption.summary, ", ".join(users[kind]))
        for kind, corruption in CORRUPTIONS.items()
    ]


def _parameters(entry: Entry) -> str:
    return " ".join(
        f"{entry.name}.{name}={parameter.default}" for name, parameter in entry.parameters().items()
    )
