"""TorchJD's classes by name, each as a registered stage."""

import functools
import inspect
import typing
from typing import Any

from torch import nn
from torchjd import aggregation, scalarization
from torchjd.aggregation import GramianWeightedAggregator, Weighting
from torchjd.linalg import PSDMatrix
from torchjd.scalarization import Scalarizer

from mtlbench.errors import UserError, unknown
from mtlbench.registry import Entry
from mtlbench.strategies.torchjd_bridge.parameters import NAMESPACE, is_text, settable
from mtlbench.strategies.torchjd_bridge.stages import (
    Bridge,
    DirectionBridge,
    GramianBridge,
    ScalarizerBridge,
)

UNFIT = {
    "FAMO": "it measures the losses again after the network's step",
    "MoDoWeighting": "it takes the gradients of two batches a step",
    "SDMGradWeighting": "it takes the gradients of three batches a step",
}
"""Classes that a step of one batch cannot serve."""


@functools.cache
def find(name: str) -> Entry:
    """The entry of a class of TorchJD.

    Raises:
        UserError: TorchJD has none of that name, or it cannot serve here.
    """
    known = {
        key: getattr(module, key)
        for module in (aggregation, scalarization)  # of two with one name the latter
        for key in module.__all__
        if not inspect.isabstract(getattr(module, key))
    }
    if name not in known:
        fit = [f"{NAMESPACE}:{key}" for key in known if key not in UNFIT]
        raise unknown("strategy", f"{NAMESPACE}:{name}", fit)
    if name in UNFIT:
        raise UserError(f"strategy '{NAMESPACE}:{name}' does not fit: {UNFIT[name]}")
    cls = known[name]
    if issubclass(cls, Scalarizer):
        base: type[Bridge] = ScalarizerBridge
        what = "an objective of the losses"
    elif issubclass(cls, GramianWeightedAggregator) or _weighs_gramian(cls):
        base, what = GramianBridge, "weights from the Gramian of the gradients"
    else:
        base, what = DirectionBridge, "a direction from the gradients"
    return Entry(f"{NAMESPACE}:{name}", _bridge(cls, base, what), f"{name} (TorchJD)", "")


def __getattr__(name: str) -> type:
    """The stage of a class, where a pickle looks for it."""
    try:
        return find(name).cls
    except UserError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def _weighs_gramian(cls: type) -> bool:
    """True of a weighting that derives from `Weighting[PSDMatrix]`."""
    return any(
        typing.get_origin(base) is Weighting and typing.get_args(base) == (PSDMatrix,)
        for ancestor in cls.__mro__
        for base in vars(ancestor).get("__orig_bases__", ())
    )


def _bridge(cls: type[nn.Module], base: type[Bridge], what: str) -> type[Bridge]:
    """A class with the parameters of another one that can be given as text."""

    def initialise(self: Bridge, **values: Any) -> None:
        base.__init__(self, values)

    parameters = settable(cls).values()
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    initialise.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
    initialise.__annotations__ = {
        p.name: str if is_text(p.annotation) else p.annotation for p in parameters
    }
    contents = {
        "__init__": initialise,
        "torchjd_class": cls,
        "__doc__": f"TorchJD's {cls.__name__}: {what}.",
    }
    return type(cls.__name__, (base,), contents)
