"""Output on terminals and files that know few letters, or take none."""

import io
import os
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
from conftest import CHECKOUT, run_mtlbench

from mtlbench.cli.streams import spell_out

ASCII = {"PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}


@pytest.mark.parametrize(
    ("encoding", "text", "written"),
    [
        ("ascii", "93.4 ± 0.7 → −1 × σ", b"93.4 +- 0.7 -> -1 x sigma"),
        ("ascii", "Müller, Łukasz", b"Muller, Lukasz"),
        ("ascii", "人", rb"\u4eba"),
        ("latin-1", "93.4 ± 0.7 → é", b"93.4 \xb1 0.7 -> \xe9"),
        ("utf-8", "± \udcff", b"\xc2\xb1 \\udcff"),
    ],
)
def test_letters_that_a_stream_does_not_know_are_written_as_words(
    encoding: str, text: str, written: bytes
) -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding)
    spell_out(stream)
    stream.write(text)
    stream.flush()
    assert buffer.getvalue() == written


def test_tables_are_aligned_where_the_terminal_knows_ascii_alone(tmp_path: Path) -> None:
    ended = run_mtlbench(["compare", "digits", "--reference"], cwd=tmp_path, **ASCII)
    assert ended.status == 0, ended.err
    assert ended.out.isascii()
    _, _, heads, rule, *rows = ended.out.split("\n\n")[0].splitlines()
    rows = list(takewhile(lambda row: not row.startswith("mean "), rows))
    assert len(rows) > 40
    for column in re.findall(r"  (\S+(?: \S+)*)", heads):
        place = heads.index(f"  {column}")
        assert {row[place : place + 2] for row in rows} == {"  "}
    assert set(rule) == {"-"}
    assert max(map(len, (heads, *rows))) <= len(rule)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_below_standard_output_is_told_in_one_line() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", "from mtlbench.cli.main import main; main()", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
    assert ended.returncode == 2
    assert ended.stderr == "mtlbench: error: No space left on device\n"
