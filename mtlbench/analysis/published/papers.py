"""The papers whose tables are here as data."""

from dataclasses import dataclass

ILT = "ilt"


@dataclass(frozen=True)
class Paper:
    """A paper.

    Attributes:
        name: as the command line has it: that of the method which it is about.
        label: as sentences have it.
        rows_of: names of the papers whose rows its tables have, its own last.
        reference: authors, title and place.
    """

    name: str
    label: str
    rows_of: tuple[str, ...]
    reference: str


PAPERS = {
    paper.name: paper
    for paper in (
        Paper(
            ILT,
            "ILT (Vasu, Saxena, Tuzel 2021)",
            (ILT,),
            "Vasu, Saxena, Tuzel: Instance-Level Task Parameters: A Robust Multi-task Weighting "
            "Framework, arXiv 2106.06129, 2021",
        ),
        Paper(
            "nash-mtl",
            "Nash-MTL (Navon et al. 2022)",
            ("nash-mtl",),
            "Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya: Multi-Task Learning as "
            "a Bargaining Game, ICML 2022",
        ),
        Paper(
            "famo",
            "FAMO (Liu et al. 2023)",
            ("nash-mtl", "famo"),
            "Liu, Feng, Stone, Liu: FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023",
        ),
        Paper(
            "fairgrad",
            "FairGrad (Ban, Ji 2024)",
            ("nash-mtl", "famo", "fairgrad"),
            "Ban, Ji: Fair Resource Allocation in Multi-Task Learning, ICML 2024",
        ),
    )
}
"""By name."""
