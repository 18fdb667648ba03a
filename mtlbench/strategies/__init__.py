"""Weighting strategies: `base` holds the contract, each other file one family.

Importing this package registers them all.
"""

from mtlbench.strategies import dwa, fixed, geometric, gramian, ilt, uncertainty
from mtlbench.strategies.base import (
    EpochSummary,
    GradientWeighting,
    InstanceStage,
    LossWeighting,
    Setting,
    Strategy,
    TaskStage,
)

__all__ = [
    "EpochSummary",
    "GradientWeighting",
    "InstanceStage",
    "LossWeighting",
    "Setting",
    "Strategy",
    "TaskStage",
    "dwa",
    "fixed",
    "geometric",
    "gramian",
    "ilt",
    "uncertainty",
]
