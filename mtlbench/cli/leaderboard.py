"""`mtlbench leaderboard`: ranks strategies over suites, variants and metrics."""

import argparse

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

SUMMARY = "Rank strategies over all suites, variants and metrics."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suites", metavar="a,b", help="only these suites")
    add_study(parser)
    parser.add_argument(
        "--baseline",
        default="equal",
        metavar="NAME",
        help="what the others are held against (default: equal)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="only the first N: all that have these are ranked, whatever others have",
    )
    add_output(parser)
    add_places(parser)


def command(options: argparse.Namespace) -> int:
    check_figures(options.figures)

    from mtlbench.analysis.leaderboard import leaderboard
    from mtlbench.analysis.leaderboard_tables import render_leaderboard
    from mtlbench.analysis.results import load_results

    results = load_results(options.results, reference=options.reference)
    name_damaged(results.attrs["damaged"])
    board = leaderboard(
        results,
        suites=names(options.suites, "suite"),
        variants=options.variants,
        strategies=names(options.strategies, "strategy"),
        baseline=options.baseline,
        seeds=options.seeds,
    )
    text = render_leaderboard(board, options.format, terminal=shows_styles())
    print(text.rstrip("\n"))
    if options.figures is not None:
        from mtlbench.analysis.figures.ranks import draw_rank_figures

        drawn = draw_rank_figures(board, options.figures)
        name_figures(drawn, options.figures)
    return NOT_ALL_DONE if results.attrs["damaged"] else 0
