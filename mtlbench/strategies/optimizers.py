"""The state of an optimiser, to save and to restore."""

import inspect
from typing import Any

import torch


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of an optimiser, with the parameters that it has any for."""
    state = optimizer.state_dict()
    return {**state, "stepped": sorted(state["state"])}


@torch.inference_mode(False)
def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Takes over a copy of what `optimizer_state` gave. PyTorch itself takes a state of any shape,
    and the tensors themselves.

    Raises:
        ValueError: it is not of such an optimiser.
    """
    own = optimizer.state_dict()["param_groups"]
    given = state["param_groups"]
    if [g["params"] for g in given] != [g["params"] for g in own]:
        raise ValueError("the optimiser has other groups of parameters")
    if not all(set(mine) <= set(group) for mine, group in zip(own, given, strict=True)):
        raise ValueError("the optimiser is another one")
    if sorted(state["state"]) != state["stepped"]:
        raise ValueError("the optimiser's state lacks a parameter")
    wanted = _state_of_a_step(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, values in state["state"].items():
        if wanted is not None and set(values) != set(wanted):
            raise ValueError("the optimiser is another one")
        for name, value in values.items():
            like = wanted[name] if wanted is not None else value
            if isinstance(value, torch.Tensor) != isinstance(like, torch.Tensor):
                raise ValueError(f"{name} of the optimiser is of another type")
            if isinstance(value, torch.Tensor) and isinstance(like, torch.Tensor):
                shape = parameters[number].shape if like.ndim else torch.Size()
                if wanted is not None and value.shape != shape:
                    raise ValueError(f"{name} of the optimiser has another shape")
    copies = {number: _copied(values) for number, values in state["state"].items()}
    optimizer.load_state_dict({"state": copies, "param_groups": given})


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.detach().clone() if isinstance(value, torch.Tensor) else value
        for name, value in values.items()
    }


def _state_of_a_step(optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """The state of such an optimiser for a parameter after a step; None where it cannot be made
    anew."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.zeros(2)
    try:
        taken = inspect.signature(type(optimizer)).parameters  # AdamW's defaults name more
        options = {name: value for name, value in optimizer.defaults.items() if name in taken}
        other: Any = type(optimizer)([parameter], **options)
        other.step()
    except Exception:
        return None
    return dict(other.state[parameter])
