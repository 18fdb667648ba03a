"""`mtlbench suspects`: finds the training labels that are most likely wrong."""

import argparse

from mtlbench.cli.options import (
    add_detection,
    directory,
    names,
    overrides_of,
    resources_of,
)
from mtlbench.cli.streams import shows_styles
from mtlbench.data.variants import CLEAN

TOP, SHOWN = 100, 20

SUMMARY = "Find the training labels that are most likely wrong."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", metavar="SUITE")
    parser.add_argument(
        "--variant", default=CLEAN, metavar="V", help="of the training labels (default: clean)"
    )
    parser.add_argument(
        "--task",
        nargs="+",
        action="extend",
        metavar="T",
        help="whose labels, with tables and pictures of each (default: those of all tasks; where "
        "they are many, tables and pictures of the few that lead the list)",
    )
    parser.add_argument(
        "--top",
        type=int,
        metavar="N",
        help=f"how many suspects (default: {TOP} in the files, the first {SHOWN} of them printed)",
    )
    parser.add_argument(
        "--out",
        type=directory,
        metavar="DIR",
        help="for tables and sheets (default: suspects/SUITE/V)",
    )
    add_detection(parser)


def command(options: argparse.Namespace) -> int:
    overrides = overrides_of(options)

    from mtlbench.analysis.label_errors.found import render_found
    from mtlbench.study.suspects import find_suspects

    found = find_suspects(
        options.suite,
        options.variant,
        options.task,
        detectors=names(options.detectors, "detector"),
        seeds=options.seeds,
        top=TOP if options.top is None else options.top,
        out=options.out,
        overrides=overrides,
        plugins=options.plugin,
        results=options.results,
        resources=resources_of(options),
    )
    shown = SHOWN if options.top is None else options.top
    print(render_found(found, shown, terminal=shows_styles()), end="")
    return 0
