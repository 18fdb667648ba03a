"""Base of gradient weightings that keep a number for each task and shared parameter."""

import torch
from torch import Tensor

from mtlbench.strategies.base import GradientWeighting, Setting
from mtlbench.strategies.kept import LateTensor


class GradientTracking(GradientWeighting):
    """A gradient weighting with a state [K, P] beside the Jacobian.

    The number P of shared parameters is known only at the first step: `tracked` has the
    shape [K, 0] until then, and takes the shape of what was saved when a state is loaded.
    """

    tracks_parameters = True

    def start(self, setting: Setting) -> None:
        self.tracked = LateTensor(setting.tensor([]).new_zeros(len(setting.tasks), 0))

    def rows(self, jacobian: Tensor) -> Tensor:
        """The state [K, P] to change in place, 0 at first.

        Raises:
            ValueError: the number of shared parameters has changed.
        """
        if self.tracked.values.shape[1] == 0:
            self.tracked.values = torch.zeros_like(jacobian)
        tracked = self.tracked.values
        if tracked.shape != jacobian.shape:
            raise ValueError(
                f"the number of shared parameters must stay {tracked.shape[1]}, but is "
                f"{jacobian.shape[1]}"
            )
        return tracked
