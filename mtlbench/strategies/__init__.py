"""Weighting strategies: `base` holds the contract, each other file one family.

Importing this package registers them all.
"""

from mtlbench.strategies import (
    curriculum,
    data_parameters,
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
    robust,
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
    "curriculum",
    "data_parameters",
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
    "robust",
    "scalarizations",
    "softmax_uncertainty",
    "uncertainty",
]
