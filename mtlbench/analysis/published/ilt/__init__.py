"""The paper that this benchmark is built around, beside our runs: what agrees and what does not.

The paper is Vasu, Saxena & Tuzel (2021), arXiv 2106.06129; `tables.csv` holds its Tables 1 to 7,
in which methods marked * are cited from other papers. Two suites are the paper's datasets, two
stand in for them on generated data. Numbers of a stand-in differ in size from the published ones
by nature; what can agree is the order of the methods and their gap to equal weights.
"""

from mtlbench.analysis.published.ilt.against import AgainstILT, against_ilt, require_suite
from mtlbench.analysis.published.ilt.claims import Claim
from mtlbench.analysis.published.ilt.rendering import as_data, as_page
from mtlbench.analysis.published.ilt.tables import published

__all__ = [
    "AgainstILT", "Claim", "against_ilt", "as_data", "as_page", "published", "require_suite",
]  # fmt: skip
