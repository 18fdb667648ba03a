"""Gives mtlbench what others' machines and hands may give it, and counts what it takes badly.

    python benchmarks/faults.py [--parts lines,plugins,files,checkpoints,environments] [--all N]

- lines: malformed command lines, by hand and drawn at random from nasty words;
- plugins: names that cannot be used, and files that raise, end or interrupt;
- files: one run of a study damaged in each way, under each command that reads it;
- checkpoints: damaged checkpoints, from which a run must begin anew and come to the same bits;
- environments: machines without a place to write, with full disks, odd locales and no Ray.

Handled well is what ends in time, with at most 1 GiB of memory, without a traceback, with no
control character on a terminal, and either does what was asked or says in one line why it does not
(status 2) and has written nothing. Where one run of several is damaged it is named, the others are
shown, and the status is 1. Prints a line for each case that was taken badly, and a table; ends with
status 1 if there was any. Needs Linux. About six minutes on two cores.
"""

import argparse
import io
import os
import random
import resource
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtlbench.cli.main import main as command_line
from mtlbench.plugins import load_plugins
from mtlbench.store.runs import HISTORY_FILE, PREDICTIONS_FILE, RUN_FILE, Store
from mtlbench.store.sealed import sealed
from mtlbench.study import run as studies
from mtlbench.study.plan import plan
from mtlbench.training import loop
from mtlbench.training.job import Ended, Notice, Place
from mtlbench.training.jobs import RunJob

TINY = {"epochs": 2, "train_size": 256, "validation_size": 64, "test_size": 64}
OPTIONS = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]

MOST_SECONDS = 60.0
"""Time that a refusal, or a comparison of a few runs, may take on a busy machine."""

MOST_MEMORY = 2**30

REACHED = 99
"""Status of a command that was ready to start Ray."""


@dataclass
class Finished:
    """How a command ended.

    Attributes:
        status: None where it did not within the time.
        memory: the most that it held (bytes).
        written: whether anything changed where it was started.
    """

    status: int | None
    out: bytes
    err: bytes
    memory: int
    written: bool


@dataclass
class Count:
    """Cases of one part, and those that were taken badly with the reason."""

    tried: int = 0
    bad: list[str] = field(default_factory=list)

    def note(self, case: str, faults: Sequence[str]) -> None:
        self.tried += 1
        if faults:
            line = f"{case}: {'; '.join(faults)}"
            self.bad.append(line)
            print(f"  BAD {ascii(line)[1:-1][:600]}", flush=True)


# --- a command in a process of its own ----------------------------------------------------------


def forked(work: Callable[[], Any], cwd: Path, seconds: float = MOST_SECONDS) -> Finished:
    """Does something in a child, which has imported all that this process has."""
    before = listing(cwd)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            _in_child(work, cwd, out.fileno(), err.fileno())
        status, memory, end = None, 0, time.monotonic() + seconds
        while True:
            pid, code, usage = os.wait4(child, os.WNOHANG)
            memory = max(memory, usage.ru_maxrss * 1024)
            if pid:
                status = os.waitstatus_to_exitcode(code)
                break
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.wait4(child, 0)
                break
            time.sleep(0.005)
        for file in (out, err):
            file.seek(0)
        return Finished(status, out.read(), err.read(), memory, listing(cwd) != before)


def _in_child(work: Callable[[], Any], cwd: Path, out: int, err: int) -> None:
    status = 70
    try:
        os.chdir(cwd)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdin = open(os.devnull)  # noqa: SIM115 (as long as the process)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def mtlbench(words: Sequence[str], cwd: Path) -> Finished:
    """A command line, up to where it would start Ray."""
    return forked(lambda: command_line(list(words)), cwd)


def listing(folder: Path) -> dict[str, int]:
    """Every file below a folder, and when it was changed."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            found[path] = 0 if name in folders else os.lstat(path).st_mtime_ns
    return found


def faults_of(ended: Finished) -> list[str]:
    """What no command may do, whatever it was given."""
    if ended.status is None:
        return [f"did not end within {MOST_SECONDS:g} s"]
    faults = []
    if b"Traceback" in ended.err or ended.status not in (0, 1, 2, REACHED):
        faults.append(f"status {ended.status}, {last_line(ended.err)!r}")
    if ended.memory > MOST_MEMORY:
        faults.append(f"{ended.memory / 2**20:.0f} MiB")
    for name, text in (("out", ended.out), ("err", ended.err)):
        shown = text.decode(errors="replace").replace("\n", "").replace("\t", "")
        if not shown.isprintable():
            faults.append(f"control characters on standard {name}")
    return faults


def refusal_faults(ended: Finished) -> list[str]:
    """What is wrong with a refusal: one line, status 2, nothing written."""
    faults = faults_of(ended)
    if ended.status == 2:
        lines = ended.err.decode(errors="replace").splitlines()
        if len(lines) != 1 or not lines[0].startswith("mtlbench: error: "):
            faults.append(f"{len(lines)} lines: {last_line(ended.err)!r}")
        elif len(lines[0]) > MOST_LETTERS:
            faults.append(f"a line of {len(lines[0])} letters")
        if ended.out:
            faults.append("something on standard output")
        if ended.written:
            faults.append("something was written")
    return faults


MOST_LETTERS = 1000
"""Of a refusal."""


def last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""


# --- command lines ------------------------------------------------------------------------------

LONG = "n" * 5000
NASTY = (
    "", " ", "-", "--", "-x", "..", ".", "/", "a/b", "../up", "all", "+", ",", "@", "ilt+", "+ilt",
    "[", "]", "ilt[", "a=b", "=", "%s", "{}", "\\", "'", '"', "~", "*", "\n", "two\nlines", "\t",
    "\x1b[31mred", "\x07", "\x7f", "\u202eleft", "\u200b", "\ufeff", "\udcff", "\U0001f600", "é",
    "٣", "１", LONG, "nan", "inf", "-inf", "1e999", "-1", "0", "-0", "1e-9", "0.00001", "99999999",
    "9" * 400, "0x10", "1_000", "1e3", "None", "true", "/dev/null", "/dev/full", "/proc/self/mem",
    "clean@", "left@", "left@1e-300", "left@0.5:" + LONG, "torchjd:", "torchjd:x", "frozen:",
    "frozen:frozen:mtu",
)  # fmt: skip
"""Words that no option is made for."""

TAKING = {
    "run": ("--strategies", "--variants", "--seeds", "--epochs", "--set", "--plugin", "--results",
            "--address", "--cpus-per-run", "--gpus-per-run", "--instance-tables", "--tracker"),
    "tune": ("--strategies", "--variants", "--seeds", "--trials", "--budget", "--space", "--set",
             "--results", "--gpus-per-run", "--epochs"),
    "compare": ("--strategies", "--variants", "--metrics", "--format", "--figures", "--against",
                "--results"),
    "leaderboard": ("--suites", "--strategies", "--variants", "--baseline", "--seeds", "--format",
                    "--figures", "--results"),
    "suspects": ("--variant", "--task", "--top", "--detectors", "--seeds", "--set", "--results"),
    "detectors": ("--variants", "--detectors", "--seeds", "--set", "--figures", "--format"),
    "report": ("--suites", "--results"),
    "merge": ("--into",),
    "list": ("--format", "--plugin"),
    "prepare": ("--raw", "--out", "--workers"),
}  # fmt: skip
"""Options that take a word, by verb."""

FIRST = {"merge": ["results"], "list": [], "report": [], "leaderboard": [], "prepare": ["nyuv2"]}
"""What stands after the verb; a suite elsewhere."""

BY_HAND = [
    "run digits --seeds 99999999",
    "run digits --seeds 99999",
    "run digits --results ''",
    "compare digits --figures ''",
    "run digits --cpus-per-run 0.00001",
    "run digits --cpus-per-run 1e308",
    "run digits --gpus-per-run ''",
    "run digits --gpus-per-run Auto",
    "run digits --gpus-per-run 0.001",
    "run digits --gpus-per-run 1.5",
    "run digits --gpus-per-run nan",
    "run digits --gpus-per-run -0.5",
    f"run {LONG}",
    f"run digits --strategies {LONG}",
    f"run digits --variants {LONG}",
    f"run digits --set {LONG}=1",
    f"run digits --set lr={LONG}",
    f"run digits --{LONG}",
    f"{LONG}",
    "run digits --strategies " + ",".join(["equal"] * 3000),
    "run digits --variants " + "left@0.4," * 500 + "left@0.4",
    "run digits --set epochs=99999999999999999999",
    "run digits --set train_size=99999999999999999999",
    "run digits --set batch_size=0",
    "tune digits --trials 99999999",
    "tune digits --budget 9999999999999",
    "suspects digits --top 0",
    "suspects digits --top 99999999999999999999",
]


def command_lines(amount: int, base: Path) -> Iterator[tuple[str, list[str]]]:
    for line in BY_HAND:
        yield line, shlex.split(line)
    for verb, options in TAKING.items():
        first = FIRST.get(verb, ["digits"])
        for option in options:
            for word in NASTY:
                yield f"{verb} {option} {word}", [verb, *first, f"{option}={word}"]
        if first:
            for word in NASTY:
                yield f"{verb} {word}", [verb, *first[:-1], word]
    random_words = random.Random(0)
    for _ in range(amount):
        verb = random_words.choice(list(TAKING))
        words = [verb, *FIRST.get(verb, ["digits"])]
        for _ in range(random_words.randint(1, 4)):
            words.append(random_words.choice(TAKING[verb]))
            words += random_words.choices(NASTY, k=random_words.randint(0, 2))
        yield " ".join(words), words


def try_lines(base: Path, amount: int) -> Count:
    count, place = Count(), base / "lines"
    place.mkdir()
    shutil.copytree(base / "runs", place / "results")
    lines = list(command_lines(amount, base))
    if amount < len(lines) - len(BY_HAND):  # a sample of all combinations
        lines = lines[: len(BY_HAND)] + random.Random(1).sample(lines[len(BY_HAND) :], amount)
    for name, words in lines:
        if any("\0" in word for word in words):
            continue
        ended = mtlbench(words, place)
        faults = refusal_faults(ended)
        count.note(f"{name[:120]}", faults)
        if ended.written:  # as figures, where all was well
            shutil.rmtree(place)
            place.mkdir()
            shutil.copytree(base / "runs", place / "results")
    return count


# --- plugins ------------------------------------------------------------------------------------

NAMES = (
    "", " ", "a b", "a/b", "..", ".", "../x", "a\0b", "a\nb", "\x1b[31m", "\u202eleft", "\ud800",
    "x" * 300, "-lead", "all", "a+b", "a,b", "a@b", "a:b", "a=b", "[", "a]b", "Upper", "\u200b",
    "\ufeffx", "nul\x7f", "a\\b", "a\tb", "*", "equal",
)  # fmt: skip

STRATEGY = """
import mtlbench
@mtlbench.register_strategy({name!r}, label={label!r})
class Mine(mtlbench.LossWeighting):
    def weights(self, losses, present): return losses * 0 + 1
"""

SUITE = """
from dataclasses import dataclass, replace
import mtlbench
from mtlbench.suites.digits import Digits
@mtlbench.register_suite({name!r})
@dataclass(frozen=True, kw_only=True)
class Mine(Digits):
    default_strategies = ("equal",)
    def tasks(self):
        first, *rest = super().tasks()
        {change}
        return (first, *rest)
"""

RAISING = {
    "raises": "raise RuntimeError('one\\ntwo')",
    "raises in red": "raise RuntimeError('\\x1b[31mred')",
    "raises BaseException": "raise BaseException('base')",
    "raises KeyboardInterrupt": "raise KeyboardInterrupt",
    "raises GeneratorExit": "raise GeneratorExit",
    "ends": "raise SystemExit(0)",
    "ends by sys.exit": "import sys; sys.exit('bye')",
    "raises an exception that raises": (
        "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd"
    ),
    "recursion": "def f(): f()\nf()",
    "is no Python": "def (",
    "has a NUL": "a = 1\0",
    "nests too deep": "(" * 100_000,
    "is a long line": "a = " + "1 + " * 50_000 + "1",
    "takes a name": STRATEGY.format(name="equal", label="x"),
    "label of control characters": STRATEGY.format(name="mine", label="\x1b[31m"),
    "label of 3,000 letters": STRATEGY.format(name="mine", label="x" * 3000),
    "share of a GPU": SUITE.format(name="mine", change="pass") + "    gpu_share = 0\n",
}


def try_plugins(base: Path, amount: int) -> Count:
    count, place = Count(), base / "plugins"
    place.mkdir()

    def attempt(case: str, text: str | bytes, suite: str = "digits") -> None:
        file = place / "plugin.py"
        file.write_bytes(text.encode(errors="surrogatepass") if isinstance(text, str) else text)
        ended = mtlbench(["run", suite, "--plugin", "plugin.py", *OPTIONS], place)
        faults = refusal_faults(ended)
        if ended.status != 2:
            faults.append(f"status {ended.status}, {last_line(ended.err)!r}")
        count.note(case, faults)

    for name in NAMES:
        attempt(f"strategy {name!r}", STRATEGY.format(name=name, label="Mine"))
        attempt(f"suite {name!r}", SUITE.format(name=name, change="pass"), "mine")
    for name in NAMES[:-1]:
        if name not in ("Upper", "a=b", "*"):  # in a task's or a metric's name, they do no harm
            change = f"first = replace(first, name={name!r})"
            attempt(f"task {name!r}", SUITE.format(name="mine", change=change), "mine")
            if name == "all":
                continue
            metric = f"replace(first.metrics[0], name={name!r})"
            change = f"first = replace(first, metrics=({metric},))"
            attempt(f"metric {name!r}", SUITE.format(name="mine", change=change), "mine")
    for case, text in RAISING.items():
        attempt(f"a plugin that {case}", text, "mine" if "GPU" in case else "digits")
    for case, target in (
        ("is a folder", "/tmp"),
        ("is /dev/zero", "/dev/zero"),
        ("is missing", "/nowhere/at all.py"),
        ("is a link to itself", "plugin.py"),
    ):
        (place / "plugin.py").unlink()
        (place / "plugin.py").symlink_to(target)
        ended = mtlbench(["run", "digits", "--plugin", "plugin.py", *OPTIONS], place)
        count.note(f"a plugin that {case}", refusal_faults(ended))
        (place / "plugin.py").unlink()
        (place / "plugin.py").touch()
    (place / "plugin.py").unlink()
    os.mkfifo(place / "plugin.py")
    ended = mtlbench(["run", "digits", "--plugin", "plugin.py", *OPTIONS], place)
    count.note("a plugin that is a FIFO", refusal_faults(ended))
    return count


# --- one damaged run ----------------------------------------------------------------------------

COMMANDS = ("compare digits", "leaderboard", "report")
OF_ALL_OF_IT = ("compare digits --variants clean --figures figures", "report")
"""Commands that read the whole of a run."""


def info_changed(change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        import json

        info = json.loads((run / RUN_FILE).read_text())
        changed = change(info)
        changed = info if changed is None else changed
        whole = isinstance(changed, dict)
        (run / RUN_FILE).write_bytes(sealed(changed) if whole else json.dumps(changed).encode())

    return damage


def text_changed(old: str, new: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        text = (run / RUN_FILE).read_text()
        assert old in text, old
        (run / RUN_FILE).write_text(text.replace(old, new, 1), errors="surrogatepass")

    return damage


def in_place(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).unlink()
        make(run / name)

    return damage


def flipped(name: str, where: float) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        data = bytearray((run / name).read_bytes())
        data[int(where * (len(data) - 1))] ^= 4
        (run / name).write_bytes(data)

    return damage


def bomb(path: Path) -> None:
    """An archive of one array that unpacks to 6 GB."""
    size = 6 * 10**9
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }" % size
    header = header.ljust(117) + b"\n"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("input.npy", "w", force_zip64=True) as member,
    ):
        member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        block = bytes(2**24)
        for _ in range(size // len(block) + 1):
            member.write(block)


def listed_as_it_is(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """A file that `run.json` describes rightly, whatever is in it."""
    import hashlib

    def damage(run: Path) -> None:
        make(run / name)
        data = (run / name).read_bytes()
        entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        info_changed(lambda info: info["files"].update({name: entry}))(run)

    return damage


def first_metric(**change: Any) -> Callable[[Path], None]:
    return info_changed(lambda info: info["metrics"][0].update(change))


def more_metrics(count: int) -> Callable[[Path], None]:
    return info_changed(
        lambda info: info["metrics"].extend(
            {**info["metrics"][0], "metric": f"m{number}"} for number in range(count)
        )
    )


def sock(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a long name would not do
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)
    os.chdir(here)


HARMLESS = "harmless: "
"""Begins the names of changes after which a run is still whole."""

DAMAGES: dict[str, Callable[[Path], None]] = {
    "no run.json": lambda run: (run / RUN_FILE).unlink(),
    "empty run.json": lambda run: (run / RUN_FILE).write_text(""),
    "run.json cut": lambda run: (run / RUN_FILE).write_bytes((run / RUN_FILE).read_bytes()[:99]),
    "run.json of zeros": lambda run: (run / RUN_FILE).write_bytes(bytes(5000)),
    "run.json is a FIFO": in_place(RUN_FILE, os.mkfifo),
    "run.json is a socket": in_place(RUN_FILE, sock),
    "run.json is /dev/zero": in_place(RUN_FILE, lambda path: path.symlink_to("/dev/zero")),
    "run.json is a loop": in_place(RUN_FILE, lambda path: path.symlink_to(path.name)),
    "run.json is a folder": in_place(RUN_FILE, Path.mkdir),
    "run.json of 100,000 brackets": lambda run: (run / RUN_FILE).write_text("[" * 100_000),
    "run.json of 100,000 objects": lambda run: (run / RUN_FILE).write_text('{"a":' * 100_000),
    "run.json of 20 MB": lambda run: (run / RUN_FILE).write_text(" " * 20_000_000),
    "run.json is a list": info_changed(lambda info: [info]),
    "run.json is null": info_changed(lambda info: [][:0] or 0),
    "schema of tomorrow": info_changed(lambda info: info.update(schema_version=2)),
    "schema in red": info_changed(lambda info: info.update(schema_version="\x1b[31m")),
    "status in red": info_changed(lambda info: info.update(status="\x1b[31m")),
    "no metrics": info_changed(lambda info: info.pop("metrics")),
    "metrics a number": info_changed(lambda info: info.update(metrics=3)),
    "value a word": first_metric(value="much"),
    "value 1e999": text_changed('"value": ', '"value": 1e999, "was": '),
    "value NaN": text_changed('"value": ', '"value": NaN, "was": '),
    "value of 400 digits": text_changed('"value": ', f'"value": {"9" * 400}, "was": '),
    "value of 5,000 digits": text_changed('"value": ', f'"value": {"9" * 5000}, "was": '),
    "metric in red": first_metric(metric="\x1b[31m"),
    "metric with NUL": first_metric(metric="a\0b"),
    "metric with a surrogate": first_metric(metric="a\ud800"),
    "task from right to left": first_metric(task="\u202eleft"),
    "20,000 metrics": more_metrics(20_000),
    "metric doubled": info_changed(lambda info: info["metrics"].append(info["metrics"][0])),
    "label in red": info_changed(lambda info: info.update(label="\x1b[31mred")),
    "label with a newline": info_changed(lambda info: info.update(label="a\nb")),
    "strategy is ..": info_changed(lambda info: info["spec"].update(strategy="..")),
    "strategy of another": info_changed(lambda info: info["spec"].update(strategy="mtu")),
    "suite in red": info_changed(lambda info: info["spec"].update(suite="\x1b[31m")),
    "seed a word": info_changed(lambda info: info["spec"].update(seed="first")),
    "seed of 400 digits": text_changed('"seed": 0', f'"seed": {"9" * 400}'),
    "hash a path": info_changed(lambda info: info.update(hash="../../x")),
    "file outside": info_changed(
        lambda info: info["files"].update({"../x": {"bytes": 0, "sha256": ""}})
    ),
    "files a list": info_changed(lambda info: info.update(files=["history.parquet"])),
    "history not listed": info_changed(lambda info: info["files"].pop(HISTORY_FILE)),
    "parameters a word": info_changed(lambda info: info["spec"].update(suite_parameters="x")),
    "timings of words": info_changed(lambda info: info["timings"].update(train_seconds="x")),
    "device in red": info_changed(lambda info: info.update(device="\x1b[31m")),
    "no history": lambda run: (run / HISTORY_FILE).unlink(),
    "history cut": lambda run: os.truncate(run / HISTORY_FILE, 99),
    "history is a FIFO": in_place(HISTORY_FILE, os.mkfifo),
    "history is a folder": in_place(HISTORY_FILE, Path.mkdir),
    "history is a loop": in_place(HISTORY_FILE, lambda path: path.symlink_to(path.name)),
    "no predictions": lambda run: (run / PREDICTIONS_FILE).unlink(),
    "predictions cut": lambda run: os.truncate(run / PREDICTIONS_FILE, 99),
    "run is a file": lambda run: (shutil.rmtree(run), run.touch()),
    "run is a loop": lambda run: (shutil.rmtree(run), run.symlink_to(run.name)),
    "run is empty": lambda run: (shutil.rmtree(run), run.mkdir()),
}  # fmt: skip
"""What a comparison must name."""

FORGED = {
    "history is no Parquet": listed_as_it_is(HISTORY_FILE, lambda p: p.write_bytes(b"x" * 500)),
    "predictions of 6 GB": listed_as_it_is(PREDICTIONS_FILE, bomb),
    "predictions of another kind": listed_as_it_is(
        PREDICTIONS_FILE, lambda path: np.savez(path, input=np.zeros(3))
    ),
    "predictions of objects": listed_as_it_is(
        PREDICTIONS_FILE, lambda p: np.savez(p, input=np.array([{}], dtype=object))
    ),
    "predictions is text": listed_as_it_is(PREDICTIONS_FILE, lambda p: p.write_text("x" * 99)),
}
"""What has the length and the hash that it should have, and is something else: made by somebody,
and no accident. One line that names it will do."""

BITS = {f"run.json, a bit at {at:.2f}": flipped(RUN_FILE, at) for at in np.arange(0.01, 1, 0.07)}

DEEP = {
    **{f"history, a bit at {at}": flipped(HISTORY_FILE, at) for at in (0, 0.2, 0.5, 0.8, 1)},
    **{f"predictions, a bit at {at}": flipped(PREDICTIONS_FILE, at) for at in (0, 0.3, 0.6, 1)},
    **FORGED,
}
"""What only those can see who read the whole of it, and do: with figures, and the report."""

MANY = {
    "1,000 metrics": more_metrics(1_000),
    "names of 5,000 letters": first_metric(metric="m" * 5000, label="M" * 5000),
    "error in red": info_changed(lambda info: info.update(status="failed", error="\x1b[31mred")),
}
"""What is odd but whole."""


def try_files(base: Path, amount: int) -> Count:
    count, place = Count(), base / "files"
    cases = [(name, damage, COMMANDS, True) for name, damage in (DAMAGES | BITS).items()]
    cases += [(name, damage, OF_ALL_OF_IT, None) for name, damage in DEEP.items()]
    cases += [(name, damage, COMMANDS, None) for name, damage in MANY.items()]
    for name, damage, commands, named in cases:
        for command in commands:
            place.mkdir()
            shutil.copytree(base / "runs", place / "runs")
            run = next(Store(place / "runs").run_directories())
            damage(run)
            ended = mtlbench(shlex.split(command), place)
            faults = faults_of(ended)
            forged = name in FORGED and ended.status == 2  # with the hash of what it is
            if ended.status not in (0, 1) and not forged:
                faults.append(f"status {ended.status}, {last_line(ended.err)!r}")
            shown = b"report.html" if command == "report" else b"ILT"
            if shown not in ended.out and not forged:
                faults.append("the others are not shown")
            if named and (ended.status != 1 or run.name.encode() not in ended.err):
                faults.append(f"status {ended.status}, not named: {last_line(ended.err)!r}")
            if ended.err and len(ended.err) > 20_000:
                faults.append(f"{len(ended.err)} bytes on standard error")
            count.note(f"{name} | {command}", faults)
            shutil.rmtree(place)
    return count


# --- checkpoints --------------------------------------------------------------------------------


def checkpoint_damages(whole: bytes, other: bytes) -> Iterator[tuple[str, Callable[[Path], Any]]]:
    for share in (0, 0.001, 0.01, 0.5, 0.99):
        cut = whole[: int(share * len(whole))]
        yield f"cut to {share}", lambda path, cut=cut: path.write_bytes(cut)
    flips = random.Random(0)
    for _ in range(24):
        data, at = bytearray(whole), flips.randrange(len(whole))
        data[at] ^= 1 << flips.randrange(8)
        yield f"a bit at {at}", lambda path, data=bytes(data): path.write_bytes(data)
    huge = struct.pack("<Q", 2**62) + whole[8:]
    yield "a header of 4 EB", lambda path: path.write_bytes(huge)
    yield "of another run", lambda path: path.write_bytes(other)
    yield "text", lambda path: path.write_text("x" * 1000)
    yield "a pickle", lambda path: torch.save({"a": torch.zeros(3)}, path)
    yield "appended to", lambda path: path.write_bytes(whole + b"x" * 100)
    yield "a folder", Path.mkdir
    yield "a loop", lambda path: path.symlink_to(path.name)
    yield "a link to nothing", lambda path: path.symlink_to("nothing")
    yield "a FIFO", os.mkfifo
    yield "a socket", sock
    yield "/dev/zero", lambda path: path.symlink_to("/dev/zero")


def try_checkpoints(base: Path, amount: int) -> Count:
    count, place = Count(), base / "checkpoints"
    place.mkdir()
    loop.CHECKPOINT_SECONDS = 0.0
    first, second = (spec_of(strategy) for strategy in ("ilt", "equal"))
    *_, ended = RunJob(first).train(Place(), None)
    wanted = ended.result.history
    saved = []
    for spec in (first, second):
        training = RunJob(spec).train(Place(), place / "whole")
        next(training)
        saved.append((place / "whole").read_bytes())
        training.close()
        (place / "whole").unlink()
    for name, damage in checkpoint_damages(*saved):
        path = place / "checkpoint.safetensors"
        damage(path)

        def work(path: Path = path) -> None:
            *said, ended = RunJob(first).train(Place(), path)
            assert isinstance(ended, Ended)
            same = ended.result.history == wanted and ended.status == "done"
            begun = any(isinstance(each, Notice) for each in said)
            print("same" if same else f"other: {ended.error[-200:]}", "anew" if begun else "on")

        ended_there = forked(work, place)
        faults = faults_of(ended_there)
        if not ended_there.out.startswith(b"same"):
            faults.append(f"other bits: {ended_there.out.decode(errors='replace')!r}")
        count.note(f"checkpoint {name}", faults)
        for left in place.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
    return count


# --- environments -------------------------------------------------------------------------------


def spec_of(strategy: str, variant: str = "clean", seed: int = 0) -> Any:
    return plan(
        "digits", strategies=[strategy], variants=[variant], seeds=seed + 1, overrides=TINY
    )[-1]


PYTHON = [sys.executable, "-c", "from mtlbench.cli.main import main; main()"]
STUDY = ["run", "digits", *OPTIONS, "--strategies", "equal,ilt", "--variants", "clean"]
STUDY += ["--seeds", "1"]


@dataclass(frozen=True)
class Odd:
    """A command somewhere odd.

    Attributes:
        name: what is odd.
        words: of the command; the results directory is `results`.
        status: that it may end with.
        says: what must stand on standard error.
        shell: done before, in a mount namespace of its own; the command is `"$@"`.
        environment: variables.
        lines: how many on standard error at most; None: any number.
        prints: whether it may have printed something before it failed.
    """

    name: str
    words: Sequence[str]
    status: tuple[int, ...]
    says: str = ""
    shell: str = '"$@"'
    environment: dict[str, str] = field(default_factory=dict)
    lines: int | None = 1
    prints: bool = False
    seconds: float = 240.0


ASCII = {"PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
LATIN = {**ASCII, "PYTHONIOENCODING": "latin-1"}
HOMELESS = {"HOME": "/proc/nowhere"}
READ_ONLY = 'mount --bind results results && mount -o remount,ro,bind results && "$@"'
FULL = 'mount -t tmpfs -o size=16k tmpfs full && "$@"'
NO_INODES = 'mount -t tmpfs -o size=1m,nr_inodes=3 tmpfs full && "$@"'
BOUND = 'exec setpriv --inh-caps=-all --bounding-set=-all "$@"'
"""Without the superuser's right to read and write everything."""
OF_OTHERS = "chown -R 65534:65534 results . && " + BOUND
FULL_RAY = 'mount -t tmpfs -o size=16k tmpfs /mnt && RAY_TMPDIR=/mnt "$@"'
STALE = """
mkdir -p stale/ray && echo 127.0.0.1:1 > stale/ray/ray_current_cluster && RAY_TMPDIR=$PWD/stale "$@"
"""
TOO_LITTLE_SHM = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && "$@"'
NEW = ["--results", "new"]
COMPLETE = ["--results", "results"]


def odd_environments(silent_port: int) -> Iterator[Odd]:
    compare, report = ["compare", "digits", *COMPLETE], ["report", *COMPLETE]
    suspects = ["suspects", "digits", *OPTIONS, "--seeds", "1", "--results", "traced"]
    suspects += ["--detectors", "sigma,ilt-loss"]
    # places that cannot be written
    yield Odd(
        "HOME cannot be written",
        [*STUDY, *NEW],
        (0,),
        "2 to train",
        environment=HOMELESS,
        lines=None,
    )
    yield Odd("no HOME", [*STUDY, *NEW], (0,), "2 to train", 'unset HOME; "$@"', lines=None)
    yield Odd(
        "TMPDIR is nowhere", [*STUDY, *NEW], (0, 2), environment={"TMPDIR": "/nowhere"}, lines=None
    )
    yield Odd(
        "RAY_TMPDIR is nowhere",
        [*STUDY, *NEW],
        (2,),
        "/nowhere",
        environment={"RAY_TMPDIR": "/nowhere"},
    )
    yield Odd(
        "RAY_TMPDIR is a file",
        [*STUDY, *NEW],
        (2,),
        "/etc/hostname",
        environment={"RAY_TMPDIR": "/etc/hostname"},
    )
    yield Odd(
        "RAY_TMPDIR is long",
        [*STUDY, *NEW],
        (0, 2),
        environment={"RAY_TMPDIR": "/tmp/" + "x" * 120},
        lines=None,
    )
    yield Odd(
        "RAY_TMPDIR is full",
        [*STUDY, *NEW],
        (1, 2),
        "space",
        FULL_RAY,
    )
    yield Odd("/dev/shm of 64 KB", [*STUDY, *NEW], (0, 1, 2), "", TOO_LITTLE_SHM, lines=None)
    yield Odd(
        "/dev/shm cannot be written",
        [*STUDY, *NEW],
        (0, 1, 2),
        "",
        'mount -t tmpfs -o ro tmpfs /dev/shm && "$@"',
        lines=None,
    )
    yield Odd("memory of 2 GB", [*STUDY, *NEW], (1, 2), "", 'ulimit -v 2000000; "$@"')
    yield Odd("40 open files", [*STUDY, *NEW], (0, 1, 2), "", 'ulimit -n 40; "$@"', lines=None)
    yield Odd(
        "results on a full disk",
        [*STUDY, "--results", "full/runs"],
        (1, 2),
        "space",
        FULL,
        lines=None,
    )
    yield Odd(
        "results without inodes",
        [*STUDY, "--results", "full/runs"],
        (1, 2),
        "space",
        NO_INODES,
        lines=None,
    )
    yield Odd(
        "results read-only", [*STUDY, "--seeds", "2", *COMPLETE], (2,), "not writable", READ_ONLY
    )
    yield Odd("complete and read-only", [*STUDY, *COMPLETE], (0,), "nothing to do", READ_ONLY)
    yield Odd("complete, of somebody else", [*STUDY, *COMPLETE], (0,), "nothing to do", OF_OTHERS)
    yield Odd("compare, read-only", compare, (0,), "", READ_ONLY)
    yield Odd("leaderboard, of somebody else", ["leaderboard", *COMPLETE], (0,), "", OF_OTHERS)
    yield Odd("report, of somebody else, here", report, (2,), "report.html", OF_OTHERS)
    yield Odd(
        "report, read-only, elsewhere",
        [*report, "--out", "full/r.html"],
        (0,),
        "",
        "mount -t tmpfs tmpfs full && " + READ_ONLY,
    )
    yield Odd("report to a full disk", [*report, "--out", "full/r.html"], (2,), "space", FULL)
    yield Odd("report to /dev/full", [*report, "--out", "/dev/full"], (2,), "/dev/full")
    yield Odd("report to a folder", [*report, "--out", "results"], (2,), "results")
    yield Odd(
        "figures on a full disk",
        [*compare, "--figures", "full/f"],
        (2,),
        "space",
        FULL,
        prints=True,
    )
    yield Odd(
        "suspects, read-only",
        [*suspects, "--out", "full/s"],
        (0,),
        "nothing to do",
        "mount -t tmpfs tmpfs full && " + READ_ONLY.replace("results", "traced"),
    )
    yield Odd(
        "suspects on a full disk",
        [*suspects, "--out", "full/s"],
        (2,),
        "space",
        FULL,
        lines=2,
    )
    yield Odd(
        "suspects, out cannot be made",
        [*suspects, "--out", "/proc/s"],
        (2,),
        "/proc/s",
    )
    yield Odd(
        "a run that cannot be read",
        compare,
        (1,),
        "cannot be read",
        "chmod 000 results/digits/clean/equal/*/run.json; " + BOUND,
    )
    yield Odd(
        "a run whose folder cannot be read",
        compare,
        (1,),
        "equal",
        "chmod 000 results/digits/clean/equal/*; " + BOUND,
    )
    yield Odd(
        "results that cannot be read", compare, (2,), "results", "chmod 000 results; " + BOUND
    )
    yield Odd(
        "a suite that cannot be read", compare, (1, 2), "", "chmod 000 results/digits; " + BOUND
    )
    # standard output and error
    for verb, words in {
        "compare": compare,
        "leaderboard": ["leaderboard", *COMPLETE],
        "list": ["list"],
        "--help": ["run", "--help"],
    }.items():
        yield Odd(f"{verb} to /dev/full", words, (1, 2), "space", '"$@" > /dev/full')
        yield Odd(f"{verb} to nobody", words, (0,), "", '"$@" >&-')
        for name, locale in {"ASCII": ASCII, "Latin-1": LATIN}.items():
            yield Odd(f"{verb}, {name}", words, (0,), "", environment=locale)
    for format in ("github", "latex", "html", "csv", "json"):
        yield Odd(
            f"compare as {format}, ASCII",
            [*compare, "--format", format],
            (0,),
            "",
            environment=ASCII,
        )
    yield Odd(
        "list as github, ASCII",
        ["list", "strategies", "--format", "github"],
        (0,),
        environment=ASCII,
    )
    yield Odd("run, ASCII", [*STUDY, *NEW], (0,), "2 to train", environment=ASCII, lines=None)
    yield Odd(
        "a refusal, ASCII",
        ["run", "digits", "--strategies", "\u202eüß±"],
        (2,),
        "",
        environment=ASCII,
    )
    yield Odd(
        "TERM=dumb",
        [*STUDY, *NEW],
        (0,),
        "2 to train",
        'TERM=dumb script -qec "$(printf "%q " "$@")" /dev/null >&2',
        lines=None,
    )
    yield Odd("errors to /dev/full", [*STUDY, *NEW], (0,), "", '"$@" 2> /dev/full')
    yield Odd("errors to nobody", [*STUDY, *NEW], (0,), "", '"$@" 2>&-')
    # Ray
    for address in (
        "127.0.0.1:-1",
        "127.0.0.1:1",
        "127.0.0.1:99999",
        "127.0.0.1",
        ":6379",
        "host",
        "nowhere.invalid:6379",
        "http://127.0.0.1:1",
        "[::1]:1",
        "ray://127.0.0.1:1",
        "ray://127.0.0.1",
        "ray://x",
        "auto",
        "local",
        "",
        " ",
        "x" * 300 + ":1",
    ):
        yield Odd(f"--address {address!r}"[:60], [*STUDY, *NEW, "--address", address], (2,), "Ray")
    yield Odd(
        "a port that never answers",
        [*STUDY, *NEW, "--address", f"127.0.0.1:{silent_port}"],
        (2,),
        "Ray",
    )
    yield Odd(
        "ray:// that never answers",
        [*STUDY, *NEW, "--address", f"ray://127.0.0.1:{silent_port}"],
        (2,),
        "Ray",
    )
    yield Odd(
        "a stale address",
        [*STUDY, *NEW, "--address", "auto"],
        (2,),
        "Ray",
        STALE,
    )
    yield Odd(
        "RAY_ADDRESS of a dead cluster",
        [*STUDY, *NEW],
        (0,),
        "2 to train",
        environment={"RAY_ADDRESS": "127.0.0.1:1"},
        lines=None,
    )


def try_environments(base: Path, amount: int) -> Count:
    count = Count()
    silent = socket.create_server(("127.0.0.1", 0))
    checkout = Path(__file__).resolve().parents[1]
    for odd in odd_environments(silent.getsockname()[1]):
        place = Path(tempfile.mkdtemp(dir=base))
        place.chmod(0o755)
        for source, target in (("runs", "results"), ("traced", "traced")):
            shutil.copytree(base / source, place / target)
        (place / "full").mkdir()
        before = listing(place)
        environment = {**os.environ, "PYTHONPATH": str(checkout), "PWD": str(place)}
        environment |= {"MTLBENCH_CACHE": str(base / "cache"), **odd.environment}
        process = subprocess.Popen(
            ["unshare", "-m", "bash", "-c", odd.shell, "bash", *PYTHON, *odd.words],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=odd.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            count.note(odd.name, [f"did not end within {odd.seconds:g} s"])
            continue
        said = err.decode(errors="replace")
        faults = []
        if "Traceback" in said or process.returncode not in odd.status:
            faults.append(f"status {process.returncode}: {said[-300:]!r}")
        if odd.says not in said:
            faults.append(f"does not say {odd.says!r}: {said[-300:]!r}")
        if odd.lines is not None and len(said.splitlines()) > odd.lines:
            faults.append(f"{len(said.splitlines())} lines: {said[:300]!r}")
        if process.returncode == 2:
            if out and not odd.prints:
                faults.append(f"{len(out)} bytes on standard output")
            changed = set(listing(place).items()) ^ set(before.items())
            changed = {path for path, _ in changed if "/stale" not in path and "/full" not in path}
            if changed and "chmod" not in odd.shell:
                faults.append(f"something was written: {sorted(changed)[0]}")
        if "\x1b" in said or b"\x1b" in out:
            faults.append("escapes")
        count.note(odd.name, faults)
        shutil.rmtree(place)
    silent.close()
    return count


# --- all of it ----------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Path, int], Count]] = {
    "lines": try_lines,
    "plugins": try_plugins,
    "files": try_files,
    "checkpoints": try_checkpoints,
    "environments": try_environments,
}
CALLED = {
    "lines": "malformed command lines",
    "plugins": "odd names and plugins",
    "files": "damaged runs read",
    "checkpoints": "damaged checkpoints",
    "environments": "odd environments",
}


def make_runs(base: Path) -> None:
    """A study of two strategies, clean and corrupted; and one with traces."""
    for variant in ("clean", "left@0.4"):
        for strategy in ("equal", "ilt"):
            for traces, folder in ((False, "runs"), (True, "traced")):
                job = RunJob(spec_of(strategy, variant), traces)
                *_, ended = job.train(Place(), None)
                Store(base / folder).write(ended.result)


def never_starts(*options: Any) -> None:
    """In place of Ray: the command was ready to train."""
    raise SystemExit(REACHED)


def warm_up(base: Path) -> None:
    """Imports what commands import, so that their processes, which are forked, need not."""
    here = os.getcwd()
    os.chdir(base)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        for line in (*COMMANDS, *OF_ALL_OF_IT, "list"):
            with suppress(SystemExit):
                command_line(shlex.split(line))
    os.chdir(here)


@contextmanager
def without_ray() -> Iterator[None]:
    before = studies.cluster
    studies.cluster = never_starts  # type: ignore[assignment]
    try:
        yield
    finally:
        studies.cluster = before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument(
        "--lines", type=int, default=1000, help="command lines beside those by hand"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    load_plugins()
    counts = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary, without_ray():
        base = Path(temporary)
        base.chmod(0o755)
        os.environ["MTLBENCH_CACHE"] = str(base / "cache")
        make_runs(base)
        warm_up(base)
        for part in options.parts.split(","):
            started = time.monotonic()
            print(f"{CALLED[part]}:", flush=True)
            counts[part] = PARTS[part](base, options.lines)
            print(f"  {counts[part].tried} in {time.monotonic() - started:.0f} s", flush=True)
    print("\n| what | tried | handled badly |\n| --- | --: | --: |")
    for part, count in counts.items():
        print(f"| {CALLED[part]} | {count.tried:,} | {len(count.bad)} |")
    return any(count.bad for count in counts.values())


if __name__ == "__main__":
    sys.exit(main())
