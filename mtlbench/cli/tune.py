"""`mtlbench tune`: gives every strategy the same budget of trials and compares them tuned."""

import argparse

from mtlbench.cli.options import (
    add_study,
    add_trackers,
    add_training,
    names,
    overrides_of,
    resources_of,
    space_of,
)
from mtlbench.cli.run import end_with_table

SUMMARY = "Tune strategies with the same budget each and compare them."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", metavar="SUITE")
    add_study(parser, or_all=True)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--trials",
        type=int,
        default=8,
        metavar="N",
        help="how many each strategy gets on each variant, its default parameters among them "
        "(default: 8)",
    )
    amount.add_argument(
        "--budget",
        type=int,
        metavar="N",
        help="network-epochs instead: a strategy of eight networks gets an eighth of the trials",
    )
    parser.add_argument(
        "--halving",
        action="store_true",
        help="train all trials for fewer epochs, and the better half of them for twice as many, "
        "until two train for all (successive halving)",
    )
    parser.add_argument(
        "--space",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="search a parameter in LOW:HIGH, LOW:HIGH:log, LOW:HIGH:whole or A,B,C (repeatable)",
    )
    add_training(parser, seeds="of the final runs, counted from 0")
    add_trackers(parser)


def command(options: argparse.Namespace) -> int:
    overrides = overrides_of(options)
    space = space_of(options.space)

    from mtlbench.plugins import read_plugins
    from mtlbench.study.tune import tune_study

    outcome = tune_study(
        options.suite,
        strategies=names(options.strategies, "strategy"),
        variants=options.variants,
        trials=options.trials,
        budget=options.budget,
        halving=options.halving,
        space=space,
        seeds=options.seeds,
        overrides=overrides,
        plugins=read_plugins(options.plugin),
        results=options.results,
        resources=resources_of(options),
        trackers=options.tracker,
    )
    return end_with_table(options, outcome)
