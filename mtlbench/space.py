"""Spaces: the values among which a parameter is searched.

A stage of a strategy declares those of its own parameters as `space`, a suite those that all
strategies share. Points are taken from the unit cube, so that one sequence of points serves all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any


@dataclass(frozen=True)
class Range:
    """All numbers between two ends.

    Attributes:
        low, high: the ends.
        log: whether the logarithm is uniform, as for what counts by its order of magnitude.
        whole: whether only whole numbers are taken.

    Raises:
        ValueError: the ends are exchanged or equal, not finite, not above 0 for a logarithm, or
            not whole where only whole numbers are taken.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        try:
            finite = math.isfinite(self.low) and math.isfinite(self.high)
        except OverflowError:
            raise ValueError("an end of a range is too large for a number") from None
        if not finite:
            raise ValueError(f"the ends of a range must be finite, but are {self}")
        if self.whole and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ValueError(f"a range of whole numbers must have whole ends, but is {self}")
        if not self.low < self.high:
            raise ValueError(f"a range must begin below its end, but is {self}")
        if self.log and self.low <= 0:
            raise ValueError(f"a range of a logarithm must begin above 0, but is {self}")

    def at(self, shares: Sequence[float], tasks: Sequence[str] = ()) -> float | int:
        """The value at a share of the range in [0, 1), to four digits."""
        (share,) = shares
        if self.log:
            value = self.low * (self.high / self.low) ** share
        elif self.whole:
            value = math.floor(self.low + share * (self.high - self.low + 1))
        else:
            value = self.low + share * (self.high - self.low)
        return round(value) if self.whole else float(f"{value:.4g}")

    def __str__(self) -> str:
        kind = " (log)" * self.log + " (whole)" * self.whole
        return f"{self.low:g} to {self.high:g}{kind}"


@dataclass(frozen=True)
class Choice:
    """Some values.

    Raises:
        ValueError: fewer than two, or one of them twice.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(f"a choice needs two values or more, but has {self.values}")
        for number, value in enumerate(self.values):
            if value in self.values[:number]:
                raise ValueError(f"a choice has {value!r} twice")

    def at(self, shares: Sequence[float], tasks: Sequence[str] = ()) -> Any:
        """The value at a share of the values in [0, 1)."""
        (share,) = shares
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


@dataclass(frozen=True)
class TaskWeights:
    """All weights of the tasks whose mean is 1, every set as likely as another."""

    def at(self, shares: Sequence[float], tasks: Sequence[str] = ()) -> dict[str, float]:
        """The weights at as many shares in [0, 1) as there are tasks, to four digits."""
        drawn = [-math.log1p(-share) for share in shares]  # of the exponential distribution
        total = math.fsum(drawn) or 1.0
        weights = [len(tasks) * each / total for each in drawn]
        return {task: float(f"{w:.4g}") for task, w in zip(tasks, weights, strict=True)}

    def __str__(self) -> str:
        return "all weights with mean 1"


Dimension = Range | Choice | TaskWeights

Space = Mapping[str, Dimension]
"""Parameter to the values among which it is searched; the order counts."""


def dimension(text: str) -> Dimension:
    """From `LOW:HIGH`, `LOW:HIGH:log`, `LOW:HIGH:whole` or `A,B,C`.

    Raises:
        ValueError: it is none of them, or what `Range` and `Choice` refuse.
    """
    ends, *kinds = text.split(":")
    if "," in ends and not kinds:
        return Choice(tuple(_number_in(part.strip()) for part in ends.split(",")))
    low, high = _number_in(ends), _number_in(kinds[0]) if kinds else None
    known = set(kinds[1:]) <= {"log", "whole"} and len(set(kinds[1:])) == len(kinds[1:])
    if isinstance(low, str) or high is None or isinstance(high, str) or not known:
        raise ValueError(
            f"values are LOW:HIGH, LOW:HIGH:log, LOW:HIGH:whole or A,B,C, not {text!r}"
        )
    return Range(low, high, log="log" in kinds, whole="whole" in kinds)


def _number_in(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


MOST_COORDINATES = 64
"""Points are drawn with so many coordinates, of which a space takes the first."""


def around(value: float, factor: float = 8.0) -> Range:
    """The numbers from value/factor to value·factor, by their logarithm."""
    return Range(value / factor, value * factor, log=True)


def points(space: Space, count: int, seed: int, tasks: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The first points of a space: of a scrambled Sobol sequence (Owen 1998).

    More points begin with the same ones; and spaces that begin with the same dimensions have the
    same values in them.

    Args:
        space: what is searched.
        count: how many points.
        seed: of the scrambling.
        tasks: names of the tasks.

    Raises:
        ValueError: the space has too many dimensions.
    """
    if not space or count < 1:
        return [{} for _ in range(count)]
    widths = [len(tasks) if isinstance(each, TaskWeights) else 1 for each in space.values()]
    if sum(widths) > MOST_COORDINATES:
        raise ValueError(f"{sum(widths)} dimensions are more than {MOST_COORDINATES}")
    ends = list(accumulate(widths))
    return [
        {
            name: space[name].at(row[end - width : end], tasks)
            for name, width, end in zip(space, widths, ends, strict=True)
        }
        for row in _sobol(count, seed)
    ]


def _sobol(count: int, seed: int) -> Sequence[Sequence[float]]:
    import numpy as np
    from scipy.stats import qmc

    engine = qmc.Sobol(MOST_COORDINATES, scramble=True, rng=np.random.default_rng(seed))
    return engine.random_base2(math.ceil(math.log2(count)) if count > 1 else 0)[:count].tolist()
