"""Any aggregator, weighting or scalarizer of TorchJD by its name, as `torchjd:NAME`.

A name that TorchJD has twice (`Constant`, `Mean`, `Random`, `Sum`) is the scalarizer; the
aggregator is reached by its weighting, `torchjd:MeanWeighting`.
"""

import functools
import inspect
import math
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchjd import Stateful, aggregation, scalarization
from torchjd.aggregation import GramianWeightedAggregator, WeightedAggregator, Weighting
from torchjd.linalg import DualConeProjector, PSDMatrix, QuadprogProjector
from torchjd.scalarization import DWA, Scalarizer

from mtlbench.errors import UserError, unknown
from mtlbench.randomness import global_draws_from
from mtlbench.registry import Entry
from mtlbench.strategies.base import GradientWeighting, LossWeighting, Setting, Stage

NAMESPACE = "torchjd"

UNFIT = {
    "FAMO": "it measures the losses again after the network's step",
    "MoDoWeighting": "it takes the gradients of two batches a step",
    "SDMGradWeighting": "it takes the gradients of three batches a step",
}
"""Classes that a step of one batch cannot serve."""

NUMBER_OF_TASKS = ("shape", "n_tasks")
"""Parameters that are K and are not asked for."""

LEARNING_RATE = inspect.Parameter(
    "lr", inspect.Parameter.KEYWORD_ONLY, default=2.5e-3, annotation=float
)
"""Of scalarizers that learn; the default is that of Kendall et al. 2018, as for `mtu`."""

Rows = tuple[int, ...]


class Bridge(Stage):
    """A stage around an object of TorchJD.

    Tasks without a label in the batch are left out of what the object sees, and of its parameters
    with a number for each task. An object that keeps a state from step to step cannot do without
    a task: it sees all of them, those without a label with a loss and a gradient of 0, which enter
    its state. A batch without any label changes nothing.

    TorchJD draws from PyTorch's global generator; here it draws from the strategy's own.

    Args:
        values: the parameters in `settable`.

    Raises:
        ValueError: a value that cannot be read.
    """

    torchjd_class: ClassVar[type[nn.Module]]

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        annotations = {name: p.annotation for name, p in settable(self.torchjd_class).items()}
        self.values = {name: read(name, v, annotations[name]) for name, v in values.items()}

    def start(self, setting: Setting) -> None:
        """Makes the object for all tasks, after trying another one out.

        Raises:
            UserError: TorchJD needs a package that is not installed.
            ValueError: parameters that are out of range or do not fit the tasks.
        """
        self.setting, self.home = setting, self._home(setting.device)
        self.objects: dict[Rows, nn.Module] = {}
        every = tuple(range(len(setting.tasks)))
        try:
            with torch.no_grad():
                self._call(self._make(every), self._example(), torch.Generator().manual_seed(0))
        except ImportError as error:
            name = f"{NAMESPACE}:{self.torchjd_class.__name__}"
            what, _, _ = str(error).partition(" Install")  # then comes TorchJD's own advice
            raise UserError(
                f"strategy {name!r}: {what.rstrip('.')}; pip install 'mtlbench[torchjd]'"
            ) from None
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        self.objects[every] = self._make(every)
        self.parts = [m for m in self.objects[every].modules() if isinstance(m, Stateful)]

    def get_extra_state(self) -> dict[str, Any]:
        return super().get_extra_state() | {"torchjd": [state_of(part) for part in self.parts]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        for part, saved in zip(self.parts, state["torchjd"], strict=True):
            for name, value in saved.items():
                setattr(part, name, thaw(value, self.home))
            # Nash-MTL makes its problem in its step 0, which is over.
            if make_problem := getattr(part, "_init_optim_problem", None):
                make_problem()

    def _home(self, device: torch.device) -> torch.device:
        """Where the object works."""
        return device

    def _example(self) -> Tensor:
        """What the object may see of all tasks."""
        return torch.eye(len(self.setting.tasks), dtype=self.setting.dtype, device=self.home)

    def _rows(self, present: Tensor) -> Rows:
        """The tasks that the object sees."""
        rows = tuple(present.nonzero().flatten().tolist())
        return tuple(range(len(present))) if rows and self.parts else rows

    def _object(self, rows: Rows) -> nn.Module:
        if rows not in self.objects:
            self.objects[rows] = self._make(rows)
        return self.objects[rows]

    def _make(self, rows: Rows) -> nn.Module:
        arguments: dict[str, Any] = {}
        for name in inspect.signature(self.torchjd_class).parameters:
            if name in NUMBER_OF_TASKS:
                arguments[name] = len(self.setting.tasks)
            elif name == "projector":
                own = {key: self.values[key] for key in projector_parameters()}
                arguments[name] = QuadprogProjector(**own)
            elif name in self.values:
                arguments[name] = self._of(self.values[name], rows)
        return self.torchjd_class(**arguments).to(self.home, self.setting.dtype)

    def _of(self, value: Any, rows: Rows) -> Any:
        if not isinstance(value, tuple):
            return value
        mine = [value[k] for k in rows] if len(value) == len(self.setting.tasks) else value
        return self.setting.tensor(mine).to(self.home)

    def _call(self, module: nn.Module, values: Tensor, generator: torch.Generator) -> Tensor:
        with draws_from(generator, self.home):
            return module(values)


class GramianBridge(Bridge, GradientWeighting):
    """Weighs by a weighting of the Gramian, or by that of an aggregator that has one.

    The Gramian is moved to the CPU: the weightings are loops over few numbers.
    """

    def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        weights = torch.zeros_like(losses)
        rows = self._rows(present)
        if rows:
            some = torch.tensor(rows)
            part = gramian.to(self.home)[some][:, some]
            new = self._call(self._object(rows), part, self.setting.generator)
            weights[some.to(weights.device)] = new.to(weights)
        return weights

    def _home(self, device: torch.device) -> torch.device:
        return torch.device("cpu")

    def _make(self, rows: Rows) -> nn.Module:
        made = super()._make(rows)
        return made.gramian_weighting if isinstance(made, GramianWeightedAggregator) else made


class DirectionBridge(Bridge, GradientWeighting):
    """Moves by an aggregator of the Jacobian, or by a weighting of its rows."""

    @property
    def tracks_parameters(self) -> bool:  # type: ignore[override]
        return issubclass(self.torchjd_class, Stateful)

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        rows = self._rows(present)
        if not rows or not jacobian.shape[1]:
            return torch.zeros_like(jacobian[0])
        if len(rows) < len(jacobian):
            jacobian = jacobian[list(rows)]
        return self._call(self._object(rows), jacobian, self.setting.generator)

    def _make(self, rows: Rows) -> nn.Module:
        made = super()._make(rows)
        return WeightedAggregator(made) if isinstance(made, Weighting) else made


class ScalarizerBridge(Bridge, LossWeighting):
    """Minimises a scalarizer of the losses; what it learns follows plain SGD.

    The learned number of a task does not move in a batch without a label of it. Leaving tasks out
    takes a synchronisation with the device in every step.
    """

    def start(self, setting: Setting) -> None:
        super().start(setting)
        every = self._object(tuple(range(len(setting.tasks))))
        self.learned = nn.ParameterList(every.parameters())
        if self.learned:
            lr = self.values[LEARNING_RATE.name]
            if lr <= 0:
                raise ValueError(f"lr must be above 0, but is {lr}")
            self.optimizer = torch.optim.SGD(self.learned, lr=lr)

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        before = [parameter.detach().clone() for parameter in self.learned]
        weights = super().weights(losses, present)
        for parameter, old in zip(self.learned, before, strict=True):
            parameter.data.copy_(torch.where(present, parameter, old))
        return weights

    def objective(self, losses: Tensor, present: Tensor) -> Tensor:
        rows = self._rows(present)
        if not rows:
            return 0 * losses.sum()
        return self._call(self._object(rows), losses[list(rows)], self.setting.generator)

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        for part in self.parts:
            if isinstance(part, DWA):
                part.step()

    def _example(self) -> Tensor:
        return super()._example().diagonal()


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


def _weighs_gramian(cls: type) -> bool:
    """Whether a weighting derives from `Weighting[PSDMatrix]`."""
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
    initialise.__annotations__ = {p.name: p.annotation for p in parameters}
    contents = {
        "__init__": initialise,
        "torchjd_class": cls,
        "__doc__": f"TorchJD's {cls.__name__}: {what}.",
    }
    return type(cls.__name__, (base,), contents)


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


def read(name: str, value: Any, annotation: Any) -> Any:
    """A parameter's value from its text, where the registry has left it as text.

    Returns:
        None, a number, or a tuple of numbers for a tensor.

    Raises:
        ValueError: the text is neither.
    """
    options = typing.get_args(annotation)
    if not isinstance(value, str) or not (
        annotation is Tensor or Tensor in options or int in options
    ):
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
    """What was frozen, its tensors on a device, which may be another one than before."""
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
