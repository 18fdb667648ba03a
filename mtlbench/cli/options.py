"""Options that several verbs share, and what is made of them."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtlbench.analysis.table import FORMATS
from mtlbench.errors import UserError, printable
from mtlbench.execution.trackers import NAMES as TRACKERS
from mtlbench.store import DEFAULT_RESULTS

AUTO = "auto"

NOT_ALL_DONE = 1
"""The exit status where some of what was asked for did not end well."""


def add_study(parser: argparse.ArgumentParser, *, or_all: bool = False) -> None:
    names = "names such as equal,ilt,ilt+pcgrad" + ", or all" * or_all
    parser.add_argument("--strategies", metavar="a,b", help=names)
    parser.add_argument(
        "--variants",
        nargs="+",
        action="extend",
        metavar="V",
        help="names such as clean depth@0.4",
    )


def add_training(
    parser: argparse.ArgumentParser, *, seeds: str = "how many, counted from 0"
) -> None:
    """What is trained, with what, into which directory, on which machines."""
    parser.add_argument("--seeds", type=int, metavar="N", help=seeds)
    add_settings(parser)
    add_plugins(parser)
    add_results(parser)
    add_resources(parser)


def add_detection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--detectors",
        metavar="a,b",
        help="sigma,ilt-loss,loss,margin (default); fold-loss and cleanlab train 5 more networks a "
        "seed",
    )
    add_training(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, metavar="E", help="short for --set epochs=E")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of the suite (batch_size=32) or of a strategy (ilt.lr=4.0)",
    )


def add_resources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", metavar="RAY", help="a Ray cluster's address, or 'auto'")
    parser.add_argument(
        "--storage",
        metavar="URI",
        help="keep checkpoints there, too, where all machines of the cluster reach them: "
        "s3://bucket/path, file:///shared/dir",
    )
    parser.add_argument(
        "--cpus-per-run",
        type=float,
        default=1.0,
        metavar="C",
        help="cores, fractions too (default: 1); of each of several workers",
    )
    parser.add_argument(
        "--gpus-per-run",
        type=gpus,
        default=AUTO,
        metavar="G",
        help="GPUs, fractions too; 0 trains on the CPU (default: auto, the share of one that the "
        "suite says, where there is any); several have a worker each",
    )
    parser.add_argument(
        "--workers-per-run",
        type=int,
        metavar="N",
        help="processes that train one run together, each on its part of every batch (default: one "
        "for each GPU)",
    )


def resources_of(options: argparse.Namespace, instance_tables: str = "device") -> Any:
    """What each run takes, and where.

    Raises:
        UserError: a number that no machine can give, or no such place.
    """
    from mtlbench.execution.resources import Resources

    return Resources(
        options.address,
        options.cpus_per_run,
        options.gpus_per_run,
        instance_tables,
        options.workers_per_run,
        storage=options.storage,
    )


def add_plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a file that registers strategies or suites",
    )


def add_trackers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tracker",
        action="append",
        default=[],
        choices=TRACKERS,
        help="also log every run there, live; can be given more than once",
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Where results are read from."""
    parser.add_argument(
        "--results",
        action="append",
        metavar="DIR",
        help="results directory; can be given more than once, and a run in several of them counts "
        f"once (default: {DEFAULT_RESULTS})",
    )
    parser.add_argument(
        "--reference",
        action="store_true",
        help="beside the reference results that come with the package",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """The form of tables, and where figures go."""
    parser.add_argument("--format", choices=FORMATS, default="table")
    parser.add_argument(
        "--figures", type=directory, metavar="DIR", help="draw the figures there, too"
    )


def add_results(parser: argparse.ArgumentParser) -> None:
    """Where results are written to."""
    parser.add_argument(
        "--results",
        default=DEFAULT_RESULTS,
        metavar="DIR",
        help=f"results directory (default: {DEFAULT_RESULTS})",
    )


def directory(text: str) -> Path:
    """The type of an option that names a directory to write to."""
    if not text:  # an unset variable would mean the working directory
        raise argparse.ArgumentTypeError("the directory has no name")
    return Path(text)


def gpus(text: str) -> float | None:
    """The type of the option of GPUs; None stands for as many as the suite says."""
    if text == AUTO:
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number or {AUTO}, but is {text!r}") from None


def names(text: str | None, what: str) -> list[str] | None:
    """The names in a comma list; None where the option was not given."""
    if text is None:
        return None
    # A comma inside brackets belongs to a strategy's settings.
    names = [name.strip() for name in re.split(r",(?![^\[]*\])", text) if name.strip()]
    if not names:
        raise UserError(f"no {what} given")
    return names


def overrides_of(options: argparse.Namespace) -> dict[str, Any]:
    """The parameters that --set and --epochs change."""
    overrides: dict[str, Any] = {}
    for item in options.set:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise UserError(f"--set takes KEY=VALUE, but got {item!r}")
        overrides[key.strip()] = value.strip()
    if options.epochs is not None:
        overrides["epochs"] = options.epochs
    return overrides


def space_of(options: Sequence[str]) -> dict[str, Any]:
    """The values to search that --space gives, by parameter."""
    from mtlbench.space import dimension

    space = {}
    for item in options:
        name, separator, values = item.partition("=")
        if not separator or not name:
            raise UserError(f"--space takes NAME=VALUES, but got {item!r}")
        if name.strip() in space:
            raise UserError(f"--space has {name.strip()!r} twice")
        try:
            space[name.strip()] = dimension(values.strip())
        except ValueError as error:
            raise UserError(f"--space {name}: {error}") from error
    return space


def check_figures(figures: Path | None) -> None:
    """Makes sure, before anything is printed, that nothing else stands where figures will."""
    for part in () if figures is None else (figures, *figures.parents):
        if os.path.lexists(part) and not part.is_dir():
            raise UserError(f"figures path {str(part)!r} is a file, not a directory")


def name_figures(drawn: Sequence[Path], figures: Path) -> None:
    print(f"{len(drawn)} figure files in {figures}", file=sys.stderr)


def name_damaged(damaged: Sequence[tuple[str, str]]) -> None:
    for path, what in damaged:
        print(printable(f"mtlbench: {path} is left out: {what}"), file=sys.stderr)
