"""A strategy of one's own, as a plugin.

mtlbench run digits --plugin examples/own_strategy.py --strategies equal,inverse,ilt+inverse
"""

from torch import Tensor

from mtlbench import LossWeighting, register_strategy


@register_strategy("inverse", label="Inverse")
class InverseLoss(LossWeighting):
    """Weighs each task by one over its loss, raised to a power."""

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        if power <= 0:
            raise ValueError(f"power must be above 0, but is {power}")
        self.power = power

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        return losses.clamp(min=1e-6) ** -self.power
