"""What a step with each strategy costs, beside `equal`, and beside the loops of LibMTL and TorchJD.

    pip install -c constraints.txt scikit-learn && pip install --no-deps LibMTL
    python benchmarks/step_cost.py [--repeats 30] [--device cuda] [--only ilt,mgda] [--write]

One network: a U-Net trunk at full resolution and three full-resolution heads; one batch. Every
strategy takes its steps in turn with `equal`, and each step is held against the mean of the two
`equal` steps around it, so that a machine whose speed drifts hits both alike. Printed are the
median of that ratio, and the most memory that a step held beyond the network and its gradients,
relative to `equal`. Every gradient strategy is there twice more: on the representation, and
weighing in every tenth step. A ratio is known to about the one that `equal` has to itself.

LibMTL's own weightings run in their own backward pass, with the device that they read from the
model set here; TorchJD's in its `mtl_backward`. A peer that is not installed is left out. Memory is
laid out as PyTorch does by default: LibMTL cannot take a network in `channels_last`. Freed memory
is kept for all, as in every worker.

`--write` keeps the ratios where `mtlbench list strategies --format github` finds them, beside those
of strategies that `--only` leaves out.
"""

import argparse
import importlib
import json
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import mtlbench
from mtlbench.cli.catalogue import STEP_COSTS, step_costs
from mtlbench.errors import UserError
from mtlbench.execution.worker import keep_freed_memory
from mtlbench.strategies.base import GRADIENT, strategies
from mtlbench.strategies.compose import build_strategy, stage_of

BATCH, SIZE, INSTANCES = 16, 64, 10_000
WARM_UP = 3
TASKS = {"parts": "classification", "depth": "regression", "edges": "regression"}

PEERS_OF = {
    # name here: LibMTL's class and its arguments, TorchJD's class
    "equal": ("EW", {}, "Sum"),
    "rlw": ("RLW", {"dist": "Normal"}, None),
    "gls": ("GLS", {}, None),
    "mtu": ("UW", {}, None),
    "dwa": ("DWA", {"T": 2.0}, None),
    "gradnorm": ("GradNorm", {"alpha": 1.5}, None),
    "mgda": ("MGDA", {"mgda_gn": "none"}, "MGDA"),
    "pcgrad": ("PCGrad", {}, "PCGrad"),
    "gradvac": ("GradVac", {"beta": 0.5}, "GradVac"),
    "cagrad": ("CAGrad", {"calpha": 0.5, "rescale": 1}, "CAGrad"),
    "imtl-g": ("IMTL", {}, "IMTLG"),
    "graddrop": (None, {}, "GradDrop"),
    "nash-mtl": (None, {}, "NashMTL"),
    "aligned-mtl": (None, {}, "AlignedMTL"),
    "upgrad": (None, {}, "UPGrad"),
    "dualproj": (None, {}, "DualProj"),
    "fairgrad": (None, {}, "FairGrad"),
    "config": (None, {}, "ConFIG"),
    "excess-mtl": (None, {}, "ExcessMTL"),
}

TORCHJD_ARGUMENTS = {
    "NashMTL": {"n_tasks": len(TASKS)},
    "FairGrad": {"alpha": 1.0},
    "CAGrad": {"c": 0.4},
}

FORMS = {"on representation": {"on": "representation"}, "every 10th step": {"every": 10}}

Step = Callable[[], object]


class Trunk(nn.Module):
    """A small U-Net at full resolution: 3 to 16 channels."""

    def __init__(self) -> None:
        super().__init__()

        def block(before: int, after: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()
            )

        self.first, self.down = block(3, 16), block(16, 32)
        self.deep, self.up = block(32, 32), nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.last = block(32, 16)

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        deep = self.deep(self.down(nn.functional.max_pool2d(first, 2)))
        return self.last(torch.cat([first, self.up(deep)], 1))


class Network(nn.Module):
    """The trunk and a head of two convolutions for each task."""

    def __init__(self, tasks: Mapping[str, str] = TASKS, *, maps: bool = True) -> None:
        super().__init__()
        self.tasks, self.trunk, self.maps = tasks, Trunk(), maps
        self.heads = nn.ModuleDict(
            {
                task: nn.Sequential(
                    nn.Conv2d(16, 16, 3, padding=1),
                    nn.ReLU(),
                    nn.Conv2d(16, 7 if kind == "classification" else 1, 1),
                )
                for task, kind in tasks.items()
            }
        )

    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        """Logits [B, C, H, W] or values [B, 1, H, W] of each task; without maps, logits are their
        means [B, C]."""
        outputs = {task: head(features) for task, head in self.heads.items()}
        if self.maps:
            return outputs
        classes = {task for task, kind in self.tasks.items() if kind == "classification"}
        return {t: y.mean((2, 3)) if t in classes else y for t, y in outputs.items()}

    def losses(
        self,
        features: Tensor,
        targets: dict[str, Tensor],
        change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] = lambda outputs: outputs,
    ) -> dict[str, Tensor]:
        """Per-instance losses [B] of each task, of outputs that something may change first."""
        outputs = change(self.outputs(features))
        return {
            task: of_pixels(nn.functional.cross_entropy(output, targets[task], reduction="none"))
            if self.tasks[task] == "classification"
            else (output[:, 0] - targets[task]).square().mean((1, 2))
            for task, output in outputs.items()
        }


def of_pixels(losses: Tensor) -> Tensor:
    """The mean [B] of losses [B, H, W]; losses [B] as they are."""
    return losses.mean((1, 2)) if losses.ndim == 3 else losses


class Bench:
    """The network's start, the batch, and a step with each strategy; without maps, classification
    tasks have one label an instance."""

    def __init__(
        self,
        device: str,
        *,
        batch: int = BATCH,
        size: int = SIZE,
        tasks: Mapping[str, str] = TASKS,
        maps: bool = True,
    ) -> None:
        self.device, self.tasks, self.maps = device, tasks, maps
        chance = torch.Generator().manual_seed(0)
        shape = (batch, size, size)
        self.images = torch.randn(batch, 3, size, size, generator=chance).to(device)
        self.targets = {
            task: torch.randint(7, shape if maps else (batch,), generator=chance).to(device)
            if kind == "classification"
            else torch.rand(shape, generator=chance).to(device)
            for task, kind in tasks.items()
        }
        self.index = torch.randint(INSTANCES, (batch,), generator=chance).to(device)

    def network(self) -> tuple[Network, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = Network(self.tasks, maps=self.maps).to(self.device)
        return network, torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def synchronised(self, step: Step) -> Step:
        def wait() -> None:
            step()
            if self.device != "cpu":
                torch.cuda.synchronize()

        return wait

    def ours(self, name: str, **parameters: object) -> Step:
        network, optimizer = self.network()
        strategy = build_strategy(
            name,
            tasks=self.tasks,
            num_instances=INSTANCES,
            model=network,
            representation=network.trunk,
            device=self.device,
            parameters={f"{name}.{key}": value for key, value in parameters.items()},
        )

        def step() -> None:
            losses = network.losses(
                network.trunk(self.images),
                self.targets,
                lambda outputs: strategy.transform(outputs, self.targets, self.index),
            )
            optimizer.zero_grad(set_to_none=True)
            strategy.backward(losses, self.index, held_out=again, closure=again)
            optimizer.step()

        def again() -> dict[str, Tensor]:
            """Losses of the same batch, or of another one as large."""
            return network.losses(network.trunk(self.images), self.targets)

        return self.synchronised(step)

    def torchjd(self, aggregator: str) -> Step:
        from torchjd import aggregation
        from torchjd.autojac import jac_to_grad, mtl_backward

        network, optimizer = self.network()
        join = getattr(aggregation, aggregator)
        join = join(**TORCHJD_ARGUMENTS.get(aggregator, {}))
        join = join.to(self.device)
        shared = list(network.trunk.parameters())

        def step() -> None:
            features = network.trunk(self.images)
            losses = network.losses(features, self.targets)
            optimizer.zero_grad()
            mtl_backward([loss.mean() for loss in losses.values()], features=features)
            jac_to_grad(shared, join)
            optimizer.step()

        return self.synchronised(step)

    def libmtl(self, weighting: str, arguments: dict[str, object]) -> Step:
        cls = getattr(libmtl_weightings(), weighting)

        class Peer(Network, cls):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                super().__init__()

            def get_share_params(self) -> Iterator[nn.Parameter]:
                return self.trunk.parameters()

            def zero_grad_share_params(self) -> None:
                self.trunk.zero_grad(set_to_none=False)

        torch.manual_seed(0)
        network = Peer().to(self.device)
        network.device, network.rep_grad = torch.device(self.device), False
        network.task_num, network.task_name = len(TASKS), list(TASKS)
        network.epoch, network.train_loss_buffer = 5, torch.ones(len(TASKS), 10).numpy()
        network.init_param()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

        def step() -> None:
            losses = network.losses(network.trunk(self.images), self.targets)
            optimizer.zero_grad(set_to_none=False)
            network.backward(torch.stack([loss.mean() for loss in losses.values()]), **arguments)
            optimizer.step()

        return self.synchronised(step)


def libmtl_weightings() -> types.ModuleType:
    """LibMTL's weightings, without the rest of the package, which needs torchvision."""
    if "LibMTL" not in sys.modules:
        spec = find_spec("LibMTL")
        assert spec is not None
        package = types.ModuleType("LibMTL")
        package.__path__ = list(spec.submodule_search_locations or [])
        package.__spec__ = spec
        sys.modules["LibMTL"] = package
    return importlib.import_module("LibMTL.weighting")


WITHOUT_MAPS = ("elr",)
"""Strategies that take no label maps, held against `equal` without them, too."""


def all_steps(bench: Bench, only: set[str]) -> Iterator[tuple[str, Step]]:
    """Steps with their strategy's name, form and whose they are."""
    for entry in strategies.entries():
        name = entry.name
        if name in WITHOUT_MAPS or (only and name not in only):
            continue
        yield name, bench.ours(name)
        if stage_of(entry) == GRADIENT and not entry.cls.own_gradients:
            for form, option in FORMS.items():
                with suppress(UserError):  # a direction, or a state by parameter
                    yield f"{name}, {form}", bench.ours(name, **option)
        libmtl, arguments, torchjd = PEERS_OF.get(name, (None, {}, None))
        if torchjd:
            try:
                step = bench.torchjd(torchjd)
                step()
                yield f"{name}, TorchJD", step
            except ImportError as error:
                print(f"{name}: TorchJD's needs a package: {error}", file=sys.stderr)
        if libmtl and find_spec("LibMTL"):
            yield f"{name}, LibMTL", bench.libmtl(libmtl, arguments)


def steps_without_maps(device: str, only: set[str]) -> Iterator[tuple[str, Step, Step]]:
    """Those of strategies that take no label maps, and of `equal`."""
    bench = Bench(device, maps=False)
    for name in WITHOUT_MAPS:
        if not only or name in only:
            yield name, bench.ours(name), bench.ours("equal")


def between(equal: Step, step: Step, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of a step, and its ratio to the mean of the `equal` steps before and after it."""
    seconds, ratios = [], []
    for _ in range(WARM_UP):
        timed(equal), timed(step)
    before = timed(equal)
    for _ in range(repeats):
        seconds.append(timed(step))
        after = timed(equal)
        ratios.append(2 * seconds[-1] / (before + after))
        before = after
    return seconds, ratios


def timed(step: Step) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def peak_memory(step: Step, device: str) -> float:
    """The most bytes that a step held at once beyond what was there before it."""
    step()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    held = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="names, apart by commas")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    bench = Bench(options.device)
    equal = bench.ours("equal")
    least = peak_memory(equal, options.device)
    print(f"| strategy | ms | step / equal | peak memory / equal | ({options.device})")
    print("| :-- | --: | --: | --: |")
    costs = {}
    only = {name for name in options.only.split(",") if name}
    for name, step, baseline in chain(
        ((name, step, equal) for name, step in all_steps(bench, only)),
        steps_without_maps(options.device, only),
    ):
        seconds, ratios = between(baseline, step, options.repeats)
        costs[name] = statistics.median(ratios)
        print(
            f"| {name} | {1000 * statistics.median(seconds):.1f} | {costs[name]:.2f} "
            f"| {peak_memory(step, options.device) / least:.2f} |",
            flush=True,
        )
    if options.write:
        own = {name: round(ratio, 2) for name, ratio in costs.items() if "," not in name}
        path = Path(mtlbench.__file__).parent / "cli" / STEP_COSTS
        path.write_text(json.dumps(step_costs() | own, indent=2) + "\n")


if __name__ == "__main__":
    main()
