"""`mtlbench suspects`: finds the training labels that are most likely wrong."""

import argparse
import sys

from mtlbench.cli.options import (
    add_detection,
    directory,
    names,
    overrides_of,
)
from mtlbench.data.variants import CLEAN

SUMMARY = "Find the training labels that are most likely wrong."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", metavar="SUITE")
    parser.add_argument(
        "--variant", default=CLEAN, metavar="V", help="of the training labels (default: clean)"
    )
    parser.add_argument("--task", metavar="T", help="whose labels (default: those of all tasks)")
    parser.add_argument(
        "--top", type=int, default=100, metavar="N", help="how many suspects (default: 100)"
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
    from mtlbench.execution.resources import Resources
    from mtlbench.study.suspects import find_suspects

    found = find_suspects(
        options.suite,
        options.variant,
        options.task,
        detectors=names(options.detectors, "detector"),
        seeds=options.seeds,
        top=options.top,
        out=options.out,
        overrides=overrides,
        plugins=options.plugin,
        results=options.results,
        resources=Resources(options.address, options.cpus_per_run, options.gpus_per_run),
    )
    print(render_found(found, terminal=sys.stdout.isatty()), end="")
    return 0
