"""The modes of PyTorch that a step of a strategy is taken in, whatever those around it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch

DEVICES = ("cpu", "cuda")
"""Kinds of devices with an autocast of their own."""

Given = TypeVar("Given")
Autocast = list[tuple[str, torch.dtype]]
"""Kinds of devices whose autocast is on, and to what."""


@contextmanager
def plain_modes() -> Iterator[Autocast]:
    """Records gradients and keeps the precision of numbers, also under `torch.no_grad`,
    `inference_mode` or autocast, which it gives: the caller's functions are to have it."""
    around = [
        (device, torch.get_autocast_dtype(device))
        for device in DEVICES
        if torch.is_autocast_enabled(device)
    ]
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        for device, dtype in around:
            modes.enter_context(torch.autocast(device, dtype, enabled=False))
        yield around


def called_with(autocast: Autocast, function: Callable[[], Given]) -> Callable[[], Given]:
    """A function that calls another under autocast."""

    def call() -> Given:
        with ExitStack() as modes:
            for device, dtype in autocast:
                modes.enter_context(torch.autocast(device, dtype))
            return function()

    return call
