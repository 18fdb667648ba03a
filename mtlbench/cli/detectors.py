"""`mtlbench detectors`: compares detectors of wrong labels."""

import argparse

from mtlbench.cli.options import (
    add_detection,
    add_output,
    check_figures,
    name_figures,
    names,
    overrides_of,
    resources_of,
)
from mtlbench.cli.streams import shows_styles

SUMMARY = "Compare detectors of wrong labels where it is known which are."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", metavar="SUITE")
    parser.add_argument(
        "--variants",
        nargs="+",
        action="extend",
        metavar="V",
        help="corrupted ones such as depth@0.4, and clean (default: the suite's corrupted ones)",
    )
    add_output(parser)
    add_detection(parser)


def command(options: argparse.Namespace) -> int:
    overrides = overrides_of(options)
    check_figures(options.figures)

    from mtlbench.analysis.label_errors.comparison import render_detectors
    from mtlbench.study.suspects import study_detectors

    detected = study_detectors(
        options.suite,
        options.variants,
        detectors=names(options.detectors, "detector"),
        seeds=options.seeds,
        overrides=overrides,
        plugins=options.plugin,
        results=options.results,
        resources=resources_of(options),
    )
    print(render_detectors(detected, options.format, terminal=shows_styles()), end="")
    if options.figures is not None:
        from mtlbench.analysis.label_errors.figures import draw_detectors

        drawn = draw_detectors(detected, options.figures)
        name_figures(drawn, options.figures)
    return 0
