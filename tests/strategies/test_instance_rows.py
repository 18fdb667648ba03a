"""Instances that a batch holds more than once."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.strategies import table
from mtlbench.strategies.table import SMALL_BATCH, sum_repeats


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_every_place_has_the_sum_over_all_places_of_its_instance(numbers: list[int]) -> None:
    index = torch.tensor(numbers)
    values = torch.arange(2.0 * len(numbers)).view(-1, 2)
    seen = values > 5
    expected = torch.stack([values[index == number].sum(0) for number in numbers])
    counted = torch.stack([seen[index == number].sum(0) for number in numbers])
    for small in (0, SMALL_BATCH):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(table, "SMALL_BATCH", small)
            sums, times = sum_repeats(index, values, seen)
        assert torch.equal(sums, expected)
        assert torch.equal(times, counted.float())


@pytest.mark.parametrize("count", [16, SMALL_BATCH + 1])
def test_without_repeats_they_are_the_values_to_the_last_bit(count: int) -> None:
    values = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    (sums,) = sum_repeats(torch.randperm(count), values)
    assert torch.equal(sums, values)


def test_a_large_batch_takes_memory_and_time_as_its_size_does() -> None:
    def seconds(count: int) -> float:
        index, values = torch.randperm(count), torch.randn(count, 2)
        started = time.perf_counter()
        sum_repeats(index, values)
        return time.perf_counter() - started

    seconds(2**12)
    # A matrix over all pairs would take 4 TB.
    assert seconds(2**20) < 20
