"""Detectors of wrong labels are drawn by epoch and by the share of wrong labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtlbench.analysis.label_errors.comparison import COLUMNS
from mtlbench.analysis.label_errors.figures import (
    LINES,
    draw_detectors,
    epochs_figure,
    levels_figure,
)
from mtlbench.analysis.label_errors.scores import CLEANLAB, LOSS, SIGMA

MEASURES = ("accuracy", "roc_auc", "average_precision", "estimate")


def detected(*detectors: str, shares: tuple[float, ...] = (40,), seeds: int = 3) -> pd.DataFrame:
    """Random measures of three epochs; those of cleanlab are of one."""
    draw = np.random.default_rng(0).uniform
    rows = [
        {
            "suite": "digits", "variant": f"left@{share / 100}", "task": "left",
            "detector": detector, "settings": "", "seed": seed, "epoch": epoch,
            "last": epoch == 3, "corrupted": share,
            **{name: draw(50, 100) for name in MEASURES},
        }
        for detector in detectors
        for share in shares
        for seed in range(seeds)
        for epoch in ((3,) if detector == CLEANLAB else (1, 2, 3))
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def test_lines_by_epoch_are_means_and_that_of_cleanlab_is_level() -> None:
    rows = detected(SIGMA, LOSS, CLEANLAB)
    figure = epochs_figure(rows)
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_title() == "left (40 % corrupted)"
    *by_epoch, level = axes.lines
    for detector, line in zip((SIGMA, LOSS), by_epoch, strict=True):
        values = rows[rows["detector"] == detector].pivot(
            index="seed", columns="epoch", values="roc_auc"
        )
        assert line.get_color() == LINES[detector]["color"]
        np.testing.assert_allclose(line.get_ydata(), values.to_numpy().mean(axis=0), rtol=1e-12)
    mean = rows.loc[rows["detector"] == CLEANLAB, "roc_auc"].mean()
    np.testing.assert_allclose(level.get_ydata(), [mean, mean], rtol=1e-12)


def test_cleanlab_alone_is_a_level_line() -> None:
    figure = epochs_figure(detected(CLEANLAB))
    assert figure is not None
    assert len([line for line in figure.axes[0].lines if len(line.get_ydata())]) == 1


def test_nothing_corrupted_has_no_figure_by_epoch() -> None:
    assert epochs_figure(detected(SIGMA).assign(roc_auc=np.nan)) is None


def test_lines_by_share_are_means_of_the_last_epoch_with_their_std_as_bars() -> None:
    rows = detected(SIGMA, CLEANLAB, shares=(20, 60))
    figure = levels_figure(rows, "left")
    last = rows[rows["last"]].groupby(["detector", "corrupted"])
    for axes, name in zip(figure.axes, MEASURES, strict=True):
        shown = [line for line in axes.lines if line.get_marker() in ("o", "D")]
        for detector, line, bars in zip((SIGMA, CLEANLAB), shown, axes.collections, strict=True):
            mean, std = last[name].mean()[detector], last[name].std(ddof=1)[detector]
            assert list(line.get_xdata()) == [20, 60]
            np.testing.assert_allclose(line.get_ydata(), mean, rtol=1e-12)
            ends = np.array(bars.get_segments())[:, :, 1]
            np.testing.assert_allclose(ends, np.stack([mean - std, mean + std], axis=1))


@pytest.mark.parametrize("shares", [(40,), (20, 60)])
def test_levels_are_drawn_where_there_are_two(tmp_path: Path, shares: tuple[float, ...]) -> None:
    files = draw_detectors(detected(SIGMA, shares=shares), tmp_path)
    stems = {f"digits_left-{share / 100}_detectors" for share in shares}
    stems |= {"digits_detectors_left"} if len(shares) > 1 else set()
    assert {file.name for file in files} == {
        f"{s}.{kind}" for s in stems for kind in ("png", "svg")
    }
