"""Curves over epochs of suites with many tasks: in figures and in the report."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_runs import write_run

from mtlbench.analysis.figures.curves import validation_curves
from mtlbench.analysis.figures.many import curves
from mtlbench.analysis.figures.style import PAPER_LINES, Configuration
from mtlbench.analysis.many_tasks import MOST_COLUMNS
from mtlbench.analysis.report import write_report
from mtlbench.store.runs import read_run


def kinds(tasks: int, metrics: tuple[str, ...] = ("f1", "acc")) -> dict[str, tuple[str, ...]]:
    return {f"validation/t{k}/{m}": (m, "%", "max") for k in range(tasks) for m in metrics}


def test_few_metrics_have_a_curve_each() -> None:
    few = kinds(MOST_COLUMNS // 2)
    assert [curve.columns for curve in curves(few, ["t1"])] == [[name] for name in few]


def test_of_many_tasks_there_are_means_and_the_corrupted_ones() -> None:
    drawn = curves(kinds(40), ["t7"])
    assert [curve.task for curve in drawn] == ["mean of 40 tasks"] * 2 + ["t7"] * 2
    assert drawn[1].columns == [f"validation/t{k}/acc" for k in range(40)]
    assert drawn[3].columns == ["validation/t7/acc"]


def test_tasks_of_other_units_have_their_first_metric() -> None:
    alone = {
        f"validation/{task}/{metric}": (metric, unit, "min")
        for task, unit in (("dipole", "D"), ("heat", "J"))
        for metric in ("mae", "rmse")
    }
    drawn = curves({**kinds(20), **alone}, [])
    assert [(curve.task, len(curve.columns)) for curve in drawn] == [
        ("mean of 20 tasks", 20), ("mean of 20 tasks", 20), ("dipole", 1), ("heat", 1),
    ]  # fmt: skip
    assert [curve.column for curve in drawn[2:]] == ["validation/dipole/mae", "validation/heat/mae"]


def test_there_are_never_more_than_fit() -> None:
    different = {f"validation/t{k}/mae": ("mae", f"unit{k}", "min") for k in range(90)}
    assert len(curves(different, [f"t{k}" for k in range(50)])) == MOST_COLUMNS


def study(root: Path, tasks: int = 20) -> list[Path]:
    """Two seeds; after epoch e, task k has (k + e + seed) % in all metrics."""
    about: list[dict[str, Any]] = [
        {"name": f"t{k}", "kind": "regression", "classes": [], "palette": None, "unit": ""}
        for k in range(tasks)
    ]
    found = []
    for seed in range(2):
        history = {"epoch": [1, 2]}
        for name in kinds(tasks):
            k = int(name.split("/")[1][1:])
            history[name] = [k + 1.0 + seed, k + 2.0 + seed]
        numbers = [
            {
                "metric": metric, "label": metric.upper(), "task": f"t{k}", "unit": "%",
                "direction": "max", "value": k + 2.0 + seed,
            }
            for k in range(tasks) for metric in ("f1", "acc")
        ]  # fmt: skip
        found.append(
            write_run(root, *numbers, suite="many", seed=seed, tasks=about, history=history)
        )
    return found


def test_a_panel_of_many_tasks_has_their_mean_run_by_run(tmp_path: Path) -> None:
    runs = [read_run(run) for run in study(tmp_path)]
    figure = validation_curves([Configuration("equal", "", PAPER_LINES["equal"], runs)])
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == ["mean of 20 tasks"] * 2
    assert figure.axes[0].get_ylabel() == "F1 (%) ↑"
    # Tasks 0 to 19 have 9.5 on average, seeds 0.5.
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [11, 12])
    edge = figure.axes[0].collections[0].get_paths()[0].vertices
    np.testing.assert_allclose([edge[:, 1].min(), edge[:, 1].max()], [10.5, 12.5])


def test_the_report_has_means_at_once_and_each_task_when_asked_for(tmp_path: Path) -> None:
    study(tmp_path)
    page = write_report(tmp_path, tmp_path / "report.html").read_text()
    before, hidden = page.split("<summary>Each task</summary>")
    hidden = hidden.partition("</details>")[0]
    titles = [re.findall(r'aria-label="(.*?)[:,] ', part) for part in (before, hidden)]
    assert [title for title in titles[0] if "of 20 tasks" in title] == [
        "mean of 20 tasks F1 (%) ↑", "mean of 20 tasks ACC (%) ↑",
        "mean of 20 tasks F1 (%) ↑", "mean of 20 tasks ACC (%) ↑",
    ]  # fmt: skip
    assert not [title for title in titles[0] if re.match(r"t\d", title)]
    assert len([title for title in titles[1] if re.match(r"t\d", title)]) == 2 * 40


def test_the_report_of_few_tasks_hides_nothing(tmp_path: Path) -> None:
    study(tmp_path, 4)
    assert "<summary>Each task" not in write_report(tmp_path, tmp_path / "r.html").read_text()
