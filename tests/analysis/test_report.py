"""The HTML report: what it shows, what it escapes, and what bad input gets."""

import argparse
import base64
import hashlib
import json
import math
import os
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis.synthetic_runs import abs_err, instance_arrays, metric, study, write_run
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.analysis.aggregate import compare
from mtlbench.analysis.leaderboard import leaderboard
from mtlbench.analysis.reference import reference_runs
from mtlbench.analysis.report import render_report, write_report
from mtlbench.analysis.report.charts import (
    BOTTOM,
    HEIGHT,
    NAMES,
    TOP,
    WIDTH,
    Dot,
    Scale,
    Series,
    curve_chart,
    dot_chart,
    ticks,
)  # fmt: skip
from mtlbench.analysis.report.commands import run_commands
from mtlbench.analysis.report.runs import RunSummary, duration, numbers
from mtlbench.analysis.results import load_results
from mtlbench.analysis.tables import build
from mtlbench.cli import main as cli
from mtlbench.cli.options import names
from mtlbench.errors import UserError
from mtlbench.spec import RunSpec
from mtlbench.store.runs import RUN_FILE, read_run
from mtlbench.store.schema import DIVERGED, DONE, FAILED
from mtlbench.store.sealed import sealed
from mtlbench.study.plan import plan
from mtlbench.suites.build import changed_parameters

HOSTILE = "<img src=x onerror=alert(1)>"
MORE_HOSTILE = "</script></style>\"'&amp;<script>alert(1)</script>{{ 7 * 7 }}"


class Page(HTMLParser):
    """The tags, the addresses and the texts of a page; tables as rows of texts."""

    VOID = ("meta", "link", "input", "img", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attributes}))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("path", "circle", "rect", "text") and self.open[-1] != tag:
            return
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attributes}))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.texts.append(data)
        if any(tag in ("td", "th") for tag in self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three strategies on clean and corrupted labels, three seeds; one more strategy diverged."""
    root = tmp_path_factory.mktemp("results")
    study(root, strategies=("equal", "gls", "ilt"), seeds=3, epochs=6, instances=60)
    for variant in ("clean", "depth@0.4"):
        write_run(root, variant=variant, strategy="mtu", status=DIVERGED)
    return root


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return render_report(results)


# --- one file, offline --------------------------------------------------------------------------


def test_the_page_has_no_address_but_its_own_sections_and_data(page):
    addresses = re.findall(r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']([^"']*)""", page)
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "url(" not in page
    assert "@import" not in page


def test_the_policy_allows_nothing_but_the_pages_own_script(page):
    (policy,) = (
        tag["content"]
        for tag in Page(page).of("meta")
        if tag.get("http-equiv") == "Content-Security-Policy"
    )
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}';" in policy


def test_every_section_that_is_linked_to_is_there(page):
    parsed = Page(page)
    names = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    links = {tag["href"].removeprefix("#") for tag in parsed.of("a")}
    assert links
    assert links <= names


def test_the_same_runs_give_the_same_bytes(results, page):
    assert render_report(results) == page


# --- what it shows ------------------------------------------------------------------------------


def test_each_variant_has_the_table_that_compare_prints(results, page):
    shown = [
        [[" ".join(cell.split()) for cell in row] for row in table] for table in Page(page).tables
    ]
    for table in build(compare(results, "streets")):
        rows = [[row.label, *(cell.text or "–" for cell in row.cells)] for row in table.rows]
        assert any(candidate[-len(rows) :] == rows for candidate in shown), table.title


def test_the_first_board_is_the_leaderboard_over_everything(results, page):
    board = leaderboard(load_results(results)).table
    board = board[board["scope"] == "all"]
    (body, *_) = re.findall(
        r'<tbody data-suite="[^"]*" data-variant="" data-stage="">.*?</tbody>', page, re.DOTALL
    )
    assert re.findall(r'data-key="([^"]*)"', body) == list(board["strategy"])
    ranks = re.findall(r'<td data-v="([^"]*)" class="rank">', body)
    assert [float(rank) for rank in ranks if rank] == list(board["mean_rank"].dropna())
    assert body.count('class="incomplete"') == (~board["complete"]).sum() == 1


def test_curves_hold_the_means_over_seeds(results, page):
    frame = load_results(results)
    runs = frame[(frame["variant"] == "clean") & (frame["strategy"] == "ilt")]
    histories = [read_run(Path(path)).history() for path in runs["path"].unique()]
    means = np.mean([history["validation/depth/abs_err"] for history in histories], axis=0)
    series = re.findall(r'data-label="ILT Params" data-y="([^"]*)"', page)
    assert " ".join(f"{mean:.4g}" for mean in means) in series


def test_failures_are_named_with_the_last_line_of_their_error(tmp_path):
    write_run(tmp_path, metric(50.0))
    path = write_run(tmp_path, strategy="gls", status=FAILED)
    info = json.loads((path / RUN_FILE).read_text())
    info["error"] = "Traceback (most recent call last):\n  …\nValueError: no such layer"
    (path / RUN_FILE).write_bytes(sealed(info))
    rows = [row for table in Page(render_report(tmp_path)).tables for row in table]
    assert ["streets/clean/gls/seed-0", "failed", "ValueError: no such layer"] in rows


def test_only_the_suites_asked_for_are_shown(tmp_path):
    write_run(tmp_path, metric(50.0))
    write_run(tmp_path, metric(60.0), suite="roads")
    page = render_report(tmp_path, suites=["roads"])
    assert "roads" in page
    assert "streets" not in page
    with pytest.raises(UserError, match="unknown suite 'road'; did you mean 'roads'"):
        render_report(tmp_path, suites=["road"])


# --- names --------------------------------------------------------------------------------------


def test_names_are_shown_as_text_wherever_they_stand(tmp_path):
    for name in (HOSTILE, MORE_HOSTILE.replace("/", "")):
        for strategy in ("equal", name):
            for seed in (0, 1):
                hostile = metric(50.0 + seed, name, name, label=name, unit=name, direction="min")
                write_run(
                    tmp_path, hostile, suite=name, variant=name, strategy=strategy, seed=seed,
                    label=name, suite_parameters={name: name}, strategy_parameters={name: name},
                    sources={name: name},
                    history={"epoch": [1, 2], f"validation/{name}/{name}": [1.0, 2.0]},
                )  # fmt: skip
    write_run(tmp_path, suite=HOSTILE, variant="clean", strategy=HOSTILE, status=DIVERGED)
    parsed = Page(render_report(tmp_path, title=MORE_HOSTILE))
    assert len(parsed.of("script")) == len(parsed.of("style")) == 1
    assert not parsed.of("img")
    assert not [name for _, tag in parsed.tags for name in tag if name.startswith("on")]
    assert parsed.text.count(HOSTILE) > 20
    assert MORE_HOSTILE in parsed.text


# --- the reference results ----------------------------------------------------------------------


def test_the_reference_results_make_a_page_by_themselves():
    page = render_report((), reference=True, suites=["yeast"])
    parsed = Page(page)
    runs = [run for run in reference_runs() if run["spec"]["suite"] == "yeast"]
    assert f"{len(runs)} runs" in " ".join(parsed.text.split())
    shown = [[" ".join(cell.split()) for cell in row] for t in parsed.tables for row in t]
    for table in build(compare((), "yeast", reference=True)):
        for row in table.rows:
            assert [row.label, *(cell.text or "–" for cell in row.cells)] in shown
    assert not parsed.of("img")
    assert "mtlbench report --reference --suites yeast" in page.replace("--out report.html ", "")


def test_own_runs_stand_beside_the_reference_results(results):
    page = render_report(results, reference=True, suites=["streets"])
    own = render_report(results)
    curves = re.findall(r'data-y="([^"]*)"', own)
    assert curves
    assert set(curves) <= set(re.findall(r'data-y="([^"]*)"', page))
    assert "STCH" in page
    assert "STCH" not in own


# --- little there -------------------------------------------------------------------------------


def test_without_runs_there_is_a_message(tmp_path):
    with pytest.raises(UserError, match="no results directory at"):
        render_report(tmp_path / "none")
    with pytest.raises(UserError, match=r"no runs in .*; 'mtlbench run SUITE"):
        render_report(tmp_path)
    (tmp_path / "streets/clean/equal/seed-0-abc").mkdir(parents=True)
    with pytest.raises(UserError, match=r"none of the 1 run directories .* run\.json is missing"):
        render_report(tmp_path)


def test_one_run_makes_a_page(tmp_path):
    write_run(
        tmp_path, metric(50.0), history={"epoch": [1], "validation/segmentation/miou": [50.0]}
    )
    text = Page(render_report(tmp_path)).text
    assert "50.00" in text
    assert "one run each" in text


def test_one_strategy_makes_a_page(tmp_path):
    for seed in range(3):
        write_run(tmp_path, metric(50.0 + seed), strategy="ilt", seed=seed)
    assert "51.0" in Page(render_report(tmp_path)).text


def test_runs_that_all_diverged_make_a_page_that_says_so(tmp_path):
    for strategy in ("equal", "ilt"):
        write_run(tmp_path, strategy=strategy, status=DIVERGED)
    text = " ".join(Page(render_report(tmp_path)).text.split())
    assert "Nothing can be ranked" in text
    assert "2 diverged" in text
    assert "Eq. Weight: 1 of 1 run diverged" in text


def test_strategies_that_all_miss_a_run_are_shown_with_their_ratings(tmp_path):
    for strategy, seeds in (("equal", (0, 1)), ("ilt", (1, 2))):
        for seed in seeds:
            write_run(tmp_path, metric(50.0 + len(strategy)), strategy=strategy, seed=seed)
    text = " ".join(Page(render_report(tmp_path)).text.split())
    assert "Nothing can be ranked" not in text
    assert "incomplete: 66 % of values" in text
    elo = leaderboard(load_results(tmp_path)).table.set_index("strategy")["elo"]
    assert f" {elo['ilt']:.0f} " in text


def test_numbers_that_are_not_finite_leave_gaps(tmp_path):
    history = {
        "epoch": [1, 2, 3],
        "validation/segmentation/miou": [math.nan, math.inf, 50.0],
        "validation/depth/abs_err": [math.nan] * 3,
        "weight/depth": [1.0, math.inf, math.nan],
    }
    for strategy, values in (("equal", (50.0, 0.1)), ("ilt", (math.nan, math.inf))):
        write_run(
            tmp_path, metric(values[0]), abs_err(values[1]), strategy=strategy, history=history
        )
    page = render_report(tmp_path)
    assert 'data-y="n n 50"' in page
    assert "ILT Params: mIoU of segmentation is not finite in 1 of 1 run" in page
    assert not re.search(
        r"(?<![a-z])(nan|inf)(?![a-z])", page.partition("<main>")[2].partition("<script>")[0]
    )


def test_runs_of_another_schema_are_named_and_left_out(tmp_path):
    write_run(tmp_path, metric(50.0))
    path = write_run(tmp_path, metric(60.0), strategy="ilt")
    info = json.loads((path / RUN_FILE).read_text())
    (path / RUN_FILE).write_text(json.dumps({**info, "schema_version": 99}))
    rows = [row for table in Page(render_report(tmp_path)).tables for row in table]
    (damaged,) = (row for row in rows if "damaged" in row)
    assert damaged[0] == str(path.relative_to(tmp_path))
    assert "schema version 99" in damaged[2]


# --- the file -----------------------------------------------------------------------------------


def test_an_older_report_is_replaced_and_nothing_else(tmp_path):
    results, out = tmp_path / "runs", tmp_path / "page.html"
    write_run(results, metric(50.0))
    assert write_report(results, out, title="first") == out
    write_report(results, out, title="second")
    assert "second" in out.read_text()
    for content in ("", "<html>mine</html>"):
        out.write_text(content)
        with pytest.raises(UserError, match="is there and is not a report"):
            write_report(results, out)
        assert out.read_text() == content
    out.unlink()
    os.mkfifo(out)  # nobody writes to it: who waits for that waits for ever
    with pytest.raises(UserError, match="is there and is not a report"):
        write_report(results, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "runs"]


@pytest.mark.parametrize(
    ("out", "message"), [("runs", "is a directory"), ("none/page.html", "no directory")]
)
def test_a_page_that_cannot_be_written_is_an_error(tmp_path, out, message):
    write_run(tmp_path / "runs", metric(50.0))
    with pytest.raises(UserError, match=message):
        write_report(tmp_path / "runs", tmp_path / out)


def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs", metric(50.0))
    with pytest.raises(SystemExit) as exit:
        cli.main(["report", "--title", "Our study"])
    assert exit.value.code == 0
    assert "report.html" in capsys.readouterr().out
    text = Page((tmp_path / "report.html").read_text()).text
    assert "mtlbench report --results runs --out report.html --title 'Our study'" in text
    with pytest.raises(SystemExit) as exit:
        cli.main(["report", "--results", "none"])
    assert exit.value.code == cli.BAD_INPUT
    assert capsys.readouterr().err == "mtlbench: error: no results directory at 'none'\n"


# --- commands -----------------------------------------------------------------------------------


def trained_by(commands: list[str]) -> set[str]:
    """The hashes of the runs that these commands train."""
    hashes = set()
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "mtlbench"
        options: argparse.Namespace = cli.build_parser().parse_args(arguments)
        specs = plan(
            options.suite,
            strategies=names(options.strategies, "strategy"),
            variants=options.variants,
            seeds=options.seeds,
            overrides=dict(item.split("=", 1) for item in options.set),
        )
        hashes |= {spec.hash for spec in specs}
    return hashes


def as_run(spec: RunSpec) -> RunSummary:
    stored = {**vars(spec), "locations": {}}
    spec_again = json.loads(json.dumps(stored, default=dict))
    return RunSummary(spec_again, frozenset(changed_parameters(spec)), DONE, "", "", 0.0, "", {})


STUDIES: dict[str, list[dict[str, Any]]] = {
    "defaults": [{}],
    "part": [{"strategies": ["ilt"], "variants": ["left@0.4"], "seeds": 1}],
    "two grids": [
        {"strategies": ["equal", "ilt"], "variants": ["clean", "left@0.2"], "seeds": 2},
        {"strategies": ["mtu"], "variants": ["clean"], "seeds": 3},
    ],
    "parameters": [
        {"strategies": ["equal", "ilt"], "variants": ["clean"], "seeds": 1},
        {
            "strategies": ["equal", "ilt", "ilt+dwa"], "variants": ["clean", "left@0.4"],
            "seeds": 1, "overrides": {"epochs": 2, "ilt.lr": "4.0"},
        },
        {
            "strategies": ["ilt"], "variants": ["clean"], "seeds": 1,
            "overrides": {"epochs": 2, "ilt.lr": "1.0"},
        },
        {
            "strategies": ["static"], "variants": ["clean"], "seeds": 1,
            "overrides": {"static.weights": "left:2,right:0.5,offset:1"},
        },
    ],
}  # fmt: skip


def test_runs_of_several_directories_are_trained_into_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "a", metric(50.0))
    write_run(tmp_path / "b", metric(51.0), strategy="mtu")
    text = Page(render_report(["a", "b"])).text
    assert "--strategies equal --variants clean --seeds 1 --results a" in text
    assert "--strategies mtu --variants clean --seeds 1 --results b" in text


@pytest.mark.parametrize("name", STUDIES)
def test_the_commands_train_exactly_these_runs(name):
    specs = [spec for study in STUDIES[name] for spec in plan("digits", **study)]
    commands = run_commands([as_run(spec) for spec in specs], "my runs")
    assert trained_by(commands) == {spec.hash for spec in specs}
    assert all("--results 'my runs'" in command for command in commands)


def test_a_default_study_is_one_command_without_parameters():
    (command,) = run_commands([as_run(spec) for spec in plan("digits")], "runs")
    assert "--set" not in command


def test_where_the_defaults_are_not_recorded_all_parameters_are_written_out(tmp_path):
    write_run(
        tmp_path, metric(50.0), suite="elsewhere", strategy="mine",
        suite_parameters={"epochs": 3, "flag": True}, strategy_parameters={"mine.k": 2},
        sources={"mine": "ab12"},
    )  # fmt: skip
    text = Page(render_report(tmp_path)).text
    assert (
        "mtlbench run elsewhere --strategies mine --variants clean --seeds 1 "
        "--set epochs=3 --set flag=true --set mine.k=2 --plugin PLUGIN.py"
    ) in text


# --- pieces -------------------------------------------------------------------------------------


def test_seeds_and_durations_read_as_people_write_them():
    assert numbers([2, 0, 1, 5, 7, 8]) == "0–2, 5, 7–8"
    assert [duration(s) for s in (45, 600, 7200, 12_000)] == [
        "45 s", "10 min", "2 h 0 min", "3 h 20 min",
    ]  # fmt: skip


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(3, 8))
def test_ticks_are_a_few_round_numbers_inside_the_range(low, width, count):
    found = ticks(low, low + width, count)
    assert 1 <= len(found) <= count + 1
    slack = 1e-6 * max(abs(low), abs(low + width))  # of the rounding of the ends
    assert all(low - slack <= tick <= low + width + slack for tick in found)


@given(st.floats(1e-3, 1e3), st.floats(1.1, 1e6), st.booleans())
def test_a_scale_keeps_the_order_of_values(low, ratio, log):
    scale = Scale(low, low * ratio, 0, 300, log)
    inside = np.linspace(low, low * ratio, 7)
    places = [scale(value) for value in inside]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, 300)


ANY = st.lists(st.floats(), min_size=3, max_size=3).map(np.array)


@given(ANY, ANY, st.booleans())
def test_whatever_the_numbers_a_chart_has_ticks_in_its_frame(first, second, gaps):
    series = [Series(name, "s0", np.array(a)) for name, a in (("a", first), ("b", second))]
    chart = curve_chart("loss", "epoch", np.arange(1, 4), series, gaps=gaps)
    assert (chart is None) == (not np.isfinite([first, second]).any())
    if chart is not None:
        assert all(TOP <= place <= HEIGHT - BOTTOM for place, _ in chart.y_ticks)
        paths = "".join(one.line + one.band for one in chart.series)
        assert re.fullmatch(r"[ML\d. -]*", paths)
    dots = dot_chart(
        "loss", "min", [Dot("a", "s0", m, s, "") for m, s in zip(first, second, strict=True)]
    )
    if dots is not None:
        assert all(NAMES <= place <= WIDTH for place, _ in dots.ticks)


def test_long_curves_are_thinned_and_keep_their_ends():
    x = np.arange(1, 1001)
    chart = curve_chart("loss", "epoch", x, [Series("a", "s0", x.astype(float))])
    assert chart is not None
    shown = chart.series[0].mean.split()
    assert len(shown) == 50
    assert (shown[0], shown[-1]) == ("1", "1000")


def test_sigma_of_corrupted_and_clean_labels_is_shown(tmp_path):
    corrupted = np.zeros((40, 2), dtype=bool)
    corrupted[:10, 1] = True
    arrays = instance_arrays(corrupted, 3)
    write_run(
        tmp_path, metric(50.0), variant="depth@0.25", strategy="ilt", corrupted={"depth": 0.25},
        instance_parameters=arrays,
    )  # fmt: skip
    sigma = np.exp(arrays["log_variance"][:, :10, 1].astype(np.float32) / 2)
    medians = " ".join(f"{value:.4g}" for value in np.median(sigma, axis=1))
    assert f'data-label="corrupted labels" data-y="{medians}"' in render_report(tmp_path)
