"""What must hold of every strategy on a GPU: a check is a function of one strategy and a device.

Each raises AssertionError where something is wrong, and else returns what it measured in a few
words. `tests/test_gpu.py` and `benchmarks/gpu.py` run the same ones. Given `cpu` in the place of
`cuda` they run, too: the CPU beside itself.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import mtlbench
from mtlbench.errors import UserError
from mtlbench.strategies.base import GRADIENT, strategies
from mtlbench.strategies.compose import Composition, build_strategy, stage_of
from mtlbench.strategies.gradnorm import GradientNormalization
from mtlbench.strategies.gramian import GramianWeighting
from mtlbench.strategies.instance_wise import InstanceWiseMultiTask
from mtlbench.strategies.strategy import Strategy
from mtlbench.training.checkpoint import load_tree, save_tree

TASKS = {"digit": "classification", "height": "regression", "age": "regression"}
INSTANCES, BATCH, INPUTS, FEATURES, CLASSES = 24, 10, 6, 12, 5
PACKAGE = Path(mtlbench.__file__).parent

STEPS, EPOCH = 8, 3
"""Steps of a training, and of one epoch of it."""

COMPOSED = ("ilt+dwa", "ilt+mgda", "ilt+cagrad", "data-parameters+pcgrad")

ALL_TASKS_TOGETHER = {"samo.alpha": 1.0}
"""With it `samo` draws nothing."""

CLOSE_64 = 1e-9
"""Relative: float64 keeps 16 digits; a change of the inputs by 1e-13 (`sensitivity`) comes out as
4e-12 at most on a CPU, and solvers stop when they are near enough."""

CLOSE_32 = 1e-4
"""Relative: a change of the inputs by 1e-6, ten rounding errors, comes out as 4e-5 on a CPU. TF32,
which keeps 3 digits, does not pass."""

CLOSE_16 = 0.1
"""Relative, of one step: bfloat16 keeps 2 to 3 digits of each activation."""


@dataclass(frozen=True)
class Case:
    """A strategy with the parameters that differ from its defaults."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.parameters.items())])

    @property
    def composition(self) -> Composition:
        return Composition.parse(self.name)

    @property
    def draws_there(self) -> bool:
        """Whether it draws its numbers on the device, where they are others than on the CPU."""
        return self.composition.recomputes and self.parameters != ALL_TASKS_TOGETHER


def cases() -> list[Case]:
    """Every registered strategy, some compositions, and each form of those that weigh gradients."""
    found = []
    for entry in strategies.entries():
        found.append(Case(entry.name))
        if stage_of(entry) == GRADIENT:
            for option, value in (("on", "representation"), ("every", 2)):
                form = Case(entry.name, {f"{entry.name}.{option}": value})
                with suppress(UserError):  # a direction, or a state by parameter
                    Setup("cpu").strategy(form)
                    found.append(form)
    return [*found, Case("samo", ALL_TASKS_TOGETHER), *map(Case, COMPOSED)]


class Network(nn.Module):
    """A trunk and a head for each task, as large as it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(INPUTS, FEATURES), nn.Tanh(), nn.Linear(FEATURES, FEATURES), nn.Tanh()
        )
        self.heads = nn.ModuleDict(
            {
                task: nn.Linear(FEATURES, CLASSES if kind == "classification" else 1)
                for task, kind in TASKS.items()
            }
        )

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        features = self.trunk(inputs)
        return {task: head(features) for task, head in self.heads.items()}


@dataclass(frozen=True)
class Batch:
    """Inputs [B, 6], labels [B] by task, dataset indices [B], and which labels are there [B, K]."""

    inputs: Tensor
    targets: dict[str, Tensor]
    index: Tensor
    present: Tensor | None


@dataclass
class Setup:
    """A network, its strategy and its batches, the same on every device.

    Attributes:
        device, dtype: of all.
        tables: where instance tables lie.
        seed: of the strategy's own draws.
        half: whether the network runs under bfloat16 autocast.
        jitter: how much inputs are changed by, relative to themselves.
    """

    device: str
    dtype: torch.dtype = torch.float64
    tables: str = "device"
    seed: int = 0
    half: bool = False
    jitter: float = 0.0

    def __post_init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = Network().to(self.device, self.dtype)

    def strategy(self, case: Case) -> Strategy:
        return build_strategy(
            case.name,
            tasks=TASKS,
            num_instances=INSTANCES,
            model=self.network,
            representation=self.network.trunk,
            parameters=case.parameters,
            device=self.device,
            dtype=self.dtype,
            generator=torch.Generator().manual_seed(self.seed),
            instance_tables=self.tables,
        )

    def batches(self) -> Iterator[Batch]:
        """All labels there in the first half; then some missing, and all those of one task."""
        chance = torch.Generator().manual_seed(1)
        noise = torch.Generator().manual_seed(2)
        place = self.device if self.tables == "device" else "cpu"
        for number in range(STEPS):
            inputs = torch.randn(BATCH, INPUTS, generator=chance, dtype=torch.float64)
            wanted = torch.randn(BATCH, 2, generator=chance, dtype=torch.float64)
            classes = torch.randint(CLASSES, (BATCH,), generator=chance)
            index = torch.randint(INSTANCES, (BATCH,), generator=chance)
            present = torch.rand(BATCH, len(TASKS), generator=chance) < 2 / 3
            if number == STEPS - 2:
                present[:, 1] = False
            inputs *= 1 + self.jitter * torch.randn(
                inputs.shape, generator=noise, dtype=torch.float64
            )
            yield Batch(
                inputs.to(self.device, self.dtype),
                {
                    "digit": classes.to(self.device),
                    "height": wanted[:, 0].to(self.device, self.dtype),
                    "age": 3 * wanted[:, 1].to(self.device, self.dtype),
                },
                index.to(place),
                None if number < STEPS // 2 else present.to(self.device),
            )

    def step(self, strategy: Strategy, batch: Batch) -> None:
        """Leaves the gradient of a batch in the network, of which held-out losses are, too."""

        def again() -> dict[str, Tensor]:
            return self.losses(self.outputs(batch), batch)

        outputs = self.outputs(batch)
        outputs = strategy.transform(outputs, batch.targets, batch.index, batch.present)
        strategy.backward(
            self.losses(outputs, batch),
            batch.index,
            batch.present,
            held_out=again,
            closure=again,
        )

    def outputs(self, batch: Batch) -> Mapping[str, Tensor]:
        kind = torch.device(self.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.half):
            outputs: Mapping[str, Tensor] = self.network(batch.inputs)
        return outputs

    def losses(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        return {
            task: nn.functional.cross_entropy(
                outputs[task].to(self.dtype), batch.targets[task], reduction="none"
            )
            if kind == "classification"
            else (outputs[task][:, 0] - batch.targets[task]).square()
            for task, kind in TASKS.items()
        }

    def gradients(self) -> list[Tensor]:
        """What lies in `.grad` of the trunk, and of each head; 0 where there is none."""
        return [
            torch.cat(
                [
                    (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                    for p in part.parameters()
                ]
            ).cpu()
            for part in (self.network.trunk, *self.network.heads.values())
        ]

    def train(self, strategy: Strategy, first: int = 0, last: int = STEPS) -> Tensor:
        """Trains for some steps; its gradients, in rows, and what was learned of instances."""
        gradients = []
        for number, batch in enumerate(self.batches()):
            if not first <= number < last:
                continue
            self.network.zero_grad()
            self.step(strategy, batch)
            gradients += self.gradients()
            with torch.no_grad():
                for parameter in self.network.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.05 * parameter.grad
            if number % EPOCH == EPOCH - 1:
                strategy.end_epoch({"digit/accuracy": 60.0})
        learned = strategy.instance.log_variances()
        if learned is not None:
            gradients.append(learned.nan_to_num().flatten().cpu())
        return torch.nn.utils.rnn.pad_sequence(gradients, batch_first=True)


def apart(one: Tensor, other: Tensor) -> float:
    """The largest distance of two rows, relative to their length, or to a little of the longest."""
    assert one.isfinite().all(), "not finite"
    length = other.double().norm(dim=1)
    distance = (one.double() - other.double()).norm(dim=1)
    return (distance / length.clamp(min=1e-3 * length.max().item())).max().item()


def near(one: Tensor, other: Tensor, most: float) -> str:
    """Raises where two results are further apart than `most`; says how far they are."""
    distance = apart(one, other)
    assert distance <= most, f"apart by {distance:.1e}, more than {most:.0e}"
    return f"{distance:.0e}"


def trained(case: Case, device: str, dtype: torch.dtype, **setup: Any) -> Tensor:
    there = Setup(device, dtype, **setup)
    return there.train(there.strategy(case))


def sensitivity(case: Case, dtype: torch.dtype, jitter: float) -> float:
    """How far apart trainings on the CPU end whose inputs differ by rounding errors."""
    return apart(trained(case, "cpu", dtype, jitter=jitter), trained(case, "cpu", dtype))


# --- the checks -----------------------------------------------------------------------------


def in_float64(case: Case, device: str) -> str:
    """Some steps give the gradients that they give on the CPU."""
    expected = trained(case, "cpu", torch.float64)
    return near(trained(case, device, torch.float64), expected, CLOSE_64)


def in_float32(case: Case, device: str) -> str:
    """The same in float32."""
    expected = trained(case, "cpu", torch.float32)
    return near(trained(case, device, torch.float32), expected, CLOSE_32)


def tables(case: Case, device: str) -> str:
    """A table of instances in the machine's memory, or in a file, learns the same bits."""
    beside = trained(case, device, torch.float32)
    with tempfile.TemporaryDirectory() as directory:
        for place in ("cpu", directory):
            elsewhere = trained(case, device, torch.float32, tables=place)
            assert torch.equal(elsewhere, beside), f"another result with the table in {place}"
    return "same bits"


def in_bfloat16(case: Case, device: str) -> str:
    """A step under autocast is finite and near that in float32."""
    steps = []
    for half in (False, True):
        there = Setup(device, torch.float32, half=half)
        steps.append(there.train(there.strategy(case), last=1)[: 1 + len(TASKS)])
    return near(steps[1], steps[0], CLOSE_16)


def resumed(case: Case, device: str) -> str:
    """A state that was saved and loaded goes on with the same bits, within an epoch too."""
    for first in (EPOCH, EPOCH + 1):
        whole, restored = _continued(case, device, device, first)
        assert torch.equal(restored, whole), f"another result after {first} steps"
    return "same bits"


def moved(case: Case, device: str) -> str:
    """A state that was saved on the device goes on alike on the CPU."""
    whole, restored = _continued(case, device, "cpu", EPOCH + 1)
    return near(restored, whole, CLOSE_64)


def _continued(case: Case, device: str, other: str, first: int) -> tuple[Tensor, Tensor]:
    """The steps after the first few: of one training, and of one from its saved state."""
    there, here = Setup(device), Setup(other, seed=1)
    strategy, second = there.strategy(case), here.strategy(case)
    there.train(strategy, last=first)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "state.safetensors"
        state = {"network": dict(there.network.state_dict()), "own": dict(strategy.state_dict())}
        save_tree(file, state)
        state = load_tree(file)
    here.network.load_state_dict(state["network"])
    second.load_state_dict(state["own"])
    return there.train(strategy, first), here.train(second, first)


def synchronisations(case: Case, device: str) -> str:
    """A step waits for the device no more often than the strategy has reason to."""
    allowed = waits_allowed(case)
    for place in ("device", "cpu") if has_table(case) else ("device",):
        there = Setup(device, torch.float32, tables=place)
        strategy = there.strategy(case)
        for number, batch in enumerate(there.batches()):
            there.network.zero_grad()
            with waits(device) as found:
                there.step(strategy, batch)
            assert number < 2 or len(found) <= allowed, (
                f"waits {len(found)} times, not {allowed}: {', '.join(found)}"
            )
    return f"{allowed} at most"


def waits_allowed(case: Case) -> int:
    """How often a step may wait: weightings solved on the CPU are brought one matrix [K, K], or one
    for each instance, and GradNorm has to know which tasks have a label. Nothing else has to leave
    the device."""
    task = case.composition.task.cls
    waiting = GramianWeighting | GradientNormalization | InstanceWiseMultiTask
    return int(issubclass(task, waiting))


def has_table(case: Case) -> bool:
    """Whether the strategy keeps a table of instances."""
    return Setup("cpu").strategy(case).instance.log_variances() is not None


@contextmanager
def waits(device: str) -> Iterator[list[str]]:
    """Where the host waits for the device, as `file:line`, while this is on.

    On a CPU nothing does; there it lists what would wait on a GPU, as far as operations tell.
    """
    found: list[str] = []
    if torch.device(device).type != "cuda":
        with _Dispatched(found), _Called(found):
            yield found
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)
    found += [
        f"{Path(warning.filename).name}:{warning.lineno}"
        for warning in caught
        if "called a synchronizing" in str(warning.message)
    ]


class _Dispatched(TorchDispatchMode):
    """Notes operations whose result the host has to see."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or name in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            self.found += _place()
        return func(*args, **(kwargs or {}))


class _Called(TorchFunctionMode):
    """Notes calls that copy between the host and the device and wait for it."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        by_list = name in ("__getitem__", "__setitem__") and any(
            isinstance(index, list)
            for index in (args[1] if isinstance(args[1], tuple) else args[1:2])
        )
        if by_list or name in ("cpu", "tolist", "tensor", "new_tensor"):
            self.found += _place()
        return func(*args, **(kwargs or {}))


def _place() -> list[str]:
    """The line of the package that is being run; none inside an optimiser, which reads how many
    steps it has taken, a number that it keeps on the CPU."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent.name == "optim":
            return []
        if PACKAGE in path.parents:
            return [f"{path.name}:{frame.f_lineno}"]
        frame = frame.f_back  # type: ignore[assignment]
    return ["outside the package"]


CHECKS: dict[str, Callable[[Case, str], str]] = {
    "float64 as on the CPU": in_float64,
    "float32 as on the CPU": in_float32,
    "bfloat16 near float32": in_bfloat16,
    "tables off the device": tables,
    "resumed, bit for bit": resumed,
    "resumed on the CPU": moved,
    "waits for the device": synchronisations,
}


def cases_of(check: str) -> list[Case]:
    """The strategies that a check is for."""
    found = [case for case in cases() if CHECKS[check] is not tables or has_table(case)]
    as_on_the_cpu = CHECKS[check] in (in_float64, in_float32, moved)
    return [case for case in found if not (as_on_the_cpu and case.draws_there)]


def prepare(device: str) -> None:
    """Sets what the checks rely on: no TF32, in matrix products or in convolutions."""
    torch.set_float32_matmul_precision("highest")
    if torch.device(device).type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
