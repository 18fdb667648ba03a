"""Figures get drawn where they apply, and the same runs give the same files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import digits_run, instance_arrays, metric, study, write_run

from mtlbench.analysis.figures import draw_figures
from mtlbench.analysis.figures.curves import detection
from mtlbench.analysis.figures.labels import labels_figure
from mtlbench.analysis.figures.sigma import _some_epochs, _typical, sigma_boxplots
from mtlbench.analysis.figures.style import PAPER_LINES, Configuration
from mtlbench.errors import UserError
from mtlbench.store.runs import read_run


def names(files: list[Path]) -> set[str]:
    assert all(file.stat().st_size > 1000 for file in files)
    return {file.name for file in files}


def both(*stems: str) -> set[str]:
    return {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    study(root, strategies=("equal", "ilt"), seeds=2, epochs=3, instances=60)
    digits_run(root, epochs=3, instances=60)
    return root


def test_a_corrupted_variant_gets_every_figure(results: Path, tmp_path: Path) -> None:
    files = draw_figures(results, "streets", tmp_path / "new", variants=["depth@0.4"])
    assert names(files) == both(
        "streets_depth-0.4_validation_curves",
        "streets_depth-0.4_detection",
        "streets_depth-0.4_labels_depth",
        "streets_depth-0.4_ilt_sigma_boxplots",
        "streets_depth-0.4_ilt_sigma_trajectories",
    )


def test_the_clean_variant_gets_only_curves(results: Path, tmp_path: Path) -> None:
    files = draw_figures(results, "streets", tmp_path, variants=["clean"])
    assert names(files) == both("streets_clean_validation_curves")


def test_strategies_without_instance_parameters_get_curves_and_labels(
    results: Path, tmp_path: Path
) -> None:
    files = draw_figures(results, "streets", tmp_path, ["depth@0.4"], ["equal"])
    assert names(files) == both(
        "streets_depth-0.4_validation_curves", "streets_depth-0.4_labels_depth"
    )


def test_class_labels_are_drawn_too(results: Path, tmp_path: Path) -> None:
    files = draw_figures(results, "digits", tmp_path)
    assert "digits_left-0.4_labels_left.svg" in names(files)
    svg = (tmp_path / "digits_left-0.4_labels_left.svg").read_text()
    assert "clean: " in svg, "text stays text"


def test_tasks_corrupted_together_have_a_line_of_detection_of_their_own(tmp_path: Path) -> None:
    names = ("pose", "shape", "pose+shape")
    history = {f"detection_accuracy/{name}": [50.0, 90.0] for name in names}
    path = write_run(
        tmp_path,
        strategy="ilt",
        corrupted={"pose": 0.4, "shape": 0.4},
        history={"epoch": [1, 2], **history},
    )
    figure = detection([Configuration("ilt", "ILT", PAPER_LINES["ilt"], [read_run(path)])])
    assert figure is not None
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["ILT, pose", "ILT, shape", "ILT, pose+shape"]
    *lines, chance = figure.axes[0].lines
    assert len({str(line.get_linestyle()) for line in lines}) == 3
    assert list(chance.get_ydata()) == [40, 40]


def test_label_maps_of_more_than_ten_classes_have_no_legend() -> None:
    inputs, clean = np.zeros((3, 3, 8, 8)), np.arange(3 * 64).reshape(3, 8, 8)
    task = {"name": "parts", "unit": "", "classes": [], "palette": None}
    few, many = (labels_figure(task, inputs, clean % n, (clean + 1) % n) for n in (10, 11))
    assert len(few.legends[0].get_texts()) == 10
    assert not many.legends


def test_labels_of_inputs_that_are_no_pictures_are_not_drawn(tmp_path: Path) -> None:
    labels = {
        "corrupted": np.ones((4, 2), dtype=bool),
        "example_index": np.arange(4),
        "example_input": np.zeros((4, 50), np.float32),
        "clean/depth": np.zeros(4),
        "given/depth": np.ones(4),
    }
    write_run(tmp_path / "runs", metric(1.0), variant="depth@0.4", labels=labels)
    assert draw_figures(tmp_path / "runs", "streets", tmp_path / "out") == []


def test_the_same_runs_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    for out in ("a", "b"):
        draw_figures(results, "streets", tmp_path / out, ["clean"])
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_runs_that_failed_or_recorded_nothing_are_skipped(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", status="failed")
    write_run(tmp_path / "runs", metric(1.0), strategy="mtu")
    assert draw_figures(tmp_path / "runs", "streets", tmp_path / "out") == []


def test_an_unknown_suite_is_an_error_and_writes_nothing(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs of suite 'bodies'"):
        draw_figures(results, "bodies", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_epoch_of_three_tasks_can_be_drawn() -> None:
    corrupted = np.zeros((50, 3), dtype=bool)
    corrupted[:20, 1:] = True
    sigma = np.exp(instance_arrays(corrupted, epochs=1)["log_variance"].astype(float) / 2)
    figure = sigma_boxplots(sigma, corrupted, ["segmentation", "shape", "pose"])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["shape (corrupted)", "pose (corrupted)", "segmentation (not corrupted)"]


@pytest.mark.parametrize(("count", "expected"), [(1, [1]), (5, [1, 2, 3, 4, 5]), (30, 10)])
def test_many_epochs_are_thinned_and_the_last_is_kept(
    count: int, expected: list[int] | int
) -> None:
    epochs = _some_epochs(count, at_most=12)
    assert epochs[-1] == count
    assert epochs == expected or len(epochs) == expected


def test_typical_instances_are_quantiles_of_their_group() -> None:
    values = np.arange(100.0)[::-1]
    assert _typical(values, np.arange(0, 100, 10)) == [80, 50, 10]
    assert _typical(values, np.array([7])) == [7]
    assert _typical(values, np.array([], dtype=int)) == []


def test_tables_need_no_plotting_and_nothing_here_needs_the_trainer() -> None:
    code = (
        "import sys, mtlbench.analysis.tables, mtlbench.analysis.levels;"
        "assert 'matplotlib' not in sys.modules;"
        "import mtlbench.analysis.figures; assert 'matplotlib.pyplot' not in sys.modules;"
        "assert not {'torch', 'ray', 'mtlbench.trainer'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
