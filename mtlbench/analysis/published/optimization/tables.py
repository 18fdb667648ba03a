"""The papers and their tables as data."""

from functools import cache
from pathlib import Path

import pandas as pd

from mtlbench.analysis.published.papers import Paper

DELTA_M = "delta_m"
"""The metric, of no task, that a row of a table ends with: the mean drop relative to single-task
networks over all metrics (%), negative is better."""

SINGLE, EQUAL = "single", "equal"

RUNS = 3
"""That each number is the mean of."""


CHECKED = (
    "the paper's numbers were typed by hand and have not been read beside it; checked is that each "
    "row gives the Δm printed at its end, as far as the rounding of the printed digits allows"
)
"""What is known of the numbers, for all who see them."""

EXCEPTIONS = {("nyuv2", "imtl-g"): ("-0.60", "-0.76")}
"""(dataset, method) of rows that do not, to the Δm that the row gives and the one printed."""


@cache
def published() -> pd.DataFrame:
    """All tables: one row per (dataset, method, metric, task), in the order of the papers' rows.

    Returns:
        The columns of `tables.csv`: `paper`, the name of the one that the row is from;
        `dataset`, which is the name of a suite; `name` of the method as printed, and `method`, the
        strategy that it is here; `task` and `metric`, by our names, or "" and `DELTA_M`; `unit`,
        which is ours: where a relative error is printed as a ratio, it is in percent here, with
        the same digits; `direction`; `mean`. And `text`, the mean with the digits as printed;
        `runs`.
    """
    path = Path(__file__).with_name("tables.csv")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return frame.assign(text=frame["mean"], mean=frame["mean"].astype(float), runs=RUNS)


def table_of(paper: Paper, dataset: str) -> pd.DataFrame:
    """The rows of `published` that a paper's table of a dataset has."""
    table = published()
    return table[(table["dataset"] == dataset) & table["paper"].isin(paper.rows_of)]
