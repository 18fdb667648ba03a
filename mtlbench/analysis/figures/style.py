"""What all figures share: widths, colours, a line for each strategy, legends, axes and files."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mtlbench.store.runs import StoredRun

SINGLE, DOUBLE = 3.3, 6.8
"""Widths of one and of two columns of a journal (in)."""

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"
CORRUPTED, CLEAN = VERMILION, BLUE
"""Of labels, in all figures that tell them apart."""

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "mtlbench",
}

Line = dict[str, Any]
"""How one strategy's line is drawn: `color`, `linestyle`, `marker`."""

PAPER_LINES: dict[str, Line] = {
    "equal": {"color": BLACK, "linestyle": "--", "marker": "s"},
    "mtu": {"color": ORANGE, "linestyle": "-.", "marker": "^"},
    "dwa": {"color": SKY, "linestyle": (0, (5, 1)), "marker": "v"},
    "gls": {"color": GREEN, "linestyle": (0, (3, 1, 1, 1, 1, 1)), "marker": "D"},
    "ilt": {"color": VERMILION, "linestyle": "-", "marker": "o"},
}
OTHER_COLORS = (PURPLE, BLUE, GREY, GREEN, VERMILION, ORANGE)
OTHER_DASHES = (("-", "P"), ("--", "X"), (":", "*"), ("-.", "<"), ((0, (1, 1)), ">"))


@dataclass(frozen=True)
class Configuration:
    """The runs of one strategy, with one setting, on one variant: those that are done.

    Attributes:
        key: the strategy's key with its settings, `ilt[ilt.lr=4.0]`.
        label: what a legend calls it.
        line: how its lines are drawn, the same in all figures.
        runs: one run a seed, in the order of seeds.
    """

    key: str
    label: str
    line: Line
    runs: list[StoredRun]

    @property
    def info(self) -> Mapping[str, Any]:
        return self.runs[0].info


def lines(keys: Sequence[str]) -> dict[str, Line]:
    """A line for each configuration: fixed for the paper's strategies, in turn for the others."""
    # Six colours and five dashes, in step: thirty lines before one comes again.
    others = (
        {"color": color, "linestyle": dashes, "marker": marker}
        for color, (dashes, marker) in zip(cycle(OTHER_COLORS), cycle(OTHER_DASHES), strict=False)
    )
    return {key: PAPER_LINES[key] if key in PAPER_LINES else next(others) for key in keys}


def file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+=_-]+", "-", name).replace("]", "").strip("-")


def save(figure: Figure, stem: Path) -> list[Path]:
    png, svg = (stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg"))
    figure.savefig(png, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None})
    return [png, svg]


def line_handles(lines: Iterable[tuple[str, Line]]) -> list[Artist]:
    return [Line2D([], [], label=label, **line) for label, line in lines]


def legend_columns(handles: Sequence[Artist], width: float) -> int:
    """How many columns of a legend fit a width (in): all, or as many as the longest allows."""
    lengths = [len(str(handle.get_label())) + 8 for handle in handles]  # 8: the line and the gaps
    room = int(width * 18)  # characters of 7 pt
    return len(handles) if sum(lengths) <= room else max(1, room // max(lengths))


def epoch_axis(axes: Axes) -> None:
    last = max(np.max(line.get_xdata()) for line in axes.lines)
    margin = 0.03 * last
    axes.set_xlim(1 - margin, last + margin)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))


def log_if_wide(axes: Axes) -> None:
    """A logarithmic axis where a curve spans so much that the others would lie flat."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() / values.min() > 30:
        axes.set_yscale("log")
