"""IWMTL: weights of every loss of every instance, from gradients over the representation."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchjd.aggregation import UPGradWeighting
from torchjd.autogram import Engine
from torchjd.linalg import QuadprogProjector
from toy import Batch, Problem, Toy, assert_agrees, gradient, many_examples, problem, step

from mtlbench import build_strategy
from mtlbench.errors import UserError
from mtlbench.strategies.instance_wise import InstanceWiseMultiTask
from mtlbench.strategies.quadratic import minimize_nonnegative


def complete(case: Problem) -> Problem:
    for batch in case.batches:
        batch.present[:] = True
    return case


def losses_and_features(network: Toy, batch: Batch) -> tuple[Tensor, Tensor]:
    """Losses [B, K] and what they depend on [B, 4], in one graph."""
    network.eval()  # in training the features would be cut off
    features = network.trunk(batch.inputs)
    outputs = [head(features.tanh())[:, 0] for head in network.heads]
    network.train()
    losses = [
        scale * (0.1 + (output - batch.targets[:, k]).square())
        for k, (scale, output) in enumerate(zip(network.scales, outputs, strict=True))
    ]
    return torch.stack(losses, 1), features


def trunk_gradient(network: Toy) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.trunk.parameters()])


def expected(network: Toy, losses: Tensor, features: Tensor, weights: Tensor) -> Tensor:
    """The trunk's gradient where every loss has such a weight [B, K], through the features."""
    (of_features,) = torch.autograd.grad((weights * losses).sum(), [features], retain_graph=True)
    rows = torch.autograd.grad([features], list(network.trunk.parameters()), [of_features])
    return torch.cat([row.flatten() for row in rows])


def torch_jd(reg_eps: float) -> UPGradWeighting:
    return UPGradWeighting(projector=QuadprogProjector(norm_eps=0.0, reg_eps=reg_eps))


@many_examples
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31), st.sampled_from([1e-4, 1e-2]))
def test_iwmtl_agrees_with_its_oracle(tasks: int, batch: int, seed: int, reg_eps: float) -> None:
    """TorchJD's UPGrad of the Gramian of all B K losses over the features."""
    case = complete(problem(tasks=tasks, steps=1, batch=batch, seed=seed))
    network = case.network()
    strategy = case.strategy("iwmtl", network, iwmtl__reg_eps=reg_eps)
    step(strategy, network, case.batches[0])
    losses, features = losses_and_features(network, case.batches[0])
    rows = [
        torch.autograd.grad(loss, [features], retain_graph=True)[0].flatten()
        for loss in losses.flatten()
    ]
    jacobian = torch.stack(rows)
    weights = torch_jd(reg_eps)(jacobian @ jacobian.T).view(batch, tasks)
    # Their solver stops at 1e-8.
    torch.testing.assert_close(
        trunk_gradient(network), expected(network, losses, features, weights), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        strategy.end_epoch().weights, batch * weights.mean(0), rtol=1e-5, atol=1e-6
    )


class Rows:
    """Each instance has its own row of an embedding: so over the shared parameters, too, gradients
    of two instances are orthogonal."""

    def __init__(self) -> None:
        chance = torch.Generator().manual_seed(0)
        self.start = torch.randn(6, 4, generator=chance, dtype=torch.float64)
        self.heads = torch.randn(4, 3, generator=chance, dtype=torch.float64)
        self.targets = torch.randn(6, 3, generator=chance, dtype=torch.float64)

    def net(self) -> nn.Embedding:
        return nn.Embedding.from_pretrained(self.start.clone(), freeze=False)

    def losses(self, rows: Tensor) -> Tensor:
        return (rows @ self.heads - self.targets).square()

    def update(self, **parameters: object) -> Tensor:
        """The gradient of the embedding [6, 4]."""
        net = self.net()
        strategy = build_strategy(
            "iwmtl",
            tasks=dict.fromkeys("abc", "regression"),
            model=net,
            representation=net,
            dtype=torch.float64,
            parameters=parameters,
        )
        strategy.backward(list(self.losses(net(torch.arange(6))).unbind(1)))
        return net.weight.grad


def test_it_is_torchjds_instance_wise_learning_where_instances_share_no_parameter() -> None:
    case = Rows()
    net = case.net()
    engine = Engine(net, batch_dim=0)
    losses = case.losses(net(torch.arange(6)))
    losses.backward(torch_jd(1e-4)(engine.compute_gramian(losses)).view(6, 3))
    # Their solver stops at 1e-8.
    torch.testing.assert_close(case.update(), net.weight.grad, rtol=1e-5, atol=1e-6)


def test_no_instance_moves_against_one_of_its_tasks() -> None:
    case = Rows()
    residual = case.start @ case.heads - case.targets
    rows = 2 * residual[:, :, None] * case.heads.T  # of each loss [6, 3, 4]
    assert ((rows * rows.mean(1, keepdim=True)).sum(2) < -0.1).any()
    update = case.update(**{"iwmtl.reg_eps": 1e-9})
    assert ((rows * update[:, None]).sum(2) > -1e-6).all()


def test_heads_learn_from_their_own_losses() -> None:
    case = problem(tasks=3, steps=3)
    network, plain = case.network(), case.network()
    strategy, equal = case.strategy("iwmtl", network), case.strategy("equal", plain)
    for batch in case.batches:
        step(strategy, network, batch)
        step(equal, plain, batch)
        for mine, theirs in zip(network.heads.parameters(), plain.heads.parameters(), strict=True):
            assert_agrees(mine.grad, theirs.grad)


def test_where_no_tasks_conflict_it_is_the_mean_of_the_losses() -> None:
    case = complete(problem(tasks=1, steps=2))
    network, plain = case.network(), case.network()
    strategy, equal = case.strategy("iwmtl", network), case.strategy("equal", plain)
    for batch in case.batches:
        assert_agrees(step(strategy, network, batch), step(equal, plain, batch))


def test_an_absent_label_has_no_part_in_the_blocks() -> None:
    case = problem(tasks=3, steps=3)
    one, other = case.network(), case.network()
    ours, same = case.strategy("iwmtl", one), case.strategy("iwmtl", other)
    for batch in case.batches:
        expected = step(ours, one, batch)
        other.zero_grad()
        losses = [
            torch.where(here, loss, 1000 - 7 * loss)
            for loss, here in zip(other.losses(batch), batch.present.unbind(1), strict=True)
        ]
        same.backward(losses, batch.index, batch.present)
        assert_agrees(gradient(other), expected)


@pytest.mark.parametrize("count", [1, 5])
def test_programmes_of_several_matrices_are_solved_as_one_by_one(count: int) -> None:
    rng = np.random.default_rng(count)
    factors = rng.standard_normal((count, 4, 4))
    hessians = factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(4)
    linear = rng.standard_normal((count, 3, 4))
    together = minimize_nonnegative(hessians, linear)
    apart = [minimize_nonnegative(h, b) for h, b in zip(hessians, linear, strict=True)]
    np.testing.assert_allclose(together, np.stack(apart), rtol=1e-10, atol=1e-12)


def test_a_representation_of_another_shape_is_refused() -> None:
    class Transposed(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return rows.T * 1

    trunk = nn.Sequential(nn.Linear(3, 4), Transposed())
    strategy = build_strategy(
        "iwmtl", tasks=dict.fromkeys("ab", "regression"), model=trunk, representation=trunk
    )
    losses = trunk(torch.randn(6, 3)).square().mean(0)
    with pytest.raises(ValueError, match=r"a row for each of 6 instances, but has shape \(4, 6\)"):
        strategy.backward([losses, 2 * losses])


def test_without_a_representation_it_says_what_it_needs() -> None:
    with pytest.raises(UserError, match="representation is needed"):
        build_strategy("iwmtl", tasks={"a": "regression"}, model=nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"reg_eps": 0.0}, "reg_eps must be above 0, but is 0.0"),
        ({"on": "parameters"}, "on must be 'representation', but is 'parameters'"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstanceWiseMultiTask(**parameters)
