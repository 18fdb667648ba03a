"""Gradient weightings on what the shared layers give, and that weigh in every n-th step only."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import NUM_INSTANCES, Batch, Problem, Toy, assert_agrees, problem, step

from mtlbench.errors import UserError
from mtlbench.strategies import GradientWeighting, InstanceStage, Strategy
from mtlbench.strategies.compose import build_strategy
from mtlbench.strategies.fewer_passes import FewerPasses


class Normalised(GradientWeighting):
    """Every gradient brought to length 1; counts how often it is asked."""

    asked = 0

    def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        self.asked += 1
        return gramian.diagonal().rsqrt()


class LargestEach(GradientWeighting):
    """Of each number, the task's gradient that is largest."""

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        return jacobian.gather(0, jacobian.abs().argmax(0, keepdim=True))[0]


def start(
    case: Problem, task: GradientWeighting, network: Toy, on: str = "parameters", every: int = 1
) -> Strategy:
    return Strategy(
        InstanceStage(),
        FewerPasses(task, on=on, every=every),
        tasks=case.tasks,
        num_instances=NUM_INSTANCES,
        model=network,
        representation=network.trunk,
        dtype=torch.float64,
    )


def rows_over_trunk(network: Toy, losses: list[Tensor]) -> Tensor:
    """Each task's gradient over the trunk [K, P]."""
    trunk = list(network.trunk.parameters())
    return torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk, retain_graph=True)])
            for loss in losses
        ]
    )


def rows_over_features(network: Toy, losses: list[Tensor], features: Tensor) -> Tensor:
    """Each task's gradient over what the trunk gives [K, B·4]."""
    return torch.stack(
        [torch.autograd.grad(loss, features, retain_graph=True)[0].flatten() for loss in losses]
    )


def trunk_gradient(network: Toy) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.trunk.parameters()])


def expected(
    network: Toy, batch: Batch, weigh: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The trunk's gradient with weights from `weigh(rows over the features)`, and the heads' own,
    by PyTorch's autograd on the whole graph."""
    kept: list[Tensor] = []
    handle = network.trunk.register_forward_hook(lambda *call: kept.append(call[2]))
    losses = network.eval().task_losses(batch)  # in training the features would be cut off
    network.train()
    handle.remove()
    weights = weigh(rows_over_features(network, losses, kept[0]))
    heads = torch.autograd.grad(sum(losses), list(network.heads.parameters()), retain_graph=True)
    return weights @ rows_over_trunk(network, losses), torch.cat([g.flatten() for g in heads])


def heads_gradient(network: Toy) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.heads.parameters()])


def test_on_the_representation_weights_come_from_the_gradients_over_the_features() -> None:
    case = problem()
    network = case.network()
    strategy = start(case, Normalised(), network, on="representation")
    for batch in case.batches:
        shared, own = expected(network, batch, lambda rows: 1 / rows.norm(dim=1))
        step(strategy, network, batch)
        assert_agrees(trunk_gradient(network), shared)
        assert_agrees(heads_gradient(network), own)


def test_a_direction_on_the_representation_is_passed_on_to_the_trunk() -> None:
    case = problem()
    network, batch = case.network(), case.batches[0]
    step(start(case, LargestEach(), network, on="representation"), network, batch)
    features = network.eval().trunk(batch.inputs)
    leaf = features.detach().requires_grad_()
    losses = [
        (scale * (0.1 + (head(leaf.tanh())[:, 0] - batch.targets[:, k]).square()))[
            batch.present[:, k]
        ].mean()
        for k, (scale, head) in enumerate(zip(network.scales, network.heads, strict=True))
    ]
    rows = rows_over_features(network, losses, leaf)
    direction = torch.stack([column[column.abs().argmax()] for column in rows.T])
    grads = torch.autograd.grad(
        features, list(network.trunk.parameters()), direction.view_as(features)
    )
    assert_agrees(trunk_gradient(network), torch.cat([g.flatten() for g in grads]))


@pytest.mark.parametrize("on", ["parameters", "representation"])
def test_with_every_3_the_weights_of_a_step_serve_the_next_two(on: str) -> None:
    case = problem(steps=7)
    network = case.network()
    task = Normalised()
    strategy = start(case, task, network, on=on, every=3)
    held: list[Tensor] = []
    for number, batch in enumerate(case.batches):
        batch.present[:] = True

        def weigh(features: Tensor, number: int = number, batch: Batch = batch) -> Tensor:
            if number % 3 == 0:
                trunk = rows_over_trunk(network, network.eval().task_losses(batch))
                held.append(1 / (features if on == "representation" else trunk).norm(dim=1))
                network.train()
            return held[-1]

        shared, own = expected(network, batch, weigh)
        step(strategy, network, batch)
        assert_agrees(trunk_gradient(network), shared)
        assert_agrees(heads_gradient(network), own)
    assert task.asked == 3


def test_a_task_without_labels_in_the_batch_keeps_the_weight_it_had() -> None:
    case = problem(steps=3)
    network = case.network()
    strategy = start(case, Normalised(), network, on="representation", every=1)
    for batch in case.batches:
        batch.present[:] = True
    step(strategy, network, case.batches[0])
    before = strategy.task.get_buffer("held_weights").clone()
    case.batches[1].present[:, 1] = False
    step(strategy, network, case.batches[1])
    after = strategy.task.get_buffer("held_weights")
    assert after[1] == before[1]
    assert after[0] != before[0]


@pytest.mark.parametrize(
    ("on", "every", "passes"),
    [
        ("parameters", 1, [3, 3, 3]),
        ("representation", 1, [1, 1, 1]),
        ("parameters", 2, [3, 1, 3]),
        ("representation", 2, [1, 1, 1]),
    ],
)
def test_the_trunk_is_passed_so_often(on: str, every: int, passes: list[int]) -> None:
    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx, gradient: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return gradient

    case = problem(steps=3)
    network = case.network()
    layer = network.trunk
    network.trunk = nn.Sequential(layer)
    layer.register_forward_hook(lambda *call: Counted.apply(call[2]))
    strategy = start(case, Normalised(), network, on=on, every=every)
    counts = []
    for batch in case.batches:
        batch.present[:] = True
        count = 0
        step(strategy, network, batch)
        counts.append(count)
    assert counts == passes


def test_features_in_tuples_and_dictionaries_are_all_cut_off() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> dict[str, Any]:
            h = self.stem(x)
            return {"near": h.tanh(), "far": (h.sigmoid(), "not a tensor")}

    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = Shared()
            self.heads = nn.ModuleList([nn.Linear(4, 1), nn.Linear(4, 1)])

        def forward(self, x: Tensor) -> list[Tensor]:
            features = self.shared(x)
            return [
                self.heads[0](features["near"])[:, 0] ** 2,
                self.heads[1](features["far"][0])[:, 0] ** 2,
            ]

    torch.manual_seed(0)
    network = Forked()
    x = torch.randn(5, 3)
    strategy = Strategy(
        InstanceStage(),
        FewerPasses(Normalised(), on="representation"),
        tasks={"a": "regression", "b": "regression"},
        model=network,
        representation=network.shared,
    )
    strategy.backward(network(x))
    got = torch.cat([p.grad.flatten() for p in network.shared.parameters()])
    losses = [loss.mean() for loss in network.eval()(x)]
    features = network.shared(x)
    near, far = features["near"].detach(), features["far"][0].detach()
    lengths = [
        torch.func.grad(lambda f, head=head: (head(f)[:, 0] ** 2).mean())(f).norm()
        for f, head in zip((near, far), network.heads, strict=True)
    ]
    stem = list(network.shared.parameters())
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, stem, retain_graph=True)])
        for loss in losses
    ]
    torch.testing.assert_close(got, sum(r / n for r, n in zip(rows, lengths, strict=True)))


def test_outside_of_training_the_network_is_whole() -> None:
    case = problem()
    network = case.network()
    start(case, Normalised(), network, on="representation")
    network.eval()
    sum(network.task_losses(case.batches[0])).backward()
    assert all(p.grad is not None for p in network.trunk.parameters())


def test_a_step_without_a_forward_pass_before_it_is_refused() -> None:
    case = problem()
    network, batch = case.network(), case.batches[0]
    strategy = start(case, Normalised(), network, on="representation")
    losses = network.eval().losses(batch)
    with pytest.raises(ValueError, match="has not run in training since the last step"):
        strategy.backward(losses, batch.index, batch.present)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pcgrad.on": "features"}, "must be 'parameters' or 'representation'"),
        ({"pcgrad.every": 0}, "every must be at least 1, but is 0"),
        ({"pcgrad.on": "representation"}, "representation is needed"),
        ({"pcgrad.every": 2}, "representation is needed"),
    ],
)
def test_bad_options_are_one_line(parameters: dict, message: str) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        build_strategy("pcgrad", tasks=case.tasks, model=case.network(), parameters=parameters)


def test_a_direction_has_no_weights_to_keep() -> None:
    with pytest.raises(ValueError, match="every must be 1"):
        FewerPasses(LargestEach(), every=2)
