"""Pictures with a label map: what moves both is a `transform`, what changes colours is not.

mtlbench run blobs --plugin examples/own_pictures.py --strategies equal,ilt --set workers=1
"""

import numpy as np
import torch
from torch import nn

from mtlbench import Task, suite_from
from mtlbench.tasks.metrics import absolute_error, mean_iou
from mtlbench.tasks.task import cross_entropy, l1


class Blobs(torch.utils.data.Dataset):
    """A disk on a ground: where it is, and how bright everything is."""

    def __init__(self, count, seed, noise=0.0):
        chance, (rows, columns) = np.random.default_rng(seed), np.mgrid[:16, :16]
        row, column, radius = chance.uniform((4, 4, 2), (12, 12, 5), (count, 3)).T[..., None, None]
        self.disks = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        self.light, self.noise = chance.uniform(0.3, 1, count), noise

    def __len__(self):
        return len(self.disks)

    def __getitem__(self, i):
        picture = self.light[i] * (0.2 + 0.6 * self.disks[i, None])
        # Drawn anew in each epoch, the same for every strategy:
        picture = picture + np.random.normal(0, self.noise, picture.shape)
        return picture.astype(np.float32), {"disk": self.disks[i], "light": self.light[i]}


def flip(picture, labels):
    """Half of the pictures, each with its label map."""
    if torch.rand(()) < 0.5:
        return picture[..., ::-1].copy(), {**labels, "disk": labels["disk"].flip(-1)}
    return picture, labels


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        first, second = nn.Conv2d(1, 16, 5, padding=2), nn.Conv2d(16, 16, 5, padding=2)
        self.trunk = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.disk, self.light = nn.Conv2d(16, 2, 1), nn.Linear(16, 1)

    def forward(self, pictures):
        maps = self.trunk(pictures)
        return self.disk(maps), self.light(maps.mean((2, 3))).squeeze(1)


disk = Task("disk", "classification", cross_entropy(), (mean_iou(2),), ("permute", "shuffle"),
            classes=("ground", "disk"))  # fmt: skip
light = Task("light", "regression", l1(), (absolute_error(""),), ("uniform",))
suite_from(
    "blobs", train=Blobs(512, 0, noise=0.1), validation=Blobs(128, 1), test=Blobs(128, 2),
    model=Net, tasks=[disk, light], transform=flip, epochs=4, batch_size=32, lr=1e-2,
)  # fmt: skip
