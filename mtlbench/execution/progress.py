"""Shows a study under way: live on a terminal, as plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtlbench.errors import printable
from mtlbench.execution.events import ENDS, NOTICE, WAITING, Event

BESIDE_RUNS = 3
"""Lines of the picture that are not those of a run."""


def say(text: str) -> None:
    """Tells a person something in between, on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def counted(count: int, units: str) -> str:
    """ "1 run of them", "2 runs of them": of units in the plural."""
    first, _, rest = units.partition(" ")
    words = (str(count), first.removesuffix("s") if count == 1 else first, rest)
    return " ".join(filter(None, words))


class Tally:
    """Counts what happened to the runs of a study."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.ended: Counter[str] = Counter()
        self.running: dict[str, Event] = {}  # by the job's hash
        self.waiting = False  # for a machine
        self.started = time.monotonic()

    def add(self, event: Event) -> None:
        if event.job is None:
            self.waiting = event.kind == WAITING
            return
        self.waiting = False
        if event.kind in ENDS:
            self.ended[event.kind] += 1
            self.running.pop(event.job.hash, None)
        elif event.kind != NOTICE:
            self.running[event.job.hash] = event

    def seconds_left(self) -> float | None:
        """Estimate from the share of epochs that are over (s).

        None before there is any, while there is no machine, and when all have ended.
        """
        if self.waiting or self.ended.total() >= self.total:
            return None
        running = list(self.running.values())  # a picture is drawn beside what changes it
        share = self.ended.total() + sum(e.epoch / e.epochs for e in running if e.epochs)
        if not share:
            return None
        return (time.monotonic() - self.started) * (self.total - share) / share

    def summary(self) -> str:
        parts = [f"{self.ended.total()} of {self.total} runs"]
        if self.running:
            parts.append(f"{len(self.running)} running")
        parts += [
            f"{self.ended[kind]} {kind}" for kind in ("diverged", "failed") if self.ended[kind]
        ]
        left = self.seconds_left()
        if left is not None:
            parts.append(f"about {duration(left)} left")
        return " · ".join(parts)


@contextmanager
def show_progress(total: int, console: Console) -> Iterator[Callable[[Event], None]]:
    """Gives the function that is to be told of every event of a study of `total` runs."""
    tally = Tally(total)
    if not console.is_terminal or console.is_dumb_terminal:

        def print_line(event: Event) -> None:
            tally.add(event)
            if event.kind in (NOTICE, WAITING):
                say(_notice(event))
            elif event.kind in ENDS:
                say(_line(event, tally))

        yield print_line
        return

    def picture() -> RenderableType:
        return _picture(tally, max(0, console.height - BESIDE_RUNS))

    live = Live(get_renderable=picture, console=console, refresh_per_second=4, transient=True)
    with live:

        def update(event: Event) -> None:
            tally.add(event)
            if event.kind in (NOTICE, WAITING):
                live.console.print(Text(_notice(event)), style="yellow")
            elif event.kind in ("diverged", "failed"):
                live.console.print(Text(_line(event, tally)), style="red")

        yield update


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _notice(event: Event) -> str:
    return printable(event.text if event.job is None else f"{event.job} {event.text}")


def _line(event: Event, tally: Tally) -> str:
    text = f"[{tally.ended.total()}/{tally.total}] {event.job} {event.kind}"
    if event.seconds:
        text += f" in {duration(event.seconds)}"
    if event.text:
        text += f": {event.text}"
    left = tally.seconds_left()
    if left is not None:
        text += f" · about {duration(left)} left"
    return printable(text)


def _picture(tally: Tally, most: int) -> RenderableType:
    """The study as it is, with no more than so many of the runs under way."""
    rows = Table.grid(padding=(0, 1))
    running = list(tally.running.values())
    for event in running[:most]:
        epochs = f"epoch {event.epoch}/{event.epochs}" if event.epochs else "starting"
        rows.add_row(Text(str(event.job)), ProgressBar(event.epochs or 1, event.epoch, 24), epochs)
    whole = ProgressBar(tally.total, tally.ended.total())
    more = len(running) - most
    beside = [Text(f"and {more} more")] if more > 0 else []
    return Group(whole, Text(tally.summary(), style="bold"), rows, *beside)
