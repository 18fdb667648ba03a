"""The command line."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from mtlbench.errors import UnfinishedError, UserError
from mtlbench.execution.trackers import NAMES as TRACKERS
from mtlbench.version import package_version

FORMATS = ("table", "github", "latex", "html", "csv", "json")
LISTS = ("strategies", "suites", "variants", "corruptions")
DEFAULT_RESULTS = "runs"

EXIT_NOT_ALL_DONE = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


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
    sys.stderr, told = _Forgiving(sys.stderr), sys.stderr
    status = 0
    try:
        try:
            status = _run(arguments)
        finally:  # also after --help, which exits by itself
            sys.stdout.flush()
    except UserError as error:
        print(f"mtlbench: error: {error}", file=sys.stderr)
        status = EXIT_BAD_INPUT
    except UnfinishedError as error:
        print(f"mtlbench: error: {error}; the same command goes on from here", file=sys.stderr)
        status = EXIT_NOT_ALL_DONE
    except KeyboardInterrupt:
        print("mtlbench: interrupted; the same command goes on from here", file=sys.stderr)
        status = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of standard output has seen enough
        _silence(sys.stdout)
    sys.stderr = told
    sys.exit(status)


class _Forgiving:
    """Standard error whose reader may go away: that must not end a study."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except BrokenPipeError:
            _silence(self._stream)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            _silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _silence(stream: Any) -> None:
    """Lets all that is still to be written to a stream vanish."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest:
        options.parser.error("unrecognized arguments: " + " ".join(rest))
    status: int = options.command(options)
    return status


def _parser() -> _Parser:
    parser = _Parser(
        prog="mtlbench",
        description="Which loss weighting should I use, and which of my labels are wrong?",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mtlbench {package_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, function: Any, summary: str) -> _Parser:
        sub: _Parser = commands.add_parser(
            name, help=summary, description=summary, allow_abbrev=False
        )
        sub.set_defaults(command=function, parser=sub)
        return sub

    listing = command(
        "list", _list, "Show what there is: strategies, suites, variants, corruptions."
    )
    listing.add_argument("what", nargs="?", choices=LISTS, help="show only these")
    listing.add_argument(
        "--format",
        choices=("table", "github"),
        default="table",
        help="github: the whole catalogue of strategies, with equations, papers and parameters",
    )
    _add_plugins(listing)

    run = command("run", _train, "Train what is missing of a study and compare its strategies.")
    run.add_argument("suite", metavar="SUITE")
    _add_study(run, or_all=True)
    run.add_argument("--seeds", type=int, metavar="N", help="how many, counted from 0")
    _add_settings(run)
    _add_plugins(run)
    _add_results(run)
    _add_resources(run)
    run.add_argument(
        "--instance-tables",
        default="device",
        metavar="WHERE",
        help="where instance parameters lie: device (default), cpu, or a directory to map files in",
    )
    run.add_argument(
        "--traces",
        action="store_true",
        help="keep loss and margin of each training instance by epoch",
    )
    run.add_argument(
        "--tracker",
        action="append",
        default=[],
        choices=TRACKERS,
        help="also log every run there, live; can be given more than once",
    )

    compare = command(
        "compare", _compare, "Compare the strategies of a suite: mean ± std over seeds."
    )
    compare.add_argument("suite", metavar="SUITE")
    _add_study(compare)
    compare.add_argument("--metrics", metavar="a,b", help="only these metrics")
    compare.add_argument("--format", choices=FORMATS, default="table")
    compare.add_argument("--figures", type=Path, metavar="DIR", help="draw the figures there, too")
    compare.add_argument(
        "--against", choices=("paper",), help="put the published numbers beside ours"
    )
    _add_results(compare)

    ranking = command(
        "leaderboard", _leaderboard, "Rank strategies over all suites, variants and metrics."
    )
    ranking.add_argument("--suites", metavar="a,b", help="only these suites")
    _add_study(ranking)
    ranking.add_argument(
        "--baseline",
        default="equal",
        metavar="NAME",
        help="what the others are held against (default: equal)",
    )
    ranking.add_argument("--format", choices=FORMATS, default="table")
    ranking.add_argument("--figures", type=Path, metavar="DIR", help="draw the figures there, too")
    _add_results(ranking)

    suspects = command(
        "suspects", _suspects, "Find the training labels that are most likely wrong."
    )
    suspects.add_argument("suite", metavar="SUITE")
    suspects.add_argument(
        "--variant", default="clean", metavar="V", help="of the training labels (default: clean)"
    )
    suspects.add_argument("--task", metavar="T", help="whose labels (default: those of all tasks)")
    suspects.add_argument(
        "--top", type=int, default=100, metavar="N", help="how many suspects (default: 100)"
    )
    suspects.add_argument(
        "--out", type=Path, metavar="DIR", help="for tables and sheets (default: suspects/SUITE/V)"
    )
    _add_detection(suspects)

    detectors = command(
        "detectors", _detectors, "Compare detectors of wrong labels where it is known which are."
    )
    detectors.add_argument("suite", metavar="SUITE")
    detectors.add_argument(
        "--variants",
        nargs="+",
        action="extend",
        metavar="V",
        help="corrupted ones such as depth@0.4, and clean (default: the suite's corrupted ones)",
    )
    detectors.add_argument(
        "--format", choices=("table", "github", "latex", "html", "csv"), default="table"
    )
    detectors.add_argument(
        "--figures", type=Path, metavar="DIR", help="draw the figures there, too"
    )
    _add_detection(detectors)

    report = command("report", _report, "Write everything into one HTML page that can be sent.")
    report.add_argument(
        "--out", default="report.html", metavar="FILE", help="the page (default: report.html)"
    )
    report.add_argument("--title", metavar="TEXT", help="the page's heading")
    report.add_argument("--suites", metavar="a,b", help="only these suites")
    _add_results(report)

    prepare = command(
        "prepare", _prepare, "Turn a real dataset's raw files into the harness's own fast format."
    )
    prepare.add_argument("dataset", metavar="DATASET", help="cityscapes or surreal")
    prepare.add_argument("--raw", required=True, metavar="DIR", help="the dataset as published")
    prepare.add_argument(
        "--out", metavar="DIR", help="the directory to write (default: prepared/DATASET)"
    )
    prepare.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    prepare.add_argument(
        "--frames-every", type=int, metavar="N", help="surreal: every N-th frame of a clip only"
    )
    return parser


def _add_study(parser: _Parser, *, or_all: bool = False) -> None:
    names = "names such as equal,ilt,ilt+pcgrad" + ", or all" * or_all
    parser.add_argument("--strategies", metavar="a,b", help=names)
    parser.add_argument(
        "--variants",
        nargs="+",
        action="extend",
        metavar="V",
        help="names such as clean depth@0.4",
    )


def _add_detection(parser: _Parser) -> None:
    parser.add_argument(
        "--detectors",
        metavar="a,b",
        help="sigma,ilt-loss,loss,margin (default); cleanlab trains 5 more networks a seed",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="how many, counted from 0")
    _add_settings(parser)
    _add_plugins(parser)
    _add_results(parser)
    _add_resources(parser)


def _add_settings(parser: _Parser) -> None:
    parser.add_argument("--epochs", type=int, metavar="E", help="short for --set epochs=E")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of the suite (batch_size=32) or of a strategy (ilt.lr=4.0)",
    )


def _add_resources(parser: _Parser) -> None:
    parser.add_argument("--address", metavar="RAY", help="a Ray cluster's address, or 'auto'")
    parser.add_argument("--cpus-per-run", type=float, default=1.0, metavar="C")
    parser.add_argument("--gpus-per-run", type=float, default=0.0, metavar="G")


def _add_plugins(parser: _Parser) -> None:
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a file that registers strategies or suites",
    )


def _add_results(parser: _Parser) -> None:
    parser.add_argument(
        "--results",
        default=DEFAULT_RESULTS,
        metavar="DIR",
        help=f"results directory (default: {DEFAULT_RESULTS})",
    )


def _names(text: str | None, what: str) -> list[str] | None:
    """The names in a comma list; None where the option was not given."""
    if text is None:
        return None
    # A comma inside brackets belongs to a strategy's settings.
    names = [name.strip() for name in re.split(r",(?![^\[]*\])", text) if name.strip()]
    if not names:
        raise UserError(f"no {what} given")
    return names


def _list(options: argparse.Namespace) -> int:
    from mtlbench import catalogue, listing
    from mtlbench.plugins import read_plugins

    read_plugins(options.plugin)
    if options.format == "github":
        if options.what != "strategies":
            raise UserError("--format github is for strategies only: mtlbench list strategies")
        print(catalogue.render(catalogue.step_costs()), end="")
        return 0
    chosen = [options.what] if options.what else LISTS
    print("\n\n".join(listing.render(what) for what in chosen))
    return 0


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """What --set and --epochs change."""
    overrides: dict[str, Any] = {}
    for item in options.set:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise UserError(f"--set takes KEY=VALUE, but got {item!r}")
        overrides[key.strip()] = value.strip()
    if options.epochs is not None:
        overrides["epochs"] = options.epochs
    return overrides


def _train(options: argparse.Namespace) -> int:
    overrides = _overrides(options)

    from mtlbench.execution.resources import Resources
    from mtlbench.plugins import read_plugins
    from mtlbench.study.run import run_study

    outcome = run_study(
        options.suite,
        strategies=_names(options.strategies, "strategy"),
        variants=options.variants,
        seeds=options.seeds,
        overrides=overrides,
        plugins=read_plugins(options.plugin),
        results=options.results,
        resources=Resources(
            options.address,
            options.cpus_per_run,
            options.gpus_per_run,
            options.instance_tables,
        ),
        traces=options.traces,
        trackers=options.tracker,
    )
    if options.strategies:  # as the results name them: not `all`, nor `pcgrad+ilt`
        options.strategies = ",".join(dict.fromkeys(spec.strategy for spec in outcome.specs))
    try:
        _print_comparison(options, hashes={spec.hash for spec in outcome.specs})
        sys.stdout.flush()
    except BrokenPipeError:  # what was trained still decides the status
        _silence(sys.stdout)
    if outcome.all_done:
        return 0
    counts = ", ".join(f"{count} {status}" for status, count in sorted(outcome.statuses.items()))
    print(f"mtlbench: not all {len(outcome.specs)} runs are done: {counts}", file=sys.stderr)
    return EXIT_NOT_ALL_DONE


def _compare(options: argparse.Namespace) -> int:
    _print_comparison(options)
    return 0


def _leaderboard(options: argparse.Namespace) -> int:
    _check_figures(options.figures)

    from mtlbench.analysis.aggregate import load_results
    from mtlbench.analysis.leaderboard import leaderboard
    from mtlbench.analysis.leaderboard_tables import render_leaderboard

    results = load_results(options.results)
    _name_damaged(results.attrs["damaged"])
    board = leaderboard(
        results,
        suites=_names(options.suites, "suite"),
        variants=options.variants,
        strategies=_names(options.strategies, "strategy"),
        baseline=options.baseline,
    )
    text = render_leaderboard(board, options.format, terminal=sys.stdout.isatty())
    print(text.rstrip("\n"))
    if options.figures is not None:
        from mtlbench.analysis.figures.ranks import draw_rank_figures

        drawn = draw_rank_figures(board, options.figures)
        print(f"{len(drawn)} figure files in {options.figures}", file=sys.stderr)
    return 0


def _check_figures(figures: Path | None) -> None:
    if figures is not None and os.path.lexists(figures) and not figures.is_dir():
        raise UserError(f"figures path {str(figures)!r} is a file, not a directory")


def _name_damaged(damaged: Sequence[tuple[str, str]]) -> None:
    for path, what in damaged:
        print(f"mtlbench: {path} is left out: {what}", file=sys.stderr)


def _suspects(options: argparse.Namespace) -> int:
    overrides = _overrides(options)

    from mtlbench.analysis.label_errors.found import render_found
    from mtlbench.execution.resources import Resources
    from mtlbench.study.suspects import find_suspects

    found = find_suspects(
        options.suite,
        options.variant,
        options.task,
        detectors=_names(options.detectors, "detector"),
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


def _detectors(options: argparse.Namespace) -> int:
    overrides = _overrides(options)
    _check_figures(options.figures)

    from mtlbench.analysis.label_errors.comparison import render_detectors
    from mtlbench.execution.resources import Resources
    from mtlbench.study.suspects import study_detectors

    detected = study_detectors(
        options.suite,
        options.variants,
        detectors=_names(options.detectors, "detector"),
        seeds=options.seeds,
        overrides=overrides,
        plugins=options.plugin,
        results=options.results,
        resources=Resources(options.address, options.cpus_per_run, options.gpus_per_run),
    )
    print(render_detectors(detected, options.format, terminal=sys.stdout.isatty()), end="")
    if options.figures is not None:
        from mtlbench.analysis.label_errors.figures import draw_detectors

        drawn = draw_detectors(detected, options.figures)
        print(f"{len(drawn)} figure files in {options.figures}", file=sys.stderr)
    return 0


def _report(options: argparse.Namespace) -> int:
    from mtlbench.analysis.report import write_report

    suites = _names(options.suites, "suite")
    out = write_report(options.results, options.out, title=options.title, suites=suites)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from mtlbench.data.prepare import prepare

    report = prepare(
        options.dataset,
        options.raw,
        options.out or Path("prepared") / options.dataset,
        workers=options.workers,
        every=options.frames_every,
    )
    print(report)
    return 0


def _print_comparison(options: argparse.Namespace, hashes: set[str] | None = None) -> None:
    figures: Path | None = getattr(options, "figures", None)
    _check_figures(figures)

    from mtlbench.analysis import levels
    from mtlbench.analysis.aggregate import compare
    from mtlbench.analysis.tables import render

    comparison = compare(
        options.results,
        options.suite,
        options.variants,
        _names(options.strategies, "strategy"),
        metrics=_names(getattr(options, "metrics", None), "metric"),
        hashes=hashes,
    )
    _name_damaged(comparison.damaged)
    format = getattr(options, "format", "table")
    terminal = sys.stdout.isatty()
    if getattr(options, "against", None):
        from mtlbench.analysis.paper import against_paper, render_against

        against = against_paper(comparison)
        print(render_against(against, format, terminal=terminal).rstrip("\n"))
    else:
        tables = [render(comparison, format, terminal=terminal)]
        if format in levels.FORMATS:
            tables += [
                levels.render_levels(comparison, corruption, format, terminal=terminal)
                for corruption in levels.corruptions(comparison)
            ]
        print("\n".join(tables).rstrip("\n"))
    if figures is not None:
        from mtlbench.analysis.figures.runs import draw_figures

        drawn = draw_figures(
            options.results,
            options.suite,
            figures,
            options.variants,
            _names(options.strategies, "strategy"),
        )
        print(f"{len(drawn)} figure files in {figures}", file=sys.stderr)
