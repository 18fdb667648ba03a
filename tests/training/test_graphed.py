"""Networks whose passes are replayed: what is replayed, and what the network itself still does."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from mtlbench.strategies.base import GRADIENT, strategies
from mtlbench.strategies.compose import Composition, build_strategy
from mtlbench.study.plan import plan
from mtlbench.suites.base import suites
from mtlbench.training.graphed import GraphedNetwork, GraphedTasks
from mtlbench.training.job import Place
from mtlbench.training.run import Run

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
TINY = {
    "epochs": 2,
    "batch_size": 32,
    "train_size": 100,
    "validation_size": 16,
    "test_size": 16,
}


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


def finished(suite: str, strategy: str, graphed: bool, **overrides: Any) -> Run:
    (spec,) = plan(
        suite, strategies=[strategy], variants=["clean"], seeds=1, overrides=TINY | overrides
    )
    with mock.patch.object(suites.get(suite).cls, "graphed", graphed):
        run = Run(spec, Place("cuda"))
        run.start()
    for _ in range(run.end):
        run.train_epoch()
    return run


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("suite", ["digits", "streets", "multimnist"])
def test_a_replayed_network_learns_the_same_bits(suite: str) -> None:
    one, other = (finished(suite, "ilt", graphed) for graphed in (True, False))
    assert isinstance(one.network, GraphedNetwork)
    assert one.history == other.history


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("strategy", ["ilt", "mgda"])
def test_on_bodies_it_learns_the_same_but_for_the_order_of_sums(strategy: str) -> None:
    one, again, other = (finished("bodies", strategy, graphed) for graphed in (True, True, False))
    assert one.history == again.history
    assert one.history == {name: pytest.approx(c, rel=0.05) for name, c in other.history.items()}


# --- a graph for each task's backward pass --------------------------------------------------


def record_by_doing_again(work: Callable[[], None], memory: Any) -> tuple[Callable[[], None], Any]:
    work()
    return work, memory


@pytest.fixture
def tasks_recorded() -> Iterator[None]:
    with mock.patch("mtlbench.training.graphed.record", record_by_doing_again):
        yield


def goes_back_for_each_task(name: str) -> bool:
    """Whether a step takes each task's gradient over the parameters, of one pass of the network."""
    composition = Composition.parse(name)
    task: Any = composition.task.cls
    other = composition.held_out or composition.recomputes or task.needs_representation
    return task.stage == GRADIENT and not other


BY_TASK = [e.name for e in strategies.entries() if goes_back_for_each_task(e.name)]
BY_TASK.remove("pivrg")  # it needs a run of `single`


def trained(suite: str, strategy: str, recorded: bool) -> Run:
    """A run on the CPU whose network is recorded after all, by the patch above."""
    (spec,) = plan(suite, strategies=[strategy], variants=["clean"], seeds=1, overrides=TINY)
    run = Run(spec, Place("cpu"))
    run.start()
    if recorded:
        run.network = run._graphed(GraphedTasks)
    for _ in range(run.end):
        run.train_epoch()
    return run


def columns(run: Run) -> dict[str, list[float]]:
    """The history; a direction has no weights."""
    return {name: c for name, c in run.history.items() if not all(map(math.isnan, c))}


@pytest.mark.parametrize("strategy", BY_TASK)
def test_a_task_after_the_other_replayed_learns_the_same_bits(
    strategy: str, tasks_recorded: None
) -> None:
    one, other = (trained("digits", strategy, recorded) for recorded in (True, False))
    assert one.network._batches > 2  # type: ignore[attr-defined]
    assert columns(one) == columns(other)


def test_it_does_where_tasks_reach_different_parts_of_the_trunk(tasks_recorded: None) -> None:
    one, other = (trained("bodies", "ilt+cagrad", recorded) for recorded in (True, False))
    # The gradient that comes to the surface lies otherwise in memory, and is summed up otherwise.
    assert columns(one) == {name: pytest.approx(c, rel=1e-3) for name, c in columns(other).items()}


class Parts(nn.Module):
    """Two heads over a trunk, and an output that depends on nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.one, self.two = nn.Conv2d(4, 1, 1), nn.Conv2d(4, 3, 1).double()
        self.fixed = nn.Parameter(torch.ones(()), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        features = self.trunk(inputs["image"] * inputs["mask"][:, None])
        return {
            "one": self.one(features),
            "two": self.two(features.double()),
            "fixed": self.fixed * inputs["mask"],
        }


def batch(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(4, 2, 6, 6, generator=generator)
    mask = (torch.rand(4, 6, 6, generator=generator) > 0.3).float()
    return {"image": image.to(memory_format=torch.channels_last), "mask": mask}


def gradients(outputs: dict[str, Tensor], model: nn.Module, name: str) -> list[Tensor | None]:
    loss = outputs[name].square().mean()
    learnt = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, learnt, retain_graph=True, allow_unused=True)
    return list(found)


def test_each_output_reaches_what_it_depends_on_in_any_order_and_as_often_as_asked(
    tasks_recorded: None,
) -> None:
    model: Any = Parts().train()
    model.to(memory_format=torch.channels_last)
    plain = copy.deepcopy(model)
    network = GraphedTasks(model, batch(0))
    for seed in range(1, 4):
        ours, theirs = network(batch(seed)), plain(batch(seed))
        assert torch.equal(ours["fixed"], theirs["fixed"])
        for name in ("two", "one", "two"):
            assert torch.equal(ours[name], theirs[name])
            both = zip(gradients(ours, model, name), gradients(theirs, plain, name), strict=True)
            for mine, other in both:
                assert (mine is None) == (other is None)
                assert mine is None or other is None or torch.allclose(mine, other, rtol=1e-5)
    assert torch.equal(model.trunk[1].running_mean, plain.trunk[1].running_mean)


def test_gradients_of_one_task_stay_when_those_of_the_next_are_taken(tasks_recorded: None) -> None:
    model = Parts().train()
    network = GraphedTasks(model, batch(0))
    network(batch(1))
    outputs = network(batch(2))
    first = gradients(outputs, model, "one")
    kept = [None if each is None else each.clone() for each in first]
    gradients(outputs, model, "two")
    network(batch(3))
    for mine, other in zip(first, kept, strict=True):
        assert mine is None or (other is not None and torch.equal(mine, other))


def test_a_backward_pass_that_comes_after_another_batch_is_refused(tasks_recorded: None) -> None:
    model = Parts().train()
    network = GraphedTasks(model, batch(0))
    network(batch(1))
    outputs = network(batch(2))
    network(batch(3))
    with pytest.raises(RuntimeError, match="has seen another batch"):
        outputs["one"].sum().backward()


def test_a_head_that_starts_at_0_is_no_fault_of_a_replayed_network(tasks_recorded: None) -> None:
    class Zero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
            nn.init.zeros_(self.one.weight)

        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            features = self.trunk(inputs).relu()
            return {"one": self.one(features), "two": self.two(features)}

    def weights(recorded: bool) -> Tensor:
        torch.manual_seed(0)
        model = Zero().train()
        inputs = torch.randn(8, 3)
        network = GraphedTasks(model, inputs) if recorded else model
        strategy = build_strategy(
            "mgda", tasks={"one": "regression", "two": "regression"}, model=model
        )
        for _ in range(3):
            model.zero_grad()
            outputs = network(inputs)
            strategy.backward({name: out.square().flatten() for name, out in outputs.items()})
            model.one.weight.grad = None
        return torch.cat([p.grad.flatten() for p in model.trunk.parameters() if p.grad is not None])

    assert torch.equal(weights(True), weights(False))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("suite", ["digits", "streets", "multimnist"])
@pytest.mark.parametrize("strategy", ["mgda", "ilt+cagrad"])
def test_tasks_replayed_on_a_gpu_learn_the_same_bits(suite: str, strategy: str) -> None:
    one, other = (finished(suite, strategy, graphed) for graphed in (True, False))
    assert isinstance(one.network, GraphedTasks)
    assert one.history == other.history


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    ("strategy", "overrides"),
    [("samo", {}), ("modo", {}), ("mgda", {"mgda.on": "representation"})],
)
def test_steps_with_other_passes_get_the_network_itself(
    strategy: str, overrides: dict[str, Any]
) -> None:
    run = finished("digits", strategy, True, **overrides)
    assert run.network is run.model
