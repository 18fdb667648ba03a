"""A table with gaps in its labels, and no validation data: a tenth of the training rows is drawn.

mtlbench run patients --plugin examples/own_table.py --strategies equal,dwa
"""

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import TensorDataset

from mtlbench import Task, suite_from
from mtlbench.tasks.metrics import absolute_error, auroc, r2
from mtlbench.tasks.task import binary_cross_entropy, squared_l2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(64, 1) for _ in range(3))

    def forward(self, columns):
        features = self.trunk(columns)
        return [head(features).squeeze(1) for head in self.heads]  # in the order of the tasks


columns, progression = load_diabetes(return_X_y=True, scaled=False)
columns = torch.tensor(columns, dtype=torch.float32)
progression = torch.tensor(progression, dtype=torch.float32)
sex, pressure = columns[:, 1] - 1, columns[:, 3].clone()
pressure[::5] = torch.nan  # not measured
inputs = columns[:, [0, 2, 4, 5, 6, 7, 8, 9]]
inputs = (inputs - inputs.mean(0)) / inputs.std(0)
data = TensorDataset(inputs, progression, pressure, sex)
train, test = torch.utils.data.random_split(
    data, [342, 100], generator=torch.Generator().manual_seed(0)
)

suite_from(
    "patients",
    train=train,
    test=test,
    model=Net,
    tasks=[
        Task("progression", "regression", squared_l2(), (absolute_error(""), r2()),
             ("uniform", "shuffle"), center=150, scale=75),
        Task("pressure", "regression", squared_l2(), (absolute_error("mmHg"),),
             ("uniform", "shuffle"), unit="mmHg", center=95, scale=14),
        Task("sex", "classification", binary_cross_entropy(), (auroc(),), ("other-class",),
             classes=("1", "2"), binary=True),
    ],
    epochs=30,
    batch_size=32,
    lr=3e-3,
)  # fmt: skip
