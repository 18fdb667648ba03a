"""The published numbers beside ours: what agrees and what does not.

The paper is Vasu, Saxena & Tuzel (2021), arXiv 2106.06129; `tables.csv` holds its Tables 1 to 7,
in which methods marked * are cited from other papers. Two suites are the paper's datasets, two
stand in for them on generated data. Numbers of a stand-in differ in size from the published ones
by nature; what can agree is the order of the methods and their gap to equal weights.
"""

from mtlbench.analysis.paper.against import Against, against_paper
from mtlbench.analysis.paper.claims import Claim
from mtlbench.analysis.paper.rendering import render_against
from mtlbench.analysis.paper.tables import published

__all__ = ["Against", "Claim", "against_paper", "published", "render_against"]
