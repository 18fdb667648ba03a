"""A network's passes as CUDA graphs: replayed in one go, where launching their kernels one by one
takes longer than running them."""

import torch
from torch import Tensor, nn

from mtlbench.data.splits import Inputs, input_parts

Outputs = dict[str, Tensor]


class GraphedNetwork:
    """A network that replays its forward and its backward pass over training batches of one shape.

    The numbers are those of the network itself, which runs as it is in evaluation mode and on
    batches of other shapes. A replay runs the kernels that were recorded: a network whose forward
    pass decides anything by its inputs, or waits for the device, cannot be recorded.

    A backward pass covers all outputs at once. Gradients of single tasks would pass zeros through
    the heads of the others, so gradient weightings need the network itself.

    Args:
        model: on a GPU, in training mode. Its parameters must stay the same tensors.
        sample: a batch as training gives it to the network; only its layout matters.
        half: whether training runs under bfloat16 autocast.
    """

    def __init__(self, model: nn.Module, sample: Inputs, *, half: bool = False) -> None:
        self.model, self._layout = model, _layout(sample)
        device = input_parts(sample)[0].device
        # What is recorded runs on a stream of its own, about which PyTorch warns in each process.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False),
        ):
            torch.cuda.make_graphed_callables(model, (sample,))  # type: ignore[arg-type]
        self._replay = model.forward  # it was put in front of the class's own
        del model.forward
        # Warming up moved the statistics of batch norm.
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)

    def __call__(self, inputs: Inputs) -> Outputs:
        """Outputs by task [B, …]. A later batch may overwrite them: use them in this step."""
        fits = self.model.training and torch.is_grad_enabled() and _layout(inputs) == self._layout
        outputs: Outputs = self._replay(inputs) if fits else self.model(inputs)
        return outputs


def _layout(inputs: Inputs) -> list[object]:
    names = [*inputs] if isinstance(inputs, dict) else []
    return [*names, *((part.shape, part.dtype, part.device) for part in input_parts(inputs))]
