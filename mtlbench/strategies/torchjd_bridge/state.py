"""The random numbers and the state of TorchJD's objects, which draw and remember by themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.randomness import global_draws_from


@contextmanager
def draws_from(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Lets draws from the global generator of a device depend on a CPU generator alone."""
    if device.type == "cpu":
        with global_draws_from(generator):
            yield
    else:
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng([device], device_type=device.type):
            torch.manual_seed(seed)
            yield


def state_of(part: nn.Module) -> dict[str, Any]:
    """The buffers and plain attributes of a module, without its parameters and submodules."""
    plain = {name: v for name, v in vars(part).items() if name not in vars(nn.Module())}
    frozen = {name: freeze(value) for name, value in {**part._buffers, **plain}.items()}
    return {name: value for name, value in frozen.items() if value is not NotImplemented}


def freeze(value: Any) -> Any:
    """A value as a tree that a checkpoint can hold; NotImplemented for one that it cannot."""
    if value is None or isinstance(value, Tensor | bool | int | float):
        return value
    if isinstance(value, tuple | list):
        return type(value)(freeze(item) for item in value)
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": None}
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(value.copy())}
    return NotImplemented


def thaw(value: Any, device: torch.device) -> Any:
    """The value that was frozen, its tensors on a device, which may be another one than before."""
    if isinstance(value, Tensor):
        return value.to(device, copy=True)
    if isinstance(value, tuple | list):
        return type(value)(thaw(item, device) for item in value)
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "dtype":
            return getattr(torch, content)
        if kind == "device":
            return torch.empty(0, device=device).device  # with its index
        return content.cpu().numpy().copy()
    return value
