"""A plain PyTorch script, and the lines that make a suite of it.

python examples/own_network.py                            trains as ever
mtlbench run ink --plugin examples/own_network.py         compares strategies on it
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

PARTS = {"train": slice(0, 1197), "validation": slice(1197, 1497), "test": slice(1497, 1797)}


class Digits(Dataset):
    """Digits of 8×8 pixels with some noise: which digit it is, and how much ink it takes."""

    def __init__(self, part):
        images, digits = load_digits(return_X_y=True)
        self.images, self.digits = images[PARTS[part]] / 16, digits[PARTS[part]]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = torch.tensor(self.images[i], dtype=torch.float32)
        return image + 0.1 * torch.randn(64), (self.digits[i], self.images[i].mean())


class Net(nn.Module):
    """A trunk that both tasks share, and a head for each."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
        self.digit, self.ink = nn.Linear(128, 10), nn.Linear(128, 1)

    def forward(self, images):
        features = self.trunk(images)
        return self.digit(features), self.ink(features).squeeze(1)


def train():
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(10):
        for images, (digits, ink) in DataLoader(Digits("train"), batch_size=64, shuffle=True):
            digit_out, ink_out = model(images)
            loss = functional.cross_entropy(digit_out, digits)
            loss = loss + functional.l1_loss(ink_out, ink.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss:.3f}")


# --- all that is new ------------------------------------------------------------------------------
from mtlbench import Task, suite_from  # noqa: E402
from mtlbench.tasks.metrics import absolute_error, accuracy  # noqa: E402
from mtlbench.tasks.task import cross_entropy, l1  # noqa: E402

suite_from(
    "ink",
    train=lambda: Digits("train"),
    validation=lambda: Digits("validation"),
    test=lambda: Digits("test"),
    model=Net,
    tasks=[
        Task("digit", "classification", cross_entropy(), (accuracy(10),), ("other-class",),
             classes=tuple("0123456789")),
        Task("ink", "regression", l1(), (absolute_error(""),), ("uniform",)),
    ],
    epochs=10,
    batch_size=64,
    lr=2e-3,
)  # fmt: skip

# --------------------------------------------------------------------------------------------------

if __name__ == "__main__":
    train()
