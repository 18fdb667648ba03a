"""The paper's tables as data, and the names that the paper and we have for the same things."""

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from mtlbench.data.variants import forms

LABELS = {
    "equal": "Eq. Weight", "mtu": "MTU", "dwa": "DWA", "gls": "GLS", "ilt": "ILT Params",
}  # fmt: skip
"""The methods that the paper ran itself, as its tables call them."""


@cache
def published() -> pd.DataFrame:
    """The paper's tables: one row per (dataset, variant, method, metric).

    Returns:
        The columns of `tables.csv`, and `text`: mean and standard deviation as printed.
    """
    frame = pd.read_csv(Path(__file__).with_name("tables.csv"), dtype=str)
    text = frame["mean"] + (" ± " + frame["std"]).fillna("")
    kinds: Any = {"table": int, "mean": float, "std": float, "runs": "Int64"}
    return frame.astype(kinds).assign(text=text)


def variant_key(variant: str) -> frozenset[tuple[frozenset[str], str, str]]:
    """The same for all spellings of a variant: its clauses and their tasks, in any order."""
    return frozenset((frozenset(tasks), fraction, kind) for tasks, fraction, kind in forms(variant))


def corrupted_tasks(variant: str) -> list[str]:
    """The tasks that a published variant corrupts, on the same instances."""
    return [task for form in forms(variant) for task in form.tasks]
