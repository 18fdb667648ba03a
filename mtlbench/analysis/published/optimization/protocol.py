"""How the papers trained, and how our runs were trained.

The papers' side is that of their code, in which all three agree: github.com/AvivNavon/nash-mtl,
github.com/Cranial-XIX/FAMO, github.com/OptMN-Lab/fairgrad. Ours is what the runs say of
themselves, and what the suite does whatever its parameters.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mtlbench.analysis.printing import MISSING
from mtlbench.tasks.epoch_rule import LAST, EpochRule

Parameters = Mapping[str, Any]
"""Of a suite, by name."""


@dataclass(frozen=True)
class Point:
    """One point of a protocol.

    Attributes:
        name: what it is about.
        paper: what the papers do.
        ours: what we do.
    """

    name: str
    paper: str
    ours: str


def protocol(suite: str, runs: Iterable[Parameters]) -> list[Point]:
    """The papers' protocol of a suite beside that of our runs.

    Args:
        suite: one of those that the papers have a table of.
        runs: the suite's parameters in each run. Of runs that differ, all values are told.
    """
    several = list(runs)
    return [Point(name, paper, _told(ours, several)) for name, paper, ours in _POINTS[suite]]


def _told(ours: Callable[[Parameters], str], runs: Iterable[Parameters]) -> str:
    texts = []
    for parameters in runs:
        try:
            texts.append(ours(parameters))
        except (KeyError, TypeError, ValueError):  # of another release
            texts.append(MISSING)
    return " or ".join(dict.fromkeys(texts)) or MISSING


def _epochs(parameters: Parameters) -> str:
    return f"{parameters['epochs']}, batches of {parameters['batch_size']}"


def _adam(parameters: Parameters) -> str:
    decay = parameters["weight_decay"]
    return f"Adam at {parameters['lr']:g}" + (f" with weight decay {decay:g}" if decay else "")


def _metrics(parameters: Parameters) -> str:
    return str(EpochRule.parse(parameters.get("epoch_rule", LAST)))


def _molecules(parameters: Parameters) -> str:
    count = 110_831 if parameters["full"] else parameters["train_size"]
    return f"{count:,} molecules"


_SCENES = ("Network", "MTAN: SegNet, attention for each task")
_STEPS = ("Optimiser", "Adam at 0.0001, half of it from half time on")
_LAST_TEN = ("Metrics", "as the mean over the last 10 epochs")
_HELD_OUT = "nine tenths of them, a tenth for validation"

_POINTS: dict[str, list[tuple[str, str, Callable[[Parameters], str]]]] = {
    "nyuv2": [
        (*_SCENES, lambda p: f"SegNet, {p['channels']} channels at first"),
        ("Training data", "all 795 scenes", lambda p: _HELD_OUT),
        ("Epochs", "200, batches of 2", _epochs),
        (*_STEPS, lambda p: f"{_adam(p)}, half of it from half time on"),
        (*_LAST_TEN, _metrics),
    ],
    "cityscapes": [
        (*_SCENES, lambda p: f"HRNetV2-W{p['width']}"),
        ("Training data", "all 2,975 scenes", lambda p: _HELD_OUT),
        ("Augmentation", "enlarged, cut, mirrored", lambda p: "mirrored"),
        ("Loss of depth", "absolute error", lambda p: "squared error"),
        ("Epochs", "200, batches of 8", _epochs),
        (*_STEPS, lambda p: f"{_adam(p)}, falling by half a cosine"),
        (*_LAST_TEN, _metrics),
    ],
    "qm9": [
        (
            "Network",
            "messages along bonds and distances, set2set",
            lambda p: "messages by distance, 3 rounds",
        ),
        ("Training data", "110,831 molecules", _molecules),
        ("Epochs", "300, batches of 120", _epochs),
        (
            "Optimiser",
            "Adam at 0.001, times 0.7 where Δm stalls",
            lambda p: f"{_adam(p)}, falling by half a cosine",
        ),
        ("Metrics", "at the epoch of best validation Δm", _metrics),
    ],
}
