"""Spaces: the values among which a parameter is searched.

A stage of a strategy declares those of its own parameters as `space`, a suite those that all
strategies share. Points are taken from the unit cube, so that one sequence of points serves all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """All numbers between two ends.

    Attributes:
        low, high: the ends.
        log: whether the logarithm is uniform, as for what counts by its order of magnitude.
        whole: whether only whole numbers are taken.

    Raises:
        ValueError: the ends are exchanged or equal, not finite, or not above 0 for a logarithm.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"the ends of a range must be finite, but are {self}")
        if not self.low < self.high:
            raise ValueError(f"a range must begin below its end, but is {self}")
        if self.log and self.low <= 0:
            raise ValueError(f"a range of a logarithm must begin above 0, but is {self}")

    def at(self, share: float) -> float | int:
        """The value at a share of the range in [0, 1), to four digits."""
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
        ValueError: fewer than two.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(f"a choice needs two values or more, but has {self.values}")

    def at(self, share: float) -> Any:
        """The value at a share of the values in [0, 1)."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


Dimension = Range | Choice

MOST_DIMENSIONS = 32
"""Of a space: points are drawn with so many coordinates, of which a space takes the first."""


def around(value: float, factor: float = 8.0) -> Range:
    """The numbers from value/factor to value·factor, by their logarithm."""
    return Range(value / factor, value * factor, log=True)


def points(space: Mapping[str, Dimension], count: int, seed: int) -> list[dict[str, Any]]:
    """The first points of a space: of a scrambled Sobol sequence (Owen 1998).

    More points begin with the same ones; and spaces that begin with the same dimensions have the
    same values in them.

    Args:
        space: parameter to its values; the order counts.
        count: how many points.
        seed: of the scrambling.
    """
    if not space or not count:
        return [{} for _ in range(count)]
    return [
        {name: space[name].at(share) for name, share in zip(space, row, strict=False)}
        for row in _sobol(count, seed)
    ]


def _sobol(count: int, seed: int) -> Sequence[Sequence[float]]:
    import numpy as np
    from scipy.stats import qmc

    engine = qmc.Sobol(MOST_DIMENSIONS, scramble=True, rng=np.random.default_rng(seed))
    return engine.random_base2(math.ceil(math.log2(count)) if count > 1 else 0)[:count].tolist()
