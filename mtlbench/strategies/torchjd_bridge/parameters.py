"""The parameters of TorchJD's classes that can be given as text."""

import inspect
import math
import typing
from typing import Any, Literal

from torch import Tensor
from torchjd.linalg import DualConeProjector, QuadprogProjector
from torchjd.scalarization import Scalarizer

from mtlbench.errors import UserError

NAMESPACE = "torchjd"

NUMBER_OF_TASKS = ("shape", "n_tasks")
"""Parameters that are K and are not asked for."""

LEARNING_RATE = inspect.Parameter(
    "lr", inspect.Parameter.KEYWORD_ONLY, default=2.5e-3, annotation=float
)
"""Of scalarizers that learn; the default is that of Kendall et al. 2018, as for `mtu`."""


def settable(cls: type) -> dict[str, inspect.Parameter]:
    """The parameters of a class that can be given as text, None written as nothing.

    Raises:
        UserError: one has to be given and cannot.
    """
    found: dict[str, inspect.Parameter] = {}
    hints = typing.get_type_hints(getattr(cls, "__init__"))  # noqa: B009 (mypy)
    for name, parameter in inspect.signature(cls).parameters.items():
        options = typing.get_args(hints[name]) or (hints[name],)
        if name in NUMBER_OF_TASKS:
            if issubclass(cls, Scalarizer):
                found[LEARNING_RATE.name] = LEARNING_RATE
        elif DualConeProjector in options:
            found |= projector_parameters()
        elif hints[name] in (int, float, bool, str) or typing.get_origin(hints[name]) is Literal:
            found[name] = _keyword(parameter, hints[name], parameter.default)
        elif Tensor in options or int in options:
            default = "" if parameter.default is None else parameter.default
            if isinstance(default, float):
                default = str(default)
            found[name] = _keyword(parameter, hints[name], default)
        elif parameter.default is parameter.empty:
            raise UserError(
                f"strategy '{NAMESPACE}:{cls.__name__}' does not fit: its parameter {name!r} "
                "cannot be given as text"
            )
    return found


def projector_parameters() -> dict[str, inspect.Parameter]:
    """Those of the projector that TorchJD has by default."""
    return settable(QuadprogProjector)


def _keyword(parameter: inspect.Parameter, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        parameter.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def is_text(annotation: Any) -> bool:
    """Whether the registry leaves parameters of this type as text."""
    options = typing.get_args(annotation)
    return annotation is Tensor or Tensor in options or int in options


def read(name: str, value: Any, annotation: Any) -> Any:
    """A parameter's value from its text, where the registry has left it as text.

    Returns:
        None, a number, or a tuple of numbers for a tensor.

    Raises:
        ValueError: the text is neither.
    """
    options = typing.get_args(annotation)
    if not isinstance(value, str) or not is_text(annotation):
        return value
    text = value.strip("[]() ")
    if not text and type(None) in options:
        return None
    try:
        if int in options:
            return int(text)
        numbers = tuple(float(item) for item in text.split(","))
        if not all(map(math.isfinite, numbers)):
            raise ValueError
    except ValueError:
        wanted = "a whole number" if int in options else "numbers such as 0.2,0.8"
        raise ValueError(f"{name} must be {wanted}, but is {value!r}") from None
    return numbers[0] if float in options and len(numbers) == 1 else numbers
