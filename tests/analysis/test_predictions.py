"""Predictions stand beside the truth, and those that cannot be compared are left out."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from synthetic_runs import DIGIT_TASKS, LABELS, TASKS, metric, street_predictions, write_run

from mtlbench.analysis.figures.predictions import predictions_figure
from mtlbench.analysis.figures.runs import draw_figures
from mtlbench.analysis.figures.style import DOUBLE, SINGLE, STYLE, Configuration
from mtlbench.store.runs import read_run

PARTS = {**TASKS[0], "classes": [f"part {i}" for i in range(25)], "palette": None}


def configuration(
    root: Path,
    strategy: str = "equal",
    predictions: dict[str, np.ndarray] | None = None,
    *,
    label: str | None = None,
    **run: Any,
) -> Configuration:
    """One strategy with one run, which kept these predictions."""
    path = write_run(root, metric(50.0), strategy=strategy, predictions=predictions, **run)
    label = label or LABELS.get(strategy, strategy)
    return Configuration(f"{strategy}{label}", label, {}, [read_run(path)])


def figure_of(configurations: Sequence[Configuration]) -> Figure:
    figure = predictions_figure(configurations)
    assert figure is not None
    return figure


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def rows(figure: Figure) -> list[str]:
    return [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]


def picture(axes: Axes) -> np.ndarray:
    return np.asarray(axes.get_images()[0].get_array())


def bodies(seed: int = 0, *, size: int = 96) -> dict[str, np.ndarray]:
    """Pictures of 32×32 with a map of 25 classes and a larger view; six instances."""
    generator = np.random.default_rng(seed)
    shown = {f"{kind}/mesh": (6, 3, size, size) for kind in ("truth", "prediction")}
    arrays = {name: generator.integers(0, 256, shape, np.uint8) for name, shape in shown.items()}
    classes = np.arange(6 * 32 * 32, dtype=np.int16).reshape(6, 32, 32) % 25
    return arrays | {
        "input": np.full((6, 3, 32, 32), 128, np.uint8),
        "truth/segmentation": classes,
        "prediction/segmentation": classes,
    }


def test_a_variant_gets_one_figure_of_predictions(tmp_path: Path) -> None:
    for strategy in ("equal", "ilt"):
        for variant in ("clean", "depth@0.4"):
            arrays = street_predictions(instances=2)
            configuration(tmp_path / "runs", strategy, arrays, variant=variant)
    files = draw_figures(tmp_path / "runs", "streets", tmp_path / "out")
    assert {file.name for file in files} == {
        f"streets_{variant}_predictions.{kind}"
        for variant in ("clean", "depth-0.4")
        for kind in ("png", "svg")
    }
    again = draw_figures(tmp_path / "runs", "streets", tmp_path / "again", ["clean"])
    for file in again:
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()
    svg = (tmp_path / "out" / "streets_clean_predictions.svg").read_text()
    assert "ILT Params" in svg, "text stays text"


def test_columns_are_input_truth_and_strategies_and_rows_are_instances_by_task(
    tmp_path: Path,
) -> None:
    kept = {name: street_predictions(seed) for seed, name in enumerate(("equal", "ilt"))}
    figure = figure_of([configuration(tmp_path, name, kept[name]) for name in kept])
    assert titles(figure) == ["input", "truth", "Eq. Weight", "ILT Params"]
    assert rows(figure) == ["segmentation", "depth"] * 3
    # A row of classes with the input before it, then one of numbers without.
    for instance in range(3):
        shown = [picture(axes) for axes in figure.axes[7 * instance : 7 * instance + 7]]
        expected = kept["equal"]["input"][instance].transpose(1, 2, 0) / 255
        np.testing.assert_allclose(shown[0], expected)
        palette = np.array([*TASKS[0]["palette"], [229.5] * 3]) / 255  # -1, no label, is grey
        classes = [kept["equal"]["truth/segmentation"]]
        classes += [arrays["prediction/segmentation"] for arrays in kept.values()]
        for found, each in zip(shown[1:4], classes, strict=True):
            np.testing.assert_allclose(found, palette[each[instance]])
        depth = [kept["equal"]["truth/depth"]]
        depth += [arrays["prediction/depth"] for arrays in kept.values()]
        for found, each in zip(shown[4:], depth, strict=True):
            np.testing.assert_array_equal(found, each[instance])


def test_numbers_are_on_the_scale_of_the_truth_that_a_bar_tells(tmp_path: Path) -> None:
    arrays = street_predictions()
    arrays["prediction/depth"] = 10 * arrays["prediction/depth"]
    figure = figure_of([configuration(tmp_path, "equal", arrays)])
    truth = arrays["truth/depth"][:3].astype(float)
    # Five pictures an instance, the last two of numbers; all instances are on one scale.
    for place in (3, 4, 8, 9, 13, 14):
        (image,) = figure.axes[place].get_images()
        assert (image.norm.vmin, image.norm.vmax) == (truth.min(), truth.max())
        assert image.get_cmap() == colormaps["viridis"]
    assert figure.axes[-1].get_xlabel() == "depth (1/m)"


def test_numbers_that_are_not_finite_leave_the_scale_alone(tmp_path: Path) -> None:
    arrays = street_predictions(instances=1)
    arrays["truth/depth"][0, 0, :3] = [np.inf, -np.inf, np.nan]
    figure = figure_of([configuration(tmp_path, "equal", arrays)])
    image = figure.axes[3].get_images()[0]
    finite = arrays["truth/depth"][0, 1:].astype(float)
    assert (image.norm.vmin, image.norm.vmax) == (finite.min(), finite.max())


def test_where_strategies_are_too_many_the_papers_come_first(tmp_path: Path) -> None:
    names = ("equal", "mtu", "dwa", "gls", "cagrad", "pcgrad", "ilt")
    arrays = street_predictions(instances=1)
    every = {name: configuration(tmp_path, name, arrays) for name in names}
    assert titles(figure_of(list(every.values())))[2:] == list(LABELS.values())
    some = [every[name] for name in ("equal", "gls", "cagrad", "pcgrad", "ilt")]
    other = [configuration(tmp_path, name, arrays) for name in ("mgda", "ilt+mgda")]
    assert titles(figure_of([*some[:-1], *other, some[-1]]))[2:] == [
        "Eq. Weight", "GLS", "cagrad", "pcgrad", "ILT Params",
    ]  # fmt: skip


def test_settings_of_one_strategy_do_not_push_another_of_the_papers_out(tmp_path: Path) -> None:
    arrays = street_predictions(instances=1)
    configurations = [
        configuration(tmp_path, "dwa", arrays, label=f"DWA {i}", seed=i) for i in range(6)
    ]
    configurations.append(configuration(tmp_path, "ilt", arrays))
    assert titles(figure_of(configurations))[2:] == [
        "DWA 0", "DWA 1", "DWA 2", "DWA 3", "ILT Params",
    ]  # fmt: skip


def test_views_follow_the_maps_and_may_be_larger_than_the_input(tmp_path: Path) -> None:
    arrays = bodies()
    figure = figure_of([configuration(tmp_path, "ilt", arrays, tasks=[PARTS])])
    assert rows(figure) == ["segmentation", "mesh"] * 3
    truth, predicted = figure.axes[3:5]
    for axes, name in ((truth, "truth/mesh"), (predicted, "prediction/mesh")):
        np.testing.assert_allclose(picture(axes), arrays[name][0].transpose(1, 2, 0) / 255)


def test_a_view_may_bear_the_name_of_a_task(tmp_path: Path) -> None:
    arrays = {name.replace("mesh", "pose"): array for name, array in bodies().items()}
    pose = {**TASKS[1], "name": "pose"}
    figure = figure_of([configuration(tmp_path, "ilt", arrays, tasks=[pose, PARTS])])
    assert rows(figure)[:2] == ["segmentation", "pose"]
    assert picture(figure.axes[3]).shape == (96, 96, 3)


def test_ten_classes_have_a_legend_and_more_have_none(tmp_path: Path) -> None:
    def legend(count: int) -> list[str]:
        arrays = bodies() | {f"{k}/segmentation": bodies()["truth/segmentation"] % count
                             for k in ("truth", "prediction")}  # fmt: skip
        figure = figure_of([configuration(tmp_path, "ilt", arrays, tasks=[PARTS], seed=count)])
        return [text.get_text() for each in figure.legends for text in each.get_texts()]

    assert legend(10) == PARTS["classes"][:10]
    assert legend(11) == []


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    task = {**TASKS[0], "classes": [], "palette": None}
    figure = figure_of([configuration(tmp_path, "equal", street_predictions(), tasks=[task])])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["no label", *map(str, range(7))]


@pytest.mark.parametrize("strategies", [1, 2, 5])
@pytest.mark.parametrize("size", [32, 96])
def test_a_figure_fits_a_column_and_a_page(tmp_path: Path, strategies: int, size: int) -> None:
    names = list(LABELS)[:strategies]
    arrays = bodies(size=size)
    figure = figure_of([configuration(tmp_path, n, arrays, tasks=[PARTS]) for n in names])
    width, height = figure.get_size_inches()
    assert width == (SINGLE if strategies == 1 else DOUBLE)
    assert height < 9
    assert len(rows(figure)) >= 2


def test_one_tall_instance_is_shown_even_where_it_does_not_fit(tmp_path: Path) -> None:
    arrays = {name: np.repeat(array, 40, axis=-2) for name, array in bodies().items()}
    figure = figure_of([configuration(tmp_path, "ilt", arrays, tasks=[PARTS])])
    assert rows(figure) == ["segmentation", "mesh"]


def test_long_titles_are_broken_within_their_column(tmp_path: Path) -> None:
    arrays = street_predictions(instances=1)
    label = "ILT Params + PCGrad [ilt.learning_rate=4.0, pcgrad.reduction=mean]"
    configurations = [configuration(tmp_path, n, arrays, label=label + n) for n in "abcde"]
    with mpl.rc_context(STYLE):
        figure = figure_of(configurations)
        figure.draw_without_rendering()
        boxes = [axes.title.get_window_extent() for axes in figure.axes[:7]]
    for left, right in pairwise(boxes):
        assert left.x1 < right.x0
    assert boxes[-1].x1 <= figure.bbox.x1
    # The box of a text is higher than its letters by more than a pixel.
    assert max(box.y1 for box in boxes) <= figure.bbox.y1 + 1
    assert "".join(figure.axes[2].get_title().split()) == "".join(f"{label}a".split())


def test_runs_on_other_data_or_tasks_are_left_out(tmp_path: Path) -> None:
    arrays = street_predictions(instances=1)
    other = arrays | {"input": 255 - arrays["input"]}
    half = {name: array[..., ::2, ::2] for name, array in arrays.items()}
    without = {name: array for name, array in arrays.items() if "depth" not in name}
    figure = figure_of(
        [
            configuration(tmp_path, "mgda"),
            configuration(tmp_path, "equal", arrays),
            configuration(tmp_path, "mtu", other),
            configuration(tmp_path, "dwa", half),
            configuration(tmp_path, "gls", without),
            configuration(tmp_path, "cagrad", arrays, tasks=[PARTS, TASKS[1]]),
            configuration(tmp_path, "ilt", arrays),
        ]
    )
    assert titles(figure) == ["input", "truth", "Eq. Weight", "ILT Params"]


def test_the_first_seed_is_shown(tmp_path: Path) -> None:
    kept = [street_predictions(seed, instances=1) for seed in range(2)]
    runs = [configuration(tmp_path, "ilt", kept[seed], seed=seed).runs[0] for seed in range(2)]
    figure = figure_of([Configuration("ilt", "ILT Params", {}, runs)])
    np.testing.assert_array_equal(picture(figure.axes[4]), kept[0]["prediction/depth"][0])


def test_there_is_no_figure_of_numbers_alone_or_of_inputs_that_are_no_pictures(
    tmp_path: Path,
) -> None:
    groups = ("truth", "prediction")
    scalars = {f"{group}/{t['name']}": np.arange(6) for group in groups for t in DIGIT_TASKS}
    pictures = scalars | {"input": np.zeros((6, 1, 12, 24), np.uint8)}
    signals = {name: np.zeros((6, 50), np.float16) for name in scalars}
    signals["input"] = np.zeros((6, 1, 50), np.float32)
    for strategy, arrays in (("equal", None), ("mtu", pictures), ("dwa", signals)):
        found = configuration(tmp_path, strategy, arrays, tasks=DIGIT_TASKS)
        assert predictions_figure([found]) is None
