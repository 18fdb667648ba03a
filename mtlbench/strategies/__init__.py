"""Weighting strategies: `base` holds the contract, each other file one family.

Importing this package registers them all.
"""

from mtlbench.strategies import (
    dwa,
    famo,
    fixed,
    geometric,
    gramian,
    group_alignment,
    ilt,
    imtl_l,
    priority,
    random_weights,
    scalarizations,
    softmax_uncertainty,
    uncertainty,
)
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
    "famo",
    "fixed",
    "geometric",
    "gramian",
    "group_alignment",
    "ilt",
    "imtl_l",
    "priority",
    "random_weights",
    "scalarizations",
    "softmax_uncertainty",
    "uncertainty",
]
