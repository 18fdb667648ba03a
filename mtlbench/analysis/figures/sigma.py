"""σ of the instances by epoch, one run: box plots and single instances (Figs. 3 and 6)."""

import math
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mtlbench.analysis.figures.panels import draw_lines, epoch_axis, line_handles, panels
from mtlbench.analysis.figures.style import BLACK, CLEAN, CORRUPTED, SOLID, Configuration, Line

GROUPS: dict[str, Line] = {
    "corrupted": {"color": CORRUPTED, "dashes": SOLID, "marker": "o"},
    "clean": {"color": CLEAN, "dashes": SOLID, "marker": "s"},
}
MEDIAN: Line = {"color": BLACK, "linewidth": 2.4}
MAX_BOXES = 12
SIGMA_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10)
DENSE_SIGMA_TICKS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.85, 1, 1.2, 1.5, 2, 3, 4, 5, 7, 10)


def sigma_figures(configuration: Configuration) -> Iterator[tuple[str, Figure]]:
    """The figures of a configuration's first run, as (name, figure); none without corruption."""
    run = configuration.runs[0]
    arrays = run.instance_parameters()
    if arrays is None or not len(arrays["log_variance"]):
        return
    # Tasks without instance parameters are NaN.
    (known,) = np.isfinite(arrays["log_variance"]).any(axis=(0, 1)).nonzero()
    corrupted = arrays["corrupted"][:, known]
    if not corrupted.any():
        return
    tasks = [run.info["tasks"][k]["name"] for k in known]
    sigma = np.exp(arrays["log_variance"][:, :, known].astype(np.float32) / 2)
    yield "sigma_boxplots", sigma_boxplots(sigma, corrupted, tasks)
    yield "sigma_trajectories", sigma_trajectories(sigma, corrupted, tasks)


def sigma_boxplots(sigma: np.ndarray, corrupted: np.ndarray, tasks: Sequence[str]) -> Figure:
    """Box plots of σ by epoch, corrupted against clean instances.

    One panel for each corrupted task and one for another task, whose labels are clean. Boxes span
    the quartiles, whiskers 5 to 95 % of the instances.

    Args:
        sigma: σ after each epoch, [E, N, K]; NaN where a label is absent.
        corrupted: mask of the corrupted labels, bool [N, K].
        tasks: the names of the K tasks.
    """
    shown = [k for k in range(len(tasks)) if corrupted[:, k].any()]
    others = [k for k in range(len(tasks)) if k not in shown]
    epochs = _some_epochs(len(sigma), MAX_BOXES)
    colors = {name: line["color"] for name, line in GROUPS.items()}
    handles = [
        Patch(facecolor=c, alpha=0.75, label=f"{name} instances") for name, c in colors.items()
    ]
    drawn = shown + others[:1]
    figure, grid = panels(len(drawn), handles, height=2.1, most=2, sharey=True)
    for axes, k in zip(grid, drawn, strict=True):
        mask = corrupted[:, k] if k in shown else corrupted.any(axis=1)
        by_epoch = pd.DataFrame({epoch: sigma[epoch - 1, :, k] for epoch in epochs})
        by_epoch["labels"] = np.where(mask, "corrupted", "clean")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "vert: bool was deprecated")  # seaborn 0.13.2 uses it
            sns.boxplot(
                by_epoch.melt("labels", var_name="epoch", value_name="σ"), x="epoch", y="σ",
                hue="labels", palette=colors, hue_order=list(colors), saturation=1, whis=(5, 95),
                showfliers=False, gap=0.1, linewidth=0.6, linecolor=BLACK,
                boxprops={"alpha": 0.75}, medianprops={"linewidth": 1}, legend=False, ax=axes,
            )  # fmt: skip
        axes.set_title(f"{tasks[k]} ({'corrupted' if k in shown else 'not corrupted'})")
    # Only now: on a logarithmic axis, the quartiles would be those of the logarithms.
    for axes in grid:
        _sigma_axis(axes)
    return figure


def sigma_trajectories(sigma: np.ndarray, corrupted: np.ndarray, tasks: Sequence[str]) -> Figure:
    """σ of three corrupted and three clean instances over epochs, against the dataset's median.

    The instances are those at the 10, 50 and 90 % quantiles of the last σ of their group.

    Args:
        sigma: σ after each epoch, [E, N, K]; NaN where a label is absent.
        corrupted: mask of the corrupted labels, bool [N, K].
        tasks: the names of the K tasks.
    """
    drawn = [k for k in range(len(tasks)) if corrupted[:, k].any()]
    handles = line_handles([*GROUPS.items(), ("median of all", MEDIAN)])
    figure, grid = panels(len(drawn), handles, height=2.2, most=2)
    epochs = np.arange(1, len(sigma) + 1)
    for axes, k in zip(grid, drawn, strict=True):
        mask, labelled = corrupted[:, k], np.isfinite(sigma[-1, :, k])
        typical = [
            pd.DataFrame({"epoch": epochs, "σ": sigma[:, i, k], "labels": name, "instance": i})
            for name, group in zip(GROUPS, (mask, ~mask), strict=True)
            for i in _typical(sigma[-1, :, k], np.flatnonzero(group & labelled))
        ]
        draw_lines(
            axes, pd.concat(typical), GROUPS, x="epoch", y="σ", by="labels",
            units="instance", estimator=None, linewidth=0.9,
        )  # fmt: skip
        axes.plot(epochs, np.median(sigma[:, labelled, k], axis=1), **MEDIAN)
        axes.set_title(tasks[k])
        epoch_axis(axes, len(sigma))
        _sigma_axis(axes)
    return figure


def _some_epochs(count: int, at_most: int) -> list[int]:
    """Epochs from 1 to `count`, every n-th of them where they are too many to read."""
    step = math.ceil(count / at_most)
    return list(range(count, 0, -step))[::-1]


def _typical(values: np.ndarray, members: np.ndarray) -> list[int]:
    """The members at the 10, 50 and 90 % quantiles of `values`."""
    ordered = members[np.argsort(values[members], kind="stable")]
    places = [round(q * (len(ordered) - 1)) for q in (0.1, 0.5, 0.9)] if len(ordered) else []
    return [int(ordered[place]) for place in sorted(set(places))]


def _sigma_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(
        FixedLocator(SIGMA_TICKS if high > 10 * low else DENSE_SIGMA_TICKS)
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("σ")
    axes.tick_params(labelleft=True)  # where the axis is shared, too
