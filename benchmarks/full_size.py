"""Training steps of the two full-size networks: as MTLBench takes them, beside a plain loop.

    python benchmarks/full_size.py [--device cuda] [--steps 20] [--compile MODE] [--small]

Networks, each with its losses on random data: HRNetV2-W48 with 7 classes and depth (8 images of
128×256) and the multi-task U-Net with a body of 6,890 vertices (16 images of 256×256).

- MTLBench: images as bytes and labels on the device, channels_last, fused Adam, `ilt`; on a GPU
  also bfloat16 autocast and `torch.compile`.
- plain loop: the same network, batches and losses in float32 as PyTorch comes, not compiled;
  float images and labels in memory, from where each batch is copied; the sum of the mean losses.

Prints a table in Markdown: medians of repeats in which the loops take turns, and the share of the
matrix multiplication rate that the device reaches in the same run, in the loop's own precision
(convolutions in float32 use TF32 on a GPU by default). Operations are those of the uncompiled
network's forward and backward pass.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtlbench.models.body import make_body
from mtlbench.models.hrnet import HRNet
from mtlbench.models.smpl import SMPL, BodyModel
from mtlbench.models.unet import BODY_CLASSES, JOINTS, SHAPES, MultiTaskUNet
from mtlbench.strategies.compose import build_strategy
from mtlbench.strategies.table import ON_DEVICE
from mtlbench.tasks.task import Loss, Task, cross_entropy, squared_l2

BATCHES = 4
"""Batches of data, which the steps go through again and again."""

REPEATS = 5
WARM_UP = 3

STREET_CLASSES = 7
SMPL_VERTICES = 6890

Step = Callable[[], object]
Model = Callable[[Any], Any]


@dataclass(frozen=True)
class Case:
    """A network with what it learns.

    Attributes:
        name: in the table.
        model: makes the network.
        losses: task to loss; classification where labels are integers.
        images: uint8 [N, 3, H, W].
        targets: task to labels [N, …].
        batch: images a step.
    """

    name: str
    model: Callable[[], nn.Module]
    losses: dict[str, Loss]
    images: Tensor
    targets: dict[str, Tensor]
    batch: int

    def tasks(self) -> list[Task]:
        return [
            Task(
                name,
                "regression" if self.targets[name].is_floating_point() else "classification",
                loss,
                metrics=(),
                corruptions=(),
            )
            for name, loss in self.losses.items()
        ]


def hrnet(small: bool) -> Case:
    width, batch = (18, 2) if small else (48, 8)
    count, height, wide = BATCHES * batch, 128, 256
    return Case(
        f"HRNetV2-W{width}",
        partial(HRNet, {"segmentation": STREET_CLASSES, "depth": 1}, width=width),
        {"segmentation": cross_entropy(), "depth": squared_l2(0.0)},
        torch.randint(256, (count, 3, height, wide), dtype=torch.uint8),
        {
            "segmentation": torch.randint(-1, STREET_CLASSES, (count, height, wide)),
            "depth": torch.rand(count, height, wide),
        },
        batch,
    )


def multi_task_unet(small: bool) -> Case:
    width, batch = (16, 2) if small else (64, 16)
    count, side = BATCHES * batch, 256
    body = SMPL(body_with(SMPL_VERTICES))
    return Case(
        f"multi-task U-Net, width {width}",
        partial(MultiTaskUNet, body, width=width),
        {
            "segmentation": cross_entropy(),
            "shape": squared_l2(),
            "pose": squared_l2(),
            "vertices": squared_l2(),
        },
        torch.randint(256, (count, 3, side, side), dtype=torch.uint8),
        {
            "segmentation": torch.randint(BODY_CLASSES, (count, side, side)),
            "shape": torch.randn(count, SHAPES),
            "pose": torch.randn(count, 6 * JOINTS),
            "vertices": torch.randn(count, SMPL_VERTICES, 3),
        },
        batch,
    )


def body_with(vertices: int) -> BodyModel:
    """Our own body, its vertices repeated until there are as many."""
    body = make_body()
    rows = np.arange(vertices) % len(body.template)
    regressor = body.joint_regressor[:, rows]
    return replace(
        body,
        template=body.template[rows],
        shape_directions=body.shape_directions[rows],
        pose_directions=body.pose_directions[rows],
        joint_regressor=regressor / regressor.sum(1, keepdims=True),
        weights=body.weights[rows],
    )


def batches(case: Case, device: torch.device) -> Iterator[Tensor]:
    """Indices of shuffled batches without end."""
    chance = torch.Generator().manual_seed(0)
    while True:
        order = torch.randperm(len(case.images), generator=chance).to(device)
        yield from order.split(case.batch)


def plain_step(case: Case, device: torch.device) -> Step:
    torch.manual_seed(0)
    model = case.model().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    images = case.images.float() / 127.5 - 1
    indices = batches(case, torch.device("cpu"))

    def step() -> None:
        index = next(indices)
        outputs = model(images[index].to(device))
        losses = [
            task.losses(outputs[task.name], case.targets[task.name][index].to(device)).mean()
            for task in case.tasks()
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()

    return step


def mtlbench_model(case: Case, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    model = case.model().to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def prepared(images: Tensor) -> Tensor:
    """Images as the network takes them."""
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def mtlbench_step(
    case: Case,
    device: torch.device,
    model: nn.Module,
    network: Model | None = None,
    *,
    half: bool,
    strategy_name: str = "ilt",
    instances: int | None = None,
    instance_tables: str = ON_DEVICE,
) -> Step:
    """A step of the model, called by way of the network where one is given; as many instances as
    there are images, or as are given, have parameters."""
    network = network or model
    instances = instances or len(case.images)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    strategy = build_strategy(
        strategy_name,
        tasks={task.name: task.kind for task in case.tasks()},
        num_instances=instances,
        model=model,
        device=device,
        instance_tables=instance_tables,
    )
    images = case.images.to(device)
    targets = {name: target.to(device) for name, target in case.targets.items()}
    indices = batches(case, device), batches(case, torch.device("cpu"))
    turn = itertools.count()

    def step() -> None:
        index, rows = (next(numbers) for numbers in indices)
        inputs = prepared(images[index])
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            outputs = network(inputs)
        start = next(turn) * case.batch * 997 % (instances - len(images) + 1)
        rows = start + (index if instance_tables == ON_DEVICE else rows)  # all over the table
        losses = {
            task.name: task.losses(outputs[task.name], targets[task.name][index])
            for task in case.tasks()
        }
        optimizer.zero_grad(set_to_none=True)
        strategy.backward(losses, rows)
        optimizer.step()

    return step


def seconds_of(action: Step, times: int, device: torch.device) -> float:
    """Mean seconds of an action done some times in a row, to the end of all its work."""

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    synchronize()
    started = time.perf_counter()
    for _ in range(times):
        action()
    synchronize()
    return (time.perf_counter() - started) / times


def matrix_rate(dtype: torch.dtype, device: torch.device, *, tf32: bool = False) -> float:
    """Operations a second of the fastest of some large square matrix products."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    product = partial(torch.mm, left, right)
    seconds_of(product, WARM_UP, device)
    fastest = min(seconds_of(product, 5, device) for _ in range(REPEATS))
    torch.set_float32_matmul_precision("highest")
    return 2 * side**3 / fastest


def operations(step: Step) -> int:
    """Operations of one step's matrix products and convolutions, forward and backward."""
    counter = FlopCounterMode(display=False)
    with counter:
        step()
    return counter.get_total_flops()


def rows(case: Case, options: argparse.Namespace, rates: dict[str, float]) -> Iterator[str]:
    """The lines of a case in the table."""
    device = options.device
    model = mtlbench_model(case, device)
    if options.compile != "no":
        model.compile(mode=options.compile)
    steps = {
        "plain loop": plain_step(case, device),
        "MTLBench": mtlbench_step(case, device, model, half=device.type == "cuda"),
    }
    work = operations(steps["plain loop"])
    for step in steps.values():
        seconds_of(step, min(WARM_UP, options.steps), device)
    seconds: dict[str, list[float]] = {loop: [] for loop in steps}
    for _ in range(REPEATS):
        for loop, step in steps.items():
            seconds[loop].append(seconds_of(step, options.steps, device))
    for loop, taken in seconds.items():
        median = statistics.median(taken)
        pairs = zip(seconds["plain loop"], taken, strict=True)
        ratio = statistics.median(plain / own for plain, own in pairs)
        rate = work / median
        yield (
            f"| {case.name} | {loop} | {case.batch / median:.4g} | {1e3 * median:.1f} "
            f"| {rate / 1e12:.3g} | {rate / rates[loop]:.0%} | {ratio:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=default)
    parser.add_argument("--steps", type=int, help="of each repeat; 20, or 1 on a CPU")
    parser.add_argument("--small", action="store_true", help="narrow networks, 2 images a step")
    modes = ("no", "default", "reduce-overhead", "max-autotune")
    parser.add_argument("--compile", choices=modes, help="mode of torch.compile; no on a CPU")
    options = parser.parse_args()
    device: torch.device = options.device
    cuda = device.type == "cuda"
    options.compile = options.compile or ("default" if cuda else "no")
    options.steps = options.steps or (20 if cuda else 1)
    torch.manual_seed(0)
    if not cuda:
        torch.set_num_threads(1)

    name = torch.cuda.get_device_name(device) if cuda else "one thread of the CPU"
    print(f"{name}, PyTorch {torch.__version__}, compile: {options.compile}\n", flush=True)
    precisions = {"float32": matrix_rate(torch.float32, device)}
    if cuda:
        precisions["TF32"] = matrix_rate(torch.float32, device, tf32=True)
        precisions["bfloat16"] = matrix_rate(torch.bfloat16, device)
    print("| matrix product | TFLOP/s |\n| --- | ---: |")
    for precision, rate in precisions.items():
        print(f"| {precision} | {rate / 1e12:.3g} |")
    rates = {
        "plain loop": precisions["TF32" if cuda else "float32"],
        "MTLBench": precisions["bfloat16" if cuda else "float32"],
    }

    print("\n| network | loop | images/s | ms/step | TFLOP/s | of matrix rate | ratio |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for make in (hrnet, multi_task_unet):
        for row in rows(make(options.small), options, rates):
            print(row, flush=True)


if __name__ == "__main__":
    main()
