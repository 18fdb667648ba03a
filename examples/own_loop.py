"""Finds wrong labels in a training loop of one's own: no suite, no trainer, no Ray.

    python examples/own_loop.py

Digits of 8×8 pixels, two tasks: which digit it is, and how much ink it takes. A tenth of the
digits are labelled wrong; ILT's σ of each label tells which.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from mtlbench import build_strategy

torch.manual_seed(0)
images, digits = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
ink = images.mean(1)
wrong = torch.rand(len(digits)) < 0.1
given = torch.where(wrong, (digits + torch.randint(1, 10, digits.shape)) % 10, digits)

trunk = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
digit_head, ink_head = nn.Linear(128, 10), nn.Linear(128, 1)
model = nn.ModuleList([trunk, digit_head, ink_head])
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
strategy = build_strategy(
    "ilt",  # or any other: "ilt+pcgrad", "mtu", "nash-mtl" …
    tasks={"digit": "classification", "ink": "regression"},
    num_instances=len(images),
    model=model,
)

for _ in range(30):
    for index in torch.randperm(len(images)).split(64):
        features = trunk(images[index])
        losses = {  # one loss an instance, not their mean
            "digit": functional.cross_entropy(digit_head(features), given[index], reduction="none"),
            "ink": (ink_head(features).squeeze(1) - ink[index]).square(),
        }
        optimizer.zero_grad()
        strategy.backward(losses, index)  # in place of loss.backward()
        optimizer.step()
    strategy.end_epoch()

log_variance = strategy.instance.log_variances()  # [N, 2]
suspects = log_variance[:, 0].argsort(descending=True)[:100]
print(f"{int(wrong[suspects].sum())} of the 100 most suspicious digits are labelled wrong")
