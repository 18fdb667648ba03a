"""σ of the instances by epoch, one run: box plots and single instances (Figs. 3 and 6)."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mtlbench.analysis.figures.style import (
    BLACK,
    CLEAN,
    CORRUPTED,
    DOUBLE,
    SINGLE,
    Configuration,
    epoch_axis,
)

MAX_BOXES = 12
MAX_EXAMPLES = 4
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
        sigma: σ after each epoch, [E, N, K].
        corrupted: whether a label is corrupted, bool [N, K].
        tasks: the names of the K tasks.
    """
    shown = [k for k in range(len(tasks)) if corrupted[:, k].any()]
    others = [k for k in range(len(tasks)) if k not in shown]
    panels = shown + others[:1]
    epochs = _some_epochs(len(sigma), MAX_BOXES)
    figure = Figure(
        figsize=(DOUBLE if len(panels) > 1 else SINGLE, 0.3 + 2.1 * math.ceil(len(panels) / 2))
    )
    columns = min(2, len(panels))
    first: Axes | None = None
    for position, k in enumerate(panels):
        axes = figure.add_subplot(
            math.ceil(len(panels) / columns), columns, position + 1, sharey=first
        )
        first = first or axes
        mask = corrupted[:, k] if k in shown else corrupted.any(axis=1)
        for offset, group, color in ((-0.2, mask, CORRUPTED), (0.2, ~mask, CLEAN)):
            axes.boxplot(
                [sigma[epoch - 1, group, k] for epoch in epochs],
                positions=np.arange(len(epochs)) + offset,
                widths=0.34,
                whis=(5, 95),
                showfliers=False,
                patch_artist=True,
                manage_ticks=False,
                boxprops={"facecolor": color, "alpha": 0.75, "linewidth": 0.5},
                medianprops={"color": "black", "linewidth": 0.9},
                whiskerprops={"linewidth": 0.6, "color": color},
                capprops={"linewidth": 0.6, "color": color},
            )
        axes.set_xticks(np.arange(len(epochs)), [str(epoch) for epoch in epochs])
        axes.set_xlabel("epoch")
        axes.set_title(f"{tasks[k]} ({'corrupted' if k in shown else 'not corrupted'})")
        _sigma_axis(axes)
    handles = [
        Patch(facecolor=CORRUPTED, alpha=0.75, label="corrupted instances"),
        Patch(facecolor=CLEAN, alpha=0.75, label="clean instances"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def sigma_trajectories(sigma: np.ndarray, corrupted: np.ndarray, tasks: Sequence[str]) -> Figure:
    """σ of three corrupted and three clean instances over epochs, against the dataset's median.

    The instances are those at the 10, 50 and 90 % quantiles of the last σ of their group.

    Args:
        sigma: σ after each epoch, [E, N, K].
        corrupted: whether a label is corrupted, bool [N, K].
        tasks: the names of the K tasks.
    """
    panels = [k for k in range(len(tasks)) if corrupted[:, k].any()]
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(SINGLE if columns == 1 else DOUBLE, 0.3 + 2.2 * rows))
    epochs = np.arange(1, len(sigma) + 1)
    for position, k in enumerate(panels):
        axes = figure.add_subplot(rows, columns, position + 1)
        mask = corrupted[:, k]
        for group, color, marker in ((mask, CORRUPTED, "o"), (~mask, CLEAN, "s")):
            for i in _typical(sigma[-1, :, k], np.flatnonzero(group)):
                axes.plot(
                    epochs,
                    sigma[:, i, k],
                    color=color,
                    marker=marker,
                    linewidth=0.9,
                    markevery=max(1, len(epochs) // 6),
                )
        axes.plot(epochs, np.median(sigma[:, :, k], axis=1), color=BLACK, linewidth=2.4)
        axes.set_title(tasks[k])
        epoch_axis(axes)
        _sigma_axis(axes)
    handles = [
        Line2D([], [], color=CORRUPTED, marker="o", label="corrupted"),
        Line2D([], [], color=CLEAN, marker="s", label="clean"),
        Line2D([], [], color=BLACK, linewidth=2.4, label="median of all"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, columnspacing=1.2)
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
    axes.yaxis.set_major_locator(FixedLocator(SIGMA_TICKS if high > 5 * low else DENSE_SIGMA_TICKS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("σ")
