"""The command line."""

import argparse
import atexit
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from mtlbench.cli.streams import Forgiving, silence, spell_out
from mtlbench.errors import UnfinishedError, UserError, describe, printable, shortened
from mtlbench.version import package_version

VERBS = (
    "list", "run", "tune", "compare", "leaderboard", "suspects", "detectors", "report", "merge",
    "prepare",
)  # fmt: skip
"""Modules of this package, imported when all is ready for an interruption: that takes a while."""

UNFINISHED, BAD_INPUT, BY_SIGNAL = 1, 2, 128
"""Statuses; to the last one the number of the signal is added, as shells do."""

ENDS = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]  # not on Windows


class _ToldToEndError(KeyboardInterrupt):
    """By a signal other than that of Ctrl-C."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Parser(argparse.ArgumentParser):
    """Says what was wrong in one line, with the nearest thing that would have worked."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: "):
            given = message.removeprefix("unrecognized arguments: ").split(" ")[0]
            near = get_close_matches(given[:99], self._option_string_actions, n=1)
            message = f"unknown argument {shortened(repr(given), 100)}"
            message += f"; did you mean {near[0]!r}?" if near else f"; see '{self.prog} --help'"
        raise UserError(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # that of argparse keeps it to itself where it cannot


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits."""
    for each in ENDS:  # that of a batch system, of a terminal: as Ctrl-C
        if signal.getsignal(each) == signal.SIG_DFL:  # else it has been told not to, as by nohup
            signal.signal(each, _interrupt)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started it
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (as long as the process)
    spell_out(sys.stdout, sys.stderr)
    sys.stderr, told = Forgiving(sys.stderr), sys.stderr
    status = 0
    try:
        try:
            with _leaving_no_empty_cache():
                status = _run(arguments)
        finally:  # also after --help, which exits by itself
            atexit.register(_ignore_signals)
            sys.stdout.flush()
    except UserError as error:
        status = _refuse(str(error), BAD_INPUT)
    except UnfinishedError as error:
        status = _refuse(f"{error}; the same command goes on from here", UNFINISHED)
    except KeyboardInterrupt as interrupt:
        _ignore_signals()
        print("mtlbench: interrupted; the same command goes on from here", file=sys.stderr)
        by = interrupt.number if isinstance(interrupt, _ToldToEndError) else signal.SIGINT
        status = BY_SIGNAL + by
    except BrokenPipeError:  # the reader of standard output has seen enough
        silence(sys.stdout)
    except OSError as error:  # a disk that is full, or is gone
        silence(sys.stdout)
        where = f": {str(error.filename)!r}" if error.filename else ""
        status = _refuse(f"{error.strerror or describe(error)}{where}", BAD_INPUT)
    except MemoryError:
        status = _refuse("there is not enough memory", BAD_INPUT)
    sys.stderr = told
    sys.exit(status)


@contextmanager
def _leaving_no_empty_cache() -> Iterator[None]:
    """PyTorch's compiler makes a folder for what it will have compiled in every process that has an
    optimiser, compiles nothing, and leaves it."""

    def caches() -> set[Path]:
        with suppress(OSError):  # there is no place for temporary files
            return set(Path(tempfile.gettempdir()).glob("torchinductor_*"))
        return set()

    before = caches()
    try:
        yield
    finally:
        for folder in caches() - before:
            with suppress(OSError):  # something was compiled, which is kept for the next time
                folder.rmdir()


def _interrupt(number: int, _: object) -> NoReturn:
    raise _ToldToEndError(number)


def _ignore_signals() -> None:
    """All that is left to be interrupted is Python's own end, which would show a traceback."""
    for each in (signal.SIGINT, *ENDS):
        signal.signal(each, signal.SIG_IGN)


def _refuse(reason: str, status: int) -> int:
    """Says why something is not done; the exit status."""
    print(f"mtlbench: error: {shortened(printable(reason))}", file=sys.stderr)
    return status


def _run(arguments: Sequence[str] | None) -> int:
    parser = build_parser()
    for word in sys.argv[1:] if arguments is None else arguments:
        if word.startswith("--") and word.endswith("=--"):  # argparse makes an empty list of it
            parser.error(f"argument {word[:-3]}: '--' is no value")
    options, rest = parser.parse_known_args(arguments)
    if rest:
        options.parser.error("unrecognized arguments: " + " ".join(rest))
    try:
        os.getcwd()
    except OSError as error:  # PyTorch's libraries would end the process
        raise UserError(
            f"the working directory is gone: {error.strerror}; go to another"
        ) from error
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
    for name in VERBS:
        verb: Any = import_module(f"mtlbench.cli.{name}")
        summary = verb.SUMMARY
        own = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        own.set_defaults(command=verb.command, parser=own)
        verb.add_options(own)
    return parser
