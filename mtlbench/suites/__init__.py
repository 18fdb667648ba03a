"""Benchmark suites: `base` says what a suite is, each other file is one.

Importing this package registers them all.
"""

from mtlbench.suites import digits, streets
from mtlbench.suites.base import Data, Split, Suite, Targets

__all__ = ["Data", "Split", "Suite", "Targets", "digits", "streets"]
