"""Papers on multi-task optimisation beside our runs: Nash-MTL, FAMO and FairGrad.

They print the same tables of NYUv2, CityScapes and QM9, each with rows more than the one before.
`tables.csv` holds every row once, with the paper that it is from. Its numbers were typed by hand
and have not been read beside the papers. What was checked is that each row gives the Δm that is
printed at its end, as far as the rounding of the printed digits allows; see `tables.CHECKED`.
"""

from mtlbench.analysis.published.optimization.against import (
    AgainstTables,
    against_tables,
    require_suite,
)
from mtlbench.analysis.published.optimization.rendering import as_data, as_page
from mtlbench.analysis.published.optimization.tables import published

__all__ = [
    "AgainstTables", "against_tables", "as_data", "as_page", "published", "require_suite",
]  # fmt: skip
