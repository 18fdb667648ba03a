"""Tables of few and of many tasks in every format, as the engines of the formats read them."""

import random
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typesetting import typeset

from mtlbench.analysis.printing import BEST, MISSING, SECOND, Cell, rounded_cells
from mtlbench.analysis.table import Column, Row, Section, Table
from mtlbench.analysis.writers import STYLE, WIDTH, latex, writer_of

TASKS = (4, 16, 40)
PEOPLE = ("table", "github", "latex", "html")
LABELS = ["Eq. Weight", "MTU", "GLS", "ILT Params", "ILT Params + CAGrad"]
NAMES = ["segmentation", "depth", "left_hand", "µ|b"]


def table_of(tasks: int, metrics: int = 2) -> Table:
    """Of some strategies: one metric of every other task, `metrics` of the rest."""
    draw = random.Random(tasks)
    columns, cells = [], []
    for task in range(tasks):
        for number in range(metrics if task % 2 else 1):
            errors = number % 2 == 1
            name, direction = ("Abs. Err. (1/m) ↓", "min") if errors else ("mIoU (%) ↑", "max")
            columns.append(Column(name, f"{NAMES[task % len(NAMES)]} {task}", direction))
            size = 0.1 if errors else 99.0
            means = [draw.uniform(0.3, 1) * size for _ in LABELS]
            stds = [draw.uniform(0.003, 0.01) * size for _ in LABELS]
            cells.append(rounded_cells(means, stds, direction))
    return Table(
        f"streets: {tasks} tasks",
        columns,
        [Section.of_columns("", LABELS, cells)],
        ["mean ± std over 3 runs"],
        "Strategy",
    )


def sectioned(table: Table) -> Table:
    """The same rows under two headings."""
    rows = table.rows
    sections = [Section("first, with a heading longer than labels", rows), Section("second", rows)]
    return Table(table.title, table.columns, sections, table.notes)


def text_of(table: Table, format: str, *, terminal: bool = False) -> str:
    return writer_of(format, terminal)(table)


def shown_cells(text: str) -> list[str]:
    """Every "mean ± std" in order, without marks."""
    return re.findall(r"\d+\.\d+ ± +\d+\.\d+", text.replace(r"$\pm$", "±"))


# --- parts --------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)  # tables are made and written anew in each
@given(st.integers(1, 40), st.integers(1, 5), st.integers(30, 200))
def test_parts_are_no_wider_than_asked_for_and_have_all_columns_in_order(tasks, metrics, width):
    table = table_of(tasks, metrics)
    parts = table.split(width)
    assert [column for part in parts for column in part.columns] == table.columns
    for row, *shares in zip(table.rows, *(part.rows for part in parts), strict=True):
        assert {share.label for share in shares} == {row.label}
        assert [cell for share in shares for cell in share.cells] == row.cells
    for part in parts:
        grid = text_of(part, "table").splitlines()[1 : 4 + len(LABELS)]
        assert len(part.columns) == 1 or max(map(len, grid)) <= width


@settings(max_examples=30, deadline=None)  # tables are made and written anew in each
@given(st.integers(2, 40), st.integers(1, 3))
def test_the_metrics_of_a_task_stay_together(tasks, metrics):
    parts = table_of(tasks, metrics).split(WIDTH)
    groups = [group for part in parts for group, _ in part.groups()]
    assert len(groups) == len(set(groups)) == tasks


def test_a_task_wider_than_a_line_is_cut_between_its_metrics():
    columns = [Column(f"metric {number} with a long name", "task") for number in range(9)]
    table = Table("t", columns, [Section("", [Row("a", [Cell("1.0")] * 9)])], [])
    parts = table.split(WIDTH)
    assert len(parts) == 3
    assert [groups for part in parts for groups, _ in part.groups()] == ["task"] * 3


def test_a_table_that_fits_is_one_part_with_its_own_title():
    table = table_of(2)
    assert table.split(WIDTH) == [table]


def test_parts_are_numbered_and_the_first_has_the_notes():
    first, *others = table_of(16).split(WIDTH)
    count = 1 + len(others)
    assert first.title == f"streets: 16 tasks (1 of {count})"
    assert first.notes
    assert others[-1].title == f"streets: 16 tasks ({count} of {count})"
    assert not any(part.notes for part in others)


# --- every format -------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("format", PEOPLE)
def test_every_number_is_shown_once_with_its_mark(tasks, format):
    table = table_of(tasks)
    text = text_of(table, format)
    cells = [cell for row in table.rows for cell in row.cells]
    assert sorted(shown_cells(text)) == sorted(cell.text for cell in cells)
    best, second = {
        "table": (" ¹", " ²"),
        "github": (r"\*\*\d", r"<u>\d"),
        "latex": (r"\\textbf\{\d", r"\\underline\{\d"),
        "html": (r"<b>\d", r"<u>\d"),
    }[format]
    assert len(re.findall(best, text)) == sum(cell.rank == BEST for cell in cells)
    assert len(re.findall(second, text)) == sum(cell.rank == SECOND for cell in cells)


@pytest.mark.parametrize("tasks", TASKS)
def test_plain_text_fits_120_columns_whatever_the_terminal(tasks, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    for table in (table_of(tasks), sectioned(table_of(tasks))):
        assert max(map(len, text_of(table, "table").splitlines())) <= 120


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_terminal_gets_parts_as_wide_as_it_is(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    text = re.sub(r"\x1b\[\d+m", "", text_of(table_of(40), "table", terminal=True))
    widest = max(map(len, text.splitlines()))
    assert width - 45 <= widest <= width  # one more task, of two metrics, is up to 45 wide


@pytest.mark.parametrize("width", [40, 60, 200])
def test_sentences_are_no_wider_than_a_terminal_nor_than_is_read_well(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    table = replace(table_of(1), columns=[], notes=["words of a long sentence " * 20])
    lines = text_of(table, "table", terminal=True).splitlines()[1:]
    assert min(width, 100) - 10 < max(map(len, lines)) <= min(width, 100)


@pytest.mark.parametrize("format", ["table", "github", "latex", "html"])
def test_a_table_without_rows_is_its_title_and_notes(format):
    text = text_of(replace(table_of(2), sections=[]), format)
    assert "streets: 2 tasks" in text
    assert "mean" in text
    assert "mIoU" not in text


def test_decimal_points_of_a_column_stand_below_one_another():
    cells = rounded_cells([9.5, 100.25, float("nan")], [0.5, 12.0, float("nan")], "max", 2)
    rows = [Row(label, [cell]) for label, cell in zip("abc", cells, strict=True)]
    lines = text_of(Table("t", [Column("m")], [Section("", rows)], []), "table").splitlines()[-3:]
    assert [line[3:] for line in lines] == ["  9.50 ±  0.50 ²", "100.25 ± 12.00 ¹", "     –"]


def test_headings_of_sections_do_not_widen_the_labels():
    lines = text_of(sectioned(table_of(4)), "table").splitlines()
    assert "first, with a heading longer than labels" in lines
    assert any(re.match(r"  Eq\. Weight {11}\d", line) for line in lines)


# --- Markdown -----------------------------------------------------------------------------------


class Tables(HTMLParser):
    """Tables of a page as rows of texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.tables[-1][-1][-1] += data


def expected(table: Table) -> list[list[list[str]]]:
    """The body of each part."""
    return [
        [[row.label, *(cell.text or MISSING for cell in row.cells)] for row in part.rows]
        for part in table.split(WIDTH)
    ]


@pytest.mark.parametrize("tasks", TASKS)
def test_markdown_renders_as_the_table(tasks):
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    table = table_of(tasks)
    shown = Tables(parser.render(text_of(table, "github"))).tables
    assert [rows[1:] for rows in shown] == expected(table)
    heads = [head for rows in shown for head in rows[0] if head != "Strategy"]
    assert heads == [f"{column.group} {column.name}" for column in table.columns]


# --- HTML ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", TASKS)
def test_html_has_merged_heads_above_the_table(tasks):
    table = table_of(tasks)
    text = text_of(table, "html")
    assert [rows[2:] for rows in Tables(text).tables] == expected(table)
    spans = [int(span) for span in re.findall(r'colspan="(\d+)"', text)]
    assert spans == [2] * (tasks // 2)


def test_a_browser_shows_wide_tables_without_scrolling(tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    page = tmp_path / "page.html"
    script = "<script>document.title = document.documentElement.scrollWidth</script>"
    page.write_text(
        f'<!doctype html><meta charset="utf-8">{STYLE}{text_of(table_of(40), "html")}{script}'
    )
    command = [chromium, "--headless", "--no-sandbox", "--window-size=1280,900", "--dump-dom"]
    shown = subprocess.run([*command, str(page)], capture_output=True, text=True, check=True)
    (width,) = re.findall(r"<title>(\d+)</title>", shown.stdout)
    assert 0 < int(width) <= 1280


# --- LaTeX --------------------------------------------------------------------------------------


def test_latex_sets_wide_tables_inside_the_text_width(tmp_path):
    """On letter paper with margins of an inch: 6.5 inches."""
    tables = [table_of(tasks) for tasks in TASKS]
    words = Table("words", [Column("a", words=True)], [Section("", [Row("x", [Cell("y")])])], [])
    body = [text_of(table, "latex") for table in [*tables, sectioned(tables[0]), words]]
    typeset(tmp_path, "booktabs", *body)


def test_the_caption_of_a_table_for_a_paper_is_made_of_sentences():
    notes = ["mean over 3 runs", "ILT: seed 2 missing"]
    table = replace(table_of(1), notes=notes, wide=True)
    assert r"\caption{streets: 1 tasks. Mean over 3 runs. ILT: seed 2 missing.}" in latex(table)


def test_latex_has_rules_between_sections():
    lines = latex(sectioned(table_of(1))).splitlines()
    first, second = (i for i, line in enumerate(lines) if line == r"\midrule")
    assert second - first == 2 + len(LABELS)
    assert r"\textit{second}" in lines[second + 1]


def test_a_wide_table_is_one_in_latex_and_made_smaller(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    table = replace(table_of(5), wide=True)
    assert len(table.split(WIDTH)) == 2
    for format in ("github", "latex", "html"):
        assert len(re.findall(r"\(1 of 2\)", text_of(table, format))) == 0
    assert "(2 of 2)" in text_of(table, "table")
    text = text_of(table, "latex")
    assert re.search(r"\\resizebox\{.*\}\{!\}\{\\begin\{tabular\}", text)
    assert r"\end{tabular}}" in text
    assert r"\usepackage{booktabs,graphicx}" in text
    assert "resizebox" not in text_of(replace(table, wide=False), "latex")


def test_numbers_of_one_metric_are_aligned_over_sections():
    cells = rounded_cells([9.5, 100.25], [0.5, 12.0], "max", 2)
    sections = [
        Section(label, [Row(label, [cell])]) for label, cell in zip("ab", cells, strict=True)
    ]
    lines = text_of(Table("t", [Column("m")], sections, []), "table").splitlines()
    assert [lines[4], lines[6]] == ["  a    9.50 ±  0.50 ²", "  b  100.25 ± 12.00 ¹"]


@pytest.mark.parametrize("tasks", TASKS)
def test_latex_has_a_rule_below_every_merged_head(tasks):
    text = text_of(table_of(tasks), "latex")
    assert len(re.findall(r"\\cmidrule\(lr\)\{\d+-\d+\}", text)) == tasks
    assert text.count(r"\multicolumn{2}{c}") == tasks // 2
    assert text.count(r"% needs \usepackage{booktabs}") == text.count(r"\begin{table}")
