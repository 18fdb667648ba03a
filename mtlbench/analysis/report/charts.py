"""Charts as geometry, for the page's template to draw as SVG: dots in rows, and curves.

Every chart is `WIDTH` units wide, about as many pixels as a phone has, and is shown at that scale:
text never shrinks. The numbers themselves go with the shapes, for the script to show on hover.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

WIDTH = 360
HEIGHT = 210
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 8, 32
NAMES = 118
"""Room for the names of rows."""

ROW = 17
LARGEST, FAR = 1e100, 10.0
"""Larger numbers are drawn outside, so many frames away: differences inside stay finite."""

MAX_POINTS, MAX_NUMBERS = 50, 1000
"""Of one curve, and of all curves of a chart; where there are more, every n-th epoch is shown."""

MIN_POINTS = 12

MAX_NAME = 19
"""Characters of a name that fit beside a row."""

WIDE = 30
"""Ratio of the largest to the smallest value from which on an axis is logarithmic."""


@dataclass(frozen=True)
class Scale:
    """Values to places along one side of a chart."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        values = [float(number) for number in (value, self.low, self.high)]
        at, low, high = map(math.log10, values) if self.log else values
        share = min(max((at - low) / (high - low), -FAR), FAR)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Round values inside the range, as (place, text)."""
        values = log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, count)
        return [(self(value), f"{value:.6g}".replace("-", "−")) for value in values]


def ticks(low: float, high: float, count: int) -> list[float]:
    """About so many multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    return [
        step * i for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        found = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(found) <= 7:
            return found
    return found[:: math.ceil(len(found) / 6)]


def _range(values: Iterable[float], *, log: bool = False) -> tuple[float, float]:
    """The lowest and the highest of the values that can be drawn, with a margin."""
    known = [float(v) for v in values if abs(v) < LARGEST and (v > 1 / LARGEST or not log)]
    low, high = min(known, default=1.0), max(known, default=1.0)
    if log:
        margin = max(1.02, (high / low) ** 0.04)
        return low / margin, high * margin
    least = 0.001 * max(abs(low), abs(high)) or 1.0
    margin = max(0.05 * (high - low), least)
    return low - margin, high + margin


# --- dots ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dot:
    """One row of a chart of dots: a mean with its standard deviation, NaN where there is none."""

    label: str
    css: str
    mean: float
    std: float
    tip: str


@dataclass(frozen=True)
class DotRow:
    name: str
    label: str
    css: str
    tip: str
    x: float
    y: float
    left: float
    right: float


@dataclass(frozen=True)
class DotChart:
    """Means of one metric in rows, the best on top."""

    title: str
    height: int
    ticks: list[tuple[float, str]]
    rows: list[DotRow]


def dot_chart(title: str, direction: str, dots: Sequence[Dot]) -> DotChart | None:
    """The chart of these means; None where not one of them is a number."""
    dots = [dot for dot in dots if math.isfinite(dot.mean)]
    if not dots:
        return None
    dots = sorted(dots, key=lambda dot: dot.mean, reverse=direction == "max")
    spread = [dot.std if math.isfinite(dot.std) else 0.0 for dot in dots]
    ends = [dot.mean + sign * s for dot, s in zip(dots, spread, strict=True) for sign in (-1, 1)]
    scale = Scale(*_range(ends), NAMES, WIDTH - RIGHT - 6)
    rows = [
        DotRow(
            shortened(dot.label), dot.label, dot.css, dot.tip, scale(dot.mean),
            TOP + ROW * (i + 0.5), scale(dot.mean - s), scale(dot.mean + s),
        )
        for i, (dot, s) in enumerate(zip(dots, spread, strict=True))
    ]  # fmt: skip
    return DotChart(title, TOP + ROW * len(rows) + 22, scale.ticks(4), rows)


def shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1].rstrip() + "…"


# --- curves -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """One curve [X], in a band from `low` to `high` where these are given; NaN is a gap."""

    label: str
    css: str
    mean: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclass(frozen=True)
class DrawnSeries:
    label: str
    css: str
    line: str
    band: str
    tip: str
    mean: str
    low: str
    high: str


@dataclass(frozen=True)
class CurveChart:
    """Curves over epochs or levels."""

    title: str
    x_name: str
    x: str
    y_scale: Scale
    x_scale: Scale
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[tuple[float, str]]
    series: list[DrawnSeries]
    band: str
    """The span of a band, for people to read; empty where there are none."""


def curve_chart(
    title: str,
    x_name: str,
    x: np.ndarray,
    series: Sequence[Series],
    *,
    band: str = "",
    lines: Sequence[tuple[float, str]] = (),
    log: bool | None = None,
    gaps: bool = True,
) -> CurveChart | None:
    """The chart of these curves; None where not one of them has a number.

    Args:
        title: what stands above it.
        x_name: what lies along the horizontal axis.
        x: its values [X].
        series: the curves.
        band: what their bands span.
        lines: horizontal lines to compare with, as (value, name).
        log: whether the vertical axis is logarithmic; by default where the values span much.
        gaps: whether a curve is broken where a number is missing.
    """
    most = min(MAX_POINTS, max(MIN_POINTS, MAX_NUMBERS // max(1, len(series))))
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), most)).round().astype(int))
    x = np.asarray(x, dtype=float)[keep]
    series = [_thinned(one, keep) for one in series if np.isfinite(one.mean[keep]).any()]
    if not series:
        return None
    arrays = [a for one in series for a in (one.mean, one.low, one.high) if a is not None]
    values = np.concatenate([*arrays, [value for value, _ in lines]])
    finite = values[np.isfinite(values)]
    if log is None:
        log = bool(finite.min() > 0 and finite.max() > WIDE * finite.min())
    y_scale = Scale(*_range(finite, log=log), HEIGHT - BOTTOM, TOP, log)
    margin = 0.02 * (x[-1] - x[0]) or 0.5
    x_scale = Scale(x[0] - margin, x[-1] + margin, LEFT, WIDTH - RIGHT)
    return CurveChart(
        title, x_name, _numbers(x), y_scale, x_scale,
        [tick for tick in x_scale.ticks(6) if _whole(tick[1])], y_scale.ticks(),
        [(y_scale(value), name) for value, name in lines],
        [_drawn(one, x_name, x, x_scale, y_scale, gaps) for one in series],
        band if any(one.low is not None for one in series) else "",
    )  # fmt: skip


def _thinned(series: Series, keep: np.ndarray) -> Series:
    low, high = (None if a is None else a[keep] for a in (series.low, series.high))
    return Series(series.label, series.css, series.mean[keep], low, high)


def _drawn(
    series: Series, x_name: str, x: np.ndarray, x_scale: Scale, y_scale: Scale, gaps: bool
) -> DrawnSeries:
    last = int(np.isfinite(series.mean).nonzero()[0][-1])
    tip = f"{series.label}: {series.mean[last]:.4g} at {x_name} {x[last]:g}"
    low, high = series.low, series.high
    return DrawnSeries(
        series.label, series.css, _line(x, series.mean, x_scale, y_scale, gaps),
        _band(x, low, high, x_scale, y_scale) if low is not None and high is not None else "",
        tip, _numbers(series.mean), "" if low is None else _numbers(low),
        "" if high is None else _numbers(high),
    )  # fmt: skip


def _line(x: np.ndarray, y: np.ndarray, x_scale: Scale, y_scale: Scale, gaps: bool) -> str:
    """A path through the numbers, with gaps where there are none, or straight across these."""
    path: list[str] = []
    pen = "M"
    for at, value in zip(x, y, strict=True):
        if math.isfinite(value) and (value > 0 or not y_scale.log):
            path.append(f"{pen}{x_scale(at):g} {y_scale(value):g}")
            pen = "L"
        elif gaps:
            pen = "M"
    return "".join(path)


def _band(x: np.ndarray, low: np.ndarray, high: np.ndarray, x_scale: Scale, y_scale: Scale) -> str:
    inside = np.isfinite(low) & np.isfinite(high) & ((low > 0) | (not y_scale.log))
    if inside.sum() < 2:
        return ""
    there = [f"{x_scale(a):g} {y_scale(b):g}" for a, b in zip(x[inside], high[inside], strict=True)]
    back = [f"{x_scale(a):g} {y_scale(b):g}" for a, b in zip(x[inside], low[inside], strict=True)]
    return f"M{'L'.join(there + back[::-1])}Z"


def _numbers(values: np.ndarray) -> str:
    """Numbers for the script to read; `n` where there is none."""
    return " ".join(f"{value:.4g}" if math.isfinite(value) else "n" for value in values)


def _whole(text: str) -> bool:
    return "." not in text
