"""Progress of preparing, on standard error: a bar, or lines where that is no terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0
"""Least time between two lines of progress where standard error is no terminal."""


@contextmanager
def show_progress(total: int, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Gives the function that is to be told of the items and the rows of every shard.

    Args:
        total: the number of items.
        unit: their name, in the plural.
    """
    console = Console(stderr=True)
    started = time.monotonic()
    items = rows = 0

    if not console.is_terminal:
        shown = started

        def print_line(more_items: int, more_rows: int) -> None:
            nonlocal items, rows, shown
            items, rows = items + more_items, rows + more_rows
            now = time.monotonic()
            if now - shown < LINE_SECONDS and items < total:
                return
            shown = now
            line = f"[{items}/{total} {unit}] {rows / (now - started):,.0f} images/s"
            if items < total:
                left = timedelta(seconds=round((now - started) * (total - items) / items))
                line += f" · about {left} left"
            print(line, file=sys.stderr, flush=True)

        yield print_line
        return

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]:,.0f} images/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total, rate=0.0)

        def update(more_items: int, more_rows: int) -> None:
            nonlocal rows
            rows += more_rows
            progress.update(task, advance=more_items, rate=rows / (time.monotonic() - started))

        yield update
