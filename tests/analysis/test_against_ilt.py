"""Our runs beside the published numbers: what agrees, what does not, and what the claims come to.

Most tests make up runs that repeat the published means and standard deviations, some of them
altered: two seeds at 1/√2 standard deviations to either side of the mean have just that mean and
that sample standard deviation.
"""

import csv
import html
import io
import json
import math
import re
import tomllib
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic_runs import metric, write_run

from mtlbench.analysis.aggregate import SUMMARY_COLUMNS, compare
from mtlbench.analysis.published.beside import render_against
from mtlbench.analysis.published.ilt import AgainstILT, Claim, against_ilt, published
from mtlbench.errors import UserError
from mtlbench.store.sealed import sealed

ROOT = Path(__file__).parents[2]
OWN = ("equal", "mtu", "dwa", "gls", "ilt")
NAMES = {
    "surface_error": "Surf. Err.", "mpjpe": "MPJPE", "pixel_accuracy": "Pix. Acc.",
    "miou": "mIoU", "abs_err": "Abs. Err.", "detection_accuracy": "Detection",
}  # fmt: skip
HOME = {
    "surface_error": "vertices", "mpjpe": "vertices", "pixel_accuracy": "segmentation",
    "miou": "segmentation", "abs_err": "depth",
}  # fmt: skip

Alter = Callable[[str, str, str, float], float]
"""Variant, method, metric and the published mean to ours."""


def as_published(variant: str, method: str, name: str, mean: float) -> float:
    return mean


def repeat(
    root: Path,
    suite: str = "cityscapes",
    *,
    alter: Alter = as_published,
    variants: Sequence[str] | None = None,
    methods: Sequence[str] = OWN,
    found: Sequence[float] = (),
    **run: Any,
) -> None:
    """Writes runs of a suite that have the published numbers, altered.

    Args:
        found: detection accuracy by epoch, for the histories.
    """
    dataset = {"streets": "cityscapes", "bodies": "surreal"}.get(suite, suite)
    table = published()
    table = table[(table["dataset"] == dataset) & table["method"].isin(methods)]
    for (variant, method), rows in table.groupby(["variant", "method"], sort=False):
        if variants is not None and variant not in variants:
            continue
        corrupted = str(variant).partition("@")[0].split("+") if variant != "clean" else []
        history: dict[str, list[float]] = {"epoch": list(range(1, len(found) + 1))}
        history |= {f"detection_accuracy/{task}": list(found) for task in corrupted if found}
        for seed, side in enumerate((-math.sqrt(0.5), math.sqrt(0.5))):
            metrics = []
            for row in rows.to_dict("records"):
                mean = alter(str(variant), str(method), row["metric"], row["mean"])
                spread = 0 if math.isnan(row["std"]) else row["std"]
                tasks = [HOME[row["metric"]]] if row["metric"] in HOME else corrupted
                metrics += [
                    metric(
                        mean + side * spread,
                        row["metric"],
                        task,
                        label=NAMES[row["metric"]],
                        unit=row["unit"],
                        direction=row["direction"],
                    )
                    for task in tasks
                ]
            write_run(
                root, *metrics, suite=suite, variant=str(variant), strategy=str(method),
                seed=seed, history=history, **run,
            )  # fmt: skip


def against(root: Path, suite: str = "cityscapes", *args: Any, **options: Any) -> AgainstILT:
    return against_ilt(compare(root, suite, *args, **options))


def row(found: AgainstILT, variant: str, strategy: str, name: str, task: str | None = None) -> Any:
    rows = found.rows
    chosen = rows[
        (rows["variant"] == variant)
        & (rows["strategy"] == strategy)
        & (rows["metric"] == name)
        & (rows["task"] == (task or HOME[name]))
    ]
    assert len(chosen) == 1
    return chosen.iloc[0]


def claim(found: AgainstILT, number: int) -> Claim:
    assert len(found.claims) == 5
    return found.claims[number - 1]


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that have just the published numbers, of one of the paper's datasets and a stand-in."""
    root = tmp_path_factory.mktemp("runs")
    for suite in ("surreal", "streets"):
        repeat(root, suite)
    return root


@pytest.fixture(scope="module")
def surreal(repeated: Path) -> AgainstILT:
    return against(repeated, "surreal")


@pytest.fixture(scope="module")
def streets(repeated: Path) -> AgainstILT:
    return against(repeated, "streets")


@pytest.fixture(params=["surreal", "streets"])
def either(request: pytest.FixtureRequest) -> AgainstILT:
    return request.getfixturevalue(request.param)


# --- rows ---------------------------------------------------------------------------------------


def test_runs_with_the_published_numbers_agree_in_everything(
    either: AgainstILT, streets: AgainstILT
) -> None:
    ours = either.rows[either.rows["n"] > 0]
    # 1e-9: the mean of two floats is not always the one between them to the last bit.
    assert ours["mean"].to_list() == pytest.approx(ours["paper_mean"].to_list(), rel=1e-9)
    gaps = ours["paper_gap"].to_list()
    assert ours["gap"].to_list() == pytest.approx(gaps, rel=1e-9, abs=1e-9, nan_ok=True)
    assert either.rows["same_sign"].dropna().all()
    assert either.rows["same_sign"].notna().sum() == 4 * 9, "4 methods, 3 variants of 3 metrics"
    taus = [1.0] * 9
    if either is streets:  # MTU 85.62 ± 2.01 and GLS 85.56 ± 1.13 % both print as 85.6: a tie
        taus[7] = 9 / math.sqrt(9 * 10)
    assert either.agreement["tau"].to_list() == pytest.approx(taus)
    assert either.agreement["same_best"].all()
    for one in either.claims[:3]:
        assert one.verdict == one.paper == "yes"
    assert either.left_out == []


def test_gaps_to_equal_weights_count_up_where_a_method_is_better(
    surreal: AgainstILT, streets: AgainstILT
) -> None:
    error = row(surreal, "pose+shape@0.4", "ilt", "surface_error")
    assert error["gap"] == pytest.approx(100 * (193.91 - 66.19) / 193.91)
    assert error["paper_gap"] == pytest.approx(100 * (193.91 - 66.19) / 193.91)
    iou = row(streets, "segmentation@0.4", "dwa", "miou")
    assert iou["paper_gap"] == pytest.approx(100 * (41.55 - 42.19) / 42.19)
    assert row(streets, "clean", "equal", "miou")["gap"] == 0


def test_gaps_of_opposite_sign_do_not_agree(tmp_path: Path) -> None:
    def worse(variant: str, method: str, name: str, mean: float) -> float:
        return 50.0 if (method, name) == ("ilt", "miou") else mean

    repeat(tmp_path, "streets", alter=worse, variants=["clean"])
    found = against(tmp_path, "streets")
    assert row(found, "clean", "ilt", "miou")["same_sign"] == False  # noqa: E712 (missing is not false)
    assert row(found, "clean", "ilt", "abs_err")["same_sign"] == True  # noqa: E712
    assert pd.isna(row(found, "clean", "equal", "miou")["same_sign"])


def test_the_papers_data_are_compared_in_size_too(tmp_path: Path) -> None:
    repeat(tmp_path, alter=lambda v, m, n, mean: mean + 0.5 * (n == "miou"), variants=["clean"])
    ilt = row(against(tmp_path), "clean", "ilt", "miou")
    assert ilt["difference"] == pytest.approx(0.5)
    assert ilt["z"] == pytest.approx(0.5 / math.sqrt(0.22**2 + 0.22**2))


def test_a_stand_in_is_never_compared_in_size(surreal: AgainstILT, streets: AgainstILT) -> None:
    assert streets.stands_in
    assert streets.rows[["difference", "z"]].isna().all(axis=None)
    for format in ("table", "github", "latex", "html"):
        text = render_against(streets, format)
        assert "streets stands in for cityscapes: not comparable in size" in text
        assert "std²" not in text, "no z, and no note on it"
    assert "stands in" not in render_against(surreal, "table")
    assert "std²" in render_against(surreal, "table")


def test_methods_that_one_side_lacks_keep_a_row(tmp_path: Path) -> None:
    repeat(tmp_path, "bodies", variants=["clean"], methods=("equal", "ilt"))
    write_run(
        tmp_path, metric(97.0, "pixel_accuracy", label="Pix. Acc."), suite="bodies",
        strategy="ilt+cagrad",
    )  # fmt: skip
    found = against(tmp_path, "bodies")
    theirs = row(found, "clean", "gls", "pixel_accuracy")
    assert theirs["n"] == 0
    assert math.isnan(theirs["mean"])
    assert theirs["paper_mean"] == 98.10
    ours = row(found, "clean", "ilt+cagrad", "pixel_accuracy")
    assert ours["mean"] == 97.0
    assert math.isnan(ours["paper_mean"])
    cited = row(found, "clean", "HMNet*", "mpjpe")
    assert (cited["n"], cited["paper_mean"]) == (0, 71.9)
    lines = render_against(found, "table").splitlines()
    assert any(re.search(r"GLS +– +– +98\.10 ± 0\.020", line) for line in lines)
    assert any(re.search(r"ilt\+cagrad +97.00* .* – +– +–$", line) for line in lines)


def test_published_numbers_are_printed_as_they_were_published(surreal: AgainstILT) -> None:
    text = render_against(surreal, "table")
    for number in ("98.10 ± 0.020", "172.025 ±  8.24", "140.80 ± 14.21", "151.5"):
        assert number in text


def test_tasks_corrupted_together_are_known_in_any_order(tmp_path: Path) -> None:
    tasks = ("shape", "pose")
    for seed in range(2):
        write_run(
            tmp_path, *(metric(97.0, "detection_accuracy", task) for task in tasks),
            suite="bodies", variant="shape+pose@0.2", strategy="ilt", seed=seed,
        )  # fmt: skip
    found = against(tmp_path, "bodies")
    for task in tasks:
        assert (
            row(found, "shape+pose@0.2", "ilt", "detection_accuracy", task)["paper_mean"] == 97.79
        )


def test_variants_that_one_side_lacks_are_named(tmp_path: Path) -> None:
    repeat(tmp_path, "streets", variants=["clean", "depth@0.4"])
    write_run(tmp_path, metric(50.0), variant="depth@0.6")
    write_run(tmp_path, metric(50.0), variant="depth@0.4:offset")
    found = against(tmp_path, "streets")
    assert list(found.rows["variant"].unique()) == ["clean", "depth@0.4"]
    assert found.left_out == [
        "not in the paper: depth@0.4:offset, depth@0.6",
        "in the paper, but not compared here: segmentation@0.4, depth@0.2, segmentation@0.2",
    ]


def test_only_the_metrics_asked_for_are_compared(repeated: Path) -> None:
    found = against(repeated, "streets", metrics=["miou"])
    assert set(found.rows["metric"]) == {"miou"}


@pytest.mark.parametrize(
    ("suite", "variant", "name", "sentence"),
    [
        ("digits", "clean", "accuracy", "no numbers for suite 'digits'; .* 'surreal', 'bodies', "),
        ("streets", "depth@0.6", "miou", "no numbers for 'depth@0.6'; .* 'clean', 'depth@0.4', "),
        ("streets", "clean", "rel_err", "no run .* has a metric that the paper has: 'miou', "),
    ],
)
def test_what_the_paper_does_not_have_is_an_error_that_names_what_it_has(
    tmp_path: Path, suite: str, variant: str, name: str, sentence: str
) -> None:
    write_run(tmp_path, metric(50.0, name), suite=suite, variant=variant)
    with pytest.raises(UserError, match=sentence) as error:
        against(tmp_path, suite)
    assert "\n" not in str(error.value)


def test_several_settings_of_a_strategy_have_to_be_chosen_from(tmp_path: Path) -> None:
    for lr in (2.0, 4.0):
        write_run(tmp_path, metric(50.0), strategy="ilt", strategy_parameters={"ilt.lr": lr})
    with pytest.raises(UserError, match=r"several settings of strategy 'ilt'.*'ilt\[ilt\.lr=4"):
        against(tmp_path, "streets")
    chosen = against(tmp_path, "streets", None, ["ilt[ilt.lr=4.0]"])
    assert row(chosen, "clean", "ilt[ilt.lr=4.0]", "miou")["paper_mean"] == 63.98


def test_of_several_settings_the_one_with_default_parameters_stands_beside_the_paper(
    tmp_path: Path,
) -> None:
    write_run(tmp_path, metric(50.0), strategy="ilt")
    write_run(tmp_path, metric(40.0), strategy="ilt", strategy_parameters={"ilt.lr": 2.0})
    found = against(tmp_path, "streets")
    assert row(found, "clean", "ilt", "miou")["mean"] == 50.0
    assert "ilt[ilt.lr=2.0]" not in set(found.rows["strategy"])
    assert found.left_out[0] == "other settings, to be chosen by --strategies: ilt[ilt.lr=2.0]"


# --- order --------------------------------------------------------------------------------------


def test_orders_say_where_they_differ(tmp_path: Path) -> None:
    ours = {"equal": 51.0, "mtu": 52.0, "dwa": 50.0, "gls": 53.0, "ilt": 52.0}

    def alter(variant: str, method: str, name: str, mean: float) -> float:
        return ours[method] if name == "miou" else mean

    repeat(tmp_path, "streets", alter=alter, variants=["clean"])
    table = against(tmp_path, "streets").agreement.set_index("metric")
    miou = table.loc["miou"]
    assert miou["order"] == "gls > mtu = ilt > equal > dwa"
    assert miou["paper_order"] == "ilt > dwa > equal > mtu > gls"
    assert (miou["best"], miou["paper_best"], miou["same_best"]) == ("gls", "ilt", False)
    assert (miou["ilt_rank"], miou["paper_ilt_rank"]) == (2, 1)
    # Of ten pairs, one tied, (ilt, equal) and (ilt, dwa) agree and seven do not.
    assert miou["tau"] == pytest.approx((2 - 7) / math.sqrt(9 * 10))
    assert table.loc["abs_err", "tau"] == pytest.approx(1)


def test_the_lowest_standard_deviation_is_read_off_each_side(streets: AgainstILT) -> None:
    table = streets.agreement.set_index(["variant", "metric"])
    # Table 2: mIoU ± 0.22 of ILT, ± 0.13 of DWA; Table 5: mIoU ± 0.03 of ILT is the lowest.
    for column in ("ilt_lowest_std", "paper_ilt_lowest_std"):
        assert not table.loc[("clean", "miou"), column]
        assert table.loc[("depth@0.4", "miou"), column]


# --- claims -------------------------------------------------------------------------------------


def test_the_papers_own_numbers_meet_its_claims_by_our_rules(either: AgainstILT) -> None:
    assert [one.paper for one in either.claims] == ["yes"] * 3 + [""] * 2


def ilt_at(place: int) -> Alter:
    """mIoU on clean labels by which ILT comes at a place."""
    values = {"equal": 60.0, "mtu": 61.0, "dwa": 62.0, "gls": 63.0, "ilt": 64.5 - place}

    def alter(variant: str, method: str, name: str, mean: float) -> float:
        return values[method] if (variant, name) == ("clean", "miou") else mean

    return alter


@pytest.mark.parametrize(
    ("place", "methods", "verdict"),
    [
        (1, OWN, "yes"),
        (2, OWN, "yes"),
        (3, OWN, "no"),
        (1, ("equal", "mtu", "dwa", "ilt"), "yes"),  # second at worst, were there GLS
        (1, ("equal", "mtu", "ilt"), "cannot tell"),
        (4, ("equal", "mtu", "dwa", "ilt"), "no"),  # third of four: a fifth makes it no better
        (1, ("equal", "mtu", "dwa", "gls"), "cannot tell"),
    ],
)
def test_claim_1_holds_whatever_the_missing_methods_would_do(
    tmp_path: Path, place: int, methods: tuple[str, ...], verdict: str
) -> None:
    repeat(tmp_path, "streets", alter=ilt_at(place), variants=["clean"], methods=methods)
    found = claim(against(tmp_path, "streets", metrics=["miou"]), 1)
    assert found.verdict == verdict
    assert ("open without" in " ".join(found.evidence)) == (verdict == "cannot tell")


def test_claim_2_fails_where_ilt_is_not_best_on_every_metric(tmp_path: Path) -> None:
    def alter(variant: str, method: str, name: str, mean: float) -> float:
        return 64.0 if (variant, method, name) == ("depth@0.4", "mtu", "miou") else mean

    repeat(tmp_path, alter=alter, variants=["depth@0.4"])
    found = claim(against(tmp_path), 2)
    assert found.verdict == "no"
    assert found.evidence[0].startswith("depth@0.4: best on 2 of 3 metrics, error falls most (16.2")


def test_claim_2_fails_where_another_task_gains_most(tmp_path: Path) -> None:
    def alter(variant: str, method: str, name: str, mean: float) -> float:
        return 90.0 if (method, name) == ("ilt", "miou") else mean

    repeat(tmp_path, alter=alter, variants=["depth@0.4"])
    found = claim(against(tmp_path), 2)
    assert found.verdict == "no"
    # Equal weights lack 37.23 points of mIoU to 100 %, ILT 10.
    assert (
        f"falls most ({100 * (1 - 10 / 37.23):.1f} %) on mIoU of segmentation" in found.evidence[0]
    )


def test_claim_2_counts_errors_of_the_body_to_pose_and_shape(surreal: AgainstILT) -> None:
    found = claim(surreal, 2)
    assert found.verdict == "yes"
    # Table 4: MPJPE 172.025 to 56.82.
    assert any("(67.0 %) on MPJPE of vertices" in sentence for sentence in found.evidence)


def test_claim_2_cannot_be_told_from_one_metric_alone(repeated: Path) -> None:
    assert claim(against(repeated, "streets", metrics=["miou"]), 2).verdict == "cannot tell"


def test_claim_3_counts_how_often_ilt_is_below_the_median(
    streets: AgainstILT, tmp_path: Path
) -> None:
    found = claim(streets, 3)
    # By hand from Tables 2, 5 and 6: not below the others' median in mIoU on clean labels only.
    assert "below in 8 of 9, lowest in 5; paper: below in 8 of 9, lowest in 5" in found.evidence[0]
    for seed in range(3):
        for strategy, spread in (("equal", 0.1), ("mtu", 0.1), ("ilt", 1.0)):
            write_run(tmp_path, metric(50 + spread * seed), strategy=strategy, seed=seed)
    assert claim(against(tmp_path, "streets"), 3).verdict == "no"


def test_claim_3_needs_more_than_one_seed(tmp_path: Path) -> None:
    for strategy in OWN:
        write_run(tmp_path, metric(50.0), strategy=strategy)
    assert claim(against(tmp_path, "streets"), 3).verdict == "cannot tell"


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([60.0, 97.0, 97.0, 98.0, 98.0, 98.0], "yes"),
        ([40.0, 60.0, 97.0, 98.0, 98.0, 98.0], "no"),  # too late
        ([80.0, 90.0, 90.0, 90.0, 90.0, 90.0], "no"),  # too few
        ([98.0], "cannot tell"),
        ([], "cannot tell"),
    ],
)
def test_claim_4_reads_the_first_third_of_the_histories(
    tmp_path: Path, found: list[float], verdict: str
) -> None:
    repeat(tmp_path, "streets", variants=["depth@0.4"], found=found)
    four = claim(against(tmp_path, "streets"), 4)
    assert four.verdict == verdict
    if verdict != "cannot tell":
        assert f"{found[1]:.1f} % by epoch 2 of 6, {found[-1]:.1f} % at the end" in four.evidence[0]
        assert "(paper: 100.00 %)" in four.evidence[0]


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((0.95, 1.0, 1.02), "yes"),
        ((1.2, 1.3, 1.4), "no"),
        ((0.5, 1.2, 1.4), "cannot tell"),  # slower in most pairs, but the noise is larger
        ((1.2, 1.3), "cannot tell"),
    ],
)
def test_claim_5_compares_the_time_of_pairs(
    tmp_path: Path, ratios: tuple[float, ...], verdict: str
) -> None:
    for seed, ratio in enumerate(ratios):
        for strategy, seconds in (("equal", 10.0 + seed), ("ilt", ratio * (10 + seed))):
            path = write_run(tmp_path, metric(50.0), strategy=strategy, seed=seed) / "run.json"
            info = json.loads(path.read_text())
            info["timings"]["train_seconds"] = seconds
            path.write_bytes(sealed(info))
    found = claim(against(tmp_path, "streets"), 5)
    assert found.verdict == verdict
    if len(ratios) > 2:
        assert f"median {sorted(ratios)[1]:.2f}" in found.evidence[0]


def test_claims_without_runs_cannot_be_told(tmp_path: Path) -> None:
    write_run(
        tmp_path, metric(98.0, "detection_accuracy", "depth"), variant="depth@0.2", strategy="ilt"
    )
    found = against(tmp_path, "streets")
    assert [one.verdict for one in found.claims] == ["cannot tell"] * 5
    assert row(found, "depth@0.2", "ilt", "detection_accuracy", "depth")["paper_mean"] == 100


# --- printed ------------------------------------------------------------------------------------


def test_a_terminal_of_100_columns_shows_it_all(either: AgainstILT) -> None:
    text = render_against(either, "table")
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert "\x1b[1m" in render_against(either, "table", terminal=True)


@pytest.mark.parametrize("format", ["table", "github", "latex", "html", "json"])
def test_every_format_for_people_has_every_verdict(streets: AgainstILT, format: str) -> None:
    text = " ".join(html.unescape(render_against(streets, format)).split())
    for one in streets.claims:
        assert one.sentence in text
    claims = text.partition(streets.claims[0].sentence)[2]
    assert len(re.findall(r"\b(?:yes|no|cannot tell)\b", claims)) >= 5


def test_an_unknown_format_is_an_error(streets: AgainstILT) -> None:
    with pytest.raises(UserError, match="unknown format 'tabel'; did you mean 'table'"):
        render_against(streets, "tabel")


def test_csv_goes_on_where_the_columns_of_a_comparison_end(streets: AgainstILT) -> None:
    rows = list(csv.reader(io.StringIO(render_against(streets, "csv"))))
    assert rows[0] == [
        *SUMMARY_COLUMNS, "paper_mean", "paper_std", "paper_runs", "paper_table",
        "gap", "paper_gap", "same_sign", "difference", "z",
    ]  # fmt: skip
    assert len(rows) == 1 + len(streets.rows)
    ilt = next(r for r in rows if r[1:4] == ["depth@0.4", "ilt", "abs_err"])
    assert (ilt[10:14]) == ["0.0223", "0.0004", "3", "5"]


def test_json_has_rows_agreement_and_claims(streets: AgainstILT) -> None:
    data = json.loads(render_against(streets, "json"))
    assert (data["suite"], data["dataset"], data["stands_in"]) == ("streets", "cityscapes", True)
    assert data["rows"][0]["paper_mean"] == 63.73
    assert data["rows"][0]["z"] is None
    assert data["agreement"][0]["tau"] == pytest.approx(1)
    assert [one["verdict"] for one in data["claims"][:3]] == ["yes"] * 3


def test_markdown_rows_have_as_many_cells_as_their_header(surreal: AgainstILT) -> None:
    text = render_against(surreal, "github")
    tables = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 5 + 1
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_latex_rows_have_as_many_cells_as_columns(surreal: AgainstILT) -> None:
    text = render_against(surreal, "latex")
    tables = re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(tables) == 5 + 1
    for columns, body in tables:
        for line in (line for line in body.splitlines() if line.endswith(r"\\")):
            spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert line.count("&") + sum(spans) + 1 == len(columns)
    assert not re.search(r"(?<!\\)[%_#]", text.replace("% needs", "needs"))
    assert text.isascii()


def test_html_is_balanced(streets: AgainstILT) -> None:
    class Balance(HTMLParser):
        open: list[str] = []  # noqa: RUF012 (one parser a test)

        def handle_starttag(self, tag: str, attributes: Any) -> None:
            if tag != "br":
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(render_against(streets, "html"))
    assert parser.open == []


# --- the data -----------------------------------------------------------------------------------


def test_the_published_tables_are_whole_and_come_with_the_package() -> None:
    table = published()
    assert sorted(table["table"].unique()) == [1, 2, 3, 4, 5, 6, 7]
    own = table[table["method"].isin(OWN) & (table["metric"] != "detection_accuracy")]
    assert len(own) == 6 * 3 * 5, "six tables of three metrics and five methods"
    assert (own["runs"] == 3).all()
    keys = ["dataset", "variant", "method", "metric"]
    assert not table.duplicated(keys).any()
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert data["package-data"]["mtlbench.analysis.published.ilt"] == ["tables.csv"]
    assert (ROOT / "mtlbench" / "analysis" / "published" / "ilt" / "tables.csv").is_file()


def test_the_reference_results_of_streets_can_be_held_against_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # in which there are no runs
    comparison = compare(suite="streets", reference=True)
    found = against_ilt(comparison)
    keys = ["variant", "strategy", "metric", "task"]
    ours = found.rows[found.rows["n"] > 0].set_index(keys)["mean"]
    assert ours.to_dict() == comparison.summary.set_index(keys)["mean"].loc[ours.index].to_dict()
    assert all(one.verdict != "cannot tell" for one in found.claims[:3])
    assert {one.verdict for one in found.claims[3:]} == {"cannot tell"}, "they need histories"
    assert max(map(len, render_against(found, "table").splitlines())) <= 100
