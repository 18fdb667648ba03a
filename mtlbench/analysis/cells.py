"""The values of all runs by cell, and which of them are missing.

A *cell* is one metric of a task in one variant of a suite; a *block* holds the cells of one variant
of a suite. How well labels' corruption is detected is no cell: only some strategies tell.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mtlbench.analysis.statistics import ranks
from mtlbench.store.schema import DONE
from mtlbench.tasks.detection import DETECTION


@dataclass(frozen=True)
class Block:
    """The runs of one variant of a suite.

    Attributes:
        suite, variant: which.
        seeds: numbers [R].
        cells: task and metric's label of each cell [C].
        values: higher is better, so negative where a metric says the opposite; NaN where there
            is none [S, R, C].
        status: of the runs; "" where there is none [S, R].
    """

    suite: str
    variant: str
    seeds: np.ndarray
    cells: list[tuple[str, str]]
    values: np.ndarray
    status: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.suite} {self.variant}"

    def take(self, strategies: Sequence[int]) -> "Block":
        """The block of some strategies: seeds that one of them has, cells with a finite value."""
        chosen = list(strategies)
        rows = np.flatnonzero((self.status[chosen] != "").any(0))
        values = self.values[chosen][:, rows]
        columns = np.flatnonzero(np.isfinite(values).any((0, 1)))
        return Block(
            self.suite,
            self.variant,
            self.seeds[rows],
            [self.cells[c] for c in columns],
            values[..., columns],
            self.status[chosen][:, rows],
        )

    def whole(self) -> np.ndarray:
        """Which cells each strategy has in all seeds, bool [S, C]."""
        return np.isfinite(self.values).all(1)

    def problems(self, strategy: int) -> list[str]:
        """What one strategy misses: ["seed 2 diverged"]."""
        if not (self.status[strategy] != "").any():
            return ["no runs"]
        found = []
        for status in sorted({*self.status[strategy]} - {DONE}):
            seeds = self.seeds[self.status[strategy] == status]
            found.append(f"{_numbered('seed', seeds)} {status or 'missing'}")
        done = self.status[strategy] == DONE
        for cell, values in zip(self.cells, self.values[strategy].T, strict=True):
            if not np.isfinite(values[done]).all():
                seeds = self.seeds[done & ~np.isfinite(values)]
                found.append(f"{cell_name(cell)} not finite in {_numbered('seed', seeds)}")
        return found


def blocks(frame: pd.DataFrame, strategies: Sequence[str]) -> list[Block]:
    """The blocks of results, by suite and variant, the clean one first.

    Args:
        frame: rows of `load_results` with the column `configuration`, in any order.
        strategies: the configurations, in the order of the S axis.
    """
    place = {strategy: i for i, strategy in enumerate(strategies)}
    found = []
    for (suite, variant), inside in frame.groupby(["suite", "variant"]):
        row = inside["configuration"].map(place).to_numpy()
        seeds, column = np.unique(inside["seed"].to_numpy(), return_inverse=True)
        status = np.full((len(strategies), len(seeds)), "", dtype=object)
        status[row, column] = inside["status"]
        here = (inside["status"] == DONE) & inside["metric"].notna()
        here &= inside["metric"] != DETECTION
        measured, row, column = inside[here], row[here], column[here]
        cell = pd.MultiIndex.from_frame(measured[["task", "metric"]])
        names = cell.unique().sort_values()
        first = measured.set_index(cell).loc[:, ["task", "metric_label"]]
        first = first[~first.index.duplicated()].reindex(names)
        values = np.full((len(strategies), len(seeds), len(names)), np.nan)
        sign = np.where(measured["direction"] == "max", 1.0, -1.0)
        values[row, column, names.get_indexer(cell)] = sign * measured["value"]
        values[~np.isfinite(values)] = np.nan
        found.append(
            Block(
                str(suite),
                str(variant),
                seeds,
                list(zip(first["task"], first["metric_label"], strict=True)),
                values,
                status,
            )
        )
    return found


def weights(cells: Sequence[tuple[str, str]]) -> np.ndarray:
    """Of cells in an average: every task the same, inside it every metric [C]; they sum to 1."""
    tasks = [task for task, _ in cells]
    return np.array([1 / (len(set(tasks)) * tasks.count(task)) for task in tasks])


def paired_differences(block: Block, baseline: int) -> np.ndarray:
    """How much better (%) than the baseline's each run is, averaged over cells [S, R].

    Relative to the mean size of both over seeds, not to the baseline's alone as Δm is: that stays
    as it is when the two change places in a run, and where nothing but chance tells them apart,
    either sign is as likely as the other.
    """
    base = block.values[[baseline]]
    size = (np.abs(block.values) + np.abs(base)).mean(1, keepdims=True) / 2
    size[size == 0] = 1  # so are both values
    relative = 100 * (block.values - base) / size
    return np.einsum("src,c->sr", relative, weights(block.cells))


def common(block: Block, baseline: int) -> tuple[np.ndarray, np.ndarray]:
    """The values of all strategies and those of the baseline, NaN where not both have one: each
    [S, R, C]."""
    base = block.values[[baseline]]
    both = np.isfinite(block.values) & np.isfinite(base)
    return np.where(both, block.values, np.nan), np.where(both, base, np.nan)


def coverage(parts: Sequence[Block], strategies: int) -> np.ndarray:
    """Which share each strategy has of the values in some blocks, weighed as in averages over
    cells, every seed the same [S]."""
    there = np.zeros(strategies)
    for block in parts:
        there += np.isfinite(block.values).mean(1) @ weights(block.cells) / len(parts)
    return np.round(there, 12)  # all of them are 1


def ranks_by_seed(block: Block, ranked: Sequence[int]) -> np.ndarray:
    """Mean over cells of the rank of each run among those of its seed [S, R], NaN for strategies
    that are not ranked."""
    places = ranks(np.moveaxis(block.values[list(ranked)], 0, -1))
    mean = np.full(block.values.shape[:2], np.nan)
    mean[list(ranked)] = np.einsum("rcs,c->sr", places, weights(block.cells))
    return mean


def missing(parts: Sequence[Block], strategy: int) -> str:
    """What a strategy misses in some blocks, in words: "no runs: streets clean, depth@0.4"."""
    where: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for block in parts:
        for problem in block.problems(strategy):
            where[problem][block.suite].append(block.variant)
    return "; ".join(f"{problem}: {block_names(places)}" for problem, places in where.items())


def block_names(places: dict[str, list[str]]) -> str:
    return ", ".join(f"{suite} {', '.join(variants)}" for suite, variants in places.items())


def cell_name(cell: tuple[str, str]) -> str:
    task, metric = cell
    return f"{metric} of {task}"


def _numbered(word: str, numbers: np.ndarray) -> str:
    return f"{word if len(numbers) == 1 else word + 's'} {', '.join(map(str, numbers))}"
