"""A comparison of our runs beside a paper, by the name of the paper."""

from collections.abc import Sequence
from typing import Any

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.published import ilt, optimization
from mtlbench.analysis.published.against import Against
from mtlbench.analysis.published.page import Page, write_page
from mtlbench.analysis.published.papers import ILT, PAPERS
from mtlbench.analysis.published.rows import ROW_COLUMNS
from mtlbench.analysis.writers import as_json
from mtlbench.errors import unknown


def require_published(paper: str, suite: str, variants: Sequence[str] | None = None) -> None:
    """Makes sure, before runs are read, that a paper has something to hold them against.

    Args:
        paper: one of `PAPERS`.
        suite: the suite's name.
        variants: those that are asked for, where some are.

    Raises:
        UserError: it has no table of the suite, or one on clean labels alone where others are
            asked for.
    """
    if paper == ILT:
        ilt.require_suite(suite)
    else:
        optimization.require_suite(PAPERS[paper], suite, variants)


def put_beside(comparison: Comparison, paper: str) -> Against:
    """Puts the numbers of a paper beside a comparison.

    Args:
        comparison: our numbers.
        paper: one of `PAPERS`.

    Raises:
        UserError: there is no such paper; or as `ilt.against_ilt` and
            `optimization.against_tables`.
    """
    if paper not in PAPERS:
        raise unknown("paper", paper, PAPERS)
    if paper == ILT:
        return ilt.against_ilt(comparison)
    return optimization.against_tables(comparison, PAPERS[paper])


def render_against(against: Against, format: str, *, terminal: bool = False) -> str:
    """Writes a comparison with a paper in one of the `table.FORMATS`.

    Args:
        against: what to write.
        format: one of the formats. CSV is long form, with the columns `ROW_COLUMNS`; JSON has the
            same rows, the agreement, and what else there is.
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.

    Raises:
        UserError: there is no such format.
    """
    if format == "csv":
        return against.rows[ROW_COLUMNS].to_csv(index=False, lineterminator="\n")
    if format == "json":
        return as_json(_data(against))
    return write_page(format, lambda plain: _page(against, plain), terminal=terminal)


def _page(against: Against, plain: bool) -> Page:
    if isinstance(against, ilt.AgainstILT):
        return ilt.as_page(against, plain)
    assert isinstance(against, optimization.AgainstTables)
    return optimization.as_page(against, plain)


def _data(against: Against) -> dict[str, Any]:
    if isinstance(against, ilt.AgainstILT):
        return ilt.as_data(against)
    assert isinstance(against, optimization.AgainstTables)
    return optimization.as_data(against)
