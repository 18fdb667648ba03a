"""Comparisons as text in every format."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import abs_err, detection, metric, write_run

from mtlbench.analysis.aggregate import SUMMARY_COLUMNS, compare
from mtlbench.analysis.printing import BEST, SECOND, decimals
from mtlbench.analysis.table import FORMATS
from mtlbench.analysis.tables import build, render
from mtlbench.errors import UserError

NASTY = r"a|b <i>&amp;</i> _x_ [bold]y[/bold] 50% #1 \n {z} ~^$ *"


def write(root: Path, strategy: str, values: list[tuple[float, float]], **run: Any) -> None:
    for seed, (miou, error) in enumerate(values):
        write_run(root, metric(miou), abs_err(error), strategy=strategy, seed=seed, **run)


@pytest.fixture
def study_of_three(tmp_path: Path) -> Path:
    write(tmp_path, "equal", [(36.0, 0.030), (36.4, 0.031), (36.8, 0.032)])
    write(tmp_path, "mtu", [(40.0, 0.020), (40.4, 0.021), (40.8, 0.022)])
    write(tmp_path, "ilt", [(51.0, 0.012), (51.4, 0.013), (51.8, 0.014)])
    return tmp_path


def text_of(root: Path, format: str = "table", **options: bool) -> str:
    return render(compare(root, "streets"), format, **options)


def words(text: str) -> str:
    """Without line breaks, and with one blank where there are several."""
    return " ".join(text.split())


def ranks_of(root: Path) -> list[list[int]]:
    """Of each row, those of the columns of metrics."""
    (table,) = build(compare(root, "streets"))
    metrics = [i for i, column in enumerate(table.columns) if column.direction]
    return [[row.cells[i].rank for i in metrics] for row in table.rows]


# --- digits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("means", "stds", "expected"),
    [
        ([51.23, 36.1], [0.41, 0.33], 2),
        ([0.0131, 0.0305], [0.0004, 0.0012], 4),
        ([193.91, 66.19], [8.72, 0.28], 1),
        ([98.25, 98.03], [0.001, 0.014], 3),
        ([51.234], [float("nan")], 2),
        ([0.01312], [float("nan")], 5),
        ([100.0, 100.0], [0.0, 0.0], 1),
        ([1234.0], [250.0], 0),
        ([0.0], [0.0], 3),
        ([], [], 3),
        ([0.0161], [9.99999999999994e-05], 5),
    ],
)
def test_digits_follow_the_standard_deviation(
    means: list[float], stds: list[float], expected: int
) -> None:
    assert decimals(means, stds) == expected


def test_a_cell_shows_mean_and_standard_deviation_with_the_same_decimals(
    study_of_three: Path,
) -> None:
    text = text_of(study_of_three)
    assert "51.40 ± 0.40" in text
    assert "0.0130 ± 0.0010" in text
    assert "mean ± std over 3 runs" in text


def test_a_single_run_shows_no_standard_deviation(tmp_path: Path) -> None:
    write(tmp_path, "equal", [(51.234, 0.0123)])
    text = text_of(tmp_path)
    assert "51.23" in text
    assert "±" not in text


# --- marks --------------------------------------------------------------------------------------


def test_best_and_second_best_respect_the_direction(study_of_three: Path) -> None:
    assert ranks_of(study_of_three) == [[0, 0], [SECOND, SECOND], [BEST, BEST]]


def test_values_that_print_the_same_share_a_mark(tmp_path: Path) -> None:
    for strategy, value in (("equal", 50.001), ("mtu", 50.002), ("dwa", 40.0)):
        write_run(tmp_path, metric(value), strategy=strategy)
    assert ranks_of(tmp_path) == [[BEST], [BEST], [SECOND]]


def test_a_strategy_alone_is_neither_best_nor_second(tmp_path: Path) -> None:
    write_run(tmp_path, metric(50.0), strategy="equal", variant="depth@0.4")
    write_run(tmp_path, metric(60.0), detection(99.0), strategy="ilt", variant="depth@0.4")
    assert ranks_of(tmp_path) == [[SECOND, 0], [BEST, 0]]
    assert "–" in text_of(tmp_path)


def noisy(root: Path, levels: dict[str, float], seeds: int) -> None:
    generator = np.random.default_rng(0)
    for strategy, level in levels.items():
        noise = generator.normal(0, 1, seeds)
        write(root, strategy, [(level + each, (100 - level - each) / 1000) for each in noise])


def test_all_that_cannot_be_told_from_the_best_are_marked(tmp_path: Path) -> None:
    noisy(tmp_path, {"equal": 40, "mtu": 50, "ilt": 50.1}, seeds=7)
    assert ranks_of(tmp_path) == [[0, 0], [BEST, BEST], [BEST, BEST]]
    rule = "not told from the best (signed-rank tests of all pairs over seeds, Holm in each column"
    assert f"mean ± std over 7 runs; ¹ {rule}, 5 %)" in words(text_of(tmp_path))
    assert f"; in bold: {rule}" in text_of(tmp_path, "github")


def test_with_too_few_seeds_for_any_test_the_caption_says_so(tmp_path: Path) -> None:
    noisy(tmp_path, {"equal": 40, "mtu": 50, "ilt": 50.1}, seeds=6)
    rule = "too few seeds for any test to tell 3 strategies apart at 5 %: 7 are needed"
    assert rule in words(text_of(tmp_path))
    assert [rank for rank, _ in ranks_of(tmp_path)].count(BEST) == 1


def test_a_strategy_with_fewer_runs_is_not_compared(tmp_path: Path) -> None:
    noisy(tmp_path, {"equal": 40, "mtu": 50}, seeds=7)
    noisy(tmp_path, {"ilt": 60}, seeds=3)
    assert ranks_of(tmp_path) == [[0, 0], [BEST, BEST], [0, 0]]
    assert "strategies with fewer runs are not compared" in text_of(tmp_path)


def test_a_strategy_alone_has_nothing_to_be_told_from(tmp_path: Path) -> None:
    noisy(tmp_path, {"equal": 40}, seeds=2)
    assert "too few" not in text_of(tmp_path)


def test_a_terminal_gets_bold_and_underlined_text(study_of_three: Path) -> None:
    text = text_of(study_of_three, terminal=True)
    assert "\x1b[1m51.40 ± 0.40\x1b[0m" in text
    assert "\x1b[4m40.40 ± 0.40\x1b[0m" in text


def test_plain_text_has_no_escape_codes_and_explains_its_marks(study_of_three: Path) -> None:
    text = text_of(study_of_three)
    assert "\x1b" not in text
    assert "51.40 ± 0.40 ¹" in text
    assert "40.40 ± 0.40 ²" in text
    assert "¹ best, ² second best" in text


def test_a_narrow_terminal_loses_no_digit(
    study_of_three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = text_of(study_of_three)
    monkeypatch.setenv("COLUMNS", "20")
    assert text_of(study_of_three) == wide
    assert "…" not in wide


# --- rows and remarks ---------------------------------------------------------------------------


def test_rows_carry_the_labels_of_the_paper_and_columns_unit_and_direction(
    study_of_three: Path,
) -> None:
    text = text_of(study_of_three)
    labels = [line.split("  ")[0] for line in text.splitlines()[4:7]]
    assert labels == ["Eq. Weight", "MTU", "ILT Params"]
    assert "mIoU (%) ↑" in text
    assert "Abs. Err. (1/m) ↓" in text


@pytest.mark.parametrize("format", ["table", "github", "latex", "html"])
def test_the_number_of_runs_is_a_column_only_where_rows_differ(
    study_of_three: Path, format: str
) -> None:
    assert "Runs" not in text_of(study_of_three, format)
    write(study_of_three, "gls", [(1.0, 1.0)])
    text = text_of(study_of_three, format)
    assert "Runs" in text
    assert "GLS: seeds 1, 2 missing" in text


@pytest.mark.parametrize("format", ["table", "github", "latex", "html"])
def test_a_study_in_which_nothing_finished_has_remarks_and_no_table(
    tmp_path: Path, format: str
) -> None:
    write_run(tmp_path, status="failed")
    text = text_of(tmp_path, format)
    assert "no run has results" in text
    assert "Eq. Weight: 1 of 1 run failed" in text


def test_each_variant_has_its_table(study_of_three: Path) -> None:
    write(study_of_three, "equal", [(1.0, 1.0)], variant="depth@0.4")
    text = text_of(study_of_three)
    assert "streets: clean" in text
    assert "streets: depth@0.4" in text


# --- formats ------------------------------------------------------------------------------------


def test_github_marks_with_stars_and_underlines(study_of_three: Path) -> None:
    lines = [words(line) for line in text_of(study_of_three, "github").splitlines()]
    assert lines[2] == "| Strategy | segmentation mIoU (%) ↑ | depth Abs. Err. (1/m) ↓ |"
    assert "| ILT Params | **51.40 ± 0.40** | **0.0130 ± 0.0010** |" in lines
    assert "| MTU | <u>40.40 ± 0.40</u> | <u>0.0210 ± 0.0010</u> |" in lines


def test_latex_uses_booktabs_and_groups_columns_by_task(study_of_three: Path) -> None:
    text = text_of(study_of_three, "latex")
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\cmidrule(lr){2-2}"):
        assert part in text
    assert " & segmentation & depth \\\\\n" in text
    assert r"ILT Params & \textbf{51.40 $\pm$ 0.40} & \textbf{0.0130 $\pm$ 0.0010} \\" in text
    assert r"\underline{40.40 $\pm$ 0.40}" in text
    assert r"mIoU (\%) $\uparrow$" in text


def test_html_is_one_well_formed_table(study_of_three: Path) -> None:
    text = text_of(study_of_three, "html")
    assert text.count('<table class="mtlbench">') == 1
    assert "<b>51.40 ± 0.40</b></td>" in text
    assert "<u>40.40 ± 0.40</u></td>" in text
    counts = Tags.of(text)
    assert (counts["table"], counts["thead"], counts["tbody"]) == (1, 1, 1)
    assert counts["tr"] == 2 + 3
    assert counts["td"] == 3 * 2


def test_csv_and_json_hold_exactly_the_promised_columns(study_of_three: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(text_of(study_of_three, "csv"))))
    records = json.loads(text_of(study_of_three, "json"))
    assert list(rows[0]) == SUMMARY_COLUMNS
    assert list(records[0]) == SUMMARY_COLUMNS
    assert float(rows[0]["mean"]) == records[0]["mean"] == pytest.approx(36.4)
    assert records[0]["n"] == 3


def test_a_missing_standard_deviation_is_empty_in_csv_and_null_in_json(tmp_path: Path) -> None:
    write_run(tmp_path, metric(1.0))
    (row,) = csv.DictReader(io.StringIO(text_of(tmp_path, "csv")))
    assert row["std"] == ""
    assert json.loads(text_of(tmp_path, "json"))[0]["std"] is None


def test_an_unknown_format_is_named(study_of_three: Path) -> None:
    with pytest.raises(UserError, match="unknown format 'markdwon'"):
        text_of(study_of_three, "markdwon")


# --- names full of markup -----------------------------------------------------------------------


class Tags(HTMLParser):
    """Counts the elements of a document and collects its text."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.text = ""

    @classmethod
    def of(cls, text: str) -> dict[str, int]:
        parser = cls()
        parser.feed(text)
        return parser.counts

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    task = "t|<b>&_[i]"
    for strategy, label in (("equal", NASTY), ("mtu", "plain")):
        value = metric(1.0, "m", task, label=NASTY, unit="%|<")
        write_run(tmp_path, value, strategy=strategy, label=label)
    return tmp_path


def test_terminal_text_shows_markup_in_names_as_it_is(nasty: Path) -> None:
    for terminal in (False, True):
        assert NASTY in text_of(nasty, terminal=terminal)


def test_html_shows_markup_in_names_as_it_is(nasty: Path) -> None:
    text = text_of(nasty, "html")
    parser = Tags()
    parser.feed(text)
    assert parser.counts.get("i", 0) == 0
    assert NASTY in parser.text
    assert parser.counts["b"] == 2, "only the marks of the two equal means"


def test_github_cells_cannot_be_broken_by_names(nasty: Path) -> None:
    lines = [line for line in text_of(nasty, "github").splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert set(bars) == {3}
    assert "<i>" not in "".join(lines)
    assert r"\_x\_" in lines[2]


def test_latex_specials_in_names_are_escaped(nasty: Path) -> None:
    text = text_of(nasty, "latex")
    row = next(line for line in text.splitlines() if line.startswith("a"))
    assert row.startswith(
        r"a\textbar{}b \textless{}i\textgreater{}\&amp;\textless{}/i\textgreater{} \_x\_ "
        r"{[}bold{]}y{[}/bold{]} 50\% \#1 \textbackslash{}n \{z\} "
        r"\textasciitilde{}\textasciicircum{}\$ * & "
    )


def test_data_formats_keep_names_unchanged(nasty: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(text_of(nasty, "csv"))))
    records = json.loads(text_of(nasty, "json"))
    assert rows[0]["task"] == records[0]["task"] == "t|<b>&_[i]"


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_ends_with_one_newline(study_of_three: Path, format: str) -> None:
    text = text_of(study_of_three, format)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_single_task_networks_stand_first_and_are_never_the_best(tmp_path: Path) -> None:
    write(tmp_path, "equal", [(36.0, 0.030), (36.4, 0.031)])
    write(tmp_path, "single", [(56.0, 0.010), (56.4, 0.011)])
    write(tmp_path, "mtu", [(40.0, 0.020), (40.4, 0.021)])
    (table,) = build(compare(tmp_path, "streets"))
    assert [row.label for row in table.rows] == ["single", "Eq. Weight", "MTU"]
    assert ranks_of(tmp_path) == [[0, 0], [SECOND, SECOND], [BEST, BEST]]
    assert "to tell 2 strategies apart" in words(text_of(tmp_path))
