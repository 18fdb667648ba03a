"""A comparison of our runs, put beside a paper."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Against:
    """A comparison beside published numbers.

    Attributes:
        suite: the suite's name.
        dataset: the dataset of the paper.
        rows: one row per (variant, metric, task, strategy) with the columns `rows.ROW_COLUMNS` and
            `paper_text`, the published number as it is printed.
        agreement: one row per (variant, metric, task), with the columns
            `agreement.AGREEMENT_COLUMNS` and more, over the methods that both have. Ranks are
            dense: means that print the same share one.
        labels: what printed tables call each strategy of `rows`.
        metric_labels: what printed tables call each (metric, task).
        remarks: for each variant of `rows`, sentences about runs that are missing.
        left_out: sentences about variants that only one side has.
    """

    suite: str
    dataset: str
    rows: pd.DataFrame
    agreement: pd.DataFrame
    labels: dict[str, str]
    metric_labels: dict[tuple[str, str], str]
    remarks: dict[str, list[str]]
    left_out: list[str]
