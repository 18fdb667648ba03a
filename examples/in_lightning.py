"""Finds wrong labels while PyTorch Lightning trains: `own_loop.py` without a loop of one's own.

pip install "mtlbench[lightning]"
python examples/in_lightning.py
"""

import lightning as L  # noqa: N812
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from mtlbench.integrations.lightning import TaskWeighting, strategy_of

L.seed_everything(0, verbose=False)
images, digits = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
wrong = torch.rand(len(digits)) < 0.1
given = torch.where(wrong, (digits + torch.randint(1, 10, digits.shape)) % 10, digits)
rows = TensorDataset(torch.arange(len(images)), images, given, images.mean(1))


class DigitAndInk(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
        self.digit, self.ink = nn.Linear(128, 10), nn.Linear(128, 1)

    def training_step(self, batch, batch_idx):
        index, image, digit, ink = batch
        features = self.trunk(image)
        losses = {  # one loss an instance, not their mean
            "digit": functional.cross_entropy(self.digit(features), digit, reduction="none"),
            "ink": (self.ink(features).squeeze(1) - ink).square(),
        }
        return strategy_of(self).loss(losses, index)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


weighting = TaskWeighting(
    "ilt",  # or any other: "ilt+pcgrad", "mtu", "nash-mtl" …
    tasks={"digit": "classification", "ink": "regression"},
    num_instances=len(rows),
)
quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar"], False)
trainer = L.Trainer(max_epochs=30, accelerator="cpu", callbacks=[weighting], **quiet)
trainer.fit(DigitAndInk(), DataLoader(rows, batch_size=64, shuffle=True))

log_variance = weighting.strategy.instance.log_variances()  # [N, 2]
suspects = log_variance[:, 0].argsort(descending=True)[:100]
print(f"{int(wrong[suspects].sum())} of the 100 most suspicious digits are labelled wrong")
