"""Inputs of different length, which a function of one's own makes batches of.

mtlbench run walks --plugin examples/own_lengths.py --strategies equal,mtu
"""

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from mtlbench import Task, suite_from
from mtlbench.tasks.metrics import absolute_error, accuracy
from mtlbench.tasks.task import cross_entropy, l1


class Walks(torch.utils.data.Dataset):
    """Random walks of 5 to 20 steps: the quadrant that one ends in, and how far it got."""

    def __init__(self, count, seed):
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        chance = np.random.default_rng([self.seed, i])
        steps = chance.normal(size=(chance.integers(5, 21), 2)).astype(np.float32)
        x, y = steps.sum(0)
        return steps, int(x > 0) + 2 * int(y > 0), np.hypot(x, y)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.GRU(2, 32)
        self.quadrant, self.distance = nn.Linear(32, 4), nn.Linear(32, 1)

    def forward(self, walks):
        _, last = self.trunk(walks)
        return self.quadrant(last[0]), self.distance(last[0]).squeeze(1)


def packed(walks):
    """Walks [L, 2] of one batch."""
    return pack_sequence([torch.from_numpy(steps) for steps in walks], enforce_sorted=False)


quadrant = Task("quadrant", "classification", cross_entropy(), (accuracy(4),), ("other-class",),
                classes=("I", "II", "III", "IV"))  # fmt: skip
distance = Task("distance", "regression", l1(), (absolute_error("m"),), ("uniform",), unit="m")
suite_from(
    "walks", train=Walks(1024, 0), validation=Walks(256, 1), test=Walks(256, 2), model=Net,
    tasks=[quadrant, distance], collate_fn=packed, epochs=5, batch_size=64, lr=5e-3,
)  # fmt: skip
