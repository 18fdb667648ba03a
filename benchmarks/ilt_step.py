"""What instance parameters cost: an ILT step beside an `equal` step on `streets`, with its table
beside the network, in the machine's memory and on its disk; what memory the table takes; and ILT's
own work for tables of different lengths. Prints medians and ratios measured in one run.

    python benchmarks/ilt_step.py [--repeats 60] [--device cuda]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import torch

from mtlbench.strategies.compose import build_strategy
from mtlbench.suites.base import Suite, suites

INSTANCES = 400_000
"""As many as the paper trains on."""


def in_turn(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each action, taken in turn so that the machine's mood hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(repeats + 3):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if repeat >= 3:  # the first ones warm up
                seconds[name].append(time.perf_counter() - started)
    return seconds


def whole_steps(suite: Suite, device: str, directory: str) -> dict[str, Callable[[], object]]:
    """A training step of the suite's network with each strategy, on one batch."""
    tasks = {task.name: task.kind for task in suite.tasks()}
    small = type(suite)(train_size=suite.batch_size, validation_size=1, test_size=1)
    split = small.data().train
    inputs = suite.prepare(split.inputs).to(device, memory_format=torch.channels_last)
    targets = {name: target.to(device) for name, target in split.targets.items()}
    chance = torch.Generator().manual_seed(0)

    def step_with(name: str, tables: str) -> Callable[[], object]:
        torch.manual_seed(0)
        model = suite.model().to(device, memory_format=torch.channels_last)
        optimizer = suite.optimizer(model)
        strategy = build_strategy(
            name,
            tasks=tasks,
            num_instances=INSTANCES,
            model=model,
            device=device,
            instance_tables=tables,
        )

        def step() -> None:
            index = torch.randint(INSTANCES, (suite.batch_size,), generator=chance)
            outputs = model(inputs)
            losses = {
                task.name: task.losses(outputs[task.name], targets[task.name])
                for task in suite.tasks()
            }
            optimizer.zero_grad(set_to_none=True)
            strategy.backward(losses, index)
            optimizer.step()
            if device != "cpu":
                torch.cuda.synchronize()

        return step

    return {
        "equal": step_with("equal", "device"),
        "ilt, table beside the network": step_with("ilt", "device"),
        "ilt, table in memory": step_with("ilt", "cpu"),
        "ilt, table on disk": step_with("ilt", directory),
    }


def print_memory(suite: Suite) -> None:
    """The bytes of the table beside those of networks with their gradients and Adam's moments."""
    per_instance = 2 * 4 * len(suite.tasks())  # s and its velocity
    table = INSTANCES * per_instance / 2**20
    full_size = 4 * 4 * 40e6 / 2**20
    print(f"{'memory':34} {'MiB':>9} {'share of network':>18}")
    print(f"{f'table of {INSTANCES:,} instances':34} {table:9.1f} {table / full_size:17.1%}")
    print(f"{'40 M parameters under Adam':34} {full_size:9.1f}")


def table_updates(suite: Suite) -> dict[str, Callable[[], object]]:
    """ILT's own work of one step, for tables of N instances."""
    tasks = {task.name: task.kind for task in suite.tasks()}
    chance = torch.Generator().manual_seed(0)

    def update_of(count: int) -> Callable[[], object]:
        stage = build_strategy("ilt", tasks=tasks, num_instances=count).instance
        losses = torch.rand(suite.batch_size, len(tasks), generator=chance)
        present = torch.ones_like(losses, dtype=torch.bool)

        def update() -> None:
            index = torch.randint(count, (suite.batch_size,), generator=chance)
            for _ in range(20):
                stage.weights(losses, index, present)

        return update

    return {f"{count:.0e}": update_of(count) for count in (10**4, 10**5, 10**6, 10**7)}


def print_ratios(title: str, seconds: dict[str, list[float]], scale: float, unit: str) -> None:
    first, *_ = seconds
    print(f"{title:34} {'median':>12} {'ratio to ' + first:>18}")
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds[first], strict=True))
        print(f"{name:34} {statistics.median(values) * scale:9.3f} {unit} {ratio:18.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    repeats = options.repeats
    torch.set_num_threads(1)
    suite: Suite = suites.get("streets").cls()
    with tempfile.TemporaryDirectory() as directory:
        seconds = in_turn(whole_steps(suite, options.device, directory), repeats)
    print_ratios(f"step on streets, {options.device}", seconds, 1e3, "ms")
    print()
    print_memory(suite)
    print()
    seconds = in_turn(table_updates(suite), 5 * repeats)
    print_ratios("ILT table, rows N", seconds, 1e6 / 20, "µs")


if __name__ == "__main__":
    main()
