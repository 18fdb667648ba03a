"""The order in which an epoch visits the training instances."""

import torch
from torch import Tensor


def even_order(present: Tensor, generator: torch.Generator) -> Tensor:
    """An order that gives every task the same share of any batch, for tasks with data of their own.

    Instances of the tasks take turns. Those of the largest task are visited once; a smaller one
    begins again, in another order, as often as that takes. So an epoch is K times the largest task.

    Args:
        present: which labels are present, bool [N, K]; an instance is one of the first task whose
            label it has.
        generator: draws the orders.

    Returns:
        Row numbers, of tasks that have instances in turn.

    Raises:
        ValueError: no instance has a label.
    """
    owner = torch.where(present.any(1), present.int().argmax(1), -1).cpu()
    rows = [(owner == k).nonzero()[:, 0] for k in range(present.shape[1])]
    rows = [own for own in rows if len(own)]
    if not rows:
        raise ValueError("no instance has a label")
    longest = max(map(len, rows))

    def visits(own: Tensor) -> Tensor:
        rounds = -(-longest // len(own))
        orders = [own[torch.randperm(len(own), generator=generator)] for _ in range(rounds)]
        return torch.cat(orders)[:longest]

    return torch.stack([visits(own) for own in rows], 1).flatten()
