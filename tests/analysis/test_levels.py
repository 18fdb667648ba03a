"""Metrics by the share of corrupted labels, as a figure and as a table."""

import math
import re
from pathlib import Path

import matplotlib as mpl
import pytest
from synthetic_runs import abs_err, detection, metric, write_run

from mtlbench.analysis.aggregate import Comparison, compare
from mtlbench.analysis.figures.levels import levels_figure
from mtlbench.analysis.figures.runs import draw_figures
from mtlbench.analysis.figures.style import PAPER_LINES, STYLE
from mtlbench.analysis.levels import corruptions, levels, render_levels
from mtlbench.analysis.tables import render
from mtlbench.cli.main import main
from mtlbench.errors import UserError

FRACTIONS = (0.2, 0.4, 0.6, 0.8)


def miou(strategy: str, fraction: float) -> float:
    return 50.0 - (4 if strategy == "ilt" else 20) * fraction


def write(root: Path, clause: str, fraction: float, kind: str = "", seeds: int = 2) -> None:
    """Runs of three strategies at one level; those of mIoU differ by 2 between two seeds."""
    tasks = clause.split("+")
    for strategy in ("equal", "mtu", "ilt"):
        for seed in range(seeds):
            found = [detection(100 - 20 * fraction, task) for task in tasks]
            write_run(
                root,
                metric(miou(strategy, fraction) + (2 * seed - 1 if seeds > 1 else 0)),
                abs_err(0.02 + 0.05 * fraction),
                *(found if strategy == "ilt" and fraction else []),
                variant=f"{clause}@{fraction:g}{kind}" if fraction else "clean",
                strategy=strategy,
                seed=seed,
            )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean runs; four levels of depth, two of pose and shape together, one by another kind."""
    root = tmp_path_factory.mktemp("runs")
    write(root, "depth", 0)
    for fraction in FRACTIONS:
        write(root, "depth", fraction)
    for fraction in (0.3, 0.07):
        write(root, "pose+shape", fraction)
    write(root, "depth", 0.4, ":offset")
    write_run(root, metric(1.0), variant="segmentation@0.2,depth@0.2", strategy="equal")
    return root


@pytest.fixture(scope="module")
def study(results: Path) -> Comparison:
    return compare(results, "streets")


# --- rows ---------------------------------------------------------------------------------------


def test_clean_labels_are_level_0_and_fractions_are_percent(study: Comparison) -> None:
    rows = levels(study, "depth")
    assert list(rows["level"].unique()) == [0, 20, 40, 60, 80]
    assert set(rows["variant"]) == {"clean", *(f"depth@{fraction:g}" for fraction in FRACTIONS)}
    ilt = rows[(rows["strategy"] == "ilt") & (rows["metric"] == "miou")]
    assert ilt["mean"].to_list() == pytest.approx([50, 49.2, 48.4, 47.6, 46.8])
    assert ilt["std"].to_list() == pytest.approx([math.sqrt(2)] * 5)


def test_tasks_corrupted_together_have_levels_of_their_own(study: Comparison) -> None:
    rows = levels(study, "pose+shape")
    assert list(rows["level"].unique()) == [0, 7, 30]
    found = rows[rows["metric"] == "detection_accuracy"]
    assert set(found["task"]) == {"pose", "shape"}


def test_a_corruption_needs_three_levels_with_the_clean_one(study: Comparison) -> None:
    assert corruptions(study) == ["depth", "pose+shape"]


def test_without_clean_runs_there_are_no_levels(tmp_path: Path) -> None:
    for fraction in FRACTIONS:
        write_run(tmp_path, metric(50.0), variant=f"depth@{fraction}")
    assert corruptions(compare(tmp_path, "streets")) == []


def test_a_level_at_which_every_run_failed_does_not_count(tmp_path: Path) -> None:
    for fraction in (0, 0.2):
        write(tmp_path, "depth", fraction, seeds=1)
    write_run(tmp_path, variant="depth@0.4", status="failed")
    assert corruptions(compare(tmp_path, "streets")) == []
    write(tmp_path, "depth", 0.4, seeds=1)
    assert corruptions(compare(tmp_path, "streets")) == ["depth"]


def test_another_kind_is_another_corruption(tmp_path: Path) -> None:
    write(tmp_path, "depth", 0, seeds=1)
    for fraction in (0.2, 0.4):
        write(tmp_path, "depth", fraction, ":offset", seeds=1)
        write(tmp_path, "depth", fraction, seeds=1)
    comparison = compare(tmp_path, "streets")
    assert sorted(corruptions(comparison)) == ["depth", "depth:offset"]
    variants = set(levels(comparison, "depth:offset")["variant"])
    assert variants == {"clean", "depth@0.2:offset", "depth@0.4:offset"}


def test_a_strategy_that_was_run_at_one_level_is_no_curve(tmp_path: Path) -> None:
    for fraction in (0, 0.2, 0.4):
        write(tmp_path, "depth", fraction)
    write_run(tmp_path, metric(49.0), variant="clean", strategy="gls")
    study = compare(tmp_path, "streets")
    assert set(levels(study, "depth")["strategy"]) == {"equal", "mtu", "ilt"}
    assert "GLS" not in render_levels(study, "depth")
    legend = levels_figure(study, "depth").legends[0]
    assert "GLS" not in [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("corruption", ["segmentation", "depth:offset", "shape"])
def test_levels_that_are_not_there_are_an_error_that_names_those_that_are(
    study: Comparison, corruption: str
) -> None:
    with pytest.raises(UserError, match=r"there are some of 'depth', 'pose\+shape'"):
        levels(study, corruption)


# --- figure -------------------------------------------------------------------------------------


def test_each_metric_has_a_panel_and_each_strategy_a_line(study: Comparison) -> None:
    with mpl.rc_context(STYLE):
        figure = levels_figure(study, "depth")
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "mIoU (%) ↑", "Abs. Err. (1/m) ↓", "Detection (%) ↑",
    ]  # fmt: skip
    assert [axes.get_title() for axes in figure.axes] == ["segmentation", "depth", "depth"]
    colors = [PAPER_LINES[strategy]["color"] for strategy in ("equal", "mtu", "ilt")]
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() != "None"]
    assert [line.get_color() for line in lines] == colors
    for strategy, line in zip(("equal", "mtu", "ilt"), lines, strict=True):
        expected = [miou(strategy, fraction) for fraction in (0, *FRACTIONS)]
        assert list(line.get_xdata()) == [0, 20, 40, 60, 80]
        assert list(line.get_ydata()) == pytest.approx(expected)


def test_bars_are_the_standard_deviation_over_seeds(study: Comparison) -> None:
    axes = levels_figure(study, "depth").axes[0]
    bars = axes.collections[2].get_segments()  # the third strategy's
    assert len(bars) == 5
    for (_, low), (_, high) in bars:
        assert high - low == pytest.approx(2 * math.sqrt(2))


def test_detection_is_drawn_against_chance(study: Comparison) -> None:
    axes = levels_figure(study, "pose+shape").axes[-1]
    chance = next(line for line in axes.lines if line.get_linestyle() == ":")
    assert list(chance.get_xdata()) == list(chance.get_ydata()) == [0, 30]
    assert "chance" in [text.get_text() for text in axes.texts]


def test_one_seed_has_no_bars_to_explain(tmp_path: Path) -> None:
    for fraction in (0, 0.2, 0.4):
        write(tmp_path, "depth", fraction, seeds=1)
    figure = levels_figure(compare(tmp_path, "streets"), "depth")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["Eq. Weight", "MTU", "ILT Params"]


def test_every_corruption_with_levels_gets_files(results: Path, tmp_path: Path) -> None:
    stems = ("streets_levels_depth", "streets_levels_pose+shape")
    files = draw_figures(results, "streets", tmp_path / "new")
    assert {file.name for file in files} == {
        f"{s}.{kind}" for s in stems for kind in ("png", "svg")
    }
    svg = (tmp_path / "new" / "streets_levels_pose+shape.svg").read_text()
    assert "corrupted pose and shape labels (%)" in svg, "text stays text"


def test_files_are_of_the_levels_and_strategies_asked_for(results: Path, tmp_path: Path) -> None:
    variants = ["clean", "depth@0.2", "depth@0.8"]
    png, svg = draw_figures(results, "streets", tmp_path, variants, ["equal", "ilt"])
    assert (png.name, svg.name) == ("streets_levels_depth.png", "streets_levels_depth.svg")
    text = svg.read_text()
    assert "ILT Params" in text
    assert "MTU" not in text
    assert re.findall(r">(\d+)</text>", text)[:3] == ["0", "20", "80"]


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for fraction in (0, 0.2, 0.4):
        write(tmp_path / "runs", "depth", fraction, seeds=1)
    first, second = (draw_figures(tmp_path / "runs", "streets", tmp_path / out) for out in "ab")
    assert first
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


# --- table --------------------------------------------------------------------------------------


def test_the_table_has_strategies_by_level_for_each_metric(study: Comparison) -> None:
    lines = render_levels(study, "depth").splitlines()
    assert lines[0] == "streets: by share of corrupted depth labels"
    assert lines[1].split() == ["0", "%", "20", "%", "40", "%", "60", "%", "80", "%"]
    start = lines.index("segmentation mIoU (%) ↑")
    means = ("50.0", "49.2", "48.4", "47.6", "46.8")
    cells = re.split(r"  +", lines[start + 3].strip())
    assert cells == ["ILT Params", *(f"{mean} ± 1.4 ¹" for mean in means)]
    start = lines.index("depth Detection (%) ↑")
    assert re.split(r"  +", lines[start + 1].strip()) == [
        "ILT Params", "–", "96.00 ± 0.00", "92.00 ± 0.00", "88.00 ± 0.00", "84.00 ± 0.00",
    ]  # fmt: skip
    assert " ".join(lines[-2:]) == (
        "mean ± std over 2 runs; ¹ best, ² second best; too few seeds for any test to tell "
        "3 strategies apart at 5 %: 7 are needed"
    )


def test_small_numbers_are_shown_in_thousandths(study: Comparison) -> None:
    lines = render_levels(study, "depth").splitlines()
    start = lines.index("depth Abs. Err. (10⁻³ 1/m) ↓")
    assert lines[start + 1].split()[2:5] == ["20.00", "±", "0.00"]


def test_five_levels_of_seven_strategies_fit_100_columns(tmp_path: Path) -> None:
    for strategy in ("equal", "mtu", "dwa", "gls", "ilt", "pcgrad", "ilt+cagrad"):
        for fraction in (0, *FRACTIONS):
            for seed in range(2):
                write_run(
                    tmp_path,
                    metric(50.0 - 10 * fraction + 0.31 * seed),
                    abs_err(0.02043 + 0.05 * fraction + 0.00031 * seed),
                    variant=f"depth@{fraction}" if fraction else "clean",
                    strategy=strategy,
                    seed=seed,
                )
    text = render_levels(compare(tmp_path, "streets"), "depth")
    assert max(map(len, text.splitlines())) <= 100


def test_a_level_that_one_strategy_lacks_is_a_dash(tmp_path: Path) -> None:
    for fraction in (0, 0.2, 0.4):
        write(tmp_path, "depth", fraction)
    for variant in ("clean", "depth@0.2"):
        write_run(tmp_path, metric(50.0), strategy="dwa", variant=variant)
    comparison = compare(tmp_path, "streets")
    (line, *_) = [line for line in render_levels(comparison, "depth").splitlines() if "DWA" in line]
    assert re.split(r"  +", line.strip())[1:] == ["50.0 ¹", "50.0 ¹", "–"]
    assert "over 1 to 2 runs" in render_levels(comparison, "depth")
    levels_figure(comparison, "depth")


def test_markdown_has_a_column_for_each_level(study: Comparison) -> None:
    text = re.sub(" +", " ", render_levels(study, "depth", "github"))
    assert "| | 0 % | 20 % | 40 % | 60 % | 80 % |" in text
    assert "| ILT Params | **50.0 ± 1.4** | **49.2 ± 1.4** |" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1


def test_formats_for_machines_are_those_of_the_rows(study: Comparison) -> None:
    with pytest.raises(UserError, match=r"unknown format 'csv'; .*github"):
        render_levels(study, "depth", "csv")


# --- command line -------------------------------------------------------------------------------


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    """Standard output and error of `mtlbench compare streets`."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main(["compare", "streets", *map(str, arguments)])
    return capsys.readouterr()


@pytest.mark.parametrize(
    ("format", "title"),
    [
        ("table", "streets: by share of corrupted {} labels"),
        ("github", "**streets: by share of corrupted {} labels**"),
    ],
)
def test_tables_for_people_end_with_the_levels(
    results: Path, capsys: pytest.CaptureFixture[str], format: str, title: str
) -> None:
    out, _ = printed(capsys, "--results", results, "--format", format)
    last = [line for line in out.splitlines() if "streets: " in line][-3:]
    assert "streets: by share" not in last[0], "those of the variants come first"
    assert last[1:] == [title.format("depth"), title.format("pose and shape")]
    comparison = compare(results, "streets")
    for corruption in ("depth", "pose+shape"):
        assert render_levels(comparison, corruption, format).rstrip() in out


@pytest.mark.parametrize("format", ["latex", "html", "csv", "json"])
def test_other_formats_have_the_variants_alone(
    results: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    out, _ = printed(capsys, "--results", results, "--format", format)
    assert out.rstrip("\n") == render(compare(results, "streets"), format).rstrip("\n")


def test_without_levels_there_is_no_table_of_them(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = printed(capsys, "--results", results, "--variants", "clean", "depth@0.2")
    assert "by share" not in out


def test_figures_of_levels_are_counted_with_the_others(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--variants", "clean", "depth@0.2", "depth@0.4", "--figures", tmp_path]
    _, err = printed(capsys, "--results", results, *options)
    assert err == f"2 figure files in {tmp_path}\n"
    assert {file.stem for file in tmp_path.iterdir()} == {"streets_levels_depth"}
