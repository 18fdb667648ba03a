"""What fixed weights of two tasks reach, and whether other strategies reach more."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.markers import CARETDOWN, CARETLEFT, CARETRIGHT, CARETUP

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.figures.panels import COLOURED, CROWD, OTHERS, line_handles, panels
from mtlbench.analysis.figures.style import PAPER_LINES, Line, lines
from mtlbench.analysis.frontier import Frontier, attained, frontier, pareto_front

MOST_TASKS = 3
"""Each pair of tasks has a panel: of more tasks, they are too many."""

FIXED = "#666666"
DOTS: Line = {"color": FIXED, "linestyle": "none", "marker": ".", "markersize": 4}
GREY_DOTS: Line = {"color": OTHERS["color"], "linestyle": "none", "marker": "o", "markersize": 4}
FRONT: Line = {"color": FIXED, "linewidth": 0.9}
OUTSIDE: Line = {"linestyle": "none", "markersize": 4.5, "markeredgewidth": 0, "clip_on": False}

CARETS = {(-1, 0): CARETLEFT, (1, 0): CARETRIGHT, (0, -1): CARETDOWN, (0, 1): CARETUP}
"""By the side on which a point is outside."""

ENTRIES = 3
"""Of a legend, beside the strategies."""

FAR = 2
"""A panel is widened by no more than so many times what it must show; what is further is outside.

A trial whose weights or learning rate are far off would make one blot of all others."""

Limits = tuple[np.ndarray, np.ndarray]
"""The lowest and the highest values that are shown, along both axes [2]."""


def frontier_figure(comparison: Comparison, variant: str, roots: Sequence[Path]) -> Figure | None:
    """The front of fixed weights, and what other tuned strategies reach; a panel a pair of tasks.

    Each strategy stands at the trial chosen. Of many, the paper's have a marker of their own, and
    the best of those that are beyond the front.

    Args:
        comparison: of which.
        variant: its variant.
        roots: the results directories with the trials.

    Returns:
        None where too few fixed weights were tried, or the tasks are too many or one alone.
    """
    found = frontier(comparison, variant, roots)
    if found is None or not 2 <= len(found.measures) <= MOST_TASKS:
        return None
    pairs = [list(pair) for pair in combinations(range(len(found.measures)), 2)]
    line_of = lines(list(comparison.labels))
    named = {key: _marker(line_of[key]) for key in _named(found, pairs)}
    handles = line_handles((comparison.labels[key], _filled(named[key])) for key in named)
    if len(named) < len(found.others):
        rest = f"{len(found.others) - len(named)} others"
        handles += line_handles([(rest, GREY_DOTS)])
    if any(found.others[key].default is not None for key in named):
        default = _marker({"color": FIXED, "marker": "o"})
        handles += line_handles([("default parameters", _open(default))])
    handles += line_handles([(f"{len(found.fixed)} fixed weights", DOTS), ("their front", FRONT)])
    figure, grid = panels(len(pairs), handles, height=2.4 if len(pairs) == 1 else 2.1)
    for axes, pair in zip(grid, pairs, strict=True):
        _draw(axes, found, pair, named)
    grid[len(grid) // 2].set_title("validation data, one seed")
    return figure


def _marker(line: Line) -> Line:
    return {"color": line["color"], "marker": line["marker"], "linestyle": "none"}


def _filled(marker: Line) -> Line:
    """Through its face, markers behind it are seen."""
    face = to_rgba(marker["color"], 0.75)
    return {**marker, "markersize": 5.5, "markeredgewidth": 0.9, "markerfacecolor": face}


def _open(marker: Line) -> Line:
    return {**marker, "markersize": 4.5, "markeredgewidth": 0.8, "markerfacecolor": "white"}


def _named(found: Frontier, pairs: Iterable[Sequence[int]]) -> list[str]:
    """Strategies with a marker of their own, in the same order."""
    if len(found.others) <= CROWD - ENTRIES:
        return list(found.others)
    beyond = {key for pair in pairs for key in _beyond(found, pair)}
    some = [key for key in found.others if key in PAPER_LINES or key in beyond]
    first = sorted(some, key=lambda key: (key not in PAPER_LINES, -found.others[key].score))
    return [key for key in some if key in first[:COLOURED]]


def _beyond(found: Frontier, pair: Sequence[int]) -> list[str]:
    """Strategies that reach in two tasks what no fixed weights reach."""
    points = np.array([each.chosen[pair] for each in found.others.values()])
    directions = [found.measures[k].direction for k in pair]
    mask = attained(points, found.fixed[:, pair], directions)
    return [key for key, known in zip(found.others, mask, strict=True) if not known]


def _draw(axes: Axes, found: Frontier, pair: Sequence[int], named: Mapping[str, Line]) -> None:
    """Two tasks of a frontier; strategies that are not named are grey."""
    measures = [found.measures[k] for k in pair]
    directions = [measure.direction for measure in measures]
    fixed = found.fixed[:, pair]
    front = fixed[pareto_front(fixed, directions)]
    chosen = {key: each.chosen[pair] for key, each in found.others.items()}
    default = {
        key: each.default[pair]
        for key, each in found.others.items()
        if key in named and each.default is not None
    }
    rest = [*fixed, *default.values(), *chosen.values()]
    shown = limits(np.array([*front, *(chosen[key] for key in named)]), np.array(rest))
    xlim, ylim = np.transpose(shown)
    axes.set(xlim=xlim, ylim=ylim, xlabel=measures[0].label, ylabel=measures[1].label)
    axes.plot(*staircase(front, directions, shown).T, **FRONT, zorder=2)
    grey = [point for key, point in chosen.items() if key not in named]
    _plot(axes, np.reshape(grey, (-1, 2)), GREY_DOTS, shown, zorder=1)
    for key, marker in named.items():
        if key in default:
            ends = np.transpose([default[key], chosen[key]])
            axes.plot(*ends, color=marker["color"], linewidth=0.6, zorder=3)
            axes.plot(*default[key], **_open(marker), zorder=3)
        axes.plot(*chosen[key], **_filled(marker), zorder=5)
    # Above the default parameters: those of equal weights are among the fixed ones.
    _plot(axes, fixed, DOTS, shown, zorder=4)


def _plot(axes: Axes, points: np.ndarray, marker: Line, shown: Limits, zorder: float) -> None:
    """Points [N, 2], and a caret at the edge of the panel for each that is outside."""
    low, high = shown
    places = np.clip(points, low, high)
    side = (points > high).astype(int) - (points < low)
    side[side[:, 0] != 0, 1] = 0
    for x, y in np.unique(side, axis=0):
        there = places[(side == (x, y)).all(axis=1)]
        caret = {**OUTSIDE, "color": marker["color"], "marker": CARETS.get((x, y))}
        axes.plot(*there.T, **(marker if x == y == 0 else caret), zorder=zorder)


def limits(core: np.ndarray, rest: np.ndarray) -> Limits:
    """The part of a panel that is shown: all that counts, and what else is not far from it.

    Args:
        core: points that must be shown [N, 2].
        rest: others, which may be outside [M, 2].
    """
    low, high = core.min(axis=0), core.max(axis=0)
    far = FAR * np.where(high > low, high - low, np.ptp(rest, axis=0))
    near = rest[((rest >= low - far) & (rest <= high + far)).all(axis=1)]
    low, high = (end(np.concatenate([core, near]), axis=0) for end in (np.min, np.max))
    margin = 0.06 * np.where(high > low, high - low, np.abs(high) + 1e-9)
    return low - margin, high + margin


def staircase(front: np.ndarray, directions: Sequence[str], shown: Limits) -> np.ndarray:
    """The corners of what a front reaches, from one edge of a panel to the other.

    Args:
        front: points of which none dominates another [N, 2].
        directions: "max" or "min" along both axes.
        shown: where the panel ends.

    Returns:
        Corners in order, from the worst x to the best one [2 N + 1, 2].
    """
    worst = np.where(np.array(directions) == "max", *shown)
    order = np.argsort(front[:, 0])[:: 1 if directions[0] == "max" else -1]
    x, y = front[order].T
    xs = np.repeat([worst[0], *x], 2)[1:]
    ys = np.repeat([*y, worst[1]], 2)[:-1]
    return np.stack([xs, ys], axis=1)
