"""The command line."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from mtlbench.cli import (
    compare,
    detectors,
    leaderboard,
    list,
    merge,
    prepare,
    report,
    run,
    suspects,
    tune,
)
from mtlbench.cli.options import NOT_ALL_DONE
from mtlbench.cli.streams import Forgiving, silence
from mtlbench.errors import UnfinishedError, UserError
from mtlbench.version import package_version

VERBS: Any = (list, run, tune, compare, leaderboard, suspects, detectors, report, merge, prepare)

BAD_INPUT = 2
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Says what was wrong in one line, with the nearest thing that would have worked."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: "):
            given = message.removeprefix("unrecognized arguments: ").split()[0]
            near = get_close_matches(given, self._option_string_actions, n=1)
            message = f"unknown argument {given!r}"
            message += f"; did you mean {near[0]!r}?" if near else f"; see '{self.prog} --help'"
        raise UserError(message)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's end is a Ctrl-C
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started it
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (as long as the process)
    sys.stderr, told = Forgiving(sys.stderr), sys.stderr
    status = 0
    try:
        try:
            status = _run(arguments)
        finally:  # also after --help, which exits by itself
            sys.stdout.flush()
    except UserError as error:
        print(f"mtlbench: error: {error}", file=sys.stderr)
        status = BAD_INPUT
    except UnfinishedError as error:
        print(f"mtlbench: error: {error}; the same command goes on from here", file=sys.stderr)
        status = NOT_ALL_DONE
    except KeyboardInterrupt:
        print("mtlbench: interrupted; the same command goes on from here", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:  # the reader of standard output has seen enough
        silence(sys.stdout)
    sys.stderr = told
    sys.exit(status)


def _run(arguments: Sequence[str] | None) -> int:
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest:
        options.parser.error("unrecognized arguments: " + " ".join(rest))
    status: int = options.command(options)
    return status


def build_parser() -> _Parser:
    parser = _Parser(
        prog="mtlbench",
        description="Which loss weighting should I use, and which of my labels are wrong?",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mtlbench {package_version()}")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for verb in VERBS:
        name, summary = verb.__name__.rpartition(".")[2], verb.SUMMARY
        own = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        own.set_defaults(command=verb.command, parser=own)
        verb.add_options(own)
    return parser
