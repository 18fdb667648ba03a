"""The command line: what it prints, and what bad input gets."""

import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import CHECKOUT, TINY, Finished, tiny_spec, trained

from mtlbench.cli.main import main
from mtlbench.data.corruption import CORRUPTIONS
from mtlbench.store.runs import Store
from mtlbench.store.schema import FAILED
from mtlbench.study import run as studies

Run = Callable[..., Finished]

INTERRUPTED = "mtlbench: interrupted; the same command goes on from here\n"

PLUGINS = {
    "syntax.py": "def (",
    "zero.py": "a = 1\0",
    "raising.py": "raise RuntimeError('first line\\nsecond line')",
    "leaving.py": "raise SystemExit('bye')",
    "deep.py": "(" * 100_000,
    "base.py": "raise BaseException('base')",
    "stopping.py": "raise KeyboardInterrupt",
    "speechless.py": """
class Odd(Exception):
    def __str__(self): raise ValueError
raise Odd
""",
    "red.py": r"raise RuntimeError('\x1b[31mred')",
    "twice.py": """
import mtlbench
@mtlbench.register_strategy("equal")
class Equal(mtlbench.LossWeighting):
    def weights(self, losses, present): return losses
""",
    "spaced.py": """
import mtlbench
@mtlbench.register_strategy("My Own")
class Mine(mtlbench.LossWeighting): pass
""",
    "stageless.py": """
import mtlbench
@mtlbench.register_strategy("stageless")
class Stageless: pass
""",
    "suiteless.py": """
import mtlbench
@mtlbench.register_suite("suiteless")
class Suiteless: pass
""",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strategies, clean and corrupted, two seeds."""
    root = tmp_path_factory.mktemp("results") / "runs"
    for strategy in ("equal", "ilt"):
        for variant in ("clean", "left@0.4"):
            for seed in (0, 1):
                Store(root).write(trained(tiny_spec(strategy, variant, seed, epochs=1)))
    return root


@pytest.fixture
def mtlbench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs a command line in this process, in an empty directory, and never gets as far as Ray."""

    def no_cluster(*options: object) -> None:
        raise AssertionError("this should have been refused before anything was started")

    monkeypatch.setattr(studies, "cluster", no_cluster)
    monkeypatch.chdir(tmp_path)
    for name, text in PLUGINS.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "way").mkdir()
    (tmp_path / "way" / ".unfinished").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at all")
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}

    def run(line: str, **places: object) -> Finished:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([part.format(**places) for part in shlex.split(line)])
        out, err = capsys.readouterr()
        return Finished(ended.value.code, out, err)

    yield run
    for each, handler in handlers.items():
        signal.signal(each, handler)


# --- bad input ----------------------------------------------------------------------------------

BAD = [
    # names, with the nearest that there is
    ("run digist", ["suite 'digist'", "'digits'"]),
    ("run ''", ["suite ''", "digits"]),
    ("run digits --strategies eqal", ["strategy 'eqal'", "'equal'"]),
    ("run digits --strategies equal,ilt+", ["strategy ''", "equal"]),
    ("run digits --strategies ,", ["no strategy"]),
    ("run digits --strategies ilt+ilt", ["'ilt+ilt'", "two instance stages"]),
    ("run digits --strategies mtu+gls", ["'mtu+gls'", "two task stages"]),
    ("run digits --variants lfet@0.4", ["task", "'lfet@0.4'", "'left'"]),
    ("run digits --variants clean left+rihgt@0.4", ["'rihgt'", "'right'"]),
    ("run digits --variants left", ["'left'", "TASK@FRACTION", "left@0.4"]),
    ("run digits --variants cleen", ["'cleen'", "'clean'"]),
    ("run digits --variants left@0.4:nxt-class", ["kind", "'nxt-class'", "'next-class'"]),
    ("run digits --variants left@0.4:uniform", ["kind", "'uniform'", "other-class"]),
    ("run digits --variants left@0.4,left@0.2", ["'left@0.4,left@0.2'", "twice"]),
    # fractions
    ("run digits --variants left@0", ["'left@0'", "above 0 and at most 1"]),
    ("run digits --variants left@-0.1", ["'left@-0.1'", "above 0 and at most 1"]),
    ("run digits --variants left@1.5", ["'left@1.5'", "above 0 and at most 1"]),
    ("run digits --variants left@nan", ["'left@nan'", "above 0 and at most 1"]),
    ("run digits --variants left@inf", ["'left@inf'", "above 0 and at most 1"]),
    ("run digits --variants left@abc", ["'abc'", "not a number"]),
    ("run digits --variants left@", ["'left@'", "not a number"]),
    # counts
    ("run digits --seeds 0", ["seeds", "at least 1", "0"]),
    ("run digits --seeds -1", ["seeds", "at least 1", "-1"]),
    ("run digits --seeds x", ["--seeds", "'x'"]),
    ("run digits --epochs 0", ["epochs", "above 0"]),
    ("run digits --epochs -3", ["epochs", "above 0", "-3"]),
    ("run digits --epochs x", ["--epochs", "'x'"]),
    # parameters
    ("run digits --set batchsize=3", ["'batchsize'", "'batch_size'"]),
    ("run digits --set batch_size=big", ["batch_size", "whole number", "'big'"]),
    ("run digits --set batch_size=1.5", ["batch_size", "whole number", "'1.5'"]),
    ("run digits --set lr=nan", ["lr", "a number", "'nan'"]),
    ("run digits --set lr=-1", ["lr", "above 0", "-1"]),
    ("run digits --set precision=float8", ["precision", "'float32'", "'float8'"]),
    ("run digits --set missing_labels=1", ["missing_labels", "below 1"]),
    ("run digits --set epochs", ["KEY=VALUE", "'epochs'"]),
    ("run digits --set =3", ["KEY=VALUE", "'=3'"]),
    ("run digits --strategies ilt --set ilt.lrr=4", ["'ilt.lrr'", "'ilt.lr'"]),
    ("run digits --strategies ilt --set ilt.lr=x", ["ilt.lr", "a number", "'x'"]),
    ("run digits --strategies ilt --set ilt.momentum=2", ["momentum", "below 1", "2"]),
    ("run digits --strategies equal --set ilt.lr=4", ["'ilt.lr'", "'ilt'", "not in this study"]),
    ("run digits --set iltt.lr=4", ["'iltt'", "'ilt'"]),
    ("run digits --strategies static --set static.weights=lft:1", ["'lft'", "left"]),
    ("run digits --strategies static --set static.weights=left", ["static.weights", "left:1"]),
    # plugins
    ("run digits --plugin missing.py", ["'missing.py'", "does not exist"]),
    ("run digits --plugin empty", ["'empty'", "cannot be read"]),
    ("run digits --plugin binary.py", ["'binary.py'", "cannot be read"]),
    ("run digits --plugin /dev/zero", ["'/dev/zero'", "is not a file"]),
    ("run digits --plugin deep.py", ["'deep.py'", "not Python"]),
    ("run digits --plugin base.py", ["'base.py'", "BaseException: base"]),
    ("run digits --plugin stopping.py", ["'stopping.py'", "KeyboardInterrupt"]),
    ("run digits --plugin speechless.py", ["'speechless.py'", "Odd: without a message"]),
    ("run digits --plugin red.py", ["'red.py'", r"\x1b[31mred"]),
    ("run digits --plugin syntax.py", ["'syntax.py'", "line 1", "not Python"]),
    ("run digits --plugin zero.py", ["'zero.py'", "not Python"]),
    ("run digits --plugin raising.py", ["'raising.py'", "RuntimeError", "first line"]),
    ("run digits --plugin leaving.py", ["'leaving.py'", "bye"]),
    ("run digits --plugin twice.py", ["'twice.py'", "'equal'", "twice"]),
    ("run digits --plugin spaced.py", ["'spaced.py'", "'My Own'", "lower case"]),
    ("run digits --plugin stageless.py --strategies stageless", ["stageless"]),
    ("run suiteless --plugin suiteless.py", ["suiteless"]),
    ("list --plugin raising.py", ["'raising.py'", "RuntimeError"]),
    # places
    ("run digits --results file", ["'file'", "is a file"]),
    ("run digits --results way", ["'way/.unfinished'", "in the way"]),
    ("run digits --results file/under/it", ["file'", "is a file"]),
    ("run digits --results dangling", ["dangling"]),
    ("run digits --results {long}", ["results path", "name too long"]),
    ("run digits --results /proc/nothing", ["results path", "not writable"]),
    # resources
    ("run digits --cpus-per-run -1", ["cpus per run", "above 0", "-1"]),
    ("run digits --cpus-per-run 0", ["cpus per run", "above 0"]),
    ("run digits --cpus-per-run nan", ["cpus per run", "nan"]),
    ("run digits --cpus-per-run inf", ["cpus per run", "inf"]),
    ("run digits --cpus-per-run 1.5", ["cpus per run", "whole", "1.5"]),
    ("run digits --gpus-per-run -1", ["gpus per run", "at least 0", "-1"]),
    ("run digits --gpus-per-run x", ["--gpus-per-run", "'x'", "auto"]),
    ("run digits --gpus-per-run 1.5", ["gpus per run", "whole", "1.5"]),
    ("run digits --gpus-per-run 0.001", ["gpus per run", "at least 0.01", "0.001"]),
    ("run digits --cpus-per-run 0.00001", ["cpus per run", "at least 0.01", "1e-05"]),
    ("run digits --address 127.0.0.1:-1", ["'127.0.0.1:-1'", "HOST:PORT"]),
    ("run digits --address 127.0.0.1:99999", ["'127.0.0.1:99999'", "HOST:PORT"]),
    ("run digits --address=", ["no Ray cluster at ''", "auto"]),
    ("run digits --address local", ["'local'", "HOST:PORT"]),
    ("run digits --address ray://127.0.0.1:10001", ["ray://", "HOST:PORT of its head"]),
    ("run digits --storage nosuch://x", ["no checkpoints", "'nosuch://x'", "Unrecognized"]),
    ("run digits --storage=", ["no checkpoints", "''", "scheme"]),
    ("run digits --storage /proc/nothing", ["no checkpoints", "'/proc/nothing'"]),
    ("tune digits --storage nosuch://x", ["no checkpoints", "'nosuch://x'"]),
    ("detectors digits --storage nosuch://x", ["no checkpoints", "'nosuch://x'"]),
    ("suspects digits --storage nosuch://x", ["no checkpoints", "'nosuch://x'"]),
    ("run digits --seeds 99999999", ["seeds", "at most 100000"]),
    ("run digits --seeds 99999", ["999,990 runs", "100,000"]),
    # the command line itself
    ("", ["COMMAND"]),
    ("rnu digits", ["'rnu'", "run"]),
    ("run", ["SUITE"]),
    ("run digits --strategies=--", ["--strategies", "'--' is no value"]),
    ("run {endless}", ["unknown suite", "nnn…nnn"]),
    ("run digits --strategies {endless}", ["unknown strategy", "nnn…nnn"]),
    ("run digits --set lr={endless}", ["lr must be a number", "nnn…nnn"]),
    ("run digits --{endless}", ["unknown argument", "nnn…nnn"]),
    ("run digits --seed 3", ["'--seed'", "'--seeds'"]),
    ("run digits --colour", ["'--colour'", "mtlbench run --help"]),
    ("list nothing", ["'nothing'", "strategies"]),
    ("list suites digits", ["'digits'"]),
    # comparisons
    ("compare digits --results missing", ["no results directory at 'missing'"]),
    ("compare digits --results empty", ["'digits'", "'empty'"]),
    ("compare digits --results file", ["'file'"]),
    ("compare streets --results {results}", ["'streets'", "'digits'"]),
    ("compare digits --results {results} --strategies ilt,eqal", ["'eqal'", "'equal'"]),
    ("compare digits --results {results} --variants left@0.5", ["'left@0.5'", "left@0.4"]),
    ("compare digits --results {results} --metrics nope", ["metric 'nope'", "accuracy"]),
    ("compare digits --results {results} --strategies ,", ["no strategy"]),
    ("compare digits --results {results} --metrics ,", ["no metric"]),
    ("compare digits --results {results} --format yaml", ["'yaml'", "csv"]),
    ("compare digits --results {results} --figures file", ["file"]),
    ("compare digits --results {results} --figures file/x/y", ["'file'"]),
    ("compare digits --results {results} --figures=", ["no name"]),
    ("compare digits --results=", ["no name"]),
    ("leaderboard --results=", ["no name"]),
    ("report --results=", ["no name"]),
    ("run digits --results=", ["no name"]),
    ("suspects digits --out=", ["no name"]),
]


@pytest.mark.parametrize(("line", "mentions"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_gets_one_line_that_names_it_and_writes_nothing(
    line: str, mentions: list[str], mtlbench: Run, results: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    ended = mtlbench(line, results=results, long="n" * 300, endless="n" * 5000)
    assert ended.status == 2
    assert len(ended.err.splitlines()) == 1, ended.err
    assert len(ended.err) < 1000
    assert ended.err.removesuffix("\n").isprintable()
    for mention in mentions:
        assert mention in ended.err
    assert ended.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_results_directory_without_permission_is_named(mtlbench: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").chmod(0o555)
    ended = mtlbench("run digits --results empty")
    assert ended.status == 2
    assert ended.err == "mtlbench: error: results path 'empty' is not writable\n"


def test_a_working_directory_that_is_gone_is_named(
    mtlbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ended = mtlbench("list")
    assert ended.status == 2
    assert ended.err.startswith("mtlbench: error: the working directory is gone")


WHILE_IMPORTED = """
def find_spec(name, *_):
    if name == "mtlbench.cli.tune":
        os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, types.SimpleNamespace(find_spec=find_spec))
"""

TOLD_TO_END = WHILE_IMPORTED.replace("SIGINT", "SIGTERM")
CLOSED = WHILE_IMPORTED.replace("SIGINT", "SIGHUP")

AT_THE_END = "atexit.register(os.kill, os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize(
    ("when", "ends"),
    [
        (WHILE_IMPORTED, (130, INTERRUPTED)),
        (TOLD_TO_END, (143, INTERRUPTED)),
        (CLOSED, (129, INTERRUPTED)),
        (f"signal.signal(signal.SIGHUP, signal.SIG_IGN){CLOSED}", (0, "")),
        (AT_THE_END, (0, "")),
    ],
    ids=[
        "while verbs are imported",
        "told to end",
        "its terminal is closed",
        "under nohup",
        "at the end",
    ],
)
def test_an_interruption_shows_no_traceback(when: str, ends: tuple[int, str]) -> None:
    code = "import atexit, os, signal, sys, types\n" + when
    code += "\nfrom mtlbench.cli.main import main; main(['--version'])"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert (ended.returncode, ended.stderr) == ends


@pytest.mark.parametrize("compiled", [False, True])
def test_no_empty_folder_of_pytorchs_compiler_is_left(
    compiled: bool, mtlbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    (temporary / "torchinductor_another").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    made = temporary / "torchinductor_me" / "of_a_graph"
    (tmp_path / "compiling.py").write_text(
        f"import pathlib; pathlib.Path({str(made if compiled else made.parent)!r}).mkdir("
        "parents=True)"
    )
    assert mtlbench("list corruptions --plugin compiling.py").status == 0
    kept = ["torchinductor_another", *(["torchinductor_me"] if compiled else [])]
    assert sorted(path.name for path in temporary.iterdir()) == kept


# --- lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("strategies", ["equal", "mtu", "dwa", "gls", "ilt", "pcgrad", "ilt.lr="]),
        ("suites", ["digits", "classification: left, right; regression: offset", "streets"]),
        ("variants", ["digits", "clean left@0.4", "streets", "depth@FRACTION"]),
        ("corruptions", [*CORRUPTIONS, "digits left (default)"]),
    ],
)
def test_a_list_names_what_there_is(
    what: str, names: list[str], mtlbench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ended = mtlbench(f"list {what}")
    assert ended.status == 0
    assert ended.err == ""
    assert ended.out.startswith(what)
    for name in names:
        assert name in ended.out
    assert mtlbench("list").out.count(ended.out) == 1


@pytest.mark.parametrize("columns", [80, 100, 120, 300])
def test_a_list_fits_its_terminal(
    columns: int, mtlbench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = mtlbench("list").out.splitlines()
    too_long = [line for line in lines if len(line) > min(columns, 120)]
    # A name is never cut, and few are longer than what is left for them.
    assert len(too_long) <= (len(lines) // 10 if columns < 120 else 0)


def test_a_list_is_in_lines_where_a_terminal_is_too_narrow_for_columns(
    mtlbench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = mtlbench("list").out
    assert all(len(line) <= 60 for line in out.splitlines())
    assert "\n  ilt  instance\n      Learns one log" in out


def test_a_plugin_is_listed_with_its_parameters(mtlbench: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import mtlbench\n"
        "@mtlbench.register_strategy('mine')\n"
        "class Mine(mtlbench.LossWeighting):\n"
        "    '''My own weights.'''\n"
        "    def __init__(self, share: float = 0.5): super().__init__()\n"
    )
    (line,) = [line for line in mtlbench("list --plugin mine.py").out.splitlines() if "My" in line]
    assert line.split() == ["mine", "loss", "My", "own", "weights.", "mine.share=0.5"]


def test_the_version_is_that_of_the_package(mtlbench: Run) -> None:
    ended = mtlbench("--version")
    assert (ended.status, ended.out) == (0, f"mtlbench {version('mtlbench')}\n")


# --- comparisons --------------------------------------------------------------------------------


def test_a_comparison_as_csv_is_the_long_form(mtlbench: Run, results: Path) -> None:
    ended = mtlbench("compare digits --results {results} --format csv", results=results)
    assert (ended.status, ended.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert list(rows[0]) == [
        "suite", "variant", "strategy", "metric", "task", "unit", "direction", "mean", "std", "n",
    ]  # fmt: skip
    assert {(row["variant"], row["strategy"], row["n"]) for row in rows} == {
        (variant, strategy, "2")
        for variant in ("clean", "left@0.4")
        for strategy in ("equal", "ilt")
    }
    found = [row for row in rows if row["metric"] == "detection_accuracy"]
    assert [(r["variant"], r["strategy"], r["task"], r["unit"]) for r in found] == [
        ("left@0.4", "ilt", "left", "%")
    ]


def test_a_comparison_as_json_holds_the_same_means_as_csv(mtlbench: Run, results: Path) -> None:
    command = "compare digits --results {results} --format "
    rows = csv.DictReader(io.StringIO(mtlbench(command + "csv", results=results).out))
    means = [float(row["mean"]) for row in rows]
    text = mtlbench(command + "json", results=results).out
    given = json.loads(text)
    rows = given if isinstance(given, list) else next(v for v in given.values() if type(v) is list)
    assert [row["mean"] for row in rows] == pytest.approx(means, rel=1e-6)


@pytest.mark.parametrize(
    ("format", "mark"),
    [("table", "───"), ("github", "|:--"), ("latex", r"\begin{tabular}"), ("html", "<table")],
)
def test_a_printed_comparison_has_a_row_for_every_strategy(
    format: str, mark: str, mtlbench: Run, results: Path
) -> None:
    ended = mtlbench("compare digits --results {results} --format " + format, results=results)
    assert (ended.status, ended.err) == (0, "")
    for part in (mark, "Eq. Weight", "ILT Params", "Detection"):
        assert part in ended.out


def test_a_study_ends_with_its_table_however_its_strategies_were_named(
    mtlbench: Run, tmp_path: Path
) -> None:
    """`all`, or the two stages of a strategy in the other order."""
    Store(tmp_path / "runs").write(trained(tiny_spec("ilt+mtu")))
    size = " ".join(f"--set {key}={value}" for key, value in TINY.items())
    ended = mtlbench(f"run digits --strategies mtu+ilt --variants clean --seeds 1 {size}")
    assert ended.status == 0, ended.err
    assert "nothing to do" in ended.err
    assert "ILT Params + MTU" in ended.out


def test_a_comparison_can_be_narrowed(mtlbench: Run, results: Path) -> None:
    ended = mtlbench(
        "compare digits --results {results} --format csv --variants left@0.4 --strategies ilt"
        " --metrics accuracy",
        results=results,
    )
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [(r["variant"], r["strategy"], r["metric"], r["task"]) for r in rows] == [
        ("left@0.4", "ilt", "accuracy", "left"),
        ("left@0.4", "ilt", "accuracy", "right"),
    ]


def test_a_comparison_of_nothing_but_failed_runs_says_that_they_failed(
    mtlbench: Run, tmp_path: Path
) -> None:
    record = trained(tiny_spec("equal", epochs=1))
    record.info |= {"status": FAILED, "metrics": [], "error": "Traceback …"}
    Store(tmp_path / "failed").write(record)
    ended = mtlbench("compare digits --results failed")
    assert ended.status == 0
    assert "1 of 1 run failed" in ended.out


# --- pipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["list", "compare digits --results {results}", "--help"])
def test_a_reader_that_leaves_early_gets_no_traceback(arguments: str, results: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [
                sys.executable,
                "-c",
                "from mtlbench.cli.main import main; main()",
                *arguments.format(results=results).split(),
            ],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
    finally:
        os.close(write)
    assert ended.stderr == ""
    assert ended.returncode in (0, 141)
