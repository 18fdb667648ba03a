"""Base of gradient weightings that keep a number for each task and shared parameter."""

from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.strategies.base import GradientWeighting, Setting


class GradientTracking(GradientWeighting):
    """A gradient weighting with a state [K, P] beside the Jacobian.

    The number P of shared parameters is known only at the first step: the buffer `tracked` has
    the shape [K, 0] until then, and takes the shape of what was saved when a state is loaded.
    """

    tracks_parameters = True

    def start(self, setting: Setting) -> None:
        shape = (len(setting.tasks), 0)
        self.register_buffer(
            "tracked", torch.zeros(shape, device=setting.device, dtype=setting.dtype)
        )
        self.register_load_state_dict_pre_hook(_take_saved_shape)

    def rows(self, jacobian: Tensor) -> Tensor:
        """The buffer [K, P] to change in place, 0 at first.

        Raises:
            ValueError: the number of shared parameters has changed.
        """
        tracked = self.get_buffer("tracked")
        if tracked.shape[1] == 0:
            self.tracked = tracked = torch.zeros_like(jacobian)
        if tracked.shape != jacobian.shape:
            raise ValueError(
                f"the number of shared parameters must stay {tracked.shape[1]}, but is "
                f"{jacobian.shape[1]}"
            )
        return tracked


def _take_saved_shape(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    saved = state.get(f"{prefix}tracked")
    if saved is not None:
        module.tracked = module.get_buffer("tracked").new_zeros(saved.shape)
