"""All figures of the stored runs of one suite."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mtlbench.analysis.aggregate import Comparison, compare
from mtlbench.analysis.figures.budget import budget_figure
from mtlbench.analysis.figures.curves import detection, validation_curves
from mtlbench.analysis.figures.frontier import frontier_figure
from mtlbench.analysis.figures.labels import label_figures
from mtlbench.analysis.figures.levels import levels_figure
from mtlbench.analysis.figures.predictions import predictions_figure
from mtlbench.analysis.figures.sigma import sigma_figures
from mtlbench.analysis.figures.style import Configuration, lines, save_figures
from mtlbench.analysis.levels import corruptions
from mtlbench.analysis.results import directories
from mtlbench.store.runs import Places, read_run
from mtlbench.store.schema import DONE


def draw_figures(
    results: Places | None,
    suite: str,
    out: str | Path,
    variants: Iterable[str] | None = None,
    strategies: Iterable[str] | None = None,
    *,
    seeds: int | None = None,
    hashes: Collection[str] | None = None,
    reference: bool = False,
) -> list[Path]:
    """Draws every figure that the runs of a suite allow, and skips those that do not apply.

    Args:
        results: the results directories, as for `compare`.
        suite: the suite's name.
        out: the directory for the figures; made where missing.
        variants: which variants; all by default.
        strategies: which strategies; all by default.
        seeds: only runs with so many seeds, counted from 0; all by default.
        hashes: only the runs with these hashes; all by default.
        reference: the reference results, too, in figures of final metrics only: there is nothing
            else of them. Runs with a file that was altered are left out.

    Returns:
        The files written: each figure as PNG (200 dpi) and as SVG.

    Raises:
        UserError: there is no such directory, suite, variant or strategy.
    """
    comparison = compare(
        results,
        suite,
        variants,
        strategies,
        seeds=seeds,
        hashes=hashes,
        reference=reference,
        thorough=True,
    )
    return save_figures(_figures(comparison, directories(results, reference)), out)


def _figures(comparison: Comparison, roots: Sequence[Path]) -> Iterator[tuple[str, Figure]]:
    """All figures of a comparison with results directories, as (name, figure)."""
    runs = comparison.runs[comparison.runs["status"] == DONE].drop_duplicates("hash")
    runs = runs[runs["path"] != ""]
    line_of = lines(list(comparison.labels))
    for variant, inside in runs.groupby("variant", sort=False):
        configurations = [
            Configuration(
                str(key),
                comparison.labels[str(key)],
                line_of[str(key)],
                [read_run(Path(path)) for path in rows["path"]],
            )
            for key, rows in inside.groupby("configuration", sort=False)
        ]
        for name, figure in _variant_figures(configurations):
            yield f"{comparison.suite}_{variant}_{name}", figure
    for variant in comparison.variants:
        of_tunings = {
            "budget": budget_figure(comparison, variant),
            "frontier": frontier_figure(comparison, variant, roots),
        }
        for name, drawn in of_tunings.items():
            if drawn is not None:
                yield f"{comparison.suite}_{variant}_{name}", drawn
    for corruption in corruptions(comparison):
        yield f"{comparison.suite}_levels_{corruption}", levels_figure(comparison, corruption)


def _variant_figures(configurations: Sequence[Configuration]) -> Iterator[tuple[str, Figure]]:
    """One variant's figures, as (name, figure)."""
    draw_together: dict[str, Callable[[Sequence[Configuration]], Figure | None]] = {
        "validation_curves": validation_curves,
        "detection": detection,
        "predictions": predictions_figure,
    }
    for name, draw in draw_together.items():
        figure = draw(configurations)
        if figure is not None:
            yield name, figure
    yield from label_figures(configurations)
    for configuration in configurations:
        for name, figure in sigma_figures(configuration):
            yield f"{configuration.key}_{name}", figure
