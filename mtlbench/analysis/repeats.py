"""Own runs held against the reference results: do they repeat them?

The same spec gives the same bits on one kind of processor only, and training carries a difference
in the last digit into the first. So what is asked of other bits is whether they are further from
the reference than other seeds would be: of every mean of a configuration that was run in both
places, Student's two-sample t-test over its runs (`statistics.two_sample`), corrected by Holm over
all such means of the comparison. Runs of the same seed are not paired: a pair would tell any
difference of two machines, however small beside that of two seeds. Since they tend to lie on the
same side, the test errs towards telling too little.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from mtlbench.analysis import statistics
from mtlbench.analysis.printing import decimals, digits
from mtlbench.analysis.remarks import plural
from mtlbench.store.schema import DONE

MOST = 5
"""So many differences are named under one table."""


@dataclass(frozen=True)
class Pair:
    """One mean of a configuration, here and in the reference results.

    Attributes:
        configuration, task, metric: of what; the metric by its label.
        ours, theirs: values of the runs that are done [R], [Q].
        p: of the test, corrected; NaN where there are too few runs for it.
    """

    configuration: str
    task: str
    metric: str
    ours: np.ndarray
    theirs: np.ndarray
    p: float

    @property
    def differs(self) -> bool:
        return self.p <= statistics.ALPHA

    @property
    def numbers(self) -> str:
        """ "86.3 ± 1.2 here, 95.2 ± 0.3 there"."""
        both = [self.ours, self.theirs]
        means = [float(values.mean()) for values in both]
        stds = [float(values.std(ddof=1)) if len(values) > 1 else np.nan for values in both]
        places = decimals(means, stds)
        ours, theirs = (
            " ± ".join(filter(None, (digits(mean, places), digits(std, places))))
            for mean, std in zip(means, stds, strict=True)
        )
        return f"{ours} here, {theirs} there"


@dataclass(frozen=True)
class Repeats:
    """The runs of one variant that there are in both places.

    Attributes:
        shared: how many specs.
        same: how many of them gave the same results to the last digit.
        pairs: all means of configurations with runs in both places, in the order of the rows.
    """

    shared: int
    same: int
    pairs: list[Pair]

    @cached_property
    def differing(self) -> list[Pair]:
        return sorted((pair for pair in self.pairs if pair.differs), key=lambda pair: pair.p)

    @property
    def identical(self) -> bool:
        """Whether there is nothing but copies."""
        return 0 < self.shared == self.same

    @cached_property
    def tested(self) -> int:
        return sum(bool(np.isfinite(pair.p)) for pair in self.pairs)

    def sentences(self, labels: Mapping[str, str]) -> Iterator[str]:
        """The notes under the table; none where nothing was run in both places.

        Args:
            labels: what printed tables call each configuration.
        """
        if self.shared:
            yield (
                f"{self.same} of {self.shared} {plural('run', self.shared)} that the reference "
                "results have too came out the same to the last digit"
            )
        for pair in self.differing[:MOST]:
            yield (
                f"{labels[pair.configuration]}: {pair.metric} of {pair.task} differs from the "
                f"reference results by more than seeds do: {pair.numbers} (t-test, "
                f"Holm-adjusted p = {pair.p:.2g})"
            )
        if len(self.differing) > MOST:
            yield f"and {len(self.differing) - MOST} more means differ by more than seeds do"
        if self.pairs and not self.identical:
            if not self.tested:
                yield "too few runs to tell whether they differ by more than seeds do"
            elif not self.differing:
                yield (
                    f"none of {self.tested} {plural('mean', self.tested)} differs from the "
                    "reference results by more than seeds do (t-tests, Holm, "
                    f"{100 * statistics.ALPHA:g} %)"
                )


def repeats(
    here: pd.DataFrame, reference: pd.DataFrame, metrics: Sequence[str] | None = None
) -> dict[str, Repeats]:
    """Own runs beside the reference runs of the same configurations, by variant.

    Args:
        here: rows of own runs of one suite, as from `selection.select`, with all their metrics.
        reference: those of reference runs.
        metrics: whose means are tested; all by default.
    """
    cells = {}
    for variant, mine in here.groupby("variant", sort=False):
        theirs = reference[reference["variant"] == variant]
        if metrics is not None:
            mine = mine[mine["metric"].isin(list(metrics))]
        cells[str(variant)] = list(_pairs(mine, theirs))
    every = [pair for pairs in cells.values() for pair in pairs]
    p = np.array([pair.p for pair in every])
    known = np.isfinite(p)
    p[known] = statistics.holm(p[known])
    adjusted = iter(p.tolist())
    return {
        variant: Repeats(
            *_same(here[here["variant"] == variant], reference),
            [replace(pair, p=next(adjusted)) for pair in pairs],
        )
        for variant, pairs in cells.items()
    }


def _pairs(here: pd.DataFrame, reference: pd.DataFrame) -> Iterator[Pair]:
    """The means of one variant, each with its p-value as it is."""
    cell = ["configuration", "metric", "task"]
    theirs = {key: rows["value"] for key, rows in _measured(reference).groupby(cell)}
    for key, rows in _measured(here).groupby(cell, sort=False):
        if key in theirs:
            ours, other = rows["value"].to_numpy(), theirs[key].to_numpy()
            label = str(rows["metric_label"].iloc[0])
            configuration, _, task = map(str, key)
            yield Pair(configuration, task, label, ours, other, statistics.two_sample(ours, other))


def _measured(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["status"] == DONE) & np.isfinite(rows["value"])]


def _same(here: pd.DataFrame, reference: pd.DataFrame) -> tuple[int, int]:
    """The number of runs that are in both, and of those with the same results."""
    there = {key: _results(rows) for key, rows in reference.groupby("hash")}
    same = [_results(rows) == there[key] for key, rows in here.groupby("hash") if key in there]
    return len(same), sum(same)


def _results(rows: pd.DataFrame) -> set[tuple[str, ...]]:
    """All that came of one run; numbers as text, in which a missing one equals itself."""
    columns = (rows[name].map(repr) for name in ("status", "metric", "task", "value"))
    return set(zip(*columns, strict=True))
