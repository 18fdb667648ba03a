"""The strategies of one variant held against a baseline, over all metrics that a table shows."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.cells import Block, blocks, cell_name, weights
from mtlbench.analysis.leaderboard import BASELINE
from mtlbench.analysis.printing import one_line
from mtlbench.analysis.scope import flat_rank_and_drop, rank_and_improve
from mtlbench.analysis.selection import APART, is_apart

BASELINES = (*APART, BASELINE)
"""The first of these strategies that has results in a variant is its baseline."""


@dataclass(frozen=True)
class Standings:
    """The numbers of one variant's strategies over all its metrics, of means over seeds.

    Of a strategy that misses a seed or a metric which another one has, there is no number. A cell
    is a metric of a task; how well labels' corruption is detected is none.

    Attributes:
        strategies: the configurations, in the order of the comparison's table [S].
        complete: which of them have all cells in all seeds, bool [S].
        ranked: which have a rank, bool [S]: of those, all that do not stand apart.
        cells: task and metric, in the order of the table [C].
        baseline: the configuration that the others are held against; "" where none has results.
        flat_rank: MR, the mean rank over cells [S]; 1 is best.
        drop: Δm (%) with all cells weighing the same, a negative one is better [S]. Like the next
            two, NaN for the baseline itself, and for all where it is incomplete.
        delta_m: Δm (%) with all tasks weighing the same and in them their metrics, a positive one
            is better [S].
        contributions: what each cell adds to `delta_m` (%) [S, C]; NaN also where the baseline is
            0: such a cell is no part of Δm.
    """

    strategies: list[str]
    complete: np.ndarray
    ranked: np.ndarray
    cells: list[tuple[str, str]]
    baseline: str
    flat_rank: np.ndarray
    drop: np.ndarray
    delta_m: np.ndarray
    contributions: np.ndarray


def standings(comparison: Comparison, variant: str) -> Standings:
    """Holds the strategies of one variant against its baseline: against single-task networks where
    they have results, else against equal weights.

    Args:
        comparison: of which; only its metrics count.
        variant: one of its variants.
    """
    strategies, shown, block = _values(comparison, variant)
    # Sums go over a block's own order, so that a leaderboard has the same bits.
    cells = [cell for cell in shown if cell in block.cells]
    columns = [block.cells.index(cell) for cell in cells]
    there = np.isfinite(block.values)
    started = [
        key for key, any_there in zip(strategies, there.any((1, 2)), strict=True) if any_there
    ]
    baseline = next((key for key in BASELINES if key in started), "")
    complete = there.all((1, 2)) & bool(block.cells)
    ranked = complete & ~np.array([is_apart(key) for key in strategies], dtype=bool)
    flat_rank, drop, delta_m = np.full((3, len(strategies)), np.nan)
    contributions = np.full((len(strategies), len(block.cells)), np.nan)
    if ranked.any():
        flat_rank[ranked] = flat_rank_and_drop(_part(block, ranked), None)[0][0]
    base = strategies.index(baseline) if baseline else None
    if base is not None and complete[base]:
        held = _part(block, complete)
        place = int(complete[:base].sum())
        drop[complete] = flat_rank_and_drop(held, place)[1][0]
        delta_m[complete] = _improvement(held, place)
        contributions[complete] = _contributions(held, place)[:, columns]
        for numbers in (drop, delta_m, contributions):
            numbers[base] = np.nan
    return Standings(
        strategies,
        complete,
        ranked,
        cells,
        baseline,
        flat_rank,
        drop,
        delta_m,
        contributions,
    )


def sentences(comparison: Comparison, found: Standings, what: str) -> list[str]:
    """What the numbers of a variant do not rest on.

    Args:
        comparison, found: of which, and its `standings`.
        what: the numbers that are shown, in words: "MR and Δm".
    """
    if not found.cells:
        return [f"no {what}: no run has a metric but detection"]
    told = []
    lacking = [
        key for key, there in zip(found.strategies, found.complete, strict=True) if not there
    ]
    if lacking:
        labels = ", ".join(label(comparison, key) for key in lacking)
        told.append(f"no {what} where runs or metrics are missing: {labels}")
    if not found.baseline:
        others = [key for key in found.strategies if key.partition("[")[0] in BASELINES]
        but = f", but of {', '.join(map(one_line, others))}" if others else ""
        told.append(f"no Δm: there are results of neither {' nor '.join(BASELINES)}{but}")
    elif found.baseline in lacking:
        told.append(f"no Δm of any: it is relative to {label(comparison, found.baseline)}")
    else:
        for cell, nowhere in zip(found.cells, np.isnan(found.contributions).all(0), strict=True):
            if nowhere and found.complete.sum() > 1:
                name = one_line(metric_name(comparison, cell))
                told.append(f"Δm leaves out {name}, where {label(comparison, found.baseline)} is 0")
    return told


def label(comparison: Comparison, configuration: str) -> str:
    """What printed tables call a strategy, in one line."""
    return one_line(comparison.labels[configuration])


def metric_name(comparison: Comparison, cell: tuple[str, str]) -> str:
    """What sentences call a cell (task, metric): "mIoU of segmentation"."""
    task, metric = cell
    return cell_name((task, comparison.metric_labels[metric, task]))


# --- one block ------------------------------------------------------------------------------------


def _values(comparison: Comparison, variant: str) -> tuple[list[str], list[tuple[str, str]], Block]:
    """The strategies and the (task, metric) pairs that the comparison shows, both in its order, and
    the values of the block; its cells have the names of metrics, not their labels."""
    summary = comparison.summary[comparison.summary["variant"] == variant]
    strategies = list(summary["strategy"].unique())
    shown = list(dict.fromkeys(zip(summary["task"], summary["metric"], strict=True)))
    runs = comparison.runs[comparison.runs["variant"] == variant]
    runs = runs[runs["configuration"].isin(strategies)]
    pairs = pd.Series(zip(runs["task"], runs["metric"], strict=True), runs.index, dtype=object)
    runs = runs[runs["metric"].isna() | pairs.isin(shown)]
    # Two metrics of a task may have one label.
    found = blocks(runs.assign(metric_label=runs["metric"]), strategies)
    if not found:
        seeds, status, values = (np.empty((0,) * axes) for axes in (1, 2, 3))
        return [], [], Block(comparison.suite, variant, seeds, [], values, status)
    return strategies, shown, found[0].take(range(len(strategies)))


def _part(block: Block, chosen: np.ndarray) -> Block:
    return block.take([int(i) for i in np.flatnonzero(chosen)])


def _improvement(block: Block, baseline: int) -> np.ndarray:
    """Δm (%) of means over seeds [S]."""
    return rank_and_improve(block, block.values.mean(1).T[None], baseline)[1][0]


def _contributions(block: Block, baseline: int) -> np.ndarray:
    """The Δm (%) of each cell alone, times the cell's weight in that of all [S, C]."""
    parts = np.full((len(block.values), len(block.cells)), np.nan)
    known = np.flatnonzero(block.values[baseline].mean(0) != 0)
    for cell, share in zip(known, weights([block.cells[c] for c in known]), strict=True):
        alone = replace(block, cells=[block.cells[cell]], values=block.values[..., [cell]])
        parts[:, cell] = share * _improvement(alone, baseline)
    return parts
