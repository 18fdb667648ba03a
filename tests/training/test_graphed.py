"""Networks whose passes are replayed: what is replayed, and what the network itself still does."""

import copy
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from mtlbench.study.plan import plan
from mtlbench.suites.base import suites
from mtlbench.training.graphed import GraphedNetwork
from mtlbench.training.job import Place
from mtlbench.training.run import Run

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
TINY = {"epochs": 2, "train_size": 100, "validation_size": 16, "test_size": 16}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"one": self.trunk(inputs)}


def record_as_pytorch_does(model: Any, samples: tuple[Any, ...]) -> None:
    """Runs the network to warm up, and puts in front of its `forward` what replays it."""
    for _ in range(3):
        model(*samples)
    forward = model.forward
    model.replays = 0

    def replay(*inputs: Any) -> Any:
        model.replays += 1
        return forward(*inputs)

    model.forward = replay


@pytest.fixture
def recorded() -> Iterator[Callable[..., GraphedNetwork]]:
    with mock.patch("torch.cuda.make_graphed_callables", record_as_pytorch_does):
        yield GraphedNetwork


def test_recording_leaves_the_network_and_the_draws_as_they_were(recorded: Any) -> None:
    model = Network().train()
    before, draws = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    recorded(model, torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), draws)
    assert "forward" not in vars(model)


def test_only_training_batches_of_the_recorded_shape_are_replayed(recorded: Any) -> None:
    model = Network().train()
    network = recorded(model, torch.zeros(8, 3))
    network(torch.randn(8, 3))
    assert model.replays == 1
    network(torch.randn(5, 3))  # the last batch of an epoch
    network(torch.randn(8, 3))
    assert model.replays == 2
    with torch.no_grad():
        network(torch.randn(8, 3))
    model.eval()
    network(torch.randn(8, 3))
    assert model.replays == 2


def test_inputs_of_several_parts_are_told_apart_by_all_of_them(recorded: Any) -> None:
    class Two(nn.Module):
        def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"one": inputs["a"] + inputs["b"]}

    model = Two().train()
    network = recorded(model, {"a": torch.zeros(4), "b": torch.zeros(4)})
    network({"a": torch.ones(4), "b": torch.ones(4)})
    assert model.replays == 1
    network({"a": torch.ones(4), "b": torch.ones(1)})
    network({"a": torch.ones(4), "b": torch.ones(4, dtype=torch.int64)})
    assert model.replays == 1


def test_on_a_cpu_nothing_is_recorded() -> None:
    (spec,) = plan("digits", strategies=["equal"], variants=["clean"], seeds=1, overrides=TINY)
    run = Run(spec, Place("cpu"))
    run.start()
    assert run.network is run.model


def finished(suite: str, strategy: str, graphed: bool) -> Run:
    (spec,) = plan(suite, strategies=[strategy], variants=["clean"], seeds=1, overrides=TINY)
    with mock.patch.object(suites.get(suite).cls, "graphed", graphed):
        run = Run(spec, Place("cuda"))
        run.start()
    for _ in range(run.end):
        run.train_epoch()
    return run


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("suite", ["digits", "streets", "bodies", "multimnist"])
def test_a_replayed_network_learns_the_same_bits(suite: str) -> None:
    one, other = (finished(suite, "ilt", graphed) for graphed in (True, False))
    assert isinstance(one.network, GraphedNetwork)
    assert one.history == other.history


@pytest.mark.gpu
@needs_gpu
def test_gradient_weightings_get_the_network_itself() -> None:
    assert not isinstance(finished("digits", "mgda", True).network, GraphedNetwork)
