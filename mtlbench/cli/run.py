"""`mtlbench run`: trains what is missing of a study and compares its strategies."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from mtlbench.cli.compare import print_comparison
from mtlbench.cli.options import (
    NOT_ALL_DONE,
    add_study,
    add_trackers,
    add_training,
    names,
    overrides_of,
    resources_of,
)
from mtlbench.cli.streams import silence

SUMMARY = "Train what is missing of a study and compare its strategies."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", metavar="SUITE")
    add_study(parser, or_all=True)
    add_training(parser)
    parser.add_argument(
        "--instance-tables",
        default="device",
        metavar="WHERE",
        help="where instance parameters lie: device (default), cpu, or a directory to map files in",
    )
    parser.add_argument(
        "--traces",
        action="store_true",
        help="keep loss and margin of each training instance by epoch",
    )
    add_trackers(parser)


def command(options: argparse.Namespace) -> int:
    overrides = overrides_of(options)

    from mtlbench.plugins import read_plugins
    from mtlbench.study.run import run_study

    outcome = run_study(
        options.suite,
        strategies=names(options.strategies, "strategy"),
        variants=options.variants,
        seeds=options.seeds,
        overrides=overrides,
        plugins=read_plugins(options.plugin),
        results=options.results,
        resources=resources_of(options, options.instance_tables),
        traces=options.traces,
        trackers=options.tracker,
    )
    return end_with_table(options, outcome)


def end_with_table(options: argparse.Namespace, outcome: Any) -> int:
    """Prints the table of what was trained; the exit status."""
    shown = outcome.readable
    try:
        if shown:
            print_comparison(
                options.results,
                options.suite,
                # As the results name them: not `all`, nor `pcgrad+ilt`.
                variants=_unlike(spec.variant for spec in shown) if options.variants else None,
                strategies=_unlike(spec.strategy for spec in shown) if options.strategies else None,
                hashes={spec.hash for spec in outcome.specs},
                tunings=outcome.tunings,
            )
        sys.stdout.flush()
    except BrokenPipeError:  # what was trained still decides the status
        silence(sys.stdout)
    if outcome.all_done:
        return 0
    ended = {**dict(sorted(Counter(outcome.statuses).items())), "left out": outcome.left_out}
    counts = ", ".join(f"{count} {status}" for status, count in ended.items() if count)
    asked = len(outcome.specs) + outcome.left_out
    which = "the run is not" if asked == 1 else f"not all {asked} runs are"
    print(f"mtlbench: {which} done: {counts}", file=sys.stderr)
    return NOT_ALL_DONE


def _unlike(names: Iterable[str]) -> list[str]:
    """Each of the names once."""
    return list(dict.fromkeys(names))
