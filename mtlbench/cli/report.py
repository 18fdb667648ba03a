"""`mtlbench report`: writes one HTML page."""

import argparse

from mtlbench.cli.options import (
    NOT_ALL_DONE,
    add_places,
    name_damaged,
    names,
)

SUMMARY = "Write everything into one HTML page that can be sent."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", default="report.html", metavar="FILE", help="the page (default: report.html)"
    )
    parser.add_argument("--title", metavar="TEXT", help="the page's heading")
    parser.add_argument("--suites", metavar="a,b", help="only these suites")
    add_places(parser)


def command(options: argparse.Namespace) -> int:
    from mtlbench.analysis.report import write_report

    suites = names(options.suites, "suite")
    damaged: list[tuple[str, str]] = []
    out = write_report(
        options.results,
        options.out,
        title=options.title,
        suites=suites,
        reference=options.reference,
        tell_damaged=damaged.extend,
    )
    name_damaged(damaged)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return NOT_ALL_DONE if damaged else 0
