"""The expected best of n trials by n, all strategies together."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.budget import SPREAD, budgets, budgets_shown
from mtlbench.analysis.figures.panels import COLOURED, CROWD, OTHERS, line_handles, panels
from mtlbench.analysis.figures.style import GREY, PAPER_LINES, Line, lines

BANDS = 5
"""More bands than these hide one another, and none is drawn: the table has their ends."""

WIDE = 5
"""An axis is linear until the lowest score lies so many times as far below 0 as the best above."""


def budget_figure(comparison: Comparison, variant: str) -> Figure | None:
    """The expected best of n trials, a line each, and few of them in a band of its quantiles.

    Where there are many strategies, the paper's and the best of the others have a line of their
    own. None where no strategy was tuned, or no trial ended well.
    """
    rows = budgets(comparison)
    rows = rows[(rows["variant"] == variant) & rows["expected"].notna()]
    if rows.empty:
        return None
    curves = {str(key): curve for key, curve in rows.groupby("strategy", sort=False)}
    line_of = lines(list(comparison.labels))
    named = _named(curves) if len(curves) > CROWD else list(curves)
    handles = line_handles((_label(comparison, key, curves[key]), line_of[key]) for key in named)
    if len(named) < len(curves):
        handles += line_handles([(f"{len(curves) - len(named)} others", OTHERS)])
    banded = len(curves) <= BANDS
    if banded:
        low, high = (f"{100 * share:g}" for share in SPREAD)
        handles.append(Patch(facecolor=GREY, alpha=0.4, label=f"{low} to {high} % of draws"))
    figure, (axes,) = panels(1, handles, height=2.4)
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    for key in sorted(curves, key=named.__contains__):
        _draw(axes, curves[key], line_of[key] if key in named else OTHERS, band=banded)
    _axes(axes, rows)
    return figure


def _named(curves: dict[str, pd.DataFrame]) -> list[str]:
    """Strategies with a line of their own among many, in the same order."""
    ends = {key: curve["expected"].iloc[-1] for key, curve in curves.items()}
    first = sorted(curves, key=lambda key: (key not in PAPER_LINES, -ends[key]))[:COLOURED]
    return [key for key in curves if key in first]


def _label(comparison: Comparison, key: str, curve: pd.DataFrame) -> str:
    networks = curve["networks"].iloc[0] // curve["trials"].iloc[0]
    label = comparison.labels[key]
    return label if networks == 1 else f"{label} ({networks} networks)"


def _draw(axes: Axes, curve: pd.DataFrame, line: Line, *, band: bool) -> None:
    trials = curve["trials"].to_numpy()
    shown = np.flatnonzero(np.isin(trials, budgets_shown([int(trials[-1])])))
    axes.plot(trials, curve["expected"], **line, markevery=list(shown))
    if band:
        axes.fill_between(
            trials, curve["low"], curve["high"], color=line["color"], alpha=0.12, linewidth=0
        )


def _axes(axes: Axes, rows: pd.DataFrame) -> None:
    """Trials by powers of two, as in the table."""
    ends: Sequence[int] = rows.groupby("strategy")["trials"].max().to_list()
    shown = budgets_shown(ends)
    axes.set_xscale("log", base=2)
    axes.set_xticks(shown, list(map(str, shown)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("trials, the default parameters first")
    axes.set_ylabel("expected best Δm (%) ↑")
    axes.set_title("validation data, over the default Eq. Weight")
    lowest, highest = rows["low"].min(), max(1.0, rows["high"].max())
    if lowest < -WIDE * highest:
        # Some default parameters are so bad that all other curves would lie flat.
        axes.set_yscale("symlog", linthresh=highest, linscale=2)
        far = [-factor * 10.0**power for power in range(7) for factor in (1, 3)]
        ticks = [*MaxNLocator(4).tick_values(0, highest), *(at for at in far if at < -highest)]
        axes.set_yticks(ticks, [f"{at:g}".replace("-", "−") for at in ticks])
        axes.set_ylim(1.2 * lowest, 1.2 * highest)
        axes.yaxis.set_minor_locator(NullLocator())
