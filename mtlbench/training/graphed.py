"""A network's passes as CUDA graphs: replayed in one go, where launching their kernels one by one
takes longer than running them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.data.splits import Inputs, each_input, input_parts

Outputs = dict[str, Tensor]

WARM_UP = 3
"""Passes before anything is recorded: libraries choose kernels and take memory in the first."""

ALIGNMENT = 64
"""Bytes: where a gradient begins in a buffer of several."""


class GraphedNetwork:
    """A network that replays its forward and its backward pass over training batches of one shape.

    The numbers are those of the network itself, which runs as it is in evaluation mode and on
    batches of other shapes. A replay runs the kernels that were recorded: a network whose forward
    pass decides anything by its inputs, or waits for the device, cannot be recorded.

    A backward pass covers all outputs at once. Gradients of single tasks would pass zeros through
    the heads of the others: see `GraphedTasks`.

    Args:
        model: on a GPU, in training mode. Its parameters must stay the same tensors.
        sample: a batch as training gives it to the network; only its layout matters.
        half: whether training runs under bfloat16 autocast.
    """

    def __init__(self, model: nn.Module, sample: Inputs, *, half: bool = False) -> None:
        self.model, self._layout = model, _layout(sample)
        with _recording(model, sample, half):
            torch.cuda.make_graphed_callables(model, (sample,))  # type: ignore[arg-type]
        self._replay = model.forward  # it was put in front of the class's own
        del model.forward

    def __call__(self, inputs: Inputs) -> Outputs:
        """Outputs by task [B, …]. A later batch may overwrite them: use them in this step."""
        fits = _fits(self.model, inputs, self._layout)
        outputs: Outputs = self._replay(inputs) if fits else self.model(inputs)
        return outputs


class GraphedTasks:
    """The same for weightings that take each task's gradient: a graph for the forward pass, and one
    for the backward pass of each task, from its output to all that this depends on.

    In the autograd graph every output stands alone above its parameters, so that heads and shared
    layers are told apart as in the network itself. A backward pass may be taken several times, with
    other cotangents, until the next forward pass. One of all tasks together costs as many as there
    are tasks. The first batch goes through the network itself, whose graph also shows what cannot
    be told apart.

    Args:
        model, sample, half: as for `GraphedNetwork`.
    """

    def __init__(self, model: nn.Module, sample: Inputs, *, half: bool = False) -> None:
        self.model, self._layout = model, _layout(sample)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._inputs: Inputs = each_input(sample, torch.clone)
        self._batches = 0
        with _recording(model, sample, half):
            self._record(sample)

    def _record(self, sample: Inputs) -> None:
        device = input_parts(sample)[0].device
        with _on_a_stream_of_its_own(device):
            for _ in range(WARM_UP):
                live = self.model(self._inputs)
                reached = {name: self._gradients(output) for name, output in live.items()}
        self._outputs = {name: torch.empty_like(output) for name, output in live.items()}
        self._cotangents = {name: torch.empty_like(output) for name, output in live.items()}
        self._reached = {
            name: [n for n, gradient in enumerate(gradients) if gradient is not None]
            for name, gradients in reached.items()
        }
        self._flat, self._places = _flat_buffer(self._parameters)
        into = self._views(self._flat)
        recorded: Outputs = {}

        def forward() -> None:
            recorded.update(self.model(self._inputs))
            with torch.no_grad():
                for name, output in recorded.items():
                    self._outputs[name].copy_(output)

        def backward(name: str) -> Callable[[], None]:
            def one() -> None:
                gradients = self._gradients(recorded[name], self._cotangents[name])
                for n in self._reached[name]:
                    into[n].copy_(gradients[n])

            return one

        memory = None
        self._forward, memory = record(forward, memory)
        self._backward = {}
        for name, parameters in self._reached.items():
            if parameters:
                self._backward[name], memory = record(backward(name), memory)

    def _gradients(self, output: Tensor, cotangent: Tensor | None = None) -> list[Any]:
        """The gradient of an output over each parameter, None where it does not depend on it. What
        the forward pass has kept stays, for the backward passes of the others."""
        if not output.requires_grad:
            return [None] * len(self._parameters)
        cotangent = torch.ones_like(output) if cotangent is None else cotangent
        return list(
            torch.autograd.grad(
                output, self._parameters, cotangent, retain_graph=True, allow_unused=True
            )
        )

    def _views(self, flat: Tensor) -> list[Tensor]:
        return [
            flat[begin:end].view(p.dtype).as_strided(p.shape, p.stride())
            for p, (begin, end) in zip(self._parameters, self._places, strict=True)
        ]

    def __call__(self, inputs: Inputs) -> Outputs:
        """Outputs by task [B, …]. A later batch may overwrite them: use them in this step."""
        self._batches += 1
        if self._batches == 1 or not _fits(self.model, inputs, self._layout):
            outputs: Outputs = self.model(inputs)
            return outputs
        for own, part in zip(input_parts(self._inputs), input_parts(inputs), strict=True):
            own.copy_(part)
        self._forward()
        return {
            name: _Replay.apply(
                self, name, self._batches, *(self._parameters[n] for n in self._reached[name])
            )
            for name in self._outputs
        }

    def output(self, name: str) -> Tensor:
        """What the last forward pass gave [B, …]."""
        return self._outputs[name].detach()

    def gradients(self, name: str, batch: int, cotangent: Tensor) -> list[Tensor]:
        """Takes a backward pass; the gradients of all parameters that the output depends on.

        Raises:
            RuntimeError: another batch has gone through since.
        """
        if batch != self._batches:
            raise RuntimeError(
                "the network has seen another batch before the backward pass of this one: with "
                "graphed = True, a batch goes through it once in each step"
            )
        self._cotangents[name].copy_(cotangent)
        self._backward[name]()
        views = self._views(self._flat.clone())
        return [views[n] for n in self._reached[name]]


class _Replay(torch.autograd.Function):
    """An output whose backward pass is replayed."""

    depends_on_all_inputs = True

    @staticmethod
    def forward(ctx: Any, network: GraphedTasks, name: str, batch: int, *_: Tensor) -> Tensor:
        ctx.made_by = network, name, batch
        return network.output(name)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        network, name, batch = ctx.made_by
        return None, None, None, *network.gradients(name, batch, cotangents[0])


def record(work: Callable[[], None], memory: Any) -> tuple[Callable[[], None], Any]:
    """What does the same work again, on the same tensors, and the memory that it has taken.

    Args:
        work: kernels on the GPU.
        memory: of a recording whose tensors this one uses, None for the first.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=memory):
        work()
    return graph.replay, graph.pool()


@contextmanager
def _recording(model: nn.Module, sample: Inputs, half: bool) -> Iterator[None]:
    """Leaves draws and buffers as they were, and the warnings of PyTorch unsaid."""
    device = input_parts(sample)[0].device
    # What is recorded runs on a stream of its own, about which PyTorch warns in each process.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False),
    ):
        yield
    # Warming up moved the statistics of batch norm.
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)


@contextmanager
def _on_a_stream_of_its_own(device: torch.device) -> Iterator[None]:
    """As what is recorded, before it is."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)
    torch.cuda.synchronize(device)


def _flat_buffer(parameters: list[nn.Parameter]) -> tuple[Tensor, list[tuple[int, int]]]:
    """Bytes for the gradients of all parameters, one after another, and where each lies."""
    places, end = [], 0
    for parameter in parameters:
        places.append((end, end + parameter.numel() * parameter.element_size()))
        end = -(-places[-1][1] // ALIGNMENT) * ALIGNMENT
    device = parameters[0].device
    return torch.zeros(end, dtype=torch.uint8, device=device), places


def _fits(model: nn.Module, inputs: Inputs, layout: list[object]) -> bool:
    """Whether a batch is like the one that was recorded."""
    return model.training and torch.is_grad_enabled() and _layout(inputs) == layout


def _layout(inputs: Inputs) -> list[object]:
    names = [*inputs] if isinstance(inputs, dict) else []
    return [*names, *((part.shape, part.dtype, part.device) for part in input_parts(inputs))]
