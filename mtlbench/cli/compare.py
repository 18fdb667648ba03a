"""`mtlbench compare`: tables and figures of a suite."""

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from mtlbench.analysis.published.papers import PAPERS
from mtlbench.cli.options import (
    NOT_ALL_DONE,
    add_output,
    add_places,
    add_study,
    check_figures,
    name_damaged,
    name_figures,
    names,
)
from mtlbench.cli.streams import shows_styles
from mtlbench.errors import UserError

SUMMARY = "Compare the strategies of a suite: mean ± std over seeds."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", metavar="SUITE")
    add_study(parser)
    parser.add_argument("--metrics", metavar="a,b", help="only these metrics")
    parser.add_argument("--seeds", type=int, metavar="N", help="only the first N")
    add_output(parser)
    parser.add_argument(
        "--wide",
        action="store_true",
        help="tables as papers have them: strategies in blocks, mean rank, Δm, cost of a step",
    )
    parser.add_argument(
        "--contributions", action="store_true", help="also what every metric adds to Δm"
    )
    parser.add_argument(
        "--against", choices=tuple(PAPERS), help="put the numbers of a paper beside ours"
    )
    add_places(parser)


def command(options: argparse.Namespace) -> int:
    whole = print_comparison(
        options.results,
        options.suite,
        reference=options.reference,
        variants=options.variants,
        strategies=names(options.strategies, "strategy"),
        metrics=names(options.metrics, "metric"),
        seeds=options.seeds,
        format=options.format,
        wide=options.wide,
        contributions=options.contributions,
        against=options.against,
        figures=options.figures,
    )
    return 0 if whole else NOT_ALL_DONE


def print_comparison(
    results: str | Path | Sequence[str | Path] | None,
    suite: str,
    *,
    reference: bool = False,
    variants: Sequence[str] | None,
    strategies: Sequence[str] | None,
    metrics: Sequence[str] | None = None,
    seeds: int | None = None,
    hashes: set[str] | None = None,
    tunings: Collection[str] | None = None,
    format: str = "table",
    wide: bool = False,
    contributions: bool = False,
    against: str | None = None,
    figures: Path | None = None,
) -> bool:
    """Prints the tables of a suite, and draws its figures where a directory is given.

    Returns:
        whether no run was left out for its damage.
    """
    check_figures(figures)

    from mtlbench.analysis import budget_tables, levels
    from mtlbench.analysis.aggregate import compare
    from mtlbench.analysis.published import beside
    from mtlbench.analysis.tables import render, require_shown

    require_shown(format, wide=wide, contributions=contributions)
    if against is not None:
        if wide or contributions:
            raise UserError(
                f"--against {against} has tables of its own, without --wide and --contributions"
            )
        beside.require_published(against, suite, variants)
    comparison = compare(
        results,
        suite,
        variants,
        strategies,
        metrics=metrics,
        seeds=seeds,
        hashes=hashes,
        tunings=tunings,
        reference=reference,
        thorough=figures is not None,
    )
    name_damaged(comparison.damaged)
    terminal = shows_styles()
    if against is not None:
        found = beside.put_beside(comparison, against)
        tables = [beside.render_against(found, format, terminal=terminal)]
    else:
        tables = [
            render(comparison, format, terminal=terminal, wide=wide, contributions=contributions)
        ]
        if format in levels.LEVEL_FORMATS:
            tables += [
                levels.render_levels(comparison, corruption, format, terminal=terminal)
                for corruption in levels.corruptions(comparison)
            ]
        if format in budget_tables.BUDGET_FORMATS:
            tables.append(budget_tables.render_budgets(comparison, format, terminal=terminal))
    print("\n".join(tables).rstrip("\n"))
    if figures is not None:
        from mtlbench.analysis.figures.runs import draw_figures

        drawn = draw_figures(
            results, suite, figures, variants, strategies, seeds=seeds, reference=reference
        )
        name_figures(drawn, figures)
    return not comparison.damaged
