"""Figures get drawn where they apply, and the same runs give the same files."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from synthetic_runs import abs_err, digits_run, instance_arrays, metric, study, write_run

from mtlbench.analysis.figures.curves import detection, validation_curves
from mtlbench.analysis.figures.labels import labels_figure
from mtlbench.analysis.figures.panels import CROWD
from mtlbench.analysis.figures.runs import draw_figures
from mtlbench.analysis.figures.sigma import (
    _some_epochs,
    _typical,
    sigma_boxplots,
    sigma_trajectories,
)
from mtlbench.analysis.figures.style import (
    CLEAN,
    CORRUPTED,
    DOUBLE,
    PAPER_LINES,
    Configuration,
    lines,
    save_figures,
)
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
    *found, chance = figure.axes[0].lines
    assert [list(line.get_ydata()) for line in found] == [[50, 90]] * 3
    assert list(chance.get_ydata()) == [40, 40]
    draw_figures(tmp_path, "streets", tmp_path / "out")
    svg = (tmp_path / "out" / "streets_clean_detection.svg").read_text()
    strokes = re.findall(r'style="([^"]*stroke: #d55e00[^"]*)"', svg)
    assert len({re.sub(r".*dasharray: ([^;]+).*|.*", r"\1", stroke) for stroke in strokes}) == 3


def validation(root: Path, strategies: Sequence[str], seeds: int = 3) -> list[Configuration]:
    """Strategies with curves of mIoU that are random, from 1 to 2."""
    draw = np.random.default_rng(0).uniform
    line_of = lines(strategies)
    configurations = []
    for strategy in strategies:
        runs = []
        for seed in range(seeds):
            history = {"epoch": [1, 2, 3], "validation/segmentation/miou": draw(1, 2, 3).tolist()}
            run = write_run(root, metric(1.0), strategy=strategy, seed=seed, history=history)
            runs.append(read_run(run))
        configurations.append(Configuration(strategy, strategy.upper(), line_of[strategy], runs))
    return configurations


def test_curves_are_means_over_seeds_in_a_band_from_lowest_to_highest(tmp_path: Path) -> None:
    configurations = validation(tmp_path, ["equal", "ilt"])
    figure = validation_curves(configurations)
    assert figure is not None
    (axes,) = figure.axes
    assert (axes.get_title(), axes.get_ylabel()) == ("segmentation", "mIoU (%) ↑")
    for configuration, line, band in zip(configurations, axes.lines, axes.collections, strict=True):
        values = [run.history()["validation/segmentation/miou"] for run in configuration.runs]
        assert line.get_color() == configuration.line["color"]
        assert line.get_marker() == configuration.line["marker"]
        np.testing.assert_allclose(line.get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(line.get_ydata(), np.mean(values, axis=0), rtol=1e-12)
        edge = band.get_paths()[0].vertices
        for epoch, low, high in zip(
            (1, 2, 3), np.min(values, axis=0), np.max(values, axis=0), strict=True
        ):
            there = edge[edge[:, 0] == epoch, 1]
            np.testing.assert_allclose([there.min(), there.max()], [low, high], rtol=1e-12)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["EQUAL", "ILT", "range over seeds"]


def test_one_seed_has_no_band(tmp_path: Path) -> None:
    figure = validation_curves(validation(tmp_path, ["equal"], seeds=1))
    assert figure is not None
    assert not any(band.get_paths() for band in figure.axes[0].collections)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["EQUAL"]


def test_curves_that_span_orders_of_magnitude_show_means_on_a_logarithmic_axis(
    tmp_path: Path,
) -> None:
    runs = []
    for seed in range(2):
        history = {"epoch": [1, 2], "validation/depth/abs_err": [100.0 + seed * 200, 1.0]}
        runs.append(read_run(write_run(tmp_path, abs_err(1.0), seed=seed, history=history)))
    figure = validation_curves([Configuration("equal", "", PAPER_LINES["equal"], runs)])
    assert figure is not None
    assert figure.axes[0].get_yscale() == "log"
    assert list(figure.axes[0].lines[0].get_ydata()) == [200, 1]


def test_a_metric_that_is_never_finite_has_an_empty_panel(tmp_path: Path) -> None:
    names = ("validation/segmentation/miou", "validation/depth/abs_err")
    history = {"epoch": [1, 2], names[0]: [1.0, 2.0], names[1]: [np.nan, np.inf]}
    run = read_run(write_run(tmp_path, metric(1.0), history=history))
    figure = validation_curves([Configuration("equal", "", PAPER_LINES["equal"], [run])])
    assert figure is not None
    assert [len(line.get_ydata()) for line in figure.axes[0].lines] == [2]
    assert not any(len(line.get_ydata()) for line in figure.axes[1].lines)


def test_many_strategies_have_large_panels_without_bands(tmp_path: Path) -> None:
    strategies = [f"strategy{i}" for i in range(CROWD + 1)]
    figure = validation_curves(validation(tmp_path, strategies, seeds=2))
    assert figure is not None
    assert figure.get_figwidth() == DOUBLE
    assert len(figure.axes[0].lines) == len(figure.legends[0].get_texts()) == CROWD + 1
    assert not figure.axes[0].collections


def test_forty_strategies_have_lines_that_differ() -> None:
    found = lines([*PAPER_LINES, *(f"strategy{i}" for i in range(35))]).values()
    assert len({tuple(line.values()) for line in found}) == 40


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


@pytest.mark.filterwarnings("error")  # as with PYTHONWARNINGS=error
def test_one_epoch_of_three_tasks_can_be_drawn() -> None:
    corrupted = np.zeros((50, 3), dtype=bool)
    corrupted[:20, 1:] = True
    sigma = np.exp(instance_arrays(corrupted, epochs=1)["log_variance"].astype(float) / 2)
    figure = sigma_boxplots(sigma, corrupted, ["segmentation", "shape", "pose"])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["shape (corrupted)", "pose (corrupted)", "segmentation (not corrupted)"]


def test_boxes_are_quartiles_and_whiskers_hold_90_percent_of_each_group() -> None:
    sigma = np.exp(np.random.default_rng(0).normal(0, 1, (4, 61, 2)))
    corrupted = np.zeros((61, 2), dtype=bool)
    corrupted[:23, 1] = True
    figure = sigma_boxplots(sigma, corrupted, ["segmentation", "depth"])
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log"]
    for axes, k in zip(figure.axes, (1, 0), strict=True):
        assert len(axes.patches) == 8
        for number, box in enumerate(axes.patches):
            group, epoch = divmod(number, 4)
            assert box.get_facecolor()[:3] == to_rgb((CORRUPTED, CLEAN)[group])
            values = sigma[epoch, corrupted[:, 1] == (group == 0), k]
            low, q1, median, q3, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
            edge = box.get_path().vertices[:, 1]
            np.testing.assert_allclose([edge.min(), edge.max()], [q1, q3], rtol=1e-12)
            lower, upper, *_, middle = (
                line.get_ydata() for line in axes.lines[5 * number : 5 * number + 5]
            )
            np.testing.assert_allclose(middle, median, rtol=1e-12)
            # Whiskers end at the outermost instances within.
            inside = values[(low <= values) & (values <= high)]
            np.testing.assert_allclose(lower, [q1, inside.min()], rtol=1e-12)
            np.testing.assert_allclose(upper, [q3, inside.max()], rtol=1e-12)


def test_trajectories_are_those_of_single_instances_and_of_the_median() -> None:
    sigma = np.exp(np.random.default_rng(0).normal(0, 1, (5, 31, 1)))
    corrupted = np.zeros((31, 1), dtype=bool)
    corrupted[:11] = True
    figure = sigma_trajectories(sigma, corrupted, ["depth"])
    *found, median = figure.axes[0].lines
    assert [line.get_color() for line in found] == [CORRUPTED] * 3 + [CLEAN] * 3
    for members, some in ((np.arange(11), found[:3]), (np.arange(11, 31), found[3:])):
        shown = {tuple(line.get_ydata()) for line in some}
        assert shown == {tuple(sigma[:, i, 0]) for i in _typical(sigma[-1, :, 0], members)}
    np.testing.assert_allclose(median.get_ydata(), np.median(sigma[:, :, 0], axis=1), rtol=1e-12)


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
        "import mtlbench.analysis.figures.style, mtlbench.analysis.report;"
        "assert not {'matplotlib.pyplot', 'seaborn'} & set(sys.modules);"
        "import mtlbench.analysis.figures.runs;"
        "assert not {'torch', 'ray', 'mtlbench.training'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_drawing_leaves_the_settings_of_matplotlib_alone(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys, matplotlib as mpl; before = dict(mpl.rcParams);"
        "from mtlbench.analysis.figures.runs import draw_figures;"
        "assert draw_figures(sys.argv[1], 'streets', sys.argv[2], ['depth@0.4']);"
        "assert dict(mpl.rcParams) == before;"
        "import matplotlib.pyplot as plt; assert not plt.get_fignums()"
    )
    subprocess.run([sys.executable, "-c", code, results, tmp_path / "out"], check=True)


@pytest.mark.parametrize("place", ["file", "file/below", "taken"])
def test_figures_that_cannot_be_written_are_bad_input(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "a.png").mkdir(parents=True)
    with pytest.raises(UserError, match="figures cannot be written"):
        save_figures([("a", Figure())], tmp_path / place)


def test_a_link_in_place_of_a_figure_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("precious")
    (tmp_path / "a.png").symlink_to(tmp_path / "kept")
    save_figures([("a", Figure())], tmp_path)
    assert (tmp_path / "kept").read_text() == "precious"
    assert not (tmp_path / "a.png").is_symlink()
