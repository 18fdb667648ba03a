"""The stages around TorchJD's objects: from the Gramian, the Jacobian or the losses."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchjd import Stateful
from torchjd.aggregation import GramianWeightedAggregator, WeightedAggregator, Weighting
from torchjd.linalg import QuadprogProjector
from torchjd.scalarization import DWA

from mtlbench.errors import UserError
from mtlbench.strategies.base import GradientWeighting, LossWeighting, Setting, Stage
from mtlbench.strategies.torchjd_bridge.parameters import (
    LEARNING_RATE,
    NAMESPACE,
    NUMBER_OF_TASKS,
    projector_parameters,
    read,
    settable,
)
from mtlbench.strategies.torchjd_bridge.state import draws_from, state_of, thaw

Tasks = tuple[int, ...]
"""Numbers of the tasks that an object sees."""


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
        self.setting, self.device = setting, self._device(setting.device)
        self.objects: dict[Tasks, nn.Module] = {}
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
                setattr(part, name, thaw(value, self.device))
            # Nash-MTL makes its problem in its step 0, which is over.
            if make_problem := getattr(part, "_init_optim_problem", None):
                make_problem()

    def _device(self, device: torch.device) -> torch.device:
        """The device that the object works on."""
        return device

    def _example(self) -> Tensor:
        """An input of all tasks that the object may see."""
        return torch.eye(len(self.setting.tasks), dtype=self.setting.dtype, device=self.device)

    def _rows(self, present: Tensor) -> Tasks:
        """The tasks that the object sees."""
        rows = tuple(present.nonzero().flatten().tolist())
        return tuple(range(len(present))) if rows and self.parts else rows

    def _object(self, rows: Tasks) -> nn.Module:
        if rows not in self.objects:
            self.objects[rows] = self._make(rows)
        return self.objects[rows]

    def _make(self, rows: Tasks) -> nn.Module:
        arguments: dict[str, Any] = {}
        for name in inspect.signature(self.torchjd_class).parameters:
            if name in NUMBER_OF_TASKS:
                arguments[name] = len(self.setting.tasks)
            elif name == "projector":
                own = {key: self.values[key] for key in projector_parameters()}
                arguments[name] = QuadprogProjector(**own)
            elif name in self.values:
                arguments[name] = self._of(self.values[name], rows)
        return self.torchjd_class(**arguments).to(self.device, self.setting.dtype)

    def _of(self, value: Any, rows: Tasks) -> Any:
        if not isinstance(value, tuple):
            return value
        mine = [value[k] for k in rows] if len(value) == len(self.setting.tasks) else value
        return self.setting.tensor(mine).to(self.device)

    def _call(self, module: nn.Module, values: Tensor, generator: torch.Generator) -> Tensor:
        with draws_from(generator, self.device):
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
            part = gramian.to(self.device)[some][:, some]
            new = self._call(self._object(rows), part, self.setting.generator)
            weights[some.to(weights.device)] = new.to(weights)
        return weights

    def _device(self, device: torch.device) -> torch.device:
        return torch.device("cpu")

    def _make(self, rows: Tasks) -> nn.Module:
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

    def _make(self, rows: Tasks) -> nn.Module:
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
