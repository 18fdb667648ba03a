"""Orders in which an epoch visits the training instances."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.data.orders import even_order


def owned(sizes: list[int]) -> torch.Tensor:
    owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return torch.nn.functional.one_hot(owner, len(sizes)).bool()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 99))
def test_every_task_has_its_share_of_every_batch(sizes: list[int], seed: int) -> None:
    present = owned(sizes)
    order = even_order(present, torch.Generator().manual_seed(seed))
    owner = present.int().argmax(1)[order].view(-1, len(sizes))
    assert (owner == torch.arange(len(sizes))).all()
    assert len(owner) == max(sizes)
    counts = torch.bincount(order, minlength=len(present))
    for k, size in enumerate(sizes):
        own = counts[present[:, k]]
        # As even as can be: a smaller task is seen again as a whole before a third time.
        assert own.max() - own.min() <= 1
        assert own.sum() == max(sizes)
        assert size < max(sizes) or (own == 1).all()


def test_an_order_is_that_of_its_generator() -> None:
    present = owned([3, 5])
    one, same, other = (
        even_order(present, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_instances_without_any_label_are_not_visited() -> None:
    present = torch.tensor([[True, False], [False, False], [False, True]])
    assert sorted(even_order(present, torch.Generator()).tolist()) == [0, 2]
    with pytest.raises(ValueError, match="no instance has a label"):
        even_order(torch.zeros(3, 2, dtype=torch.bool), torch.Generator())


def test_a_task_without_instances_takes_no_turn() -> None:
    present = torch.tensor([[True, False, False], [False, False, True]])
    assert sorted(even_order(present, torch.Generator()).tolist()) == [0, 1]
