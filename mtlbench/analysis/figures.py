"""The figures of the paper, drawn from stored runs, as PNG and SVG.

All are made for a journal's columns: 3.3 in (single) or 6.8 in (double), text of 7 to 9 pt. The
colours are those of Okabe and Ito, which colour-blind readers tell apart; lines differ by dash
and marker, too. The same runs give the same files, byte for byte.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from mtlbench.analysis.aggregate import load_results, require_suite, select
from mtlbench.store import DONE, StoredRun, read_run

SINGLE, DOUBLE = 3.3, 6.8
"""Widths of one and of two columns of a journal (in)."""

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"
CORRUPTED, CLEAN = VERMILION, BLUE

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "mtlbench",
}

Line = dict[str, Any]
"""How one strategy's line is drawn: `color`, `linestyle`, `marker`."""

PAPER_LINES: dict[str, Line] = {
    "equal": {"color": BLACK, "linestyle": "--", "marker": "s"},
    "mtu": {"color": ORANGE, "linestyle": "-.", "marker": "^"},
    "dwa": {"color": SKY, "linestyle": (0, (5, 1)), "marker": "v"},
    "gls": {"color": GREEN, "linestyle": (0, (3, 1, 1, 1, 1, 1)), "marker": "D"},
    "ilt": {"color": VERMILION, "linestyle": "-", "marker": "o"},
}
OTHER_COLORS = (PURPLE, BLUE, GREY, GREEN, VERMILION, ORANGE)
OTHER_DASHES = (("-", "P"), ("--", "X"), (":", "*"), ("-.", "<"), ((0, (1, 1)), ">"))

MAX_BOXES = 12
MAX_EXAMPLES = 4
SIGMA_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10)
DENSE_SIGMA_TICKS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.85, 1, 1.2, 1.5, 2, 3, 4, 5, 7, 10)


@dataclass(frozen=True)
class Configuration:
    """The runs of one strategy, with one setting, on one variant: those that are done.

    Attributes:
        key: the strategy's key with its settings, `ilt[ilt.lr=4.0]`.
        label: what a legend calls it.
        line: how its lines are drawn, the same in all figures.
        runs: one run a seed, in the order of seeds.
    """

    key: str
    label: str
    line: Line
    runs: list[StoredRun]

    @property
    def info(self) -> Mapping[str, Any]:
        return self.runs[0].info


def draw_figures(
    results: str | Path,
    suite: str,
    out: str | Path,
    variants: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    *,
    hashes: Collection[str] | None = None,
) -> list[Path]:
    """Draws every figure that the runs of a suite allow, and skips those that do not apply.

    Args:
        results: the results directory.
        suite: the suite's name.
        out: the directory for the figures; made where missing.
        variants: which variants; all by default.
        strategies: which strategies; all by default.
        hashes: only the runs with these hashes; all by default.

    Returns:
        The files written: each figure as PNG (200 dpi) and as SVG.

    Raises:
        UserError: there is no such directory, suite, variant or strategy.
    """
    frame = load_results(results)
    if hashes is not None:
        frame = frame[frame["hash"].isin(list(hashes))]
    selected = select(require_suite(frame, suite, results), suite, variants, strategies)
    runs = selected[selected["status"] == DONE].drop_duplicates("path")
    lines = _lines(list(dict.fromkeys(runs["configuration"])))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(STYLE):
        for variant, inside in runs.groupby("variant", sort=False):
            configurations = []
            for key, rows in inside.groupby("configuration", sort=False):
                stored = [read_run(Path(path)) for path in rows["path"]]
                settings = rows["settings"].iloc[0]
                label = stored[0].info["label"] + (f" [{settings}]" if settings else "")
                configurations.append(Configuration(str(key), label, lines[str(key)], stored))
            for name, figure in _figures(configurations):
                written += _save(figure, out / _file_name(f"{suite}_{variant}_{name}"))
    return written


def _figures(configurations: Sequence[Configuration]) -> Iterator[tuple[str, Figure]]:
    """One variant's figures, as (name, figure)."""
    draw_together: dict[str, Callable[[Sequence[Configuration]], Figure | None]] = {
        "validation_curves": validation_curves,
        "detection": detection,
    }
    for name, draw in draw_together.items():
        figure = draw(configurations)
        if figure is not None:
            yield name, figure
    yield from _label_figures(configurations)
    for configuration in configurations:
        run = configuration.runs[0]
        arrays = run.instance_parameters()
        if arrays is None or not arrays["corrupted"].any() or not len(arrays["log_variance"]):
            continue
        tasks = [task["name"] for task in run.info["tasks"]]
        sigma = np.exp(arrays["log_variance"].astype(np.float32) / 2)
        yield (
            f"{configuration.key}_sigma_boxplots",
            sigma_boxplots(sigma, arrays["corrupted"], tasks),
        )
        yield (
            f"{configuration.key}_sigma_trajectories",
            sigma_trajectories(sigma, arrays["corrupted"], tasks),
        )


def _lines(keys: Sequence[str]) -> dict[str, Line]:
    """A line for each configuration: fixed for the paper's strategies, in turn for the others."""
    # Six colours and five dashes, in step: thirty lines before one comes again.
    others = (
        {"color": color, "linestyle": dashes, "marker": marker}
        for color, (dashes, marker) in zip(cycle(OTHER_COLORS), cycle(OTHER_DASHES), strict=False)
    )
    return {key: PAPER_LINES[key] if key in PAPER_LINES else next(others) for key in keys}


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+=_-]+", "-", name).replace("]", "").strip("-")


def _save(figure: Figure, stem: Path) -> list[Path]:
    png, svg = (stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg"))
    figure.savefig(png, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None})
    return [png, svg]


# --- curves over epochs, all strategies together ------------------------------------------------


def validation_curves(configurations: Sequence[Configuration]) -> Figure | None:
    """Every validation metric by epoch: the mean over seeds, in a band from lowest to highest."""
    histories = [[run.history() for run in c.runs] for c in configurations]
    columns = dict.fromkeys(name for history in histories for name in history[0])
    names = [name for name in columns if name.startswith("validation/")]
    if not names or not len(histories[0][0][names[0]]):
        return None
    metrics = {
        f"validation/{metric['task']}/{metric['metric']}": metric
        for configuration in configurations
        for metric in configuration.info["metrics"]
    }
    across = 2 if len(names) == 4 else min(3, len(names))
    down = math.ceil(len(names) / across)
    width = SINGLE if across == 1 else DOUBLE
    handles = _handles((c.label, c.line) for c in configurations) + _band_handle(configurations)
    legend = _legend_columns(handles, width)
    lines = math.ceil(len(handles) / legend)
    figure = Figure(figsize=(width, 0.3 + 0.16 * lines + 1.75 * down))
    for position, name in enumerate(names):
        axes = figure.add_subplot(down, across, position + 1)
        task, _, fallback = name.removeprefix("validation/").rpartition("/")
        metric = metrics.get(name, {"label": fallback, "unit": "", "direction": ""})
        for configuration, history in zip(configurations, histories, strict=True):
            if name in history[0]:
                _curve(axes, history, name, configuration.line)
        unit = f" ({metric['unit']})" if metric["unit"] else ""
        arrow = {"max": " ↑", "min": " ↓"}.get(metric["direction"], "")
        axes.set_title(task)
        axes.set_ylabel(f"{metric['label']}{unit}{arrow}")
        _epochs(axes)
        _log_if_wide(axes)
    figure.legend(
        handles=handles, loc="outside upper center", ncols=legend, handlelength=3, columnspacing=1.2
    )
    return figure


def detection(configurations: Sequence[Configuration]) -> Figure | None:
    """Share of corrupted instances among those with the largest σ, by epoch, against chance.

    One line for each strategy and corrupted task: the mean over seeds, in a band from lowest to
    highest. Chance is the fraction of labels that are corrupted.
    """
    fractions: dict[str, float] = configurations[0].info["corrupted"]
    dashes = dict(zip(fractions, cycle(["-", "--", ":", "-."]), strict=False))
    curves = []
    for configuration in configurations:
        history = [run.history() for run in configuration.runs]
        for task in fractions:
            name = f"detection_accuracy/{task}"
            if name in history[0] and len(history[0][name]):
                line = configuration.line | ({"linestyle": dashes[task]} if len(dashes) > 1 else {})
                curves.append((f"{configuration.label}, {task}", line, history, name))
    if not curves:
        return None
    handles = _handles((label, line) for label, line, _, _ in curves) + _band_handle(configurations)
    legend = _legend_columns(handles, SINGLE)
    figure = Figure(figsize=(SINGLE, 2.0 + 0.16 * math.ceil(len(handles) / legend)))
    axes = figure.add_subplot()
    for _, line, history, name in curves:
        _curve(axes, history, name, line)
    _epochs(axes)
    for fraction in sorted(set(fractions.values())):
        axes.axhline(100 * fraction, color=GREY, linestyle=":", linewidth=1, zorder=1)
        axes.annotate(
            "chance", (1, 100 * fraction), (0, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="bottom", fontsize=7, color="#555555",
        )  # fmt: skip
    axes.set_ylim(0, 103)
    axes.set_ylabel("corrupted instances found (%)")
    figure.legend(handles=handles, loc="outside upper center", ncols=legend, columnspacing=1.2)
    return figure


def _curve(
    axes: Axes, histories: Sequence[Mapping[str, np.ndarray]], name: str, line: Line
) -> None:
    """The mean over seeds of one column of the history, in a band from lowest to highest."""
    epoch = histories[0]["epoch"]
    values = np.stack([np.asarray(history[name], dtype=float) for history in histories])
    axes.plot(epoch, values.mean(axis=0), markevery=max(1, len(epoch) // 6), **line)
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(epoch, low, high, color=line["color"], alpha=0.2, linewidth=0)


def _handles(lines: Iterable[tuple[str, Line]]) -> list[Artist]:
    return [Line2D([], [], label=label, **line) for label, line in lines]


def _band_handle(configurations: Sequence[Configuration]) -> list[Artist]:
    seeds = max(len(configuration.runs) for configuration in configurations)
    label = "range over seeds"
    return [Patch(facecolor=GREY, alpha=0.4, label=label)] if seeds > 1 else []


def _legend_columns(handles: Sequence[Artist], width: float) -> int:
    """How many columns of a legend fit a width (in): all, or as many as the longest allows."""
    lengths = [len(str(handle.get_label())) + 8 for handle in handles]  # 8: the line and the gaps
    room = int(width * 18)  # characters of 7 pt
    return len(handles) if sum(lengths) <= room else max(1, room // max(lengths))


def _epochs(axes: Axes) -> None:
    last = max(np.max(line.get_xdata()) for line in axes.lines)
    margin = 0.03 * last
    axes.set_xlim(1 - margin, last + margin)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))


def _log_if_wide(axes: Axes) -> None:
    """A logarithmic axis where a curve spans so much that the others would lie flat."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() / values.min() > 30:
        axes.set_yscale("log")


# --- σ of the instances, one run ----------------------------------------------------------------


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
        _epochs(axes)
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


# --- clean and corrupted labels side by side ----------------------------------------------------


def _label_figures(configurations: Sequence[Configuration]) -> Iterator[tuple[str, Figure]]:
    """One figure a corrupted task; the examples are the same for all strategies and seeds."""
    run = configurations[0].runs[0]
    arrays = run.labels()
    if arrays is None:
        return
    for k, task in enumerate(run.info["tasks"]):
        keys = ["example_input", f"clean/{task['name']}", f"given/{task['name']}"]
        if all(key in arrays for key in keys):
            # With several tasks corrupted, an example need not be corrupted in this one.
            chosen = np.flatnonzero(arrays["corrupted"][arrays["example_index"], k])[:MAX_EXAMPLES]
            if len(chosen):
                figure = labels(task, *(arrays[key][chosen] for key in keys))
                yield f"labels_{task['name']}", figure


def labels(
    task: Mapping[str, Any], inputs: np.ndarray, clean: np.ndarray, given: np.ndarray
) -> Figure:
    """Inputs with their clean and their given (corrupted) labels, one column an example.

    Args:
        task: its `name`, `unit`, `classes` and `palette`.
        inputs: images, [M, C, H, W].
        clean: labels before the corruption: maps [M, H, W], vectors [M, D] or numbers [M].
        given: labels as trained on, of the same shape.
    """
    if clean.ndim == 1:
        return _number_labels(task, inputs, clean, given)
    if clean.ndim == 2:
        return _vector_labels(task, inputs, clean, given)
    rows, aspect = ("input", "clean", "given"), clean.shape[-2] / clean.shape[-1]
    if np.issubdtype(clean.dtype, np.integer):
        handles = _class_handles(task, clean, given)
        columns = _legend_columns(handles, _grid_width(len(inputs)))
        lines = math.ceil(len(handles) / columns)
        figure, grid = _grid(inputs, rows, aspect, extra=0.16 * lines + 0.1)
        _class_maps(grid[1:], task, clean, given)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, handlelength=1,
            handleheight=1, columnspacing=1.2,
        )  # fmt: skip
    else:
        figure, grid = _grid(inputs, rows, aspect, extra=0.05, side=0.95)
        _value_maps(figure, grid, task, clean, given)
    return figure


def _grid(
    inputs: np.ndarray, row_names: Sequence[str], aspect: float, extra: float, side: float = 0.25
) -> tuple[Figure, np.ndarray]:
    """A figure with one column an example, whose first row shows the inputs.

    Args:
        inputs: images, [M, C, H, W].
        row_names: what to write beside each row.
        aspect: height of a cell over its width.
        extra: height left for titles, axes or a legend (in).
        side: width left for the names of the rows and a colour bar (in).
    """
    count, width = len(inputs), _grid_width(len(inputs))
    height = len(row_names) * ((width - side) / count * aspect + 0.06) + extra
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(len(row_names), count, squeeze=False)
    for axes, picture in zip(grid[0], inputs, strict=True):
        _show(axes, picture)
    for axes, name in zip(grid[:, 0], row_names, strict=True):
        axes.set_ylabel(name)
    return figure, grid


def _grid_width(count: int) -> float:
    """Two columns for three examples or more, one for fewer (in)."""
    return DOUBLE if count >= 3 else SINGLE


def _show(axes: Axes, picture: np.ndarray) -> None:
    """One input [C, H, W] as a colour or grey image; values outside [0, 1] are stretched."""
    image = picture.astype(float)
    image = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(axis=0)
    if np.issubdtype(picture.dtype, np.integer):
        image = image / 255
    elif image.min() < 0 or image.max() > 1:
        image = (image - image.min()) / (np.ptp(image) or 1)
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _class_colors(task: Mapping[str, Any], count: int) -> np.ndarray:
    """The colour of "no label" (-1) and of each class, [1 + classes, 3] in [0, 1]."""
    if task["palette"]:
        palette = np.asarray(task["palette"], dtype=float) / 255
    else:
        many = np.vstack([mpl.colormaps[name](np.arange(20)) for name in ("tab20", "tab20b")])
        palette = many[np.arange(count) % len(many), :3]
    return np.vstack([np.full(3, 0.9), palette])


def _class_handles(task: Mapping[str, Any], clean: np.ndarray, given: np.ndarray) -> list[Artist]:
    """A legend entry for each class that is seen."""
    seen = np.unique([clean, given])
    colors = _class_colors(task, int(seen.max()) + 1)
    names = task["classes"] or [str(c) for c in range(int(seen.max()) + 1)]
    return [
        Patch(
            facecolor=colors[c + 1],
            label="no label" if c < 0 else names[c],
            edgecolor="black",
            linewidth=0.3,
        )
        for c in seen
    ]


def _class_maps(
    grid: np.ndarray, task: Mapping[str, Any], clean: np.ndarray, given: np.ndarray
) -> None:
    """Label maps in the palette's colours."""
    colors = _class_colors(task, int(max(clean.max(), given.max())) + 1)
    for row, maps in zip(grid, (clean, given), strict=True):
        for axes, classes in zip(row, maps, strict=True):
            axes.imshow(colors[classes + 1], interpolation="nearest")
            _bare(axes)


def _value_maps(
    figure: Figure, grid: np.ndarray, task: Mapping[str, Any], clean: np.ndarray, given: np.ndarray
) -> None:
    """Maps of numbers on one scale, with a colour bar."""
    low = min(np.nanmin(clean), np.nanmin(given))
    high = max(np.nanmax(clean), np.nanmax(given))
    for row, maps in zip(grid[1:], (clean, given), strict=True):
        for axes, values in zip(row, maps, strict=True):
            image = axes.imshow(values, cmap="viridis", vmin=low, vmax=high)
            _bare(axes)
    # Beside all rows, so that the columns stay in line, but only as high as the two it is for.
    figure.colorbar(
        image, ax=grid.ravel().tolist(), label=_quantity(task), shrink=0.62, anchor=(0, 0), pad=0.01
    )


def _vector_labels(
    task: Mapping[str, Any], inputs: np.ndarray, clean: np.ndarray, given: np.ndarray
) -> Figure:
    """Labels of several numbers, as two lines over their components."""
    figure, grid = _grid(inputs, ("input", _quantity(task)), 0.75, extra=0.6, side=0.5)
    component = np.arange(1, clean.shape[1] + 1)
    low, high = min(clean.min(), given.min()), max(clean.max(), given.max())
    margin = 0.05 * (high - low)
    for axes, before, after in zip(grid[1], clean, given, strict=True):
        axes.plot(component, after, color=CORRUPTED, linewidth=0.9, label="given")
        axes.plot(component, before, color=CLEAN, linewidth=0.9, linestyle="--", label="clean")
        axes.set_xlabel("component")
        axes.set_ylim(low - margin, high + margin)
    handles, names = grid[1, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2)
    return figure


def _number_labels(
    task: Mapping[str, Any], inputs: np.ndarray, clean: np.ndarray, given: np.ndarray
) -> Figure:
    """Labels of one number or class, as text above each input."""
    figure, grid = _grid(inputs, ("",), inputs.shape[-2] / inputs.shape[-1], extra=0.32)
    unit = f" {task['unit']}" if task["unit"] else ""

    def text(value: Any) -> str:
        if np.issubdtype(clean.dtype, np.integer):
            return str(task["classes"][value]) if task["classes"] else str(value)
        return f"{value:.3g}{unit}"

    for axes, before, after in zip(grid[0], clean, given, strict=True):
        axes.set_title(f"clean: {text(before)}\n→ given: {text(after)}")
    return figure


def _quantity(task: Mapping[str, Any]) -> str:
    return f"{task['name']} ({task['unit']})" if task["unit"] else str(task["name"])
