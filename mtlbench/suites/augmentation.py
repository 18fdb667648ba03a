"""Parts of the augmentations of several suites."""

import torch
from torch import Tensor


def draw_half(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """A mask of the instances that are changed, each with probability one half: bool [B]."""
    # A blocking copy would wait for all that the device has still to do.
    return (torch.rand(count, generator=generator) < 0.5).to(device, non_blocking=True)


def choose(changed: Tensor, after: Tensor, before: Tensor) -> Tensor:
    """Values [B, …] of the instances that are changed [B], and of those that are not."""
    return torch.where(changed.view(-1, *[1] * (before.ndim - 1)), after, before)
