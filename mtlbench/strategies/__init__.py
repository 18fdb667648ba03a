"""Weighting strategies: `base` holds the stages, `strategy` joins them, other files a family each.

Importing this package registers them all; TorchJD is imported when a name of it is asked for.
"""

from mtlbench.errors import UserError
from mtlbench.registry import Entry
from mtlbench.strategies import (
    aligned,
    alignment,
    auto_lambda,
    bargaining,
    cagrad,
    curriculum,
    data_parameters,
    db_mtl,
    discrepancy,
    dual_cone,
    dwa,
    elr,
    equal_angles,
    evolution,
    excess,
    famo,
    fixed,
    geometric,
    graddrop,
    gradnorm,
    gramian,
    group_alignment,
    ilt,
    imtl_l,
    instance_wise,
    mgda,
    moco,
    modo,
    mw_net,
    priority,
    random_weights,
    robust,
    samo,
    scalarizations,
    sdmgrad,
    softmax_uncertainty,
    surgery,
    uncertainty,
)
from mtlbench.strategies.base import (
    GradientWeighting,
    InstanceStage,
    LossWeighting,
    Setting,
    TaskStage,
    strategies,
)
from mtlbench.strategies.strategy import EpochSummary, Strategy

__all__ = [
    "EpochSummary",
    "GradientWeighting",
    "InstanceStage",
    "LossWeighting",
    "Setting",
    "Strategy",
    "TaskStage",
    "aligned",
    "alignment",
    "auto_lambda",
    "bargaining",
    "cagrad",
    "curriculum",
    "data_parameters",
    "db_mtl",
    "discrepancy",
    "dual_cone",
    "dwa",
    "elr",
    "equal_angles",
    "evolution",
    "excess",
    "famo",
    "fixed",
    "geometric",
    "graddrop",
    "gradnorm",
    "gramian",
    "group_alignment",
    "ilt",
    "imtl_l",
    "instance_wise",
    "mgda",
    "moco",
    "modo",
    "mw_net",
    "priority",
    "random_weights",
    "robust",
    "samo",
    "scalarizations",
    "sdmgrad",
    "softmax_uncertainty",
    "surgery",
    "uncertainty",
]


def _find_in_torchjd(name: str) -> Entry:
    try:
        from mtlbench.strategies import torchjd_bridge
    except ModuleNotFoundError as error:
        if error.name != "torchjd":
            raise
        raise UserError(
            f"strategy 'torchjd:{name}': TorchJD is not installed; pip install 'mtlbench[torchjd]'"
        ) from None
    return torchjd_bridge.find(name)


strategies.register_namespace("torchjd", _find_in_torchjd)
