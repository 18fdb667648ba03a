"""A gradient weighting behind the logarithm of the losses."""

from collections.abc import Mapping

from torch import Tensor

from mtlbench.strategies.base import GRADIENT, Setting, TaskStage
from mtlbench.strategies.gradients import TaskLosses
from mtlbench.strategies.network import Network
from mtlbench.strategies.scalarizations import invert


class OfLogLosses(TaskStage):
    """A gradient weighting that minimises log L_k in the place of L_k.

        g_k = ∇ log L_k = ∇L_k / L_k

    for the shared parameters and for the heads. The weighting sees these gradients beside the
    losses themselves, and its weights are those of log L_k: the unit of a loss makes no
    difference. The gradient of a loss of 0 is 0.

    Args:
        inner: the weighting, in its wrapper or not.
    """

    stage = GRADIENT
    least_loss = 0.0

    def __init__(self, inner: TaskStage) -> None:
        super().__init__()
        self.inner = inner
        self.needs_representation = inner.needs_representation

    @property
    def gives_direction(self) -> bool:
        return self.inner.gives_direction

    def start(self, setting: Setting) -> None:
        self.inner.start(setting)

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        self.inner.end_epoch(losses, validation)

    def backward(self, losses: TaskLosses, network: Network) -> Tensor:
        weights = losses.instance_weights * invert(losses.values)
        return self.inner.backward(losses.weighed(weights), network)
