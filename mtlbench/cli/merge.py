"""`mtlbench merge`."""

import argparse
import sys

from mtlbench.cli.options import NOT_ALL_DONE, name_damaged

SUMMARY = "Join the results directories of several machines."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="DIR", help="results directories")
    parser.add_argument(
        "--into",
        required=True,
        metavar="DIR",
        help="the results directory that gets their runs; what is there already stays as it is",
    )


def command(options: argparse.Namespace) -> int:
    from mtlbench.store.merge import merge_results

    merged = merge_results(options.sources, options.into)
    name_damaged([(str(path), what) for path, what in merged.damaged])
    for path, stays in merged.different:
        print(f"mtlbench: {path} is left out: {stays} has another result", file=sys.stderr)
    for file, what in merged.kept:
        print(f"mtlbench: {file} stays as it is: {what}", file=sys.stderr)
    print(
        f"{options.into}: {merged.runs} runs, {merged.folds} folds, {merged.trials} trials and "
        f"{merged.tunings} tunings copied, "
        f"{merged.there} there already"
    )
    return NOT_ALL_DONE if merged.damaged or merged.different or merged.kept else 0
