"""Whether seeds trained at once in one process are quicker: S networks whose parameters are stacked
by `torch.func`, beside one. Prints medians and ratios measured in one run.

    python benchmarks/stacked_seeds.py [--suites digits,streets,bodies] [--seeds 1,4,16]
                                       [--repeats 20] [--device cuda]

A step is one of `equal`, each seed with a network and a batch of its own: both passes and the
optimiser. Reading data is left out, and weights of strategies, so that the ratios are the most that
such a mode could bring.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from ilt_step import in_turn
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from mtlbench.data.splits import Targets, each_input
from mtlbench.suites.base import Suite, suites
from mtlbench.training.evaluation import pixels_last

Record = dict[str, Any]

TOLERANCE = 1e-3
"""Largest relative difference of a loss in the second step, stacked and alone, in float32."""


class Batch:
    """Inputs as the network takes them and labels, the rows of `S` seeds one after another."""

    def __init__(self, suite: Suite, seeds: int, device: str) -> None:
        rows = suite.batch_size * seeds
        split = type(suite)(train_size=rows, validation_size=1, test_size=1).data().train
        self.inputs = each_input(suite.prepare(split.inputs), lambda part: part.to(device))
        self.targets = {name: part.to(device) for name, part in split.targets.items()}

    def part(self, rows: slice) -> tuple[Any, Targets]:
        """Some rows alone."""
        inputs = each_input(self.inputs, lambda part: part[rows])
        return inputs, {name: part[rows] for name, part in self.targets.items()}


def task_losses(suite: Suite, outputs: dict[str, Tensor], targets: Targets) -> Tensor:
    """The loss of each instance and task [B, K]."""
    targets = suite.complete(targets)
    columns = [task.losses(outputs[task.name], targets[task.name]) for task in suite.tasks()]
    return torch.stack(columns, 1)


def networks(suite: Suite, seeds: int, device: str) -> list[nn.Module]:
    made = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        made.append(suite.model().to(device).train())
    return made


def alone(suite: Suite, model: nn.Module, batch: tuple[Any, Targets]) -> Callable[[], Tensor]:
    """A step of one network, as a run takes it; gives the mean losses before it [1, K]."""
    inputs, targets = batch
    if suite.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = each_input(inputs, pixels_last)
    optimizer = suite.optimizer(model)

    def step() -> Tensor:
        losses = task_losses(suite, suite.call(model, inputs), targets).mean(0)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        optimizer.step()
        return losses.detach()[None]

    return step


def stacked(suite: Suite, models: list[nn.Module], batch: Batch) -> Callable[[], Tensor]:
    """A step of all networks at once; gives the mean losses before it [S, K].

    The optimiser works by elements, so that one over stacked parameters is one for each network.
    """
    seeds = len(models)
    parameters, buffers = stack_module_state(models)
    template = models[0]
    for name, parameter in template.named_parameters():
        parameter.data = parameters[name].detach().clone()  # [S, …], for the suite's optimiser
    optimizer = suite.optimizer(template)
    own = dict(template.named_parameters())
    inputs = each_input(batch.inputs, lambda part: part.unflatten(0, (seeds, -1)))

    def outputs(own: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Any) -> Any:
        return suite.call(lambda x: functional_call(template, (own, buffers), (x,)), inputs)

    def step() -> Tensor:
        found = vmap(outputs, randomness="different")(own, buffers, inputs)
        flat = {name: output.flatten(0, 1) for name, output in found.items()}
        losses = task_losses(suite, flat, batch.targets).unflatten(0, (seeds, -1)).mean(1)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        optimizer.step()
        return losses.detach()

    return step


def measured(suite: Suite, counts: list[int], device: str, repeats: int) -> Iterator[Record]:
    """A record for each number of seeds: milliseconds of a step, how many times as many seeds a
    second as one alone has, and whether the losses are those of each alone."""
    (first,) = networks(suite, 1, device)
    steps = {0: alone(suite, first, Batch(suite, 1, device).part(slice(None)))}
    apart = {}
    for count in counts:
        batch = Batch(suite, count, device)
        steps[count] = stacked(suite, networks(suite, count, device), batch)
        apart[count] = _apart(suite, steps[count], batch, count, device)
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    waited = {count: _then(step, wait) for count, step in steps.items()}
    seconds = in_turn(waited, repeats)  # type: ignore[arg-type]
    for count in counts:
        ratios = [count * a / b for a, b in zip(seconds[0], seconds[count], strict=True)]
        yield {
            "ok": apart[count] <= TOLERANCE,
            "seeds": count,
            "ms": round(1e3 * statistics.median(seconds[count]), 3),
            "alone_ms": round(1e3 * statistics.median(seconds[0]), 3),
            "times_as_many": round(statistics.median(ratios), 3),
            "apart": apart[count],
        }


def _then(step: Callable[[], object], wait: Callable[[], object]) -> Callable[[], object]:
    def both() -> None:
        step()
        wait()

    return both


def _apart(
    suite: Suite, together: Callable[[], Tensor], batch: Batch, count: int, device: str
) -> float:
    """The largest relative difference of the losses in the second step from those of each alone."""
    size = suite.batch_size
    steps = [
        alone(suite, model, batch.part(slice(size * n, size * (n + 1))))
        for n, model in enumerate(networks(suite, count, device))
    ]
    for _ in range(2):
        found = together()
        expected = torch.cat([step() for step in steps])
    return float(((found - expected).abs() / expected.abs().clamp_min(1e-6)).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--suites", default="digits,streets,bodies")
    parser.add_argument("--seeds", default="1,4,16")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    counts = [int(count) for count in options.seeds.split(",")]
    torch.set_num_threads(1)
    print(f"{'suite':9} {'seeds':>5} {'ms':>9} {'alone':>8} {'times as many':>14} {'apart':>8}")
    for name in options.suites.split(","):
        for row in measured(suites.get(name).cls(), counts, options.device, options.repeats):
            print(
                f"{name:9} {row['seeds']:5} {row['ms']:9.2f} {row['alone_ms']:8.2f} "
                f"{row['times_as_many']:14.2f} {row['apart']:8.1e}"
            )


if __name__ == "__main__":
    main()
