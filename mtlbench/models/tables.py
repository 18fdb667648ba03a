"""Networks for rows of tables."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class SharedBottom(nn.Module):
    """Shared hidden layers over numbers and categories, and a tower for each task.

    Args:
        outputs: task name to number of outputs; one output gives a vector [B].
        numbers: how many numbers a row has.
        categories: how many values each category of a row has.
        embedding: width of what each category becomes.
        hidden: widths of the shared layers.
        tower: width of a task's own hidden layer; none where 0.
        dropout: share of the units of each shared layer left out in training.
    """

    def __init__(
        self,
        outputs: Mapping[str, int],
        *,
        numbers: int,
        categories: Sequence[int] = (),
        embedding: int = 8,
        hidden: Sequence[int] = (128, 64),
        tower: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        # All categories have one table: a row for each value of each.
        first = torch.tensor([0, *categories]).cumsum(0)
        self.first: Tensor
        self.register_buffer("first", first[:-1], persistent=False)
        self.embedding = nn.Embedding(int(first[-1]), embedding) if categories else None
        layers: list[nn.Module] = []
        width = numbers + embedding * len(categories)
        for wider in hidden:
            layers += [nn.Linear(width, wider), nn.ReLU()]
            layers += [nn.Dropout(dropout)] * bool(dropout)
            width = wider
        self.trunk = nn.Sequential(*layers)

        def head(count: int) -> nn.Module:
            if not tower:
                return nn.Linear(width, count)
            return nn.Sequential(nn.Linear(width, tower), nn.ReLU(), nn.Linear(tower, count))

        self.heads = nn.ModuleDict({task: head(count) for task, count in outputs.items()})

    def forward(self, rows: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rows to outputs [B, C], or [B] where C is 1.

        Args:
            rows: numbers [B, n]; or `numbers` [B, n] and `categories` [B, c], from 0 on.
        """
        if isinstance(rows, Tensor):
            values = rows
        else:
            values = rows["numbers"]
            if self.embedding is not None:
                places = rows["categories"].long() + self.first
                values = torch.cat((values, self.embedding(places).flatten(1)), 1)
        seen = self.trunk(values)
        return {task: head(seen).squeeze(1) for task, head in self.heads.items()}
