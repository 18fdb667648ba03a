"""Tables of suites with many tasks."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import write_run

from mtlbench.analysis.aggregate import compare
from mtlbench.analysis.many_tasks import MOST_COLUMNS, condensed
from mtlbench.analysis.tables import build, render

TASKS = [
    {"name": f"t{k}", "kind": "regression", "classes": [], "palette": None, "unit": ""}
    for k in range(20)
]


def value(task: int, metric: str, number: float | None, unit: str = "%") -> dict[str, Any]:
    return {
        "metric": metric, "label": metric.upper(), "task": f"t{task}", "unit": unit,
        "direction": "max", "value": number,
    }  # fmt: skip


def study(root: Path, count: int, variant: str = "clean", **options: Any) -> None:
    for place, strategy in enumerate(("equal", "mtu")):
        for seed in range(2):
            numbers = [
                value(k, metric, 10.0 * k + seed + 2 * place + offset, **options)
                for k in range(count)
                for metric, offset in (("auc", 0), ("ap", 1))
            ]
            write_run(
                root, *numbers, strategy=strategy, seed=seed, suite="many", variant=variant,
                tasks=TASKS[:count],
            )  # fmt: skip


def test_few_tasks_have_a_column_each(tmp_path: Path) -> None:
    study(tmp_path, MOST_COLUMNS // 2)
    comparison = compare(tmp_path, "many")
    assert condensed(comparison, "clean") == (comparison, [])


def test_of_many_tasks_a_printed_table_has_the_mean_over_them_run_by_run(tmp_path: Path) -> None:
    study(tmp_path, 10)
    smaller, told = condensed(compare(tmp_path, "many"), "clean")
    assert told
    summary = smaller.summary.set_index(["strategy", "metric"])
    assert set(smaller.summary["task"]) == {"mean of 10 tasks"}
    # Of task k with seed s: 10 k + s, and so 45 + s on average.
    assert summary.loc[("equal", "auc"), "mean"] == 45.5
    assert summary.loc[("equal", "auc"), "std"] == pytest.approx(np.std([45, 46], ddof=1))
    assert summary.loc[("mtu", "ap"), "mean"] == 48.5
    text = render(compare(tmp_path, "many"))
    assert "mean of 10 tasks" in text
    assert "CSV and JSON have each task" in " ".join(text.split())


def test_data_and_the_page_have_every_task(tmp_path: Path) -> None:
    study(tmp_path, 10)
    comparison = compare(tmp_path, "many")
    assert len(json.loads(render(comparison, "json"))) == 2 * 20
    assert len(build(comparison)[0].columns) == 20


def test_a_task_whose_labels_are_corrupted_keeps_its_columns(tmp_path: Path) -> None:
    study(tmp_path, 10, variant="t3@0.4")
    smaller, _ = condensed(compare(tmp_path, "many"), "t3@0.4")
    assert set(smaller.summary["task"]) == {"mean of 10 tasks", "t3"}
    assert set(smaller.summary["metric"]) == {"auc", "ap"}


def test_tasks_in_units_of_their_own_keep_their_first_metric(tmp_path: Path) -> None:
    for strategy in ("equal", "mtu"):
        numbers = [
            value(k, metric, 1.0, unit=f"u{k}") for k in range(20) for metric in ("mae", "rmse")
        ]
        write_run(tmp_path, *numbers, strategy=strategy, suite="many", tasks=TASKS)
    smaller, told = condensed(compare(tmp_path, "many"), "clean")
    assert list(smaller.summary["metric"].unique()) == ["mae"]
    assert len(smaller.summary) == 2 * 20
    assert told == ["the first metric of each task; CSV and JSON have the others"]


def test_a_task_without_a_number_leaves_no_mean(tmp_path: Path) -> None:
    for strategy in ("equal", "mtu"):
        numbers = [
            value(k, "auc", None if k == 3 and strategy == "mtu" else 1.0) for k in range(20)
        ]
        write_run(tmp_path, *numbers, strategy=strategy, suite="many", tasks=TASKS)
    smaller, _ = condensed(compare(tmp_path, "many"), "clean")
    means = smaller.summary.set_index("strategy")["mean"]
    assert means["equal"] == 1
    assert math.isnan(means["mtu"])


def test_the_wide_table_ranks_by_all_metrics(tmp_path: Path) -> None:
    study(tmp_path, 10)
    text = render(compare(tmp_path, "many"), wide=True)
    assert "MR" in text
    assert "Δm" in text


def test_detection_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    for strategy in ("equal", "ilt"):
        numbers = [value(k, "auc", 50.0) for k in range(20)]
        if strategy == "ilt":
            numbers.append(value(3, "detection_accuracy", 80.0))
        write_run(
            tmp_path, *numbers, strategy=strategy, suite="many", tasks=TASKS, variant="t3@0.4"
        )
    assert "DETECTION_ACCURACY" in render(compare(tmp_path, "many"))
    assert "DETECTION_ACCURACY" not in render(compare(tmp_path, "many", metrics=["auc"]))
