"""Strategies over all suites, variants and metrics: ranks, improvements and tests.

Averages over cells weigh every (suite, variant) alike, inside it every task, and inside that every
metric. What is independent is the *unit*: a suite trained with one seed, in all its variants, which
share the seed's initial weights and batches. The metrics of a run are not, nor are variants. Tests
and intervals are over units: they speak of new seeds on these suites, not of other suites.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mtlbench.analysis import statistics
from mtlbench.analysis.cells import blocks
from mtlbench.analysis.results import load_results
from mtlbench.analysis.scope import COUNTS, Bootstrap, Field, Scope
from mtlbench.analysis.scope_notes import notes
from mtlbench.analysis.selection import APART, configured, first_seeds, paper_order
from mtlbench.analysis.settings import is_tuned, labelled
from mtlbench.data.variants import CLEAN
from mtlbench.errors import UserError, listed, require_known
from mtlbench.stages import STAGES
from mtlbench.store.runs import Places
from mtlbench.store.schema import DONE
from mtlbench.store.trials import Tuning

BASELINE = "equal"

Tunings = Mapping[tuple[str, str, str], Tuning]
"""By suite, variant and configuration."""


@dataclass(frozen=True)
class Leaderboard:
    """Strategies ranked, in all runs together and in parts of them.

    Attributes:
        table: one row a scope and strategy, with the columns `scope.LEADERBOARD_COLUMNS`: in each
            scope the best mean rank first; those that miss runs last, the best rating first.
        scopes: `all`, and what divides it: `clean` and `corrupted`, `suite:NAME`, and
            `stage:NAME` for the strategies of one stage and the baseline.
        notes: for each scope, sentences about what its numbers rest on.
        win_shares: for each scope, of the comparisons of the strategy of a row with that of a
            column the share that it wins, on the cells and seeds that both have.
        friedman: Friedman's test of each scope in which it can reject.
        baseline: the strategy that the others are held against.
        labels: what printed tables call each strategy.
    """

    table: pd.DataFrame
    scopes: list[str]
    notes: dict[str, list[str]]
    win_shares: dict[str, pd.DataFrame]
    friedman: dict[str, statistics.Friedman]
    baseline: str
    labels: dict[str, str]


def leaderboard(
    results: pd.DataFrame | Places | None = None,
    *,
    reference: bool = False,
    suites: Iterable[str] | None = None,
    variants: Iterable[str] | None = None,
    strategies: Iterable[str] | None = None,
    baseline: str = BASELINE,
    seeds: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Leaderboard:
    """Ranks strategies over everything that some results directories hold.

    A strategy is ranked in a scope if it has every run there that any strategy has. Those of
    `selection.APART` are not; one of them may be the baseline. A tuned strategy is left out where
    another one has its trials and more of them wherever it was tuned, unless it is named. One that
    misses runs has what compares it with others on the cells and seeds that both have: elo,
    improvement, wins, ties and losses. The numbers:

        coverage        the share of all values, weighed as in averages, that it has
        mean_rank       of the mean over seeds, averaged over cells; 1 is best
        elo             rating by the wins of all strategies of one another, seed by seed:
                        `rating.Rating`; the baseline is 1000, or the mean where it is not rated
        delta_m         Δm (%): how much that mean is better than the baseline's, relative to it,
                        averaged over cells
        flat_rank, drop MR and Δm (%) as Nash-MTL's tables have them: all metrics of a variant
                        weigh the same, and a negative Δm is better
        *_low, *_high   ends of 95 % bootstrap intervals, by resampled seeds, the same for all
        improvement     how probably a run is better than one of the baseline, averaged over cells:
                        `statistics.improvement_probability`
        networks        trained for a result: those of a run, of all trials where it was tuned
        wins, …         cells in which the mean is better than, equal to, worse than the baseline's
        p_value         of the signed-rank test against the baseline over units, corrected by Holm
                        over the strategies of the scope; NaN where no such test could reject
        effect_size     of that test: `statistics.rank_biserial`

    Maninis, Radosavovic, Kokkinos: Attentive Single-Tasking of Multiple Tasks, CVPR 2019, Eq. 4.

    Args:
        results: one or several results directories, `runs` where None; or rows as from
            `load_results`, in any order.
        reference: rank them among the reference results that come with the package; then no
            results directory is needed. Not with rows, which `load_results` has given them.
        suites, variants, strategies: names; all by default. The baseline always stays.
        baseline: a strategy's key, with its settings where it has several (`ilt[ilt.lr=4.0]`).
        seeds: only runs with so many seeds, counted from 0: where some strategies have fewer than
            others, all are complete that have these. All by default.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: there is no such directory, suite, variant, strategy or baseline, or no run, or
            `seeds` is no number of seeds.
    """
    if isinstance(results, pd.DataFrame):
        if reference:
            raise UserError("rows of results have the reference ones from load_results, or not")
        frame = configured(results)
    else:
        frame = configured(load_results(results, reference=reference))
    tunings: Tunings = frame.attrs.get("tunings", {})
    if frame.empty:
        raise UserError("there are no runs to rank")
    frame = first_seeds(frame, seeds)
    suites, variants = listed("suite", suites), listed("variant", variants)
    strategies = listed("strategy", strategies)
    for column, names in (("suite", suites), ("variant", variants)):
        if names is not None:
            require_known(column, names, frame[column].unique())
            frame = frame[frame[column].isin(names)]
    if frame.empty:
        raise UserError("there are no runs of these variants in these suites")
    if baseline != BASELINE:
        require_known("baseline", [baseline], frame["configuration"].unique())
    if strategies is not None:
        known = [*frame["strategy"].unique(), *frame["configuration"].unique()]
        require_known("strategy", strategies, known)
        named = [*strategies, baseline]
        frame = frame[frame["strategy"].isin(named) | frame["configuration"].isin(named)]
    outdone = _outdone(tunings, {*(strategies or ()), baseline})
    frame = frame[~frame["configuration"].isin(list(outdone))]
    frame = frame[~frame["strategy"].isin(APART) | (frame["configuration"] == baseline)]
    if frame.empty:
        raise UserError("there are no runs to rank")
    field = _field(frame, tunings, baseline, Bootstrap(resamples, seed))
    scopes = [Scope(field, *division) for division in _divisions(field)]
    table = pd.concat([scope.table() for scope in scopes], ignore_index=True)
    said = {scope.name: notes(scope) for scope in scopes}
    said["all"] += [f"left out: {each}, which {more} continues" for each, more in outdone.items()]
    return Leaderboard(
        table.astype(dict.fromkeys(COUNTS, "Int64")),
        [scope.name for scope in scopes],
        said,
        {scope.name: scope.win_shares for scope in scopes},
        {scope.name: scope.friedman for scope in scopes if scope.friedman},
        field.baseline,
        field.labels,
    )


# --- scopes ---------------------------------------------------------------------------------------


def _field(frame: pd.DataFrame, tunings: Tunings, baseline: str, bootstrap: Bootstrap) -> Field:
    """All runs by cell, from which every scope takes its part."""
    # A run that failed may know neither its label nor its stage.
    known = frame.assign(stage=frame.groupby("configuration")["stage"].transform("max"))
    known = known.assign(failed=known["status"] != DONE)
    first = known.sort_values(["configuration", "failed", "label"])
    first = first.drop_duplicates("configuration")
    order = sorted(zip(first["strategy"], first["configuration"], strict=True), key=_order)
    strategies = [configuration for _, configuration in order]
    first = first.set_index("configuration").loc[strategies]
    labels = {
        key: labelled(label, settings)
        for key, settings, label in zip(first.index, first["settings"], first["label"], strict=True)
    }
    return Field(
        strategies,
        labels,
        list(first["stage"]),
        _networks(known, tunings, strategies),
        [is_tuned(settings) for settings in first["settings"]],
        baseline,
        blocks(frame, strategies),
        bootstrap,
    )


def _networks(runs: pd.DataFrame, tunings: Tunings, strategies: list[str]) -> list[int]:
    """How many networks are trained for a result of each: for a run, or for all trials."""
    of_run = runs.groupby("configuration")["networks"].max().fillna(1)
    trained: dict[str, float] = defaultdict(float)
    for (_, _, configuration), tuning in tunings.items():
        trained[configuration] = max(trained[configuration], tuning.trained)
    return [math.ceil(trained[key] or of_run[key]) for key in strategies]


def _outdone(tunings: Tunings, named: Collection[str]) -> dict[str, str]:
    """Tuned configurations that others of more trials continue on every variant, with one of
    those; not what is named."""
    cells: dict[str, dict[tuple[str, str], Tuning]] = defaultdict(dict)
    for (suite, variant, configuration), tuning in tunings.items():
        cells[configuration][suite, variant] = tuning
    return {
        smaller: larger
        for smaller, its in cells.items()
        for larger, theirs in cells.items()
        if smaller not in named
        and all(cell in theirs and theirs[cell].continues(its[cell]) for cell in its)
    }


def _divisions(field: Field) -> list[tuple[str, list[int], list[int]]]:
    """Scopes, as (name, blocks, strategies): those that are not all of it again."""
    everything = list(range(len(field.blocks)))
    everyone = list(range(len(field.strategies)))
    kinds: dict[str, list[int]] = defaultdict(list)
    suites: dict[str, list[int]] = defaultdict(list)
    for i, block in enumerate(field.blocks):
        kinds[CLEAN if block.variant == CLEAN else "corrupted"].append(i)
        suites[f"suite:{block.suite}"].append(i)
    found = [("all", everything, everyone)]
    for division in (kinds, suites):
        if len(division) > 1:
            found += [(name, division[name], everyone) for name in sorted(division)]
    members = {
        stage: [i for i in everyone if field.stages[i] == stage or field.is_baseline(i)]
        for stage in STAGES
    }
    found += [
        (f"stage:{stage}", everything, inside)
        for stage, inside in members.items()
        if any(not field.is_baseline(i) for i in inside) and inside != everyone
    ]
    return found


def _order(names: tuple[str, str]) -> Any:
    strategy, configuration = names
    return paper_order(strategy), configuration
