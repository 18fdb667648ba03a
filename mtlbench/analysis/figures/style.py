"""Widths, colours, a line for each strategy, and files: what all figures have in common."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from mtlbench.errors import UserError
from mtlbench.files import replacing
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
    "figure.labelsize": 8,
    "figure.titlesize": 8,
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
"""Properties of one strategy's line: `color`, `marker`, and `dashes`, which is empty if solid."""

SOLID, DASHED, DOTTED, DASH_DOT = (), (3.7, 1.6), (1, 1.65), (6.4, 1.6, 1, 1.6)

PAPER_LINES: dict[str, Line] = {
    "equal": {"color": BLACK, "dashes": DASHED, "marker": "s"},
    "mtu": {"color": ORANGE, "dashes": DASH_DOT, "marker": "^"},
    "dwa": {"color": SKY, "dashes": (5, 1), "marker": "v"},
    "gls": {"color": GREEN, "dashes": (3, 1, 1, 1, 1, 1), "marker": "D"},
    "ilt": {"color": VERMILION, "dashes": SOLID, "marker": "o"},
}
OTHER_COLORS = (PURPLE, BLUE, GREY, GREEN, VERMILION, ORANGE)
OTHER_DASHES = (
    (SOLID, "P"), (DASHED, "X"), (DOTTED, "*"), (DASH_DOT, "<"), ((1, 1), ">"), ((8, 2), "p"),
    ((5, 1, 1, 1, 1, 1, 1, 1), "h"),
)  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """The runs of one strategy, with one setting, on one variant: those that are done.

    Attributes:
        key: the strategy's key with its settings, `ilt[ilt.lr=4.0]`.
        label: its name in a legend.
        line: properties of its lines, the same in all figures.
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
    # Six colours and seven dashes, in step: 42 lines before one comes again.
    others = (
        {"color": color, "dashes": dashes, "marker": marker}
        for color, (dashes, marker) in zip(cycle(OTHER_COLORS), cycle(OTHER_DASHES), strict=False)
    )
    return {key: PAPER_LINES[key] if key in PAPER_LINES else next(others) for key in keys}


def save_figures(figures: Iterable[tuple[str, Figure]], out: str | Path) -> list[Path]:
    """Writes each figure, given as (name, figure), as PNG (200 dpi) and as SVG.

    Args:
        figures: best a generator, so that they are drawn in the style in which they are written.
        out: the directory; made where missing. A link in it is replaced, not followed.

    Raises:
        UserError: it cannot be made or written to.
    """
    out = Path(out)
    written = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            for name, figure in figures:
                stem = re.sub(r"[^A-Za-z0-9.+=_-]+", "-", name).replace("]", "").strip("-")
                for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                    written.append(out / f"{stem}.{kind}")
                    with replacing(written[-1]) as aside:
                        figure.savefig(aside, format=kind, metadata=metadata)
    except OSError as error:
        where = str(error.filename2 or error.filename or out)
        raise UserError(f"figures cannot be written: {where!r}: {error.strerror}") from error
    return written


def legend_columns(handles: Sequence[Artist], width: float) -> int:
    """Columns of a legend that fit a width (in): all, or as many as the longest entry allows."""
    lengths = [len(str(handle.get_label())) + 8 for handle in handles]  # 8: the line and the gaps
    room = int(width * 18)  # characters of 7 pt
    return len(handles) if sum(lengths) <= room else max(1, room // max(lengths))
