"""`mtlbench list`: shows what there is."""

import argparse

from mtlbench.cli.options import (
    add_plugins,
)
from mtlbench.errors import UserError

LISTS = ("strategies", "suites", "variants", "corruptions")
SUMMARY = "Show what there is: strategies, suites, variants, corruptions."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=LISTS, help="show only these")
    parser.add_argument(
        "--format",
        choices=("table", "github"),
        default="table",
        help="github: the whole catalogue of strategies, with equations, papers and parameters, or "
        "of suites, with tasks, networks and parameters",
    )
    add_plugins(parser)


def command(options: argparse.Namespace) -> int:
    from mtlbench.cli import catalogue, listing, suite_catalogue
    from mtlbench.plugins import read_plugins

    read_plugins(options.plugin)
    if options.format == "github":
        if options.what not in ("strategies", "suites"):
            raise UserError(
                "--format github is for one catalogue: mtlbench list strategies, or suites"
            )
        strategies = options.what == "strategies"
        page = catalogue.render(catalogue.step_costs()) if strategies else suite_catalogue.render()
        print(page, end="")
        return 0
    chosen = [options.what] if options.what else LISTS
    print("\n\n".join(listing.render(what) for what in chosen))
    return 0
