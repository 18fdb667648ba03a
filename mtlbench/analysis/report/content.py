"""All that the page shows, gathered from the stored runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from mtlbench.analysis.aggregate import Comparison, compare_results
from mtlbench.analysis.figures.style import PAPER_LINES
from mtlbench.analysis.many_tasks import condensed
from mtlbench.analysis.report import runs as about
from mtlbench.analysis.report.board import Board, Scope, boards
from mtlbench.analysis.report.charts import CurveChart, DotChart
from mtlbench.analysis.report.commands import run_commands
from mtlbench.analysis.report.figures import (
    GREY,
    budget_charts,
    dot_charts,
    epoch_charts,
    level_charts,
)
from mtlbench.analysis.report.pictures import Painter, PictureGrid
from mtlbench.analysis.report.runs import RunSummary, read_runs
from mtlbench.analysis.results import directories, load_results, named
from mtlbench.analysis.table import Table
from mtlbench.analysis.tables import build
from mtlbench.errors import UserError, listed, require_known
from mtlbench.store import DEFAULT_RESULTS
from mtlbench.store.runs import Places
from mtlbench.store.schema import DONE

COLORS = 8
"""Strategies that have a colour of their own; all others are grey until pointed at."""


@dataclass(frozen=True)
class VariantSection:
    """One variant of a suite.

    Attributes:
        name: the variant's.
        key: what identifies it on the page.
        table: its printed table.
        configurations: the key of each of the table's rows.
        dots: means by metric.
        curves: over numbers of trials and over epochs.
        dots_of_each, curves_of_each: those of every task where they are too many to be seen at
            once; the others are then of means over tasks and of corrupted ones.
        pictures: of labels and of predictions.
    """

    name: str
    key: str
    table: Table
    configurations: list[str]
    dots: list[DotChart]
    curves: list[CurveChart]
    dots_of_each: list[DotChart]
    curves_of_each: list[CurveChart]
    pictures: list[PictureGrid]


@dataclass(frozen=True)
class SuitePage:
    """One suite.

    Attributes:
        name: the suite's.
        key: what identifies it on the page.
        blocks: one a variant.
        levels: metrics by the share of corrupted labels.
        legend: label and style of the strategies.
    """

    name: str
    key: str
    blocks: list[VariantSection]
    levels: list[CurveChart]
    legend: list[tuple[str, str]]


@dataclass(frozen=True)
class Content:
    """The content of the page.

    Attributes:
        runs: all runs, in the order of the tables.
        board: the leaderboard of every choice of suite, variant and stage.
        stages: of each configuration.
        suites: one by one.
        damaged: run directories that could not be read, as (path, what is wrong).
        commands: those that train these runs.
        left_out: how many variants have pictures that are left out, to keep the page small.
    """

    runs: list[RunSummary]
    board: Board
    stages: dict[str, str]
    suites: list[SuitePage]
    damaged: list[tuple[str, str]]
    commands: list[str]
    left_out: int

    @cached_property
    def statuses(self) -> list[tuple[str, int]]:
        return about.tally(run.status for run in self.runs)

    @property
    def not_done(self) -> list[RunSummary]:
        return [run for run in self.runs if run.status != DONE]

    @property
    def overall(self) -> Scope | None:
        """The comparison over all that there is."""
        return self.board.scopes[0] if self.board.scopes else None


def gather(
    results: Places | None, suites: Iterable[str] | None = None, *, reference: bool = False
) -> Content:
    """Reads results directories.

    Args:
        results, reference: as for `load_results`, which says which copy of a run counts.
        suites: only these suites; all by default.

    Raises:
        UserError: there is no such directory or suite, or not one run that can be read.
    """
    suites = listed("suite", suites)
    roots = directories(results, reference)
    frame = load_results(roots, reference=reference, thorough=True)
    damaged = frame.attrs["damaged"]
    frame = _chosen(frame, suites, roots, named(roots, reference))
    names = list(suites) if suites is not None else list(dict.fromkeys(frame["suite"]))
    comparisons = [compare_results(frame, name) for name in names]
    by_hash = {
        hash: path
        for comparison in comparisons
        for hash, path in comparison.runs[["hash", "path"]].itertuples(index=False)
    }
    runs = read_runs(by_hash)
    board = boards(frame)
    css = _css(comparisons, board)
    painter = Painter()
    pages = [
        _suite(number, comparison, css, runs, painter)
        for number, comparison in enumerate(comparisons)
    ]
    inside: dict[str, list[RunSummary]] = {}
    for hash, run in runs.items():
        inside.setdefault(_directory(by_hash[hash], roots), []).append(run)
    commands = [each for root, some in inside.items() for each in run_commands(some, root)]
    return Content(
        list(runs.values()), board, board.stages, pages, _relative(damaged, roots),
        commands, painter.left_out,
    )  # fmt: skip


def _directory(path: str, roots: Sequence[Path]) -> str:
    """The results directory of a run; the first for one of the reference results."""
    holding = [root for root in roots if path and Path(path).is_relative_to(root)]
    return str([*holding, *roots, DEFAULT_RESULTS][0])


def _chosen(
    frame: pd.DataFrame, suites: Sequence[str] | None, roots: Sequence[Path], where: str
) -> pd.DataFrame:
    """The rows of these suites, if there are any; `where` says in words what was read."""
    damaged = frame.attrs["damaged"]
    if frame.empty and damaged:
        path, what = damaged[0]
        raise UserError(
            f"none of the {len(damaged)} run directories in {where} can be read; {path}: {what}"
        )
    if frame.empty:
        raise UserError(f"no runs in {where}; 'mtlbench run SUITE --results {roots[0]}' makes some")
    if suites is None:
        return frame
    require_known("suite", suites, frame["suite"].unique())
    return frame[frame["suite"].isin(suites)]


def _relative(damaged: Sequence[tuple[str, str]], roots: Sequence[Path]) -> list[tuple[str, str]]:
    """Paths inside the results directories; a page that is sent need not tell where they are."""
    inside = []
    for path, what in damaged:
        for root in roots:
            path, what = path.removeprefix(f"{root}/"), what.replace(f"{root}/", "")
        inside.append((path, what))
    return inside


def _css(comparisons: Sequence[Comparison], board: Board) -> dict[str, str]:
    """A style for every configuration: the paper's strategies have theirs, the best others too."""
    configurations = list(dict.fromkeys(key for c in comparisons for key in c.labels))
    fixed = {key: f"s{number}" for number, key in enumerate(PAPER_LINES)}
    css = {key: fixed.get(key, GREY) for key in configurations}
    ranked = [key for key in board.ranking if css.get(key) == GREY]
    others = list(dict.fromkeys([*ranked, *(key for key in css if css[key] == GREY)]))
    free = [f"s{number}" for number in range(COLORS) if f"s{number}" not in css.values()]
    # Reserved for the paper's strategies are the first; they go last to others.
    free.sort(key=lambda name: name in fixed.values())
    return css | dict(zip(others, free, strict=False))


def _suite(
    number: int,
    comparison: Comparison,
    css: Mapping[str, str],
    runs: Mapping[str, RunSummary],
    painter: Painter,
) -> SuitePage:
    key = f"suite-{number}"
    blocks = []
    for i, (variant, table) in enumerate(zip(comparison.variants, build(comparison), strict=True)):
        rows = comparison.runs[comparison.runs["variant"] == variant]
        rows = rows.drop_duplicates("hash")
        done = rows[(rows["status"] == DONE) & (rows["path"] != "")]
        coloured = done[done["configuration"].map(css) != GREY]
        smaller, told = condensed(comparison, variant)
        corrupted = runs[rows["hash"].iloc[0]].corrupted
        curves, curves_of_each = epoch_charts(comparison, done, corrupted, css)
        blocks.append(
            VariantSection(
                variant,
                f"{key}-{i}",
                table,
                list(_summary_of(comparison, variant)["strategy"].unique()),
                dot_charts(smaller, variant, css),
                [*budget_charts(comparison, variant, css), *curves],
                dot_charts(comparison, variant, css) if told else [],
                curves_of_each,
                painter.pictures(coloured, comparison.labels),
            )
        )
    legend = [(label, css[name]) for name, label in comparison.labels.items()]
    return SuitePage(comparison.suite, key, blocks, level_charts(comparison, css), legend)


def _summary_of(comparison: Comparison, variant: str) -> pd.DataFrame:
    return comparison.summary[comparison.summary["variant"] == variant]
