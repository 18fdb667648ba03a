"""The modes of PyTorch that a step of a strategy is taken in, whatever those around it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

DEVICES = ("cpu", "cuda")
"""Kinds of devices with an autocast of their own."""

Given = TypeVar("Given")


@dataclass(frozen=True)
class Modes:
    """The modes of a caller.

    Attributes:
        autocast: kinds of devices whose autocast is on, and to what.
        device: where tensors are made that nobody says a device of.
    """

    autocast: list[tuple[str, torch.dtype]]
    device: torch.device


@contextmanager
def plain_modes() -> Iterator[Modes]:
    """Records gradients, keeps the precision of numbers and makes tensors on the CPU, also under
    `torch.no_grad`, `inference_mode`, autocast or another default device. Gives the modes around
    it: the caller's functions are to have them."""
    autocast = [
        (device, torch.get_autocast_dtype(device))
        for device in DEVICES
        if torch.is_autocast_enabled(device)
    ]
    around = Modes(autocast, torch.get_default_device())
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        for device, dtype in autocast:
            modes.enter_context(torch.autocast(device, dtype, enabled=False))
        if around.device.type != "cpu":  # a device in force costs time in every call
            modes.enter_context(torch.device("cpu"))
        yield around


def called_with(around: Modes, function: Callable[[], Given]) -> Callable[[], Given]:
    """A function that calls another as from where these modes are."""

    def call() -> Given:
        with ExitStack() as modes:
            for device, dtype in around.autocast:
                modes.enter_context(torch.autocast(device, dtype))
            if around.device.type != "cpu":
                modes.enter_context(around.device)
            return function()

    return call
