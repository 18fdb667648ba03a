"""A network with one trunk and three heads, and its losses, for loops of one's own."""

import torch
from torch import Tensor, nn
from torch.nn import functional

TASKS = {"a": "classification", "b": "regression", "c": "regression"}


class Net(nn.Module):
    """Inputs [B, 5] to logits [B, 3] of `a` and numbers [B] of `b` and `c`, in float64."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk = nn.Sequential(nn.Linear(5, 7), nn.Tanh())
            self.heads = nn.ModuleDict({"a": nn.Linear(7, 3), "b": nn.Linear(7, 1)})
            self.heads["c"] = nn.Linear(7, 1)
        self.double()

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        seen = self.trunk(inputs)
        outputs = {task: head(seen) for task, head in self.heads.items()}
        return {task: y if task == "a" else y[:, 0] for task, y in outputs.items()}


def losses_of(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses [B] of each task, of the numbers at least 0.1: so the geometric mean is smooth."""
    return {
        "a": functional.cross_entropy(outputs["a"], targets["a"], reduction="none"),
        "b": 0.1 + (outputs["b"] - targets["b"]).square(),
        "c": 0.1 + 9 * (outputs["c"] - targets["c"]).square(),
    }
