"""Benchmark suites: `base` says what a suite is, each other file is one.

Importing this package registers them all.
"""

from mtlbench.data.splits import Data, Split, Targets
from mtlbench.suites import (
    bodies,
    celeba,
    census,
    cityscapes,
    compounds,
    digits,
    multimnist,
    nyuv2,
    office,
    qm9,
    streets,
    surreal,
    yeast,
)
from mtlbench.suites.base import Suite

__all__ = [
    "Data",
    "Split",
    "Suite",
    "Targets",
    "bodies",
    "celeba",
    "census",
    "cityscapes",
    "compounds",
    "digits",
    "multimnist",
    "nyuv2",
    "office",
    "qm9",
    "streets",
    "surreal",
    "yeast",
]
