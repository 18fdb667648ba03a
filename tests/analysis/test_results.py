"""Several places read as one: each run once, by a rule; the reference results beside own runs."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import CHECKOUT, here, reference_defaults
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import metric, study, write_run

from mtlbench.analysis import reference
from mtlbench.analysis.aggregate import compare
from mtlbench.analysis.figures.runs import draw_figures
from mtlbench.analysis.leaderboard import leaderboard
from mtlbench.analysis.reference import reference_runs
from mtlbench.analysis.report import render_report
from mtlbench.analysis.results import load_copies, load_results
from mtlbench.errors import UserError
from mtlbench.spec import RunSpec
from mtlbench.store.runs import RUN_FILE, RunRecord, Store
from mtlbench.store.table import write_table

STATUS = {"done": 0, "diverged": 0, "failed": 1}


def values(results: pd.DataFrame) -> list[float]:
    return sorted(results["value"])


def reference_alone() -> pd.DataFrame:
    return load_results((), reference=True)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in which there are no runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- several directories ------------------------------------------------------------------------


def test_runs_of_several_directories_are_one_study(tmp_path: Path) -> None:
    write_run(tmp_path / "a", metric(10.0), seed=0)
    write_run(tmp_path / "b", metric(20.0), seed=1)
    summary = compare([tmp_path / "a", tmp_path / "b"], "streets").summary
    assert (list(summary["mean"]), list(summary["n"])) == ([15.0], [2])


@given(st.lists(st.sampled_from(sorted(STATUS)), min_size=1, max_size=4))
def test_of_copies_one_that_failed_gives_way_and_then_the_first_named_counts(
    statuses: list[str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        roots = [Path(folder) / str(i) for i in range(len(statuses))]
        for i, (root, status) in enumerate(zip(roots, statuses, strict=True)):
            write_run(root, metric(float(i)), status=status)
        copies = load_copies(roots)
    best = min(range(len(statuses)), key=lambda i: (STATUS[statuses[i]], i))
    assert list(copies.counted["value"]) == [best]
    assert values(copies.others) == [i for i in range(len(statuses)) if i != best]


def test_a_directory_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    write_run(tmp_path / "a", metric(1.0))
    (tmp_path / "link").symlink_to("a")
    copies = load_copies([tmp_path / "a", tmp_path / "link"])
    assert len(copies.counted) == 1
    assert copies.others.empty
    assert copies.counted.attrs["damaged"] == []


def test_damaged_runs_of_every_directory_are_named(tmp_path: Path) -> None:
    broken = []
    for name in ("a", "b"):
        write_run(tmp_path / name, metric(1.0), seed=0)
        broken.append(write_run(tmp_path / name, metric(1.0), seed=1))
        (broken[-1] / RUN_FILE).write_text("{")
    results = load_results([tmp_path / "a", tmp_path / "b"])
    assert [path for path, _ in results.attrs["damaged"]] == [str(path) for path in broken]
    assert len(results) == 1


def test_a_damaged_copy_does_not_stand_in_the_way_of_a_whole_one(tmp_path: Path) -> None:
    broken = write_run(tmp_path / "a", metric(1.0))
    (broken / RUN_FILE).write_text("{")
    write_run(tmp_path / "b", metric(2.0))
    assert values(load_results([tmp_path / "a", tmp_path / "b"])) == [2.0]


def test_settings_are_told_apart_over_all_directories(tmp_path: Path) -> None:
    for name, epochs in (("a", 1), ("b", 2)):
        write_run(tmp_path / name, metric(1.0), suite_parameters={"epochs": epochs})
    results = load_results([tmp_path / "a", tmp_path / "b"])
    assert list(results["settings"]) == ["epochs=1", "epochs=2"]


def test_names_may_be_any_iterable_and_one_may_be_given_by_itself(tmp_path: Path) -> None:
    for strategy in ("equal", "mtu"):
        write_run(tmp_path, metric(1.0), strategy=strategy)
    assert len(compare(iter([tmp_path]), "streets").runs) == 2
    narrowed = compare(tmp_path, "streets", "clean", "mtu", metrics=iter(["miou"]))
    assert set(narrowed.summary["strategy"]) == {"mtu"}
    board = leaderboard(tmp_path, suites="streets", strategies=(name for name in ["mtu"]))
    assert set(board.table["strategy"]) == {"equal", "mtu"}
    assert "streets" in render_report(tmp_path, suites="streets")


@pytest.mark.parametrize("what", ["variants", "strategies", "metrics"])
@pytest.mark.parametrize("names", [[], (), iter(()), [None], 3])
def test_no_names_at_all_are_refused(what: str, names: Any, tmp_path: Path) -> None:
    write_run(tmp_path, metric(1.0))
    with pytest.raises(UserError):
        compare(tmp_path, "streets", **{what: names})


def test_where_no_run_can_be_read_the_first_is_named(tmp_path: Path) -> None:
    broken = write_run(tmp_path, metric(1.0))
    (broken / RUN_FILE).write_text("{")
    with pytest.raises(UserError, match=f"1 cannot be read: {broken}: run.json is truncated"):
        compare(tmp_path, "streets")


def test_a_run_with_an_altered_file_is_in_no_figure_and_in_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study(tmp_path / "runs", variants=["clean"], strategies=["equal", "mtu"], seeds=2)
    altered = sorted((tmp_path / "runs").rglob("history.parquet"))[0]
    altered.write_bytes(bytes(altered.stat().st_size))
    assert draw_figures(tmp_path / "runs", "streets", tmp_path / "figures")
    page = render_report(tmp_path / "runs")
    assert "history.parquet was altered" in page
    command = f"compare streets --results {tmp_path}/runs --figures {tmp_path}/figures"
    ended = here(command.split(), capsys)
    assert f"{altered.parent} is left out: history.parquet was altered" in ended.err


def test_one_directory_of_several_that_is_missing_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", metric(1.0))
    with pytest.raises(UserError, match=r"^no results directory at '.*nowhere'$"):
        load_results([tmp_path / "a", tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"^no results directory given$"):
        load_results(())


def test_a_suite_that_no_place_has_is_said_with_all_their_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, metric(1.0))
    with pytest.raises(UserError) as error:
        compare([tmp_path / "a", tmp_path / "b"], "letters", reference=True)
    assert str(error.value) == (
        f"no runs of suite 'letters' in '{tmp_path / 'a'}', '{tmp_path / 'b'}' and the reference "
        "results; it holds runs of 'bodies', 'census', 'compounds', 'digits', 'qm9', 'streets', "
        "'yeast'"
    )


@pytest.mark.parametrize("verb", ["compare streets", "leaderboard"])
def test_the_command_line_takes_several_directories(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("a", "b")):
        for strategy in ("equal", "mtu"):
            write_run(tmp_path / name, metric(10.0 + i), seed=i, strategy=strategy)
    command = [*verb.split(), "--format", "csv", "--results", "a", "--results", "b"]
    both = here(command, capsys)
    shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    assert both == here(command[:-2], capsys)
    assert both.status == 0


def test_a_report_is_made_of_several_directories(tmp_path: Path) -> None:
    for i, name in enumerate(("a", "b")):
        write_run(tmp_path / name, metric(10.0 + i), seed=i)
    broken = write_run(tmp_path / "b", metric(1.0), seed=2)
    (broken / RUN_FILE).write_text("{")
    page = render_report([tmp_path / "a", tmp_path / "b"])
    assert "10.50 ± 0.71" in page
    assert f"--results {tmp_path / 'a'} --results {tmp_path / 'b'} --out" in page
    assert f">{broken.relative_to(tmp_path / 'b')}<" in page


# --- the reference ------------------------------------------------------------------------------


def test_the_reference_needs_no_results_directory(empty: Path) -> None:
    pd.testing.assert_frame_equal(load_results(reference=True), reference_alone())
    assert not list(empty.iterdir())


def test_without_the_reference_the_default_directory_must_be_there(empty: Path) -> None:
    with pytest.raises(UserError, match=r"^no results directory at 'runs'$"):
        load_results()


def test_a_directory_that_is_named_must_be_there_even_beside_the_reference(empty: Path) -> None:
    with pytest.raises(UserError, match=r"^no results directory at 'rnus'$"):
        load_results("rnus", reference=True)


def test_own_runs_in_the_default_directory_stand_beside_the_reference(empty: Path) -> None:
    write_run(empty / "runs", metric(1.0, "accuracy", "left"), suite="digits", strategy="mine")
    results = load_results(reference=True)
    own = results[results["path"] != ""]
    assert list(own["strategy"]) == ["mine"]
    assert len(results) == len(own) + len(reference_alone())


def reference_info(suite: str, strategy: str) -> dict[str, Any]:
    return next(
        info
        for info in reference_defaults()
        if (info["spec"]["suite"], info["spec"]["strategy"]) == (suite, strategy)
    )


def own_run(root: Path, info: dict[str, Any], **changes: Any) -> None:
    """An own run as that of the reference results, with other parameters of the suite."""
    parameters = {**info["spec"]["suite_parameters"], **changes}
    spec = {**info["spec"], "suite_parameters": parameters}
    record = {**info, "tasks": [], "spec": spec, "hash": RunSpec(**spec).hash}
    Store(root).write(RunRecord(record, {"epoch": []}))


def test_an_own_run_with_other_parameters_is_marked_and_not_the_reference_beside_it(
    tmp_path: Path,
) -> None:
    own_run(tmp_path, reference_info("digits", "equal"), epochs=3)
    results = load_results(tmp_path, reference=True)
    own, on_digits = results["path"] != "", results["suite"] == "digits"
    assert set(results.loc[own, "settings"]) == {"epochs=3"}
    best = "epoch_rule=best"
    theirs = set(results.loc[on_digits & ~own, "settings"])
    assert theirs <= {"", "tuned", best, f"{best}, tuned"}
    assert leaderboard(results).baseline == "equal"


def test_an_own_run_with_the_parameters_of_the_reference_joins_it(tmp_path: Path) -> None:
    info = reference_info("digits", "equal")
    own_run(tmp_path, info, epochs=3)
    Store(tmp_path).write(
        RunRecord(
            {**info, "tasks": [], "hash": "0" * 12, "spec": {**info["spec"], "seed": 99}},
            {"epoch": []},
        )
    )
    results = load_results(tmp_path, reference=True)
    own = results[results["path"] != ""].drop_duplicates("hash")
    assert dict(zip(own["seed"], own["settings"], strict=True)) == {
        info["spec"]["seed"]: "epochs=3",
        99: "",
    }


def test_an_own_run_that_lacks_a_parameter_of_the_reference_does_not_join_it(
    tmp_path: Path,
) -> None:
    info = reference_info("digits", "ilt")
    parameters = {**info["spec"]["strategy_parameters"]}
    missing, _ = parameters.popitem()
    spec = {**info["spec"], "strategy_parameters": parameters}
    Store(tmp_path).write(
        RunRecord({**info, "tasks": [], "hash": "0" * 12, "spec": spec}, {"epoch": []})
    )
    results = load_results(tmp_path, reference=True)
    assert set(results.loc[results["path"] != "", "settings"]) == {f"no {missing}"}


@pytest.mark.parametrize("status", ["done", "diverged", "failed"])
def test_an_own_run_counts_in_place_of_the_same_reference_run(status: str, tmp_path: Path) -> None:
    info = reference_runs()[0]
    path = Store(tmp_path).write(
        RunRecord({**info, "tasks": [], "status": status, "metrics": []}, {"epoch": []})
    )
    copies = load_copies(tmp_path, reference=True)
    same = copies.counted[copies.counted["hash"] == info["hash"]]
    assert list(same["path"]) == [str(path)]
    assert list(same["status"]) == [status]
    assert set(copies.others["hash"]) == {info["hash"]}
    assert copies.counted["hash"].nunique() == len(reference_runs())


def test_the_table_gives_what_the_run_directories_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same frame, and so the same tables, to the last bit."""
    for seed in range(2):
        write_run(tmp_path / "a", metric(0.1 + 0.2 * seed), seed=seed, strategy="ilt")
        write_run(tmp_path / "a", metric(None), metric(1 / 3, "accuracy"), seed=seed)
    write_run(tmp_path / "a", status="failed", strategy="mtu", strategy_parameters={"mtu.x": 1.0})
    write_run(tmp_path / "a", metric(1.0), strategy="mtu", strategy_parameters={"mtu.x": 2.0})
    stored, _ = Store(tmp_path / "a").load()
    write_table([run.info for run in stored], tmp_path / "table.parquet")
    monkeypatch.setattr(reference, "TABLE", tmp_path / "table.parquet")
    of_runs, of_table = load_results(tmp_path / "a"), reference_alone()
    pd.testing.assert_frame_equal(of_runs.drop(columns="path"), of_table.drop(columns="path"))
    assert (of_table["path"] == "").all()


def own_strategy(root: Path, gain: float = 1.0) -> None:
    """Runs of a strategy of one's own on digits: those of equal weights, better or worse."""
    for info in reference_defaults():
        spec = info["spec"]
        if (spec["suite"], spec["strategy"]) != ("digits", "equal"):
            continue
        metrics = [
            {**m, "value": m["value"] * (1 + gain / 100 * (1 if m["direction"] == "max" else -1))}
            for m in info["metrics"]
        ]
        mine = {**spec, "strategy": "mine", "sources": {"mine.py": "ab12"}}
        changed = {"spec": mine, "hash": info["hash"][::-1], "label": "Mine", "tasks": []}
        Store(root).write(RunRecord({**info, **changed, "metrics": metrics}, {"epoch": []}))


def test_a_strategy_of_ones_own_is_ranked_among_the_reference_without_training_any(
    tmp_path: Path,
) -> None:
    own_strategy(tmp_path)
    table = leaderboard(tmp_path, reference=True, suites=["digits"]).table
    table = table[table["scope"] == "all"].set_index("strategy")
    assert table["complete"].all()
    assert table.loc["mine", "delta_m"] == pytest.approx(1)
    alone = leaderboard((), reference=True, suites=["digits"]).table
    alone = alone[alone["scope"] == "all"].set_index("strategy")["delta_m"]
    assert len(table) == len(alone) + 1
    others = table["delta_m"].drop("mine").sort_index()
    pd.testing.assert_series_equal(others, alone.sort_index())


def test_own_figures_are_drawn_and_those_of_the_reference_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_strategy(tmp_path / "runs")
    command = ["compare", "digits", "--reference", "--strategies", "mine,equal"]
    command += ["--results", str(tmp_path / "runs"), "--figures", str(tmp_path / "figures")]
    ended = here(command, capsys)
    assert ended.status == 0, ended.err


def test_rows_have_the_reference_from_where_they_were_loaded() -> None:
    with pytest.raises(UserError, match="from load_results"):
        leaderboard(reference_alone(), reference=True)


def test_a_leaderboard_of_the_reference_loads_nothing_that_takes_long(
    tmp_path: Path,
) -> None:
    code = (
        "import sys\nfrom mtlbench.cli.main import main\n"
        "try:\n    main(['leaderboard', '--reference'])\n"
        "finally:\n"
        "    loaded = {'torch', 'ray', 'torchjd', 'torchmetrics', 'scipy.stats', 'matplotlib'}\n"
        "    print(sorted(loaded & set(sys.modules)), file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0
    assert ended.stderr == "[]\n"
    assert " complete" in ended.stdout
