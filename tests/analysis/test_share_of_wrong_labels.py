"""The share of wrong labels: hard ones that are right are as frequent in validation data."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import trained
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mtlbench import Data, Split, Suite, Task, register_suite
from mtlbench.analysis.label_errors.mixture import estimate_share
from mtlbench.analysis.label_errors.scores import (
    ILT_LOSS,
    LOSS,
    MARGIN,
    SIGMA,
    losses_until_best,
    scores_of,
)
from mtlbench.store.runs import Store, read_run
from mtlbench.study.plan import plan
from mtlbench.tasks.task import cross_entropy, squared_l2


def two_groups(draw: np.random.Generator, count: int, share: float) -> np.ndarray:
    """Losses, a share of which is e⁶ times as large."""
    return np.exp(draw.normal(np.where(draw.random(count) < share, 3.0, -3.0), 1.0))


@settings(max_examples=20)
@given(share=st.sampled_from([0.05, 0.2, 0.5]), seed=st.integers(0, 1000))
def test_a_second_group_that_validation_data_have_too_may_be_of_hard_labels(
    share: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    training, validation = two_groups(draw, 3000, share), two_groups(draw, 1000, share)
    estimate = estimate_share(training, LOSS, losses=(training, validation), resamples=5)
    assert estimate.hard
    assert np.isnan(estimate.wrong)
    assert str(estimate) == (
        f"cannot tell: none to {estimate.share:.1f} % "
        f"({estimate.in_validation:.0f} % of validation labels look the same)"
    )


@settings(max_examples=20)
@given(share=st.sampled_from([0.05, 0.2, 0.5]), seed=st.integers(0, 1000))
def test_a_second_group_that_validation_data_do_not_have_is_of_wrong_labels(
    share: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    training, validation = two_groups(draw, 3000, share), two_groups(draw, 1000, 0.0)
    estimate = estimate_share(training, LOSS, losses=(training, validation), resamples=5)
    assert not estimate.hard
    assert estimate.wrong == pytest.approx(100 * share, abs=3)
    assert "cannot tell" not in str(estimate)


def test_the_share_in_validation_by_hand() -> None:
    draw = np.random.default_rng(0)
    training = np.concatenate([np.exp(draw.normal(-3, 0.1, 80)), np.arange(100.0, 120.0)])
    # Half of the second group is above 109.5, and so is one of eight; NaN has no label.
    validation = np.array([0.1, 0.1, 0.2, 105.0, 109.0, 0.1, 0.3, 110.0, np.nan])
    estimate = estimate_share(training, LOSS, losses=(training, validation), resamples=0)
    assert estimate.share == pytest.approx(20, abs=0.1)
    assert estimate.in_validation == pytest.approx(2 * 100 / 8)


def test_without_validation_losses_nothing_is_said_of_hard_labels() -> None:
    training = two_groups(np.random.default_rng(0), 2000, 0.3)
    for losses in (None, (training, np.full(5, np.nan))):
        estimate = estimate_share(training, LOSS, losses=losses, resamples=0)
        assert np.isnan(estimate.in_validation)
        assert not estimate.hard


def test_losses_are_those_around_the_epochs_up_to_the_least_loss_on_validation_data() -> None:
    training = np.array([[4.0, 2.0], [2.0, np.nan], [0.0, 0.0]], np.float16)
    validation = np.array([[3.0, 3.0], [1.0, 2.0], [5.0, np.nan]], np.float16)
    of_training, of_validation = losses_until_best(training, validation)
    np.testing.assert_array_equal(of_training, [1.0, 0.0])  # after the first, after the second
    np.testing.assert_array_equal(of_validation, [2.0, 2.5])
    of_training, of_validation = losses_until_best(training[:1], validation[:1])
    np.testing.assert_array_equal(of_training, [4.0, 2.0])
    np.testing.assert_array_equal(of_validation, [3.0, 3.0])


def test_labels_that_were_large_losses_at_the_start_alone_are_not_taken_for_wrong() -> None:
    """As of a network that is good after its first epoch: half of the labels are learned later."""
    draw = np.random.default_rng(0)
    at_last = np.exp(draw.normal(np.repeat([0.0, 3.0], 500), 0.3))
    training = np.stack([np.full(1000, 100.0), at_last, at_last])
    validation = np.stack([draw.permutation(at_last)[:300]] * 3)
    score = training.mean(0)
    losses = losses_until_best(training, validation)
    estimate = estimate_share(score, LOSS, losses=losses, resamples=0)
    assert estimate.second_group
    assert estimate.hard


# --- of networks --------------------------------------------------------------------------------


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.side, self.size = nn.Linear(64, 2), nn.Linear(64, 1)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        shared = self.trunk(inputs)
        return {"side": self.side(shared), "size": self.size(shared).squeeze(1)}


@pytest.fixture
def half_hard(tmp_path: Path) -> Store:
    """Runs of a suite whose labels are right. Half of the classes follow a pattern that the network
    does not learn in the time, and half of the numbers are 0, and easy."""

    @register_suite("half-hard")
    @dataclass(frozen=True, kw_only=True)
    class HalfHard(Suite):
        epochs: int = 20
        batch_size: int = 64
        lr: float = 3e-3

        def tasks(self) -> tuple[Task, ...]:
            return (
                Task("side", "classification", cross_entropy(), (), (), classes=("left", "right")),
                Task("size", "regression", squared_l2(), (), ("uniform",)),
            )

        def data(self) -> Data:
            def split(count: int, seed: int) -> Split:
                x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
                hard, easy = (x[:, 2] * 7).sin() > 0, x[:, 0] > 0
                side = torch.where(x[:, 1] > 0, easy, hard).long()
                size = torch.where(x[:, 1] > 0, 3 * x.sum(1).abs(), 0.0)
                return Split(x, {"side": side, "size": size})

            return Data(split(2000, 0), split(300, 1), split(300, 2))

        def model(self) -> nn.Module:
            return TwoHeads()

    store = Store(tmp_path / "runs")
    for spec in plan("half-hard", strategies=["equal", "ilt"], variants=["clean"], seeds=1):
        store.write(trained(spec, keep_traces=True))
    return store


def test_labels_that_are_right_and_hard_are_not_called_wrong(half_hard: Store) -> None:
    runs = [read_run(path) for path in half_hard.run_directories()]
    found = [scores for run in runs for scores in scores_of(run)]
    assert {(each.task, each.detector) for each in found} == {
        *((task, detector) for task in ("side", "size") for detector in (SIGMA, LOSS, ILT_LOSS)),
        ("side", MARGIN),
    }
    estimates = {
        (each.task, each.detector): estimate_share(
            each.score, each.detector, losses=each.losses, resamples=0
        )
        for each in found
    }
    assert all(np.isnan(estimate.wrong) for estimate in estimates.values())
    # The summed loss of ILT's run sees a large second group all the same.
    ilt = estimates["side", ILT_LOSS]
    assert ilt.second_group
    assert ilt.share > 40
